"""What lies around in folders of every data set: hidden files, links to folders, images that EXIF turns."""

import shutil

import pytest
from helpers.dataset_files import listed_root
from helpers.image_files import imagenet_root
from helpers.readers import ROOTS
from helpers.video_files import sc_root, tum
from PIL import Image

from cka_probe.errors import DataError
from cka_probe.images.datasets import DATASETS, open_dataset

CASES = [(name, make) for name, makes in ROOTS.items() for make in makes]
each_layout = pytest.mark.parametrize(("name", "make"), CASES)


def contents(spec):
    dataset = open_dataset(spec)
    return [(dataset.describe(index), sorted(dataset[index])) for index in range(len(dataset))]


def test_every_data_set_of_files_is_tried():
    assert set(DATASETS) - {"folder", "scenes"} == set(ROOTS)


@each_layout
def test_hidden_files_are_no_data(tmp_path, name, make):
    root = make(tmp_path)
    before = contents(f"{name}:{root}")
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    for folder in folders:
        files = [path for path in folder.iterdir() if path.is_file()]
        (folder / ".ipynb_checkpoints").mkdir()
        (folder / "__MACOSX").mkdir()
        for path in files:
            (folder / f"._{path.name}").write_bytes(b"\0\5\x16\7 of macOS")
            shutil.copy(path, folder / ".ipynb_checkpoints" / f"{path.stem}-checkpoint{path.suffix}")
            shutil.copy(path, folder / "__MACOSX" / path.name)
    assert contents(f"{name}:{root}") == before


@each_layout
def test_links_to_folders_are_followed(tmp_path, name, make):
    (tmp_path / "set").mkdir()
    root = make(tmp_path / "set")
    before = contents(f"{name}:{root}")
    folders = sorted((path for path in root.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts))
    for number, folder in enumerate(folders):  # the deepest first
        shutil.move(folder, tmp_path / f"disk{number}")
        folder.symlink_to(tmp_path / f"disk{number}")
    assert contents(f"{name}:{root}") == before


@each_layout
def test_images_that_exif_turns_are_refused_next_to_labels_depth_or_a_camera(tmp_path, name, make):
    """A half turn keeps the size, so that nothing else would notice."""
    root = make(tmp_path)
    paths = [*root.rglob("*.jpg"), *root.rglob("*.png")]
    turned = Image.Exif()
    turned[0x0112] = 3
    for path in paths:
        with Image.open(path) as image:
            if image.mode == "RGB" and image.tile[0][3] != "RGB;16B":  # neither labels nor flow
                image.load()
                image.save(path, exif=turned)
    if open_dataset(f"{name}:{root}").gives <= {"image", "category"} or not paths:
        contents(f"{name}:{root}")
    else:
        with pytest.raises(DataError, match="expected an upright image, found EXIF orientation 3"):
            contents(f"{name}:{root}")


@each_layout
def test_a_set_that_vanishes_is_said_in_one_line(tmp_path, name, make):
    root = make(tmp_path)
    dataset = open_dataset(f"{name}:{root}")
    if root.is_dir():
        shutil.rmtree(root)
    for index in range(len(dataset)):
        with pytest.raises(DataError) as caught:
            dataset[index]
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "make", "file"),
    [("scdepth", sc_root, "training/train.txt"), ("nyuv2", listed_root, "nyu_train.txt"), ("rgbd", tum, "rgb.txt")],
)
@pytest.mark.parametrize("path", ["../elsewhere/a.png", "a/../../b.png"])
def test_lists_name_nothing_outside_of_their_set(tmp_path, name, make, file, path):
    root = make(tmp_path / "set")
    for target in (root / path, root / "training" / path):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.mkdir(exist_ok=True) if name == "scdepth" else target.touch()
    (root / file).write_text(path if name == "scdepth" else f"1.0 {path}" if name == "rgbd" else f"{path} {path}")
    with pytest.raises(DataError, match=r"expected a path below .*, found"):
        open_dataset(f"{name}:{root}")


def test_a_link_to_a_folder_above_ends(tmp_path):
    imagenet_root(tmp_path / "set")
    before = [contents(f"{name}:{tmp_path}/set") for name in ("folder", "imagenet")]
    (tmp_path / "set" / "train" / "n01" / "loop").symlink_to(tmp_path / "set")
    assert [contents(f"{name}:{tmp_path}/set") for name in ("folder", "imagenet")] == before
