"""`mlp random-model`: a small model that knows nothing, to try a fine-tuning with."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ml_playground.core import chat_template
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.foreign_files import read_at_most
from ml_playground.core.humanise import count

MOST_TEXT_BYTES = 64 << 20
"""Of the text that a tokenizer is learnt from: more than a small vocabulary can use."""


Family = Literal["qwen3", "qwen2", "llama", "gemma3_text", "gpt2"]
TEMPLATE = Path(chat_template.__file__).with_name("chat_templates") / "chatml.jinja"


def random_model(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where the model is written; there must be nothing.")
    ],
    family: Annotated[Family, typer.Option(help="Architecture, as the transformers library calls it.")] = "qwen3",
    width: Annotated[int, typer.Option(min=1, help="Of its hidden states.")] = 64,
    layers: Annotated[int, typer.Option(min=1, help="Blocks.")] = 2,
    heads: Annotated[int, typer.Option(min=1, help="Of its attention.")] = 4,
    vocab: Annotated[int, typer.Option(min=1, help="Ids of its tokenizer.")] = 1000,
    context: Annotated[int, typer.Option(min=1, help="Longest text it reads, in tokens.")] = 1024,
    text: Annotated[Path | None, typer.Option(metavar="FILE", help="What its tokenizer is learnt from.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of its weights.")] = 0,
) -> None:
    """Write a small random model of a known family, to try a fine-tuning in seconds.

    A folder as the transformers library saves it, with a tokenizer (byte pairs) and a chat template (ChatML). It knows nothing:
    train it, or see with it that a job works before the real model is there.
    """
    from ml_playground.models.hugging_face.random_folder import Sizes, write_random_model  # noqa: PLC0415 - takes seconds

    sizes = Sizes(width=width, layers=layers, heads=heads, vocab_size=vocab, context=context)
    texts = [] if text is None else [_content(text)]
    parameters = write_random_model(
        folder, family, sizes, texts, seed=seed, template=TEMPLATE.read_text(encoding="utf-8")
    )
    typer.echo(f"{folder}: {family} with {count(parameters)} parameters, random")
    typer.echo(
        f"next: mlp run EXPERIMENT --set model.path={folder} --set prepare.tokenizer.path={folder}   "
        "(an experiment whose model is hf_causal_lm: mlp experiments)"
    )


def _content(path: Path) -> str:
    try:
        return read_at_most(path, MOST_TEXT_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as a text: {error}.") from None
