"""Build the model of a folder of transformers: from its `config.json` and weights, by transformers' own class.

Of a model of images and text (CLIP, SigLIP …) the vision tower is taken, of a segmentation or depth model its backbone.
Any other stays whole, with its classifier. Nothing but these files is read, and no code of theirs is run.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cka_probe.errors import CheckpointError
from cka_probe.files import read_json
from cka_probe.models.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone, Origin
from cka_probe.models.catalogue import POSITIONS
from cka_probe.models.checkpoints.reading import Contents
from cka_probe.models.default_layers import default_layers
from cka_probe.registry import missing_extra

TRANSLATED = {"swinv2", "dinov2", "depth_anything"}
"""Model types whose tensors are renamed to timm's instead: their default layers are a paper's."""

TOWERS = ("vision_model", "vision_tower", "visual", "vision_encoder")
"""Names of the vision tower in a model of images and text."""

AS_ENCODER = {"vit_mae": ("vit", "ViTModel"), "vit_msn": ("vit_msn", "ViTMSNModel")}
"""Model type and class of the encoder for models whose own class hides patches at random."""

IMAGENET_TYPES = {
    "convnext", "convnextv2", "deit", "depth_anything", "dinov2", "dinov2_with_registers", "focalnet", "hiera",
    "resnet", "regnet", "swin", "swinv2", "vit_mae", "vit_msn",
}  # fmt: skip
"""Model types whose published models are normalised by ImageNet's mean and std, unlike their processor's defaults."""

PROCESSORS = {"clip_vision_model": "clip", "siglip_vision_model": "siglip", "siglip2_vision_model": "siglip"}
"""Model types whose image processor transformers lists under another type."""

UNUSED = ("pooler.", "embeddings.mask_token", "position_ids")
"""Tensors that a file may lack: nothing that is compared depends on them."""


def is_transformers_config(config: Mapping[str, Any]) -> bool:
    """Return whether a `config.json` is of a model that transformers builds here."""
    return isinstance(config.get("model_type"), str) and config["model_type"] not in TRANSLATED


def load_with_transformers(contents: Contents, reference: str) -> Backbone:
    """Return the backbone of a folder of transformers.

    Args:
        contents: Of its weights, with its `config.json`.
        reference: The user's name for it.

    Raises:
        CheckpointError: transformers does not know the model, or the weights do not fit it.
        MissingExtraError: transformers is not installed.
    """
    model = _vision_part(_build(contents), contents.config)
    if others := _other_inputs(model):
        raise CheckpointError(
            f"{contents.path.parent}: expected a model that takes images alone, found {type(model).__name__}, which "
            f"needs {', '.join(others)} too; give it in Python, as Backbone(model, forward=...)"
        )
    mean, std, size, note = read_preprocessing(contents.path.parent, contents.config, model)
    name = str(contents.config["model_type"])
    notes = (f"built by transformers as {type(model).__name__}", note)
    return Backbone(
        model,
        size=size,
        mean=mean,
        std=std,
        layers=default_layers(model),
        origin=Origin(reference, name, notes=notes),
    ).eval()


def _build(contents: Contents) -> nn.Module:
    """Return the model that a `config.json` describes, with the weights of the file."""
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise missing_extra(error) from error
    kind = str(contents.config["model_type"])
    if (layers := _most_layers(contents.config)) > len(contents.tensors):
        raise CheckpointError(
            f"{contents.path.parent}: expected a config.json of the file, found one of {layers} layers for "
            f"{len(contents.tensors)} tensors; copy the folder again"
        )
    model_type, name = AS_ENCODER.get(kind, (kind, str((contents.config.get("architectures") or [""])[0])))
    try:
        config = transformers.AutoConfig.for_model(**contents.config | {"model_type": model_type})
        builder: Any = getattr(transformers, name) if name else transformers.MODEL_MAPPING[type(config)]
    except Exception as error:  # a configuration can be wrong in any way
        raise CheckpointError(
            f"{contents.path.parent}: expected a model of transformers {transformers.__version__}, found {kind!r} "
            f"({str(error).splitlines()[0][:80]}); update transformers, or pass the module in Python"
        ) from error
    with _quiet(transformers.utils.logging), torch.random.fork_rng(devices=[]):
        try:
            model, report = builder.from_pretrained(
                None, config=config, state_dict=dict(contents.tensors), output_loading_info=True
            )
        except Exception as error:  # likewise
            raise CheckpointError(
                f"{contents.path}: expected the weights of {name or kind}, found others "
                f"({str(error).splitlines()[0][:100]}); copy or save the folder again"
            ) from error
    missing = sorted(key for key in report["missing_keys"] if not any(part in key for part in UNUSED))
    if missing or report.get("mismatched_keys"):
        wrong = missing or sorted(map(str, report["mismatched_keys"]))
        raise CheckpointError(
            f"{contents.path}: expected every tensor of {builder.__name__}, found none that fits {wrong[0]} and "
            f"{len(wrong) - 1} more; save the whole model with save_pretrained()"
        )
    whole: nn.Module = model.float()
    return whole


def _most_layers(config: Mapping[str, Any]) -> int:
    """Return the most layers that a configuration asks for, of any kind; modules of these would be made one by one."""
    counts = [0]
    for name, value in config.items():
        if isinstance(value, Mapping):
            counts.append(_most_layers(value))
        elif "layers" in name or "depth" in name:
            counts += [count for count in (value if isinstance(value, list) else [value]) if isinstance(count, int)]
    return max(counts)


def file_names(contents: Contents) -> dict[str, str]:
    """Return the names of the tensors in a file of transformers, by those that they have in the model.

    transformers 5 calls `encoder.layer.0.attention.attention.query` of a file `layers.0.attention.q_proj` in memory. A
    tensor that is joined from several, or split, is left out.
    """
    model: Any = _build(contents)
    from transformers.core_model_loading import revert_weight_conversion

    state = model.state_dict()
    names = {id(tensor): name for name, tensor in revert_weight_conversion(model, dict(state)).items()}
    return {name: names[id(tensor)] for name, tensor in state.items() if id(tensor) in names}


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """Turn the messages and the progress bar of transformers off; afterwards they are as before."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _vision_part(model: nn.Module, config: Mapping[str, Any]) -> nn.Module:
    """Return the part of a model that sees images: a vision tower, the backbone of a dense model, or the whole."""
    if "vision_config" in config:
        for _, module in model.named_modules():
            for name in TOWERS:
                if isinstance(tower := getattr(module, name, None), nn.Module):
                    return tower
    if "backbone_config" in config:
        backbones = [module for module in model.modules() if hasattr(module, "forward_with_filtered_kwargs")]
        if backbones:
            return backbones[0]
    return model


