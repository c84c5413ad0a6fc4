"""ReSi's tests of similarity measures, on small networks that are trained here.

    python -m benchmarks.resi --out runs/resi              # images, networks, scores; stop and continue at any time
    python -m benchmarks.resi --out runs/resi --scores     # the tables only, in Markdown

Klabunde et al., "ReSi: A Comprehensive Benchmark for Representational Similarity Measures", ICLR 2025, judge a measure
by what it should tell apart. Each test has groups of networks that differ in their seed only; measures compare what the
last layer before the classifier gives for the same test images:

    labels      a share of the training labels is replaced by random ones
    shortcut    a patch in a corner shows the label of a share of the training images, and a random one of the others
                and of the test images
    views       no augmentation; flips and shifts; these, and noise and changes of colour
    width       channels of the network

Of the values within a group and those between it and the others: `violation rate`, the share of pairs of them in which
the one within is not larger (0 is best), and `AUPRC`, the average precision of telling them apart by value (1 is best);
each the mean over groups. `outputs` has networks of one group: the Spearman correlation of dissimilarity with the
difference in accuracy, with the share of images that are classified differently, and with the Jensen-Shannon divergence
of the outputs (1 is best).

The images are of eight objects, rendered (`lab.scenes.objects`). Intervals are 95 % percentiles over resampled
networks, of each group with replacement, in which a network is not compared with itself.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor, nn

from cka_probe.files import atomic_write
from cka_probe.lab.scenes.objects import draw_object
from cka_probe.lab.scenes.view import see
from cka_probe.similarity import (
    ESTIMATORS,
    MEASURES,
    anchored_product,
    centred_grams,
    hsic_terms,
    permuted_values,
    u_centre,
)
from cka_probe.similarity.feature_sampling import FeatureSample, sampled_cells

CLASSES = ("apple", "bottle", "bus", "chair", "lamp", "mug", "snowman", "tree")
SIDE, TRAIN, TEST, EPOCHS, BATCH = 32, 1280, 256, 12, 64
PATCH = 6
RESAMPLES, PERMUTATIONS = 1000, 200
UNBIASED = ESTIMATORS["unbiased"]


@dataclass(frozen=True)
class Group:
    """How the networks of a group are trained.

    Attributes:
        noise: Share of random labels.
        shortcut: Share of training images whose patch shows the label; None for no patch.
        views: 0, 1 or 2.
        width: Channels of the first convolution.
    """

    noise: float = 0.0
    shortcut: float | None = None
    views: int = 1
    width: int = 16

    @property
    def name(self) -> str:
        """Name of its files."""
        return f"noise{self.noise:g}_shortcut{self.shortcut}_views{self.views}_width{self.width}"


TESTS: dict[str, list[Group]] = {
    "labels": [Group(noise=share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)],
    "shortcut": [Group(shortcut=share) for share in (0.0, 0.5, 1.0)],
    "views": [Group(views=views) for views in (0, 1, 2)],
    "width": [Group(width=width) for width in (8, 16, 32)],
}
SEEDS, STANDARD = 5, 10
"""Networks of a group, and of the one whose outputs are compared."""


def images(out: Path) -> tuple[Tensor, Tensor]:
    """Return images (n, 3, side, side) float32 in [-1, 1], and classes (n,) int64; rendered once."""
    path = out / "images.pt"
    if not path.exists():
        views, labels, index = [], [], 0
        while len(views) < TRAIN + TEST:
            scene = draw_object(0, index, 1)
            index += 1
            if scene.category in CLASSES:
                views.append(torch.from_numpy(see(scene, 0, (SIDE, SIDE)).image))
                labels.append(CLASSES.index(scene.category))
        with atomic_write(path) as temporary:
            torch.save((torch.stack(views), torch.tensor(labels)), temporary)
    stack, classes = torch.load(path)
    return stack.permute(0, 3, 1, 2).float() / 127.5 - 1, classes


def network_of(width: int) -> nn.Sequential:
    """Return four convolutions with batch norms, the mean over positions, and a linear layer."""
    layers: list[nn.Module] = []
    channels = [3, width, 2 * width, 4 * width, 4 * width]
    for before, after, stride in zip(channels, channels[1:], (1, 2, 2, 2), strict=False):
        layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, len(CLASSES)))


def with_patch(stack: Tensor, classes: Tensor) -> Tensor:
    """Return images whose corner has the colour of a class."""
    colours = torch.tensor([[(code >> bit & 1) * 2.0 - 1 for bit in range(3)] for code in range(len(CLASSES))])
    marked = stack.clone()
    marked[:, :, :PATCH, :PATCH] = colours[classes][:, :, None, None]
    return marked


def augmented(stack: Tensor, views: int, generator: torch.Generator) -> Tensor:
    """Return training views of images, (n, 3, side, side)."""
    if views == 0:
        return stack
    n = len(stack)
    flip = torch.rand(n, generator=generator) < 0.5
    stack = torch.where(flip[:, None, None, None], stack.flip(3), stack)
    shift = torch.randint(-3, 4, (2,), generator=generator).tolist()
    stack = F.pad(stack, (3, 3, 3, 3), mode="replicate")
    stack = stack[:, :, 3 + shift[0] : 3 + shift[0] + SIDE, 3 + shift[1] : 3 + shift[1] + SIDE]
    if views == 2:
        gain = 1 + 0.4 * torch.randn(n, 3, 1, 1, generator=generator)
        stack = gain * stack + 0.2 * torch.randn(stack.shape, generator=generator)
    return stack


def trained(group: Group, seed: int, stack: Tensor, classes: Tensor) -> dict[str, Tensor]:
    """Train a network, and return its `features` (n, p) and `logits` (n, classes) of the test images."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    data, labels = stack[:TRAIN], classes[:TRAIN]
    random = torch.randint(len(CLASSES), (TRAIN,), generator=generator)
    tests, chance = stack[TRAIN:], torch.Generator().manual_seed(-1)
    if group.shortcut is not None:
        shown = torch.where(torch.rand(TRAIN, generator=generator) < group.shortcut, labels, random)
        data = with_patch(data, shown)
        tests = with_patch(tests, torch.randint(len(CLASSES), (TEST,), generator=chance))
    labels = torch.where(torch.rand(TRAIN, generator=generator) < group.noise, random, labels)
    network = network_of(group.width)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.01)
    steps = EPOCHS * (TRAIN // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for part in torch.randperm(TRAIN, generator=generator).split(BATCH):
            loss = F.cross_entropy(network(augmented(data[part], group.views, generator)), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        features = network[:-1](tests)
        return {"features": features, "logits": network[-1](features)}


def networks() -> Iterator[tuple[Group, int]]:
    """Yield the group and seed of every network."""
    for group in dict.fromkeys(group for groups in TESTS.values() for group in groups):
        for seed in range(STANDARD if group == Group() else SEEDS):
            yield group, seed


def train_all(out: Path) -> None:
    """Train all networks that are not there yet."""
    stack, classes = images(out)
    for group, seed in networks():
        path = out / f"{group.name}_{seed}.pt"
        if not path.exists():
            start = perf_counter()
            result = trained(group, seed, stack, classes)
            accuracy = float((result["logits"].argmax(dim=1) == classes[TRAIN:]).double().mean())
            with atomic_write(path) as temporary:
                torch.save(result, temporary)
            print(f"{group.name} seed {seed}: accuracy {accuracy:.3f}, {perf_counter() - start:.1f} s", flush=True)


def similarities(features: list[Tensor]) -> dict[str, np.ndarray]:
    """Return the similarity of every two networks by each measure, (networks, networks) float64."""
    grams = centred_grams([anchored_product(layer) for layer in features]).matrices
    results = {name: measure.function(grams, grams) for name, measure in MEASURES.items()}
    biased, centred = grams.flatten(1), [u_centre(grams)]
    lengths = biased.norm(dim=1)
    results["cka, biased"] = biased @ biased.mT / lengths / lengths[:, None]
    terms = hsic_terms(centred, centred, UNBIASED)
    null = permuted_values(centred, centred, terms, UNBIASED, permutations=PERMUTATIONS, seed=0).quantile(0.95, dim=0)
    results["cka, calibrated"] = ((results["cka"] - null) / (1 - null)).clamp(0, 1)
    sample = FeatureSample((tuple(layer - layer.mean(dim=0) for layer in features),), tuple(len(f.T) for f in features))
    apart = torch.zeros(len(features), len(features), dtype=torch.bool)
    results["cka, doubly unbiased"] = sampled_cells(sample, sample, population=True, shared=apart).values
    return {name: values.numpy() for name, values in sorted(results.items())}


def average_precision(within: np.ndarray, across: np.ndarray) -> float:
    """Return the area under the precision-recall curve of telling values within groups from those across them.

    >>> average_precision(np.array([0.9, 0.8]), np.array([0.5])), average_precision(np.array([0.1]), np.array([0.5]))
    (1.0, 0.5)
    """
    values = np.concatenate([within, across])
    order = np.argsort(-values, kind="stable")
    hits, last = np.cumsum(order < len(within)), np.append(np.diff(values[order]) != 0, True)
    precision, recall = hits[last] / (np.flatnonzero(last) + 1), hits[last] / len(within)
    return float((np.diff(recall, prepend=0) * precision).sum())


def violation_rate(within: np.ndarray, across: np.ndarray) -> float:
    """Return the share of pairs of values in which the one within a group is not larger."""
    return float((within[:, None] <= across).mean())


def group_scores(values: np.ndarray, groups: np.ndarray, networks: np.ndarray) -> tuple[float, float]:
    """Return AUPRC and violation rate, each the mean over groups.

    Args:
        values: (networks, networks).
        groups: Group of each network.
        networks: Which networks are drawn; one may be drawn several times.
    """
    own, other = np.triu(networks[:, None] != networks, 1), groups[networks]
    drawn = values[networks[:, None], networks]
    scores = []
    for group in range(int(groups.max()) + 1):
        inside = other == group
        within, across = drawn[own & inside[:, None] & inside], drawn[inside][:, ~inside].ravel()
        if len(within):
            scores.append((average_precision(within, across), violation_rate(within, across)))
    precision, violations = np.mean(scores, axis=0)
    return float(precision), float(violations)


def output_differences(logits: list[Tensor], classes: Tensor) -> dict[str, np.ndarray]:
    """Return how far the outputs of every two networks differ, (networks, networks) each."""
    outputs = torch.stack(logits).double().softmax(dim=2)
    named = outputs.argmax(dim=2)
    accuracy = (named == classes).double().mean(dim=1)

    def entropy(shares: Tensor) -> Tensor:
        return torch.special.entr(shares).sum(dim=-1).mean(dim=-1)

    mean = (outputs[:, None] + outputs) / 2
    own = entropy(outputs)
    differences = {
        "accuracy": (accuracy[:, None] - accuracy).abs(),
        "disagreement": (named[:, None] != named).double().mean(dim=2),
        "divergence": entropy(mean) - (own[:, None] + own) / 2,
    }
    return {name: values.numpy() for name, values in differences.items()}


def rank_correlation(values: np.ndarray, differences: np.ndarray, networks: np.ndarray) -> float:
    """Return Spearman's correlation of dissimilarity with a difference of outputs, over pairs of drawn networks."""
    pairs = np.triu(networks[:, None] != networks, 1)
    ranks = [rankdata(part[networks[:, None], networks][pairs]) for part in (-values, differences)]
    return float(np.corrcoef(*ranks)[0, 1])


def with_interval(score: Callable[[np.ndarray], float], groups: np.ndarray) -> str:
    """Return a score and its 95 % interval over resampled networks of each group."""
    generator = np.random.default_rng(0)
    members = [np.flatnonzero(groups == group) for group in range(int(groups.max()) + 1)]
    draws = [score(np.concatenate([generator.choice(part, len(part)) for part in members])) for _ in range(RESAMPLES)]
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return f"{score(np.arange(len(groups))):.2f} ({low:.2f} to {high:.2f})"


def load(out: Path, group: Group, seeds: int) -> list[dict[str, Tensor]]:
    """Return what the networks of a group gave."""
    return [torch.load(out / f"{group.name}_{seed}.pt") for seed in range(seeds)]


def print_tables(out: Path) -> None:
    """Print the tables of the tests whose networks are all there."""
    tables: dict[str, dict[str, dict[str, str]]] = {"AUPRC": {}, "violation rate": {}, "rank correlation": {}}
    for test, kinds in TESTS.items():
        if not all((out / f"{kind.name}_{seed}.pt").exists() for kind in kinds for seed in range(SEEDS)):
            print(f"{test}: some networks are not there yet")
            continue
        results = [load(out, kind, SEEDS) for kind in kinds]
        groups = np.repeat(np.arange(len(kinds)), SEEDS)
        for name, values in similarities([each["features"] for group in results for each in group]).items():
            for index, table in enumerate(("AUPRC", "violation rate")):
                score = with_interval(lambda drawn, v=values, g=groups, i=index: group_scores(v, g, drawn)[i], groups)
                tables[table].setdefault(name, {})[test] = score
    results = load(out, Group(), STANDARD)
    classes = images(out)[1][TRAIN:]
    differences = output_differences([each["logits"] for each in results], classes)
    groups = np.zeros(STANDARD, dtype=int)
    for name, values in similarities([each["features"] for each in results]).items():
        for kind, other in differences.items():
            score = with_interval(lambda drawn, v=values, o=other: rank_correlation(v, o, drawn), groups)
            tables["rank correlation"].setdefault(name, {})[kind] = score
    for title, rows in tables.items():
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        print(f"\n{title}\n\n| measure | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
        for name, row in rows.items():
            print(f"| {name} | {' | '.join(row.get(column, '') for column in columns)} |")


def main() -> None:
    """Train what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scores", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not arguments.scores:
        train_all(arguments.out)
    print_tables(arguments.out)


if __name__ == "__main__":
    main()
