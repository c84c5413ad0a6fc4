"""Readers of video and RGB-D: SC-Depth's folders, a video with what lies beside it, TUM RGB-D; numbers from text."""

import pickle

import numpy as np
import pytest
import torch
from helpers.dataset_files import check_refused, cut_short
from helpers.video_files import HEIGHT, WIDTH, K, along_x, sc_root, sc_scene, write_image, write_steps, write_text
from PIL import Image
from scipy.sparse import csr_matrix, save_npz

from cka_probe.errors import DataError, UnknownNameError
from cka_probe.images.datasets import open_dataset
from cka_probe.images.reading import image_size, read_image
from cka_probe.lab.datasets.numbers import pose_from_quaternion, read_named_numbers, read_numbers, read_poses

# SC-Depth


def test_sc_depth_reads_scenes_of_its_lists(tmp_path):
    root = sc_root(tmp_path)
    train = open_dataset(f"scdepth:{root}?split=train&sources=-1,1")
    assert [train.describe(i) for i in range(len(train))] == [
        "bathroom_0001/000001.jpg", "kitchen_0002b/000001.jpg", "kitchen_0002b/000002.jpg",
    ]  # fmt: skip
    assert train.gives == {
        "image", "depth", "pseudo_depth", "K", "world_T_target", "sources", "source_T_target"
    }  # fmt: skip
    sample = train[2]
    torch.testing.assert_close(sample["K"], torch.tensor(K, dtype=torch.float32))
    assert sample["depth"].unique().item() == pytest.approx(1.2)  # 6000 / 5000
    assert sample["pseudo_depth"].unique().item() == 59998  # as it is stored
    assert sample["sources"].mean((1, 2, 3)).mul(255).round().tolist() == [10, 30]
    assert sample["source_T_target"][:, 0, 3].tolist() == pytest.approx([1, -1], abs=0.05)
    assert sample["world_T_target"][0, 3] == 2
    assert all(field.dtype == torch.float32 for field in sample.values())
    assert len(open_dataset(f"scdepth:{root}")) == 3 + 4 + 3
    assert len(open_dataset(f"scdepth:{root}:val")) == 3
    again = pickle.loads(pickle.dumps(train))
    torch.testing.assert_close(again[2]["depth"], sample["depth"])


def test_sc_depth_may_be_opened_at_training_and_its_steps_said(tmp_path):
    root = sc_root(tmp_path)
    inside = open_dataset(f"scdepth:{root / 'training'}?split=train&per_metre=1000")
    assert inside.describe(0) == open_dataset(f"scdepth:{root}:train").describe(0)
    assert inside[0]["depth"].unique().item() == 5
    test = open_dataset(f"scdepth:{root}?split=test")
    assert test.gives == {"image", "depth"}
    assert test[1]["depth"].unique().item() == 1.5


def test_without_lists_every_folder_with_a_camera_is_a_scene(tmp_path):
    sc_scene(tmp_path / "one", 3)
    sc_scene(tmp_path / "two", 3)
    dataset = open_dataset(f"scdepth:{tmp_path}")
    assert len(dataset) == 6
    with pytest.raises(DataError, match=r"no split 'train' in SC-Depth's folders at .*; there are: all"):
        open_dataset(f"scdepth:{tmp_path}:train")


def test_frame_index_shortens_the_video(tmp_path):
    sc_scene(tmp_path / "one", 5)
    write_text(tmp_path / "one" / "frame_index.txt", "0\n2\n4")
    dataset = open_dataset(f"scdepth:{tmp_path}?sources=-1,1")
    assert [dataset.describe(i) for i in range(len(dataset))] == ["one/000002.jpg"]
    assert dataset[0]["sources"].mean((1, 2, 3)).mul(255).round().tolist() == [0, 40]
    assert dataset[0]["source_T_target"][0, 0, 3] == pytest.approx(2, abs=0.1)


