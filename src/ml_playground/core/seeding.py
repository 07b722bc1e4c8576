"""Named streams of randomness: a seed is a function of the job's seed and of what it is for, never of what ran before."""

import hashlib


def seed_for(job_seed: int, *name: str | int) -> int:
    """A 63-bit seed for a named use, equal on every machine and in every order of calls.

    Args:
        job_seed: The job's `seed`.
        name: What the randomness is for, e.g. `("step", 17, 0)`; strings and integers never collide.
    """
    text = "\x1f".join([str(job_seed), *(f"{type(part).__name__}:{part}" for part in name)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
