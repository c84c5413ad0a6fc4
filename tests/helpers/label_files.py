"""Small datasets with labels on disk: VOC, ADE20K, COCO and CamVid."""

import json

import numpy as np
from PIL import Image

from cka_probe.images.classes import VOC21

HEIGHT, WIDTH = 6, 8


def write_image(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)).save(path)


def write_labels(path, numbers, kind="L", width=WIDTH):
    """Write labels that go through the numbers in turn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.resize(np.array(numbers), (HEIGHT, width))
    file = Image.fromarray(pixels.astype(np.uint16 if kind == "I;16" else np.uint8))
    if kind == "P":
        file = file.convert("L")
        file.putpalette([value for colour in VOC21.colours for value in colour])
    file.save(path)
    return pixels


def drop(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def voc_root(root, form="{}"):
    base = root / "VOCdevkit" / "VOC2012"
    names = {
        "train": ["2007_000032", "2007_000039"],
        "val": ["2007_000033"],
        "train_aug": ["2007_000032", "2008_000002"],
    }
    for name in sorted({name for listed in names.values() for name in listed}):
        write_image(base / "JPEGImages" / f"{name}.jpg", int(name[-2:]))
        folder = "SegmentationClassAug" if name.startswith("2008") else "SegmentationClass"
        write_labels(base / folder / f"{name}.png", [0, 1, 15, 20, 255], "P")
        if folder == "SegmentationClass":
            write_labels(base / "SegmentationObject" / f"{name}.png", [0, 1, 2, 3, 255], "P")
    write_labels(base / "SegmentationClassAug" / "2007_000032.png", [0, 2, 255])
    for name, listed in names.items():
        path = base / "ImageSets" / "Segmentation" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(form.format(line) for line in listed))  # the last line has no end
    return root


def ade_root(root):
    for part, name, count in (("training", "train", 2), ("validation", "val", 1)):
        for number in range(count):
            stem = f"{part}/ADE_{name}_{number + 1:08d}"
            write_image(root / "ADEChallengeData2016" / "images" / f"{stem}.jpg", number)
            write_labels(root / "ADEChallengeData2016" / "annotations" / f"{stem}.png", [0, 1, 150])
    return root


def masks_root(root):
    for number in range(3):
        write_image(root / "images" / f"{number}.jpg", number)
        write_labels(root / "masks" / f"{number}.png", [0, 2, 13, 90])
    (root / "classes.json").write_text(json.dumps({"13": "stop sign", "0": "unlabeled", "2": "bicycle", "90": "brush"}))
    return root


def stuff_root(root):
    for part in ("train2017", "val2017"):
        write_image(root / "images" / part / "000000000009.jpg")
        write_labels(root / "stuffthingmaps" / part / "000000000009.png", [0, 12, 89, 91, 181, 255])
    return root


def segnet_root(root):
    for part, names in {
        "train": ["0001TP_006690", "0001TP_006720", "0001TP_006780"],
        "test": ["0001TP_008550"],
    }.items():
        for number, name in enumerate(names):
            write_image(root / part / f"{name}.png", number)
            write_labels(root / f"{part}annot" / f"{name}.png", [0, 5, 10, 11])
    lines = [
        f"/SegNet/CamVid/train/0001TP_{n}.png /SegNet/CamVid/trainannot/0001TP_{n}.png" for n in ("006690", "006720")
    ]
    (root / "train.txt").write_text("\n".join(lines))
    return root


def drawn_root(root):
    colours = {"Animal": (64, 128, 64), "Car": (64, 0, 128), "Void": (0, 0, 0)}
    for name in ("0006R0_f00930", "0016E5_00390"):
        write_image(root / "701_StillsRaw_full" / f"{name}.png")
        path = root / "LabeledApproved_full" / f"{name}_L.png"
        path.parent.mkdir(exist_ok=True)
        pixels = np.array(list(colours.values()), np.uint8)[np.resize([0, 1, 2], (HEIGHT, WIDTH))]
        Image.fromarray(pixels).save(path)
    text = "".join(f"{r} {g} {b}\t{name}\n" for name, (r, g, b) in colours.items())
    (root / "label_colors.txt").write_text(text)
    return root


VOC = "VOCdevkit/VOC2012"
