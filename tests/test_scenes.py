"""The rooms close on themselves: depth lies on what is there, and one frame warped is the other."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from cka_probe.data import open_dataset
from cka_probe.data.scenes import draw_room, intrinsics, rays, render, shading, write_scenes
from cka_probe.data.scenes.rays import camera_rays, cast, solids_of
from cka_probe.data.scenes.shading import light_from
from cka_probe.data.scenes.solids import BOX, CYLINDER, Material, box
from cka_probe.data.scenes.texture import PATTERNS, Surface
from cka_probe.errors import DataError, OutputError

SIZE = (48, 64)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes") / "rooms", rooms=4, frames=2, size=SIZE, seed=3)


def distance(solid, points):
    """Return how far (3, n) points are outside a solid, < 0 inside; for an ellipsoid 0 on it and to first order."""
    c, s = np.cos(solid.yaw), np.sin(solid.yaw)
    x, y, z = points - np.array(solid.centre)[:, None]
    local, half = np.stack([c * x + s * y, -s * x + c * y, z]), np.array(solid.half)[:, None]
    if solid.shape == BOX:
        beyond = np.abs(local) - half
    elif solid.shape == CYLINDER:
        around = np.hypot(*(local[:2] / half[:2]))
        beyond = np.stack([(around - 1) * half[:2].min(), np.abs(local[2]) - half[2]])
    else:
        scaled = np.sqrt(((local / half) ** 2).sum(axis=0))
        return (scaled - 1) * half.min()
    return np.linalg.norm(np.maximum(beyond, 0), axis=0) + np.minimum(beyond.max(axis=0), 0)


def backproject(pose, depth):
    K = intrinsics(depth.shape)
    v, u = np.indices(depth.shape)
    camera = np.stack([(u - K[0, 2]) / K[0, 0] * depth, (v - K[1, 2]) / K[1, 1] * depth, depth]).reshape(3, -1)
    return pose[:3, :3] @ camera + pose[:3, 3:]


@pytest.mark.parametrize("index", range(5))
def test_every_pixel_of_depth_lies_on_a_surface_and_nothing_is_before_it(index):
    room = draw_room(1, index, 1)
    pose = room.poses[0]
    _, depth = render(room, pose, SIZE)
    points = backproject(pose, depth)
    extent = np.array(room.size)[:, None]
    to_walls = np.minimum(points, extent - points).min(axis=0)
    nearest = np.min([to_walls, *(np.abs(distance(solid, points)) for solid in solids_of(room))], axis=0)
    assert nearest.max() < 1e-6
    assert to_walls.min() > -1e-6
    for share in (0.05, 0.3, 0.6, 0.9, 0.97, 0.995, 1.0):
        between = pose[:3, 3:] + share * (points - pose[:3, 3:])
        assert min(distance(solid, between).min() for solid in solids_of(room)) > -1e-6


def test_depth_is_along_the_axis_and_not_along_the_ray():
    room = draw_room(0, 0, 1)
    pose = room.poses[0]
    _, depth = render(room, pose, SIZE)
    forward = camera_rays(pose, intrinsics(SIZE), SIZE, 1, np.float64)
    np.testing.assert_allclose(np.tensordot(pose[:3, 2], forward, 1), 1.0, atol=1e-12)
    np.testing.assert_allclose(
        (pose[:3, :3].T @ (backproject(pose, depth) - pose[:3, 3:]))[2], depth.ravel(), atol=1e-9
    )


def test_the_four_rays_of_a_pixel_lie_around_its_centre():
    pose, K = draw_room(0, 0, 1).poses[0], intrinsics(SIZE)
    centre, fine = (camera_rays(pose, K, SIZE, each, np.float64) for each in (1, 2))
    np.testing.assert_allclose(fine.reshape(3, SIZE[0], 2, SIZE[1], 2).mean(axis=(2, 4)), centre, atol=1e-12)


@pytest.mark.parametrize("index", range(4))
def test_looking_only_where_a_solid_can_be_loses_nothing(index, monkeypatch):
    room = draw_room(5, index, 1)
    image, depth = render(room, room.poses[0], SIZE)
    everywhere = (slice(None), slice(None))
    monkeypatch.setattr(rays, "_windows", lambda solids, *_: [everywhere] * len(solids))
    monkeypatch.setattr(shading, "_passing", lambda pieces, points, _: np.ones((len(pieces), points.shape[1]), bool))
    slowly, slow_depth = render(room, room.poses[0], SIZE)
    np.testing.assert_array_equal(depth, slow_depth)
    np.testing.assert_array_equal(image, slowly)


def test_it_is_darker_below_a_table_than_beside_it():
    room = draw_room(0, 0, 1)
    x, y, _ = room.lamp
    grey = Material("plain", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    board = box((x - 0.5, y - 0.5, 0.7), (x + 0.5, y + 0.5, 0.74), grey)
    spots = np.array([(x, y, 0.0), (x - 1.1, y, 0.0)], np.float32).T
    shell, lamp = np.full(2, -1), np.zeros(2, int)
    empty = replace(room, surfaces=(grey,) * 6, pieces=((replace(board, shadow=False),),), windows=())
    lit = light_from(empty, spots, shell, lamp).mean(axis=1)
    shaded = light_from(replace(empty, pieces=((board,),)), spots, shell, lamp).mean(axis=1)
    assert shaded[0] < 0.7 * lit[0]
    assert shaded[1] == lit[1]


@pytest.mark.parametrize("index", range(4))
def test_the_second_frame_warped_by_true_depth_and_pose_is_the_first(index):
    room = draw_room(2, index, 2)
    (target, depth), (source, source_depth) = (render(room, pose, (96, 128)) for pose in room.poses)
    source_T_world = np.linalg.inv(room.poses[1])
    points = source_T_world[:3, :3] @ backproject(room.poses[0], depth) + source_T_world[:3, 3:]
    u, v, z = intrinsics(depth.shape) @ points
    h, w = depth.shape
    grid = np.stack([u / z * 2 / (w - 1) - 1, v / z * 2 / (h - 1) - 1], axis=-1).reshape(1, h, w, 2)
    planes = np.concatenate([source / 255.0, source_depth[..., None], 1 / source_depth[..., None]], axis=-1)
    sampled = torch.nn.functional.grid_sample(
        torch.from_numpy(planes).permute(2, 0, 1)[None], torch.from_numpy(grid), align_corners=True
    )[0].numpy()
    z = z.reshape(h, w)
    inside = np.abs(grid[0]).max(axis=-1) < 1
    seen = inside & (np.abs(sampled[3] - z) < 0.02 * z) & (np.abs(sampled[4] * z - 1) < 0.02)
    error = np.abs(sampled[:3] - (target / 255.0).transpose(2, 0, 1)).mean(axis=0)
    still = np.abs(source / 255.0 - target / 255.0).mean(axis=-1)
    assert seen.mean() > 0.6
    assert error[seen].mean() < 0.02
    assert error[seen].mean() < 0.6 * still[seen].mean()


def test_the_camera_walks_slowly_through_free_space():
    for index in range(6):
        room = draw_room(4, index, 5)
        places = room.poses[:, :3, 3]
        steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
        assert ((steps > 0.05) & (steps < 0.15)).all()
        turned = [np.trace(a[:3, :3].T @ b[:3, :3]) for a, b in zip(room.poses[:-1], room.poses[1:], strict=True)]
        assert np.rad2deg(np.arccos((np.array(turned) - 1) / 2)).max() < 0.5
        assert min(distance(solid, places.T).min() for solid in solids_of(room)) > 0.1
        np.testing.assert_allclose(
            room.poses[:, :3, :3] @ room.poses[:, :3, :3].transpose(0, 2, 1), np.eye(3)[None].repeat(5, 0), atol=1e-12
        )
        assert np.linalg.det(room.poses[0, :3, :3]) == pytest.approx(1)


def test_rooms_differ_and_are_furnished():
    rooms = [draw_room(0, index, 1) for index in range(30)]
    assert len({room.kind for room in rooms}) == 5
    assert len({room.size for room in rooms}) == 30
    assert np.median([len(solids_of(room)) for room in rooms]) > 40


def test_colour_does_not_depend_on_the_camera():
    room = draw_room(0, 1, 2)
    K = intrinsics(SIZE)
    looks = camera_rays(room.poses[0], K, SIZE, 1, np.float32)
    hits = cast(room, room.poses[0], K, looks)
    points = (room.poses[0][:3, 3].astype(np.float32)[:, None, None] + hits.depth * looks).reshape(3, -1)
    lamp = np.zeros(points.shape[1], int)
    once = light_from(room, points, hits.solid.ravel(), lamp)
    order = np.random.default_rng(0).permutation(points.shape[1])
    again = light_from(room, points[:, order], hits.solid.ravel()[order], lamp)
    assert once.min() >= 0
    np.testing.assert_allclose(once[order], again, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_paints_every_point_and_none_is_plain(name):
    rng = np.random.default_rng(0)
    edge = rng.uniform(-1, 1, (2, 500)).astype(np.float32)
    xyz = np.stack([edge[0], edge[1], np.zeros(500, np.float32)])
    first, second = (np.full((500, 3), value, np.float32) for value in (0.2, 0.7))
    colours = PATTERNS[name](Surface(edge[0], edge[1], edge, xyz, first, second, np.full(500, 0.3, np.float32)))
    assert colours.shape == (500, 3)
    assert np.isfinite(colours).all()
    assert colours.std(axis=0).min() > 0.01


def test_the_files_are_read_back_by_the_reader_of_nyuv2(scenes):
    both, train, test = (open_dataset(f"nyuv2:{scenes}:{split}") for split in ("all", "train", "test"))
    assert (len(both), len(train), len(test)) == (8, 6, 2)
    assert {both.describe(i) for i in range(8)} == {d.describe(i) for d in (train, test) for i in range(len(d))}
    assert "official_splits/test" in test.describe(0)
    room = draw_room(3, 0, 2)
    image, depth = render(room, room.poses[1], SIZE)
    sample = train[1]
    assert np.abs(sample["depth"][0].numpy() - depth).max() < 0.000502
    assert np.abs(sample["image"].numpy() - image.transpose(2, 0, 1) / 255).mean() < 0.02  # JPEG
    np.testing.assert_allclose(sample["K"], intrinsics(SIZE), rtol=1e-6)
    assert sample["depth"].min() > 0.5
    assert sample["depth"].max() < 8.5


def test_poses_are_kept_with_the_frames(scenes):
    folder = next((scenes / "nyu_depth_v2").glob("*_0001"))
    poses = np.loadtxt(folder / "poses.txt").reshape(-1, 4, 4)
    np.testing.assert_allclose(poses, draw_room(3, 1, 2).poses, atol=1e-8)


def test_lists_are_lines_of_picture_depth_and_focal_length(scenes):
    line = (scenes / "nyu_train.txt").read_text().splitlines()[0].split()
    assert line[0].startswith("/")
    assert line[0].endswith("/rgb_00000.jpg")
    assert line[1].endswith("/sync_depth_00000.png")
    assert float(line[2]) == pytest.approx(intrinsics(SIZE)[0, 0], abs=1e-3)
    with Image.open(scenes / "nyu_depth_v2" / line[1].lstrip("/")) as file:
        assert file.mode.startswith("I")


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(scenes, tmp_path):
    again = write_scenes(tmp_path / "again", rooms=4, frames=2, size=SIZE, seed=3)
    assert contents(again) == contents(scenes)
    other = write_scenes(tmp_path / "other", rooms=4, frames=2, size=SIZE, seed=4)
    assert not set(contents(other).values()) & {v for k, v in contents(scenes).items() if k.endswith("jpg")}


def test_a_room_is_the_same_room_however_many_there_are(scenes, tmp_path):
    fewer = contents(write_scenes(tmp_path / "fewer", rooms=2, frames=2, size=SIZE, seed=3, test=0))
    all_of_them = contents(scenes)
    pictures = [name for name in fewer if name.endswith((".jpg", ".png"))]
    assert len(pictures) == 8
    assert all(fewer[name] == all_of_them[name] for name in pictures)


def test_the_same_scenes_are_left_alone_and_others_are_not_written_over(scenes):
    before = {path: path.stat().st_mtime_ns for path in scenes.rglob("*")}
    assert write_scenes(scenes, rooms=4, frames=2, size=SIZE, seed=3) == scenes
    assert {path: path.stat().st_mtime_ns for path in scenes.rglob("*")} == before
    with pytest.raises(OutputError, match="found scenes of other settings; remove it or choose another"):
        write_scenes(scenes, rooms=5, frames=2, size=SIZE, seed=3)


def test_what_is_not_scenes_is_not_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"expected nothing at .*, or the same scenes; found something else"):
        write_scenes(tmp_path, rooms=1, frames=1, size=SIZE)
    (tmp_path / "file").write_text("a file")
    with pytest.raises(OutputError, match="cannot write scenes to"):
        write_scenes(tmp_path / "file" / "rooms", rooms=1, frames=1, size=SIZE)


def test_an_interrupted_run_leaves_nothing(tmp_path):
    def stops(rooms):
        yield next(iter(rooms))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "rooms", rooms=2, frames=1, size=SIZE, progress=stops)
    assert list(tmp_path.iterdir()) == []


def test_progress_sees_every_room(tmp_path):
    seen = []
    write_scenes(
        tmp_path / "rooms", rooms=2, frames=1, size=(24, 32), progress=lambda all_: (seen.append(i) or i for i in all_)
    )
    assert seen == [0, 1]
    assert json.loads((tmp_path / "rooms" / "scenes.json").read_text())["rooms"] == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rooms": 0}, "expected at least 1 room, 1 frame and 8x8 pixels, found 0 rooms"),
        ({"frames": 0}, "found 240 rooms, 0 frames"),
        ({"size": (4, 64)}, "and 64x4 pixels"),
        ({"test": 1.0}, "expected a share of test rooms from 0 to below 1, found 1.0; try 0.25"),
    ],
)
def test_settings_that_make_no_scenes_say_so(tmp_path, wrong, message):
    with pytest.raises(DataError, match=message):
        write_scenes(tmp_path / "rooms", **wrong)
