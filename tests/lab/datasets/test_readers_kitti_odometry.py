"""Reader of KITTI odometry, on small sequences in the true format."""

import numpy as np
import pytest
import torch
from helpers.dataset_files import check_refused
from PIL import Image

from cka_probe.images.datasets import open_dataset

HEIGHT, WIDTH = 6, 9
OFFSETS = {0: 0.0, 1: -0.54, 2: 0.06, 3: -0.48}


def numbers(matrix):
    return " ".join(f"{number:.9e}" for number in np.asarray(matrix).ravel())


def world_T_grey(number):
    """The grey camera: a metre forward each frame, turning left by 0.1 rad."""
    c, s = np.cos(0.1 * number), np.sin(0.1 * number)
    return np.array([[c, 0, -s, 0], [0, 1, 0, 0], [s, 0, c, number]])


def sequence(root, name="00", count=4, poses=True):
    folder = root / "sequences" / name
    for camera in OFFSETS:
        for number in range(count):
            path = folder / f"image_{camera}" / f"{number:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = Image.new("L", (WIDTH, HEIGHT), 50 * camera + number)
            image.convert("L" if camera < 2 else "RGB").save(path)
    K = np.array([[10, 0, 4], [0, 10, 2.5], [0, 0, 1]])
    lines = [f"P{camera}: {numbers(K @ np.column_stack([np.eye(3), (x, 0, 0)]))}" for camera, x in OFFSETS.items()]
    lines.append("Tr: " + numbers([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]]))
    (folder / "calib.txt").write_text("\n".join(lines) + "\n")
    (folder / "times.txt").write_text("\n".join(f"{number / 10:e}" for number in range(count)))
    if poses:
        (root / "poses").mkdir(exist_ok=True)
        (root / "poses" / f"{name}.txt").write_text("\n".join(numbers(world_T_grey(n)) for n in range(count)))
    return folder


def test_the_colour_camera_stands_beside_the_grey_one_the_poses_are_of(tmp_path):
    sequence(tmp_path)
    colour, grey = (open_dataset(f"kitti_odometry:{tmp_path}?colour={c}&sources=1,s") for c in ("true", "false"))
    assert colour.describe(0) == "sequences/00/image_2/000000.png"
    assert grey.describe(0) == "sequences/00/image_0/000000.png"
    torch.testing.assert_close(grey[2]["world_T_target"][:3], torch.tensor(world_T_grey(2)).float())
    centre = torch.tensor(world_T_grey(2) @ [-0.06, 0, 0, 1]).float()  # camera 2 stands 6 cm to the left
    torch.testing.assert_close(colour[2]["world_T_target"][:3, 3], centre)
    for dataset, baseline in ((colour, 0.54), (grey, 0.54)):
        assert dataset[0]["source_T_target"][1, :3, 3].tolist() == pytest.approx([-baseline, 0, 0], abs=1e-6)
        assert dataset[0]["source_T_target"][0, 2, 3] == pytest.approx(-1, abs=0.02)  # and a little of the turn
    assert colour[0]["sources"].mean((1, 2, 3)).mul(255).round().tolist() == [101, 150]
    assert colour[0]["K"][0].tolist() == [10, 0, 4]


def test_scans_are_depth_and_sequences_without_poses_are_read(tmp_path):
    folder = sequence(tmp_path / "dataset", "11", poses=False)
    (folder / "velodyne").mkdir()
    for number in range(4):
        points = np.array([[5, 0.06, 0, 0.5], [7, 0.06, 0, 0.5]], "<f4")  # straight ahead of camera 2
        (folder / "velodyne" / f"{number:06d}.bin").write_bytes(points.tobytes())
    dataset = open_dataset(f"kitti_odometry:{tmp_path}")
    assert dataset.gives == {"image", "K", "depth"}
    depth = dataset[0]["depth"][0]
    assert depth.count_nonzero() == 1
    assert depth[2, 4] == 5  # the principal point, (4, 2.5), rounds to the even row


def test_splits_are_sequences(tmp_path):
    for name in ("08", "09", "11"):
        sequence(tmp_path, name, count=3, poses=name != "11")
    names = {split: len(open_dataset(f"kitti_odometry:{tmp_path}:{split}")) for split in ("train", "test", "all")}
    assert names == {"train": 3, "test": 3, "all": 9}
    one = open_dataset(f"kitti_odometry:{tmp_path}?sequence=09")
    assert one.describe(0).startswith("sequences/09/")
    assert "world_T_target" in one.gives
    assert "world_T_target" not in open_dataset(f"kitti_odometry:{tmp_path}").gives
    check_refused(f"kitti_odometry:{tmp_path}?sequence=05", r"expected sequence 05 as .*, found 08, 09, 11")
    check_refused(f"kitti_odometry:{tmp_path}?split=train&sequence=09", r"expected sequence 09")


def test_a_missing_image_cuts_the_video_and_keeps_the_poses(tmp_path):
    folder = sequence(tmp_path, count=6)
    (folder / "image_2" / "000002.png").unlink()
    dataset = open_dataset(f"kitti_odometry:{tmp_path}?sources=1")
    assert [int(dataset.describe(i)[-10:-4]) for i in range(len(dataset))] == [0, 3, 4]
    torch.testing.assert_close(dataset[1]["world_T_target"][:3, :3], torch.tensor(world_T_grey(3)[:, :3]).float())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: (r / "poses/00.txt").write_text(numbers(world_T_grey(0))), r"00.txt: expected 4 poses, .*found 1"),
        (lambda r: (r / "poses/00.txt").write_text("1 2 3\n" * 4), r"00.txt, line 1: expected 12 or 16 numbers"),
        (lambda r: (r / "sequences/00/calib.txt").write_text("P0: 1"), r"calib.txt: expected a line 'P2:' with 12"),
        (
            lambda r: (r / "sequences/00/calib.txt").write_text("P2: 1"),
            r"line 1: expected 12 numbers \(P2\)",
        ),
        (lambda r: (r / "sequences/00/calib.txt").write_text(f"P2: {'0 ' * 12}"), r"rectified camera"),
        (lambda r: [p.unlink() for p in (r / "sequences/00/image_2").iterdir()], r"no images in .*image_2: fetch"),
        (lambda r: (r / "sequences/00/image_3/000001.png").unlink(), r"no partner of .*000001.png in image_3"),
        (lambda r: (r / "sequences/00/image_2/000001.png").write_bytes(b"\x89PNG"), r"unreadable image .*000001.png"),
        (lambda r: (r / "sequences/00/calib.txt").unlink(), r"expected sequences of 'all' as sequences/NN/calib.txt"),
    ],
)
def test_what_is_wrong_with_kitti_odometry_is_said(tmp_path, spoil, message):
    sequence(tmp_path)
    spoil(tmp_path)
    check_refused(f"kitti_odometry:{tmp_path}?sources=s", message)
