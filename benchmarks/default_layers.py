"""Check the default layers of every torchvision classifier, one model of each file of timm, and transformers' families.

    python benchmarks/default_layers.py [PATTERN]

Models are built and run on the meta device, which needs no memory for weights. Each line has the number of default
layers, the first and the last; a cross marks a model for which one of these does not hold:

- there are 4 to 25 default layers, and each is run once, with an axis of images;
- the first runs before all others, and the last after them;
- no layers with more than a tenth of the parameters run after the last, a classifier's aside;
- no more than six layers run before the first.
"""

import re
import sys
import warnings
from collections.abc import Callable, Iterator

import timm
import torch
import torchvision
import transformers
from torch import nn

from cka_probe.errors import CkaProbeError
from cka_probe.models.default_layers import default_layers
from cka_probe.models.layers import split_call
from cka_probe.models.load import built_size
from cka_probe.models.recording import probe
from cka_probe.models.selection import comparable_layers, select_layers

SMALL = ("atto", "femto", "pico", "nano", "micro", "xxs", "mini", "tiny", "xs", "small", "_s", "b0", "18")
"""Parts of names of small models, the smallest first."""

HEAD = re.compile(
    r"head|classifier|pre_logits|conv5\.|last|conv_1x1|final|^fc|pooler|incre_|downsamp_|conv2d_7b|cls_|post_"
)
"""Layers that belong to the classifier, also convolutions before its pooling and the attention of class tokens."""

FAMILIES = (
    *("BeitModel", "BitModel", "CLIPVisionModel", "ConvNextModel", "ConvNextV2Model", "CvtModel"),
    *("DINOv3ConvNextModel", "DINOv3ViTModel", "Data2VecVisionModel", "DeiTModel", "Dinov2Model"),
    *("Dinov2WithRegistersModel", "DPTModel", "EfficientNetModel", "FocalNetModel", "HieraModel", "IJepaModel"),
    *("LevitModel", "MobileNetV1Model", "MobileNetV2Model", "MobileViTModel", "MobileViTV2Model"),
    *("PoolFormerModel", "PvtModel", "PvtV2Model", "RegNetModel", "ResNetModel", "SegformerModel"),
    *("SiglipVisionModel", "SwiftFormerModel", "SwinModel", "Swinv2Model"),
    *("TextNetModel", "ViTMAEModel", "ViTMSNModel", "ViTModel", "YolosModel"),
)
"""Classes of transformers, with the sizes of their default configurations."""


def models() -> Iterator[tuple[str, Callable[[], nn.Module], int]]:
    """Yield the name of each model, a function that builds it, and its input size."""
    for name in torchvision.models.list_models(module=torchvision.models):
        size = torchvision.models.get_model_weights(name)["DEFAULT"].transforms().crop_size[0]
        yield f"torchvision {name}", lambda name=name: torchvision.models.get_model(name, weights=None), size
    for module in timm.list_modules():
        names = timm.list_models(module=module)
        if names:
            name = min(names, key=lambda name: next((i for i, part in enumerate(SMALL) if part in name), len(SMALL)))
            size = timm.get_pretrained_cfg(name).input_size[-1]
            yield f"timm {module} {name}", lambda name=name: timm.create_model(name), size
    for name in FAMILIES:
        builder = getattr(transformers, name, None)
        if builder is None:
            continue
        config = builder.config_class()
        size = getattr(config, "image_size", None) or 224
        yield f"transformers {name}", lambda b=builder, c=config: b(c), size if isinstance(size, int) else size[0]


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """Return a model on the meta device; a RegNet of torchvision has to be built on the CPU first."""
    try:
        with torch.device("meta"):
            return build()
    except NotImplementedError:
        return build().to("meta")


def problems(model: nn.Module, size: tuple[int, int]) -> tuple[str, list[str]]:
    """Return the default layers of a model in words, and what is wrong with them."""
    layers = default_layers(model)
    if layers is None:
        return "none", ["no layers"]
    record = probe(model, torch.empty(4, 3, *size, device="meta"))
    order = list(record.calls)  # modules are called from the inside out: a parent after its children
    comparable, warned = comparable_layers(select_layers(model, None), record)
    faults = list(warned)
    if record.unchecked:
        faults.append(f"not probed: {record.unchecked}")
    if not 4 <= len(comparable) <= 25:
        faults.append(f"{len(comparable)} layers")
    places = [order.index(split_call(path)[0]) for path in comparable.modules]
    if places[0] != min(places) or places[-1] != max(places):
        faults.append("the first or last does not run first or last")
    leaves = {path: module for path, module in model.named_modules() if not any(True for _ in module.children())}
    sizes = {path: sum(weight.numel() for weight in module.parameters()) for path, module in leaves.items()}
    tail = [path for path in order[places[-1] + 1 :] if path in leaves and not HEAD.search(path)]
    share = sum(sizes[path] for path in tail) / sum(weight.numel() for weight in model.parameters())
    if share > 0.1:
        faults.append(f"{share:.0%} of the parameters run after the last, {max(tail, key=sizes.__getitem__)}")
    first = comparable.modules[0]
    start = [path for path in order[: places[0]] if sizes.get(path) and not path.startswith(f"{first}.")]
    if len(start) > 6 and "MeSa" not in layers.rule:
        faults.append(f"{len(start)} layers run before the first, {start[-1]}")
    return f"{len(comparable)} {comparable.modules[0]} … {comparable.modules[-1]}", faults


def main() -> None:
    """Print a line per model."""
    warnings.simplefilter("ignore")
    failures = count = 0
    for name, build, size in models():
        if len(sys.argv) > 1 and not re.search(sys.argv[1], name):
            continue
        count += 1
        try:
            model = on_meta(build).eval()
            with torch.device("meta"):
                words, faults = problems(model, (built_size(model) or (size, size)))
        except (CkaProbeError, RuntimeError, NotImplementedError, ImportError, ValueError, TypeError) as error:
            words, faults = "", [f"{type(error).__name__}: {str(error)[:150]}"]
        failures += bool(faults)
        print("✗" if faults else "✓", name, words, "; ".join(faults), flush=True)
    print(f"{count - failures} of {count} models")


if __name__ == "__main__":
    main()
