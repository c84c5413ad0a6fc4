"""Record activations in one forward pass, as a function: hooks are added, the model runs, hooks are removed.

Whatever happens, no hook remains, and every module is in the train or eval mode it had. An activation is processed
inside its hook, so a later in-place operation does not affect it, and it can be freed at once. Compiled modules run
without their compiled code, which hooks do not reach. An exception of the model is a `ModelError` of one line.

`probe` finds the axis of the examples in each output. The model runs on three examples and, unless the first axis and
no other is as long, on two; the axis is the one whose length follows. A transformer that puts out tokens first,
(L, n, C), is recorded as (n, L, C). Two of the three then run again without the third: what they put out has to be the
same, or the model is random or mixes the examples of a batch.
"""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from traceback import walk_tb
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cka_probe.errors import CkaProbeError, LayerError, ModelError
from cka_probe.models.devices import is_out_of_memory
from cka_probe.models.layers import call_name, split_call

T = TypeVar("T")

EXAMPLES = (3, 2)
"""Numbers of examples in the two runs of a probe."""
AGAIN = range(1, 3)
"""Those of the first run that run again."""
UNSTABLE = 0.05
"""Relative change of an activation, by its norm, that is no rounding, of bfloat16 and dynamic quantisation neither."""


class _LastLayerRan(BaseException):  # not an Exception, which the model might catch
    """Ends a forward pass after the last layer that is recorded."""


@dataclass(frozen=True)
class Place:
    """Where the activation is in a module's output.

    Attributes:
        axis: The axis of the examples.
        tensor: Which of the float tensors of the output; `None` for the first with one entry per example.
    """

    axis: int = 0
    tensor: int | None = None


