"""The first and the last layer of a network that Grad-CAM is of, found from the order in which its modules run.

- `first` has the sharpest maps: it is the first ReLU of a convolutional network, before any pooling: `relu` in
  torchvision, `act1` in timm and `features.1` in VGG. A transformer has no such ReLU; its first map is the patch
  embedding.
- `last` is nearest to the score: it is the last feature map, of more than one position, that the score depends on. For
  convolutional networks and Swin transformers it is the map that is pooled. In a vision transformer that is read at
  its class token, patches no longer affect the score after the last attention, so it is the norm before it:
  `blocks.11.norm1` in timm.

`auto` is `last` for the score of a class, as usual for classifiers, and for a callable; for others it is `first`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from cka_probe.attribution.targets import PREDICTIONS, Scored, tensor_in
from cka_probe.errors import LayerError
from cka_probe.models.layers import call_name
from cka_probe.models.layouts import infer_layout
from cka_probe.models.recording import Place, activation_tensor, eager, evaluating, model_errors, trace_calls

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SiLU, nn.GELU, nn.Hardswish, nn.Mish)
POOLING = (nn.MaxPool2d, nn.AvgPool2d)
EMBEDDINGS = ("patch_embed", "patch_embeddings", "conv_proj")
"""Names of the patch embedding in timm and the original code, in transformers, and in torchvision."""
PASSED = (*POOLING, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Dropout, nn.Dropout2d, nn.Identity)
"""Modules that `last` passes over: they pool a feature map or leave it as it is."""


def first_layer(root: nn.Module, images: Tensor, run: Callable[[Tensor], Any]) -> str:
    """Return the path of the first ReLU before the pooling, else of the patch embedding, else of the first ReLU.

    Args:
        root: Paths are relative to it.
        images: (n, 3, H, W), for one forward pass.
        run: Runs the forward pass.

    Raises:
        LayerError: The network has none of them.
    """
    modules, calls = dict(root.named_modules()), trace_calls(root, images, run=run)
    order = list(calls)  # of execution
    active = [
        name
        for name in order
        if isinstance(modules[name], ACTIVATIONS) and len(calls[name]) == 1 and len(calls[name][0].shape) == 4
    ]
    pooling = next((index for index, name in enumerate(order) if isinstance(modules[name], POOLING)), -1)
    if active and order.index(active[0]) < pooling:
        return active[0]
    embedding = next((name for name in order if name.rpartition(".")[2] in EMBEDDINGS), None)
    if embedding is not None or active:
        return embedding or active[0]
    raise LayerError(
        "the network has no ReLU that runs once and no patch embedding to use as first layer; name a layer "
        "(`ckaprobe layers` lists them)"
    )


def last_layer(
    encoder: nn.Module,
    images: Tensor,
    run: Callable[[Tensor], Any],
    score: Callable[[Any], Scored],
    places: Mapping[str, Place],
) -> str:
    """Return the path of the last feature map that a score depends on.

    Among tokens only the outputs of norms and of modules with children count: not the keys and values of an attention.
    What is a dense prediction itself is not a feature map.

    Args:
        encoder: Paths are relative to it.
        images: (n, 3, H, W), for one forward and backward pass.
        run: Runs the forward pass.
        score: From the output of `run` to scores.
        places: Where the activations are in the outputs of modules, by call; by default the first axis is the examples.

    Raises:
        LayerError: There is none.
    """
    outputs = _feature_maps(encoder, images, places)
    with torch.inference_mode(False), torch.enable_grad(), evaluating(encoder), eager(), outputs as maps:
        with model_errors(encoder):
            output = run(images.detach().clone().requires_grad_().clone())
        scored = score(output)
    dense = scored.predictions is not None and scored.predictions.dim() > 1
    prediction = id(tensor_in(output, PREDICTIONS)) if dense else None
    tensors = [tensor for tensor, _ in maps.values()]
    gradients = torch.autograd.grad([row.sum() for row in scored.rows], tensors, allow_unused=True) if tensors else ()
    size, versions = (images.shape[-2], images.shape[-1]), {name: (id(t), v) for name, (t, v) in maps.items()}
    for (name, tensor), gradient in reversed([*zip(zip(maps, tensors, strict=True), gradients, strict=True)]):
        if gradient is None or id(tensor) == prediction:
            continue
        gradient = gradient.movedim(places.get(call_name(name, 1), Place()).axis, 0)
        if _has_positions(gradient, size, name, encoder):
            same = [other for other, version in versions.items() if version == versions[name]]
            blocks = [other for other in same if not isinstance(encoder.get_submodule(other), ACTIVATIONS)]
            return (blocks or same)[0]  # the innermost of those that return this very map
    raise LayerError(
        "the network has no feature map that the score depends on, so there is no last layer; name a layer (`ckaprobe "
        "layers` lists them)"
    )


@contextmanager
def _feature_maps(
    encoder: nn.Module, images: Tensor, places: Mapping[str, Place]
) -> Iterator[dict[str, tuple[Tensor, int]]]:
    """Yield a dict that a forward pass fills with feature maps and their versions, in the order of execution."""
    maps: dict[str, tuple[Tensor, int]] = {}
    runs: Counter[str] = Counter()

    def hook_for(name: str, module: nn.Module) -> Callable[..., None]:
        composed = bool([*module.children()]) or "Norm" in type(module).__name__
        maps_anew = composed or isinstance(module, ACTIVATIONS) or bool([*module.parameters(recurse=False)])

        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            runs[name] += 1
            maps.pop(name, None)
            with suppress(LayerError):  # no activation of the images
                place = places.get(call_name(name, 1), Place())
                tensor = activation_tensor(name, output, len(images), place)
                counts = {3: composed, 4: maps_anew}.get(tensor.dim(), False)
                if counts and tensor.requires_grad and runs[name] == 1:
                    maps[name] = tensor, tensor._version

        return hook

    with ExitStack() as hooks:
        for name, module in encoder.named_modules():
            if name and not isinstance(module, PASSED):
                hooks.callback(module.register_forward_hook(hook_for(name, module)).remove)
        yield maps


def _has_positions(gradient: Tensor, size: tuple[int, int], name: str, encoder: nn.Module) -> bool:
    """Return whether a gradient is of a feature map of the image's proportions, and not 0 there."""
    try:
        inside = infer_layout(tuple(gradient.shape), size, name, encoder).feature_map(gradient)
    except LayerError:
        return False
    height, width = inside.shape[-2:]
    proportional = abs(height * size[1] - width * size[0]) < max(size)
    return height * width > 1 and proportional and bool(inside.any())
