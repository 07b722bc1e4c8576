"""Fine-tuning with trl's SFTTrainer on rows of ids that were prepared before, in its fastest setting or as it comes.

Runs under the interpreter that has trl (`--trl PYTHON` of sft_speed.py); needs nothing of ours but files: a model's folder and
rows as JSON Lines, {"input_ids": [...], "labels": [...]}. Prints what `print_figures` of sft_rows.py says.
"""

import argparse
import time
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from sft_rows import NO_TARGET, Counted, add_sft, peak_mb, print_figures, rows_of
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from transformers.utils import logging
from trl import SFTConfig, SFTTrainer


class Counting:
    """A collator that notes how many tokens and targets each batch has, padding left out."""

    def __init__(self, collate: Any) -> None:
        self._collate = collate
        self.batches: list[Counted] = []

    def __call__(self, examples: list[dict[str, Any]]) -> Any:
        """The batch that trl makes."""
        tokens = sum(len(example["input_ids"]) for example in examples)
        targets = sum(label != NO_TARGET for example in examples for label in example["labels"])
        self.batches.append(Counted(tokens, targets))
        return self._collate(examples)


class Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends_s: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """After the optimizer's update."""
        del args, state, control, rest
        self.ends_s.append(time.perf_counter())


def main() -> None:
    """Train some steps; time those after the warm-up."""
    parser = argparse.ArgumentParser(description="trl")
    add_sft(parser)
    parser.add_argument(
        "--padding-free", action="store_true", help="rows of a batch in one, its own best setting for padded rows"
    )
    parser.add_argument("--as-it-comes", action="store_true", help="its defaults: layers are recomputed")
    options = parser.parse_args()
    logging.disable_progress_bar()
    before_mb = peak_mb()
    torch.manual_seed(0)
    packed = options.layout == "packed"
    config = SFTConfig(
        output_dir=str(options.folder / "trl"),
        use_cpu=True,
        max_steps=options.warmup + options.steps,
        per_device_train_batch_size=options.rows,
        max_length=None if options.padding_free else options.length,
        packing=packed,
        padding_free=options.padding_free,
        # Batches of the same rows on both sides, for the longest decides what memory it takes.
        train_sampling_strategy="sequential",
        bf16=options.dtype == "bfloat16",
        learning_rate=1e-4,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **({} if options.as_it_comes else {"gradient_checkpointing": False, "logging_steps": 1000}),
    )
    adapter = (
        LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM") if options.lora else None
    )
    clock = Clock()
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(options.folder / "model", dtype=torch.float32),
        args=config,
        train_dataset=Dataset.from_list(rows_of(options.folder)),
        processing_class=AutoTokenizer.from_pretrained(options.folder / "model"),
        peft_config=adapter,
        callbacks=[clock],
    )
    counting = Counting(trainer.data_collator)
    trainer.data_collator = counting
    trainer.train()
    print_figures(counting.batches, clock.ends_s, options, memory_mb=(before_mb, peak_mb()))


if __name__ == "__main__":
    main()