def test_sparse_depth_of_sc_depth_is_in_metres(tmp_path):
    sc_scene(tmp_path / "one", 3)
    for path in sorted((tmp_path / "one" / "depth").glob("*.png")):
        path.unlink()
        metres = np.zeros((HEIGHT, WIDTH), np.float32)
        metres[2, 3] = 41.5
        save_npz(path.with_suffix(".npz"), csr_matrix(metres))
    depth = open_dataset(f"scdepth:{tmp_path}")[0]["depth"]
    assert depth[0, 2, 3] == 41.5
    assert depth.count_nonzero() == 1
    (tmp_path / "one" / "depth" / "000000.npz").write_bytes(b"PK\x03\x04 nothing more")
    check_refused(f"scdepth:{tmp_path}", r"000000.npz: expected a sparse matrix")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: (r / "training/train.txt").write_text("bathroom_0001\nkitchen_0002"),
         r"train.txt, line 2: names .*kitchen_0002, which does not exist"),
        (lambda r: (r / "training/bathroom_0001/cam.txt").write_text("9 0 3.5\n0 8 2.5"),
         r"bathroom_0001/cam.txt: expected the nine numbers of a 3 x 3 matrix"),
        (lambda r: (r / "training/bathroom_0001/cam.txt").write_text("9 0 0\n0 8 0\n3.5 2.5 1"),
         r"cam.txt: expected \[fx 0 cx; 0 fy cy; 0 0 1\] by rows"),
        (lambda r: (r / "training/bathroom_0001/cam.txt").unlink(), r"cam.txt: expected the nine numbers"),
        (lambda r: (r / "training/bathroom_0001/depth/000001.png").unlink(), r"found 000001 on one side only"),
        (lambda r: [p.rename(p.with_stem("d" + p.stem)) for p in (r / "training/bathroom_0001/depth").glob("*1.png")]
         and [p.rename(p.with_stem("e" + p.stem)) for p in (r / "training/bathroom_0001/depth").glob("0*.png")]
         and (r / "training/bathroom_0001/depth/d000001.png").unlink(), r"expected 3 files.*, found 2; complete"),
        (lambda r: (r / "training/bathroom_0001/poses.txt").write_text(along_x(0, 1)),
         r"poses.txt: expected 3 poses, one per image, found 2"),
        (lambda r: (r / "training/bathroom_0001/frame_index.txt").write_text("0\n3"),
         r"frame_index.txt: expected whole numbers from 0 to 2, found 3"),
        (lambda r: cut_short(r / "training/bathroom_0001/leres_depth/000000.png"), r"unreadable depth map .*leres"),
        (lambda r: cut_short(r / "training/bathroom_0001/000000.jpg"), r"unreadable image .*000000.jpg"),
        (lambda r: write_image(r / "training/bathroom_0001/depth/000002.png", 3), r"found mode 'RGB'"),
        (lambda r: write_steps(r / "training/bathroom_0001/depth/000002.png", 3, (5, 5)),
         r"expected depth of the image's 8x6 pixels, found 5x5"),
        (lambda r: [p.unlink() for p in (r / "training/kitchen_0002b").glob("*.jpg")], r"no images in .*kitchen"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_sc_depth_is_said(tmp_path, spoil, message):
    root = sc_root(tmp_path)
    spoil(root)
    check_refused(f"scdepth:{root}", message)


def test_nothing_of_sc_depth_is_said(tmp_path):
    check_refused(f"scdepth:{tmp_path}", r"expected SC-Depth's folders at .*cam.txt with images next to it, found none")
    check_refused(f"scdepth:{tmp_path}?per_metre=0", r"per_metre=0: expected steps per metre")
    with pytest.raises(UnknownNameError, match="no split 'tran'"):
        open_dataset(f"scdepth:{tmp_path}:tran")


# numbers and poses


def test_numbers_are_read_by_rows_and_by_name(tmp_path):
    path = tmp_path / "numbers.txt"
    path.write_text("# a remark\n1 2,3\n\n4 5 6e0")
    assert read_numbers(path, (3,), "three").tolist() == [[1, 2, 3], [4, 5, 6]]
    path.write_text("calib_time: 09-Jan-2012 13:57:47\nP2: 1 2\nP3: 3 4")
    assert read_named_numbers(path, {"P3": 2}, "a calibration")["P3"].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"poses.txt: expected a pose by rows, found no line"),
        ("# only a remark", r"found no line"),
        (along_x(0, columns=11), r"poses.txt, line 1: expected 12 or 16 numbers \(a pose by rows\), found 11; fix"),
        (along_x(0) + "\n" + along_x(1, columns=12), r"line 2: expected 16 numbers as above, found 12"),
        (along_x(0) + "\n\n" + along_x(1).replace("1.000000000", "one"), r"line 3: expected numbers .*, found"),
        (along_x(0).replace("1.000000000", "nan", 1) + "\n" + along_x(1), r"line 1: expected finite numbers"),
        ("1 0 0 0 1 0 0 0 1 0 0 0\n" * 2, r"no rotation with a translation \(matrix 1\)"),
        (along_x(0, 1, 2), r"expected 2 poses, one per image, found 3"),
    ],
)
def test_what_is_wrong_with_poses_is_said_with_the_line(tmp_path, text, message):
    path = tmp_path / "poses.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_poses(path, 2)
    assert "\n" not in str(caught.value)


