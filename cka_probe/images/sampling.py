"""Choose images by a seed.

Every command that takes `num` and `seed`, and every stage of a recipe, chooses by `sample_indices`.
"""

import numpy as np


def sample_indices(total: int, num: int | None, seed: int) -> list[int]:
    """Return `num` of `total` indices (None: all) in random order; fewer of the same seed are the first of more.

    Args:
        total: Number of images.
        num: Number of indices.
        seed: Any integer.

    >>> sample_indices(10, 3, seed=0) == sample_indices(10, 5, seed=0)[:3]
    True
    """
    indices: list[int] = np.random.default_rng(seed % (1 << 64)).permutation(total)[:num].tolist()
    return indices
