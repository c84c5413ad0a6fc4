"""Readers of KITTI raw and KITTI odometry, on small drives in the true format."""

import numpy as np
import pytest
import torch
from helpers.dataset_files import check_refused
from PIL import Image

from cka_probe.errors import DataError, UnknownNameError
from cka_probe.images.datasets import open_dataset
from cka_probe.lab.datasets.kitti import camera_pose, scan_depth

HEIGHT, WIDTH = 10, 16
FX = 20.0
T2, T3 = 0.06, -0.47
DATE = "2011_09_26"
DRIVE = f"{DATE}/{DATE}_drive_0001_sync"
SCANNER = np.array([[0.0, -1, 0, 0], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1]])  # to camera 0: x = -y, …


def turned(angle):
    """A small turn about x: rectification."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1.0]])


RECT = turned(0.02)
IMU = np.eye(4)  # to the scanner
IMU[:3, 3] = [-0.81, 0.32, -0.8]


def text(matrix):
    return " ".join(f"{number:.12e}" for number in np.asarray(matrix).ravel())


def projection(offset):
    K = np.array([[FX, 0, 7.5], [0, FX, 4.5], [0, 0, 1]])
    return K @ np.column_stack([np.eye(3), (offset, 0.001, 0.002)])


def write_image(path, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), grey, np.uint8)).save(path)


def write_text(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))


def write_improved(path, steps):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((HEIGHT, WIDTH), steps, np.uint16)).save(path)


def write_scan(path, points, camera_T_scanner):
    """Write points (n, 3), given in a camera's axes, as its scanner would have them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    there = np.column_stack([points, np.ones(len(points))]) @ np.linalg.inv(camera_T_scanner).T
    there[:, 3] = 0.5
    path.write_bytes(there.astype("<f4").tobytes())


def shift(offset):
    motion = np.eye(4)
    motion[:3, 3] = (offset, 0.001, 0.002)
    return motion


LEFT_T_SCANNER = shift(T2) @ RECT @ SCANNER


def point_at(pixel, depth):
    """The point of the left camera at a pixel (across, down) and a depth."""
    return np.array([(pixel[0] - 7.5) / FX * depth, (pixel[1] - 4.5) / FX * depth, depth])


def kitti_root(root, count=5):
    day = root / DATE
    cameras = [f"P_rect_02: {text(projection(T2))}", f"P_rect_03: {text(projection(T3))}"]
    sizes = [f"S_rect_0{camera}: {WIDTH:e} {HEIGHT:e}" for camera in (2, 3)]
    write_text(day / "calib_cam_to_cam.txt", "calib_time: 09-Jan-2012 13:57:47", f"R_rect_00: {text(RECT[:3, :3])}",
               *sizes, *cameras)  # fmt: skip
    for name, motion in (("velo_to_cam", SCANNER), ("imu_to_velo", IMU)):
        write_text(day / f"calib_{name}.txt", "calib_time: 25-May-2012 16:47:16", f"R: {text(motion[:3, :3])}",
                   f"T: {text(motion[:3, 3])}")  # fmt: skip
    for number in range(count):
        write_image(root / DRIVE / f"image_02/data/{number:010d}.png", 10 * number)
        write_image(root / DRIVE / f"image_03/data/{number:010d}.png", 100 + number)
        points = [point_at((3, 2), 10 + number), point_at((3, 2), 30), point_at((15, 9), 8), point_at((3, 2), -5)]
        write_scan(root / DRIVE / f"velodyne_points/data/{number:010d}.bin", np.array(points), LEFT_T_SCANNER)
        ahead = number / (6378137 * np.cos(np.radians(49)) / 180 * np.pi)  # a metre east each frame: yaw 0 is east
        write_text(root / DRIVE / f"oxts/data/{number:010d}.txt", f"49 {8.4 + ahead:.15f} 110 0 0 0 " + "0 " * 24)
    return root


def test_a_drive_is_a_video_in_stereo_with_depth_and_poses(tmp_path):
    dataset = open_dataset(f"kitti:{kitti_root(tmp_path)}?sources=-1,1,s")
    assert [dataset.describe(i)[-23:] for i in range(len(dataset))] == [f"_02/data/{n:010d}.png" for n in (1, 2, 3)]
    assert dataset.describe(0).startswith(f"{DRIVE}/image_02/data/")
    sample = dataset[1]
    assert set(sample) == {"image", "depth", "K", "world_T_target", "sources", "source_T_target"}
    torch.testing.assert_close(sample["K"], torch.tensor([[20, 0, 7.5], [0, 20, 4.5], [0, 0, 1]]))
    assert sample["sources"].mean((1, 2, 3)).mul(255).round().tolist() == [10, 30, 102]
    past, future, partner = sample["source_T_target"]
    assert past[2, 3] == pytest.approx(1, abs=1e-3)  # the car has moved on: what is here was a metre further then
    assert future[2, 3] == pytest.approx(-1, abs=1e-3)
    assert partner[:3, 3].tolist() == pytest.approx([T3 - T2, 0, 0], abs=1e-6)
    torch.testing.assert_close(partner[:3, :3], torch.eye(3))


