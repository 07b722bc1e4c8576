"""llama.cpp through its C interface, which the module of xllamacpp exports: ids in, logits out.

What xllamacpp offers in Python is a server that draws and decodes text itself: other filters, other seeds, and a port that
listens. The C interface gives logits, so that everything that makes a text stays ours.
Source: include/llama.h of llama.cpp.
"""

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xllamacpp  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from ml_playground.core.error_handling import CheckpointError, ConfigError

F16, F32 = 1, 0
"""ggml's types of the cached keys and values."""
FROM_MODEL, OFF = -1, 0

_Token = ctypes.c_int32

TOKENS_AT_ONCE = 512
"""Of a prompt; more would only need more memory."""


class _ModelParams(ctypes.Structure):
    """Only ever handed back as it came, so its fields do not matter; what it lacks in size would be read beyond its end."""

    _fields_ = (("fields", ctypes.c_uint8 * 512),)


class _ContextParams(ctypes.Structure):
    """The fields that are set, and those around them by whose defaults the layout is recognised."""

    _fields_ = (
        ("n_ctx", ctypes.c_uint32),
        ("n_batch", ctypes.c_uint32),
        ("n_ubatch", ctypes.c_uint32),
        ("n_seq_max", ctypes.c_uint32),
        ("outputs", ctypes.c_uint32 * 3),
        ("n_threads", ctypes.c_int32),
        ("n_threads_batch", ctypes.c_int32),
        ("ctx_type", ctypes.c_int32),
        ("rope_scaling", ctypes.c_int32),
        ("pooling", ctypes.c_int32),
        ("attention", ctypes.c_int32),
        ("flash_attention", ctypes.c_int32),
        ("rope_freq_base", ctypes.c_float),
        ("rope_freq_scale", ctypes.c_float),
        ("yarn", ctypes.c_float * 4),
        ("yarn_orig_ctx", ctypes.c_uint32),
        ("defrag_threshold", ctypes.c_float),
        ("callback", ctypes.c_void_p * 2),
        ("type_k", ctypes.c_int32),
        ("type_v", ctypes.c_int32),
        ("rest", ctypes.c_uint8 * 400),
    )

    def is_as_expected(self) -> bool:
        """Whether llama.cpp's own defaults lie where they are looked for."""
        return (
            (self.n_ctx, self.n_batch, self.n_ubatch, self.n_seq_max) == (512, 2048, 512, 1)
            and self.n_threads == self.n_threads_batch > 0
            and (self.rope_scaling, self.pooling, self.attention, self.flash_attention) == (FROM_MODEL,) * 4
            and list(self.yarn) == [-1.0] * 4
            and (self.rope_freq_base, self.defrag_threshold) == (0.0, -1.0)
            and (self.type_k, self.type_v) == (F16, F16)
        )


class _Batch(ctypes.Structure):
    _fields_ = (
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(_Token)),
        ("embd", ctypes.c_void_p),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    )


_SIGNATURES: Sequence[tuple[str, Any, Sequence[Any]]] = (
    ("llama_backend_init", None, ()),
    ("llama_log_set", None, (ctypes.c_void_p, ctypes.c_void_p)),
    ("llama_model_default_params", _ModelParams, ()),
    ("llama_context_default_params", _ContextParams, ()),
    ("llama_model_load_from_file", ctypes.c_void_p, (ctypes.c_char_p, _ModelParams)),
    ("llama_model_free", None, (ctypes.c_void_p,)),
    ("llama_init_from_model", ctypes.c_void_p, (ctypes.c_void_p, _ContextParams)),
    ("llama_free", None, (ctypes.c_void_p,)),
    ("llama_n_ctx_seq", ctypes.c_uint32, (ctypes.c_void_p,)),
    ("llama_n_seq_max", ctypes.c_uint32, (ctypes.c_void_p,)),
    ("llama_batch_init", _Batch, (ctypes.c_int32, ctypes.c_int32, ctypes.c_int32)),
    ("llama_batch_free", None, (_Batch,)),
    ("llama_decode", ctypes.c_int32, (ctypes.c_void_p, _Batch)),
    ("llama_get_logits", ctypes.POINTER(ctypes.c_float), (ctypes.c_void_p,)),
)
"""Name, result and arguments of each function that is called."""

