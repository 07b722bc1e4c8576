"""Tells an error of memory from others, and says what to change."""

import torch

ADVICE = "halve data.micro_batch_rows and double train.micro_batches_per_step: the same step in less memory"


def out_of_memory_advice(error: BaseException) -> str | None:
    """What happened and what to do, in one line; None for any other error."""
    # torch.OutOfMemoryError is CUDA's; the CPU allocator raises a plain RuntimeError with this text.
    on_cpu = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    if not on_cpu and not isinstance(error, torch.OutOfMemoryError | MemoryError):
        return None
    return f"{str(error).partition(chr(10))[0] or 'out of memory'}; {ADVICE}"
