"""Reader of iBims-1: the MATLAB files and the folders, on a small room whose planes are known exactly."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import loadmat, savemat

from cka_probe.errors import DataError
from cka_probe.images.datasets import open_dataset
from cka_probe.lab.geometry import normals_from_depth

HEIGHT, WIDTH = 24, 32
FX, FY, CX, CY = 30.0, 28.0, 16.5, 12.5  # counted from 1: in the middle of the image
WALL = np.array([0.48, -0.8, 0.36])  # x right, y forward, z up: a wall that leans back, seen from the left
FLOOR = np.array([0.0, 0.0, 1.0])


def room():
    """Depth (H, W) of a wall behind a floor, by iBims-1's own formula, and which pixel is the wall's."""
    column, row = np.meshgrid(np.arange(1, WIDTH + 1), np.arange(1, HEIGHT + 1))
    rays = np.stack([(column - CX) / FX, np.ones_like(column), -(row - CY) / FY])
    wall = -3.0 / np.tensordot(WALL, rays, 1)
    with np.errstate(divide="ignore"):
        floor = -1.4 / np.tensordot(FLOOR, rays, 1)
    floor[floor <= 0] = np.inf
    return np.minimum(wall, floor), wall < floor


def truth():
    depth, wall = room()
    edges = np.zeros((HEIGHT, WIDTH), np.uint8)
    edges[:, 1:] = np.diff(wall.astype(np.int8), axis=1) != 0
    invalid, transparent = np.ones((2, HEIGHT, WIDTH), np.uint8)
    invalid[0, 0] = transparent[1, 1] = 0
    depth[5, 5] = 0
    parameters = {"wall": [1, 0, 5, 0, *WALL], "floor": [1, 0, 3, -1.4, *-FLOOR]}  # either sign happens
    masks = {"wall": wall, "floor": ~wall, "table": np.zeros_like(wall)}
    rgb = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    data = {"rgb": rgb, "depth": depth, "edges": edges, "mask_invalid": invalid, "mask_transp": transparent}
    data["calib"] = np.array([[FX, 0, 0], [0, FY, 0], [CX, CY, 1]])
    for name, mask in masks.items():
        data[f"mask_{name}"] = mask.astype(np.uint8)
        data[f"mask_{name}_paras"] = np.array(parameters.get(name, []), np.float64)  # one axis, or empty
    return data


def mat_root(root, **changed):
    folder = root / "ibims1_core_mat"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("corridor_01", "lab_02"):
        data = truth() | changed
        savemat(folder / f"{name}.mat", {"data": {key: value for key, value in data.items() if value is not None}})
    (root / "imagelist.txt").write_text("lab_02\ncorridor_01")  # the last line has no end
    return root


def raw_root(root):
    folder, data = root / "ibims1_core_raw", truth()
    for name in (
        "rgb",
        "depth",
        "edges",
        "mask_invalid",
        "mask_transp",
        "mask_wall",
        "mask_floor",
        "mask_table",
        "calib",
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
        if name == "depth":
            image = Image.fromarray(np.round(data[name] / 50 * 65535).astype(np.uint16))
        elif name in ("edges", "mask_transp"):
            image = Image.fromarray(data[name] > 0)  # one bit, as MATLAB writes what is true or false
        elif name != "calib":
            image = Image.fromarray(data[name])
        if name != "calib":
            image.save(folder / name / "lab_02.png")
        if f"{name}_paras" in data and data[f"{name}_paras"].size:
            (folder / name / "lab_02.txt").write_text(",".join(map(str, data[f"{name}_paras"])))
    (folder / "calib" / "lab_02.txt").write_text(f"{FX},{FY},{CX},{CY}\n")
    return root


@pytest.fixture(params=[mat_root, raw_root], ids=["mat", "raw"])
def sample(request, tmp_path):
    return open_dataset(f"ibims1:{request.param(tmp_path)}")[0]


def test_both_forms_hold_the_same(sample):
    data = truth()
    assert set(sample) == {"image", "depth", "K", "edges", "valid", "planes", "normals"}
    np.testing.assert_array_equal(sample["image"].permute(1, 2, 0).mul(255).round().numpy(), data["rgb"])
    np.testing.assert_allclose(sample["depth"][0], data["depth"], atol=50 / 65535)
    assert sample["depth"][0, 5, 5] == 0
    np.testing.assert_array_equal(sample["edges"][0], data["edges"] == 1)
    assert (~sample["valid"]).nonzero()[:, 1:].tolist() == [[0, 0], [1, 1]]
    np.testing.assert_array_equal(sample["planes"], [data["mask_wall"], data["mask_table"], data["mask_floor"]])
    assert sample["planes"].dtype == torch.int64


def test_k_counts_pixels_from_0_and_is_not_transposed(sample):
    torch.testing.assert_close(sample["K"], torch.tensor([[FX, 0, CX - 1], [0, FY, CY - 1], [0, 0, 1]]))


def test_normals_are_those_of_the_depth_in_the_cameras_axes_and_towards_it(sample):
    wall = sample["planes"][0] == 1
    torch.testing.assert_close(sample["normals"][:, wall][:, 0], torch.tensor([0.48, -0.36, -0.8]))
    torch.testing.assert_close(sample["normals"][:, ~wall][:, -1], torch.tensor([0.0, -1.0, 0.0]))  # a floor looks up
    exact = torch.from_numpy(room()[0])[None, None]
    seen = normals_from_depth(exact, sample["K"][None].double())[0]
    inner = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    inner[1:-1, 1:-1] = True
    same = torch.nn.functional.max_pool2d(wall[None, None].double(), 3, 1, 1)[0, 0] == wall  # away from the edge
    same &= -torch.nn.functional.max_pool2d(-wall[None, None].double(), 3, 1, 1)[0, 0] == wall
    agree = (seen * sample["normals"]).sum(0)[inner & same]
    assert len(agree) > 500
    assert agree.min() > 0.9999


def test_the_list_says_which_and_in_which_order(tmp_path):
    dataset = open_dataset(f"ibims1:{mat_root(tmp_path)}:test")
    assert [dataset.describe(i) for i in range(len(dataset))] == ["lab_02", "corridor_01"]
    (tmp_path / "imagelist.txt").rename(tmp_path / "ibims1_core_mat" / "imagelist.txt")
    assert open_dataset(f"ibims1:{tmp_path / 'ibims1_core_mat'}").describe(0) == "lab_02"
    (tmp_path / "ibims1_core_mat" / "imagelist.txt").unlink()
    assert open_dataset(f"ibims1:{tmp_path}").describe(0) == "corridor_01"


def test_a_mended_file_is_read_again(tmp_path):
    dataset = open_dataset(f"ibims1:{mat_root(tmp_path)}")
    before = dataset[0]["depth"]
    mat_root(tmp_path, depth=np.full((HEIGHT, WIDTH), 2.0))
    assert dataset[0]["depth"].unique().item() == 2
    assert before[0, 0, 0] != 2


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_file_cut_short_is_named(tmp_path, share):
    path = mat_root(tmp_path) / "ibims1_core_mat" / "lab_02.mat"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=r"lab_02.mat: expected a MATLAB file \(v5\) with a struct 'data'") as caught:
        open_dataset(f"ibims1:{tmp_path}")[0]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"edges": None}, r"lab_02.mat: expected edges in 'data', found rgb, depth"),
        ({"calib": np.eye(4)}, r"expected calib of 3 x 3, found \(4, 4\)"),
        ({"calib": np.array([[FX, 0, CX], [0, FY, CY], [0, 0, 1]])}, r"expected fx, fy, cx, cy in pixels"),
        ({"rgb": np.zeros((HEIGHT, WIDTH), np.uint8)}, r"expected rgb of \(H, W, 3\) bytes, found \(24, 32\)"),
        ({"depth": np.ones((HEIGHT, WIDTH - 1))}, r"expected depth of the image's 32x24 pixels, found 31x24"),
        ({"mask_wall_paras": np.zeros((0, 7))}, r"mask_wall_paras: expected 1 planes of 7 numbers, found \(0, 7\)"),
        ({"mask_wall_paras": np.ones(6)}, r"mask_wall_paras: expected 1 planes of 7 numbers, found \(1, 6\)"),
        ({"mask_wall_paras": np.ones(7)}, r"expected unit normals in columns 4 to 6"),
    ],
)
def test_what_is_wrong_in_a_struct_is_said(tmp_path, changed, message):
    with pytest.raises(DataError, match=message):
        open_dataset(f"ibims1:{mat_root(tmp_path, **changed)}")[0]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("calib/lab_02.txt", b"30,28,16.5", r"lab_02.txt, line 1: expected 1 or 4 numbers \(fx, fy, cx, cy\), found 3"),
        ("calib/lab_02.txt", b"30\n28\n16.5\n", r"expected fx, fy, cx, cy, found 3 numbers"),
        ("calib/lab_02.txt", None, r"expected fx, fy, cx, cy at .*calib/lab_02.txt, found no file"),
        ("mask_wall/lab_02.txt", b"1,2,3", r"mask_wall_paras: expected 1 planes of 7 numbers, found \(1, 3\)"),
        ("mask_wall/lab_02.txt", None, r"mask_wall_paras: expected 1 planes of 7 numbers, found \(0, 7\)"),
        ("mask_wall/lab_02.png", None, r"unreadable mask .*mask_wall/lab_02.png"),
        ("edges/lab_02.png", b"\x89PNG", r"unreadable mask .*edges/lab_02.png"),
        ("depth/lab_02.png", None, r"unreadable depth map .*depth/lab_02.png"),
    ],
)
def test_what_is_wrong_in_the_folders_is_said(tmp_path, file, content, message):
    path = raw_root(tmp_path) / "ibims1_core_raw" / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(f"ibims1:{tmp_path}")[0]
    assert "\n" not in str(caught.value)


def test_nothing_of_ibims_or_not_all_of_it_is_said(tmp_path):
    with pytest.raises(DataError, match=r"expected iBims-1 at .*ibims1_core_mat/<name>.mat or .*found neither"):
        open_dataset(f"ibims1:{tmp_path}")
    mat_root(tmp_path)
    with pytest.raises(DataError, match=r"no split 'train' in iBims-1 at .*; there are: test, all"):
        open_dataset(f"ibims1:{tmp_path}:train")
    (tmp_path / "ibims1_core_mat" / "corridor_01.mat").unlink()
    with pytest.raises(DataError, match=r"imagelist.txt, line 2: names .*corridor_01.mat, which does not exist"):
        open_dataset(f"ibims1:{tmp_path}")
    (tmp_path / "ibims1_core_mat" / "lab_02.mat").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(600))
    (tmp_path / "imagelist.txt").write_text("lab_02")
    with pytest.raises(DataError, match=r"lab_02.mat: expected a MATLAB file \(v5\)"):
        open_dataset(f"ibims1:{tmp_path}")[0]


def test_the_struct_is_as_matlab_writes_it(tmp_path):
    data = loadmat(mat_root(tmp_path) / "ibims1_core_mat" / "lab_02.mat")["data"]
    assert data["calib"][0][0][2, 0] == CX  # as the authors' evaluation indexes it
    assert data["mask_wall_paras"][0][0].shape == (1, 7)
    assert data["mask_table_paras"][0][0].size == 0
