"""What was decoded is kept: once for all processes, bit for bit, within a budget, and gone at the end."""

import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Generator

from cka_probe.images.datasets import DATASETS, open_dataset
from cka_probe.images.reading import read_image
from cka_probe.lab.datasets.cache import DecodedCache, key_of
from cka_probe.lab.datasets.frames import Frame, Frames
from cka_probe.lab.training.sampling import AugmentedDataset, Samples, batches, step_batches


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Keep what this test keeps apart."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def note(journal, line):
    """Write a line to a file that many processes write to."""
    with open(journal, "a") as file:
        file.write(f"{line}\n")


def read_noted(path, journal):
    note(journal, path.name)
    return read_image(path)


def read_depth_noted(path, journal):
    note(journal, f"depth of {path.name}")
    return 1 + read_image(path)[:1]


class Whole:
    """A dataset that is not of frames: it reads whole samples."""

    gives = frozenset({"image", "depth"})

    def __init__(self, root, split="all"):
        self.root, self.paths = Path(root), sorted(Path(root).glob("left*.png"))

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        image = self.image(index)
        return {"image": image, "depth": read_depth_noted(self.paths[index], self.root / "journal")}

    def image(self, index):
        return read_noted(self.paths[index], self.root / "journal")


def video(root, split="all"):
    """Two cameras side by side, each a scene, and each the other's partner."""
    root = Path(root)

    def frame(camera, partner, number):
        path, other = (root / f"{side}{number}.png" for side in (camera, partner))
        return Frame(
            path.name,
            {
                "image": partial(read_noted, path, root / "journal"),
                "depth": partial(read_depth_noted, path, root / "journal"),
                "world_T_target": lambda: torch.eye(4),
                "partner": partial(read_noted, other, root / "journal"),
                "partner_T_target": lambda: torch.eye(4),
            },
        )

    sides = (("left", "right"), ("right", "left"))
    return Frames([[frame(*cameras, number) for number in range(4)] for cameras in sides], (-1, 1, "s"))


class Task:
    """Prepares nothing."""

    def prepare(self, sample, generator, train):
        return sample


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setitem(DATASETS, "video", video)
    monkeypatch.setitem(DATASETS, "whole", Whole)
    for number in range(8):
        pixels = torch.randint(0, 256, (6, 8, 3), dtype=torch.uint8, generator=Generator().manual_seed(number))
        Image.fromarray(pixels.numpy()).save(tmp_path / f"{'left' if number < 4 else 'right'}{number % 4}.png")
    return tmp_path


def loaded(samples, epochs, workers):
    """Return all batches of some epochs; the workers of each are new, as those of training and validation are."""
    views, count = AugmentedDataset(samples, Task(), 0, train=True), len(samples)
    return [
        batch
        for epoch in range(epochs)
        for batch in batches(
            views, step_batches(range(epoch * count, (epoch + 1) * count), 1, 0, 1), workers, pin=False
        )
    ]


NEEDS = {
    "video": ({"image", "sources", "source_T_target", "depth"}, 8 + 4),  # depth of those that have two neighbours
    "whole": ({"image", "depth"}, 4 + 4),
}


@pytest.mark.parametrize("name", NEEDS)
def test_each_file_is_decoded_once_whatever_the_workers_epochs_and_roles(name, root):
    needs, files = NEEDS[name]
    plain = loaded(Samples([f"{name}:{root}"], frozenset(needs)), 2, 0)
    (root / "journal").unlink()
    kept = DecodedCache()
    shared = loaded(Samples([f"{name}:{root}"], frozenset(needs), kept), 2, 2)
    again = loaded(Samples([f"{name}:{root}"], frozenset(needs), kept), 1, 0)  # another stage
    read = Counter((root / "journal").read_text().splitlines())
    assert len(read) == files
    assert set(read.values()) == {1}
    for one, other in zip(plain, shared + again, strict=False):
        assert one.keys() == other.keys() == needs
        assert all(torch.equal(one[field], other[field]) for field in needs)


