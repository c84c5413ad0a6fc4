"""Measures beside CKA: what they do not see, what they are by other formulas and by loops, and how sure they are."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import brute_measures
from helpers.prints import normal, print_of, stacks
from scipy.spatial.distance import pdist
from scipy.stats import kstest, spearmanr

from cka_probe import compare, compare_fingerprints
from cka_probe.errors import CkaProbeError
from cka_probe.similarity import MEASURES, Measure, choose_measure, measured_cells
from cka_probe.similarity.cells import jackknife_error
from cka_probe.similarity.gram import double_centre
from cka_probe.similarity.measures.measure import INVARIANCES, squared_distances

OTHERS = [name for name in MEASURES if name != "cka"]
LINEAR = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, -1.0], [0.5, 0.0, 3.0]], dtype=torch.float64)


def value(measure, x, y):
    return float(MEASURES[measure].function(*(stacks([z])[0] for z in (x, y))))


def kin(x, seed, rho=0.8):
    return rho * x + (1 - rho**2) ** 0.5 * normal(*x.shape, seed=seed)


@pytest.mark.parametrize("measure", MEASURES)
def test_rotation_scale_and_translation_change_nothing(measure):
    x, y = normal(24, 6), kin(normal(24, 6), 1)
    rotation = torch.linalg.qr(normal(6, 6, seed=2)).Q
    moved = 3.7 * (x @ rotation + 5 * normal(1, 6, seed=3))
    assert value(measure, moved, y) == pytest.approx(value(measure, x, y), abs=1e-5)


@pytest.mark.parametrize("measure", MEASURES)
def test_invariances_are_those_that_a_measure_declares(measure):
    """The square root of distances keeps their order, and is a distance again."""
    x, y = normal(24, 3), kin(normal(24, 3), 1)
    grams_x, grams_y = (stacks([z])[0] for z in (x, y))
    rooted = centred_root(grams_x)
    for transform, moved in {"linear": stacks([x @ LINEAR])[0], "order": rooted}.items():
        changed = float(MEASURES[measure].function(moved, grams_y)) - value(measure, x, y)
        assert (abs(changed) < 1e-6) == (transform in MEASURES[measure].invariances), transform


def centred_root(grams):
    """The Gram of points whose distances are the square roots of those given, which exist (Schoenberg 1938)."""
    return double_centre(-squared_distances(grams).sqrt() / 2)


@pytest.mark.parametrize("measure", MEASURES)
def test_as_from_features_by_numpy(measure):
    compare_with_numpy(measure, 20)


@pytest.mark.slow
@pytest.mark.parametrize("measure", MEASURES)
def test_as_from_features_by_numpy_in_1000_cases(measure):
    compare_with_numpy(measure, 1000)


def compare_with_numpy(measure, cases):
    rng = np.random.default_rng(0)
    for _ in range(cases):
        n, p, q = (int(rng.integers(*ends)) for ends in ((5, 40), (1, 60), (1, 60)))
        x = rng.normal(size=(n, p)) * rng.uniform(0.1, 3, p) + rng.normal(size=p)
        y = rng.normal(size=(n, q))
        y[:, : min(p, q)] += rng.uniform(0, 2) * x[:, : min(p, q)]
        grams = (double_centre(torch.from_numpy(z @ z.T))[None] for z in (x, y))
        expected = getattr(brute_measures, measure)(x, y)
        assert float(MEASURES[measure].function(*grams)) == pytest.approx(expected, abs=1e-6), (n, p, q)


@pytest.mark.parametrize("measure", MEASURES)
def test_one_with_itself_symmetric_and_in_its_range(measure):
    x, y = normal(20, 5), normal(20, 9, seed=1)
    assert value(measure, x, x) == pytest.approx(1, abs=1e-9)
    assert value(measure, x, y) == pytest.approx(value(measure, y, x), abs=1e-12)
    low, high = MEASURES[measure].range
    if measure != "cka":  # an unbiased estimate of 0 is now and then below it
        assert low <= value(measure, x, y) <= high


@pytest.mark.parametrize("measure", MEASURES)
def test_the_order_of_the_images_does_not_matter_and_their_pairing_does(measure):
    x, order = normal(24, 6), torch.randperm(24, generator=torch.Generator().manual_seed(0))
    y = kin(x, 1)
    assert value(measure, x[order], y[order]) == pytest.approx(value(measure, x, y), abs=1e-6)
    assert value(measure, x, y[order]) < value(measure, x, y) - 0.1


@pytest.mark.parametrize("measure", OTHERS)
def test_a_prepared_layer_is_permuted_as_its_gram_is(measure):
    """The null prepares each layer once."""
    x, y, order = normal(16, 5), kin(normal(16, 5), 1), torch.randperm(16, generator=torch.Generator().manual_seed(1))
    method = MEASURES[measure]
    prepared_x, prepared_y = (method.prepare_varying(stacks([z])[0]) for z in (x, y))
    permuted = float(method.pair_prepared(prepared_x, method.permute(prepared_y, order)))
    assert permuted == pytest.approx(value(measure, x, y[order]), abs=1e-6)
    assert permuted != pytest.approx(value(measure, x, y), abs=1e-3)


def test_rsa_is_spearman_between_distances():
    x, y = normal(15, 4), kin(normal(15, 4), 1, 0.5)
    expected = spearmanr(pdist(x.numpy()), pdist(y.numpy())).statistic
    assert value("rsa", x, y) == pytest.approx(expected, abs=1e-12)


def test_rsa_by_loops():
    """n = 6; ranks by counting, ties sharing theirs: two pairs of x are equally far."""
    x = torch.tensor([[0.0], [1.0], [3.0], [7.0], [15.0], [16.0]], dtype=torch.float64)
    y = normal(6, 3)

    def ranks(z):
        far = [float((z[i] - z[j]).norm()) for i in range(6) for j in range(i + 1, 6)]
        return [
            sum(other < own - 1e-9 for other in far) + (sum(abs(other - own) < 1e-9 for other in far) + 1) / 2
            for own in far
        ]

    assert len(set(ranks(x))) < 15
    assert value("rsa", x, y) == pytest.approx(np.corrcoef(ranks(x), ranks(y))[0, 1], abs=1e-12)


@pytest.mark.parametrize(("n", "k"), [(6, 2), (30, 10), (40, 10)])
def test_neighbours_by_sorting_distances(n, k):
    x, y = normal(n, 4), kin(normal(n, 4), 1, 0.7)
    shared = 0
    for i in range(n):
        near = [
            set(sorted((j for j in range(n) if j != i), key=lambda j: float((z[i] - z[j]).norm()))[:k]) for z in (x, y)
        ]
        shared += len(near[0] & near[1])
    assert value("mutual_knn", x, y) == pytest.approx(shared / (n * k), abs=1e-12)


def test_equally_near_images_share_the_last_place():
    """A cross: the centre's four neighbours are equally far, two places for them."""
    x = torch.tensor([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], dtype=torch.float64)
    prepared = MEASURES["mutual_knn"].prepare(stacks([x])[0])[0]
    centre = prepared[0] / prepared[0].sum()
    torch.testing.assert_close(centre, torch.tensor([0, 1, 1, 1, 1]).double() / 4)


