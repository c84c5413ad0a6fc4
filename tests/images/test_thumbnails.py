"""Thumbnails are of the images that were compared, in that order, and the strip has the same bytes twice."""

import numpy as np
import pytest
import torch
from PIL import Image

from cka_probe import Backbone, fingerprint
from cka_probe.errors import DataError
from cka_probe.images.stream import stream_images
from cka_probe.images.thumbnails import MOST, SIDE, save_strip, thumbnails


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Thirty images, each of one colour of its own, of different sizes."""
    root = tmp_path_factory.mktemp("images")
    for index in range(30):
        Image.new("RGB", (40 + index, 60), (8 * index, 255 - 8 * index, index)).save(root / f"{index:02d}.png")
    return root


def test_they_are_the_first_of_the_stream_in_its_order(folder):
    shown = thumbnails(folder, num=28, seed=3)
    stream = stream_images(folder, num=28, seed=3, batch=8)
    expected = [image[:, 0, 0].numpy() for batch in stream for image in batch]
    assert len(shown) == MOST == 24
    for thumbnail, colour in zip(shown, expected, strict=False):
        assert thumbnail.shape == (SIDE, SIDE, 3)
        assert thumbnail.dtype == np.uint8
        assert (thumbnail == colour).all()


def test_no_more_than_there_are_or_were_asked_for(folder):
    assert len(thumbnails(folder, num=5)) == 5
    assert len(thumbnails(folder, count=3)) == 3


def test_the_middle_square_is_kept_and_nothing_is_stretched():
    wide = torch.zeros(3, 20, 60)
    wide[0, :, 20:40] = 1.0  # the middle square is red
    (thumbnail,) = thumbnails(torch.stack([wide] * 4), count=1)
    assert (thumbnail[..., 0] == 255).all()
    assert not thumbnail[..., 1:].any()


def test_grey_images_are_grey():
    (thumbnail,) = thumbnails(torch.full((4, 1, 8, 8), 0.5), count=1)
    assert (thumbnail == 128).all()


def test_unreadable_images_are_left_out_as_in_the_comparison(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "05.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="unreadable image"):
        thumbnails(tmp_path, count=30)
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    made = fingerprint(Backbone(net, size=8), tmp_path, layers=["0"], skip_bad=True)
    assert len(thumbnails(tmp_path, skip_bad=True, count=30)) == len(made.images) == 29


def test_the_strip_is_the_same_twice_and_can_be_read_again(folder, tmp_path):
    shown = thumbnails(folder)
    one, two = (save_strip(shown, tmp_path / name).read_bytes() for name in ("a.jpg", "b.jpg"))
    assert one == two
    with Image.open(tmp_path / "a.jpg") as strip:
        assert strip.size == (24 * SIDE, SIDE)
        pixels = np.asarray(strip.convert("RGB")).astype(int)
    assert np.abs(np.concatenate(shown, axis=1) - pixels).max() <= 4  # JPEG


def test_what_cannot_be_shown_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"expected images \(3, H, W\), floats in \[0, 1\].*found torch.float32 of"):
        thumbnails(torch.rand(8, 5))
    with pytest.raises(DataError, match="expected at least one thumbnail"):
        save_strip([], tmp_path / "images.jpg")


def test_a_strip_of_noise_is_written_whole(tmp_path):
    noise = list(np.random.default_rng(0).integers(0, 256, (24, 96, 96, 3), np.uint8))
    with Image.open(save_strip(noise, tmp_path / "images.jpg")) as strip:
        assert strip.size == (24 * 96, 96)
        strip.load()
