"""Which template a data set of chats is rendered with, and whether its tokenizer can end answers with it."""

from importlib.resources import files
from pathlib import Path

from ml_playground.configuration.chat_settings import OWN_TEMPLATES, SHIPPED_TEMPLATES
from ml_playground.core.chat_template import MOST_TEMPLATE_BYTES
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.foreign_files import read_at_most
from ml_playground.core.registry import did_you_mean
from ml_playground.core.tokenizer_protocol import SPELLINGS, MarkedTokenizer, Tokenizer, marks_of

AUTO = "auto"
KEY = "prepare.chat.template"
CHATML_END = "<|im_end|>"


def template_text(name: str, tokenizer: Tokenizer | None) -> str:
    """The text of the template that the settings name.

    Args:
        name: `prepare.chat.template`.
        tokenizer: Whose own template `auto` means; none: it is still to be learnt, and has none.

    Raises:
        ConfigError: There is no such template.
    """
    if name == AUTO:
        own = tokenizer.chat_template if isinstance(tokenizer, MarkedTokenizer) else None
        if own is None:
            raise ConfigError(
                f"{KEY} = 'auto' means the tokenizer's own template, and this tokenizer has none; set {KEY} = 'plain' (any "
                "tokenizer with an end mark), 'chatml' (one with <|im_start|> and <|im_end|>), or the path of a Jinja file."
            )
        return own
    if name in SHIPPED_TEMPLATES:
        return (files("ml_playground") / "core" / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
    path = Path(name)
    if not path.is_file():
        hint = did_you_mean(name, OWN_TEMPLATES)
        raise ConfigError(
            f"{KEY} = {name!r} is no template{hint} (allowed: auto, {', '.join(SHIPPED_TEMPLATES)}, or the path of a Jinja file)."
        )
    try:
        return read_at_most(path, MOST_TEMPLATE_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{KEY} = {name!r} cannot be read: {error}.") from error


def check_ends(name: str, tokenizer: Tokenizer | None) -> None:
    """Refuse a shipped template that would end answers with what this tokenizer does not know as one token.

    Args:
        name: `prepare.chat.template`.
        tokenizer: None: it is still to be learnt, and will know no mark but its own end mark.

    Raises:
        ConfigError: It would.
    """
    if name == "chatml" and (tokenizer is None or CHATML_END not in marks_of(tokenizer)):
        raise ConfigError(
            f"{KEY} = 'chatml' ends answers with {CHATML_END}, which is no token of this tokenizer, so that a model could not end an "
            f"answer; set {KEY} = 'plain', or take a tokenizer that has it."
        )
    if name == "plain" and tokenizer is not None and tokenizer.specials.eos is None:
        raise ConfigError(
            f"{KEY} = 'plain' ends answers with the tokenizer's end mark, and this tokenizer has none; take another kind "
            "(prepare.tokenizer.kind = 'byte_bpe', say)."
        )


PROVISIONAL: dict[str, str] = {f"{name}_token": text for name, text in SPELLINGS.items()}
"""Variables of special tokens while a tokenizer is learnt: they are cut out of what it learns from."""
