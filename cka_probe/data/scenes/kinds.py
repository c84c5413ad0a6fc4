"""The kinds of worlds by name."""

from collections.abc import Callable

from cka_probe.data.scenes.objects import draw_object
from cka_probe.data.scenes.room import draw_room
from cka_probe.data.scenes.street import draw_street
from cka_probe.data.scenes.world import World

WORLDS: dict[str, Callable[[int, int, int], World]] = {
    "rooms": draw_room,
    "streets": draw_street,
    "objects": draw_object,
}
"""Each is drawn from (seed, index, frames)."""
