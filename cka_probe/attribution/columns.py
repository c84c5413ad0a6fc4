"""The numbers of one map, by name: columns of the table of `Attributions`.

| column | what |
|---|---|
| `correlation`, `ap` | of the map's steepness with the label boundaries; average precision |
| `correlation_signed`, `ap_signed` | the same of the map before its ReLU, which leaves some maps zero |
| `chance` | share of boundary pixels: the average precision of a random ranking; a random correlation is 0 |
| `ceiling` | average precision of the true labels at the layer's pixels: what a map that knows everything gets |
| `correlation_image`, `ap_image` | the same of the image's grey value: what an edge detector gets |
| `correlation_edges`, `ap_edges` | the same of a map that lights up at the image's edges |
| `score`, `zero` | the target's value; whether the map is nowhere positive (1) or not (0) |
| `predicted` | the class of a classifier, else "" |
| `undefined` | why `correlation` and `ap` are NaN, or "" |
"""

KINDS = ("correlation", "ap")
SIGNED = "signed"
MEASURES = (*KINDS, *(f"{kind}_{SIGNED}" for kind in KINDS))
"""What is compared between checkpoints, and with its controls."""
CONTROLS = {"image": "the image itself", "edges": "the image's edges"}
"""Maps that have understood nothing, by the ending of their columns."""
CHANCE = "chance"
NUMBERS = (
    *MEASURES,
    "chance",
    "ceiling",
    *(f"{kind}_{control}" for control in CONTROLS for kind in KINDS),
    "boundary",
    "counted",
    "score",
    "zero",
)
"""Columns of numbers; `boundary` and `counted` are pixels."""
WORDS = ("predicted", "undefined")
COLUMNS = ("checkpoint", "image", *NUMBERS, *WORDS)
MEANT = (*NUMBERS[: NUMBERS.index("boundary")], "zero")
"""Columns that have a mean with an interval."""
UNLABELLED = "the data have no labels"
PLAIN = {
    "ap": "average precision",
    "chance": "chance",
    "ceiling": "true labels",
    "zero": "share of maps zero everywhere",
}
ENDINGS = {SIGNED: "before ReLU"} | CONTROLS


def in_plain_words(measure: str) -> str:
    """Return what a measure is called where people read it.

    >>> in_plain_words("ap_signed"), in_plain_words("correlation_edges")
    ('average precision, before ReLU', "correlation, the image's edges")
    """
    kind, _, ending = measure.partition("_")
    return PLAIN.get(kind, kind) + (f", {ENDINGS[ending]}" if ending else "")
