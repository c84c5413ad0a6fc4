"""A step in parts is the step of the whole; branches that are left out; what decays: theorems of a stage's options."""

import math
import os
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from helpers.processes import run_in_processes
from helpers.trainers import DEPTHS, DrawnSamples, backbone_of, stage_of, trainer_of

from cka_probe.errors import OutOfMemoryError, RecipeError, TrainingError
from cka_probe.lab.tasks.masked import Masked
from cka_probe.lab.training.optimizer import depths, parameter_groups
from cka_probe.lab.training.run import accelerator_for, default_workers
from cka_probe.lab.training.start import checkpoint_blocks, drop_paths
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone


def trained(folder, **keys):
    trainer = trainer_of(folder, **keys)
    seen = []
    trainer.run(lambda name, step, steps, scalars: seen.append(dict(scalars)))
    return seen, trainer.objective.state_dict()


@pytest.mark.slow
def test_a_step_in_parts_is_the_step_of_the_whole(tmp_path):
    whole, weights = trained(tmp_path / "1")
    for parts in (2, 4, 8):
        scalars, others = trained(tmp_path / str(parts), accumulate=parts)
        for one, other in zip(whole, scalars, strict=True):
            assert other == pytest.approx(one, rel=1e-4)
        for name, value in weights.items():
            # AdamW divides by the gradient's own size: a rounding error of a gradient near 0 is worth a step there
            moved = (value - others[name]).abs()
            assert moved.float().mean() < 2e-5, name


def test_parts_take_the_same_images_in_the_same_order(tmp_path, monkeypatch):
    def images(parts):
        seen = []
        plain = Masked.loss
        with monkeypatch.context() as patch:
            patch.setattr(
                Masked, "loss", lambda self, b, h, batch: seen.append(batch["image"]) or plain(self, b, h, batch)
            )
            trained(tmp_path / str(parts), accumulate=parts)
        assert len(seen) == 3 * parts
        return torch.cat(seen)

    assert torch.equal(images(1), images(4))


def test_parts_divide_the_batch_and_leave_something_for_every_process(tmp_path, monkeypatch):
    with pytest.raises(RecipeError, match=r"stages\.masked\.accumulate: expected a divisor of the batch of 8, found 3"):
        stage_of(accumulate=3)
    with pytest.raises(RecipeError, match=r"stages\.masked\.accumulate: expected at least 1, found 0"):
        stage_of(accumulate=0)
    monkeypatch.setattr(Accelerator, "num_processes", 4)
    assert trainer_of(tmp_path / "x", accumulate=4).parts == 2


@pytest.mark.parametrize(
    ("parts", "advice"), [(1, "masked.accumulate=2"), (4, "masked.accumulate=8"), (8, "masked.size=32")]
)
def test_no_room_says_what_needs_less(tmp_path, monkeypatch, parts, advice):
    def full(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Masked, "loss", full)
    with pytest.raises(
        OutOfMemoryError, match=f"no room .* for {8 // parts} images of 64 pixels .*; try --set {advice}"
    ):
        trained(tmp_path / "run", accumulate=parts)


@pytest.mark.slow
def test_a_run_in_parts_goes_on_where_it_stopped(tmp_path):
    options = {"accumulate": 2, "drop_path": 0.5, "save_every": 2}
    _, whole = trained(tmp_path / "whole", **options)
    trainer = trainer_of(tmp_path / "halves", **options)

    class Killed(Exception):
        pass

    def kill(name, step, steps, scalars):
        if step == 3:
            raise Killed

    with pytest.raises(Killed):
        trainer.run(kill)
    again = trainer_of(tmp_path / "halves", **options)
    again.run()
    assert all(torch.equal(value, whole[name]) for name, value in again.objective.state_dict().items())


