"""Images are found through links, never among hidden files, and decoded by Pillow's own readers only."""

import os
import tracemalloc

import numpy as np
import pytest
import torch
from helpers.image_files import write
from PIL import EpsImagePlugin, Image

from cka_probe.errors import DataError
from cka_probe.images.datasets import open_dataset
from cka_probe.images.reading import (
    FORMATS,
    find_images,
    image_size,
    images_in,
    read_aligned_image,
    read_image,
    read_pixels,
)
from cka_probe.models.backbone import Preprocessing


@pytest.fixture
def linked(tmp_path):
    """A folder of one image in a folder and three in each of two links to folders, next to hidden files."""
    for number in range(3):
        for kind in ("cat", "dog"):
            write(tmp_path / "elsewhere" / kind / f"{number}.png", number)
    root = tmp_path / "root"
    write(root / "ant" / "0.png")
    for kind in ("cat", "dog"):
        (root / kind).symlink_to(tmp_path / "elsewhere" / kind)
    for name in ("ant/.ipynb_checkpoints/0-checkpoint.png", "__MACOSX/0.png", "__MACOSX/ant/0.png"):
        write(root / name)
    (root / "ant" / "._0.png").write_bytes(b"macOS")
    return root


def test_links_are_followed_and_hidden_files_left_out(linked):
    names = ["ant/0.png", *(f"{kind}/{number}.png" for kind in ("cat", "dog") for number in range(3))]
    assert [path.relative_to(linked).as_posix() for path in find_images(linked)] == names
    classes = open_dataset(f"imagenet:{linked}")
    assert [classes.describe(index) for index in range(len(classes))] == names
    assert classes.classes.names == ("ant", "cat", "dog")
    assert [path.name for path in images_in(linked / "ant")] == ["0.png"]


def test_a_link_within_a_class_is_followed_and_a_loop_is_not(linked):
    (linked / "ant" / "more").symlink_to(linked.parent / "elsewhere" / "cat")
    (linked / "ant" / "loop").symlink_to(linked)
    names = ["ant/0.png", "ant/more/0.png", "ant/more/1.png", "ant/more/2.png"]
    assert [path.relative_to(linked).as_posix() for path in find_images(linked) if "ant" in path.parts] == names
    assert len(open_dataset(f"imagenet:{linked}")) == 4 + 6


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_an_image_that_exif_turns_does_not_belong_to_labels(tmp_path, orientation):
    pixels, exif = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    turned = np.rot90(pixels, {1: 0, 3: 2, 6: 3}[orientation])
    np.testing.assert_allclose(read_image(tmp_path / "a.png").permute(1, 2, 0), turned / 255, atol=1e-6)
    if orientation == 1:
        assert read_aligned_image(tmp_path / "a.png").shape == (3, 4, 6)
    else:
        with pytest.raises(DataError, match=f"expected an upright image, found EXIF orientation {orientation}"):
            read_aligned_image(tmp_path / "a.png")


@pytest.mark.parametrize("read", [read_image, image_size])
def test_a_file_that_would_start_ghostscript_is_not_read(tmp_path, monkeypatch, read):
    path = tmp_path / "z.jpg"
    Image.new("RGB", (8, 8)).save(path, format="EPS")
    calls = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **options: calls.append(args))
    with pytest.raises(DataError, match="unreadable image"):
        read(path)
    assert calls == []


@pytest.mark.parametrize("kind", FORMATS)
def test_the_formats_of_images_are_read_whatever_the_suffix(tmp_path, kind):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (8, 6), (255, 0, 0)).save(path, format=kind)
    assert read_image(path).shape == (3, 6, 8)
    assert image_size(path) == (6, 8)


def test_jpegs_are_decoded_at_the_least_scale_that_keeps_the_decode_size(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    image, exif = Image.fromarray(pixels).resize((320, 240), Image.Resampling.BICUBIC), Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    image.save(tmp_path / "a.jpg", quality=95, exif=exif)
    image.save(tmp_path / "a.png")
    image.crop((0, 0, 320, 238)).save(tmp_path / "half.jpg")
    sizes = {decode_size: read_pixels(tmp_path / "a.jpg", decode_size).shape for decode_size in (241, 120, 61, 60, 30)}
    assert sizes == {241: (3, 320, 240), 120: (3, 160, 120), 61: (3, 160, 120), 60: (3, 80, 60), 30: (3, 40, 30)}
    assert read_pixels(tmp_path / "a.png", 30).shape == (3, 240, 320)
    assert read_pixels(tmp_path / "half.jpg", 30).shape == (3, 119, 160)  # 59.5 pixels are not whole


@pytest.mark.parametrize("height", [480, 482])
def test_images_decoded_at_twice_the_size_of_the_input_differ_little(tmp_path, height):
    pixels = np.random.default_rng(0).integers(0, 256, (15, 20, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((640, height), Image.Resampling.BICUBIC)
    image.save(tmp_path / "a.jpg", quality=95)
    full, reduced = (Preprocessing((112, 112)).fit(read_pixels(tmp_path / "a.jpg", size)) for size in (None, 224))
    assert not torch.equal(full, reduced)
    assert (full.float() - reduced.float()).abs().mean() < 1


def test_a_chunk_that_declares_more_than_the_file_has_takes_no_memory(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8), "red").save(path)
    data = bytearray(path.read_bytes())
    start = data.index(b"IDAT")
    data[start - 4 : start] = b"\xff\xff\xff\xf0"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        assert read_image(path)[:, 4, 4].tolist() == [1, 0, 0]
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_pipe_is_refused_before_it_is_opened(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    for read in (read_image, image_size):
        with pytest.raises(DataError, match=r"unreadable image .*a\.jpg: a device or a pipe"):
            read(tmp_path / "a.jpg")
