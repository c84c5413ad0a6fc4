"""What the generator writes in a layout is what the reader of that data set reads, to the format's rounding."""

import re

import h5py
import numpy as np
import pytest
import torch
from scipy.io import loadmat

from cka_probe.errors import DataError
from cka_probe.images.classes import CITYSCAPES, NYU13, NYU40_TO_13
from cka_probe.images.datasets import open_dataset
from cka_probe.images.sample import FIELDS
from cka_probe.lab.datasets.fields import read_flow
from cka_probe.lab.scenes import SCENES, see
from cka_probe.lab.scenes.layouts import LAYOUTS, USUAL
from cka_probe.lab.scenes.layouts.files import FIRST_THING, counted, in_steps, street_things, write_flow
from cka_probe.lab.scenes.layouts.layout import labels_in
from cka_probe.lab.scenes.make import make_scenes
from cka_probe.lab.scenes.settings import Settings

SIZE, SEED, NUM = (48, 64), 5, 3

# layout: the kind of scene, the readers' strings, and how a sample's name says which scene and frame it is
CASES = {
    "ade20k": ("streets", ["ade20k:{}"], r"_(\d+)_(\d+)\.jpg"),
    "ade20k_instances": ("streets", ["ade20k_instances:{}"], r"_(\d+)_(\d+)\.jpg"),
    "cityscapes": ("streets", ["cityscapes:{}?sources=s"], r"town(\d+)_\d+_(\d+)"),
    "coco_instances": ("streets", ["coco_instances:{}"], r"_(\d+)_(\d+)\.jpg"),
    "ibims1": ("rooms", ["ibims1:{}"], r"_(\d+)_(\d+)$"),
    "imagenet": ("objects", ["imagenet:{}"], r"_(\d+)_(\d+)\.JPEG"),
    "kitti": ("streets", ["kitti:{}?sources=s"], r"2011_(\d+_\d+)/.*/(\d+)\.png"),
    "kitti_odometry": ("streets", ["kitti_odometry:{}?sources=s"], r"sequences/(\d+)/image_2/(\d+)"),
    "kitti_semantics": ("streets", ["kitti_semantics:{}?sources=s"], r"(\d+)_1(\d)\.png"),
    "lsun": ("rooms", ["lsun:{}"], None),
    "nyuv2": ("rooms", ["nyuv2:{}:train", "nyuv2:{}:test"], r"_(\d+)/rgb_(\d+)"),
    "nyuv2_mat": ("rooms", ["nyuv2:{}?classes=13"], r"#(\d+)"),
    "sc_depth": ("rooms", ["scdepth:{}"], r"_(\d+)/(\d+)\.jpg"),
    "voc": ("streets", ["voc:{}:train?augmented=true", "voc:{}:val"], r"_(\d+)_(\d+)\.jpg"),
}

# the most that a field may be off: depth in metres, images in levels of 255 (mean over an image)
DEPTH = {"nyuv2": 0.0005, "sc_depth": 0.0001, "kitti": 0.5 / 256, "nyuv2_mat": 0, "ibims1": 0}
IMAGE = {"nyuv2": 2.5, "sc_depth": 2.5, "imagenet": 2.5, "lsun": 9.0, "voc": 2.5, "ade20k": 2.5}
IMAGE |= {"ade20k_instances": 2.5, "coco_instances": 2.5}
STEPPED = ("nyuv2", "sc_depth", "kitti")  # depth in 16 bits, which end somewhere
FLOW = 0.5 / 64


@pytest.fixture(scope="module")
def made(request, tmp_path_factory):
    name = request.param
    layout, (kind, specs, pattern) = LAYOUTS[name], CASES[name]
    root = tmp_path_factory.mktemp(name) / "set"
    make_scenes(root, Settings(kind, NUM, 2, SIZE, SEED, layout=name))
    scenes = [SCENES[kind](SEED, index, 2) for index in range(NUM)]
    views = {(i, f): see(scenes[i], f, SIZE, partner=layout.partner, flow=True) for i in range(NUM) for f in range(2)}
    return name, list(samples(scenes, views, [open_dataset(spec.format(root)) for spec in specs], pattern))


def holding(*fields):
    """Let a test try each layout that holds one of some fields."""
    names = [name for name, layout in LAYOUTS.items() if layout.holds & set(fields)]
    return pytest.mark.parametrize("made", names, indirect=True, scope="module")


