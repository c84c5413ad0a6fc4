"""Whatever is done to a sample, its fields go on telling one story: that of a textured plane seen by three cameras."""

import pytest
import torch
from helpers.paths import REAL as DATA
from helpers.pipelines import pipeline
from helpers.plane import mirrored, scene, seen, texture, tiles
from torchvision.transforms import v2

from cka_probe.images.datasets import open_dataset
from cka_probe.images.sample import FIELDS
from cka_probe.lab.geometry import rigid_flow, warp
from cka_probe.lab.transforms import cropped, flipped, resized, resized_crop

VIEWS = {
    "nothing": lambda sample: sample,
    "larger": lambda sample: resized(sample, (90, 126)),
    "smaller": lambda sample: resized(sample, (30, 42)),
    "out of shape": lambda sample: resized(sample, (47, 120)),
    "cropped": lambda sample: cropped(sample, (7, 12, 41, 60)),
    "a box at a size": lambda sample: resized_crop(sample, (5, 8, 50, 70), (64, 48)),
    "flipped": flipped,
    "flipped box": lambda sample: flipped(resized_crop(sample, (5, 9, 50, 61), (40, 80))),
    "v2.Resize(int)": pipeline(v2.Resize(48)),
    "v2.Resize(max)": pipeline(v2.Resize(48, max_size=60)),
    "v2.CenterCrop": pipeline(v2.CenterCrop((41, 50))),
    "v2.CenterCrop beyond": pipeline(v2.CenterCrop((71, 55))),
    "v2.Pad": pipeline(v2.Pad([3, 8])),
    "v2.Pad by mirror images": pipeline(v2.Pad([3, 8, 1, 2], padding_mode="reflect")),
    "v2.RandomCrop": pipeline(v2.RandomCrop((40, 50))),
    "v2.RandomCrop beyond": pipeline(v2.RandomCrop((70, 90), pad_if_needed=True)),
    "v2.RandomResizedCrop": pipeline(v2.RandomResizedCrop((56, 64), scale=(0.5, 0.9))),
    "v2.RandomHorizontalFlip": pipeline(v2.RandomHorizontalFlip(1.0)),
    "v2.RandomZoomOut": pipeline(v2.RandomZoomOut(side_range=(1.2, 1.6), p=1.0)),
    "v2.ScaleJitter": pipeline(v2.ScaleJitter((60, 84), scale_range=(0.8, 1.4))),
    "v2.RandomShortestSize": pipeline(v2.RandomShortestSize([50, 70])),
    "a pipeline": pipeline(
        v2.RandomResizedCrop((72, 90), scale=(0.4, 0.9)), v2.RandomHorizontalFlip(1.0), v2.Pad(4), v2.Resize((60, 61))
    ),
}


@pytest.fixture(params=VIEWS)
def view(request):
    return VIEWS[request.param](scene())


def known(view):
    """Return the pixels inside the image, (h, w) bool, without those beside its end: there it is mixed with fill."""
    there = (view["depth"][0] > 0).float()[None, None]
    return -torch.nn.functional.max_pool2d(-torch.nn.functional.pad(there, (2, 2, 2, 2), value=1.0), 5, 1)[0, 0] > 0


def displacement(image, expected, there):
    """Return by how many pixels (down, right) an image lies beside what is expected, by least squares."""
    slopes = torch.stack(torch.gradient(expected, dim=(1, 2)), -1)[:, there].reshape(-1, 2)
    error = (expected - image)[:, there].reshape(-1, 1)
    return torch.linalg.lstsq(slopes, error).solution.flatten()


def test_k_and_pose_say_what_the_image_shows(view):
    depth, points = seen(view)
    there, expected = known(view), texture(points)
    assert displacement(view["image"], expected, there).abs().max() < 0.03
    assert (view["image"] - expected)[:, there].abs().mean() < 0.012  # a smaller image is a mean over areas
    relative = (view["depth"] / depth - 1)[0][there]
    assert relative.abs().max() < 0.02
    assert relative.mean().abs() < 0.003
    torch.testing.assert_close(view["pseudo_depth"], 0.5 * view["depth"])


