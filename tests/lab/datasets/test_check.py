"""`check_dataset` counts what is there: its numbers are numpy's, and every fault is named and stops nothing."""

import json
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.dataset_files import cut_short, pairs_root, real_data
from helpers.paths import REAL
from helpers.samples import H, Listed, W, but, full, image, pose
from PIL import Image
from typer.testing import CliRunner

from cka_probe.errors import DataError
from cka_probe.images.datasets import open_dataset
from cka_probe.lab.datasets.check import check_dataset, evenly_spaced
from cka_probe.lab.datasets.map_statistics import LogHistogram, columns
from ckaprobe_cli import app

# numbers


def test_quantiles_are_those_of_all_values_within_a_bin():
    values = np.random.default_rng(0).lognormal(1, 1, 20000)
    whole, parts = LogHistogram(), LogHistogram()
    whole.add(values)
    for part in np.array_split(values, 7):
        parts.add(part)
    for share in (0, 0.01, 0.5, 0.99, 1):
        assert whole.quantile(share) == pytest.approx(np.quantile(values, share), rel=0.01)
        assert whole.quantile(share) == parts.quantile(share)
    assert whole.summary()["mean"] == pytest.approx(values.mean())
    assert whole.above(10) == pytest.approx((values > 10).sum(), rel=0.01)
    assert LogHistogram().summary() == {}


def test_numbers_are_those_of_all_pixels_at_once():
    samples = [full(seed) for seed in range(5)]
    samples[3]["depth"][:] = 0
    samples[1]["labels"][:2] = 255
    check = check_dataset(Listed(samples, classes=SimpleNamespace(names=("road", "sky", "car", "tree"))))
    images, depth = (np.stack([one[name] for one in samples]) for name in ("image", "depth"))
    assert check.statistics["image"]["mean"] == pytest.approx(images.mean((0, 2, 3)))
    assert check.statistics["image"]["std"] == pytest.approx(images.std((0, 2, 3)), rel=1e-5)
    assert check.statistics["image"]["sizes"] == {f"{W}x{H}": 5}
    assert check.statistics["depth"]["values"]["max"] == depth.max()
    assert check.statistics["depth"]["values"]["min"] == depth[depth > 0].min()
    assert check.statistics["depth"]["measured"] == {"frames": 5, "mean": 0.8, "min": 0.0, "max": 1.0, "none": 1}
    assert "depth is given, but 1 of 5 frames have none" in check.warnings
    labels = np.stack([one["labels"] for one in samples])
    assert check.statistics["labels"]["pixels"]["sky"] == (labels == 1).sum()
    assert check.statistics["labels"]["shares"]["sky"] == pytest.approx((labels == 1).sum() / (labels < 255).sum())
    assert check.statistics["labels"]["ignored"] == pytest.approx((labels == 255).mean())
    assert check.statistics["labels"]["never"] == ["tree"]
    assert check.statistics["category"]["images"] == {"0": 3, "1": 2}
    flow = np.hypot(*np.stack([one["flow"] for one in samples], 1))
    assert check.statistics["flow"]["length"]["max"] == pytest.approx(flow.max())
    assert (check.broken, check.problems) == (0, ())


def test_the_field_of_view_reaches_from_border_to_border():
    K = np.array([[W / 2, 0, (W - 1) / 2], [0, H / 2, (H - 1) / 2], [0, 0, 1]], np.float32)
    found = check_dataset(Listed([but(K=K), but(K=K)])).statistics["K"]
    assert found["cameras"] == 1
    assert found["degrees_across"] == pytest.approx([90, 90])
    assert found["degrees_down"] == pytest.approx([90, 90])


def test_a_principal_point_of_another_size_is_warned_about():
    K = full()["K"].copy()
    K[0, 2] = 2 * W
    (warning,) = check_dataset(Listed([{"image": image(), "K": K}])).warnings
    assert "principal point is more than 15% off the middle in 1 frames; the first: a/0.png" in warning


def test_steps_are_counted_within_a_folder_and_a_jump_is_named():
    places = [0, 1, 2, 3, 103, 104, 0, 1]
    names = [f"{'ab'[index > 5]}/{index}.png" for index in range(8)]
    samples = [{"image": image(index), "world_T_target": pose(x)} for index, x in enumerate(places)]
    check = check_dataset(Listed(samples, names))
    found = check.statistics["world_T_target"]
    assert found["step"]["median"] == pytest.approx(1, rel=0.01)
    assert found["step"]["max"] == 100
    assert found["jumps"] == 1
    assert "1 of 6 steps" in check.warnings[0]
    assert check.warnings[0].endswith("leads to a/4.png")


def test_sources_differ_by_what_they_differ_and_lie_where_they_lie():
    image = np.full((3, H, W), 0.25, np.float32)
    unknown = np.full((4, 4), np.nan, np.float32)
    one = {
        "image": image,
        "sources": np.stack([image + 0.5, image]),
        "source_T_target": np.stack([pose(3, 4), unknown]),
    }
    check = check_dataset(Listed([one]))
    assert check.statistics["sources"]["difference"]["max"] == pytest.approx(0.5)
    assert check.statistics["sources"]["baseline"]["median"] == 5
    assert (check.statistics["sources"]["unknown"], check.statistics["sources"]["same"]) == (1, 1)
    assert "1 source is the target's own image" in check.warnings
    assert any("of a single colour" in warning for warning in check.warnings)


