"""Small random models of the transformers library with their tokenizers, on disk as `save_pretrained` leaves them."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.utils import logging

from ml_playground.models.hugging_face.settings import HfCausalLm

logging.disable_progress_bar()

TEXT = "".join(f"{number} green bottles, hanging on the wall;\n" for number in range(40))
VOCAB, PADDED, CONTEXT = 280, 320, 32
"""Ids of the tokenizer, ids of the models that pad theirs, positions."""

SPECIALS: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
MODERN: dict[str, Any] = SPECIALS | {
    "vocab_size": VOCAB, "max_position_embeddings": CONTEXT, "hidden_size": 16, "intermediate_size": 24,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip


def gpt2(**options: Any) -> PreTrainedModel:
    """Learned positions, tied, matrices stored the other way round."""
    sizes = {"vocab_size": VOCAB, "n_positions": CONTEXT, "n_embd": 16, "n_layer": 2, "n_head": 4}
    rest = dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), 0.0)
    return GPT2LMHeadModel(GPT2Config(**SPECIALS | sizes | rest | options))


def llama(**options: Any) -> PreTrainedModel:
    """Rotary positions, shared keys, an output layer of its own, and a vocabulary padded beyond the tokenizer's."""
    return LlamaForCausalLM(LlamaConfig(**MODERN | {"vocab_size": PADDED, "tie_word_embeddings": False} | options))


def qwen3(**options: Any) -> PreTrainedModel:
    """Normalised queries and keys, heads wider than the usual ones, tied."""
    return Qwen3ForCausalLM(Qwen3Config(**MODERN | {"head_dim": 8, "tie_word_embeddings": True} | options))


def gemma(**options: Any) -> PreTrainedModel:
    """Scaled embeddings, gains beside one, tied."""
    return GemmaForCausalLM(GemmaConfig(**MODERN | {"head_dim": 8} | options))


def gemma2(**options: Any) -> PreTrainedModel:
    """Windows of six tokens in every other layer, bounded scores and bounded logits."""
    sizes = MODERN | {"head_dim": 8, "sliding_window": 6, "final_logit_softcapping": 8.0}
    return Gemma2ForCausalLM(Gemma2Config(**sizes | options))


MODELS: Mapping[str, Callable[..., PreTrainedModel]] = {
    "gpt2": gpt2, "llama": llama, "qwen3": qwen3, "gemma": gemma, "gemma2": gemma2,
}  # fmt: skip


@cache
def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    """Byte pairs learnt from TEXT; Llama's and Gemma's put a mark before each text."""
    made = Tokenizer(BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(
        vocab_size=VOCAB, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([TEXT], trainer)
    if kind in {"llama", "gemma", "gemma2"}:
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


def model_of(kind: str, seed: int = 0, **options: Any) -> PreTrainedModel:
    """One of MODELS, with weights so large that no part of it is negligible; in evaluation mode."""
    torch.manual_seed(seed)
    model = MODELS[kind](**options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def saved(kind: str, folder: Path, seed: int = 0, **options: Any) -> PreTrainedModel:
    """A model in a folder, its tokenizer beside it; the model comes back."""
    model = model_of(kind, seed, **options)
    model.save_pretrained(folder)
    tokenizer_of(kind).save_pretrained(folder)
    return model


def settings_of(folder: Path, **fields: Any) -> HfCausalLm:
    """`[model]` as a file would give it."""
    return HfCausalLm.model_validate_json(json.dumps({"kind": "hf_causal_lm", "path": str(folder), **fields}))
