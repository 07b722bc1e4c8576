"""Wishes from outside, kept in `events.jsonl`, so that a resumed run obeys them again at the same steps."""

from ml_playground.core.atomic import read_lines
from ml_playground.core.deps import Clock
from ml_playground.core.error_handling import RunError
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.run_schema import Event, complaint
from ml_playground.core.values import NOTHING, Action, Wish
from ml_playground.training.hooks.records import EventLog


class EventJournal:
    """The `Journal` of a run.

    Only what changes the numbers is obeyed again: the factor on the learning rate, and extra evaluations, which
    early stopping counts. To pause, save or finish was meant for the process that was asked.
    """

    def __init__(self, run: RunFolder, clock: Clock) -> None:
        self._log = EventLog(run, clock)
        self._recorded: dict[int, Wish] = {}
        for number, line in enumerate(read_lines(run.events), start=1):
            if '"wish"' in line:
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

    def _remember(self, line: str, where: str) -> None:
        try:
            event = Event.model_validate_json(line)
        except ValueError as error:
            raise RunError(
                f"{where} is no event that this version can read, and may be a wish that the run depends on ({complaint(error)}); "
                "remove the line to go on without it, or start anew with --fresh"
            ) from error
        if event.kind == "wish":
            action = Action.EVALUATE if "EVALUATE" in event.data.get("actions", ()) else Action.NONE
            wish = Wish(action, event.data.get("lr_factor"))
            self._recorded[event.step] = self.recorded(event.step) | wish
