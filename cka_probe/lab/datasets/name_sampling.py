"""Choose samples of a data set by a seed and their names alone.

The names whose hashes with the seed are the smallest numbers are chosen. So the choice depends neither on the order of
a database nor on the machine, and a smaller choice is part of a larger one.
"""

import numpy as np


def smallest_by_seed(keys: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the positions of the keys whose hashes with the seed are the smallest.

    Args:
        keys: (n,) bytes.
        count: Number of keys to choose.
        seed: Any integer.

    Returns:
        (count,) positions in `keys`, ascending.
    """
    width = -(-keys.dtype.itemsize // 8) * 8
    words = keys.astype(f"S{width}").view("<u8").reshape(len(keys), -1)
    mixed = _mix(np.full(len(keys), seed % (1 << 64), np.uint64))
    for column in words.T:
        mixed = np.where(column == 0, mixed, _mix(mixed ^ column))  # zeros pad shorter keys
    return np.sort(np.lexsort((keys, mixed))[:count])


def _mix(numbers: np.ndarray) -> np.ndarray:
    """Return 64-bit numbers mixed by a hash, modulo 2^64 (the finaliser of SplitMix64; Steele, Lea & Flood 2014)."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = numbers ^ (numbers >> np.uint64(31))
    return mixed
