"""Fingerprint one live model again and again over the same images, and leave no trace of it in its training."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cka_probe.comparison.extraction import as_fingerprint, is_distributed, model_inputs, model_runs, preparation
from cka_probe.comparison.fingerprint import Fingerprint
from cka_probe.comparison.model_run import ModelRun
from cka_probe.comparison.sides import Entry, Images, Options, open_sides
from cka_probe.errors import DataError, LayerError, ModelError
from cka_probe.images.stream import batches
from cka_probe.models.layers import split_call
from cka_probe.models.load import weights_hash
from cka_probe.models.selection import LayerSpec


class LiveModel:
    """A model whose weights change, and the images that it is fingerprinted over.

    The images are read at the first fingerprint and stay in memory, in the size of the model. Which layers can be
    compared is found out then as well.

    Args:
        model: A module.
        images: As in `compare`.
        layers: As in `compare`.
        reference: A fingerprint of the same images whose settings are used, if there is one.
        options: Other arguments of `compare`.
    """

    def __init__(
        self, model: nn.Module, images: Any, layers: LayerSpec, reference: Fingerprint | None, options: Options
    ):
        if not isinstance(model, nn.Module):
            raise DataError(f"expected the module that is trained, found {type(model).__name__}; give the module")
        entries = [Entry(side, layers, None) for side in (model, reference) if side is not None]
        with undisturbed(model, 0):  # to open a loader may draw random numbers
            opened = open_sides(entries, Images(images), options)
        self._backbone: Any = opened.sides[0]
        self._layers, self._stream, self._settings = opened.maps[0], opened.streams[0], opened.settings
        self._run: ModelRun | None = None
        self._inputs: list[Tensor] = []
        self._hashes: list[str] = []

    @property
    def is_distributed(self) -> bool:
        """Whether the weights lie in several processes, which then have to run the model together."""
        return is_distributed(self._backbone.model)

    def is_part_of(self, other: nn.Module) -> bool:
        """Return whether all parameters are those of another module."""
        return {*map(id, self._backbone.model.parameters())} <= {*map(id, other.parameters())}

    def fingerprint(self, step: int) -> Fingerprint:
        """Return the fingerprint of the model as it is now; its reference names the step.

        Raises:
            ModelError: The weights are not in the module, or the model raised an exception.
            LayerError: The module has no such layers any more, or none of them can be compared.
        """
        model = self._backbone.model
        if any(hasattr(weight, "ds_id") for weight in model.parameters()):
            raise ModelError("expected the weights in the module, found those of DeepSpeed ZeRO-3; use stage 1 or 2")
        modules = dict(model.named_modules())
        if missing := [path for path in self._layers.modules if split_call(path)[0] not in modules]:
            raise LayerError(
                f"layer {missing[0]!r} is not in the module any more; create the monitor after the model is wrapped"
            )
        with undisturbed(model, self._settings.seed):
            run = self._run.again() if self._run else self._first_run()
            for inputs in self._inputs:
                (output,) = run.run([inputs], lambda _share: None)
                run.add(output, len(inputs))
            self._run = run
            fingerprint = as_fingerprint(run, weights_hash(model), self._hashes, [self._stream])
        reference = f"{fingerprint.side.reference}/step {step}"
        return replace(fingerprint, side=replace(fingerprint.side, reference=reference))

    def _first_run(self) -> ModelRun:
        """Read the images and find out which layers can be compared."""
        (run,) = model_runs([(self._backbone, self._layers, 0)], self._settings)
        prepared = list(batches([self._stream], preparation([run])))
        (self._inputs,) = model_inputs([run], prepared)
        self._hashes = [digest for (images,) in prepared for digest, _ in images]
        run.choose_layers(run.probe(self._inputs[:1], keep=False))
        return run


@contextmanager
def undisturbed(model: nn.Module, seed: int) -> Iterator[None]:
    """Seed random numbers for a forward pass of a model; afterwards they, and its buffers, are as before.

    A model that draws random numbers in evaluation mode, such as a masked autoencoder, draws the same every time.
    Autocast is off, and casts of weights that it holds for the backward pass are neither used nor replaced.

    Args:
        model: The model; random numbers are those of PyTorch on its device and the CPU, of NumPy and of Python.
        seed: The seed.
    """
    device = next(model.parameters(), torch.empty(0)).device
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index])
    states = [generator.get_state() for generator in generators]
    state_of_python, state_of_numpy = random.getstate(), np.random.get_state()
    slots = [module._buffers for module in model.modules()]
    buffers = [
        (slot, name, value, value.clone()) for slot in slots for name, value in slot.items() if value is not None
    ]
    for generator in generators:
        generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.clear_autocast_cache()
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.clear_autocast_cache()
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        random.setstate(state_of_python)
        np.random.set_state(state_of_numpy)
        for slot, name, buffer, copy in buffers:
            if (value := slot[name]) is not None and value.shape == buffer.shape:  # else a table that has grown
                slot[name] = buffer
            if not torch.equal(buffer, copy):
                buffer.copy_(copy)
