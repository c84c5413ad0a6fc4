"""NYU Depth v2's labels of 13 and 40 classes: from the .mat file, from folders of scenes, from two folders."""

import json
import pickle

import h5py
import numpy as np
import pytest
import torch
from helpers.dataset_files import mat_root, real_data, scenes_root
from helpers.label_files import cut, drop
from helpers.labelled_nyuv2 import HEIGHT, MAPPING, WIDTH, labelled_mat, labelled_pairs, labelled_scenes, write_labels
from helpers.paths import REAL
from scipy.io import savemat

from cka_probe.errors import DataError
from cka_probe.images.classes import NYU13, NYU40, NYU40_TO_13
from cka_probe.images.datasets import open_dataset
from cka_probe.images.sample import IGNORE


@pytest.mark.parametrize("classes", [13, 40])
def test_labels_of_the_mat_file_go_through_the_mapping_beside_it(tmp_path, classes):
    root = labelled_mat(tmp_path)
    dataset = open_dataset(f"nyuv2:{root}?split=test&classes={classes}")
    assert dataset.gives == {"image", "depth", "K", "labels", "instances"}
    assert dataset.classes is {13: NYU13, 40: NYU40}[classes]
    with h5py.File(root / "nyu_depth_v2_labeled.mat") as file:
        kinds, number = file["labels"][4].T.astype(int), file["instances"][4].T.astype(int)
    sample = dataset[1]
    for y, x in np.ndindex(HEIGHT, WIDTH):
        forty = MAPPING[kinds[y, x] - 1] - 1
        expected = IGNORE if kinds[y, x] == 0 else forty if classes == 40 else NYU40_TO_13[forty]
        assert sample["labels"][y, x] == expected
    things = np.unique(np.stack([kinds, number]).reshape(2, -1)[:, kinds.ravel() > 0], axis=1).shape[1]
    assert len(sample["instances"].unique()) - bool((kinds == 0).any()) == things
    assert ((sample["instances"] == 0).numpy() == (kinds == 0)).all()
    torch.testing.assert_close(pickle.loads(pickle.dumps(dataset))[1], sample, rtol=0, atol=0)


def test_without_the_mapping_there_are_no_labels_unless_they_are_asked_for(tmp_path):
    root = labelled_mat(tmp_path / "a", mapping=False)
    assert open_dataset(f"nyuv2:{root}").gives == {"image", "depth", "K", "instances"}
    with pytest.raises(DataError, match=r"labels of 40 classes need .*classMapping40.mat .*, found none; add it"):
        open_dataset(f"nyuv2:{root}?classes=40")
    with pytest.raises(DataError, match=r"need the variable labels in .*nyu_depth_v2_labeled.mat, found none"):
        open_dataset(f"nyuv2:{mat_root(tmp_path / 'b')}?classes=13")
    assert open_dataset(f"nyuv2:{mat_root(tmp_path / 'c')}").classes is None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: cut(p), r"classMapping40.mat: expected mapClass \(MATLAB v5\), found none"),
        (lambda p: savemat(p, {"other": 1}), r"classMapping40.mat: expected mapClass \(MATLAB v5\), found none"),
        (lambda p: savemat(p, {"mapClass": [[1, 41]]}), r"expected classes 1 to 40 in mapClass, found another"),
        (lambda p: savemat(p, {"mapClass": [[]]}), r"expected classes 1 to 40 in mapClass, found another"),
        (lambda p: savemat(p, {"mapClass": [[1, 2, 3]]}), r"labeled.mat, labels of .*#00000: expected the numbers of"),
    ],
)
def test_what_is_wrong_with_the_mapping_is_said(tmp_path, spoil, message):
    root = labelled_mat(tmp_path)
    spoil(root / "classMapping40.mat")
    with pytest.raises(DataError, match=message):
        open_dataset(f"nyuv2:{root}")[0]


