"""Which videos are for training, for validation and for the test, by the official splits of a store.

A *group* is what videos of a class have in common that a network could learn instead of the action: UCF101 numbers its
groups (`_g01_`), HMDB51's files begin with their source, Kinetics' ids with that of the YouTube video. Groups are taken
within a class: the official lists of UCF101 and HMDB51 keep them apart so (of HMDB51's sources 133 to 149 are in both
parts, but under different classes).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from flowprep.errors import DatasetError, SettingsError
from flowprep.records import canonical_json
from flowprep.stores import Store
from flowprep.stores.splitsfile import read_splits
from fusion_train.config import TrainSettings
from fusion_train.data.draws import Draws

VALIDATIONS = ("groups", "none", "test")

_WITHOUT_TEST_LABELS = ("kinetics", "ssv2")
"""Data sets whose test labels are not public: their validation list is what figures are of."""

_NUMBERED = re.compile(r".*_(g\d+)_c\d+")
_HMDB51 = re.compile(r"(.+)_[fhlu]_(?:cm|nm)_np\w+_(?:ba|fr|le|ri)_(?:bad|goo|med)_\d+")
_KINETICS = re.compile(r"(.{11})_\d{6}_\d{6}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Ids of the stored videos of a split, in list order, and how many of each part are not stored."""

    split: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    num_not_stored: Mapping[str, int]

    def training_sha256(self) -> str:
        """Of the ids that a network is trained and chosen with. Lists may be mended and the stored videos stay."""
        return hashlib.sha256(canonical_json([list(self.train), list(self.validation)]).encode()).hexdigest()


def read_parts(store: Store, split: str, *, validation: str = "groups", share: float = 0.1, seed: int = 0) -> Parts:
    """The parts of a split ("1", "2", "3", or "official").

    `validation` is "groups": whole groups worth about `share` of the training list are held out of it, see `held_out`;
    "none": nothing is, and `Parts.validation` is empty; "test": it is the test list. What is called test here is the
    part `val` where there is no other, and of Kinetics and Something-Something V2, since the labels of their `test` are
    not public. Other splits with both parts hold out `val` instead of groups.

    Raises SettingsError for a split or validation that does not exist, DatasetError if a part has no stored video.
    """
    if validation not in VALIDATIONS:
        raise SettingsError(f"`validation` must be one of {', '.join(VALIDATIONS)}, got {validation!r}")
    parts = named_parts(store, split)
    stored = set(store.ids)
    tested = tested_part(read_splits(store.path).dataset, parts)
    ids = {
        name: tuple(filter(stored.__contains__, parts.get(part, ())))
        for name, part in (("train", "train"), ("test", tested), ("val", "val"))
    }
    for name in ("train", "test"):
        if not ids[name]:
            raise DatasetError(f"split {split} of {store.path} has no stored video in its part {name!r}")
    train, apart = ids["train"], ids["test"] if validation == "test" else ()
    if validation == "groups" and tested == "test" and ids["val"]:
        apart = ids["val"]
    elif validation == "groups":
        chosen = held_out({video_id: group_key(store, video_id) for video_id in train}, share=share, seed=seed)
        apart = tuple(video_id for video_id in train if video_id in chosen)
        train = tuple(video_id for video_id in train if video_id not in chosen)
    missing = {part: sum(video_id not in stored for video_id in listed) for part, listed in parts.items()}
    return Parts(split=split, train=train, validation=apart, test=ids["test"], num_not_stored=missing)


def parts_of(store: Store, options: TrainSettings) -> Parts:
    """`read_parts` of the split of a training, with what it holds out."""
    return read_parts(store, options.split, validation=options.val, share=options.val_share, seed=options.seed)


def parts_of_training(store: Store, options: TrainSettings) -> Parts:
    """The parts that a network is trained with.

    Raises SettingsError where groups are to be held out and none can be: nothing would choose a network then. As
    `read_parts` otherwise.
    """
    parts = parts_of(store, options)
    if options.val == "groups" and not parts.validation:
        groups = {group_key(store, video_id) for video_id in parts.train}
        if len(groups) == len({class_name for class_name, _ in groups}):
            reason, cure = "each class has a single one", ""
        else:
            reason, cure = f"they are too large for a share of {options.val_share:g}", ", or raise `train.val_share`"
        raise SettingsError(
            f"no whole group of the training list of split {options.split} of {store.path} can be held out, since "
            f"{reason}; set `train.val` to none, which trains on all with fixed rates{cure}"
        )
    return parts