def test_copies_are_found_and_the_first_is_named():
    check = check_dataset(Listed([{"image": image(seed)} for seed in (0, 1, 0, 2, 1)]))
    assert check.warnings == ("2 images are a copy of an earlier image; the first: a/2.png",)


def test_depth_in_millimetres_and_turned_normals_are_warned_about():
    one = full()
    check = check_dataset(Listed([one | {"depth": one["depth"] * 1000, "normals": -one["normals"]}]))
    assert any("is it in metres?" in warning for warning in check.warnings)
    assert any("100.0% of normals look away from the camera" in warning for warning in check.warnings)


def test_frames_are_forgotten_once_they_are_counted():
    class Watched(Listed):
        alive, most = weakref.WeakSet(), 0

        def __getitem__(self, index):
            found = super().__getitem__(index)
            self.alive.add(found["image"])
            Watched.most = max(Watched.most, len(self.alive))
            return {"image": found["image"] + 0}

    check_dataset(Watched([{"image": image(seed)} for seed in range(50)]))
    assert Watched.most <= 2


# what is broken


def test_broken_files_are_counted_the_first_ten_are_kept_and_the_rest_is_read():
    samples = [DataError(f"unreadable\n {index}") if index % 2 else full(index) for index in range(30)]
    check = check_dataset(Listed(samples))
    assert (check.frames, check.broken, len(check.problems)) == (30, 15, 10)
    assert check.statistics["depth"]["measured"]["frames"] == 15
    assert check.problems[0].reason == r"unreadable\n 1"
    assert "in 15 frames; the first 10:" in check.table()


def test_what_is_no_data_error_is_a_bug_and_is_raised():
    with pytest.raises(ZeroDivisionError):
        check_dataset(Listed([full(), ZeroDivisionError()]))


def test_a_part_is_read_evenly():
    assert evenly_spaced(100, 3) == [0, 50, 99]
    check = check_dataset(Listed([full(index) for index in range(9)]), num=3)
    assert (check.frames, check.total) == (3, 9)
    assert "9, 3 of them read, evenly spaced" in check.table()
    with pytest.raises(DataError, match="expected at least one frame to read, found 9 in the data and 0 asked for"):
        check_dataset(Listed([full()] * 9), num=0)


def test_the_table_is_aligned_and_narrow():
    names = tuple(f"a rather long name of class {number}" for number in range(40))
    samples = [but(labels=np.random.default_rng(seed).integers(0, 40, (H, W))) for seed in range(40)]
    table = check_dataset(Listed(samples, classes=SimpleNamespace(names=names))).table()
    assert max(map(len, table.splitlines())) < 100
    assert len({len(row.rstrip()) for row in columns([("a", "1"), ("bb", "22"), ("c", "3")], across=1)}) == 1


# the command


def run(*arguments):
    return CliRunner().invoke(app, ["data", "check", *map(str, arguments)])


@pytest.mark.slow
def test_the_command_prints_writes_and_draws(tmp_path):
    root = pairs_root(tmp_path / "pairs")
    done = run(f"nyuv2:{root}", "--out", tmp_path / "sheet.png", "--json", tmp_path / "check.json")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == "frames    7, all read"
    assert done.stdout.splitlines()[-2:] == [str(tmp_path / "check.json"), str(tmp_path / "sheet.png")]
    document = json.loads((tmp_path / "check.json").read_text())
    assert document["statistics"]["depth"] == check_dataset(open_dataset(f"nyuv2:{root}")).statistics["depth"]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 1440


@pytest.mark.slow
def test_the_command_ends_with_2_and_one_line_where_files_are_broken(tmp_path):
    root = pairs_root(tmp_path / "pairs")
    cut_short(root / "depth_mm" / "0003.png")
    done = run(f"nyuv2:{root}", "--sheet", 2, "--out", tmp_path / "sheet.pdf")
    assert done.exit_code == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("ckaprobe: ")]
    assert "1 of 7 frames has problems; the first, images/0003.png: unreadable depth map" in line
    assert "0003.png" in done.stdout
    assert (tmp_path / "sheet.pdf").is_file()
    for depth in (root / "depth_mm").iterdir():
        cut_short(depth)
    done = run(f"nyuv2:{root}", "--out", tmp_path / "none.png")
    assert (done.exit_code, (tmp_path / "none.png").exists()) == (2, False)
    assert "7 of 7 frames have problems" in done.stderr


def test_the_command_refuses_a_wrong_place_before_it_reads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(pairs_root(tmp_path / "pairs"), "--out", tmp_path / "sheet.txt")
    assert done.exit_code == 2
    assert "figures are written as png, pdf, svg; found 'sheet.txt'" in done.stderr
    assert "frames" not in done.output
    done = run("nyuv2:pairs", "--sheet", 0)
    assert done.exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["pairs"]


@real_data
def test_real_frames_are_as_their_source_says():
    found = check_dataset(open_dataset(f"nyuv2:{REAL / 'nyuv2'}"), num=12).statistics
    assert found["image"]["sizes"] == {"320x240": 12}
    assert 55 < found["K"]["degrees_across"][0] < 65  # a Kinect sees 57 to 63 degrees
    assert 0.4 < found["depth"]["values"]["min"] < found["depth"]["values"]["max"] < 10.1


def test_single_frames_have_no_flow_and_that_is_said():
    check = check_dataset(open_dataset("scenes:rooms?num=2&frames=1&size=16x16"))
    assert "nothing moves" in check.table()
