"""Batch norms shared by processes do what one process does with all images: loss, weights and running statistics."""

import pandas as pd
import pytest
import torch
from helpers.processes import run_in_processes
from helpers.trainers import trainer_of

PROGRAM = """
import sys
from pathlib import Path
import torch
from helpers.trainers import trainer_of
folder, shared = Path(sys.argv[1]), sys.argv[2] == "shared"
trainer = trainer_of(folder, "resnet18", steps=2, lr=1e-5, options={"cell": 32}, sync_batch_norm=shared)
trainer.run()
if trainer.accelerator.is_main_process:
    torch.save(trainer.objective.state_dict(), folder / "weights.pt")
trainer.accelerator.wait_for_everyone()
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_three_processes_normalise_as_one(tmp_path):
    one = trainer_of(tmp_path / "one", "resnet18", steps=2, lr=1e-5, options={"cell": 32}, sync_batch_norm=True)
    one.run()
    run_in_processes(PROGRAM, tmp_path, "three", "shared", processes=3)  # 3, 3 and 2 images
    run_in_processes(PROGRAM, tmp_path, "apart", "apart", processes=3)
    three, apart = (torch.load(tmp_path / name / "weights.pt", weights_only=True) for name in ("three", "apart"))
    for name, value in one.objective.state_dict().items():
        torch.testing.assert_close(three[name], value, rtol=1e-3, atol=2e-5)
    statistics = "backbone.model.layer4.1.bn2.running_var"
    assert not torch.allclose(apart[statistics], one.objective.state_dict()[statistics], rtol=1e-2)
    losses = [pd.read_csv(tmp_path / name / "log.csv")[["loss", "gradient"]].to_numpy() for name in ("one", "three")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
