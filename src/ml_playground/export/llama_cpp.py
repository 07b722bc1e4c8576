"""The engine `llama_cpp`: an exported model drawn from by llama.cpp. B rows, t new tokens, V vocabulary."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ml_playground.core.error_handling import CheckpointError, ConfigError, DataError
from ml_playground.export.gguf_file import architecture_for, write_gguf
from ml_playground.export.llama_api import LlamaContext, LlamaModel
from ml_playground.export.parity import divergence
from ml_playground.models.layers.packed_linear import Precision
from ml_playground.models.protocols import Decoder
from ml_playground.models.settings import Gpt

CPU = torch.device("cpu")

MOST_NATS_APART: Mapping[Precision, float] = {"float32": 5e-3, "bfloat16": 0.02, "int8": 0.05}
"""Divergence from the checkpoint at which a file is refused: rounding of trained models stays ten times below (docs/LOG.md)."""
COMPARED_TOKENS = 64


def build(model: Any, precision: Precision, export: Path) -> "LlamaDecoder":
    """A decoder of a model, exported into a folder of its own below `export` unless it lies there already.

    Args:
        model: With its `settings`, as `GptModel` has them.
        precision: Of its matrices in the file.
        export: Named by the weights, so that the same file is never written twice.

    Raises:
        ConfigError: llama.cpp knows no such model.
        StorageError: The file could not be written.
        CheckpointError: The file cannot be loaded, or does not predict what the checkpoint predicts.
    """
    settings = getattr(model, "settings", None)
    if not isinstance(settings, Gpt):
        raise ConfigError(
            f"llama.cpp runs models of kind 'gpt' only, this one is a {type(model).__name__}; use sample.engine = 'torch'."
        )
    architecture_for(settings)
    path = export / precision / "model.gguf"
    if not path.is_file():
        unproved = path.with_name("unproved.gguf")
        write_gguf(settings, cast(torch.nn.Module, model).state_dict(), precision, unproved)
        prove(LlamaDecoder(unproved, settings), model.decoder("float32"), precision)
        unproved.replace(path)
    return LlamaDecoder(path, settings)


def prove(exported: Decoder, checkpoint: Decoder, precision: Precision) -> None:
    """Compare what an exported model predicts with its checkpoint, on ids drawn with a fixed seed.

    Raises:
        CheckpointError: They are further apart than rounding to `precision` can explain.
    """
    length = min(COMPARED_TOKENS, checkpoint.max_context or COMPARED_TOKENS)
    ids = torch.randint(checkpoint.vocab_size, (1, length), generator=torch.Generator().manual_seed(0))
    apart = divergence(checkpoint.logits(ids.to(checkpoint.device)).cpu(), exported.logits(ids))
    # Written so that NaN fails.
    if not apart <= MOST_NATS_APART[precision]:
        raise CheckpointError(
            f"llama.cpp's predictions are {apart:.3g} nats a token from those of the checkpoint, rounding to {precision} explains "
            f"{MOST_NATS_APART[precision]:g}; the file is not used. Use sample.engine = 'torch', or another sample.precision."
        )


@dataclass(slots=True)
class LlamaState:
    """What some rows have seen."""

    context: LlamaContext
    starts: list[int]
    """Padding at the left of each row; it is left out."""
    length: int
    seen: int = 0


class LlamaDecoder:
    """Next tokens from a GGUF file, on the CPU, with as many threads as torch has."""

    def __init__(self, path: Path, settings: Gpt) -> None:
        self.vocab_size, self.max_context = cast(int, settings.vocab_size), cast(int, settings.block_size)
        self.device = CPU
        self._model = LlamaModel(path, vocab_size=self.vocab_size)

    def new_state(self, rows: int, length: int, starts: Tensor | None = None) -> LlamaState:
        """Nothing seen yet; arguments are those of `Decoder`.

        Raises:
            DataError: More positions than the model reads.
            ConfigError: There is no memory for them.
        """
        padding = [0] * rows if starts is None else cast(list[int], starts.tolist())
        longest = length - min(padding)
        if longest > self.max_context:
            raise DataError(
                f"The model reads at most block_size = {self.max_context} tokens, but {longest} were asked for; "
                "shorten the prompt or generate fewer tokens."
            )
        context = LlamaContext(self._model, sequences=rows, length=longest, threads=torch.get_num_threads())
        return LlamaState(context, padding, length)

    def step(self, ids: Tensor, state: LlamaState) -> Tensor:
        """Logits (B, V) after the last of `ids` (B, t), which follow what `state` has seen; `state` advances in place.

        Raises:
            DataError: The ids do not fit into the state.
        """
        rows, new = ids.shape
        if rows != len(state.starts) or state.seen + new > state.length:
            raise DataError(
                f"The state was made for {len(state.starts)} rows of {state.length} positions and has seen {state.seen}; "
                f"{new} more of {rows} rows do not fit."
            )
        last = state.seen + new - 1
        tokens = [
            (id_, at - start, row, at == last)
            for row, (start, of_row) in enumerate(zip(state.starts, _rows_of(ids), strict=True))
            for at, id_ in enumerate(of_row, start=state.seen)
            if at >= start
        ]
        state.seen += new
        return torch.from_numpy(state.context.decode(tokens))

    def logits(self, ids: Tensor) -> Tensor:
        """Logits (B, T, V) of ids (B, T).

        Raises:
            DataError: More tokens than the model reads.
        """
        rows, length = ids.shape
        state = self.new_state(rows, length)
        tokens = [(id_, at, row, True) for row, of_row in enumerate(_rows_of(ids)) for at, id_ in enumerate(of_row)]
        return torch.from_numpy(state.context.decode(tokens)).view(rows, length, -1)


def _rows_of(ids: Tensor) -> list[list[int]]:
    return cast(list[list[int]], ids.tolist())
