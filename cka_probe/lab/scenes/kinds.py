"""The kinds of worlds by name, and the styles that a kind may come in."""

from collections.abc import Callable

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.lab.scenes.objects import draw_object
from cka_probe.lab.scenes.room import draw_room
from cka_probe.lab.scenes.room_style import STYLES, USUAL_STYLE
from cka_probe.lab.scenes.street import draw_street
from cka_probe.lab.scenes.world import World

WORLDS: dict[str, Callable[[int, int, int], World]] = {
    "rooms": draw_room,
    "streets": draw_street,
    "objects": draw_object,
}
"""Each is drawn from (seed, index, frames)."""


def draw_world(kind: str, seed: int, index: int, frames: int, style: str = USUAL_STYLE) -> World:
    """Return world `index` of those of a seed, in a style.

    Raises:
        UnknownNameError: There is no such kind, or no such style of rooms.
        DataError: The kind has no other style than the usual one.
    """
    draw = registry.get(WORLDS, kind, "kind of world")
    check_style(kind, style)
    return draw(seed, index, frames) if style == USUAL_STYLE else draw_room(seed, index, frames, style)


def check_style(kind: str, style: str) -> None:
    """Check that worlds of a kind come in a style.

    Raises:
        UnknownNameError: Rooms do not.
        DataError: Another kind does not.
    """
    if kind == "rooms":
        registry.get(STYLES, style, "style of rooms")
    elif style != USUAL_STYLE:
        raise DataError(f"{kind} come in the style {USUAL_STYLE!r} alone, found {style!r}; leave it out, or take rooms")
