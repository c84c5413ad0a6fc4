"""Readers of a video with what lies beside it, and of TUM RGB-D."""

import json

import pytest
import torch
from helpers.dataset_files import check_refused, cut_short
from helpers.video_files import CAMERA, HEIGHT, WIDTH, posed, stereo, tum, write_image, write_steps
from PIL import Image

from cka_probe.images.datasets import open_dataset

# a video's folder


@pytest.mark.parametrize("reader", ["rgbd", "video"])
def test_frames_come_by_value_with_what_lies_beside_them(tmp_path, reader):
    dataset = open_dataset(f"{reader}:{posed(tmp_path)}?sources=-1,1")
    assert [dataset.describe(i) for i in range(len(dataset))] == ["images/9.png", "images/10.png"]
    sample = dataset[1]
    assert set(sample) == {"image", "depth", "K", "world_T_target", "sources", "source_T_target"}
    torch.testing.assert_close(sample["K"], torch.tensor([[9, 0, 3.5], [0, 8, 2.5], [0, 0, 1]]))
    assert sample["depth"].unique().item() == pytest.approx(1.010)
    assert sample["sources"].mean((1, 2, 3)).mul(255).round().tolist() == [90, 110]
    assert sample["source_T_target"][:, 0, 3].tolist() == pytest.approx([0.5, -0.5])


def test_steps_are_the_folders_or_those_said_and_65535_is_nothing(tmp_path):
    posed(tmp_path / "a", depth="depth")
    write_steps(tmp_path / "a" / "depth" / "8.png", 65535)
    assert open_dataset(f"rgbd:{tmp_path / 'a'}")[0]["depth"].count_nonzero() == 0
    assert open_dataset(f"rgbd:{tmp_path / 'a'}?per_metre=5000")[1]["depth"].unique().item() == pytest.approx(0.2018)
    posed(tmp_path / "b", depth="sparse_depth")
    assert open_dataset(f"video:{tmp_path / 'b'}")[0]["depth"].unique().item() == 1008 / 256


def test_a_video_needs_only_frames(tmp_path):
    for number in range(3):
        write_image(tmp_path / "frames" / f"{number}.jpg", number)
    dataset = open_dataset(f"video:{tmp_path}?sources=1")
    assert dataset.gives == {"image", "sources"}
    check_refused(f"rgbd:{tmp_path}", "expected RGB-D sequences at .*open a video without depth as 'video:'")
    check_refused(f"video:{tmp_path}?sources=s", "no stereo partner")
    (tmp_path / "K.txt").write_text("9 0 3.5\n0 8 2.5\n0 0 1\n")
    assert open_dataset(f"video:{tmp_path}")[0]["K"][0].tolist() == [9, 0, 3.5]


def test_several_videos_in_a_folder_are_each_cut_for_testing(tmp_path):
    for name in ("a", "b"):
        posed(tmp_path / name, names=range(6))
    train, test = (open_dataset(f"rgbd:{tmp_path}?split={split}&sources=1") for split in ("train", "test"))
    assert [train.describe(i) for i in range(len(train))] == [f"{v}/images/{n}.png" for v in "ab" for n in (0, 1, 2)]
    assert [test.describe(i) for i in range(len(test))] == ["a/images/4.png", "b/images/4.png"]
    assert len(open_dataset(f"rgbd:{tmp_path}")) == 12


def test_the_right_camera_is_the_partner_and_sees_points_further_left(tmp_path):
    sample = open_dataset(f"video:{stereo(tmp_path)}?sources=1,s")[1]
    assert sample["sources"].mean((1, 2, 3)).mul(255).round().tolist() == [20, 101]
    assert sample["source_T_target"][0].isnan().all()
    expected = torch.eye(4)
    expected[0, 3] = -0.25
    torch.testing.assert_close(sample["source_T_target"][1], expected)


