"""Every form of the same image gives the same values, and wrong values are an error that says what to do."""

from collections import UserDict

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from cka_probe.errors import DataError
from cka_probe.images.conversion import to_example
from cka_probe.images.stream import stream_images

PIXELS = torch.randint(0, 256, (8, 3, 16, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
RGB = PIXELS / 255.0
HWC = PIXELS.permute(0, 2, 3, 1).numpy()


class Items(Dataset):
    def __init__(self, items):
        self.items = list(items)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Endless(IterableDataset):
    def __init__(self, items):
        self.items = list(items)

    def __iter__(self):
        return iter(self.items)


def read(images, **arguments):
    return [image for batch in stream_images(images, **arguments) for image in batch]


def transposed(batch):
    return tuple(zip(*batch, strict=True))


def pil(index, mode="RGB"):
    return Image.fromarray(HWC[index]).convert(mode)


IN_ORDER = {
    "uint8 tensor": lambda: PIXELS,
    "float64 tensor": lambda: RGB.double(),
    "uint8 array": lambda: PIXELS.numpy(),
    "uint8 array, channels last": lambda: HWC,
    "float array, channels last": lambda: HWC.astype(np.float32) / np.float32(255),
    "read-only array": lambda: np.frombuffer(HWC.tobytes(), np.uint8).reshape(HWC.shape),
    "list of arrays": lambda: list(HWC),
    "list of batches of arrays": lambda: [HWC[:5], HWC[5:]],
    "list of tensors": lambda: list(PIXELS),
    "list of PIL images": lambda: [pil(index) for index in range(8)],
    "generator of PIL images": lambda: (pil(index) for index in range(8)),
    "generator of images": lambda: iter(RGB),
    "generator of arrays, channels last": lambda: iter(HWC),
    "iterable dataset": lambda: Endless((pil(index), index) for index in range(8)),
    "loader": lambda: DataLoader(TensorDataset(PIXELS, torch.arange(8)), batch_size=4),
    "loader without batches": lambda: DataLoader(Items(zip(RGB, range(8), strict=True)), batch_size=None),
    "loader of lists": lambda: DataLoader(Items(map(pil, range(8))), batch_size=4, collate_fn=list),
    "loader of tuples of lists": lambda: DataLoader(
        Items((pil(index), index) for index in range(8)), batch_size=4, collate_fn=transposed
    ),
    "loader of lists of tensors": lambda: DataLoader(Items(PIXELS), batch_size=4, collate_fn=list),
    **{
        f"loader of mappings with {name}": lambda name=name: DataLoader(
            Items({"label": 0, name: image} for image in PIXELS), batch_size=4
        )
        for name in ("image", "images", "pixel_values", "img")
    },
    "user mapping": lambda: [UserDict(label=torch.zeros(8), pixel_values=PIXELS)],
    "one mapping": lambda: {"pixel_values": PIXELS},
}


@pytest.mark.parametrize("kind", IN_ORDER)
def test_every_form_gives_the_same_images(kind):
    assert torch.equal(torch.stack(read(IN_ORDER[kind]())), PIXELS)


@pytest.mark.parametrize("form", [PIXELS, HWC, [pil(index) for index in range(8)], [{"img": image} for image in HWC]])
def test_items_of_a_dataset_are_converted(form):
    assert sorted(int(image.sum()) for image in read(Items(form))) == sorted(int(image.sum()) for image in PIXELS)


@pytest.mark.parametrize("mode", ["P", "PA", "RGBA", "CMYK", "L", "LA", "1", "YCbCr"])
def test_every_mode_of_pil(mode):
    image = Image.new("RGB", (16, 12), (255, 0, 51)).convert({"PA": "P"}.get(mode, mode)).convert(mode)
    channels = 1 if mode in ("L", "LA", "1") else 3
    converted = to_example(image)
    assert converted.shape == (channels, 12, 16)
    np.testing.assert_array_equal(converted.permute(1, 2, 0), np.asarray(image.convert("RGB"))[..., :channels])


def test_a_palette_is_its_colours_and_an_exif_orientation_is_applied():
    image = Image.new("RGB", (16, 12), (255, 0, 51)).convert("P", palette=Image.Palette.ADAPTIVE)
    assert to_example(image)[:, 0, 0].tolist() == [255, 0, 51]
    turned = Image.new("RGB", (16, 12))
    turned.getexif()[0x0112] = 6
    assert to_example(turned).shape == (3, 16, 12)


@pytest.mark.parametrize(
    ("shape", "channels_last"),
    [((16, 12, 1), True), ((16, 12, 4), True), ((1, 16, 12), False), ((16, 12), None)],
)
def test_grey_and_alpha_of_arrays(shape, channels_last):
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    expected = array[None] if channels_last is None else np.moveaxis(array, -1, 0)[:3] if channels_last else array
    np.testing.assert_array_equal(to_example(array), expected)
    assert torch.equal(to_example(torch.from_numpy(array)), to_example(array))


@pytest.mark.parametrize(
    "example",
    [
        torch.randn(7),
        torch.randint(0, 9, (7,)),
        torch.randint(0, 9, (7,), dtype=torch.uint8),
        torch.randn(10, 16),
        torch.randn(64, 4, 4),
        torch.randn(16, 16, 3),  # a model of its own layout
        np.random.default_rng(0).normal(size=(64, 4, 4)),
        torch.randn(4, 3, 16, 16),
    ],
    ids=lambda example: f"{example.dtype} {tuple(example.shape)}",
)
def test_what_is_no_image_is_unchanged(example):
    np.testing.assert_array_equal(to_example(example), example)


def test_a_batch_of_three_sequences_is_no_image():
    batches = iter(torch.randn(6, 9, 16).split(3))
    assert [tuple(example.shape) for example in read(batches)] == [(9, 16)] * 6


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (RGB[0] * 255, r"values in \[0, 1\], found 0 to 255; divide them by 255"),
        (RGB[0] * 2 - 1, r"found -1 to 1; undo their normalisation, or pass normalised=True"),
        (RGB[0] * 1.06 - 0.03, r"found -0.03 to 1.03; clamp them"),
        (RGB[0] * torch.nan, "remove NaN and infinite values"),
        (RGB[0].long(), r"expected images as uint8 .* found int64; convert them"),
        (torch.zeros(4, 16, 16, dtype=torch.uint8), r"expected uint8 images .* found shape \(4, 16, 16\)"),
        (HWC[0].astype(np.uint16), "found uint16"),
        (Image.new("I;16", (16, 12)), "expected an 8-bit image, found mode 'I;16'"),
        (Image.new("F", (16, 12)), "expected an 8-bit image, found mode 'F'"),
        ("image.png", "expected images as PIL images, tensors or arrays of numbers, found str"),
    ],
)
def test_wrong_values_are_one_line(example, message):
    with pytest.raises(DataError, match=message) as caught:
        to_example(example)
    assert "\n" not in str(caught.value)


def test_wrong_values_are_not_skipped_as_unreadable():
    with pytest.raises(DataError, match="divide them by 255"):
        read(Items(RGB * 255), skip_bad=True)


def test_normalised_images_stay_as_they_are():
    images = torch.randn(8, 3, 16, 16)
    assert torch.equal(torch.stack(read(images, normalised=True)), images)
    assert torch.equal(torch.stack(read(iter(images), normalised=True)), images)
    for others in (PIXELS, [pil(0)] * 4):
        with pytest.raises(DataError, match="expected images of floats with normalised=True, found"):
            read(others, normalised=True)


def test_tokens_with_padding_need_their_mask():
    ids = torch.randint(0, 9, (8, 5))
    assert torch.equal(torch.stack(read([{"input_ids": ids, "attention_mask": torch.ones_like(ids)}])), ids)
    with pytest.raises(DataError, match="expected token ids without padding"):
        read([{"input_ids": ids, "attention_mask": torch.tril(torch.ones_like(ids))}])