def place_of(name, pattern):
    """Return (scene, frame) that a sample's name says."""
    found = re.search(pattern, name).groups()
    if len(found) == 1:
        return divmod(int(found[0]), 2)
    if "_" in found[0]:  # KITTI's days: the 26th of September is scene 0
        return int(found[0].split("_")[1]) - 26, int(found[1])
    return int(found[0]), int(found[1])


def samples(scenes, views, datasets, pattern):
    """Yield each sample with the view it should be, its scene, and the data set it is of."""
    for dataset in datasets:
        for number in range(len(dataset)):
            sample = dataset[number]
            if pattern is None:  # the keys of LSUN tell nothing: the view that looks most like it
                yield sample, min(views.values(), key=lambda view: off(sample["image"], view.image)), None, dataset
            else:
                index, frame = place_of(dataset.describe(number), pattern)
                yield sample, views[index, frame], scenes[index], dataset


def off(image, pixels):
    """Return the mean distance of an image from (H, W, 3) bytes, in levels."""
    return np.abs(image.numpy() * 255 - pixels.transpose(2, 0, 1)).mean()


# numbers of a street's classes where a layout has its own, from ADE20K's objectInfo150.txt and VOC's list; the others'
CLASSES = {
    "ade20k": (
        {"road": 6, "sidewalk": 11, "building": 1, "wall": 0, "fence": 32, "pole": 93, "traffic light": 136}
        | {"traffic sign": 43, "vegetation": 4, "terrain": 9, "sky": 2, "person": 12, "rider": 12, "car": 20}
        | {"truck": 83, "bus": 80, "motorcycle": 116, "bicycle": 127},
        255,
    ),
    "voc": (
        {"person": 15, "rider": 15, "car": 7, "truck": 7, "bus": 6, "train": 19, "motorcycle": 14, "bicycle": 2},
        0,
    ),
}


def in_classes_of(name, labels):
    """Return the labels of a scene in the classes of a layout."""
    if name not in CLASSES:
        return labels
    numbers, other = CLASSES[name]
    table = [*(numbers.get(word, other) for word in CITYSCAPES.names), *[255] * (256 - len(CITYSCAPES.names))]
    return np.array(table)[labels]


def same_parts(read, true):
    """Return whether two maps of numbers cut the image alike, 0 being nothing."""
    pairs = {(int(a), int(b)) for a, b in zip(np.ravel(read), np.ravel(true), strict=True)}
    return len({a for a, _ in pairs}) == len(pairs) == len({b for _, b in pairs}) and (
        (0, 0) in pairs or all(a and b for a, b in pairs)
    )


def test_every_layout_is_tried():
    assert set(CASES) == set(LAYOUTS)
    assert {kind for layout in LAYOUTS.values() for kind in layout.kinds} == set(USUAL)
    assert all(kind in LAYOUTS[name].kinds for kind, name in USUAL.items())
    assert all(layout.holds <= set(FIELDS) for layout in LAYOUTS.values())


@pytest.mark.parametrize("made", ["ade20k_instances", "coco_instances"], indirect=True, scope="module")
def test_objects_are_the_persons_and_vehicles(made):
    _, samples_of_views = made
    for sample, view, scene, _ in samples_of_views:
        labels = labels_in(view, scene, CITYSCAPES)
        things = street_things(labels, view.instances, most=255)
        assert len(sample["boxes"]) == len({(k, n) for k, n in zip(labels.flat, things.flat, strict=True) if n})
        assert torch.equal(sample["box_masks"].any(0), torch.from_numpy(things > 0))
        for number, mask in zip(sample["box_classes"], sample["box_masks"], strict=True):
            assert (labels[mask.numpy()] == FIRST_THING + int(number)).all()


@holding("image")
def test_a_reader_gives_what_the_layout_holds(made):
    name, read = made
    views = {id(view) for _, view, _, _ in read}
    held_out = 1 if name == "sc_depth" else 0  # its images for testing are a set of their own
    one = 1 if name == "kitti_semantics" else 2
    assert len(views) == len(read) == one * (NUM - held_out)
    assert all(LAYOUTS[name].holds <= set(sample) == dataset.gives for sample, _, _, dataset in read)


@holding("image")
def test_images(made):
    most = IMAGE.get(made[0], 0.0)
    for sample, view, _, dataset in made[1]:
        assert sample["image"].shape == (3, *SIZE)
        assert off(sample["image"], view.image) <= most + 1e-3
        if "sources" in dataset.gives:
            assert off(sample["sources"][0], view.partner) <= most + 1e-3