def _other_inputs(model: nn.Module) -> list[str]:
    """Return the names of inputs without which a model does not run, other than the first, its images."""
    _, *others = inspect.signature(model.forward).parameters.values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [value.name for value in others if value.default is inspect.Parameter.empty and value.kind not in variadic]


def read_preprocessing(
    folder: Path, config: Mapping[str, Any], model: nn.Module
) -> tuple[Sequence[float], Sequence[float], Any, str]:
    """Return mean, standard deviation, size (height, width) or one number, and a note on where mean and std come from.

    They are those of `preprocessor_config.json`, else of the image processor of the model's type.
    """
    path = folder / "preprocessor_config.json"
    try:
        settings = read_json(path)
        note = "input normalised as its preprocessor_config.json says"
    except ValueError as error:
        raise CheckpointError(f"{path}: expected JSON, found another file ({error}); copy it again") from error
    except OSError:
        kind = str(config["model_type"])
        if kind in IMAGENET_TYPES:
            settings = {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD}
            note = f"no preprocessor_config.json: input normalised as the published models of type {kind} are"
        else:
            processor = _image_processor(kind)
            settings = {name: getattr(processor, name, None) for name in ("image_mean", "image_std")}
            note = f"no preprocessor_config.json: input normalised as {type(processor).__name__} does"
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path}: expected an object, found {str(settings)[:40]}; copy it again")
    if settings.get("do_normalize") is False:
        settings = settings | {"image_mean": (0.0,) * 3, "image_std": (1.0,) * 3}
    part: Any = getattr(model, "config", None)
    size = getattr(part, "image_size", None)
    if not any(POSITIONS.fullmatch(name) for name, _ in model.named_parameters()):
        size = _side(settings) or size  # any size fits: the images were resized to the processor's
    size = size or _side(settings) or 224
    mean, std = settings.get("image_mean"), settings.get("image_std")
    if not mean or not std:
        raise CheckpointError(
            f"{folder}: expected image_mean and image_std in preprocessor_config.json, found none, and transformers "
            f"has no image processor for {config['model_type']!r}; add the file"
        )
    numbers = [value for values in (mean, std) for value in (values if isinstance(values, list | tuple) else [values])]
    if not all(isinstance(value, int | float) for value in numbers):
        raise CheckpointError(f"{path}: expected numbers as image_mean and image_std, found {mean} and {std}; fix them")
    return mean, std, size, note


def _side(settings: Mapping[str, Any]) -> Any:
    """Return the input size that an image processor's settings state: of the crop, else of the resized image."""
    size = settings.get("crop_size") if settings.get("do_center_crop") else settings.get("size")
    if isinstance(size, Mapping):
        if "height" in size and "width" in size:
            return size["height"], size["width"]
        return size.get("shortest_edge")
    return size


def _image_processor(model_type: str) -> Any:
    """Return the image processor of a model type with its default settings, `None` if there is none."""
    import transformers
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

    entry = IMAGE_PROCESSOR_MAPPING_NAMES.get(PROCESSORS.get(model_type, model_type), ())
    names = entry.values() if isinstance(entry, Mapping) else (entry,) if isinstance(entry, str) else entry
    processors = (getattr(transformers, str(name), None) for name in sorted(map(str, names)))
    return next((processor() for processor in processors if processor is not None), None)
