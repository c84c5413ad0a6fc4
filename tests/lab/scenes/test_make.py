"""Sets of scenes: the same bytes whoever makes them and however often interrupted, there whole or not at all."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import active_children, get_context

import lmdb
import pytest
from helpers.folders import contents
from typer.testing import CliRunner

from cka_probe.errors import DataError, OutputError, UnknownNameError
from cka_probe.images.datasets import open_dataset
from cka_probe.lab.scenes.make import GenerationLock, make_scenes
from cka_probe.lab.scenes.sensor import Sensor
from cka_probe.lab.scenes.settings import Settings
from ckaprobe_cli import app

SIZE = (24, 32)
SETTINGS = Settings("rooms", num=4, frames=2, size=SIZE, seed=3)
COMMAND = ["data", "make", "rooms", "{}", "--num", "4", "--frames", "2", "--size", "32x24", "--seed", "3"]


def started(root):
    """Start to make the set in a process of its own; libraries are loaded by the first of them alone."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["cka_probe.lab.scenes.make"])
    process = context.Process(target=make_scenes, args=(root, SETTINGS))
    process.start()
    return process


def stopping_after(count):
    """Return progress that interrupts a run when it has made so many scenes."""

    def progress(done, total):
        if done >= count:
            raise KeyboardInterrupt

    return progress


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an undisturbed run makes."""
    return contents(make_scenes(tmp_path_factory.mktemp("whole") / "rooms", SETTINGS))


@pytest.mark.parametrize("layout", ["nyuv2", "nyuv2_mat", "lsun", "ibims1"])
def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(layout, tmp_path):
    settings = Settings("rooms", num=3, frames=1, size=SIZE, seed=3, layout=layout)
    undisturbed = contents(make_scenes(tmp_path / "undisturbed", settings))
    with pytest.raises(KeyboardInterrupt):
        make_scenes(tmp_path / "rooms", settings, progress=stopping_after(2))
    assert not (tmp_path / "rooms").exists()
    with pytest.raises(DataError, match="rooms"):
        open_dataset(f"nyuv2:{tmp_path / 'rooms'}")
    told = []
    make_scenes(tmp_path / "rooms", settings, progress=lambda done, total: told.append((done, total)))
    assert told == [(2, 3), (3, 3)]
    assert contents(tmp_path / "rooms") == undisturbed
    assert {path.name for path in tmp_path.iterdir()} == {"undisturbed", "rooms"}


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(whole, tmp_path):
    running, lock = started(tmp_path / "rooms"), GenerationLock(tmp_path / "rooms")
    while not any(lock.folder.glob("tree/**/*.jpg")):
        assert running.is_alive()
        time.sleep(0.002)
    running.kill()
    running.join()
    torn = next(lock.folder.glob("tree/**/*.jpg"))
    torn.write_bytes(torn.read_bytes()[:100])  # as if it had been killed in the middle of this file
    record = lock.folder / "done" / "000000"
    record.parent.mkdir(exist_ok=True)
    record.write_bytes(b'["/rooms')  # and in the middle of a record
    assert not (tmp_path / "rooms").exists()
    make_scenes(tmp_path / "rooms", SETTINGS)
    assert contents(tmp_path / "rooms") == whole


@pytest.mark.parametrize("where", ["before it is moved", "after it is moved"])
def test_a_run_killed_at_its_end_goes_on(where, whole, tmp_path, monkeypatch):
    def killed(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(GenerationLock, "publish" if where.startswith("before") else "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            make_scenes(tmp_path / "rooms", SETTINGS)
    assert (tmp_path / ".rooms.making").is_dir()
    make_scenes(tmp_path / "rooms", SETTINGS)
    assert contents(tmp_path / "rooms") == whole
    assert [path.name for path in tmp_path.iterdir()] == ["rooms"]


def test_a_run_killed_while_it_puts_a_database_together_goes_on(tmp_path, monkeypatch):
    settings = Settings("rooms", 3, 1, SIZE, layout="lsun")
    undisturbed = contents(make_scenes(tmp_path / "undisturbed", settings))

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lmdb, "open", killed)
        with pytest.raises(KeyboardInterrupt):
            make_scenes(tmp_path / "rooms", settings)
    assert contents(make_scenes(tmp_path / "rooms", settings)) == undisturbed


def test_what_a_run_killed_while_it_cleared_away_has_left_is_removed(whole, tmp_path):
    left = tmp_path / ".rooms.making.12345.gone" / "done"
    left.mkdir(parents=True)
    assert contents(make_scenes(tmp_path / "rooms", SETTINGS)) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["rooms"]


def test_a_lock_lets_errors_through(tmp_path):
    lock = GenerationLock(tmp_path / "rooms")
    with pytest.raises(FileNotFoundError, match="lost"), lock.locked():
        raise FileNotFoundError("lost")
    with lock.locked():
        lock.remove()
    assert list(tmp_path.iterdir()) == []


def test_several_runs_at_once_share_the_work(whole, tmp_path):
    running = [started(tmp_path / "rooms") for _ in range(3)]
    for process in running:
        process.join(timeout=120)
    assert [process.exitcode for process in running] == [0, 0, 0]
    assert contents(tmp_path / "rooms") == whole
    assert [path.name for path in tmp_path.iterdir()] == ["rooms"]


def test_a_straggler_meets_a_finished_set_and_somebody_who_looks_for_work(whole, tmp_path, monkeypatch):
    claim = GenerationLock.claim

    def late(lock, index, *, wait):
        monkeypatch.setattr(GenerationLock, "claim", claim)
        make_scenes(tmp_path / "rooms", SETTINGS)  # by others, to the end
        with lock.locked():  # the hidden folder is there again, for a moment, and empty
            return claim(lock, index, wait=wait)

    monkeypatch.setattr(GenerationLock, "claim", late)
    assert contents(make_scenes(tmp_path / "rooms", SETTINGS)) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["rooms"]


def test_a_scene_is_made_by_one_and_awaited_by_the_other(tmp_path, whole):
    lock, told = GenerationLock(tmp_path / "rooms"), []
    with lock.locked():
        lock.begin(SETTINGS.note())
    with ThreadPoolExecutor(1) as pool:
        with lock.claim(1, wait=False) as held:
            assert held
            with lock.claim(1, wait=False) as again:
                assert not again
            run = pool.submit(make_scenes, tmp_path / "rooms", SETTINGS, progress=lambda done, total: told.append(done))
            while told[-1:] != [3]:
                time.sleep(0.005)
            time.sleep(0.05)
            assert not run.done()
        run.result(timeout=60)  # the holder let go without a record, as if it had died
    assert contents(tmp_path / "rooms") == whole


def test_workers_make_the_same(whole, tmp_path):
    told = []
    make_scenes(tmp_path / "rooms", SETTINGS, workers=2, progress=lambda done, total: told.append(done))
    assert told == [0, 1, 2, 3, 4]
    assert contents(tmp_path / "rooms") == whole
    with pytest.raises(DataError, match="expected at least 1 worker, found 0"):
        make_scenes(tmp_path / "others", SETTINGS, workers=0)


@pytest.mark.slow
def test_workers_end_with_a_killed_run(tmp_path):
    words = ["data", "make", "rooms", str(tmp_path / "rooms"), "--num", "1000", "--workers", "2"]
    code = "from ckaprobe_cli import main; main()"
    running = subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.DEVNULL, start_new_session=True)
    while not any((tmp_path / ".rooms.making").glob("tree/**/*.jpg")):
        assert running.poll() is None
        time.sleep(0.01)
    running.kill()
    running.wait()
    for _ in range(1000):
        try:
            os.killpg(running.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    pytest.fail("a worker lives on")


def test_a_scene_is_the_same_however_many_there_are(whole, tmp_path):
    fewer = contents(make_scenes(tmp_path / "rooms", Settings("rooms", 2, 2, SIZE, seed=3, test=0)))
    images = [name for name in fewer if name.endswith((".jpg", ".png"))]
    assert len(images) == 12
    assert all(fewer[name] == whole[name] for name in images)
    other = contents(make_scenes(tmp_path / "other", Settings("rooms", 2, 2, SIZE, seed=4, test=0)))
    assert not {other[name] for name in other if name.endswith(".jpg")} & set(whole.values())


def test_the_same_set_is_left_alone_and_another_is_not_written_over(tmp_path):
    root = make_scenes(tmp_path / "rooms", SETTINGS)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert make_scenes(root, SETTINGS) == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    with pytest.raises(OutputError, match=r"found scenes of other settings \(num 4, not 5\); remove it or choose"):
        make_scenes(root, Settings("rooms", 5, 2, SIZE, seed=3))
    assert json.loads((root / "scenes.json").read_text())["num"] == 4


def test_an_unfinished_set_of_other_settings_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make_scenes(tmp_path / "rooms", SETTINGS, progress=stopping_after(1))
    noisy = Settings("rooms", 4, 2, SIZE, seed=3, sensor=Sensor(noise=1))
    message = r"found an unfinished set of other settings \(noise 0.0, not 1\); finish it, remove .*\.rooms\.making, or"
    with pytest.raises(OutputError, match=message):
        make_scenes(tmp_path / "rooms", noisy)


def test_what_is_no_set_is_not_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"expected nothing at .*, or the same scenes; found something else; remove"):
        make_scenes(tmp_path, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(OutputError, match=r"cannot write scenes to .*: a file is where a folder is needed"):
        make_scenes(tmp_path / "mine.txt" / "rooms", SETTINGS)


def test_a_place_that_cannot_be_exchanged_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in (".", "/"):
        with pytest.raises(OutputError, match="expected a folder that can be moved into its place, found"):
            make_scenes(place, SETTINGS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_worker_that_dies_is_one_line(tmp_path):
    many = Settings("rooms", 20, 1, SIZE, seed=3)  # enough that some are left when the first is told of

    def kill(done, total):
        for child in active_children():
            child.kill()

    with pytest.raises(OutputError, match="a worker process died, perhaps for lack of memory; run the same"):
        make_scenes(tmp_path / "rooms", many, workers=2, progress=kill)
    undisturbed = contents(make_scenes(tmp_path / "undisturbed", many))
    assert contents(make_scenes(tmp_path / "rooms", many)) == undisturbed


def test_an_empty_folder_is_filled(tmp_path, whole):
    (tmp_path / "rooms").mkdir()
    assert contents(make_scenes(tmp_path / "rooms", SETTINGS)) == whole


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full to stand for a full disk")
def test_a_full_disk_is_one_line_and_the_work_goes_on_afterwards(whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make_scenes(tmp_path / "rooms", SETTINGS, progress=stopping_after(3))
    lock = GenerationLock(tmp_path / "rooms")
    missing = next(name for name in whole if "official_splits" in name and name.endswith("png"))
    path = lock.folders.tree / missing
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"cannot write scenes to .*: no space left; free some and run the same"):
        make_scenes(tmp_path / "rooms", SETTINGS)
    path.unlink()
    assert contents(make_scenes(tmp_path / "rooms", SETTINGS)) == whole


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"num": 0}, DataError, "expected at least 1 scene, 1 frame, 8x8 pixels and a seed from 0 on, found 0 scenes"),
        ({"frames": 0}, DataError, "240 scenes, 0 frames"),
        ({"size": (4, 64)}, DataError, "64x4 pixels"),
        ({"seed": -1}, DataError, "the seed -1; ask for more"),
        ({"test": 1.0}, DataError, "expected a share of test scenes from 0 to below 1, found 1.0; try 0.25"),
        ({"layout": "nyu"}, UnknownNameError, "no layout 'nyu'; did you mean 'nyuv2'"),
        ({"layout": "kitti"}, DataError, "the layout 'kitti' has no place for rooms; choose one of: ibims1, imagenet"),
        (
            {"kind": "streets", "frames": 3, "layout": "kitti_semantics"},
            DataError,
            "the layout 'kitti_semantics' has room for 2 frames a scene, found 3; ask for fewer",
        ),
        ({"kind": "streets", "layout": "kitti_odometry"}, DataError, "has room for 100 scenes, found 240; ask for few"),
        ({"kind": "room"}, UnknownNameError, "no kind of scene 'room'; did you mean 'rooms'"),
    ],
)
def test_settings_that_make_no_set_say_so(wrong, error, message):
    with pytest.raises(error, match=message):
        Settings(**{"kind": "rooms"} | wrong)


def test_the_command(whole, tmp_path):
    run = CliRunner().invoke(app, [word.format(tmp_path / "rooms") for word in COMMAND])
    assert run.exit_code == 0
    assert run.stdout == f"{tmp_path / 'rooms'}\n"
    assert contents(tmp_path / "rooms") == whole
    run = CliRunner().invoke(app, ["data", "make", "rooms", str(tmp_path / "rooms"), "--size", "32"])
    assert run.exit_code == 2
    assert run.stderr == "ckaprobe: size 32: expected WIDTHxHEIGHT in pixels, as in 128x96\n"
    run = CliRunner().invoke(app, [*(word.format(tmp_path / "rooms") for word in COMMAND), "--jpeg", "50"])
    assert run.exit_code == 2
    assert "found scenes of other settings (jpeg 0, not 50)" in run.stderr
