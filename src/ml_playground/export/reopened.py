"""A folder as its users will open it: by the transformers library alone, with nothing of ours."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from ml_playground.export.parity import Ids, Probe


class ReopenedFolder:
    """Model and tokenizer of a folder, in float32 on the CPU, written-out attention."""

    def __init__(self, folder: Path, *, with_tokenizer: bool) -> None:
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        self._model: Any = cast(Any, AutoModelForCausalLM).from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, attn_implementation="eager"
        )
        self._model.eval()
        self._tokenizer: Any = None
        if with_tokenizer:
            self._tokenizer = cast(Any, AutoTokenizer).from_pretrained(folder, local_files_only=True)

    @property
    def stop_ids(self) -> frozenset[int]:
        """As generation_config.json names them."""
        stops: int | list[int] | None = self._model.generation_config.eos_token_id
        return frozenset([stops] if isinstance(stops, int) else stops or ())

    def ids_of(self, probe: Probe) -> Ids | None:
        """Of a chat by the folder's own template; of a text without marks around it, marks in it as the text that they are."""
        if self._tokenizer is None:
            return None
        if probe.messages:
            encoded = self._tokenizer.apply_chat_template(
                list(probe.messages), tools=probe.tools, add_generation_prompt=True, return_dict=True
            )
            return encoded["input_ids"]
        return self._tokenizer(probe.text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def logits(self, ids: Ids) -> Tensor:
        """(T, V)."""
        with torch.inference_mode():
            return self._model(torch.tensor([list(ids)])).logits[0].float()

    def greedy(self, prompt: Ids, new_tokens: int) -> Ids:
        """What `generate` of the library appends."""
        ids = torch.tensor([list(prompt)])
        with torch.inference_mode():
            whole: Tensor = self._model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new_tokens
            )
        return cast(list[int], whole[0, len(prompt) :].tolist())