@dataclass(frozen=True)
class Call:
    """One call of a module.

    Attributes:
        shapes: Shapes of the float tensors that it put out.
        kind: Type of its output, for messages.
        unchanged: Whether it put out a tensor that another module had put out before, as an identity does.
        tensors: Copies of the float tensors, if they were to be kept.
    """

    shapes: tuple[tuple[int, ...], ...]
    kind: str
    unchanged: bool
    tensors: tuple[Tensor, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first tensor; () if there is none."""
        return self.shapes[0] if self.shapes else ()


@dataclass(frozen=True)
class Probe:
    """What the modules of a model put out.

    Attributes:
        calls: For each module that ran, its calls, in order of execution.
        places: For each call that has one activation per example, by `call_name`, where it is.
        num: Number of examples in the run.
        unchecked: Why the axis of the examples was assumed to be the first, or "".
        unstable: The first layer whose activation of an example changes from run to run or with the other examples,
            and by how much of its norm; "" and 0 if none does or outputs were not kept.
        parts: The examples of each run, and its calls, if outputs were kept.
    """

    calls: dict[str, list[Call]]
    places: dict[str, Place]
    num: int
    unchecked: str = ""
    unstable: tuple[str, float] = ("", 0.0)
    parts: tuple[tuple[range, dict[str, list[Call]]], ...] = ()

    def activation(self, module: str, number: int) -> Tensor:
        """Return the activation, (n, ...), of a layer that was kept, for the examples of one of `parts`."""
        examples, calls = self.parts[number]
        path, call = split_call(module)
        place = self.places[call_name(path, call or 1)]
        return activation_of(module, calls[path][(call or 1) - 1].tensors, len(examples), place)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode; afterwards every module has the mode it had before.

    The flags are set directly: an `eval` of the model's own may do more, such as merge the weights of an adapter, which
    the flags would not undo.
    """
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def own_forward(model: nn.Module) -> Iterator[None]:
    """Give a model that accelerate prepared for mixed precision its own forward pass back, without autocast."""
    attributes = vars(model)
    prepared = attributes.get("forward") if "_original_forward" in attributes else None
    if prepared is not None:
        attributes["forward"] = attributes["_original_forward"]
    try:
        yield
    finally:
        if prepared is not None:
            attributes["forward"] = prepared


@contextmanager
def model_errors(model: nn.Module, others: Collection[BaseException] = ()) -> Iterator[None]:
    """Turn an exception of a model into one line with its message and the module where it arose.

    Args:
        model: The model that runs.
        others: Exceptions that are not the model's.

    Raises:
        ModelError: The model raised an exception; running out of memory is left as it is.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, CkaProbeError) or error in others or is_out_of_memory(error):
            raise
        names = {id(module): name for name, module in model.named_modules()}
        selves = (frame.f_locals.get("self") for frame, _ in walk_tb(error.__traceback__))
        path = [names[id(module)] for module in selves if id(module) in names]
        where = f" in module {path[-1]!r}" if path and path[-1] else ""
        message = " ".join(str(error).split()) or "no message"
        raise ModelError(
            f"the forward pass of {type(model).__name__} failed{where}: {type(error).__name__}: {message}"
        ) from error


def eager() -> AbstractContextManager[Any]:
    """Return a context in which compiled modules run their Python code, so that their hooks are called."""
    compiler = sys.modules.get("torch._dynamo")  # loaded if anything is compiled
    return torch.compiler.set_stance("force_eager") if compiler else nullcontext()


def record(
    model: nn.Module,
    inputs: Any,
    modules: Sequence[str],
    keep: Callable[[str, Tensor], T],
    *,
    run: Callable[[Any], Any] | None = None,
    stop: bool = True,
    places: Mapping[str, Place] | None = None,
) -> list[T]:
    """Run a model once without gradients and return the values of `keep` for each layer's activation.

    Args:
        model: The model that `modules` are in.
        inputs: The input of the model; its first axis is the examples.
        modules: Dotted paths, each once; `relu#2` is the second call of `relu`.
        keep: Called as `keep(module, activation)` inside the hook, with an activation (n, ...) that may be overwritten
            after the call.
        run: Called with `inputs` in place of `model`, for example a `Backbone` around it.
        stop: End the forward pass after the last of the layers. If False, a layer that runs again after all others is
            noticed.
        places: Where the activation of a call is in the output, from `probe`; by default the examples are on the first
            axis of the first tensor that has one entry per example.

    Returns:
        One value per entry of `modules`, in that order.

    Raises:
        LayerError: A layer never ran, ran twice, or did not put out one activation per example.
        ModelError: The model raised an exception.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> record(model, torch.rand(5, 4), ["0", "1"], lambda module, activation: tuple(activation.shape))
    [(5, 3), (5, 3)]
    """
    values: dict[str, T] = {}
    errors: list[BaseException] = []
    n, places = num_examples(inputs), places or {}

    def hook_for(path: str) -> Callable[..., None]:
        calls = 0

        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            nonlocal calls
            calls += 1
            try:
                for name in {path, call_name(path, calls)}.intersection(modules):
                    if name in values:
                        raise runs_again(path)
                    place = places.get(call_name(path, calls), Place())
                    values[name] = keep(name, activation_of(name, output, n, place).detach())
            except Exception as error:
                errors.append(error)
                raise
            if stop and len(values) == len(modules):
                raise _LastLayerRan

        return hook

    with ExitStack() as hooks, torch.no_grad(), evaluating(model), eager():
        for path in dict.fromkeys(split_call(name)[0] for name in modules):
            hooks.callback(model.get_submodule(path).register_forward_hook(hook_for(path)).remove)
        with suppress(_LastLayerRan), model_errors(model, errors):
            (run or model)(inputs)
    never = [name for name in modules if name not in values]
    if never:
        others = f" (nor did {len(never) - 1} more)" if len(never) > 1 else ""
        raise LayerError(f"layer {never[0]!r} never ran in the forward pass{others}; name layers that the model uses")
    return [values[name] for name in modules]


def runs_again(path: str) -> LayerError:
    """Return the error for a module that runs more than once."""
    return LayerError(
        f"layer {path!r} runs more than once in a forward pass; name one of its calls, {call_name(path, 1)}, "
        f"{call_name(path, 2)} …, or a layer that runs once"
    )


def trace_calls(
    model: nn.Module, inputs: Any, run: Callable[[Any], Any] | None = None, keep: Collection[str] = ()
) -> dict[str, list[Call]]:
    """Run a model once and return the calls of every module in it that ran, in order of execution.

    Args:
        model: The model whose modules are traced.
        inputs: The input of the model.
        run: Called in place of `model`, as in `record`.
        keep: Dotted paths of modules whose outputs are kept.

    Raises:
        ModelError: The model raised an exception.
    """
    calls: dict[str, list[Call]] = {}
    outputs: dict[tuple[int, int], Tensor] = {}  # the tensors themselves keep their identity from being used again

    def hook_for(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensors = float_tensors(output)
            keys = [(id(tensor), 0 if tensor.is_inference() else tensor._version) for tensor in tensors[:1]]
            unchanged = any(key in outputs for key in keys)
            outputs.update(zip(keys, tensors, strict=False))
            shapes = tuple(tuple(tensor.shape) for tensor in tensors)
            copies = tuple(tensor.clone() for tensor in tensors) if name in keep else ()
            calls.setdefault(name, []).append(Call(shapes, _kind(output), unchanged, copies))

        return hook

    with ExitStack() as hooks, torch.no_grad(), evaluating(model), eager():
        for name, module in [*model.named_modules()][1:]:
            hooks.callback(module.register_forward_hook(hook_for(name)).remove)
        with model_errors(model):
            (run or model)(inputs)
    return calls


def probe(model: nn.Module, inputs: Any, run: Callable[[Any], Any] | None = None, keep: Collection[str] = ()) -> Probe:
    """Run a model on three and, if that leaves a doubt, on two of its inputs and return what its modules put out.

    A model that cannot run on so few is run on all inputs instead; then the first axis is taken for the examples if it
    has their number.

    Args:
        model: The model.
        inputs: At least three examples, on the first axis.
        run: Called in place of `model`, as in `record`.
        keep: Layers, each a module or a call, whose outputs are kept for the inputs that ran, if there are more than
            five; the places of other layers may be missing then.

    Raises:
        ModelError: The model raised an exception with all inputs too.

    >>> model = nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (3, 2)), nn.Flatten(0, 1))
    >>> probe(model, torch.rand(5, 4)).places
    {'0#1': Place(axis=0, tensor=0), '1#1': Place(axis=0, tensor=0)}
    """
    first, second = EXAMPLES
    paths = {split_call(name)[0] for name in keep}
    is_small = num_examples(inputs) <= sum(EXAMPLES) or not keep
    parts = [range(first), range(second) if is_small else range(first, first + second)]
    try:
        more = trace_calls(model, examples_of(inputs, parts[0]), run, paths)
        layers = {} if is_small else {path: more.get(path, []) for path in paths}
        if layers and all(_is_first_axis(call, first) for calls in layers.values() for call in calls):
            places = {
                call_name(path, n): Place(0, 0) for path, calls in layers.items() for n in range(1, len(calls) + 1)
            }
            outputs = Probe(more, places, first, parts=((parts[0], more),))
            return replace(outputs, unstable=_instability(model, inputs, run, keep, outputs))
        fewer = trace_calls(model, examples_of(inputs, parts[1]), run, paths)
    except ModelError as error:
        num = num_examples(inputs)
        calls = trace_calls(model, inputs, run)
        pairs = {name: [(call, call) for call in each] for name, each in calls.items()}
        return Probe(calls, _places(pairs, (num, num), first=True), num, str(error))
    pairs = {
        name: list(zip(each, fewer[name], strict=True))
        for name, each in more.items()
        if len(each) == len(fewer.get(name, ()))
    }
    runs = tuple(zip(parts, (more, fewer), strict=True))
    outputs = Probe(more, _places(pairs, EXAMPLES), EXAMPLES[0], parts=runs)
    if keep:
        outputs = replace(outputs, unstable=_instability(model, inputs, run, keep, outputs))
    return replace(outputs, parts=()) if is_small else outputs


def _instability(
    model: nn.Module, inputs: Any, run: Callable[[Any], Any] | None, keep: Collection[str], outputs: Probe
) -> tuple[str, float]:
    """Return `Probe.unstable`: two of the first examples run again, without the third."""
    try:
        calls = trace_calls(model, examples_of(inputs, AGAIN), run, {split_call(name)[0] for name in keep})
    except ModelError:  # it does not run on two
        return "", 0.0
    again = replace(outputs, parts=((AGAIN, calls),))
    for name in keep:
        path, number = split_call(name)
        if call_name(path, number or 1) not in outputs.places or len(calls.get(path, ())) < (number or 1):
            continue
        with suppress(LayerError):  # a layer of another form is found out by who selects layers
            before, after = outputs.activation(name, 0)[AGAIN.start :].float(), again.activation(name, 0).float()
            if before.shape == after.shape:
                change = float(torch.linalg.vector_norm(after - before) / torch.linalg.vector_norm(before))
                if change > UNSTABLE:
                    return name, change
    return "", 0.0


def _is_first_axis(call: Call, num: int) -> bool:
    """Return whether the first axis of an output is that of the examples: no other is as long, but for a square map."""
    others = call.shape[1:2] if len(call.shape) == 4 and call.shape[2] == call.shape[3] else call.shape[1:]
    return call.shape[:1] == (num,) and num not in others


def _places(
    pairs: Mapping[str, Sequence[tuple[Call, Call]]], numbers: tuple[int, int], first: bool = False
) -> dict[str, Place]:
    """Return where the activations are, by call, from the calls of two runs with so many examples."""
    places = {}
    for name, calls in pairs.items():
        for number, (more, fewer) in enumerate(calls, start=1):
            for tensor, shapes in enumerate(zip(more.shapes, fewer.shapes, strict=False)):
                lengths = list(zip(*shapes, strict=False))[: 1 if first else None]
                if len(shapes[0]) == len(shapes[1]) and numbers in lengths:
                    places[call_name(name, number)] = Place(lengths.index(numbers), tensor)
                    break
    return places


def num_examples(inputs: Any) -> int:
    """Return the number of examples of an input: the length of a tensor, or of the first value of a mapping."""
    return len(next(iter(inputs.values()))) if isinstance(inputs, Mapping) else len(inputs)


def examples_of(inputs: Any, part: range) -> Any:
    """Return a range of the examples of an input."""
    if isinstance(inputs, Mapping):
        return {name: value[part.start : part.stop] for name, value in inputs.items()}
    return inputs[part.start : part.stop]


def float_tensors(output: Any) -> list[Tensor]:
    """Return the float tensors in a module's output, also in nested tuples, mappings and dataclasses.

    The last hidden state of a transformer comes first.
    """
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() and _is_dense(output) else []
    if isinstance(output, Mapping):
        names = sorted(output, key=lambda name: name != "last_hidden_state")
        parts = [output[name] for name in names]
    elif is_dataclass(output):
        parts = [getattr(output, item.name) for item in fields(output)]
    else:
        parts = list(output) if isinstance(output, tuple | list) else []
    return [tensor for part in parts for tensor in float_tensors(part)]


def _is_dense(tensor: Tensor) -> bool:
    """Return whether a tensor is a whole array, and neither sparse nor nested."""
    return tensor.layout is torch.strided and not tensor.is_nested


def _kind(output: Any) -> str:
    """Return the type of an output, for messages."""
    if not isinstance(output, Tensor):
        return type(output).__name__
    kind = str(output.dtype).removeprefix("torch.")
    return kind if _is_dense(output) else f"a sparse or nested one of {kind}"


def activation_of(name: str, output: Any, n: int, place: Place | None = None) -> Tensor:
    """Return the activation in a module's output, (n, ...), with the examples on the first axis.

    Args:
        name: Of the layer, for messages.
        output: What the module put out: a tensor, or a tuple, mapping or dataclass that contains one.
        n: Number of examples.
        place: Where the activation is.

    Raises:
        LayerError: There is no float tensor, or none that has one entry per example.
    """
    place = place or Place()
    tensor = activation_tensor(name, output, n, place)
    if tensor.dim() == 1:
        return tensor[:, None]
    return tensor.movedim(place.axis, 0) if place.axis else tensor


def activation_tensor(name: str, output: Any, n: int, place: Place) -> Tensor:
    """Return the tensor in a module's output that holds the activation, as it is; arguments as in `activation_of`."""
    tensors = float_tensors(output)
    if not tensors:
        raise LayerError(f"layer {name!r} {no_tensor(_kind(output))}; name another layer")
    candidates = tensors if place.tensor is None else tensors[place.tensor : place.tensor + 1]
    for tensor in candidates:
        if tensor.dim() > place.axis and tensor.shape[place.axis] == n:
            return tensor
    raise LayerError(f"layer {name!r} {no_examples(tuple((candidates or tensors)[0].shape), n)}; name another layer")


def no_tensor(kind: str) -> str:
    """Return why an output of this type cannot be compared."""
    return f"puts out no float tensor but {kind}"


def no_examples(shape: tuple[int, ...], n: int) -> str:
    """Return why an output of this shape for n examples cannot be compared."""
    return f"puts out {shape} for {n} images; expected one activation per image (windows or tokens are not examples)"
