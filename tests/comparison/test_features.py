"""Features computed elsewhere give what their model gives, from arrays and files; what is no pair is refused."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cka_probe import Fingerprint, SimilarityMatrix, compare, compare_fingerprints, fingerprint
from cka_probe.comparison.features import is_features
from cka_probe.comparison.warnings import warnings_for
from cka_probe.errors import CkaProbeError, DataError, FingerprintError
from cka_probe.plotting.labels import images_line
from cka_probe.report import report


def normal(n, p, seed=0):
    return torch.randn(n, p, generator=torch.Generator().manual_seed(seed))


def unbiased_cka(x, y):
    """The unbiased CKA of two matrices in one batch (Song et al. 2012, eq. 5), in float64."""

    def hsic(k, l):  # noqa: E741
        n = len(k)
        k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
        cross = k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 * (k @ l).sum() / (n - 2)
        return ((k * l).sum() + cross) / (n * (n - 3))

    k, l = (m.double().numpy() @ m.double().numpy().T for m in (x, y))  # noqa: E741
    return hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l))


def test_matrices_of_one_batch_have_the_value_of_the_formula():
    x, y = normal(40, 12), normal(40, 7, 1)
    y = y + x[:, :7]
    result = compare(x, y.numpy(), batch=40)
    assert result.values[0, 0] == pytest.approx(unbiased_cka(x, y), abs=1e-6)
    assert (result.num_examples, result.settings["num"]) == (40, None)
    assert "40 rows of features" in result.summary()
    assert result.rows[0].shape == (12,)


def test_features_of_layers_give_what_the_model_gives():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    inputs = normal(24, 6)
    with torch.no_grad():
        features = {"blocks.0": net[0](inputs), "blocks.1": net[:2](inputs), "train": net(inputs)}
    result = compare(features, features, batch=24)
    expected = compare(net, net, inputs, layers=["0", "1", "2"], batch=24)
    np.testing.assert_allclose(result.values, expected.values, atol=1e-9)
    assert [axis.name for axis in result.rows] == ["blocks.0", "blocks.1", "train"]
    assert compare(features, features, layers="blocks.*").values.shape == (2, 2)


def test_rows_are_mixed_by_the_seed():
    ordered = torch.arange(128.0)[:, None] // 64 + 0.1 * normal(128, 3)
    first, second = (compare(ordered, ordered[:, :2], seed=seed).terms["xx"] for seed in (0, 1))
    assert not np.array_equal(first, second)
    whole = compare(ordered, ordered[:, :2], batch=128).values[0, 0]
    assert compare(ordered, ordered[:, :2]).values[0, 0] == pytest.approx(whole, abs=0.02)


def write(folder, name, arrays):
    path = folder / name
    if name.endswith(".npy"):
        np.save(path, next(iter(arrays.values())))
    elif name.endswith(".npz"):
        np.savez(path, **arrays)
    else:
        save_file({key: torch.from_numpy(array) for key, array in arrays.items()}, path)
    return path


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.safetensors"])
def test_files_are_read_and_fingerprints_of_them_kept(name, tmp_path):
    x = normal(20, 6)
    path = write(tmp_path, name, {"a": x.numpy()})
    assert is_features(path)
    expected = compare(x, normal(20, 4, 1)).values
    np.testing.assert_array_equal(compare(path, normal(20, 4, 1)).values, expected)
    saved = fingerprint(str(path)).save(tmp_path / "x.fingerprint")
    np.testing.assert_array_equal(compare(saved, {"y": normal(20, 4, 1)}).values, expected)
    prints = Fingerprint.load(saved), fingerprint(normal(20, 4, 1))
    result = compare_fingerprints(*prints, measure="rsa", permutations=10)
    loaded = SimilarityMatrix.load(result.save(tmp_path / "r.json"))
    np.testing.assert_array_equal(loaded.values, result.values)
    assert (loaded.x.reference, loaded.x.architecture, loaded.rows[0].name) == (str(path), "features", "a")


def test_labels_are_left_out_and_whole_numbers_alone_are_features(tmp_path):
    x = normal(20, 6).numpy()
    path = write(tmp_path, "a.npz", {"x": x, "labels": np.arange(20), "names": np.array(["a"] * 20)})
    result = compare(path, x)
    assert result.x.notes == ("left out, as they are not floats: labels, names",)
    counts = np.random.default_rng(0).integers(0, 9, (20, 5))
    result = compare(write(tmp_path, "counts.npy", {"counts": counts}), counts.astype(np.float32))
    assert result.values[0, 0] == pytest.approx(1)


@pytest.mark.parametrize(
    "arrays",
    [
        {"fc.weight": np.ones((8, 4), np.float32), "fc.bias": np.ones(8, np.float32)},
        {"a": np.ones((8, 4), np.float32), "b": np.ones((9, 4), np.float32)},
        {"a": np.ones((3, 4), np.float32)},
    ],
)
def test_weights_are_no_features_unless_one_says_so(arrays, tmp_path):
    for name in ("a.npz", "a.safetensors"):
        assert not is_features(write(tmp_path, name, arrays))
        assert is_features(f"features:{tmp_path / name}")


def test_rows_that_are_nan_and_columns_that_are_constant_are_undefined():
    x = {"nan": normal(20, 6), "constant": torch.ones(20, 3), "sound": normal(20, 2)}
    x["nan"][7, 0] = torch.nan
    result = compare(x, x)
    assert np.isnan(result.values[:2]).all()
    assert np.isfinite(result.values[2, 2])
    assert [bool(axis.undefined) for axis in result.rows] == [True, True, False]


NET = nn.Sequential(nn.Linear(6, 5))


@pytest.mark.parametrize(
    ("x", "y", "images", "message"),
    [
        (normal(20, 6), normal(19, 6), None, "expected as many rows of x as of y, which are paired, found 20 and 19"),
        (normal(20, 6), NET, normal(20, 6), "expected features on both sides and no images"),
        (normal(20, 6), normal(20, 6), normal(20, 6), "expected features on both sides and no images"),
        (normal(3, 6), normal(3, 6), None, "at least 4, found 3 of features"),
        ({"a": normal(9, 2), "b": normal(8, 2)}, normal(9, 2), None, "found 9 of a, 8 of b"),
        ({}, normal(9, 2), None, "found no array"),
        (
            np.array(["a"] * 9),
            normal(9, 2),
            None,
            r"features: expected an array .* found ndarray of <U1, \(9,\)",
        ),
        ("features:nowhere.npy", normal(9, 2), None, "nowhere.npy: expected a file of features .* found nothing"),
        (7, normal(9, 2), None, "expected a module, a fingerprint, a reference or features, found int"),
    ],
)
def test_what_cannot_be_paired_is_one_line(x, y, images, message):
    with pytest.raises(DataError, match=message) as caught:
        compare(x, y, images, layers_y="0" if y is NET else None)
    assert "\n" not in str(caught.value)


def test_pickled_arrays_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    with pytest.raises(CkaProbeError, match="expected arrays of numbers"):
        compare(tmp_path / "a.npy", normal(9, 2))


def test_fingerprints_of_features_and_of_images_are_not_compared():
    images = fingerprint(NET, normal(20, 6), layers=["0"])
    with pytest.raises(FingerprintError, match="different images"):
        compare_fingerprints(images, fingerprint(normal(20, 6)))
    with pytest.raises(DataError, match="a model or its fingerprint"):
        compare(images, normal(20, 6))


def test_a_result_of_features_counts_rows(tmp_path):
    still = normal(20, 6)
    still[:, :] = still[0]
    x, y = fingerprint({"a": normal(20, 6), "still": still}), fingerprint(normal(20, 6, 1))
    result = compare_fingerprints(x, y, permutations=0)
    result.save(tmp_path / "result.json")
    for name, side in (("x", x), ("y", y)):
        side.save(tmp_path / f"{name}.fingerprint")
    page = re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", report(tmp_path).read_text(), flags=re.DOTALL)
    for text in (*warnings_for(result), *result.undefined, images_line(result), result.summary(), page):
        assert "image" not in text
    assert "n = 20 rows" in page
    assert "x still: it is the same for every row" in result.undefined
