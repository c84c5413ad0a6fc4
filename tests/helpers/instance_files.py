"""Small datasets of objects on disk: COCO, Cityscapes and ADE20K."""

import json

import numpy as np
from helpers.label_files import HEIGHT, WIDTH, write_image
from PIL import Image


def coco_objects_root(root):
    """Write two images of 8 x 6 pixels: one with a polygon, run lengths and a crowd, one without objects."""
    for name in ("a", "b"):
        write_image(root / "val2017" / f"{name}.jpg", ord(name))
    rows = [
        {"id": 1, "image_id": 7, "category_id": 18, "bbox": [1.25, 1, 3, 2.5], "iscrowd": 0, "area": 7.5,
         "segmentation": [[1, 1, 4, 1, 4, 4, 1, 4]]},
        {"id": 2, "image_id": 7, "category_id": 1, "bbox": [6, 0, 2, 6], "iscrowd": 0, "area": 12,
         "segmentation": {"size": [HEIGHT, WIDTH], "counts": [36, 12]}},
        {"id": 3, "image_id": 7, "category_id": 18, "bbox": [0, 0, 1, 6], "iscrowd": 1, "area": 6,
         "segmentation": {"size": [HEIGHT, WIDTH], "counts": [0, 6, 42]}},
    ]  # fmt: skip
    images = [
        {"id": 7, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH},
        {"id": 9, "file_name": "b.jpg", "height": HEIGHT, "width": WIDTH},
    ]
    categories = [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}]
    path = root / "annotations" / "instances_val2017.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))
    return root


def cityscapes_objects_root(root):
    """Write an image of 8 x 6 pixels with two cars, a group of people and a road."""
    numbers = np.full((HEIGHT, WIDTH), 7)
    numbers[1:3, 0:2], numbers[3:5, 2:6], numbers[:, 7] = 26000, 26001, 24
    name = "train/aachen/aachen_000000_000019"
    write_image(root / "leftImg8bit" / f"{name}_leftImg8bit.png")
    path = root / "gtFine" / f"{name}_gtFine_instanceIds.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numbers.astype(np.uint16)).save(path)
    return root


def ade_objects_root(root):
    """Write an image of 8 x 6 pixels with two objects of class 3, one of class 100 and other pixels."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[0:2, 0:3, :2], pixels[4:6, 0:3, :2], pixels[:, 6:, :2] = (3, 1), (3, 2), (100, 3)
    write_image(root / "images/validation/ADE_val_00000001.jpg")
    path = root / "annotations_instance/validation/ADE_val_00000001.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return root