def test_procrustes_is_what_a_rotation_leaves():
    x, y = normal(20, 5), normal(20, 5, seed=1) + normal(20, 5)
    x, y = x - x.mean(0), y - y.mean(0)
    singular = np.linalg.svd((x.T @ y).numpy(), compute_uv=False)
    expected = singular.sum() / float(x.norm() * y.norm())
    assert value("procrustes", x, y) == pytest.approx(expected, abs=1e-6)
    u, _, v = torch.linalg.svd(x.T @ y)
    least = (x / x.norm() @ (u @ v) - y / y.norm()).square().sum()
    assert float(least) == pytest.approx(2 - 2 * expected, abs=1e-9)


@pytest.mark.parametrize("measure", OTHERS)
def test_a_comparison_is_the_mean_over_batches_weighted_by_images(measure):
    x, y = normal(40, 5), kin(normal(40, 5), 1)
    result = compare_fingerprints(print_of([x], 16), print_of([y], 16), measure=measure, permutations=9)
    parts = [(z[:16], z[16:32], z[32:]) for z in (x, y)]
    values = [value(measure, a, b) for a, b in zip(*parts, strict=True)]
    assert result.values.item() == pytest.approx(np.average(values, weights=[16, 16, 8]), abs=1e-9)
    terms = {name: np.tensordot(result.terms["weights"], result.terms[name], axes=1) for name in ("xy", "xx", "yy")}
    assert result.values.item() == pytest.approx(terms["xy"].item() / np.sqrt(terms["xx"] * terms["yy"]).item())
    assert result.low.item() < result.values.item() < result.high.item()
    assert result.settings["measure"] == measure
    assert result.settings["range"] == list(MEASURES[measure].range)
    assert result.settings["estimator"] is None
    assert f"{MEASURES[measure].title} over 40 images" in result.summary()


