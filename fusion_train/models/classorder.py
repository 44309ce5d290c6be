"""Rows of a classifier by the names of its classes, where a file has these in another order than the store.

Note [HMDB51's classes in the released code]: `cnn_ucf101_setup_data.m` lists them by hand, with `kick_ball` before
`kick` and `sword_exercise` before `sword`; else the order is alphabetical, as that of stores is. Nets of MatConvNet do
not name their classes, so a classifier of 51 is taken for one of these, if the store is HMDB51's.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

HMDB51_CLASSES = (
    "brush_hair", "cartwheel", "catch", "chew", "clap", "climb", "climb_stairs", "dive", "draw_sword", "dribble",
    "drink", "eat", "fall_floor", "fencing", "flic_flac", "golf", "handstand", "hit", "hug", "jump", "kick_ball",
    "kick", "kiss", "laugh", "pick", "pour", "pullup", "punch", "push", "pushup", "ride_bike", "ride_horse", "run",
    "shake_hands", "shoot_ball", "shoot_bow", "shoot_gun", "sit", "situp", "smile", "smoke", "somersault", "stand",
    "swing_baseball", "sword_exercise", "sword", "talk", "throw", "turn", "walk", "wave",
)  # fmt: skip
"""In the order of the released code, see Note [HMDB51's classes in the released code]."""


def places(given: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """Where each wanted class is among the given ones; None where these are other classes."""
    if len(given) != len(wanted) or set(given) != set(wanted):
        return None
    index = {name: place for place, name in enumerate(given)}
    return [index[name] for name in wanted]


def in_order(rows: Tensor, given: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """The rows (C, ...) of a classifier for `given` as those of one for `wanted`, which are the same classes."""
    found = places(given, wanted)
    assert found is not None
    return rows[found]
