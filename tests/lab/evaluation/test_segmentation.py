"""Confusion matrices and what follows from them: slow loops, torchmetrics, theorems."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from cka_probe.errors import DataError
from cka_probe.images.sample import IGNORE
from cka_probe.lab.evaluation.segmentation import confusion_matrices, intersection_over_union, mean_iou, pixel_accuracy

CLASSES = 6

theorem = settings(max_examples=25, deadline=None, derandomize=True)


def drawn(seed: int, num: int = 4, classes: int = CLASSES, used: int | None = None):
    """Return (predicted, labels) half agreeing, a tenth ignored; no class from `used` on occurs."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(used or classes, (num, 5, 7), generator=generator)
    other = torch.randint(used or classes, labels.shape, generator=generator)
    predicted = torch.where(torch.rand(labels.shape, generator=generator) < 0.5, labels, other)
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = IGNORE
    return predicted, labels


def slow(predicted, labels, classes):
    """Count pixel by pixel."""
    confusion = torch.zeros(len(labels), classes, classes, dtype=torch.int64)
    for image in range(len(labels)):
        for row in range(labels.shape[1]):
            for column in range(labels.shape[2]):
                truth = int(labels[image, row, column])
                if truth != IGNORE:
                    confusion[image, truth, int(predicted[image, row, column])] += 1
    return confusion


@theorem
@given(st.integers(0, 2**16), st.integers(0, 4), st.integers(1, 9))
def test_counts_equal_a_slow_loop(seed, num, classes):
    predicted, labels = drawn(seed, num, classes)
    confusion = confusion_matrices(predicted, labels, classes)
    assert confusion.dtype == torch.int64
    assert torch.equal(confusion, slow(predicted, labels, classes))


@theorem
@given(st.integers(0, 2**16))
def test_values_equal_those_of_sets_of_pixels(seed):
    predicted, labels = drawn(seed, used=4)
    summed = confusion_matrices(predicted, labels, CLASSES).sum(0)
    union = intersection_over_union(summed)
    counted = labels != IGNORE
    for number in range(CLASSES):
        truth, predicted_pixels = (labels == number) & counted, (predicted == number) & counted
        expected = (truth & predicted_pixels).sum() / (truth | predicted_pixels).sum()
        assert union[number] == pytest.approx(expected.item(), abs=1e-7, nan_ok=True)
    right = (predicted == labels)[counted].double().mean()
    assert pixel_accuracy(summed).item() == pytest.approx(right.item(), abs=1e-12)


@pytest.mark.parametrize("used", [CLASSES, 4])
def test_torchmetrics_gives_the_same(used):
    predicted, labels = drawn(3, used=used)
    summed = confusion_matrices(predicted, labels, CLASSES).sum(0)
    iou = intersection_over_union(summed).float()
    macro = MulticlassJaccardIndex(CLASSES, ignore_index=IGNORE, average="macro")(predicted, labels)
    micro = MulticlassAccuracy(CLASSES, ignore_index=IGNORE, average="micro")(predicted, labels)
    each = MulticlassJaccardIndex(CLASSES, ignore_index=IGNORE, average="none")(predicted, labels)
    torch.testing.assert_close(mean_iou(summed).float(), macro)
    torch.testing.assert_close(pixel_accuracy(summed).float(), micro)
    torch.testing.assert_close(iou.nan_to_num(0.0), each)  # theirs says 0 of a class that is not there
    assert iou.isnan().sum() == CLASSES - used


@theorem
@given(st.integers(0, 2**16), st.integers(1, 3))
def test_matrices_of_parts_add_up(seed, cut):
    predicted, labels = drawn(seed)
    whole = confusion_matrices(predicted, labels, CLASSES)
    parts = [confusion_matrices(predicted[at], labels[at], CLASSES) for at in (slice(cut), slice(cut, None))]
    assert torch.equal(torch.cat(parts), whole)
    rows = [confusion_matrices(predicted[:, at], labels[:, at], CLASSES) for at in (slice(cut), slice(cut, None))]
    assert torch.equal(sum(rows), whole)