@holding("depth")
def test_depth(made):
    name = made[0]
    for sample, view, scene, _ in made[1]:
        depth = sample["depth"][0].numpy()
        there = view.depth > 0
        if name == "cityscapes":  # disparity in steps of 1/256 pixel
            fb = view.K[0, 0] * scene.camera.baseline
            there = np.divide(fb, view.depth, out=np.zeros(SIZE), where=there) > 0.5 / 256
            np.testing.assert_allclose(fb / depth[there], fb / view.depth[there], rtol=1e-6, atol=0.5001 / 256)
        else:
            there &= view.depth < (65535.5 * 2 * DEPTH[name] if name in STEPPED else np.inf)
            assert (np.abs(depth - view.depth) <= DEPTH[name] + 1e-6 * view.depth)[there].all()
        assert (depth[~there] == 0).all()
        assert there.mean() > 0.4


@holding("pseudo_depth")
def test_pseudo_depth_is_depth_up_to_scale_and_shift(made):
    for sample, view, _, _ in made[1]:
        pseudo = sample["pseudo_depth"][0].numpy()
        assert pseudo.min() > 0
        assert pseudo.max() == 60000
        assert 0.9 < np.corrcoef(pseudo.ravel(), view.depth.ravel())[0, 1] < 0.999


@holding("K", "source_T_target")
def test_cameras(made):
    for sample, view, scene, dataset in made[1]:
        if "K" in dataset.gives:
            np.testing.assert_allclose(sample["K"], view.K, rtol=1e-6)
        if "source_T_target" in dataset.gives:
            expected = np.eye(4)
            expected[0, 3] = -scene.camera.baseline
            np.testing.assert_allclose(sample["source_T_target"][0], expected, atol=1e-6)


@holding("world_T_target")
def test_the_way_of_the_camera(made):
    read, true = {}, {}
    for sample, view, scene, _ in made[1]:
        read.setdefault(id(scene), []).append(sample["world_T_target"].double().numpy())
        true.setdefault(id(scene), []).append(view.pose)
    for key, poses in read.items():
        assert len(poses) == 2
        assert np.linalg.norm(true[key][1][:3, 3] - true[key][0][:3, 3]) > 0.01
        np.testing.assert_allclose(np.linalg.solve(*poses), np.linalg.solve(*true[key]), atol=5e-6)


@holding("labels")
def test_labels_and_things(made):
    name = made[0]
    for sample, view, _, _ in made[1]:
        np.testing.assert_array_equal(sample["labels"], in_classes_of(name, view.labels))
        if "instances" in LAYOUTS[name].holds:
            is_thing = (view.labels >= (0 if name == "nyuv2_mat" else 11)) & (view.labels < 255)
            is_thing &= view.instances > 0
            things = np.where(is_thing, 256 * view.instances + view.labels, 0)  # a rider and the bicycle are two
            assert same_parts(sample["instances"], things)


@holding("flow")
def test_flow(made):
    for sample, view, _, _ in made[1]:
        known = np.isfinite(view.flow).all(axis=2)
        assert known.mean() > 0.9
        assert torch.isnan(sample["flow"][:, ~known]).all()
        flow = sample["flow"].numpy().transpose(1, 2, 0)
        assert np.abs(flow - view.flow)[known].max() <= FLOW * 1.001
        np.testing.assert_array_equal(sample["occluded"][0].numpy()[known], view.occluded[known])


@holding("planes")
def test_planes_and_edges(made):
    seen = set()
    for sample, view, scene, _ in made[1]:
        np.testing.assert_array_equal(sample["edges"][0], view.edges)
        assert sample["valid"].all()
        planes = sample["planes"].numpy()
        for part, numbers in zip(("wall", "table", "floor"), planes, strict=True):
            on = numbers > 0
            seen |= {(part, scene.classes[label]) for label in np.unique(view.labels[on])}
            assert same_parts(numbers[on], view.planes[on])
        on = (planes > 0).any(axis=0)
        assert on.mean() > 0.1
        angle = (sample["normals"].numpy() * view.normals.transpose(2, 0, 1)).sum(axis=0)[on]
        assert angle.min() > 1 - 1e-6
    assert {("wall", "wall"), ("floor", "floor")} <= seen <= {(part, part) for part in ("wall", "table", "floor")}


@holding("category")
def test_categories(made):
    for sample, view, _, dataset in made[1]:
        assert dataset.classes.names[int(sample["category"])] == view.category.replace(" ", "_")