@pytest.mark.parametrize("shift", [(0.5, 0.0), (0.0, -0.5)])
def test_half_a_pixel_would_be_noticed(shift):
    view = {**scene(), "K": scene()["K"].clone()}
    view["K"][:2, 2] += torch.tensor(shift)
    across, down = displacement(view["image"], texture(seen(view)[1]), known(view)).flip(0).tolist()
    assert (across, down) == pytest.approx((-shift[0], -shift[1]), abs=0.05)


def test_sources_warped_by_depth_and_pose_give_the_image(view):
    target, depth = view["image"], view["depth"]
    there = known(view)
    for source, source_T_target in zip(view["sources"], view["source_T_target"], strict=True):
        image, _, visible = warp(source[None], depth[None], view["K"], source_T_target)
        inside = (
            visible[0, 0]
            & there
            & warp(there[None, None].float(), depth[None], view["K"], source_T_target)[0].gt(0.999)[0, 0]
        )
        assert inside.float().mean() > 0.1
        error = (image[0] - target).abs()[:, inside].mean()
        unwarped = (source - target).abs()[:, inside].mean()
        assert error < 0.012
        assert error < unwarped / 8


def test_flow_is_the_rigid_flow_of_depth_and_pose(view):
    rigid = rigid_flow(view["depth"][None], view["K"], view["source_T_target"][0])[0]
    there = view["depth"][0] > 0
    difference = (view["flow"] - rigid)[:, there]
    assert difference.abs().max() < 0.12
    assert difference.mean(1).abs().max() < 0.03
    assert view["flow"][:, ~there].isnan().all()


def test_labels_and_numbers_stay_on_their_pixels(view):
    there = view["depth"][0] > 0
    labels = view["labels"]
    assert labels.dtype == torch.int64
    assert (labels == tiles(seen(view)[1]))[there].float().mean() > 0.88  # nearest: a tile's border may lie beside
    assert labels[there].max() < 5
    assert labels[~there].eq(255).all()
    assert torch.equal(view["instances"], torch.where(there, labels + 1, 0))
    assert torch.equal(view["planes"][2], torch.where(there, labels + 3, 0))


def test_normals_flags_and_category_follow(view):
    there = view["depth"][0] > 0
    sign = torch.tensor([-1.0 if mirrored(view) else 1.0, 1, 1])
    expected = (sign * scene()["normals"][:, 0, 0]).view(3, 1, 1) * there
    torch.testing.assert_close(view["normals"], expected)
    assert torch.equal(view["valid"][0], there)
    assert view["occluded"][0][~there].all()
    assert (view["occluded"][0] | ~there).float().mean() < 1
    assert view["category"] == 3
    assert list(view) == list(FIELDS)
    assert all(type(field) is torch.Tensor for field in view.values())
    assert all(field.dtype == scene()[name].dtype for name, field in view.items())
    assert (
        len(
            {
                field.shape[-2:]
                for name, field in view.items()
                if field.ndim and name[0] not in "Kw" and "_T_" not in name
            }
        )
        == 1
    )


REAL = DATA / "hololens_rgbd"


@pytest.mark.skipif(not REAL.is_dir(), reason="the real recording (../shared/data/hololens_rgbd) is not here")
@pytest.mark.parametrize(
    "name", ["nothing", "larger", "out of shape", "a box at a size", "flipped box", "v2.Pad", "v2.RandomResizedCrop"]
)
def test_a_real_recording_warps_onto_itself_after_every_change_of_geometry(name):
    frames = open_dataset(f"video:{REAL}?sources=-1,1")
    unwarped, warped = [], []
    for index in (40, 160, 280):
        view = VIEWS[name](frames[index])
        for source, source_T_target in zip(view["sources"], view["source_T_target"], strict=True):
            image, _, visible = warp(source[None], view["depth"][None], view["K"], source_T_target)
            visible = visible[0].expand_as(source)
            unwarped.append((source - view["image"]).abs()[visible].mean())
            warped.append((image[0] - view["image"]).abs()[visible].mean())
    assert sum(warped) < sum(unwarped) / 2.5