def num_seen(store: Store, options: TrainSettings, ids: Iterable[str]) -> int:
    """How many of some videos a network was trained on: its split, less held-out groups, as the store has it now.

    0 where the store has no such split, or nothing of it. Test lists of UCF101 and HMDB51 have training videos of the
    other splits.
    """
    if options.split not in read_splits(store.path).splits:
        return 0
    try:
        parts = parts_of(store, options)
    except DatasetError:
        return 0
    return len(set(parts.train) & set(ids))


def seen_sentence(num: int, num_videos: int, part: str, split: str) -> str:
    """What is to be known of figures on these videos."""
    return (
        f"{num} of these {num_videos} videos ({part}) are in the training list of split {split}, on which the network "
        "was trained; figures on them say nothing of videos that it has not seen."
    )


def tested_part(dataset: str, parts: Container[str]) -> str:
    """The part of a split that is tested on: `test`, or `val` where `test` is not there or has no public labels."""
    has_labels = "test" in parts and dataset not in _WITHOUT_TEST_LABELS
    return "test" if has_labels or "val" not in parts else "val"


def without_splits(dataset: str) -> str:
    """Why a store of a data set has no split, and the cure, to follow `<store> has no split to train and test on`."""
    if dataset in ("folder", "list"):
        return "its videos are in no part; extract with --splits FILE, a list that has a column `split`"
    return "the official lists were not there; extract with --splits DIR"


def named_parts(store: Store, split: str) -> Mapping[str, tuple[str, ...]]:
    """The parts of a split as the official lists have them. Raises SettingsError if there is no such split."""
    found = read_splits(store.path)
    if not found.splits:
        raise DatasetError(f"{store.path} has no split to train and test on: {without_splits(found.dataset)}")
    if split not in found.splits:
        raise SettingsError(f"{store.path} has no split {split!r}; it has {', '.join(found.splits)}")
    return found.splits[split]


def lists_sha256(store: Store, split: str) -> str:
    """Of all parts of a split, as `named_parts` has them."""
    parts = {part: list(ids) for part, ids in named_parts(store, split).items()}
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def group_key(store: Store, video_id: str) -> tuple[str, str]:
    """Class and group of a stored video."""
    class_name = store.clip(video_id).class_name
    return class_name, group_of(video_id, class_name)


def group_of(video_id: str, class_name: str) -> str:
    """The group of a video within its class, from its id; a video of unknown form is a group of its own."""
    stem = video_id.rsplit("/", 1)[-1]
    for pattern in (_NUMBERED, _HMDB51, _KINETICS):
        if match := pattern.fullmatch(stem):
            return match[1].removesuffix(f"_{class_name}")
    return video_id


def held_out(keys: Mapping[str, tuple[str, str]], *, share: float, seed: int) -> frozenset[str]:
    """Ids of whole groups worth about `share` of the videos: of each class the groups whose hash with `seed` is least.

    `keys` is id to class and group. What a class has too many or too few because groups are whole, the next ones make
    up for. A class of one group keeps it.
    """
    classes: dict[str, dict[str, list[str]]] = {}
    for video_id, (class_name, group) in keys.items():
        classes.setdefault(class_name, {}).setdefault(group, []).append(video_id)
    chosen: list[str] = []
    due = 0.0
    for class_name in sorted(classes):
        groups = classes[class_name]
        left = sum(map(len, groups.values()))
        due += share * left
        for group in _shuffled(groups, seed, class_name):
            size = len(groups[group])
            if len(chosen) + size / 2 <= due and left > size:
                chosen += groups[group]
                left -= size
    return frozenset(chosen)


def _shuffled(groups: Iterable[str], seed: int, class_name: str) -> Sequence[str]:
    return sorted(groups, key=lambda group: (Draws(seed, "held out", class_name, group).bits(), group))
