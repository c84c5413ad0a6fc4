"""Which of several encoders in a file is loaded: the one that its authors evaluate, whatever the order in the file."""

from pathlib import Path

import pytest
import torch
from helpers import foreign
from helpers.foreign import prefixed

from cka_probe.errors import CheckpointError
from cka_probe.models.checkpoints import inspect_file, load_file
from cka_probe.models.checkpoints.encoders import choose_encoder
from cka_probe.models.checkpoints.reading import Contents
from cka_probe.models.load import load


def encoder(value, width=4):
    """A small encoder with batch norm, all of whose values are `value`."""
    shapes = {"conv1.weight": (width, 3, 2, 2), "bn1.weight": (width,), "bn1.running_mean": (width,)}
    shapes |= {f"layer{i}.{j}.weight": (width, width) for i in (1, 2, 3) for j in (0, 1)}
    return {name: torch.full(shape, float(value)) for name, shape in shapes.items()}


def under(**trees):
    return {
        f"{prefix.replace('__', '.')}.{name}": tensor for prefix, tree in trees.items() for name, tensor in tree.items()
    }


def chosen(tensors, name=None):
    """Return the value of the encoder that is left, and the notes."""
    contents, notes = choose_encoder(Contents(Path("a.pth"), "torch.save, zip", tensors, {}), name)
    (value,) = {float(tensor.flatten()[0]) for key, tensor in contents.tensors.items() if key.endswith("conv1.weight")}
    return value, notes


PREFERRED = {
    "DINO": ("teacher__backbone", "student__backbone"),
    "lightly": ("teacher_backbone", "student_backbone"),
    "timm": ("state_dict_ema", "state_dict"),
    "DeiT": ("model_ema", "model"),
    "ema-pytorch": ("ema_model", "online_model"),
    "SWA": ("swa_model", "model"),
    "within": ("model__ema", "model"),
    "MoCo": ("encoder_q", "encoder_k"),
    "MoCo v3": ("base_encoder", "momentum_encoder"),
    "BYOL": ("online_encoder", "target_encoder"),
    "mmpretrain": ("backbone", "encoder_k__0"),
    "solo-learn": ("backbone", "momentum_backbone"),
    "BLIP": ("visual_encoder", "visual_encoder_m"),
    "I-JEPA": ("target_encoder", "encoder"),
    "pose": ("depth_net__encoder", "pose_net__encoder"),
}


@pytest.mark.parametrize("kind", PREFERRED)
def test_the_encoder_that_authors_evaluate_in_either_order(kind):
    preferred, other = PREFERRED[kind]
    tensors = under(**{preferred: encoder(1), other: encoder(2)})
    value, notes = chosen(tensors)
    assert (value, len(notes)) == (1, 1)
    assert chosen(dict(reversed(tensors.items()))) == (value, notes)
    name = other.replace("__", ".")
    assert f"#{name.split('.')[0]}" in notes[0]
    assert chosen(tensors, name)[0] == 2
    assert chosen(tensors, preferred.replace("__", "."))[0] == 1


def test_an_average_is_known_by_its_counter():
    tensors = under(model=encoder(1), avg=encoder(2)) | {"avg.n_averaged": torch.tensor(3)}
    assert chosen(tensors)[0] == 2


def test_an_average_without_statistics_of_batch_norms_is_not_loaded():
    average = {name: tensor for name, tensor in encoder(2).items() if "running" not in name}
    value, notes = chosen(under(model=encoder(1), ema=average))
    assert value == 1
    assert "statistics" in notes[0]


def test_the_average_of_daformer_only_labels_images():
    assert chosen(under(model=encoder(1), ema_model=encoder(2), imnet_model=encoder(3)))[0] == 1


def test_a_distillation_makes_its_student():
    value, notes = chosen(under(teacher=encoder(1, width=8), student=encoder(2)))
    assert value == 2
    assert "distillation" in notes[0]
    assert chosen(under(teacher=encoder(1, width=8), student=encoder(2)), "teacher")[0] == 1


def test_the_average_of_the_teacher():
    tensors = under(
        state_dict__student=encoder(1),
        state_dict__teacher=encoder(2),
        state_dict_ema__student=encoder(3),
        state_dict_ema__teacher=encoder(4),
    )
    assert chosen(tensors)[0] == 4
    assert chosen(tensors, "state_dict.student")[0] == 1


def test_one_encoder_stays_as_it_is_with_its_blocks_and_its_company():
    tensors = under(student__backbone=encoder(1)) | {"student.head.weight": torch.ones(3, 4)}
    contents, notes = choose_encoder(Contents(Path("a.pth"), "", tensors, {}))
    assert (contents.tensors, notes) == (tensors, ())
    assert chosen(tensors, "student")[0] == 1


@pytest.mark.parametrize("names", [("left", "right"), ("members__0", "members__1")])
def test_the_user_decides_where_names_do_not(names):
    tensors = under(**{names[0]: encoder(1), names[1]: encoder(2)})
    first, second = (name.replace("__", ".") for name in names)
    with pytest.raises(CheckpointError, match=rf"found 2 of the same structure: {first}, {second}; .*FILE#{first}"):
        chosen(tensors)
    assert chosen(tensors, second)[0] == 2


def test_a_name_that_is_not_in_the_file():
    with pytest.raises(CheckpointError, match=r"expected one encoder 'teacher', found student"):
        chosen(under(student=encoder(1)), "teacher")


@pytest.mark.slow
def test_files_are_loaded_by_reference_and_by_keyword(tmp_path):
    state, other = foreign.resnet().state_dict(), foreign.resnet(seed=9).state_dict()
    trees = {"student": prefixed("module.backbone.", state), "teacher": prefixed("backbone.", other)}
    path = tmp_path / "dino.pth"
    torch.save(trees, path)
    weights = [
        load_file(path).model.state_dict()["conv1.weight"],
        load(f"{path}#student").model.state_dict()["conv1.weight"],
        load(path, encoder="student").model.state_dict()["conv1.weight"],
        load(path, encoder="student", arch="resnet18").model.state_dict()["conv1.weight"],
    ]
    expected = [other["conv1.weight"], *[state["conv1.weight"]] * 3]
    assert all(map(torch.equal, weights, expected))
    assert "'teacher' is loaded" in load_file(path).origin.notes[0]
    assert "'student' was chosen" in inspect_file(f"{path}#student").notes[0]
    with pytest.raises(CheckpointError, match="#student and --encoder teacher"):
        load(f"{path}#student", encoder="teacher")