def test_the_right_camera_has_the_left_one_on_its_left(tmp_path):
    sample = open_dataset(f"kitti:{kitti_root(tmp_path)}?sources=s&camera=right")[0]
    assert sample["image"].mean().mul(255).round() == 100
    assert sample["source_T_target"][0, 0, 3] == pytest.approx(T2 - T3, abs=1e-6)


def test_the_nearest_point_of_a_scan_is_the_depth_of_its_whole_pixel(tmp_path):
    depth = open_dataset(f"kitti:{kitti_root(tmp_path)}?depth=lidar")[2]["depth"]
    assert depth[0].nonzero().tolist() == [[2, 3], [9, 15]]
    assert depth[0, 2, 3] == pytest.approx(12, abs=1e-4)  # and not 30 behind it, nor -5
    assert depth[0, 9, 15] == pytest.approx(8, abs=1e-4)
    right = open_dataset(f"kitti:{tmp_path}?depth=lidar&camera=right")[2]["depth"]
    assert right[0, 2, 2] == pytest.approx(12, abs=1e-4)  # 20 · 0.53 / 12 = 0.9 pixels to the left


@pytest.mark.parametrize("offset", [-0.49, 0.49])
def test_a_point_belongs_to_the_pixel_whose_centre_is_nearest(tmp_path, offset):
    write_image(tmp_path / "0.png", 0)
    write_scan(tmp_path / "0.bin", np.array([point_at((5 + offset, 4 - offset), 9.0)]), np.eye(4))
    camera = {"fx": FX, "fy": FX, "cx": 7.5, "cy": 4.5}
    assert scan_depth(tmp_path / "0.bin", np.eye(4), camera, tmp_path / "0.png")[0].nonzero().tolist() == [[4, 5]]


@pytest.mark.parametrize("place", [DRIVE, "val/" + DRIVE[11:], "data_depth_annotated/train/" + DRIVE[11:]])
def test_improved_depth_goes_before_the_scan_wherever_it_lies(tmp_path, place):
    root = kitti_root(tmp_path)
    for number in (2, 3):
        write_improved(root / place / f"proj_depth/groundtruth/image_02/{number:010d}.png", 256 * number)
    assert [sample["depth"].max().item() for sample in open_dataset(f"kitti:{root}")] == pytest.approx(
        [10, 11, 2, 3, 14], abs=1e-4
    )
    improved = open_dataset(f"kitti:{root}?depth=improved&sources=-1,1")
    assert [improved.describe(i)[-14:] for i in range(len(improved))] == ["0000000002.png", "0000000003.png"]
    assert "depth" not in open_dataset(f"kitti:{root}?depth=none").gives
    assert open_dataset(f"kitti:{root}?depth=lidar")[2]["depth"].max() == pytest.approx(12, abs=1e-4)


def test_a_missing_scan_is_nothing_measured_and_a_missing_image_cuts_the_video(tmp_path):
    root = kitti_root(tmp_path, 8)
    (root / DRIVE / "velodyne_points/data/0000000001.bin").unlink()
    assert [bool(sample["depth"].any()) for sample in open_dataset(f"kitti:{root}")] == [True, False, *[True] * 6]
    assert len(open_dataset(f"kitti:{root}?depth=lidar")) == 7
    (root / DRIVE / "image_02/data/0000000004.png").unlink()
    dataset = open_dataset(f"kitti:{root}?sources=-1,1")
    assert [int(dataset.describe(i)[-6:-4]) for i in range(len(dataset))] == [1, 2, 6]