@pytest.mark.parametrize("name", DEPTHS)
def test_rates_of_branches_left_out_rise_linearly_to_the_last_block(name):
    from timm.layers import DropPath

    backbone = backbone_of(name)
    before = backbone.state_dict()
    drop_paths(backbone.model, 0.4)
    rates = [module.drop_prob for module in backbone.modules() if isinstance(module, DropPath)]
    blocks, branches = {"swinv2_micro": (5, 2), "resnet18": (8, 1)}[name]
    expected = [0.4 * block / (blocks - 1) for block in range(blocks) for _ in range(branches)]
    assert rates == pytest.approx(expected)
    assert list(backbone.state_dict()) == list(before)
    backbone.load_state_dict(before)


@pytest.mark.parametrize("name", DEPTHS)
def test_branches_are_left_out_of_training_alone(name):
    plain, dropping, images = backbone_of(name), backbone_of(name), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        for backbone in (
            plain,
            dropping,
        ):  # the norms after Swin's branches start at 0, where leaving out changes nothing
            for key, parameter in backbone.named_parameters():
                if "norm" in key:
                    parameter.fill_(0.7)
    drop_paths(dropping.model, 0.9)
    assert torch.equal(plain.eval()(images), dropping.eval()(images))
    assert not torch.allclose(plain.train()(images), dropping.train()(images))


def test_a_rate_of_0_touches_nothing_and_draws_nothing():
    plain, zero, images = backbone_of("swinv2_micro"), backbone_of("swinv2_micro"), torch.rand(2, 3, 64, 64)
    drop_paths(zero.model, 0.0)
    assert repr(plain) == repr(zero)
    state = torch.get_rng_state()
    assert torch.equal(plain.train()(images), zero.train()(images))
    assert torch.equal(state, torch.get_rng_state())


def test_a_branch_left_out_is_made_up_for_in_the_mean():
    torch.manual_seed(0)
    backbone = backbone_of("resnet18")
    drop_paths(backbone.model, 0.5)
    last = backbone.model.layer4[1].drop_path
    given = last.train()(torch.ones(4000, 1))
    assert set(given.unique().tolist()) == {0.0, 2.0}
    assert given.mean().item() == pytest.approx(1.0, abs=0.06)


def test_an_encoder_without_blocks_has_nothing_to_leave_out():
    with pytest.raises(RecipeError, match=r"expected an encoder of residual blocks, found Conv2d; set drop_path=0"):
        drop_paths(torch.nn.Conv2d(3, 3, 1), 0.1)
    with pytest.raises(RecipeError, match=r"stages\.masked\.drop_path: expected a number in \[0, 1\), found 1\.0"):
        stage_of(drop_path=1.0)


def test_rates_by_layer_of_the_paper_model_at_full_size():
    """What Swin-v2-L learns at in MIM-Depth's fine-tuning, rate over rate of the head."""
    with torch.device("meta"):
        backbone = Backbone(ARCHITECTURES["swinv2_large"].build(size=192), size=192)
    depth_of, last = depths(backbone.model)
    listed = {
        "patch_embed.proj.weight": 0.0106,
        "layers.1.downsample.reduction.weight": 0.0172,
        "layers.1.downsample.norm.weight": 0.0172,
        "layers.2.blocks.3.norm1.weight": 0.054,
        "layers.2.blocks.6.norm1.weight": 0.087,
        "layers.2.blocks.9.norm1.weight": 0.142,
        "layers.2.blocks.12.norm1.weight": 0.232,
        "layers.2.blocks.15.norm1.weight": 0.377,
        "layers.3.downsample.norm.weight": 0.614,
        "norm.weight": 1.0,
    }
    assert last == 28
    named = dict(backbone.model.named_parameters())
    head = torch.nn.Linear(3, 3)
    scale = {id(p): g["scale"] for g in parameter_groups(backbone, head, 0.05, 0.85) for p in g["params"]}
    for name, multiplier in listed.items():
        assert 0.85 ** (28 - depth_of(name)) == pytest.approx(multiplier, abs=6e-4), name
        assert scale[id(named[name])] == pytest.approx(multiplier, abs=6e-4), name
    assert scale[id(head.weight)] == 1.0


