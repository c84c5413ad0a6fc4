"""What each tool does where tools of this kind go wrong: small networks, and answers known beforehand.

    python benchmarks/habits.py

Needs `pip install -e '.[bench]'`. Seed 0 throughout; a row for each question, a column for each tool. Truth is float64
from whole activations, each copied when its layer puts it out, and the U-statistic of Song et al. 2012.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import torch
from rivals import TOOLS, clear_hooks
from torch import Tensor, nn
from workloads import Workload

from cka_probe import Backbone
from cka_probe.similarity import ESTIMATORS, centre_batches, cka, hsic_terms

SHOWN = ("ours", "pytorch-cka", "torch_cka", "ckatorch-flattened")
"""ckatorch as it stands takes activations of three axes only and refuses those of a convolution."""
BATCHES, BATCH, SIZE = 4, 32, 16


class Channel(nn.Module):
    """One channel of an image, so that two networks can be given images that have nothing to do with each other."""

    def __init__(self, index: int):
        super().__init__()
        self.index = index

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, 1, H, W)."""
        return images[:, self.index : self.index + 1]


def network(seed: int, *, channel: int = 0, mean: float = 0.0) -> nn.Module:
    """Return a network with a batch norm before an in-place ReLU, all weights random."""
    torch.manual_seed(seed)
    parts = OrderedDict(
        channel=Channel(channel),
        conv1=nn.Conv2d(1, 16, 3, padding=1),
        bn1=nn.BatchNorm2d(16),
        act1=nn.ReLU(inplace=True),
        conv2=nn.Conv2d(16, 8, 3, padding=1),
    )
    net = nn.Sequential(parts)
    with torch.no_grad():
        net.bn1.weight.uniform_(0.5, 1.5)
        net.bn1.bias.normal_()
        net.conv2.bias.add_(mean)
    return net.eval()


def workload(x: nn.Module, y: nn.Module, layers: tuple[str, ...], seed: int = 0) -> Workload:
    """Return noise images for two networks."""
    generator = torch.Generator().manual_seed(seed)
    images = tuple(torch.rand(BATCH, 3, SIZE, SIZE, generator=generator) for _ in range(BATCHES))
    return _with_images(Workload("", (x, y), layers, list(layers), layers, (), (), SIZE), images)


def _with_images(case: Workload, images: tuple[Tensor, ...]) -> Workload:
    """Return a workload with other images, normalised as a backbone of ours does it for itself."""
    normalise = Backbone(case.models[0], size=SIZE).preprocessing.normalise
    return replace(case, images=images, inputs=tuple(normalise(images).contiguous() for images in images))


def truth(case: Workload) -> Tensor:
    """Return the unbiased CKA of every pair of layers in float64."""
    grams = [[_grams(model.double(), images.double(), case.layers) for images in case.inputs] for model in case.models]
    for model in case.models:
        model.float()
    chosen = ESTIMATORS["unbiased"]
    return cka(hsic_terms(*(centre_batches(side, chosen) for side in grams), chosen))


@torch.no_grad()
def _grams(model: nn.Module, images: Tensor, layers: tuple[str, ...]) -> Tensor:
    kept = {}
    hooks = [
        model.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: kept.update({name: out.clone()}))
        for name in layers
    ]
    model(images)
    for hook in hooks:
        hook.remove()
    flat = [kept[name].flatten(1) - kept[name].flatten(1).mean(0) for name in layers]
    return torch.stack([features @ features.mT for features in flat])


Run = Callable[[Workload], Tensor]


def every_batch(run: Run) -> str:
    """Replace all batches but the last."""
    case = workload(network(0), network(1), ("conv1", "conv2"))
    other = workload(*case.models, case.layers, seed=1).images
    changed = (*other[:-1], case.images[-1])
    before, after = run(case), run(_with_images(case, changed))
    return "yes" if (before - after).abs().max() > 1e-6 else "NO, the last only"


def in_place(run: Run) -> str:
    """Compare a batch norm with the in-place ReLU behind it."""
    net = network(0)
    case = workload(net, net, ("bn1", "act1"))
    return f"{run(case)[0, 1]:.3f} ({truth(case)[0, 1]:.3f})"


def unrelated(run: Run) -> str:
    """Compare networks that see independent noise; 2048 features, 32 images in a batch."""
    case = workload(network(0, channel=0), network(1, channel=1), ("conv2",))
    return f"{run(case).item():+.3f} (0)"


def common_mean(run: Run) -> str:
    """Compare layers whose features have a mean a thousand times their spread."""
    case = workload(network(0, mean=300.0), network(1, mean=300.0), ("conv2",))
    return f"{run(case).item():.3f} ({truth(case).item():.3f})"


def hooks_left(run: Run) -> str:
    """Count the hooks on both models afterwards."""
    case = workload(network(0), network(1), ("conv1", "conv2"))
    run(case)
    return str(sum(len(module._forward_hooks) for model in case.models for module in model.modules()))


def modes(run: Run) -> str:
    """Give a network in train mode with one part in evaluation mode."""
    x, y = network(0).train(), network(1)
    x.bn1.eval()
    run(workload(x, y, ("conv1", "conv2")))
    return "yes" if x.training and x.conv1.training and not x.bn1.training else "NO"


def unknown_layer(run: Run) -> str:
    """Name a layer that is not there."""
    try:
        run(workload(network(0), network(1), ("conv1", "conv9")))
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:48]}"
    return "accepted"


QUESTIONS: dict[str, Callable[[Run], str]] = {
    "every batch counts": every_batch,
    "bn1 against the in-place ReLU behind it (truth)": in_place,
    "networks of independent noise (truth)": unrelated,
    "features with a large common mean (truth)": common_mean,
    "hooks left on the models": hooks_left,
    "each module has its own mode back": modes,
    "a layer that is not there": unknown_layer,
}


def asked(question: Callable[[Run], str], run: Run) -> str:
    """Return a tool's answer, or the error that it ended with."""

    def cleaned(case: Workload) -> Tensor:
        clear_hooks(case)
        return run(case)

    try:
        return question(cleaned)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:40]}"


def main() -> None:
    """Ask every tool every question and print the table."""
    torch.set_num_threads(1)
    rows = {
        words: {TOOLS[name].label(): asked(question, TOOLS[name].run) for name in SHOWN}
        for words, question in QUESTIONS.items()
    }
    for words, answers in rows.items():
        print(words, *(f"    {tool:<24}{answer}" for tool, answer in answers.items()), sep="\n")


if __name__ == "__main__":
    main()