def test_a_list_names_targets_and_sides(tmp_path):
    root = kitti_root(tmp_path)
    write_text(root / "splits" / "val_files.txt", f"{DRIVE} 3 l", f"{DRIVE} 0000000001 r", f"{DRIVE} 0 l")
    val = open_dataset(f"kitti:{root}:val")
    assert [val.describe(i)[len(DRIVE) :] for i in range(len(val))] == [
        "/image_02/data/0000000000.png", "/image_02/data/0000000003.png", "/image_03/data/0000000001.png",
    ]  # fmt: skip
    video = open_dataset(f"kitti:{root}?split=val&sources=-1,1,s")
    assert [video[i]["sources"].mean((1, 2, 3)).mul(255).round().tolist() for i in range(len(video))] == [
        [20, 40, 103], [100, 102, 10],
    ]  # fmt: skip
    assert video[1]["source_T_target"][2, 0, 3] == pytest.approx(T2 - T3, abs=1e-6)
    write_text(tmp_path / "mine.txt", f"{DRIVE} 2")
    for path in ("mine.txt", tmp_path / "mine.txt"):
        assert len(open_dataset(f"kitti:{root}?list={path}")) == 1
    assert open_dataset(f"kitti:{root}?list=mine.txt&camera=right").describe(0)[len(DRIVE) :][:10] == "/image_03/"


IMAGE = f"{DRIVE}/image_02/data/0000000003"


@pytest.mark.parametrize(
    "line",
    [
        f"{DRIVE} 3 l",  # Monodepth2
        f"{DRIVE} 0000000003",
        f"{IMAGE}.png {DRIVE.split('/')[1]}/proj_depth/groundtruth/image_02/0000000003.png 721.5377",  # BTS
        f"{IMAGE}.png None 721.5377",
        f"{IMAGE}.jpg {IMAGE.replace('image_02', 'image_03')}.jpg",  # Monodepth, whose images are JPEGs
        f"{IMAGE}.png",  # SfMLearner's test files
        f"{DRIVE.split('/')[1]}_02 0000000003",  # and its other lists
    ],
)
def test_lists_of_peers_name_the_same_frame(tmp_path, line):
    root = kitti_root(tmp_path)
    write_improved(root / DRIVE / "proj_depth/groundtruth/image_02/0000000003.png", 512)
    write_text(tmp_path / "list.txt", line)
    dataset = open_dataset(f"kitti:{root}?list={tmp_path}/list.txt")
    assert [dataset.describe(index) for index in range(len(dataset))] == [f"{IMAGE}.png"]
    assert dataset[0]["depth"].unique().item() == 2  # the improved map, 512 / 256 m
    write_text(tmp_path / "list.txt", line.replace("image_02", "image_03").replace("_02 ", "_03 ").replace(" l", " r"))
    if line.endswith(" l") or "_02" in line.split()[0]:
        assert "/image_03/" in open_dataset(f"kitti:{root}?list={tmp_path}/list.txt&depth=lidar").describe(0)


def test_a_map_that_a_list_names_is_not_replaced_by_the_scan(tmp_path):
    root = kitti_root(tmp_path)
    named = f"{IMAGE}.png {DRIVE.split('/')[1]}/proj_depth/groundtruth/image_02/0000000003.png 721.5377"
    write_text(tmp_path / "list.txt", named)
    check_refused(f"kitti:{root}?list={tmp_path}/list.txt", r"list.txt, line 1: names improved depth of frame 3 of")
    assert open_dataset(f"kitti:{root}?list={tmp_path}/list.txt&depth=lidar")[0]["depth"].max() > 2


@pytest.mark.parametrize("drive", ["../elsewhere", f"{DATE}/../../elsewhere", f"/{DATE}/../x"])
def test_a_list_names_no_folder_outside(tmp_path, drive):
    write_text(tmp_path / "list.txt", f"{drive} 3 l")
    check_refused(
        f"kitti:{kitti_root(tmp_path)}?list={tmp_path}/list.txt", r"line 1: expected '<date>/<drive> <frame> l'"
    )


