"""GPT-2 as Hugging Face has it: Conv1D matrices, which are (in, out), and biases everywhere."""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_playground.models.settings import Gpt
from ml_playground.models.weights.layout import Layout, Piece, demanded, linear, matrix, refused, stated, vectors

_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu2": "relu2"}
_NAMES = {"gelu_tanh": "gelu_new", "gelu": "gelu", "relu2": "relu2"}


def _unsupported(config: Mapping[str, Any]) -> list[str]:
    return refused(
        config,
        {
            "activation_function": tuple(_ACTIVATIONS),
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "add_cross_attention": (False,),
            "quantization_config": (None,),
        },
    )


def _settings(config: Mapping[str, Any]) -> Gpt:
    return Gpt.model_validate(
        {
            "n_layer": config["n_layer"],
            "n_head": config["n_head"],
            "n_embd": config["n_embd"],
            "n_inner": config.get("n_inner"),
            "block_size": config["n_positions"],
            "vocab_size": config["vocab_size"],
            "norm_eps": config.get("layer_norm_epsilon", 1e-5),
            "feed_forward": _ACTIVATIONS[config.get("activation_function", "gelu_new")],
            "tied_head": config.get("tie_word_embeddings", True),
        }
    )


def _missing(settings: Gpt) -> list[str]:
    return demanded(
        settings,
        {
            "position": ("learned",),
            "bigram_rows": (0,),
            "attention_window": (None,),
            "n_expert": (0,),
            "norm": ("layer_norm",),
            "feed_forward": tuple(_NAMES),
            "qk_norm": (False,),
            "n_kv_head": (None, settings.n_head),
            "head_dim": (None, settings.n_embd / settings.n_head),
        },
    )


def _config(settings: Gpt) -> dict[str, Any]:
    vocab_size, block_size = stated(settings)
    return {
        "n_layer": settings.n_layer,
        "n_head": settings.n_head,
        "n_embd": settings.n_embd,
        "n_inner": settings.inner_width,
        "n_positions": block_size,
        "vocab_size": vocab_size,
        "layer_norm_epsilon": settings.norm_eps,
        "activation_function": _NAMES[settings.feed_forward],
        "tie_word_embeddings": settings.tied_head,
        "embd_pdrop": settings.dropout,
        "attn_pdrop": settings.attention_drop,
        "resid_pdrop": settings.residual_drop,
    }


def _pieces(settings: Gpt) -> Iterator[Piece]:
    """GPT-2 has every bias; settings without them are written with zeros."""
    vocab_size, block_size = stated(settings)
    width, inner = settings.n_embd, settings.inner_width
    yield matrix("token_embedding.weight", ("transformer.wte.weight",), (vocab_size,), width, transposed=False)
    yield matrix("position_embedding.weight", ("transformer.wpe.weight",), (block_size,), width, transposed=False)
    for block in range(settings.n_layer):
        ours, theirs = f"blocks.{block}", f"transformer.h.{block}"
        for norm, name in (("attention_norm", "ln_1"), ("feed_forward_norm", "ln_2")):
            yield vectors(f"{ours}.{norm}.weight", (f"{theirs}.{name}.weight",), (width,))
            yield vectors(f"{ours}.{norm}.bias", (f"{theirs}.{name}.bias",), (width,))
        for layer, name, rows, columns in (
            ("attention.qkv", "attn.c_attn", 3 * width, width),
            ("attention.projection", "attn.c_proj", width, width),
            ("feed_forward.up", "mlp.c_fc", inner, width),
            ("feed_forward.down", "mlp.c_proj", width, inner),
        ):
            yield from linear(f"{ours}.{layer}", (f"{theirs}.{name}",), (rows,), columns, bias=True, transposed=True)
    yield vectors("final_norm.weight", ("transformer.ln_f.weight",), (width,))
    yield vectors("final_norm.bias", ("transformer.ln_f.bias",), (width,))
    if not settings.tied_head:
        yield matrix("output.weight", ("lm_head.weight",), (vocab_size,), width, transposed=False)


GPT2 = Layout(
    architecture="GPT2LMHeadModel",
    unsupported=_unsupported,
    settings=_settings,
    missing=_missing,
    config=_config,
    pieces=_pieces,
    ignored=(".attn.bias", ".attn.masked_bias"),
)
