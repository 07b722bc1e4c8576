"""The three models that training is measured with, and how a program is told one of them."""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import islice


@dataclass(frozen=True)
class Shape:
    """A decoder and its batch."""

    layers: int
    heads: int
    width: int
    context: int
    rows: int
    vocabulary: int

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.rows * self.context


TINY = Shape(layers=4, heads=4, width=128, context=64, rows=12, vocabulary=65)
BABY = Shape(layers=6, heads=6, width=384, context=256, rows=16, vocabulary=65)
GPT2 = Shape(layers=12, heads=12, width=768, context=1024, rows=1, vocabulary=50304)
SHAPES = {"tiny": TINY, "baby": BABY, "gpt2": GPT2}


def add_shape(parser: argparse.ArgumentParser) -> None:
    """Options for a shape (that of `baby` if nothing is said), and for how long to measure it."""
    for field in fields(Shape):
        parser.add_argument(f"--{field.name}", type=int, default=getattr(BABY, field.name))
    parser.add_argument("--steps", type=int, default=12, help="measured steps")
    parser.add_argument("--warmup", type=int, default=3, help="steps before them")
    parser.add_argument("--compile", action="store_true", help="with torch.compile")


def shape_of(options: argparse.Namespace) -> Shape:
    """The shape that was asked for."""
    return Shape(**{field.name: getattr(options, field.name) for field in fields(Shape)})


def as_options(shape: Shape, *, steps: int, warmup: int) -> list[str]:
    """The options that ask for it."""
    named = {field.name: getattr(shape, field.name) for field in fields(Shape)} | {"steps": steps, "warmup": warmup}
    return [word for name, value in named.items() for word in (f"--{name}", str(value))]


def median_step_s(step: Callable[[], object], options: argparse.Namespace) -> float:
    """Median wall time of a step after the warm-up; the step itself waits for its numbers."""
    for _ in range(options.warmup):
        step()
    return statistics.median(_seconds(step) for _ in range(options.steps))


def _seconds(step: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    step()
    return time.perf_counter() - began_s


def characters(vocabulary: int) -> Sequence[str]:
    """So many characters that a character tokenizer has this vocabulary: one id stands for all unknown ones."""
    # Letters of the large scripts: no reader of text takes one for a line end, a mark or half a surrogate pair.
    letters = (chr(point) for point in range(0x3400, 0x2A6E0) if chr(point).isalpha())
    return list(islice(letters, vocabulary - 1))
