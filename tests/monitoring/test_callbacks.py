"""Monitors in the trainers of Lightning and of Transformers."""

import subprocess
import sys
import warnings

import pytest
import torch
from helpers.processes import run_in_processes
from torch import nn

import cka_probe
from cka_probe.comparison.fingerprint import Fingerprint
from cka_probe.errors import CkaProbeError

IMAGES = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
STEPS = [0, 2, 4, 5]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Dropout(0.1), nn.Flatten(), nn.Linear(144, 2))


def monitor(model, out, **options):
    return cka_probe.DriftMonitor(model, IMAGES, out=out, **{"layers": ["0", "4"], "every": 2} | options)


def lightning_weights(folder, watch=None, max_steps=5, checkpoint=None, **options):
    """Return the weights after a few steps with Lightning."""
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = network()

        def training_step(self, batch, _index):
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    module = Module()
    data = torch.utils.data.TensorDataset(IMAGES, torch.arange(12) % 2)
    torch.manual_seed(1)
    loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True)
    callbacks = [cka_probe.lightning_callback(monitor(module.net, folder / "drift", **watch))] if watch else []
    trainer = lightning.Trainer(
        max_steps=max_steps, accelerator="cpu", devices=1, callbacks=callbacks, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, log_every_n_steps=1, **options,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Lightning
        trainer.fit(module, loader, ckpt_path=checkpoint)
    trainer.save_checkpoint(folder / "last.ckpt")
    return trainer, module.state_dict()


def test_lightning(tmp_path):
    loggers = pytest.importorskip("lightning.pytorch.loggers")
    quiet = {"logger": False, "enable_checkpointing": False}
    _, expected = lightning_weights(tmp_path / "without", **quiet)
    logger = loggers.CSVLogger(tmp_path / "logs")
    _, weights = lightning_weights(tmp_path, {"log": ()}, logger=logger, enable_checkpointing=False)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    paths = sorted((tmp_path / "drift" / "fingerprints").iterdir())
    assert [int(path.stem[-9:]) for path in paths] == STEPS
    trained = network()
    trained.load_state_dict({name.removeprefix("net."): value for name, value in expected.items()})
    last = cka_probe.fingerprint(trained, IMAGES, layers=["0", "4"])
    assert Fingerprint.load(paths[-1]).side.hash == last.side.hash
    assert "cka_to_start/4" in (tmp_path / "logs/lightning_logs/version_0/metrics.csv").read_text()


def test_lightning_resumes(tmp_path):
    quiet = {"logger": False, "enable_checkpointing": False}
    lightning_weights(tmp_path / "whole", {"resume": True}, **quiet)
    lightning_weights(tmp_path, {"resume": True}, max_steps=3, **quiet)
    lightning_weights(tmp_path, {"resume": True}, checkpoint=tmp_path / "last.ckpt", **quiet)
    table = (tmp_path / "drift" / "drift.csv").read_text()
    steps = [int(line.split(",")[0]) for line in table.splitlines()[1::2]]
    assert steps == [0, 2, 3, 4, 5]


def transformers_weights(folder, watch=None, **options):
    """Return the weights after a few steps with the trainer of Transformers."""
    transformers = pytest.importorskip("transformers")

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()

        def forward(self, pixel_values, labels=None):
            logits = self.net(pixel_values)
            loss = None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
            return {"loss": loss, "logits": logits}

    model = Model()
    data = [{"pixel_values": image, "labels": index % 2} for index, image in enumerate(IMAGES)]
    arguments = transformers.TrainingArguments(
        output_dir=str(folder / "trainer"), max_steps=5, per_device_train_batch_size=4, use_cpu=True, seed=1,
        report_to=[], save_strategy="no", disable_tqdm=True, logging_strategy="no", **options,
    )  # fmt: skip
    callbacks = []
    if watch is not None:
        callbacks = [cka_probe.transformers_callback(monitor(model, folder / "drift", layers=["net.0", "net.4"]))]
    trainer = transformers.Trainer(model, arguments, train_dataset=data, callbacks=callbacks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Transformers
        trainer.train()
    return {name: value.clone() for name, value in model.state_dict().items()}, model


@pytest.mark.parametrize("bf16", [False, True])
def test_transformers(tmp_path, bf16):
    expected, _ = transformers_weights(tmp_path / "without", bf16=bf16)
    weights, model = transformers_weights(tmp_path, {}, bf16=bf16)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    paths = sorted((tmp_path / "drift" / "fingerprints").iterdir())
    assert [int(path.stem[-9:]) for path in paths] == STEPS
    last = cka_probe.fingerprint(model.net, IMAGES, layers=["0", "4"])  # float32, whatever the trainer ran in
    stored = Fingerprint.load(paths[-1])
    assert all(torch.allclose(a, b, rtol=1e-6) for a, b in zip(stored.grams, last.grams, strict=True))


def test_a_package_that_is_not_installed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("cka_probe.monitoring.callbacks.LIGHTNING", ("no_lightning.pytorch",))
    with pytest.raises(CkaProbeError, match="pip install no_lightning"):
        cka_probe.lightning_callback(monitor(network(), tmp_path))


@pytest.mark.slow
def test_the_monitor_loads_no_trainer():
    code = "import cka_probe, sys; cka_probe.DriftMonitor, cka_probe.lightning_callback; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"lightning", "pytorch_lightning", "transformers", "tensorboard", "mlflow", "wandb"} & set(loaded)


PROGRAM = """
import sys, torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
import cka_probe

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
images = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
if sys.argv[1] == "ddp":
    model = DistributedDataParallel(net)
else:
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.device_mesh import init_device_mesh
    model = fully_shard(net, mesh=init_device_mesh("cpu", (2,)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
monitor = cka_probe.DriftMonitor(model, images, layers=["0", "3"], out="drift", every=2)
monitor.step(0)
torch.manual_seed(rank)
for step in range(1, 4):
    model(torch.rand(4, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    monitor.step(step)
monitor.finish()
dist.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_write_one_table(tmp_path, kind):
    run_in_processes(PROGRAM, tmp_path, kind)
    assert sorted(path.name for path in (tmp_path / "drift").iterdir()) == ["drift.csv", "fingerprints"]
    steps = [int(path.stem[-9:]) for path in sorted((tmp_path / "drift" / "fingerprints").iterdir())]
    assert steps == [0, 2, 3]
