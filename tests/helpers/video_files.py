"""Small videos on disk: SC-Depth's folders, frames with what lies next to them, TUM RGB-D."""

import json

import numpy as np
from PIL import Image

from cka_probe.lab.datasets.numbers import pose_from_quaternion

HEIGHT, WIDTH = 6, 8
CAMERA = {"width": 16, "height": 12, "fx": 18, "fy": 16, "cx": 7.5, "cy": 5.5}
K = np.array([[9.0, 0, 3.5], [0, 8.0, 2.5], [0, 0, 1]])


def write_image(path, grey, size=(HEIGHT, WIDTH)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), grey, np.uint8)).save(path)


def write_steps(path, value, size=(HEIGHT, WIDTH)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint16)).save(path)


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def along_x(*places, columns=16):
    """Lines of poses that stand at x, turned by a little about the vertical."""
    lines = []
    for x in places:
        pose = pose_from_quaternion(np.array([x, 0, 0]), np.array([0, np.sin(0.01 * x), 0, np.cos(0.01 * x)]))
        lines.append(" ".join(f"{number:.9f}" for number in pose.ravel()[:columns]))
    return "\n".join(lines)


def sc_scene(folder, count, suffix="jpg"):
    for number in range(count):
        write_image(folder / f"{number:06d}.{suffix}", 10 * number)
        write_steps(folder / "depth" / f"{number:06d}.png", 5000 + 500 * number)
        write_steps(folder / "leres_depth" / f"{number:06d}.png", 60000 - number)
    write_text(folder / "cam.txt", "9 0 3.5\n0 8 2.5\n0 0 1")
    write_text(folder / "poses.txt", along_x(*range(count)))


def sc_root(root):
    for name, count in (("bathroom_0001", 3), ("kitchen_0002b", 4)):
        sc_scene(root / "training" / name, count)
    sc_scene(root / "training" / "office_0003", 3, suffix="png")
    write_text(root / "training" / "train.txt", "bathroom_0001\nkitchen_0002b")  # the last line has no end
    write_text(root / "training" / "Val.txt", "office_0003\n")
    for number in range(2):
        write_image(root / "testing" / "color" / f"{number:04d}.png", 99)
        write_steps(root / "testing" / "depth" / f"{number:04d}.png", 7500)
    return root


def posed(root, names=range(8, 12), images="images", depth="depth_mm"):
    """Frames 8, 9, 10, 11, whose names sort otherwise as text; each stands half a metre further along x."""
    for number in names:
        write_image(root / images / f"{number}.png", 10 * number)
        write_steps(root / depth / f"{number}.png", 1000 + number)
    lines = [f"1 0 0 {0.5 * number} 0 1 0 0 0 0 1 0" for number in names]
    (root / "poses.txt").write_text("\n".join(lines))
    (root / "intrinsics.json").write_text(json.dumps(CAMERA))
    return root


def stereo(root):
    for number in range(3):
        write_image(root / "left" / f"{number:06d}.png", 10 * number)
        write_image(root / "right" / f"{number:06d}.png", 100 + number)
    (root / "intrinsics.json").write_text(json.dumps(CAMERA | {"baseline_m": 0.25}))
    return root


def tum(root, name="rgbd_dataset_freiburg2_desk"):
    """Six images at 30 Hz; depth 5 ms late, none for the fourth; poses at 100 Hz from the first to the fifth."""
    folder = root / name
    colour, depth = ["# color images", "# timestamp filename"], []
    for number in range(6):
        time = 1311868164.0 + number / 30
        write_image(folder / "rgb" / f"{time:.6f}.png", 10 * number)
        colour.append(f"{time:.6f} rgb/{time:.6f}.png")
        if number != 3:
            write_steps(folder / "depth" / f"{time + 0.005:.6f}.png", 5000 + 500 * number)
            depth.append(f"{time + 0.005:.6f} depth/{time + 0.005:.6f}.png")
    times = [1311868164.0 + step / 100 for step in range(14)]
    half = np.sqrt(0.5)
    poses = [f"{time:.4f} {time - times[0]:.4f} 1 2 {half} 0 0 {half}" for time in times]
    for file, lines in (("rgb.txt", colour), ("depth.txt", depth[::-1]), ("groundtruth.txt", poses)):
        (folder / file).write_text("\n".join(lines))
    return folder
