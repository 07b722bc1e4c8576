"""Llama and Qwen3 as Hugging Face has them; they differ in the norms of queries and keys and in who may have biases."""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_playground.models.settings import Gpt
from ml_playground.models.weights.layout import Layout, Piece, demanded, linear, matrix, refused, stated, vectors

_MODERN: Mapping[str, tuple[Any, ...]] = {
    "position": ("rotary",),
    "norm": ("rms_norm",),
    "feed_forward": ("swiglu",),
    "bigram_rows": (0,),
    "attention_window": (None,),
    "n_expert": (0,),
}
"""Settings that both demand."""
_ROPE_THETA = 10000.0
"""What both architectures mean where nothing is said."""


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """`rope_parameters` of transformers 5, or what says the same in older files."""
    rope: dict[str, Any] = {"rope_theta": config.get("rope_theta", _ROPE_THETA)}
    rope.update(config.get("rope_scaling") or {})
    rope.update(config.get("rope_parameters") or {})
    return {"rope_type": rope.get("type", "default"), **rope}


def _llama_unsupported(config: Mapping[str, Any]) -> list[str]:
    problems = refused(config, {"hidden_act": ("silu",), "quantization_config": (None,)})
    problems += refused(_rope(config), {"rope_type": ("default",), "partial_rotary_factor": (1.0,)})
    if config.get("attention_bias", False) != config.get("mlp_bias", False):
        problems.append("attention_bias and mlp_bias differ (supported: biases in all linear layers or in none)")
    return problems


def _qwen3_unsupported(config: Mapping[str, Any]) -> list[str]:
    problems = _llama_unsupported({**config, "mlp_bias": False})
    problems += refused(config, {"use_sliding_window": (False,)})
    windows = {kind for kind in config.get("layer_types") or () if kind != "full_attention"}
    return problems + [f"layer_types has {kind!r} (supported: 'full_attention')" for kind in sorted(windows)]


def _modern_settings(config: Mapping[str, Any], *, qk_norm: bool) -> Gpt:
    return Gpt.model_validate(
        {
            "n_layer": config["num_hidden_layers"],
            "n_head": config["num_attention_heads"],
            "n_kv_head": config.get("num_key_value_heads"),
            "n_embd": config["hidden_size"],
            "head_dim": config.get("head_dim"),
            "n_inner": config["intermediate_size"],
            "block_size": config["max_position_embeddings"],
            "vocab_size": config["vocab_size"],
            "position": "rotary",
            "rope_theta": _rope(config)["rope_theta"],
            "norm": "rms_norm",
            "norm_eps": config.get("rms_norm_eps", 1e-6),
            "feed_forward": "swiglu",
            "qk_norm": qk_norm,
            "bias": config.get("attention_bias", False),
            "tied_head": config.get("tie_word_embeddings", False),
        }
    )


def _llama_settings(config: Mapping[str, Any]) -> Gpt:
    return _modern_settings(config, qk_norm=False)


def _qwen3_settings(config: Mapping[str, Any]) -> Gpt:
    return _modern_settings(config, qk_norm=True)


def _llama_missing(settings: Gpt) -> list[str]:
    return demanded(settings, {**_MODERN, "qk_norm": (False,)})


def _qwen3_missing(settings: Gpt) -> list[str]:
    return demanded(settings, {**_MODERN, "qk_norm": (True,), "bias": (False,)})


def _llama_config(settings: Gpt) -> dict[str, Any]:
    return _modern_config(settings) | {"mlp_bias": settings.bias}


def _modern_config(settings: Gpt) -> dict[str, Any]:
    vocab_size, block_size = stated(settings)
    return {
        "num_hidden_layers": settings.n_layer,
        "num_attention_heads": settings.n_head,
        "num_key_value_heads": settings.key_heads,
        "hidden_size": settings.n_embd,
        "head_dim": settings.head_width,
        "intermediate_size": settings.inner_width,
        "max_position_embeddings": block_size,
        "vocab_size": vocab_size,
        # Both spellings: transformers 5 reads the table, older versions and other programs the plain number.
        "rope_parameters": {"rope_type": "default", "rope_theta": settings.rope_theta},
        "rope_theta": settings.rope_theta,
        "rms_norm_eps": settings.norm_eps,
        "hidden_act": "silu",
        "attention_bias": settings.bias,
        "attention_dropout": settings.attention_drop,
        "tie_word_embeddings": settings.tied_head,
    }


def _modern_pieces(settings: Gpt) -> Iterator[Piece]:
    vocab_size, _ = stated(settings)
    width, inner, head, bias = settings.n_embd, settings.inner_width, settings.head_width, settings.bias
    queries, keys = settings.n_head * head, settings.key_heads * head
    yield matrix("token_embedding.weight", ("model.embed_tokens.weight",), (vocab_size,), width, transposed=False)
    for block in range(settings.n_layer):
        ours, theirs = f"blocks.{block}", f"model.layers.{block}"
        yield vectors(f"{ours}.attention_norm.weight", (f"{theirs}.input_layernorm.weight",), (width,))
        yield vectors(f"{ours}.feed_forward_norm.weight", (f"{theirs}.post_attention_layernorm.weight",), (width,))
        names = tuple(f"{theirs}.self_attn.{name}_proj" for name in "qkv")
        yield from linear(f"{ours}.attention.qkv", names, (queries, keys, keys), width, bias=bias)
        if settings.qk_norm:
            for norm, name in (("query_norm", "q_norm"), ("key_norm", "k_norm")):
                yield vectors(f"{ours}.attention.{norm}.weight", (f"{theirs}.self_attn.{name}.weight",), (head,))
        for layer, name, rows, columns in (
            ("attention.projection", "self_attn.o_proj", width, queries),
            ("feed_forward.gate", "mlp.gate_proj", inner, width),
            ("feed_forward.up", "mlp.up_proj", inner, width),
            ("feed_forward.down", "mlp.down_proj", width, inner),
        ):
            yield from linear(f"{ours}.{layer}", (f"{theirs}.{name}",), (rows,), columns, bias=bias)
    yield vectors("final_norm.weight", ("model.norm.weight",), (width,))
    if not settings.tied_head:
        yield matrix("output.weight", ("lm_head.weight",), (vocab_size,), width, transposed=False)


LLAMA = Layout(
    architecture="LlamaForCausalLM",
    unsupported=_llama_unsupported,
    settings=_llama_settings,
    missing=_llama_missing,
    config=_llama_config,
    pieces=_modern_pieces,
    ignored=(".rotary_emb.inv_freq",),
)

QWEN3 = Layout(
    architecture="Qwen3ForCausalLM",
    unsupported=_qwen3_unsupported,
    settings=_qwen3_settings,
    missing=_qwen3_missing,
    config=_modern_config,
    pieces=_modern_pieces,
    ignored=(".rotary_emb.inv_freq",),
)
