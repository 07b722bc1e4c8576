"""Values that cross packages: plain, frozen, without behaviour that reaches out of the process."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Document:
    """One text of a source: a file, a row, a speech. Splits never cut through it when they go by document."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: str
    """Who speaks: system, user, assistant, tool."""
    content: str
    weight: float | None = None
    """Of its tokens as targets, where the row itself says so; none: what the settings give to its role."""
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What else a template may use, as JSON values: tool_calls, reasoning_content, name."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said: no text, and nothing beside it but a name."""
        return not self.content.strip() and not any(value for key, value in self.extra.items() if key != "name")

    @property
    def asks(self) -> bool:
        """Whether it is what an answer answers: a user's turn, or what a tool gave back."""
        return self.role in ("user", "tool")


@dataclass(frozen=True, slots=True)
class ChatExample:
    """One chat of a source, in the order in which it was held."""

    id: str
    messages: tuple[Message, ...]
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the row says of itself, as JSON values: level, domain; tools, which the template is given."""
    rejected: tuple[Message, ...] = ()
    """Of a preference: what is worse in the place of the last answer."""


@dataclass(frozen=True, slots=True)
class Sum:
    """A total and the count it is over, addable over batches and ranks; the mean is taken once, at the end."""

    total: float
    count: float

    def __add__(self, other: "Sum") -> "Sum":
        return Sum(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> float:
        """Total over count; NaN when nothing was counted."""
        return self.total / self.count if self.count else float("nan")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come. `step` counts completed optimizer updates."""

    step: int
    max_steps: int
    epoch: float
    targets: float
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class Merit:
    """By which number of an evaluation checkpoints are compared."""

    metric: str = "loss"
    higher: bool = False
    """Whether more of it is better."""

    def cost_of(self, metrics: Mapping[str, float] | None) -> float:
        """Lower is better, whatever the number is; NaN where it was not measured, which is never good."""
        value = (metrics or {}).get(self.metric, math.nan)
        return -value if self.higher else value


BY_LOSS = Merit()
"""The validation loss, the lower the better."""


class Action(Flag):
    """What a hook may ask of the loop; the loop obeys at the step boundary."""

    NONE = 0
    EVALUATE = auto()
    SAVE = auto()
    PAUSE = auto()
    """Save and leave; the next start goes on."""
    FINISH = auto()
    """Save and leave for good; the next start has nothing to do."""


@dataclass(frozen=True, slots=True)
class Wish:
    """An action and, if wanted, a factor on the schedule's learning rate from the next step on."""

    action: Action = Action.NONE
    lr_factor: float | None = None

    def __or__(self, other: "Wish") -> "Wish":
        """Both wishes; where both name a factor, the later one's counts."""
        factor = self.lr_factor if other.lr_factor is None else other.lr_factor
        return Wish(self.action | other.action, factor)

    @staticmethod
    def all_of(wishes: Iterable["Wish"]) -> "Wish":
        """The union of many wishes, in their order."""
        total = NOTHING
        for wish in wishes:
            total = total | wish
        return total


NOTHING = Wish()


@dataclass(frozen=True, slots=True)
class ModelContext:
    """What a model must know beside its settings: facts of the data, and how it is to be executed."""

    facts: Mapping[str, int]
    """What the data know: vocab_size, sequence_tokens."""
    attention: Literal["math", "fused"] = "math"
    """How attention is computed; both give the same numbers up to rounding."""
    activation_checkpointing: bool = False
    """Recompute each block in the backward pass."""
    load_pretrained: bool = True
    """False where a checkpoint overwrites the weights anyway, so that no base folder is needed."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """The type of matrix products while training: what is never trained may be held in it."""


@dataclass(frozen=True, slots=True)
class ModelCost:
    """What a model costs, known from its settings and the data's facts before anything is built."""

    parameters: int
    """Trainable numbers; a tied table counts once."""
    matrix_parameters: int
    """Those of the matrices between hidden states, which Muon orthogonalises."""
    flops_per_token: int
    """Floating-point operations of one token's forward and backward pass, at the data's sequence length."""
    vocab_size: int
    """Logits of each token."""
    sequence_tokens: int
    """Tokens of a training sequence."""
    active_parameters: int | None = None
    """Those among the parameters that work on any one token, where experts share the work; none: all of them."""
    matrix_sides: tuple[tuple[int, int], ...] = ()
    """Rows and columns of each of those matrices; empty: nobody says."""
    uncompiled: str = ""
    """Why torch.compile would bring nothing; empty: it may."""


NO_COST = ModelCost(0, 0, 0, 0, 0, uncompiled="nobody has said what a model of this kind costs")
"""Of a model whose kind does not say."""


@dataclass(frozen=True, slots=True)
class TokenMemory:
    """Bytes that training takes for each token of a micro-batch, embeddings and layers together; logits are planned for all alike."""

    activations: int
    """Left by the forward pass for the backward pass."""
    working: int
    """Held for a moment on the way back."""


@dataclass(frozen=True, slots=True)
class Fates:
    """What one epoch does with a split's tokens, or images: each is trained, masked, truncated or dropped, exactly once."""

    tokens: int
    """As they were prepared."""
    trained: int
    """Targets."""
    batches: float
    """Micro-batches of the training that hold all of them once."""
    masked: int = 0
    """Read, and never a target: the first of a stream, a prompt."""
    truncated: int = 0
    """Cut off a row that is too long."""
    dropped: int = 0
    """In rows that are left out."""
    padding: int = 0
    """Positions of batches that hold no token: beside the tokens, not among them."""

    @property
    def accounted(self) -> int:
        """All tokens with a fate."""
        return self.trained + self.masked + self.truncated + self.dropped
