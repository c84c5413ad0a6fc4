"""Images as a stream: all of them, once, in one order, in batches that can be centred."""

from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from cka_probe import Backbone, compare
from cka_probe.comparison.warnings import warnings_for
from cka_probe.errors import DataError
from cka_probe.images.stream import FEWEST, image_hash, stream_images


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=9), batch=st.one_of(st.none(), st.integers(4, 12)))
def test_every_image_comes_once_in_order_in_batches_of_at_least_four(sizes, batch):
    total = sum(sizes)
    rows = torch.arange(float(total))[:, None]
    stream = stream_images(iter(rows.split(sizes)), batch=batch)
    if total < FEWEST:
        with pytest.raises(DataError, match=f"at least 4 images, found {total}"):
            list(stream)
        return
    batches = [torch.stack(group).flatten() for group in stream]
    assert torch.equal(torch.cat(batches), rows.flatten())
    wanted = batch or max(FEWEST, sizes[0])
    assert all(len(group) == wanted for group in batches[:-1])
    assert FEWEST <= len(batches[-1]) < wanted + FEWEST


@pytest.fixture
def folder(tmp_path):
    for index in range(10):
        Image.fromarray(np.full((5, 7, 3), 20 * index, np.uint8)).save(tmp_path / f"{index}.png")
    return tmp_path


def greys(images, **arguments):
    return [round(float(p.float().mean() / 20)) for batch in stream_images(images, **arguments) for p in batch]


def test_a_folder_is_read_in_a_seeded_order(folder):
    assert sorted(greys(folder)) == list(range(10))
    assert greys(folder) == greys(str(folder)) == greys(folder, seed=0) != greys(folder, seed=1)
    assert greys(folder, num=6) == greys(folder)[:6]
    assert stream_images(folder, num=6).total == 6


def test_bad_images_stop_the_stream_or_are_listed(folder):
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DataError, match=r"unreadable image .*broken\.png: .*--skip-bad"):
        list(stream_images(folder))
    stream = stream_images(folder, skip_bad=True)
    assert sum(len(batch) for batch in stream) == 10
    assert len(stream.skipped) == 1


def test_files_that_are_no_images_are_counted_and_named(folder):
    assert stream_images(folder).unread == ""
    for name in ("a.heic", "b.HEIC", "notes.txt", ".hidden", "c"):
        (folder / name).write_bytes(b"")
    sentence = f"4 files below {folder} not read, by the ending no images: 2 .heic (a.heic …), 1 .txt (notes.txt), "
    assert stream_images(folder).unread == sentence + "1 without an ending (c)"
    net = torch.nn.Sequential(torch.nn.Flatten())
    result = compare(Backbone(net, size=4), Backbone(net, size=5), folder, layers=["0"])
    assert any(f"In x and y: {sentence}" in warning for warning in warnings_for(result))


def test_files_in_linked_folders_are_counted(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "notes.txt").write_bytes(b"")
    (folder / "linked").symlink_to(elsewhere)
    assert stream_images(folder).unread.endswith("no images: 1 .txt (linked/notes.txt)")


def test_datasets_of_pil_images_become_uint8():
    class Pil:
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return Image.new("RGB", (3, 3), (255, 0, 51)), index

    for batch in stream_images(Pil()):
        assert [p[:, 0, 0].tolist() for p in batch] == [[255, 0, 51]] * 4


def test_num_takes_the_first_of_an_iterable_and_no_more():
    def endless():
        while True:
            yield torch.zeros(5, 2)

    assert [len(batch) for batch in stream_images(endless(), num=12)] == [5, 7]


def test_hashes_tell_values_shapes_and_dtypes_apart():
    zeros = torch.zeros(3, 4, 4)
    others = [torch.zeros(3, 2, 8), zeros + 1e-5, zeros + 2e-5, zeros.int()]
    assert image_hash(zeros) == image_hash(zeros.half()) == image_hash(zeros.byte())
    assert len({image_hash(p) for p in [zeros, *others]}) == 5


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([{"label": torch.zeros(4)}], r"expected one of 'image', .* in a mapping, found label"),
        (7, "expected a folder, dataset, tensor or batches of images, found int"),
        ("nowhere", "expected a folder of images at nowhere"),
    ],
)
def test_what_gives_no_images(images, message):
    with pytest.raises(DataError, match=message):
        list(stream_images(images))


@pytest.mark.parametrize("workers", [0, 3])
def test_an_iterable_may_yield_one_buffer_again_and_again(workers):
    def arrays():
        buffer = np.empty((8, 8, 3), np.uint8)
        for index in range(9):
            buffer[:] = 20 * index
            yield buffer

    def frames():
        images = [Image.new("L", (8, 8), 20 * index) for index in range(9)]
        file = BytesIO()
        images[0].save(file, "TIFF", save_all=True, append_images=images[1:])
        yield from ImageSequence.Iterator(Image.open(file))

    for images in (arrays(), frames()):
        assert greys(images, workers=workers) == list(range(9))
