"""Rooms laid out as NYU Depth v2 is: the same seed gives the same bytes, and nothing is left half-written."""

import json

import numpy as np
import pytest
from PIL import Image

from cka_probe.data import open_dataset
from cka_probe.data.scenes import draw_room, see, write_scenes
from cka_probe.errors import DataError, OutputError

SIZE = (48, 64)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes") / "rooms", rooms=4, frames=2, size=SIZE, seed=3)


def test_the_files_are_read_back_by_the_reader_of_nyuv2(scenes):
    both, train, test = (open_dataset(f"nyuv2:{scenes}:{split}") for split in ("all", "train", "test"))
    assert (len(both), len(train), len(test)) == (8, 6, 2)
    assert {both.describe(i) for i in range(8)} == {d.describe(i) for d in (train, test) for i in range(len(d))}
    assert "official_splits/test" in test.describe(0)
    room = draw_room(3, 0, 2)
    view = see(room, 1, SIZE)
    sample = train[1]
    assert np.abs(sample["depth"][0].numpy() - view.depth).max() < 0.000502
    assert np.abs(sample["image"].numpy() - view.image.transpose(2, 0, 1) / 255).mean() < 0.02  # JPEG
    np.testing.assert_allclose(sample["K"], view.K, rtol=1e-6)
    assert sample["depth"].min() > 0.5
    assert sample["depth"].max() < 8.5


def test_poses_are_kept_with_the_frames(scenes):
    folder = next((scenes / "nyu_depth_v2").glob("*_0001"))
    poses = np.loadtxt(folder / "poses.txt").reshape(-1, 4, 4)
    np.testing.assert_allclose(poses, draw_room(3, 1, 2).camera.poses, atol=1e-8)


def test_lists_are_lines_of_picture_depth_and_focal_length(scenes):
    line = (scenes / "nyu_train.txt").read_text().splitlines()[0].split()
    assert line[0].startswith("/")
    assert line[0].endswith("/rgb_00000.jpg")
    assert line[1].endswith("/sync_depth_00000.png")
    assert float(line[2]) == pytest.approx(draw_room(3, 0, 2).camera.intrinsics(SIZE)[0, 0], abs=1e-3)
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
