"""COCO's annotations on disk, of one or two images."""

import json

import numpy as np
from helpers.label_files import HEIGHT, WIDTH, write_image
from PIL import Image

CATEGORIES = [{"id": 90, "name": "toothbrush", "isthing": 1}, {"id": 1, "name": "person", "isthing": 1},
              {"id": 200, "name": "rug", "isthing": 0}]  # fmt: skip
SIZE = {"height": HEIGHT, "width": WIDTH}
RUNS = {"size": [HEIGHT, WIDTH], "counts": [6, 12, 30]}  # columns 1 and 2


def write_json(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def panoptic_root(root):
    """Columns: rug, toothbrush, void, person, person that is a crowd."""
    write_image(root / "val2017" / "000000000009.jpg")
    ids = np.array([70000, 300, 0, 5, 6])
    pixels = ids[np.arange(WIDTH) % 5]
    rgb = np.stack([pixels & 255, pixels >> 8 & 255, pixels >> 16], -1).astype(np.uint8)
    folder = root / "annotations" / "panoptic_val2017"
    folder.mkdir(parents=True)
    Image.fromarray(np.broadcast_to(rgb, (HEIGHT, WIDTH, 3)).copy()).save(folder / "000000000009.png")
    kinds = zip(ids[[0, 1, 3, 4]].tolist(), (200, 90, 1, 1), (0, 0, 0, 1), strict=True)
    segments = [{"id": number, "category_id": kind, "iscrowd": crowd} for number, kind, crowd in kinds]
    annotation = {"image_id": 9, "file_name": "000000000009.png", "segments_info": segments}
    write_json(
        root / "annotations" / "panoptic_val2017.json",
        {
            "images": [{"id": 9, "file_name": "000000000009.jpg", **SIZE}],
            "annotations": [annotation],
            "categories": CATEGORIES,
        },
    )
    return root


def instances_root(root, annotations=None):
    write_image(root / "images" / "train2017" / "000000000009.jpg")
    write_image(root / "images" / "train2017" / "000000000025.jpg")
    things = [
        {"image_id": 9, "category_id": 90, "iscrowd": 0, "segmentation": [[0, 0, 4, 0, 4, 2, 0, 2]]},
        {"image_id": 9, "category_id": 1, "iscrowd": 1, "segmentation": RUNS},
    ]
    write_json(
        root / "annotations" / "instances_train2017.json",
        {
            "images": [{"id": n, "file_name": f"{n:012d}.jpg", **SIZE} for n in (9, 25)],
            "annotations": things if annotations is None else annotations,
            "categories": CATEGORIES[:2],
        },
    )
    return root
