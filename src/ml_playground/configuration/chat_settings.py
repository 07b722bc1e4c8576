"""`[prepare.chat]`: from messages to tokens, and which of them are targets."""

from typing import Annotated, Literal

from pydantic import Field

from ml_playground.configuration.base import Probability, Strict

SHIPPED_TEMPLATES = ("chatml", "plain")
OWN_TEMPLATES = ("auto", *SHIPPED_TEMPLATES)
"""What names no file."""
MOST_WEIGHT = 1e6
"""Of a token as a target; files hold weights as float32, and sums over 1e32 tokens are finite there."""
Weight = Annotated[float, Field(ge=0, le=MOST_WEIGHT)]


class ChatSettings(Strict):
    """`[prepare.chat]`: from messages to tokens, and which of them are targets."""

    template: str = "auto"
    """`auto`: the tokenizer's own; `chatml`, `plain`: ours of that name; else the path of a Jinja file, as chat_template.jinja is one."""
    assistant_weight: Weight = 1.0
    """Weight of what the assistant says, its end mark among it, as targets."""
    user_weight: Weight = 0.0
    """The same of what the user says; 0: it is read, and never a target."""
    system_weight: Weight = 0.0
    """The same of the system's messages."""
    tool_weight: Weight = 0.0
    """The same of what tools answer."""
    altered_turns: Literal["error", "rows"] = "error"
    """Where a template writes an answer otherwise once the chat goes on (Qwen3 drops its thoughts): `rows` gives each its own row."""
    least_masked: Probability = 0.0
    """Share of tokens that are no targets, below which something is thought to be wrong, and nothing is prepared."""
    most_masked: Probability = 0.99
    """The same share, above which nearly nothing would be learnt."""
    on_bad_row: Literal["error", "drop"] = "error"
    """What becomes of a row that cannot be trained on: `error` names file, line and reason; `drop` leaves it out and counts it."""
