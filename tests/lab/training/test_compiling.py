"""Compiled blocks compute what they did, under the names that they had."""

import pytest
import torch
from helpers.trainers import backbone_of, trainer_of
from torch import nn

from cka_probe.errors import RecipeError
from cka_probe.lab.training import compiling
from cka_probe.lab.training.compiling import check_compiler, compile_blocks, innermost_blocks


@pytest.fixture
def eager(monkeypatch):
    monkeypatch.setattr(compiling, "BACKEND", "eager")  # traces blocks as any backend does, and needs no compiler


@pytest.mark.parametrize(("name", "kind", "count"), [("swinv2_micro", "Block", 5), ("resnet18", "BasicBlock", 8)])
def test_the_blocks_of_an_encoder(name, kind, count):
    blocks = innermost_blocks(backbone_of(name).model)
    assert len(blocks) == count
    assert all(type(block).__name__.endswith(kind) for block in blocks)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # PyTorch's own, which it hides otherwise
def test_a_run_goes_on_compiled_and_back_under_the_same_names(tmp_path, eager):
    class Stopped(Exception):
        pass

    def run(folder, compiled, last):
        def stop(name, step, steps, scalars):
            if step > last:
                raise Stopped

        trainer = trainer_of(folder, "resnet18", save_every=1, lr=1e-5, options={"cell": 32})
        calls = []
        if compiled:
            compile_blocks(trainer.objective.backbone.model)
            block = trainer.objective.backbone.model.layer4[1]
            inner = block._compiled_call_impl
            block._compiled_call_impl = lambda *args: calls.append(1) or inner(*args)
        try:
            trainer.run(stop)
        except Stopped:
            assert (trainer.step, bool(calls)) == (last + 1, compiled)
        return trainer.objective.state_dict()

    plain = run(tmp_path / "plain", False, 9)
    for number, compiled in enumerate((True, False, True)):
        mixed = run(tmp_path / "mixed", compiled, number + 1)
    assert list(mixed) == list(plain)
    for name, value in plain.items():
        torch.testing.assert_close(mixed[name], value, rtol=1e-4, atol=1e-5)


def test_an_encoder_without_blocks_is_not_compiled():
    with pytest.raises(RecipeError, match="compile: expected an encoder of blocks, found Conv2d; set compile=false"):
        compile_blocks(nn.Conv2d(3, 3, 1))


@pytest.mark.slow
def test_a_missing_compiler_is_one_line():
    from torch._inductor import config

    missing = {"cpp.cxx": (None, "no-such-compiler"), "force_disable_caches": True}
    with config.patch(missing), pytest.raises(RecipeError, match=r"expected torch\.compile to work on cpu, fo"):
        check_compiler("cpu")
