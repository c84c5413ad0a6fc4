"""Pseudo-depth pre-training: its sum, what it takes over from geometric pre-training, and that it learns."""

from dataclasses import fields
from functools import cache
from types import SimpleNamespace

import pytest
import torch

from cka_probe.errors import RecipeError
from cka_probe.images.datasets import open_dataset
from cka_probe.lab.scenes.make import Settings, make_scenes
from cka_probe.lab.tasks.geometric import Geometric
from cka_probe.lab.tasks.pseudo_depth import PARTS, PseudoDepth, with_nearest
from cka_probe.lab.training.recipe import recipe_of
from cka_probe.lab.training.run import run_recipe
from cka_probe.lab.training.start import fill
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone
from cka_probe.models.checkpoint import read_checkpoint

SIZE = (64, 64)


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return Backbone(ARCHITECTURES["swinv2_micro"].build(size=64, depths=(1, 1, 2, 1)), size=64).eval()


@cache
def rooms():
    """Return a batch of rooms with pseudo-depth 0.7 d + 0.15, and the depth of all frames (2, 3, 1, 64, 64)."""
    videos = open_dataset("scenes:rooms?num=2&frames=3&size=64x64&sources=-1,1")
    frames = open_dataset("scenes:rooms?num=2&frames=3&size=64x64")
    samples = [videos.some(room, {"image", "sources", "K", "source_T_target", "depth"}) for room in range(2)]
    depths = torch.stack(
        [torch.stack([frames.some(3 * room + at, {"depth"})["depth"] for at in (1, 0, 2)]) for room in range(2)]
    )
    batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
    return batch | {"pseudo_depth": 0.7 * batch["depth"] + 0.15}, depths


def head_of(task, backbone, seed=0):
    torch.manual_seed(seed)
    return task.head(backbone).eval()


def loss_of(task, backbone, head, batch, seed=0):
    torch.manual_seed(seed)
    loss, parts = task.loss(backbone, head, batch)
    return loss.item(), {name: part.item() for name, part in parts.items()}


def test_it_has_the_options_of_geometric_pre_training_less_two():
    ours, theirs = ({f.name: f.default for f in fields(task)} for task in (PseudoDepth, Geometric))
    assert theirs.keys() - ours.keys() == {"smoothness", "rectify"}
    assert ours.keys() - theirs.keys() == {*PARTS[2:], "nearest", "ranked_mean", "ratio", "reach"}
    assert {name: ours[name] for name in theirs if name in ours} == {
        name: default for name, default in theirs.items() if name in ours
    }


def test_what_it_needs_follows_from_its_options():
    least = {"image", "sources", "K", "pseudo_depth"}
    assert PseudoDepth(SIZE).needs == least
    assert PseudoDepth(SIZE, truth=True).needs == least | {"depth"}
    assert PseudoDepth(SIZE, poses="known").needs == least | {"source_T_target"}


def test_the_loss_is_the_weighted_sum_of_its_parts(backbone):
    batch, _ = rooms()
    weights = dict(zip(PARTS, (1.0, 0.5, 0.25, 2.0, 4.0), strict=True))
    task = PseudoDepth(SIZE, **weights)
    loss, parts = loss_of(task, backbone, head_of(task, backbone), batch)
    assert tuple(parts) == PARTS
    assert loss == pytest.approx(sum(weights[name] * part for name, part in parts.items()), rel=1e-5)
    assert all(part > 0 for part in parts.values())


def test_without_its_three_losses_it_is_geometric_pre_training_without_smoothness(backbone):
    batch, _ = rooms()
    plain = {"normal_matching": 0.0, "depth_ranking": 0.0, "relative_normal": 0.0}
    ours, theirs = PseudoDepth(SIZE, window=3, **plain), Geometric(SIZE, window=3, smoothness=0.0)
    head = head_of(theirs, backbone)
    first, second = (loss_of(task, backbone, head, batch)[0] for task in (ours, theirs))
    assert first == pytest.approx(second, rel=1e-6)


def test_it_evaluates_and_predicts_as_geometric_pre_training_does(backbone):
    batch, _ = rooms()
    ours, theirs = PseudoDepth(SIZE, truth=True), Geometric(SIZE, truth=True)
    head = head_of(ours, backbone)
    with torch.no_grad():
        values = [task.evaluate(backbone, head, batch) for task in (ours, theirs)]
        depths = [task.predict(backbone, head, batch["image"]) for task in (ours, theirs)]
    assert values[0].keys() == values[1].keys() >= {"photometric", "abs_rel", "abs_rel_constant"}
    assert all(torch.equal(values[0][name], values[1][name]) for name in values[0])
    assert torch.equal(*depths)


def test_pairs_follow_from_the_global_generator_alone(backbone):
    batch, _ = rooms()
    task = PseudoDepth(SIZE)
    head = head_of(task, backbone)
    first, second, other = (loss_of(task, backbone, head, batch, seed)[1] for seed in (0, 0, 1))
    assert first == second
    assert {name for name in PARTS if first[name] != other[name]} == {"depth_ranking", "relative_normal"}


