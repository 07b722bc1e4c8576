"""Wishes from outside, kept in `events.jsonl`, so that a resumed run obeys them again at the same steps."""

from typing import Annotated, Any

from pydantic import Field

from ml_playground.core.atomic import read_lines
from ml_playground.core.course import RollBack, Split
from ml_playground.core.deps import Clock
from ml_playground.core.error_handling import RunError
from ml_playground.core.foreign_files import json_table
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.run_schema import Event, Row, complaint
from ml_playground.core.values import NOTHING, Action, Wish
from ml_playground.training.hooks.records import EventLog

REMEMBERED = ("wish", "rolled_back", "split")
"""Kinds of events that a resumed run obeys again."""


class _Wish(Row):
    lr_factor: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    actions: list[str] = Field(default_factory=list[str])

    @property
    def wish(self) -> Wish:
        """The part that is obeyed again."""
        return Wish(Action.EVALUATE if "EVALUATE" in self.actions else Action.NONE, self.lr_factor)


class EventJournal:
    """The `Journal` of a run.

    Only what changes the numbers is obeyed again: the factor on the learning rate, and extra evaluations, which
    early stopping counts. To pause, save or finish was meant for the process that was asked.
    """

    def __init__(self, run: RunFolder, clock: Clock) -> None:
        self._log = EventLog(run, clock)
        self._recorded: dict[int, Wish] = {}
        self.roll_backs: list[RollBack] = []
        """Steps that earlier processes undid, in their order."""
        self.splits: list[Split] = []
        """From where on earlier processes computed in parts, in their order."""
        for number, line in enumerate(read_lines(run.events), start=1):
            self._remember(line, f"{run.events}, line {number}")

    def recorded(self, step: int) -> Wish:
        """What was wished at this step by an earlier process; NOTHING if nothing was."""
        return self._recorded.get(step, NOTHING)

    @property
    def last_step(self) -> int:
        """The last step at which an earlier process wished for something; 0 if none did."""
        return max(self._recorded, default=0)

    def record(self, step: int, wish: Wish) -> None:
        """Remember what hooks wish now."""
        if wish != NOTHING:
            self._log.note("wish", step, lr_factor=wish.lr_factor, actions=[action.name for action in wish.action])

    def note(self, kind: str, step: int, /, **data: Any) -> None:
        """Write down what happened at a step."""
        self._log.note(kind, step, **data)

    def _remember(self, line: str, where: str) -> None:
        try:
            # Read as what it is: its words may stand in the data of other events, and be written in other ways.
            if json_table(line).get("kind") not in REMEMBERED:
                return
            event = Event.model_validate_json(line)
            if event.kind == "rolled_back":
                self.roll_backs.append(RollBack.model_validate(event.data))
            elif event.kind == "split":
                self.splits.append(Split.model_validate(event.data))
            elif event.kind == "wish":
                self._recorded[event.step] = self.recorded(event.step) | _Wish.model_validate(event.data).wish
        except ValueError as error:
            raise RunError(
                f"{where} is no event that this version can read, and may be one that the run depends on ({complaint(error)}); "
                "remove the line to go on without it, or start anew with --fresh"
            ) from error
