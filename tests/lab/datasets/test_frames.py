"""Frames of scenes: sources by offset, the stereo partner, and poses from one to the other."""

import pytest
import torch

from cka_probe.errors import DataError
from cka_probe.lab.datasets.frames import Frame, Frames, parse_sources


def moved(x):
    pose = torch.eye(4)
    pose[0, 3] = x
    return pose


def frame(number, **more):
    fields = {
        "image": lambda: torch.full((3, 4, 6), float(number)),
        "K": lambda: torch.eye(3),
        "world_T_target": lambda: moved(float(number)),
    }
    return Frame(f"scene/{number}", fields | more)


STEREO = {"partner": lambda: torch.ones(3, 4, 6), "partner_T_target": lambda: moved(-0.5)}


def test_a_frame_without_sources_is_what_it_says():
    frames = Frames([[frame(0), frame(1)], [frame(2)]])
    assert len(frames) == 3
    assert frames.gives == {"image", "K", "world_T_target"}
    assert frames.describe(2) == "scene/2"
    assert frames.image(1)[0, 0, 0] == 1


def test_only_frames_with_all_sources_are_targets_and_sources_stay_in_their_scene():
    frames = Frames([[frame(n) for n in range(4)], [frame(n) for n in range(10, 13)], [frame(20)]], (-1, 1))
    assert [frames.describe(i) for i in range(len(frames))] == ["scene/1", "scene/2", "scene/11"]
    sample = frames[2]
    assert sample["sources"][:, 0, 0, 0].tolist() == [10, 12]
    assert set(sample) == frames.gives


def test_a_pose_takes_points_of_the_target_to_the_source():
    sample = Frames([[frame(n) for n in range(3)]], (-1, 1))[0]
    origin = torch.tensor([0.0, 0.0, 0.0, 1.0])
    assert (sample["source_T_target"] @ origin)[:, 0].tolist() == [1.0, -1.0]


def test_a_stereo_partner_is_a_source_with_its_own_pose():
    frames = Frames([[frame(0, **STEREO), frame(1, **STEREO)]], (1, "s"))
    sample = frames[0]
    assert sample["sources"][1].eq(1).all()
    assert sample["source_T_target"][:, 0, 3].tolist() == [-1.0, -0.5]
    assert not {"partner", "partner_T_target"} & frames.gives


def test_without_poses_the_way_to_a_neighbour_is_not_known():
    bare = [Frame(str(n), {"image": lambda: torch.zeros(3, 4, 6), **STEREO}) for n in range(2)]
    assert "source_T_target" not in Frames([bare], (1,)).gives
    poses = Frames([bare], (1, "s"))[0]["source_T_target"]
    assert poses[0].isnan().all()
    assert not poses[1].isnan().any()


def test_a_field_that_one_frame_lacks_is_not_given():
    frames = Frames([[frame(0, depth=lambda: torch.ones(1, 4, 6))], [frame(1)]])
    assert "depth" not in frames.gives
    assert "depth" not in frames[0]


def test_a_frame_that_is_no_target_is_a_source_and_owes_no_truth():
    depth = {"depth": lambda: torch.ones(1, 4, 6)}
    bare = [Frame(f"scene/{n}", {"image": frame(n).fields["image"]}, target=False) for n in (0, 2)]
    frames = Frames([[bare[0], frame(1, **depth), bare[1]]], (-1, 1))
    assert [frames.describe(i) for i in range(len(frames))] == ["scene/1"]
    assert frames.gives == {"image", "K", "depth", "sources"}  # a source without a pose: none is promised
    assert frames[0]["sources"][:, 0, 0, 0].tolist() == [0, 2]
    assert "world_T_target" in Frames([[frame(1, **depth), bare[1]]]).gives


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Frames([]), "found none"),
        (lambda: Frames([[frame(0)]], (1,)), "longest scene has 1"),
        (lambda: Frames([[frame(0)]], ("s",)), "no stereo partner"),
        (lambda: Frames([[frame(0, depth=lambda: torch.ones(1, 4, 7))]])[0], "found 7x4"),
        (lambda: Frames([[frame(0), frame(1, image=lambda: torch.ones(3, 4, 7))]], (1,))[0],
         "expected source 1 of the image's 6x4 pixels, found 7x4"),
        (lambda: parse_sources("-1,x"), "as in -1,1,s"),
        (lambda: parse_sources("0,1"), "not the frame itself"),
        (lambda: parse_sources("1,1"), "each source once"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(build, message):
    with pytest.raises(DataError, match=message):
        build()
