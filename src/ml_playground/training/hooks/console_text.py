"""What the console says, as plain lines and as a live picture; pure functions of what it knows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from rich.cells import chop_cells
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ml_playground.core.humanise import count, duration, loss_text, plural, printable
from ml_playground.core.run_schema import Reason
from ml_playground.core.values import Progress
from ml_playground.training.flight_report import CHECKED, NOTES, PASSED_OVER
from ml_playground.training.hook_protocols import LiveSample, StepReading

SAMPLE_LINES = 8
"""Lines of a sample that are shown: with the two lines above, the picture fits half a small terminal."""
BAR_MIN_WIDTH = 60
"""Columns below which the numbers need the whole line."""

STYLES = {"loss": "bold", "val": "bold magenta", "best": "magenta"}

ENDS: Mapping[Reason, str] = {
    "completed": "completed",
    "paused": "paused; the same command goes on from here",
    "nan": "ended: the numbers gave out",
    "out_of_memory": "ended: out of memory",
}


@dataclass(slots=True)
class Numbers:
    """The newest of each number that the console shows."""

    run: str
    unit: str
    max_steps: int
    step: int = 0
    targets: float = 0.0
    elapsed_s: float = 0.0
    eta_s: float | None = None
    reading: StepReading | None = None
    loss: float | None = None
    """Mean over the newest readings."""
    targets_per_s: float | None = None
    validation_loss: float | None = None
    best: float | None = None
    best_by: str = "loss"
    """Which number of an evaluation that is."""
    best_step: int = 0
    saved_step: int = 0
    """Of the newest checkpoint; 0: there is none."""
    sample: LiveSample | None = None
    early_end: str = "stopped early"
    """What an end before the last step is called."""
    facts: Mapping[str, str] = field(default_factory=dict[str, str])


def start_line(numbers: Numbers) -> str:
    """The run, where it begins, and the facts that its numbers depend on; then what the flight check found."""
    apart = (PASSED_OVER, CHECKED, NOTES)
    facts = ", ".join(f"{name} {value}" for name, value in numbers.facts.items() if name not in apart)
    checked = "".join(f"\n{name}: {numbers.facts[name]}" for name in apart if name in numbers.facts)
    where = (
        f"from step {numbers.step:,} on to {numbers.max_steps:,}"
        if numbers.step
        else f"{plural(numbers.max_steps, 'step')}"
    )
    return f"training {numbers.run}: {where}" + (f" ({facts})" if facts else "") + checked


def progress_line(numbers: Numbers) -> str:
    """One line of a log: everything known at this step."""
    known = "  ".join(f"{name} {value}" for name, value in named_values(numbers))
    return f"step {numbers.step:,}/{numbers.max_steps:,}  {known}"


def evaluation_line(numbers: Numbers, metrics: Mapping[str, float]) -> str:
    """One line for an evaluation; says when it is the best so far."""
    others = "".join(f"  {name} {value:.4g}" for name, value in metrics.items() if name != "loss")
    loss = f"  validation loss {loss_text(metrics['loss'])}" if "loss" in metrics else ""
    best = "  best so far" if numbers.best is not None and numbers.best_step == numbers.step else ""
    return f"step {numbers.step:,}/{numbers.max_steps:,}{loss}{others}{best}"


def evaluating_line(progress: Progress, seconds: float) -> str:
    """One line of a log for an evaluation that takes its time."""
    return f"step {progress.step:,}/{progress.max_steps:,}  evaluating for {duration(seconds)}"


def saved_line(progress: Progress) -> str:
    """One line for a checkpoint; it is written beside the training, which is further by then."""
    return f"saved: the checkpoint of step {progress.step:,}"


def end_line(numbers: Numbers, reason: Reason | None, error: BaseException | None) -> str:
    """How the run ended, and what came of it."""
    back = f"the checkpoint of step {numbers.saved_step:,}" if numbers.saved_step else "its beginning"
    ended = ENDS.get(reason, numbers.early_end) if reason else f"goes back to {back}"
    how = ended if error is None else f"failed ({type(error).__name__})"
    if isinstance(error, KeyboardInterrupt):
        how = "interrupted; the same command does the steps since the last save again"
    validation = "" if numbers.validation_loss is None else f", validation loss {loss_text(numbers.validation_loss)}"
    name = "" if numbers.best_by == "loss" else f"{numbers.best_by} "
    best = "" if numbers.best is None else f" (best {name}{loss_text(numbers.best)} at step {numbers.best_step:,})"
    return (
        f"{numbers.run}: step {numbers.step:,}/{numbers.max_steps:,} after {duration(numbers.elapsed_s)}, "
        f"{count(numbers.targets)} {numbers.unit}s{validation}{best}: {how}"
    )


def named_values(numbers: Numbers) -> Iterator[tuple[str, str]]:
    """Name and value of each number that is known, the most wanted first."""
    if numbers.loss is not None:
        yield "loss", loss_text(numbers.loss)
    if numbers.validation_loss is not None:
        yield "val", loss_text(numbers.validation_loss)
    if numbers.best is not None:
        yield "best" if numbers.best_by == "loss" else f"best {numbers.best_by}", loss_text(numbers.best)
    if numbers.targets_per_s is not None:
        yield f"{numbers.unit}s/s", count(numbers.targets_per_s)
    if numbers.reading is not None:
        yield "grad", f"{numbers.reading.grad_norm:.2f}"
        yield "lr", f"{numbers.reading.lr:.2e}"
    yield "elapsed", duration(numbers.elapsed_s)
    if numbers.eta_s is not None:
        yield "eta", duration(numbers.eta_s)


def sample_lines(sample: LiveSample, encoding: str, width: int | None = None) -> list[str]:
    """The prompt and what the model wrote, folded at `width` columns if there is one, cut to a few lines."""
    lines = printable(sample.prompt + sample.text, encoding).expandtabs(4).strip("\n").rstrip().split("\n")
    if width is not None:
        lines = [part for line in lines for part in chop_cells(line, width) or [""]]
    more = len(lines) - SAMPLE_LINES
    return lines[:SAMPLE_LINES] + ([f"({more} more lines)"] if more > 0 else [])


def picture(numbers: Numbers, width: int, encoding: str) -> RenderableType:
    """The live display: a bar, the numbers, the newest sample; no line is wider than the terminal."""
    done = f"{numbers.step:,}/{numbers.max_steps:,}"
    share = f"{numbers.step / numbers.max_steps:.0%}" if numbers.max_steps else ""
    eta = f"eta {duration(numbers.eta_s)}"
    head = Table.grid(padding=(0, 1), expand=True)
    if width >= BAR_MIN_WIDTH:
        for ratio in (None, 1, None, None):
            head.add_column(ratio=ratio, no_wrap=True)
        bar = ProgressBar(total=max(1, numbers.max_steps), completed=numbers.step)
        head.add_row(Text(done, style="bold"), bar, Text(share), Text(eta, style="cyan"))
    else:
        head.add_column(no_wrap=True, overflow="crop")
        head.add_row(Text(f"{done} {share} {eta}", style="bold"))
    # A space that does not break keeps each name beside its value where the line is folded.
    space = "\N{NO-BREAK SPACE}" if encoding == "utf-8" else " "
    values = Text("  ").join(
        Text.assemble((name, "dim"), space, (value.replace(" ", space), STYLES.get(name.partition(" ")[0], "")))
        for name, value in named_values(numbers)
        if name != "eta"
    )
    parts: list[RenderableType] = [head, values]
    if numbers.sample is not None:
        parts.append(Text(f"sample at step {numbers.sample.step:,}", style="dim"))
        parts += [
            Text(f"  {line}", style="green", no_wrap=True, overflow="crop")
            for line in sample_lines(numbers.sample, encoding, max(1, width - 2))
        ]
    return Group(*parts)
