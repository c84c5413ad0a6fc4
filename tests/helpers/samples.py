"""Samples with every field, and datasets made of a list of them."""

import numpy as np
import torch

H, W = 6, 8


class Listed:
    """A dataset of samples that are there already, or are errors."""

    def __init__(self, samples, names=None, **more):
        self.samples, self.names = samples, names or [f"a/{index}.png" for index in range(len(samples))]
        self.gives = frozenset(field for one in samples if isinstance(one, dict) for field in one)
        self.__dict__.update(more)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        if isinstance(self.samples[index], Exception):
            raise self.samples[index]
        return {field: torch.as_tensor(value) for field, value in self.samples[index].items()}

    def describe(self, index):
        return self.names[index]


def image(seed=0):
    return np.random.default_rng(seed).random((3, H, W), np.float32)


def pose(x=0.0, z=0.0):
    T = np.eye(4, dtype=np.float32)
    T[:3, 3] = x, 0, z
    return T


def full(seed=0):
    """A sample with every field, all sound."""
    rng = np.random.default_rng(seed)
    normals = np.zeros((3, H, W), np.float32)
    normals[2] = -1
    K = np.array([[8, 0, 3.5], [0, 8, 2.5], [0, 0, 1]], np.float32)
    return {
        "image": image(seed),
        "depth": rng.uniform(1, 5, (1, H, W)).astype(np.float32),
        "pseudo_depth": rng.uniform(1, 5, (1, H, W)).astype(np.float32),
        "K": K,
        "world_T_target": pose(x=seed),
        "sources": np.stack([image(seed + 100)]),
        "source_T_target": pose(x=0.5)[None],
        "flow": rng.normal(size=(2, H, W)).astype(np.float32),
        "occluded": rng.random((1, H, W)) > 0.5,
        "labels": rng.integers(0, 3, (H, W)),
        "instances": rng.integers(0, 4, (H, W)),
        "planes": rng.integers(0, 3, (3, H, W)),
        "normals": normals,
        "edges": rng.random((1, H, W)) > 0.5,
        "valid": rng.random((1, H, W)) > 0.5,
        "category": np.array(seed % 2),
    }


def but(**fields):
    return full() | fields
