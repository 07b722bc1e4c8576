"""A small random model of a known family with a tokenizer of its own, as the transformers library saves one.

To try a fine-tuning within seconds, where no model lies; what comes out knows nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, cast

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from ml_playground.core.atomic import folder as whole_folder
from ml_playground.core.error_handling import ConfigError

END, OPENS, CLOSES = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
"""Ends a text; open and close a message."""
SMALLEST_VOCABULARY = 256 + 3
STANDARD_DEVIATION = 0.02
"""Of the weights of all matrices, as these families begin."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a model."""

    width: int = 64
    layers: int = 2
    heads: int = 4
    vocab_size: int = 1000
    context: int = 1024


def _shared(sizes: Sizes) -> dict[str, Any]:
    return {
        "hidden_size": sizes.width,
        "intermediate_size": 3 * sizes.width,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": max(1, sizes.heads // 2),
        "head_dim": sizes.width // sizes.heads,
        "max_position_embeddings": sizes.context,
        "tie_word_embeddings": True,
    }


def _of_gpt2(sizes: Sizes) -> dict[str, Any]:
    return {"n_embd": sizes.width, "n_layer": sizes.layers, "n_head": sizes.heads, "n_positions": sizes.context}


FAMILIES = {"qwen2": _shared, "qwen3": _shared, "llama": _shared, "gemma3_text": _shared, "gpt2": _of_gpt2}
"""What the library calls a family -> the settings that state its sizes."""


def write_random_model(
    folder: Path, family: str, sizes: Sizes, texts: Sequence[str], *, seed: int, template: str
) -> int:
    """Write the folder, whole or not at all.

    Args:
        folder: Where; there must be nothing.
        family: One of FAMILIES.
        sizes: Of the model.
        texts: What the byte pairs of its tokenizer are learnt from; none: the topics of Python's own help.
        seed: Of its weights.
        template: Its chat template, in Jinja.

    Returns:
        How many parameters it has.

    Raises:
        ConfigError: The sizes do not go together, or the folder is there.
        StorageError: It cannot be written.
    """
    if folder.exists():
        raise ConfigError(f"{folder} is there already; name another folder, or remove it.")
    if sizes.width % sizes.heads or sizes.width // sizes.heads % 2:
        raise ConfigError(f"A width of {sizes.width} cannot be dealt out to {sizes.heads} heads of an even width each.")
    if sizes.vocab_size < SMALLEST_VOCABULARY:
        raise ConfigError(
            f"A vocabulary of {sizes.vocab_size} is too small: bytes and marks take {SMALLEST_VOCABULARY}."
        )
    logging.disable_progress_bar()
    tokenizer = _tokenizer(texts or list(topics.values()), sizes.vocab_size, template)
    marks = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = AutoConfig.for_model(family, vocab_size=len(tokenizer), **FAMILIES[family](sizes), **marks)
    model: Any = cast(Any, AutoModelForCausalLM).from_config(config, dtype=torch.float32)
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0.0, STANDARD_DEVIATION, generator=drawn)
    with whole_folder(folder) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
    return int(model.num_parameters())


def _tokenizer(texts: Sequence[str], vocab_size: int, template: str) -> PreTrainedTokenizerFast:
    """Byte pairs learnt from the texts; of too little text fewer ids come out than asked for."""
    made = Tokenizer(BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END, OPENS, CLOSES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=CLOSES, pad_token=END, extra_special_tokens=[OPENS]
    )
    tokenizer.chat_template = template
    return tokenizer
