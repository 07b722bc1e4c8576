"""A shuffle that is computed, not stored: where position i goes is a function of the length and a key."""

import numpy as np
from numpy.typing import NDArray

from ml_playground.core.seeding import seed_for

# Luby and Rackoff (1988) need four rounds for a strong pseudorandom permutation of large domains; the small ones here
# mix a few bits only, and pass the test of equal shares for all orders of three from six rounds on.
ROUNDS = 8
# Below 64 places the halves have too few bits to mix.
LEAST_HALF_BITS = 3

# The finaliser of SplitMix64, http://prng.di.unimi.it/splitmix64.c
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))


class KeyedPermutation:
    """All of 0 .. length - 1 in an order of the key: a Feistel network over the next power of four, walked back into range.

    Source: Black and Rogaway, Ciphers with Arbitrary Finite Domains (2002), section on cycle walking.
    """

    def __init__(self, length: int, key: int) -> None:
        self._length = np.uint64(length)
        half_bits = max(LEAST_HALF_BITS, ((length - 1).bit_length() + 1) // 2)
        self._half_bits = np.uint64(half_bits)
        self._mask = np.uint64((1 << half_bits) - 1)
        self._keys = [np.uint64(seed_for(key, "feistel", number)) for number in range(ROUNDS)]

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where each of these positions goes; (n,) to (n,)."""
        values = self._shuffled(positions.astype(np.uint64))
        # The domain is less than four times the length (but at least 64), so few walks are long.
        while (outside := values >= self._length).any():
            values[outside] = self._shuffled(values[outside])
        return values.astype(np.int64)

    def _shuffled(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = values >> self._half_bits, values & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right ^ key) & self._mask)
        return (left << self._half_bits) | right


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> _SHIFTS[0])) * _MULTIPLIERS[0]
    values = (values ^ (values >> _SHIFTS[1])) * _MULTIPLIERS[1]
    return values ^ (values >> _SHIFTS[2])