def test_the_folders_of_nyuv2_part_rooms_for_testing_from_the_others(tmp_path):
    root = make_scenes(tmp_path / "rooms", Settings("rooms", 4, 2, SIZE, SEED))
    both, train, test = (open_dataset(f"nyuv2:{root}:{split}") for split in ("all", "train", "test"))
    assert (len(both), len(train), len(test)) == (8, 6, 2)
    assert "official_splits/test" in test.describe(0)
    line = (root / "nyu_train.txt").read_text().splitlines()[0].split()
    assert line[0].startswith("/")
    assert line[0].endswith("/rgb_00000.jpg")
    assert line[1].endswith("/sync_depth_00000.png")
    assert float(line[2]) == pytest.approx(SCENES["rooms"](SEED, 0, 1).camera.intrinsics(SIZE)[0, 0], abs=1e-4)


def test_a_scan_of_kitti_lies_on_what_is_there(tmp_path):
    size = (64, 208)
    root = make_scenes(tmp_path / "streets", Settings("streets", 1, 1, size, SEED, layout="kitti"))
    depth = open_dataset(f"kitti:{root}?depth=lidar")[0]["depth"][0].numpy()
    true = see(SCENES["streets"](SEED, 0, 1), 0, size).depth
    hit = depth > 0
    assert 0.1 < hit.mean() < 0.7
    np.testing.assert_allclose(depth[hit], true[hit], rtol=1e-5)


def test_labels_of_the_mat_file_are_894_kinds_that_become_13(tmp_path):
    root = make_scenes(tmp_path / "rooms", Settings("rooms", 2, 1, SIZE, SEED, layout="nyuv2_mat", test=0.5))
    mapping = loadmat(root / "classMapping40.mat")["mapClass"]
    splits = loadmat(root / "splits.mat")
    assert mapping.shape == (1, 894)
    assert (splits["trainNdxs"].tolist(), splits["testNdxs"].tolist()) == ([[1]], [[2]])
    with h5py.File(root / "nyu_depth_v2_labeled.mat") as file:
        assert file["images"].shape == (2, 3, SIZE[1], SIZE[0])
        assert {name: file[name].dtype.name for name in ("images", "depths", "rawDepths", "labels")} == {
            "images": "uint8", "depths": "float32", "rawDepths": "float32", "labels": "uint16",
        }  # fmt: skip
        said = [text_of(file, reference) for reference in file["names"][0]]
        assert len(said) == 894
        for label in np.unique(file["labels"]):
            name = said[label - 1]
            assert NYU13.names[NYU40_TO_13[mapping[0, label - 1] - 1]] == name
        kinds = [text_of(file, reference) for reference in file["sceneTypes"][0]]
        assert kinds == [SCENES["rooms"](SEED, index, 1).category for index in range(2)]
        assert text_of(file, file["scenes"][0, 1]) == f"{kinds[1]}_0001"
        assert file.userblock_size == 512
    assert (root / "nyu_depth_v2_labeled.mat").read_bytes()[:10] == b"MATLAB 7.3"


def text_of(file, reference):
    return file[reference][()].tobytes().decode("utf-16-le")


def test_every_class_of_things_has_its_folder_and_so_its_number(tmp_path):
    root = make_scenes(tmp_path / "objects", Settings("objects", 2, 1, SIZE, SEED))
    names = {name.replace(" ", "_") for name in SCENES["objects"](SEED, 0, 1).classes}
    assert len(names) >= 20
    assert {path.name for path in (root / "train").iterdir()} == names
    assert set(open_dataset(f"imagenet:{root}").classes.names) == names


def test_what_a_layout_has_no_number_for_is_said():
    scene = SCENES["rooms"](SEED, 0, 1)
    view = see(scene, 0, SIZE)
    with pytest.raises(DataError, match=r"expected classes among road, .*, found 'bed'; use another layout"):
        labels_in(view, scene, CITYSCAPES)
    with pytest.raises(DataError, match="expected at most 3 things of one kind in an image, found 4; use another"):
        counted(np.ones((2, 2), int), np.array([[1, 2], [3, 4]]), most=3)


def test_flow_out_of_reach_is_not_known(tmp_path):
    flow = np.array([[[600.0, 0], [1.25, -3.5], [np.nan, 1]]], np.float32)
    write_flow(tmp_path / "flow.png", flow, np.ones((1, 3), bool))
    read = read_flow(tmp_path / "flow.png").numpy()
    assert np.isnan(read[:, 0, [0, 2]]).all()
    np.testing.assert_array_equal(read[:, 0, 1], [1.25, -3.5])


def test_depth_out_of_reach_is_not_measured():
    np.testing.assert_array_equal(in_steps(np.array([0, 1.0004, 65.535, 65.6, np.inf]), 0.001), [0, 1000, 65535, 0, 0])