@theorem
@given(st.integers(0, 2**16), st.permutations(range(CLASSES)))
def test_names_of_classes_do_not_matter(seed, order):
    predicted, labels = drawn(seed, used=5)
    renamed = torch.tensor([*order, *[IGNORE] * (IGNORE + 1 - CLASSES)])
    before = confusion_matrices(predicted, labels, CLASSES).sum(0)
    after = confusion_matrices(renamed[predicted], renamed[labels], CLASSES).sum(0)
    renamed_iou = intersection_over_union(after)[list(order)]
    torch.testing.assert_close(renamed_iou, intersection_over_union(before), equal_nan=True, rtol=0, atol=0)
    torch.testing.assert_close(mean_iou(after), mean_iou(before), rtol=1e-12, atol=0)
    assert pixel_accuracy(after) == pixel_accuracy(before)


def test_truth_predicted_is_perfect_and_ignored_pixels_say_nothing():
    _, labels = drawn(1)
    perfect = confusion_matrices(labels.where(labels != IGNORE, 0), labels, CLASSES)
    assert mean_iou(perfect).eq(1).all()
    assert pixel_accuracy(perfect).eq(1).all()
    unlabelled = confusion_matrices(labels, torch.full_like(labels, IGNORE), CLASSES)  # predictions of 255 too
    assert unlabelled.sum() == 0
    assert mean_iou(unlabelled).isnan().all()
    assert pixel_accuracy(unlabelled).isnan().all()


def test_by_hand():
    labels = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, IGNORE]]])
    predicted = torch.tensor([[[0, 0, 1, 0], [0, 3, 1, 2]]])
    confusion = confusion_matrices(predicted, labels, 4)[0]
    assert confusion.tolist() == [[3, 0, 0, 1], [1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    # 0: 3 of 5; 1: 2 of 3; 2: predicted only where nobody counts, so absent; 3: predicted once, never there
    torch.testing.assert_close(
        intersection_over_union(confusion), torch.tensor([3 / 5, 2 / 3, torch.nan, 0]).double(), equal_nan=True
    )
    assert mean_iou(confusion).item() == pytest.approx((3 / 5 + 2 / 3 + 0) / 3)
    assert mean_iou(confusion, [0, 2]).item() == pytest.approx(3 / 5)  # 2 has no union and is in no mean
    assert mean_iou(confusion, [2]).isnan()
    assert pixel_accuracy(confusion).item() == pytest.approx(5 / 7)


def test_the_mean_over_images_is_another_number():
    predicted, labels = torch.tensor([[[0] * 8], [[1, 0] * 4]]), torch.tensor([[[0] * 8], [[0, 1] * 4]])
    confusion = confusion_matrices(predicted, labels, 2)
    assert mean_iou(confusion).tolist() == [1, 0]
    assert mean_iou(confusion.sum(0)).item() == pytest.approx((8 / 16 + 0) / 2)


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))],
)
def test_any_small_whole_type_and_any_device(device):
    predicted, labels = drawn(5)
    expected = slow(predicted, labels, CLASSES)
    predicted_pixels = confusion_matrices(predicted.to(device, torch.uint8), labels.to(device, torch.int32), CLASSES)
    assert torch.equal(predicted_pixels.cpu(), expected)


def test_invalid_input_is_a_one_line_error():
    labels = torch.zeros(1, 2, 2, dtype=torch.int64)
    with pytest.raises(DataError, match=r"found \(1, 2, 3\) and \(1, 2, 2\)"):
        confusion_matrices(torch.zeros(1, 2, 3, dtype=torch.int64), labels, 2)
    with pytest.raises(DataError, match="take the argmax"):
        confusion_matrices(torch.rand(1, 2, 2), labels, 2)
    with pytest.raises(DataError, match="expected labels of 2 classes, 0 to 1, found numbers from 7 to 7"):
        confusion_matrices(labels, labels + 7, 2)
    with pytest.raises(DataError, match="expected predictions of 2 classes, 0 to 1, found numbers from -1 to -1"):
        confusion_matrices(labels.clone().fill_(-1), labels, 2)
    with pytest.raises(DataError, match=r"0 to 1, found \[5\]"):
        mean_iou(torch.ones(2, 2), [0, 5])
    with pytest.raises(DataError, match="expected 1 to 255 classes"):
        confusion_matrices(labels, labels, 256)
