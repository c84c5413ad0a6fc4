"""Images are chosen by a seed, and in the same way by every command."""

import torch

from cka_probe.images.datasets import sample_indices
from cka_probe.images.stream import stream_images
from cka_probe.lab.training.sampling import Samples


class Constant:
    """Images that are all one number, which is their index."""

    gives = frozenset({"image"})

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return {"image": self.image(index)}

    def image(self, index):
        return torch.full((3, 4, 4), index / 100)

    def describe(self, index):
        return str(index)


def test_fewer_images_are_the_first_of_more_and_another_seed_has_others():
    assert sample_indices(40, 6, seed=3) == sample_indices(40, None, seed=3)[:6]
    assert sorted(sample_indices(9, None, seed=-1)) == list(range(9))
    assert len({tuple(sample_indices(40, 6, seed)) for seed in range(5)}) == 5


def test_a_comparison_and_a_stage_of_training_choose_the_same_images(monkeypatch):
    monkeypatch.setattr("cka_probe.lab.training.sampling.open_dataset", lambda spec: Constant())
    stage, _ = Samples(["a"], frozenset({"image"})).split(5, 0, seed=2)
    stream = stream_images(Constant(), num=5, seed=2)
    compared = [image for batch in stream for image in batch]
    assert all(torch.equal(sample["image"], image) for sample, image in zip(stage, compared, strict=True))
