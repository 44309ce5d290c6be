"""What was held out while networks were trained, and what every figure of them has to say of that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

HELD_OUT = {
    "groups": (
        "Held out: whole groups of the training list, or the split's own part val, which chose the network and the "
        "late fusion's weights."
    ),
    "none": "Nothing was held out: fixed rates, the last network, equal weights.",
    "test": "The test list was looked at during training, as the released code does.",
}
"""By `train.val`."""


def held_out_by(origin: Mapping[str, Any]) -> frozenset[str]:
    """The `train.val` of each network that the scores of a table come from, by its `origin`: of joined tables, all."""
    found = {origin["held_out"]} if "held_out" in origin else set()
    for part in origin.get("of", ()):
        # Late fusion keeps the origins of its tables, a prediction the settings of its networks.
        found |= held_out_by(part.get("origin", {}))
        if (val := part.get("settings", {}).get("train", {}).get("val")) is not None:
            found.add(val)
    return frozenset(found)


def caution(origins: Iterable[Mapping[str, Any]]) -> str | None:
    """The sentence that belongs beside figures of these origins, if the test list was looked at for any of them."""
    return HELD_OUT["test"] if any("test" in held_out_by(origin) for origin in origins) else None