def test_a_camera_beside_the_mat_file_goes_before_the_kinects(tmp_path):
    camera = {"width": WIDTH, "height": HEIGHT, "fx": 15, "fy": 14, "cx": 7.5, "cy": 5.5}
    (tmp_path / "intrinsics.json").write_text(json.dumps(camera))
    assert open_dataset(f"nyuv2:{mat_root(tmp_path)}")[0]["K"].tolist() == [[15, 0, 7.5], [0, 14, 5.5], [0, 0, 1]]


@pytest.mark.parametrize("make", [labelled_pairs, labelled_scenes])
def test_labels_in_files_are_of_13_classes_or_of_40_made_13(tmp_path, make):
    root, numbers = make(tmp_path / "forty", 40)
    fine = open_dataset(f"nyuv2:{root}?classes=40")
    coarse = open_dataset(f"nyuv2:{root}")
    np.testing.assert_array_equal(fine[0]["labels"].numpy(), numbers)
    np.testing.assert_array_equal(coarse[0]["labels"].numpy(), NYU40_TO_13[numbers])
    assert (fine.classes, coarse.classes) == (NYU40, NYU13)
    assert coarse.gives == {"image", "depth", "K", "labels"}
    root, numbers = make(tmp_path / "thirteen", 13)
    np.testing.assert_array_equal(open_dataset(f"nyuv2:{root}?classes=13")[0]["labels"].numpy(), numbers)
    with pytest.raises(DataError, match=r"expected labels of 40 classes for each image, as .*labels40.*, found none"):
        open_dataset(f"nyuv2:{root}?classes=40")


def test_labels_that_lack_or_are_none_are_named(tmp_path):
    root, _ = labelled_pairs(tmp_path / "a", 40)
    drop(root / "labels40" / "0003.png")
    with pytest.raises(DataError, match=r"NYU Depth v2 at .*: 1 of 7 images have no label, first: .*images/0003.png"):
        open_dataset(f"nyuv2:{root}")
    root, _ = labelled_pairs(tmp_path / "b", 13)
    write_labels(root / "labels13" / "0000.png", 14)
    with pytest.raises(DataError, match=r"labels13/0000.png: expected the numbers of 13 classes, found 13"):
        open_dataset(f"nyuv2:{root}")[0]
    with pytest.raises(DataError, match="classes=12: expected 13 or 40"):
        open_dataset(f"nyuv2:{root}?classes=12")


def test_poses_beside_the_frames_are_theirs(tmp_path):
    root = scenes_root(tmp_path)
    for folder in {path.parent for path in root.rglob("rgb_*.png")}:
        count = len(list(folder.glob("rgb_*.png")))
        rows = [" ".join(f"{value:g}" for value in (1, 0, 0, n, 0, 1, 0, 0, 0, 0, 1, 0)) for n in range(count)]
        (folder / "poses.txt").write_text("\n".join(rows))
    dataset = open_dataset(f"nyuv2:{root}:train")
    assert dataset.gives == {"image", "depth", "K", "world_T_target"}
    assert [dataset[index]["world_T_target"][0, 3].item() for index in range(4)] == [0, 1, 0, 1]
    assert dataset[0]["world_T_target"].dtype == torch.float32
    (folder / "poses.txt").write_text("1 0 0")
    with pytest.raises(DataError, match=r"poses.txt, line 1: expected 12 or 16 numbers"):
        open_dataset(f"nyuv2:{root}")


@real_data
def test_real_rooms_have_labels_that_fit_what_is_seen():
    fine, coarse = (open_dataset(f"nyuv2:{REAL / 'nyuv2'}?classes={classes}") for classes in (40, 13))
    assert (len(fine), fine.classes, coarse.classes) == (398, NYU40, NYU13)
    heights = {name: [] for name in ("floor", "ceiling")}
    for index in range(0, 398, 20):
        labels = coarse[index]["labels"]
        expected = torch.from_numpy(NYU40_TO_13)[fine[index]["labels"]]
        torch.testing.assert_close(labels, expected, rtol=0, atol=0)
        for name, rows in heights.items():
            rows += torch.nonzero(labels == NYU13.names.index(name))[:, 0].tolist()
    assert np.mean(heights["floor"]) > 150 > 80 > np.mean(heights["ceiling"])  # rows of 240
