"""Images of x and y in pairs: by name or by order, and never by a guess."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from cka_probe.errors import DataError, UnknownNameError
from cka_probe.images.pairing import stream_pairs
from cka_probe.images.stream import batches


def write(folder, values, suffix=".png"):
    """Write grey images of 8 pixels, whose value is their number, by their path without suffix."""
    for name, value in values.items():
        path = folder / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path)
    return folder


def shown(images, images_y, **options):
    """Return the pairs of the images' numbers, and how they are paired."""
    streams, pairing = stream_pairs(images, images_y, **options)
    value = lambda image, _: round(float(image.float().mean()))  # noqa: E731
    pairs = [pair for xs, ys in batches(streams, value) for pair in zip(xs, ys, strict=True)]
    return pairs, pairing


def tensor(*values):
    return torch.tensor(values)[:, None, None, None].expand(-1, 3, 8, 8) / 255


NAMES = {f"{'ab'[index % 2]}/{index:02d}": index for index in range(10)}


def test_folders_are_paired_by_path_without_suffix_and_the_seed_chooses_pairs(tmp_path):
    x = write(tmp_path / "clean", NAMES)
    y = write(tmp_path / "noisy", {name: 100 + index for name, index in NAMES.items()}, ".bmp")
    pairs, pairing = shown(x, y, num=6, seed=3, batch=4)
    assert pairing == "name"
    assert len(pairs) == 6
    assert all(b == a + 100 for a, b in pairs)
    assert pairs != sorted(pairs)
    assert pairs == shown(x, y, num=8, seed=3)[0][:6]


def test_a_list_of_x_chooses_the_pairs(tmp_path):
    x, y = (write(tmp_path / name, NAMES) for name in "xy")
    (tmp_path / "val.txt").write_text("".join(f"{name}.png\n" for name in list(NAMES)[:5]))
    pairs, pairing = shown(f"folder:{x}?list={tmp_path / 'val.txt'}", y)
    assert (pairing, sorted(pairs)) == ("name", [(index, index) for index in range(5)])
    with pytest.raises(DataError, match="without a partner: a/06"):
        stream_pairs(x, f"folder:{y}?list={tmp_path / 'val.txt'}")


def test_names_that_do_not_agree_are_refused_unless_the_order_is_asked_for(tmp_path):
    x = write(tmp_path / "clean", NAMES)
    y = write(tmp_path / "noisy", {f"{name}_noisy": 100 + index for name, index in NAMES.items()})
    message = (
        r"found 10 in .*clean and 10 in .*noisy; without a partner: a/00, a/02, a/04 and 7 more of .*clean and "
        r"a/00_noisy, .* or pair by order \(--pair order\)"
    )
    with pytest.raises(DataError, match=message):
        stream_pairs(x, y)
    pairs, pairing = shown(x, y, pair="order", num=5)
    assert (pairing, len(pairs)) == ("order", 5)
    assert all(b == a + 100 for a, b in pairs)
    (y / "a" / "00_noisy.png").unlink()
    with pytest.raises(DataError, match=r"as many images of x as of y.*by order, found 10 in .*clean and 9 in .*noisy"):
        stream_pairs(x, y, pair="order")


def test_two_images_of_one_name_cannot_be_paired_by_name(tmp_path):
    x, y = (write(tmp_path / name, NAMES) for name in "xy")
    write(y, {"a/00": 7}, ".jpg")
    with pytest.raises(DataError, match=r"different names in .*y, to pair them by, found a/00 twice"):
        stream_pairs(x, y)


def test_a_pair_with_an_unreadable_image_is_skipped_whole(tmp_path):
    x, y = (write(tmp_path / name, NAMES) for name in "xy")
    (x / "a" / "02.png").write_bytes(b"no image")
    (y / "b" / "05.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="unreadable image"):
        shown(x, y)
    streams, _ = stream_pairs(x, y, skip_bad=True)
    (images,) = batches(streams, lambda image, _: image)
    assert [len(side) for side in images] == [8, 8]
    assert all(torch.equal(a, b) for a, b in zip(*images, strict=True))
    assert [len(stream.skipped) for stream in streams] == [1, 1]


@pytest.mark.parametrize(
    "kinds",
    [
        (lambda t: t, lambda t: t.numpy()),
        (lambda t: t, list),
        (lambda t: iter(t.split(3)), lambda t: t),
        (lambda t: DataLoader(TensorDataset(t), batch_size=4), lambda t: iter(t.split(5))),
    ],
)
def test_what_has_no_names_is_paired_by_order(kinds):
    x, y = (kind(tensor(*range(start, start + 12))) for kind, start in zip(kinds, (0, 100), strict=True))
    pairs, pairing = shown(x, y)
    assert (pairing, pairs) == ("order", [(index, index + 100) for index in range(12)])


def test_a_dataset_and_a_loader_are_read_in_order_and_two_datasets_by_the_seed():
    class Numbers(torch.utils.data.Dataset):
        def __len__(self):
            return 12

        def __getitem__(self, index):
            return tensor(index)[0]

    assert shown(Numbers(), iter(tensor(*range(12)).split(4)), num=6)[0] == [(index, index) for index in range(6)]
    pairs, _ = shown(Numbers(), tensor(*range(12)), num=6, seed=1)
    assert all(a == b for a, b in pairs)
    assert pairs != sorted(pairs)
    assert pairs == shown(tensor(*range(12)), Numbers(), num=6, seed=1)[0]


def test_other_counts_are_refused():
    with pytest.raises(DataError, match=r"found 8 in a tensor and 6 in a tensor; give the same number of both"):
        stream_pairs(tensor(*range(8)), tensor(*range(6)), num=4)
    with pytest.raises(DataError, match=r"as many images of x as of y, found 6 in all and at least 7 of x"):
        shown(iter([tensor(*range(8))]), iter([tensor(*range(6))]))


def test_one_dataset_for_both_is_read_twice_and_one_iterator_refused():
    class Augmented(torch.utils.data.Dataset):
        def __init__(self):
            self.reads = []

        def __len__(self):
            return 4

        def __getitem__(self, index):
            self.reads.append(index)
            return tensor(index)[0]

    data = Augmented()
    assert shown(data, data)[0] == shown(data, tensor(*range(4)))[0]
    assert len(data.reads) == 12
    batches_of_images = iter(tensor(*range(8)).split(4))
    with pytest.raises(DataError, match="expected another iterator for y"):
        stream_pairs(batches_of_images, batches_of_images)


def test_loaders_that_shuffle_are_refused_unless_the_order_is_asked_for():
    data = TensorDataset(tensor(*range(8)))
    loaders = [DataLoader(data, 4, shuffle=True, generator=torch.Generator().manual_seed(0)) for _ in range(2)]
    with pytest.raises(DataError, match=r"found a DataLoader of x that shuffles; use shuffle=False, or pair='order'"):
        stream_pairs(*loaders)
    pairs, _ = shown(*loaders, pair="order")
    assert all(a == b for a, b in pairs)


def test_a_pairing_that_does_not_exist_or_has_no_names():
    with pytest.raises(UnknownNameError, match="no pairing 'names'; did you mean 'name'"):
        stream_pairs(tensor(1, 2, 3, 4), tensor(1, 2, 3, 4), pair="names")
    with pytest.raises(DataError, match="expected names of images to pair them by, found a tensor, which has none"):
        stream_pairs(tensor(1, 2, 3, 4), tensor(1, 2, 3, 4), pair="name")