def test_without_a_cache_they_are_decoded_again_which_the_journal_would_show(root):
    loaded(Samples([f"video:{root}"], frozenset({"image", "sources"})), 2, 2)
    read = Counter((root / "journal").read_text().splitlines())
    assert min(read.values()) > 1
    assert not [name for name in read if "depth" in name]  # not asked for: not read


FIELDS = {
    "an image": torch.arange(192.0).view(3, 8, 8) / 255,
    "an image of other steps": torch.arange(192.0).view(3, 8, 8) / 191,
    "depth": torch.rand(1, 7, 5, generator=Generator().manual_seed(0)) * 80,
    "holes": torch.tensor([[[torch.nan, torch.inf, -torch.inf, 0.0, -0.0, 1e-40]]]),
    "negative zero": torch.tensor([[[-0.0, 1.0]]]),
    "labels": torch.tensor([[0, 18, 255]]),
    "many instances": torch.tensor([[0, 18, 26005]]),
    "negative numbers": torch.tensor([[-1, 3]]),
    "flags": torch.tensor([[[True, False]]]),
    "a category": torch.tensor(7),
    "doubles": torch.rand(2, 3, dtype=torch.float64),
    "nothing": torch.zeros(3, 0, 5),
    "a view": torch.arange(12.0).view(3, 4).T,
}


@pytest.mark.parametrize("name", FIELDS)
def test_what_is_kept_comes_back_bit_for_bit_and_is_ones_own(name):
    kept, field = DecodedCache(), FIELDS[name]
    assert kept.get((name,), lambda: field) is field

    def never():
        raise AssertionError("read again")

    for _ in range(2):
        back = kept.get((name,), never)
        assert (back.dtype, back.shape) == (field.dtype, field.shape)
        assert back.numpy().tobytes() == field.contiguous().numpy().tobytes()
        back.zero_()


def test_a_function_and_its_path_are_a_key_and_a_closure_is_none():
    path = Path("a/b.png")
    assert key_of(partial(read_image, path)) == key_of(partial(read_image, Path("a/b.png")))
    different = [
        partial(read_image, Path("a/c.png")),
        partial(read_image, "a/b.png"),
        partial(read_image, path=path),
        partial(read_noted, path, 1),
        partial(read_noted, path, 1.0),
        partial(read_noted, path, ("x", None)),
    ]
    assert len({key_of(partial(read_image, path)), *map(key_of, different)}) == 7
    closed = [lambda: path, partial(lambda p: p, path), partial(read_noted, path, {1: 2}), partial(path.joinpath, "c")]
    assert [key_of(read) for read in closed] == [None] * 4


def test_frames_that_say_nothing_of_their_files_are_kept_by_their_place():
    reads = []

    def frame(number):
        def read():
            reads.append(number)
            return torch.full((3, 2, 2), number / 255)

        return Frame(str(number), {"image": read})

    kept, frames = DecodedCache(), Frames([[frame(0), frame(1), frame(2)]], (-1, 1))
    frames.cache_in(kept, "here")
    for _ in range(2):
        sample = frames[0]
        assert sample["sources"][:, 0, 0, 0].tolist() == [0, torch.tensor(2 / 255)]
    assert sorted(reads) == [0, 1, 2]
    other = Frames([[frame(5), frame(6), frame(7)]], (-1, 1))
    other.cache_in(kept, "there")
    assert torch.equal(other[0]["image"], torch.full((3, 2, 2), 6 / 255))


def test_only_what_is_asked_for_is_read(root):
    frames = open_dataset(f"video:{root}")
    assert frames.some(0, {"source_T_target"}).keys() == {"image", "source_T_target"}
    assert Counter((root / "journal").read_text().splitlines()) == {"left1.png": 1}
    assert frames[0].keys() == frames.gives