def test_k_follows_the_size_images_are_kept_at(tmp_path):
    root = kitti_root(tmp_path)
    for path in root.rglob("image_0?/data/*.png"):
        Image.open(path).resize((WIDTH // 2, HEIGHT // 2)).save(path.with_suffix(".jpg"))
        path.unlink()
    sample = open_dataset(f"kitti:{root}")[0]
    torch.testing.assert_close(sample["K"], torch.tensor([[10, 0, 3.5], [0, 10, 2.0], [0, 0, 1]]))
    assert sample["depth"].shape == (1, HEIGHT // 2, WIDTH // 2)


def test_a_turn_of_the_car_turns_the_camera(tmp_path):
    for number, yaw in enumerate((0.0, np.pi / 2)):
        write_text(tmp_path / f"{number}.txt", f"49 8.4 110 0 0 {yaw} " + "0 " * 24)
    camera_T_imu = SCANNER.copy()
    pose = camera_pose(tmp_path / "1.txt", tmp_path / "0.txt", camera_T_imu)
    # a quarter turn to the left: what is ahead of the camera now was on its left
    torch.testing.assert_close(pose[:3, :3] @ torch.tensor([0.0, 0, 1]), torch.tensor([-1.0, 0, 0]))
    write_text(tmp_path / "2.txt", "49 8.4 110 0 0.1 0 " + "0 " * 24)  # pitch: KITTI's is positive nose down
    down = camera_pose(tmp_path / "2.txt", tmp_path / "0.txt", camera_T_imu)[:3, :3] @ torch.tensor([0.0, 0, 1])
    assert down[1] == pytest.approx(np.sin(0.1), abs=1e-5)


CAM, VELO = f"{DATE}/calib_cam_to_cam.txt", f"{DATE}/calib_velo_to_cam.txt"
SCAN, FIX = f"{DRIVE}/velodyne_points/data/0000000002.bin", f"{DRIVE}/oxts/data/0000000001.txt"
PARTNER, LAST = f"{DRIVE}/image_03/data/0000000001.png", f"{DRIVE}/image_02/data/last.png"
IMPROVED = f"{DRIVE}/proj_depth/groundtruth/image_02/0000000000.png"


@pytest.mark.parametrize(
    ("file", "content", "option", "message"),
    [
        (CAM, None, "", r"expected KITTI's camera calibration at .*calib_cam_to_cam.txt, found no file"),
        (CAM, b"P_rect_02: 1 2 3", "", r"expected a line 'R_rect_00:' with 9 numbers, found P_rect_02"),
        (VELO, b"R: 1 0 0 0 1 0 0 0 1\nT: 1 2", "", r"velo_to_cam.txt, line 2: expected 3 numbers \(T\), found 2"),
        (VELO, b"R: 1 0 0 0 1 0 0 0 2\nT: 1 2 3", "", r"velo_to_cam.txt: .*no rotation"),
        (SCAN, bytes(30), "", r"0000000002.bin: expected points of four finite float32"),
        (SCAN, b"", "", r"0000000002.bin: expected points of four"),
        (SCAN, b"\xff" * 32, "", r"0000000002.bin: expected points of four finite"),
        (FIX, b"49 8.4", "", r"0000000001.txt, line 1: expected 30 numbers .*, found 2"),
        (FIX, b"490 8.4" + b" 0" * 28, "", r"0000000001.txt: expected a latitude in degrees first, found 490"),
        (PARTNER, None, "sources=s", r"no partner of .*image_02/data/0000000001.png in image_03"),
        (PARTNER, b"\x89PNG", "sources=s", r"unreadable image .*image_03/data/0000000001.png"),
        (LAST, b"", "", r"expected files named by their frame's number in .*found last.png"),
        (IMPROVED, b"\x89PNG", "", r"unreadable depth map .*proj_depth"),
        ("bad.txt", f"\n{DRIVE} 99 l".encode(), "list=bad.txt", r"bad.txt, line 2: names frame 99 of 2011_09_26/"),
        ("bad.txt", f"{DRIVE} 1 x".encode(), "list=bad.txt", r"line 1: expected '<date>/<drive> <frame> l' or r"),
        ("bad.txt", b"", "list=bad.txt", r"bad.txt: expected lines of"),
        ("bad.txt", None, "list=bad.txt", r"expected a split's frames at .*bad.txt, found no file"),
        ("splits/val_files.txt", b"", "split=val&list=bad.txt", r"expected a split or a list, found .*omit one"),
        ("bad.txt", None, "depth=improved", r"no frame with improved depth in KITTI at"),
    ],
)
def test_what_is_wrong_with_kitti_is_said(tmp_path, file, content, option, message):
    root = kitti_root(tmp_path)
    if content is None:
        (root / file).unlink(missing_ok=True)
    else:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(content)
    check_refused(f"kitti:{root}?{option}" if option else f"kitti:{root}", message)


def test_a_folder_without_drives_says_so(tmp_path):
    check_refused(f"kitti:{tmp_path}", r"expected KITTI at .*image_02/data, found none; give the folder of the dates")


def test_unknown_options_of_kitti_say_what_there_is(tmp_path):
    root = kitti_root(tmp_path)
    with pytest.raises(UnknownNameError, match=r"no camera 'centre'.*left, right"):
        open_dataset(f"kitti:{root}?camera=centre")
    with pytest.raises(UnknownNameError, match="no kind of depth 'lider'; did you mean 'lidar'"):
        open_dataset(f"kitti:{root}?depth=lider")
    with pytest.raises(DataError, match=r"no split 'train' in KITTI at .*; there are: all"):
        open_dataset(f"kitti:{root}:train")
