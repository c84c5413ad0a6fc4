"""A choice by names depends on nothing else."""

import numpy as np

from cka_probe.lab.datasets.imagenet import smallest_by_seed


def test_a_choice_by_names_does_not_depend_on_their_order():
    keys = np.array([f"{number:05d}".encode() for number in range(50)])
    chosen = set(keys[smallest_by_seed(keys, 7, seed=4)])
    assert chosen == set(keys[::-1][smallest_by_seed(keys[::-1], 7, seed=4)])
    assert chosen < set(keys[smallest_by_seed(keys, 9, seed=4)])