@pytest.mark.parametrize("measure", OTHERS)
def test_one_batch_and_a_group_for_each_image_is_the_ordinary_jackknife(measure):
    x, y = normal(24, 3), kin(normal(24, 3), 1)
    left = [value(measure, *(torch.cat([z[:i], z[i + 1 :]]) for z in (x, y))) for i in range(24)]
    expected = np.sqrt(23 / 24 * ((left - np.mean(left)) ** 2).sum())
    error, freedom = jackknife_error([(*stacks([x]), *stacks([y]))], MEASURES[measure].function)
    assert freedom == 23
    assert float(error) == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_groups_of_a_mean_give_its_standard_error():
    """Leaving out any groups, of sizes that differ by one, is unbiased for the variance of a mean of numbers."""

    def mean(grams):
        return grams.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None] * grams.shape[-1] / (grams.shape[-1] - 1)

    errors = [
        float(jackknife_error([(torch.diag_embed(normal(150, seed=s))[None],)] * 2, mean)[0]) ** 2 for s in range(60)
    ]
    assert np.mean(errors) == pytest.approx(1 / 300, rel=0.15)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_layer_that_does_not_vary_is_undefined_and_alone_in_it(measure):
    x = print_of([normal(24, 4), torch.zeros(24, 4).double()], 12)
    result = compare_fingerprints(x, x, measure=measure, permutations=9)
    np.testing.assert_array_equal(np.isnan(result.values), [[False, True], [True, True]])
    for matrix in (result.low, result.null, result.p_values):
        np.testing.assert_array_equal(np.isnan(matrix), np.isnan(result.values))
    assert result.columns[1].undefined == "it is the same for every image"


@pytest.mark.parametrize("measure", MEASURES)
def test_a_layer_that_varies_in_some_batches_only_is_undefined(measure):
    still = torch.cat([normal(12, 4), torch.zeros(12, 4).double()])
    result = compare_fingerprints(print_of([still], 12), print_of([normal(24, 4)], 12), measure=measure, permutations=0)
    assert np.isnan(result.values).all()
    assert result.rows[0].undefined == "it is the same for every image of a batch"
    assert not result.columns[0].undefined


@pytest.mark.slow
@pytest.mark.parametrize("measure", OTHERS)
def test_p_values_of_unrelated_layers_are_uniform(measure):
    p_values = [
        measured_cells(
            stacks([normal(16, 4, seed=2 * s)], 8),
            stacks([normal(16, 6, seed=2 * s + 1)], 8),
            MEASURES[measure],
            permutations=39,
            seed=s,
            per_image=1,
        ).p_values.item()
        for s in range(40)
    ]
    spread = np.array(p_values) - np.random.default_rng(0).uniform(0, 1 / 40, 40)  # between one p and the next
    assert kstest(spread, "uniform").pvalue > 0.001  # twelve measures