@pytest.mark.parametrize(
    ("make", "spoil", "message"),
    [
        (posed, lambda r: (r / "depth_mm/9.png").unlink(), r"expected .*depth_mm/9\.\* for .*images/9.png, found none"),
        (posed, lambda r: (r / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0"), r"expected 4 poses, .*found 1"),
        (posed, lambda r: (r / "intrinsics.json").write_text('{"fx": 1}'), r"intrinsics.json: expected fx, fy, cx, cy"),
        (posed, lambda r: (r / "intrinsics.json").write_text(json.dumps(CAMERA | {"fy": -16})), r"expected fy in pix"),
        (posed, lambda r: (r / "intrinsics.json").write_text(json.dumps(CAMERA | {"cx": float("nan")})),
         r"expected cx in pixels, found nan"),
        (posed, lambda r: cut_short(r / "depth_mm/9.png"), r"unreadable depth map .*9.png"),
        (posed, lambda r: cut_short(r / "images/9.png"), r"unreadable image .*9.png"),
        (posed, lambda r: [p.unlink() for p in (r / "images").iterdir()], r"expected videos at .*found none"),
        (stereo, lambda r: (r / "right/000001.png").unlink(), r"expected .*right/000001\.\* for .*left/000001.png"),
        (stereo, lambda r: (r / "intrinsics.json").write_text(json.dumps(CAMERA)), r"expected baseline_m \(metres\)"),
        (stereo, lambda r: (r / "intrinsics.json").write_text(json.dumps(CAMERA | {"baseline_m": -1})),
         r"expected baseline_m in metres, found -1"),
    ],
)  # fmt: skip
def test_what_is_wrong_beside_a_video_is_said(tmp_path, make, spoil, message):
    root = make(tmp_path)
    spoil(root)
    check_refused(f"video:{root}", message)


# TUM RGB-D


def test_tum_pairs_what_is_nearest_in_time(tmp_path):
    dataset = open_dataset(f"rgbd:{tum(tmp_path)}")
    assert dataset.gives == {"image", "depth", "K", "world_T_target"}
    # the fourth has no depth; the sixth, at 0.167 s, no pose within 0.02 s of the last, at 0.13 s
    depths = [sample["depth"].unique().item() for sample in dataset]
    assert depths == pytest.approx([1.0, 1.1, 1.2, 1.4])
    pose = dataset[1]["world_T_target"]
    assert pose[:3, 3].tolist() == pytest.approx([0.03, 1, 2], abs=1e-3)  # 0.0333 s, to the nearest hundredth
    torch.testing.assert_close(pose @ torch.tensor([0.0, 0, 1, 1]), torch.tensor([0.03, 0, 2, 1]), atol=1e-3, rtol=0)
    assert dataset[0]["K"][0, 0] == pytest.approx(520.9 * WIDTH / 640)


def test_an_image_without_depth_is_still_a_source(tmp_path):
    dataset = open_dataset(f"rgbd:{tum(tmp_path)}?sources=1")
    assert [sample["sources"].mean().mul(255).round().item() for sample in dataset] == [10, 20, 30]
    assert dataset[2]["source_T_target"][0, :3, 3].norm() == pytest.approx(0.03, abs=1e-3)


def test_tums_camera_is_the_files_or_the_names_or_the_default(tmp_path):
    assert open_dataset(f"rgbd:{tum(tmp_path, 'office')}")[0]["K"][0, 0] == pytest.approx(525 * WIDTH / 640)
    (tmp_path / "office" / "intrinsics.json").write_text(json.dumps(CAMERA))
    assert open_dataset(f"rgbd:{tmp_path}")[0]["K"][0, 0] == 9
    assert open_dataset(f"rgbd:{tmp_path}").describe(0).startswith("office/rgb/1311868164.0")
    (tmp_path / "office" / "groundtruth.txt").unlink()
    assert "world_T_target" not in open_dataset(f"rgbd:{tmp_path}").gives


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("rgb.txt", "1311868164.0\n", r"rgb.txt, line 1: expected 'timestamp file', found '1311868164.0'"),
        ("rgb.txt", "soon rgb/1311868164.000000.png", r"rgb.txt, line 1: expected numbers \(a time in seconds\)"),
        ("rgb.txt", "# nothing\n", r"rgb.txt: expected lines of 'timestamp file', found none"),
        ("depth.txt", "\n1.0 depth/absent.png", r"depth.txt, line 2: names .*absent.png, which does not exist"),
        ("groundtruth.txt", "1 0 0 0 0 0 1", r"groundtruth.txt, line 1: expected 8 numbers .*, found 7"),
        ("groundtruth.txt", "1 0 0 0 0 0 1 1", r"expected unit quaternions qx qy qz qw, found one of length 1.41"),
        ("groundtruth.txt", "1 0 0 0 0 0 0 1", r"expected frames with sources none .*found none"),
    ],
)
def test_what_is_wrong_with_tum_is_said(tmp_path, file, text, message):
    folder = tum(tmp_path)
    (folder / file).write_text(text)
    check_refused(f"rgbd:{folder}", message)


def test_steps_below_nothing_are_refused(tmp_path):
    check_refused(f"rgbd:{tum(tmp_path)}?per_metre=-5000", "per_metre=-5000: expected steps per metre")
    check_refused(f"video:{posed(tmp_path / 'a')}?per_metre=-1", "per_metre=-1: expected steps per metre")


def test_tums_depth_of_8_bits_or_cut_short_is_refused(tmp_path):
    folder = tum(tmp_path)
    path = next(iter(sorted((folder / "depth").iterdir())))
    cut_short(path)
    check_refused(f"rgbd:{folder}", f"unreadable depth map .*{path.name}")
    Image.new("L", (WIDTH, HEIGHT), 7).save(path)
    check_refused(f"rgbd:{folder}", r"expected a 16-bit depth map, found mode 'L'")