def test_ratio_and_reach_are_what_the_losses_are_given(backbone):
    batch, _ = rooms()
    head = head_of(PseudoDepth(SIZE), backbone)
    found = {
        how: loss_of(PseudoDepth(SIZE, **{how[0]: how[1]}), backbone, head, batch)[1]
        for how in (("ratio", 1.15), ("ratio", 1000.0), ("reach", 0.25), ("reach", 1.0))
    }
    assert found["ratio", 1000.0]["depth_ranking"] == 0 < found["ratio", 1.15]["depth_ranking"]
    # by default distances go with the image's side: 64 / 256
    assert found["ratio", 1.15] == found["reach", 0.25]
    assert found["reach", 0.25]["relative_normal"] != found["reach", 1.0]["relative_normal"]


def test_views_keep_images_and_pseudo_depth_on_top_of_each_other():
    columns = torch.arange(1.0, 129.0).expand(1, 96, 128) / 128
    sample = {
        "image": columns.expand(3, -1, -1),
        "sources": columns.expand(2, 3, -1, -1),
        "K": torch.tensor([[80.0, 0, 63.5], [0, 80, 47.5], [0, 0, 1]]),
        "pseudo_depth": columns,
    }
    for seed in range(10):
        view = PseudoDepth(SIZE).prepare(sample, torch.Generator().manual_seed(seed), True)
        assert view["pseudo_depth"].shape == (1, *SIZE)
        assert (view["image"][:1] - view["pseudo_depth"]).abs().max() < 1.5 / 128  # nearest against mean


def test_the_nearest_by_hand():
    pseudo = torch.tensor([[3.0, 0.0, 11.0, 5.0], [7.0, 7.0, 0.0, 7.0], [0.0, 0.0, 0.0, 0.0]]).view(3, 1, 2, 2)
    lifted = with_nearest(pseudo, 0.2)
    torch.testing.assert_close(lifted[0].flatten(), torch.tensor([2.0, 0.0, 10.0, 4.0]))  # 2 : 10 = 0.2
    assert torch.equal(lifted[1:], pseudo[1:])


@pytest.mark.slow
def test_with_a_nearest_neither_scale_nor_shift_of_the_pseudo_depth_counts(backbone):
    batch, _ = rooms()
    depth = batch["depth"]
    files = depth - depth.amin((2, 3), keepdim=True) + 0.01  # as LeReS's begin next to the camera
    for nearest, same in ((0.3, True), (0.0, False)):
        task = PseudoDepth(SIZE, nearest=nearest)
        head = head_of(task, backbone)
        first, second, third = (
            loss_of(task, backbone, head, batch | {"pseudo_depth": pseudo})[1]
            for pseudo in (depth, 0.7 * depth + 3, 1e4 * files)
        )
        for other in (second, third):
            assert (other == pytest.approx(first, rel=0.02)) == same  # edges and pairs may lie at a threshold


def said(depths):
    return SimpleNamespace(depth=lambda pyramid: depths.flatten(0, 1), pose=None)


def test_true_depth_and_motion_of_rooms_lose_least():
    batch, depths = rooms()
    task = PseudoDepth(SIZE, poses="known")
    no_backbone = SimpleNamespace(pyramid=lambda images: None)
    mean = depths.mean((-2, -1), keepdim=True)
    wrong = {
        "larger": 1.25 * depths,
        "tilted": depths * (1 + 0.2 * torch.linspace(-1, 1, 64)),
        "half flat": (depths + mean) / 2,
        "flat": mean.expand_as(depths),
    }
    truth, parts = loss_of(task, no_backbone, said(depths), batch)
    for name, depth in wrong.items():
        loss, its_parts = loss_of(task, no_backbone, said(depth), batch)
        assert loss > 1.02 * truth, name
        # larger depth is ranked with more confidence and has the same normals: the frames alone object
        better = {part for part in PARTS if its_parts[part] < parts[part] - 1e-6}
        assert better == ({"depth_ranking"} if name == "larger" else set()), name


def test_with_a_ranked_mean_the_unit_of_the_depth_does_not_count():
    batch, depths = rooms()
    no_backbone = SimpleNamespace(pyramid=lambda images: None)
    for mean, same in ((3.0, True), (0.0, False)):
        task = PseudoDepth(SIZE, poses="known", ranked_mean=mean)
        # with no pose known nothing is visible, and pairs are drawn by chance alone, the same for both
        far = batch | {"source_T_target": torch.full_like(batch["source_T_target"], torch.nan)}
        first, second = (loss_of(task, no_backbone, said(unit * depths), far)[1] for unit in (1.0, 0.1))
        assert (first["depth_ranking"] == pytest.approx(second["depth_ranking"], rel=1e-4)) == same


