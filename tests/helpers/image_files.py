"""Small datasets of images on disk: ImageNet, and LSUN as databases or files."""

import hashlib
import io
from pathlib import Path

import lmdb
import numpy as np
from PIL import Image

COUNTS = {"bedroom": 12, "dining_room": 9, "kitchen": 10}


def encoded(seed, kind="PNG"):
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return stream.getvalue()


def write(path, seed=0, kind="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(seed, kind))


def key_of(category, number):
    return hashlib.sha1(f"{category}{number}".encode()).hexdigest()


def imagenet_root(root):
    for split, counts in {"train": {"n01": 3, "n02": 2, "n03": 1}, "val": {"n01": 1, "n03": 2}}.items():
        for wnid, count in counts.items():
            for number in range(count):
                write(root / split / wnid / f"{split}_{number}.JPEG", number, "JPEG")
    return root


def lsun_root(root, kinds=("JPEG", "WEBP", "PNG")):
    for category, count in COUNTS.items():
        folder = root / f"{category}_train_lmdb"
        folder.mkdir(parents=True)
        with lmdb.open(str(folder), map_size=1 << 22) as database, database.begin(write=True) as writing:
            for number in range(count):
                writing.put(key_of(category, number).encode(), encoded(number, kinds[number % len(kinds)]))
    return root


def exported_root(root, split="_train"):
    for category, count in COUNTS.items():
        for number in range(count):
            key = key_of(category, number)
            write(
                root / f"{category}{split}" / Path(*key[:6]) / f"{key}.webp",
                number,
                ("JPEG", "WEBP", "PNG")[number % 3],
            )
    return root