_ignore_log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)


def _opened() -> ctypes.CDLL:
    """The library inside of xllamacpp's extension module, its functions typed.

    Raises:
        ConfigError: This build keeps them to itself, or lays out its parameters in another way.
    """
    path = next(Path(str(xllamacpp.__file__)).parent.glob("xllamacpp*.so"), None)
    library = None if path is None else ctypes.CDLL(str(path))
    if library is None or not all(hasattr(library, name) for name, _, _ in _SIGNATURES):
        raise ConfigError(
            f"xllamacpp {xllamacpp.__version__} does not export the C interface of llama.cpp on this system; "
            "use sample.engine = 'torch'."
        )
    for name, result, arguments in _SIGNATURES:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    if not library.llama_context_default_params().is_as_expected():
        raise ConfigError(
            f"xllamacpp {xllamacpp.__version__} lays out llama.cpp's parameters in a way that is not known here; "
            "install the version that constraints.txt names, or use sample.engine = 'torch'."
        )
    library.llama_log_set(_ignore_log, None)
    library.llama_backend_init()
    return library


class LlamaModel:
    """A GGUF file, loaded."""

    def __init__(self, path: Path, *, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.library = _opened()
        self.handle = self.library.llama_model_load_from_file(
            os.fsencode(path), self.library.llama_model_default_params()
        )
        if not self.handle:
            raise CheckpointError(f"llama.cpp cannot load {path}; delete it, and it is written anew.")

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self.library.llama_model_free(self.handle)


class LlamaContext:
    """Keys and values of some sequences, and the memory to go on with them."""

    def __init__(self, model: LlamaModel, *, sequences: int, length: int, threads: int) -> None:
        self._model, self._library = model, model.library
        params = self._library.llama_context_default_params()
        params.n_ctx, params.n_seq_max = sequences * length, sequences
        params.n_batch = params.n_ubatch = TOKENS_AT_ONCE
        params.n_threads = params.n_threads_batch = threads
        # float32, so that a cached token differs from an uncached one by rounding alone; and attention written out, for the
        # fused kernel rounds to float16 and takes three times as long for one query on a CPU without AVX-512 in the build.
        params.type_k = params.type_v = F32
        params.flash_attention = OFF
        self._handle = self._library.llama_init_from_model(model.handle, params)
        if not self._handle:
            raise ConfigError(
                f"llama.cpp found no memory for {sequences} sequences of {length} tokens; draw fewer or shorter texts."
            )
        self._batch = self._library.llama_batch_init(TOKENS_AT_ONCE, 0, 1)
        if self._library.llama_n_seq_max(self._handle) != sequences or (
            self._library.llama_n_ctx_seq(self._handle) < length
        ):
            raise ConfigError(
                f"xllamacpp {xllamacpp.__version__} did not take the parameters it was given; use sample.engine = 'torch'."
            )

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.llama_batch_free(self._batch)
            self._library.llama_free(self._handle)

    def decode(self, tokens: Sequence[tuple[int, int, int, bool]]) -> NDArray[np.float32]:
        """Logits (n, V) after those tokens that ask for them, in their order.

        Args:
            tokens: Id, position, sequence, and whether logits are wanted after it.

        Raises:
            CheckpointError: llama.cpp could not compute them.
        """
        parts: list[NDArray[np.float32]] = []
        for first in range(0, len(tokens), TOKENS_AT_ONCE):
            part = tokens[first : first + TOKENS_AT_ONCE]
            for at, (token, position, sequence, wanted) in enumerate(part):
                self._batch.token[at], self._batch.pos[at], self._batch.logits[at] = token, position, wanted
                self._batch.n_seq_id[at], self._batch.seq_id[at][0] = 1, sequence
            self._batch.n_tokens = len(part)
            status = self._library.llama_decode(self._handle, self._batch)
            if status:
                raise CheckpointError(f"llama.cpp could not compute the next token (llama_decode gave {status}).")
            outputs = sum(wanted for *_, wanted in part)
            if outputs:
                logits = self._library.llama_get_logits(self._handle)
                # Copied: the next call writes into the same memory.
                parts.append(np.ctypeslib.as_array(logits, (outputs, self._model.vocab_size)).copy())
        return np.concatenate(parts) if len(parts) != 1 else parts[0]