def test_a_function_of_ones_own():
    def cosine(k, l):  # noqa: E741
        """How far two Grams point the same way."""
        return (k * l).sum() / (k.norm() * l.norm())

    x, y = print_of([normal(16, 3), normal(16, 4, seed=1)], 8), print_of([normal(16, 3, seed=2)], 8)
    result = compare_fingerprints(x, y, measure=cosine, permutations=9)
    assert (result.settings["measure"], result.settings["range"]) == ("cosine", [0.0, 1.0])
    assert result.values.shape == (2, 1)
    expected = [float(cosine(a[0], b[0])) for a, b in zip(x.grams, y.grams, strict=True)]
    assert result.values[0, 0] == pytest.approx(np.mean(expected))
    assert "cosine over 16 images" in result.summary()
    assert choose_measure(cosine).meaning == "How far two Grams point the same way."
    assert choose_measure(lambda k, l: 5).span(torch.tensor([5.0, torch.nan])) == [0.0, 5.0]  # noqa: E741


def test_compare_takes_a_measure():
    net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 4))
    result = compare(net, net, normal(16, 6).float(), layers=["0", "2"], measure="procrustes", permutations=5)
    np.testing.assert_allclose(result.values.diagonal(), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"measure": "rda"}, "no measure 'rda'; did you mean 'rsa'"),
        ({"measure": 3}, r"expected the name of a measure \(cka, rbf_cka, rsa, .*\) or a function"),
        ({"measure": "rsa", "estimator": "biased"}, "estimator 'biased' is one of CKA; rsa has none: omit it"),
        ({"measure": lambda k, l: k}, "to return one number for two Grams, found Tensor"),  # noqa: E741
    ],
)
def test_what_is_no_measure_is_one_line(arguments, message):
    x = print_of([normal(8, 3)])
    with pytest.raises(CkaProbeError, match=message) as caught:
        compare_fingerprints(x, x, **arguments)
    assert "\n" not in str(caught.value)


def test_every_measure_says_what_it_is():
    for name, measure in MEASURES.items():
        assert isinstance(measure, Measure)
        assert name == measure.name
        assert measure.title
        assert measure.meaning
        assert re.search(r"(19|20)\d\d", measure.reference)
        assert measure.chance != Measure.chance
        assert set(measure.invariances) <= INVARIANCES.keys()
        low, high = measure.range
        assert low < high == 1


@pytest.mark.slow
@pytest.mark.parametrize("measure", OTHERS)
def test_intervals_hold_the_mean_of_studies(measure):
    """95 % intervals hold the mean over studies of this batch size in at least 91 % of 60 studies, and are not idle:
    on average at most 2.2 times the width that the spread of the studies has."""
    found, widths = [], []
    for seed in range(60):
        x = normal(64, 8, seed=10 * seed) * torch.arange(1, 9) ** -0.5
        others = [kin(x, 10 * seed + k, rho) for k, rho in enumerate((0.0, 0.5, 0.9), 1)]
        cells = measured_cells(
            stacks([x], 32), stacks(others, 32), MEASURES[measure], permutations=0, seed=0, per_image=1
        )
        found.append(torch.cat([cells.low, cells.values, cells.high]).numpy())
    low, values, high = np.array(found).swapaxes(0, 1)
    covered = ((low <= values.mean(0)) & (values.mean(0) <= high)).mean(0)
    widths = (high - low).mean(0) / (2 * 2 * values.std(0))
    print(measure, "covered", covered, "width", widths)  # noqa: T201
    assert (covered >= 0.91).all()
    assert (widths <= 2.2).all()


def test_what_is_prepared_has_the_shape_of_grams():
    diagonal = replace(MEASURES["rsa"], name="mine", prepare=lambda grams: grams.diagonal(dim1=1, dim2=2)[..., None])
    with pytest.raises(CkaProbeError, match=r"'mine': expected prepare to return .*\(2, 6, 6\), found \(2, 6, 1\)"):
        diagonal.prepare_varying(torch.eye(6, dtype=torch.float64).repeat(2, 1, 1))
