"""The hash of a model takes every form of state, and changes with each value of it."""

import copy

import pytest
import torch
from torch import nn

from cka_probe import compare
from cka_probe.models.load import weights_hash


class Extra(nn.Linear):
    """A layer whose state holds a dict next to its tensors."""

    scale = 1.0

    def get_extra_state(self):
        return {"scale": self.scale, "history": [torch.zeros(2), None]}

    def set_extra_state(self, state):
        self.scale = state["scale"]


class Sparse(nn.Linear):
    """A layer with a sparse buffer."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.register_buffer("mask", torch.eye(4).to_sparse())


def quantised(layer):
    with pytest.warns(DeprecationWarning, match="torch.ao.quantization is deprecated"):
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(layer), {nn.Linear})[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", [Extra, Sparse, lambda *sizes: quantised(nn.Linear(*sizes))])
def test_state_that_is_no_dense_tensor_is_hashed_and_compared(kind):
    torch.manual_seed(0)
    model, other = nn.Sequential(kind(12, 4)), nn.Sequential(kind(12, 4))
    assert weights_hash(model) == weights_hash(copy.deepcopy(model)) != weights_hash(other)
    result = compare(model, model, torch.randn(16, 12), layers=["0"], permutations=0)
    assert result.values[0, 0] == pytest.approx(1.0)


def test_extra_state_and_precision_count():
    torch.manual_seed(0)
    model = nn.Sequential(Extra(3, 2))
    changed = copy.deepcopy(model)
    changed[0].scale = 2.0
    assert weights_hash(changed) != weights_hash(model)
    plain = nn.Linear(3, 2)
    assert weights_hash(copy.deepcopy(plain).bfloat16()) != weights_hash(plain)
    assert weights_hash(plain) == weights_hash(nn.DataParallel(plain).module)