def test_simmim_lets_the_network_of_the_position_bias_decay():
    backbone, head = backbone_of("swinv2_micro"), torch.nn.Linear(3, 3)

    def decaying(undecayed):
        groups = parameter_groups(backbone, head, 0.05, 1.0, undecayed)
        decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
        return {name for name, p in backbone.model.named_parameters() if decay[id(p)]}

    more = decaying(()) - decaying(stage_of().undecayed)
    assert {name.partition("attn.")[2] for name in more} == {"cpb_mlp.0.weight", "cpb_mlp.2.weight", "logit_scale"}


@pytest.mark.parametrize(
    ("device", "cores", "sharing", "expected"),
    [("cpu", 64, "1", 0), ("cuda", 1, "1", 1), ("cuda", 12, "1", 11), ("cuda", 64, "1", 16), ("cuda", 64, "8", 7)],
)
def test_who_reads_ahead_where_nobody_says(monkeypatch, device, cores, sharing, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", sharing)
    assert default_workers(SimpleNamespace(device=torch.device(device))) == expected


def test_checkpointing_computes_blocks_twice_and_changes_nothing(tmp_path):
    weights, calls = [], []
    for checkpointing in (False, True):
        trainer = trainer_of(tmp_path / str(checkpointing), steps=2, drop_path=0.5, checkpointing=checkpointing)
        calls.append([])
        block = trainer.objective.backbone.model.layers[2].blocks[0].mlp
        block.register_forward_hook(lambda *_: calls[-1].append(1))
        trainer.run()
        weights.append(trainer.objective.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert [len(each) for each in calls] == [2, 4]
    with pytest.raises(RecipeError, match="expected a transformer of timm, found ResNet; set checkpointing=false"):
        checkpoint_blocks(backbone_of("resnet18").model, True)


@pytest.mark.parametrize(("precision", "tf32"), [("no", False), ("tf32", True), ("bf16", False)])
def test_only_tf32_computes_float32_in_tf32(precision, tf32):
    accelerator_for("cpu", "no" if tf32 else "tf32")
    accelerator = accelerator_for("cpu", precision)
    assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == tf32
    assert accelerator.mixed_precision == ("no" if tf32 else precision)


PARTS = """
import sys
from pathlib import Path
import torch
from helpers.trainers import trainer_of
trainer = trainer_of(Path(sys.argv[1]), accumulate=2)
trainer.run()
if trainer.accelerator.is_main_process:
    torch.save(trainer.objective.state_dict(), Path(sys.argv[1]) / "weights.pt")
trainer.accelerator.wait_for_everyone()
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_three_processes_in_parts_do_what_one_does_whole(tmp_path):
    losses, whole = trained(tmp_path / "one")
    run_in_processes(PARTS, tmp_path, "three", processes=3)  # parts of 4 images: 2, 1 and 1
    three = torch.load(tmp_path / "three/weights.pt", weights_only=True)
    for name, value in whole.items():
        assert (value - three[name]).abs().float().mean() < 2e-5, name
    logged = pd.read_csv(tmp_path / "three/log.csv")["loss"]
    assert list(logged) == pytest.approx([scalars["loss"] for scalars in losses], rel=1e-4)


@pytest.mark.parametrize("task", ["depth", "lidar"])
def test_training_on_depth_of_which_nothing_is_measured_is_an_error(tmp_path, monkeypatch, task):
    plain = DrawnSamples.__getitem__
    monkeypatch.setattr(
        DrawnSamples, "__getitem__", lambda self, index: plain(self, index) | {"depth": torch.zeros(1, 64, 64)}
    )
    seen, trainer = [], trainer_of(tmp_path / "t", task=task, batch=2, options={})
    with pytest.raises(TrainingError, match=r"stage 'masked': expected a gradient that is not 0, found 0 in 3 steps"):
        trainer.run(lambda name, step, steps, scalars: seen.append(scalars))
    assert len(seen) == 2
    assert all(math.isnan(scalars["abs_rel" if task == "depth" else "absolute"]) for scalars in seen)
    assert not list((tmp_path / "t").glob("*.pt"))