@pytest.mark.parametrize("image", ["constant", "drawn"])
@pytest.mark.parametrize("pseudo", ["zeros", "constant", "drawn", "16 bit"])
def test_degenerate_batches_give_finite_losses_and_gradients(backbone, image, pseudo):
    made = {
        "zeros": torch.zeros(2, 1, *SIZE),
        "constant": torch.full((2, 1, *SIZE), 2.0),
        "drawn": torch.rand(2, 1, *SIZE),
        "16 bit": (6e4 * torch.rand(2, 1, *SIZE)).round(),
    }
    image = torch.rand(2, 3, *SIZE) if image == "drawn" else torch.full((2, 3, *SIZE), 0.45)
    batch = {"image": image, "sources": image[:, None].expand(-1, 2, -1, -1, -1), "K": rooms()[0]["K"]}
    task = PseudoDepth(SIZE)
    head = head_of(task, backbone)
    loss, parts = task.loss(backbone, head, batch | {"pseudo_depth": made[pseudo]})
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in (*backbone.parameters(), *head.parameters()))
    if pseudo == "zeros":
        assert all(parts[name] == 0 for name in PARTS[2:])
    backbone.zero_grad()


def test_its_head_goes_on_with_depth_and_motion_and_leaves_the_rectify_network(backbone):
    before, after = Geometric(SIZE, rectify=True), PseudoDepth(SIZE)
    state = head_of(before, backbone).state_dict()
    head = head_of(after, backbone, seed=1)
    fill(head, state)
    assert {name.split(".")[0] for name in state} == {"depth", "pose", "rectify"}
    assert {name.split(".")[0] for name in head.state_dict()} == {"depth", "pose"}
    assert all(torch.equal(value, state[name]) for name, value in head.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth_ranking": -1.0}, "pseudo_depth: expected weights of 0 or more, found .*'depth_ranking': -1.0"),
        ({"nearest": 1.0}, r"pseudo_depth: expected `nearest` in \[0, 1\), found 1.0"),
        ({"ratio": 1.0}, "pseudo_depth: expected a `ratio` above 1, found 1.0"),
        ({"ranked_mean": -1.0}, "pseudo_depth: expected a `ranked_mean` of 0 or more, found -1.0"),
        ({"reach": -1.0}, "pseudo_depth: expected a `reach` of 0 or more, found -1.0"),
        ({"window": 4}, "pseudo_depth: expected an odd `window`, found 4"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(RecipeError, match=message):
        PseudoDepth(SIZE, **options)


def test_data_without_pseudo_depth_is_refused_before_anything_is_trained(tmp_path):
    stage = {"task": "pseudo_depth", "data": "scenes:rooms?num=2&frames=3&sources=-1,1", "steps": 1, "batch": 1}
    recipe = {"name": "x", "architecture": "swinv2_micro", "size": 64, "stages": {"sp": stage | {"lr": 1e-3}}}
    with pytest.raises(RecipeError, match="has no pseudo_depth; choose another dataset or task"):
        run_recipe(recipe_of(recipe), tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("reset", [False, True])
def test_a_recipe_goes_from_geometric_to_pseudo_depth(tmp_path, reset):
    root = make_scenes(tmp_path / "rooms", Settings("rooms", 2, 3, (64, 64), layout="sc_depth"))
    shared = {"data": f"scdepth:{root}:train?sources=-1,1", "steps": 1, "batch": 1, "lr": 1e-12, "weight_decay": 0.0}
    stages = {
        "gp": shared | {"task": "geometric", "options": {"rectify": True}},
        "sp": shared | {"task": "pseudo_depth", "reset_head": reset, "options": {"truth": True}},
    }
    stages["sp"]["validation"] = shared["data"]
    recipe = {"name": "chain", "architecture": "swinv2_micro", "size": 64, "stages": stages}
    paths = run_recipe(recipe_of(recipe), tmp_path / "run")
    gp, sp = (read_checkpoint(path)[1] for path in paths)
    assert set(sp) < set(gp)
    same = [torch.allclose(sp[name], gp[name], atol=1e-6) for name in sp if name.endswith("weight")]
    if reset:
        assert not all(same)
    else:
        assert all(same)
    assert (tmp_path / "run/sp/log.csv").read_text().splitlines()[0].startswith("step,lr,loss," + ",".join(PARTS))
    assert "abs_rel_constant" in (tmp_path / "run/sp/validation.csv").read_text().splitlines()[0]


@pytest.mark.slow
def test_some_steps_on_a_batch_lower_every_part():
    torch.manual_seed(0)
    own = Backbone(ARCHITECTURES["swinv2_micro"].build(size=64, depths=(1, 1, 2, 1)), size=64).train()
    batch, _ = rooms()
    task = PseudoDepth(SIZE)
    head = head_of(task, own).train()
    optimiser = torch.optim.AdamW([*own.parameters(), *head.parameters()], 1e-3, weight_decay=0.0)
    rows = []
    for _ in range(30):
        loss, parts = task.loss(own, head, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rows.append(torch.stack([parts[name] for name in PARTS]))
    means = torch.stack(rows).unflatten(0, (6, 5)).mean(1)
    # an untrained depth is flat, and so agrees with itself: consistency first has to be lost
    first = torch.where(torch.tensor([name == "consistency" for name in PARTS]), means.amax(0), means[0])
    assert (means[-1] < 0.9 * first).all(), means
