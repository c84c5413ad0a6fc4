"""Small datasets of streets on disk: KITTI 2015 with flow, Cityscapes with stereo."""

import json
import struct
import zlib

import numpy as np
from helpers.label_files import write_image, write_labels

HEIGHT, WIDTH = 6, 8


def write_png16(path, numbers):
    """Write a PNG of three channels of 16 bits, which Pillow cannot, its lines filtered in turn by None, Sub and Up."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = numbers.shape[:2]

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    lines = numbers.astype(">u2").view(np.uint8).reshape(height, width * 6)
    above = np.vstack([np.zeros_like(lines[:1]), lines[:-1]])
    left = np.hstack([np.zeros_like(lines[:, :6]), lines[:, :-6]])
    lines = b"".join(bytes([y % 3]) + (lines[y] - [0 * left, left, above][y % 3][y]).tobytes() for y in range(height))
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def write_flow(path, flow, known):
    numbers = np.concatenate([np.round(flow * 64) + 2**15, known[..., None]], -1)
    write_png16(path, np.where(known[..., None], numbers, 0).astype(np.uint16))


def kitti_root(root, count=5, testing=2):
    for number in range(count):
        name, base = f"{number:06d}_10.png", root / "training"
        write_image(base / "image_2" / name, number)
        write_image(base / "image_2" / f"{number:06d}_11.png", number + 100)
        write_image(base / "image_3" / name, number + 200)
        write_labels(base / "semantic" / name, [7, 26, 11, 255, 4])
        write_labels(base / "instance" / name, [7 * 256, 26 * 256 + 1, 26 * 256 + 2], "I;16")
        flow = np.random.default_rng(number).integers(-3000, 3000, (HEIGHT, WIDTH, 2)) / 64
        known = np.resize([1, 1, 0], (HEIGHT, WIDTH)).astype(bool)
        write_flow(base / "flow_occ" / name, flow, known)
        write_flow(base / "flow_noc" / name, flow, known & np.resize([1, 0, 0], (HEIGHT, WIDTH)).astype(bool))
        path = base / "calib_cam_to_cam" / f"{number:06d}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            "calib_time: 09-Jan-2012 14:00:15\nS_rect_02: 8 6\nR_rect_00: 1 0 0 0 1 0 0 0 1\n"
            "P_rect_02: 10 0 4 0.6 0 10 3 0 0 0 1 0\nS_rect_03: 8 6\nP_rect_03: 10 0 4 -4.8 0 10 3 0 0 0 1 0"
        )
    for number in range(testing):
        write_image(root / "testing" / "image_2" / f"{number:06d}_10.png", number)
    return root


def cityscapes_root(root):
    for split, city, number in (("train", "aachen", 19), ("train", "aachen", 20), ("val", "ulm", 19)):
        name = f"{split}/{city}/{city}_000000_{number:06d}"
        write_image(root / "leftImg8bit" / f"{name}_leftImg8bit.png", number)
        write_image(root / "rightImg8bit" / f"{name}_rightImg8bit.png", number + 100)
        write_labels(root / "gtFine" / f"{name}_gtFine_labelIds.png", [7, 26, 0, 33])
        write_labels(root / "gtFine" / f"{name}_gtFine_instanceIds.png", [7, 26000, 0, 33001], "I;16")
        write_labels(root / "disparity" / f"{name}_disparity.png", [0, 1, 257, 641], "I;16")
        path = root / "camera" / f"{name}_camera.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        inside = {"fx": 20.0, "fy": 20.0, "u0": 4.1, "v0": 2.9}
        path.write_text(json.dumps({"extrinsic": {"baseline": 0.25}, "intrinsic": inside}))
    return root
