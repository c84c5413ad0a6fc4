"""Words on figures: names of layers and models made to fit, without two of them becoming the same.

Widths are in em, the size of the letters, so that they hold for any size.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import PureWindowsPath

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from cka_probe.comparison.names import FILE_SUFFIXES
from cka_probe.comparison.results import DifferenceMatrix, SimilarityMatrix
from cka_probe.plotting import style

LONGEST = 30.0
"""Em for a name in a legend."""
Stage = tuple[str, int, int]
"""Name of a part of a network, its first layer and the layer after its last."""
STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def print_width(texts: Iterable[str]) -> float:
    """Return the inches of print that the widest of some texts takes in small letters."""
    return max(map(width, texts)) * style.SMALL / 72


@lru_cache(maxsize=4096)
def width(text: str, *, bold: bool = False) -> float:
    """Return the width of the longest line of `text` in em."""
    font = FontProperties(family="DejaVu Sans", size=100, weight="bold" if bold else "normal")
    widths = [text_to_path.get_text_width_height_descent(line, font, ismath=False)[0] for line in text.split("\n")]
    return float(max(widths)) / 100


def cut(text: str, room: float, *, bold: bool = False) -> str:
    """Return `text`, or its end after an ellipsis, no wider than `room` em.

    >>> cut("norm3", 10), cut("a/long/way/to/norm3", 5)
    ('norm3', '…/norm3')
    """
    if width(text, bold=bold) <= room:
        return text
    start = next((start for start in range(1, len(text)) if width("…" + text[start:], bold=bold) <= room), len(text))
    return "…" + text[start:]


def short_names(names: Sequence[str], room: float) -> list[str]:
    """Return the layers' names, all shortened by the same rule, the mildest with which they fit.

    First the words that all dotted names begin with are left out, then words lose letters but numbers none;
    what still does not fit keeps its end, where layers of a network differ most. A rule that would make two
    names the same is passed over.

    Args:
        names: Dotted names, in order.
        room: Em that each may take.

    >>> short_names(["layers.0.norm", "layers.2.blocks.15.norm1", "norm3"], 10)
    ['0.norm', '2.blocks.15.norm1', 'norm3']
    >>> short_names(["layers.0.norm", "layers.2.blocks.15.norm1", "norm3"], 7.5)
    ['0.nor', '2.blo.15.nor1', 'nor3']
    """
    candidates = [list(names), _without_first_words(names)]
    candidates += [[_clip_words(name, letters) for name in candidates[1]] for letters in (6, 5, 4, 3, 2, 1)]
    for candidate in candidates:
        if max(map(width, candidate)) <= room and len(set(candidate)) == len(set(names)):
            return candidate
    return [cut(name, room) for name in candidates[1]]


def _without_first_words(names: Sequence[str]) -> list[str]:
    names = list(names)
    while True:
        dotted = [name for name in names if "." in name]
        first = {name.split(".")[0] for name in dotted}
        shorter = [name.split(".", 1)[-1] for name in names]
        if len(dotted) < 2 or len(first) != 1 or first.pop().isdigit() or len(set(shorter)) < len(set(names)):
            return names
        names = shorter


def _clip_words(name: str, letters: int) -> str:
    return re.sub(r"[^\W\d_]+", lambda word: word.group()[:letters], name)


def stages(names: Sequence[str]) -> list[Stage]:
    """Return the stages of a network by its layers' names: each change of the first word that differs, in order.

    Consecutive layers without a dot, such as a stem's, are one stage without a name. Nothing is returned where this
    divides the network into nothing or into single layers.

    >>> stages(["conv1", "bn1", "layer1.0.conv1", "layer1.1.conv1", "layer2.0.conv1", "layer2.1.conv1"])
    [('', 0, 2), ('layer1', 2, 4), ('layer2', 4, 6)]
    >>> stages(["conv1", "conv2", "fc"])
    []
    """
    shorter = _without_first_words(names)
    words = [short.split(".")[0] if "." in short else "" for short in shorter]
    starts = [index for index, word in enumerate(words) if index == 0 or word != words[index - 1]]
    if not 2 <= len(starts) <= len(names) / 2:
        return []
    prefix = names[0].removesuffix(shorter[0])
    ends = [*starts[1:], len(names)]
    return [(prefix * bool(words[start]) + words[start], start, end) for start, end in zip(starts, ends, strict=True)]


def model_names(result: SimilarityMatrix, room: float) -> tuple[str, str]:
    """Return what to call x and y: a file's stem or a model's name, with its folder where both are the same.

    One model over two sets of images is named with their sources.
    """
    x, y = (side.name or _stem(side.reference) for side in (result.x, result.y))
    if x == y and result.x.reference != result.y.reference:
        x, y = (side.name or _stem(side.reference, folders=1) for side in (result.x, result.y))
    if x == y and result.pairing:
        x, y = (f"{x}, {_stem(str(result.images[source]))}" for source in ("source", "source_y"))
    if x != y and cut(x, room) == cut(y, room):
        return _cut_middle(x, room), _cut_middle(y, room)
    return cut(x, room), cut(y, room)


def short_pair(name: str) -> str:
    """Return a comparison's name with its files' stems: "a/x.pth against b/y.pth" as "x against y".

    >>> short_pair("runs/mp.safetensors against runs/mp_depth.safetensors"), short_pair("MP")
    ('mp against mp_depth', 'MP')
    """
    return " against ".join(_stem(side) for side in name.split(" against "))


def _cut_middle(text: str, room: float) -> str:
    head = next((text[:stop] for stop in range(len(text), 0, -1) if width(text[:stop]) <= room / 3), "")
    return head + cut(text[len(head) :], room - width(head))


def _stem(reference: str, folders: int = 0) -> str:
    path = PureWindowsPath(reference)  # takes / and \ alike
    name = path.name
    while PureWindowsPath(name).suffix.lower() in FILE_SUFFIXES:
        name = PureWindowsPath(name).stem
    folder = path.parts[:-1][-folders:] if folders else ()
    return "/".join((*folder, name)) or reference


def numbered(names: Sequence[str]) -> list[str]:
    """Return each name with its index after it, so that on both axes the index stands beside its cell.

    >>> numbered(["conv1", "fc"])
    ['conv1  0', 'fc  1']
    """
    return [f"{name}  {index}" for index, name in enumerate(names)]


def step_for(space: float, needed: float) -> int:
    """Return which layers get a label: every 1st, 2nd, 5th, 10th …, given the space between two and what one needs.

    >>> step_for(0.2, 0.1), step_for(0.03, 0.1)
    (1, 5)
    """
    return next((step for step in STEPS if step * space >= needed), STEPS[-1])


def measure_name(result: "SimilarityMatrix | DifferenceMatrix") -> str:
    """Return what the numbers are: "CKA (unbiased)"."""
    measure = str(result.settings.get("title") or result.settings.get("measure", "cka"))
    measure = "CKA" if measure.lower().endswith("cka") else measure
    estimator = result.settings.get("estimator")
    return f"{measure} ({estimator})" if estimator else measure


def images_line(result: "SimilarityMatrix | DifferenceMatrix") -> str:
    """Return how many images, pairs of images or rows the numbers come from: "n = 654 images"."""
    return f"n = {result.num_examples} {result.examples}"


def filled(items: Sequence[str], room: float, between: str = " ") -> list[str]:
    """Return items in as few lines as they need, in order, no line wider than `room` em unless one item is.

    >>> filled("one line is too little".split(), 5.0)
    ['one line', 'is too', 'little']
    """
    lines: list[str] = []
    for item in items:
        longer = f"{lines[-1]}{between}{item}" if lines else item
        if lines and width(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(item)
    return lines


def wrapped(text: str, room: float) -> str:
    """Return words in as few lines as they need, none wider than `room` em.

    >>> wrapped("one line is too little", 5.0)
    'one line\\nis too\\nlittle'
    """
    return "\n".join(cut(line, room) for line in filled(text.split(), room))


def logarithmic(ax: Axes, low: float, high: float) -> None:
    """Give axes a vertical logarithmic axis for values from `low` to `high`, above 0, with a few numbers on it."""
    air = max(0.06 * np.log10(high / low), 0.01)
    ax.set_yscale("log")
    ax.set_ylim(low / 10**air, high * 10**air)
    ratio = high / low
    subs = (1.0,) if ratio > 100 else (1.0, 3.0) if ratio > 12 else (1.0, 2.0, 5.0)
    ax.yaxis.set_major_locator(LogLocator(subs=subs, numticks=5) if ratio > 4 else MaxNLocator(3))
    ax.yaxis.set_major_formatter(lambda mark, _: f"{mark:.4g}".replace("e-0", "e\N{MINUS SIGN}").replace("e+0", "e"))
    ax.yaxis.set_minor_locator(NullLocator())
