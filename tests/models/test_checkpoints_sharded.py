"""Models and files of distributed training: each is compared and read as the model in one process."""

import pickle

import pytest
import timm
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing
from helpers.foreign import randomised
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DataParallel, DistributedDataParallel

from cka_probe import compare
from cka_probe.errors import CheckpointError
from cka_probe.models.load import load

IMAGES = torch.rand(16, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def model(seed=0):
    return randomised(timm.create_model("test_resnet", num_classes=5), seed)


def open_group(folder, rank=0, size=1):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)


@pytest.fixture
def group(tmp_path):
    open_group(tmp_path)
    yield dist.device_mesh.init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def similarities(module):
    return compare(module, model(1), IMAGES, permutations=0).values


def check_shards(rank, folder):
    """On each of two processes: a sharded model has the similarities of the whole one, and is saved."""
    open_group(folder, rank, 2)
    sharded = fully_shard(model(), mesh=dist.device_mesh.init_device_mesh("cpu", (2,)))
    values = similarities(sharded)
    assert abs(values - similarities(model())).max() < 1e-5
    dcp.save({"model": sharded.state_dict()}, checkpoint_id=f"{folder}/saved")
    torch.save(sharded.state_dict(), f"{folder}/{rank}.pth")
    dist.destroy_process_group()


@pytest.mark.parametrize(
    "wrapper",
    [
        DataParallel,
        DistributedDataParallel,
        fully_shard,
        lambda module: torch.compile(fully_shard(module)),
        lambda module: DistributedDataParallel(torch.compile(module)),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_a_parallel_module_has_the_similarities_of_the_module(group, wrapper):
    # batch norms are folded into convolutions in the module alone, which rounds otherwise
    torch.testing.assert_close(similarities(wrapper(model())), similarities(model()), rtol=0, atol=1e-5)


def test_files_of_one_process(group, tmp_path):
    sharded = fully_shard(model(), mesh=group)
    torch.save(sharded.state_dict(), tmp_path / "model.pth")
    optimizer = {"state": {"fc.weight": torch.zeros(3)}}
    dcp.save({"model": sharded.state_dict(), "optimizer": optimizer, "step": 3}, checkpoint_id=tmp_path / "saved")
    for path in (tmp_path / "model.pth", tmp_path / "saved"):
        check_weights(path)


def check_weights(path):
    backbone, expected = load(path), model().state_dict()
    for name, tensor in backbone.model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert torch.equal(backbone.classifier.weight, expected["fc.weight"])


@pytest.mark.slow
def test_two_processes(tmp_path):
    torch.multiprocessing.spawn(check_shards, args=(str(tmp_path),), nprocs=2)
    check_weights(tmp_path / "saved")
    with pytest.raises(CheckpointError, match="found a part of a sharded one"):
        load(tmp_path / "0.pth")


def test_incomplete_and_hostile_checkpoints_are_one_line(group, tmp_path):
    dcp.save({"weight": torch.zeros(4)}, checkpoint_id=tmp_path / "saved")
    with pytest.raises(CheckpointError, match="give the folder that it is in"):
        load(next((tmp_path / "saved").glob("*.distcp")))
    metadata = pickle.loads((tmp_path / "saved" / ".metadata").read_bytes())
    for name in ("../x.distcp", "absent.distcp"):
        for place in metadata.storage_data.values():
            place.relative_path = name
        (tmp_path / "saved" / ".metadata").write_bytes(pickle.dumps(metadata))
        with pytest.raises(CheckpointError, match=r"found a damaged one .*; copy it again"):
            load(tmp_path / "saved")
    (tmp_path / "saved" / ".metadata").write_bytes(pickle.dumps(nn.Linear))
    with pytest.raises(CheckpointError, match=r"found a damaged one"):
        load(tmp_path / "saved")
