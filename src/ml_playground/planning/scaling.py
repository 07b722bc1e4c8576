"""The loss that a training will reach, from what it will cost: a law fitted on runs of `benchmarks/budget_fit.py`.

    loss = E (1 + c T^-gamma + m + k d) + ((E a N^-alpha)^p + (R (D0 / D)^beta)^p)^(1/p)
    D = U (1 + r (1 - exp(-e / r))) / (1 + tokens of a step / B),    m = s N / U e exp(-h d)

N parameters of the matrices in the blocks, T context in bytes of text, U different tokens that are read, e epochs beyond the first,
d dropout. D are the tokens that count: a step of more tokens than the critical B wastes some of them, and text that is read again
teaches less each time, at most as much as r new epochs. Two numbers make the law one of a text: E, a share of what counting alone
achieves (`ngrams.py`), and R, from the loss of a short training of a known model, the anchor. m is what learning a small text by
heart costs; dropout lessens it, and costs k d itself. Whichever of size and data is scarcer decides: a large p makes nearly a
maximum of the two, for small and large models learn alike until the small one is full.

Sources: Kaplan et al., "Scaling Laws for Neural Language Models" (2020), for powers of size and data of which one is scarce; McCandlish
et al., "An Empirical Model of Large-Batch Training" (2018), for the critical batch; Muennighoff et al., "Scaling Data-Constrained
Language Models" (2023), for repeated text.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("scaling.json")

NINE_OF_TEN = 1.645
"""Standard deviations to either side of the mean within which nine of ten lie."""
MEGA = 1e6
"""Parameters and tokens are counted in millions, so that the constants are near one."""


@dataclass(frozen=True, slots=True)
class Law:
    """The constants; parameters and tokens in millions."""

    floor: float
    """E, in units of what counting alone achieves."""
    size_scale: float
    """a."""
    size_power: float
    """alpha."""
    data_power: float
    """beta."""
    joint_power: float
    """p."""
    context_scale: float
    """c."""
    context_power: float
    """gamma."""
    critical_tokens: float
    """B, in tokens."""
    repeat_worth: float
    """r: how many new epochs all repetitions together are worth at most."""
    repeat_scale: float
    """s."""
    dropout_help: float
    """h."""
    dropout_cost: float
    """k."""
    spread: float
    """Standard deviation of ln(loss / forecast), a decade of tokens beyond the anchor, on texts that the fit left out."""


@dataclass(frozen=True, slots=True)
class Training:
    """What a training costs, and on what."""

    parameters: int
    """N: weights of the matrices in the blocks."""
    bytes_per_token: float
    """Of the text."""
    text_tokens: int
    """Different tokens of the training part."""
    sequence_tokens: int
    """Context in tokens."""
    step_tokens: int
    """Tokens of an optimizer step."""
    steps: float
    """Optimizer steps."""
    dropout: float = 0.0
    """Of the model."""

    @property
    def tokens(self) -> float:
        """Tokens of the whole training, repeated ones among them."""
        return self.steps * self.step_tokens

    @property
    def epochs(self) -> float:
        """How often the text is read."""
        return self.tokens / self.text_tokens


@dataclass(frozen=True, slots=True)
class TextDifficulty:
    """What is known of a text before the training: how far counting comes, and how far the anchor came."""

    counted_loss: float
    """Of `ngrams.counted_loss`, nats per token."""
    anchor: Training
    """The short training."""
    anchor_loss: float
    """Its validation loss, nats per token."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """A loss, and where nine of ten such trainings end."""

    loss: float
    low: float
    high: float


def forecast(law: Law, text: TextDifficulty, training: Training) -> Forecast:
    """The validation loss that a training will reach; its band grows with the decades between the anchor and its end."""
    power = law.joint_power
    rest = text.anchor_loss - _lasting(law, text, text.anchor)
    by_data = 0.0
    if rest > 0:
        # Where the anchor ends below what the law thinks it can reach, its size is not what limits it.
        by_data = max(rest**power - _by_size(law, text, text.anchor) ** power, (rest / 2) ** power)
        by_data *= (_counted(law, text.anchor) / _counted(law, training)) ** (law.data_power * power)
    loss = _lasting(law, text, training) + (_by_size(law, text, training) ** power + by_data) ** (1 / power)
    decades = abs(math.log10(training.tokens / text.anchor.tokens))
    share = math.exp(NINE_OF_TEN * law.spread * max(decades, 0.25))
    return Forecast(loss, loss / share, loss * share)


def _lasting(law: Law, text: TextDifficulty, training: Training) -> float:
    """What more steps do not take away."""
    context = training.sequence_tokens * training.bytes_per_token
    share = 1 + law.context_scale * context**-law.context_power + _heart(law, training)
    return law.floor * text.counted_loss * (share + law.dropout_cost * training.dropout)


def _by_size(law: Law, text: TextDifficulty, training: Training) -> float:
    """What a model of this size cannot learn of the text, however long it trains."""
    return law.floor * text.counted_loss * law.size_scale * (training.parameters / MEGA) ** -law.size_power


def _heart(law: Law, training: Training) -> float:
    """m: nothing in the first epoch, then by the weights for each token of the text and the epochs."""
    weights_a_token = training.parameters / training.text_tokens
    helped = math.exp(-law.dropout_help * training.dropout)
    return law.repeat_scale * helped * weights_a_token * max(0.0, training.epochs - 1)


def _counted(law: Law, training: Training) -> float:
    """D: tokens that count."""
    again = max(0.0, training.epochs - 1)
    different = min(training.tokens, training.text_tokens)
    learnt = different * (1 - law.repeat_worth * math.expm1(-again / law.repeat_worth))
    return learnt / (1 + training.step_tokens / law.critical_tokens)


@cache
def fitted_law() -> Law:
    """The constants of `scaling.json`."""
    table: Mapping[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return Law(**table["law"])