def test_a_file_of_numbers_that_is_none_says_so(tmp_path):
    with pytest.raises(DataError, match=r"expected a pose by rows at .*absent.txt, found no file that can be read"):
        read_poses(tmp_path / "absent.txt", 1)
    (tmp_path / "bytes.txt").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(DataError, match=r"bytes.txt: expected a pose by rows as text"):
        read_poses(tmp_path / "bytes.txt", 1)
    (tmp_path / "calib.txt").write_text("P0: 1 2 3")
    with pytest.raises(DataError, match=r"expected a line 'P1:' with 12 numbers, found P0"):
        read_named_numbers(tmp_path / "calib.txt", {"P1": 12}, "a calibration")
    with pytest.raises(DataError, match=r"line 1: expected 12 numbers \(P0\), found 3"):
        read_named_numbers(tmp_path / "calib.txt", {"P0": 12}, "a calibration")


def test_a_quaternion_turns_as_its_axis_says():
    half = np.sqrt(0.5)
    pose = pose_from_quaternion(np.array([1, 2, 3]), np.array([half, 0, 0, half]))  # a quarter turn about x
    np.testing.assert_allclose(pose @ [0, 1, 0, 1], [1, 2, 4, 1], atol=1e-12)  # y becomes z
    pose = pose_from_quaternion(np.zeros(3), np.array([0, half, 0, half]))
    np.testing.assert_allclose(pose @ [0, 0, 1, 1], [1, 0, 0, 1], atol=1e-12)  # about y, z becomes x
    pose = pose_from_quaternion(np.zeros(3), np.array([0, 0, half, half]))
    np.testing.assert_allclose(pose @ [1, 0, 0, 1], [0, 1, 0, 1], atol=1e-12)  # about z, x becomes y
    np.testing.assert_allclose(pose @ [0, 1, 0, 1], [-1, 0, 0, 1], atol=1e-12)


def test_the_size_of_an_image_is_that_of_the_upright_one(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(tmp_path / "lying.jpg", exif=exif)
    assert image_size(tmp_path / "lying.jpg") == tuple(read_image(tmp_path / "lying.jpg").shape[1:]) == (8, 6)
    cut_short(tmp_path / "lying.jpg")
    (tmp_path / "none.png").write_bytes(b"none")
    with pytest.raises(DataError, match="unreadable image"):
        image_size(tmp_path / "none.png")
