"""A sample that is not what the contract says is found out, whatever it is, and what was expected is said."""

from types import SimpleNamespace

import numpy as np
import pytest
from helpers.samples import H, Listed, W, but, full, image, pose

from cka_probe.errors import DataError
from cka_probe.images import sample
from cka_probe.lab.datasets.check import RULES, STATISTICS, check_dataset


def test_every_field_is_counted_and_has_the_contracts_form():
    assert set(STATISTICS) == set(sample.FIELDS) - {"source_T_target"}  # that one is counted with the sources
    rows = [line.split("|")[1:3] for line in sample.__doc__.splitlines() if line.startswith("| `")]
    told = {name.strip(" `"): form.strip() for name, form in rows}
    for field, rule in RULES.items():
        assert told[field] == f"({', '.join(map(str, rule.shape))}) {rule.dtype}"
    assert set(told) == set(RULES)
    check = check_dataset(Listed([full(0), full(1)]))
    assert set(check.summary) == set(STATISTICS)
    assert check.broken == 0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("image", image() * 255, r"image: expected 0 … 1, found 0\.\d+ … 2\d\d\.\d"),
        ("image", image()[0], r"image: expected \(3, H, W\) float32, found \(6, 8\) float32"),
        ("image", image().astype(np.float64), r"image: .* found \(3, 6, 8\) float64"),
        ("depth", np.full((1, H, W), np.nan, np.float32), "depth: expected numbers, found 48 that are NaN or infinite"),
        ("depth", np.full((1, H, W), -1, np.float32), "depth: expected 0 or more, found -1 … -1"),
        ("depth", np.ones((1, H, W + 1), np.float32), r"depth: expected \(1, 6, 8\) float32, found \(1, 6, 9\)"),
        ("flow", np.full((2, H, W), np.inf, np.float32), "flow: expected numbers, found 96"),
        ("labels", np.full((H, W), 7), r"labels: expected 0 … 2 or 255, found 7 \(48 pixels\)"),
        ("labels", np.full((H, W), -1), "labels: expected 0 … 2 or 255, found -1"),
        ("category", np.array(-1), "category: expected 0 or more, found -1"),
        ("instances", np.full((H, W), -1), "instances: expected 0 or more"),
        ("normals", np.ones((3, H, W), np.float32), r"normals: expected length 1 or 0, found 1.73 \(48 pixels\)"),
        ("K", np.eye(3, dtype=np.float32)[::-1].copy(), r"K: expected \[fx s cx; .*, found \[0 0 1; 0 1 0; 1 0 0\]"),
        ("world_T_target", 2 * pose(), r"world_T_target: expected a rotation, found one off by 3 \(det 8\)"),
        ("world_T_target", -np.eye(4, dtype=np.float32), r"expected a rotation, .*\(det -1\)"),
        ("source_T_target", np.ones((2, 4, 4), np.float32), r"expected \(1, 4, 4\) float32, found \(2, 4, 4\)"),
        ("source_T_target", np.where(pose() > 0, np.nan, pose())[None].astype(np.float32), "a motion or all NaN"),
    ],
)  # fmt: skip
def test_a_field_that_breaks_the_contract_is_named(field, value, message):
    dataset = Listed([full(), but(**{field: value})], classes=SimpleNamespace(names=tuple("abc")))
    check = check_dataset(dataset)
    assert check.broken == 1
    assert check.problems[0].frame == "a/1.png"
    with pytest.raises(DataError, match=message):
        check.refuse_problems()


def test_a_field_too_few_and_one_too_many_are_named():
    fewer = full()
    del fewer["depth"]
    dataset = Listed([full(), fewer])
    dataset.gives -= {"edges"}
    assert [problem.reason for problem in check_dataset(dataset).problems] == [
        "edges: found it, which `gives` has not declared",
        "depth: found none, which `gives` has declared",
        "edges: found it, which `gives` has not declared",
    ]
