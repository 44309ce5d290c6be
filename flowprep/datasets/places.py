"""Where a dataset's videos and lists are, and what to say where they are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flowprep.errors import MissingDataError, SettingsError, looking

NAMES = ("ucf101", "hmdb51", "kinetics", "ssv2", "folder", "list")
"""The datasets."""

_SPLIT_FOLDERS: Mapping[str, tuple[str, ...]] = {
    "ucf101": ("splits", "ucfTrainTestlist"),
    "hmdb51": ("splits", "testTrainMulti_7030_splits"),
    "kinetics": ("splits", "annotations", "labels"),
    "ssv2": ("splits", "labels", "annotations"),
    "folder": (),
    "list": (),
}

_SOURCES: Mapping[str, str] = {
    "ucf101": "UCF101 is given out by the Center for Research in Computer Vision (CRCV) of the University of Central "
    "Florida on its UCF101 page: the videos (UCF101.rar) and the lists "
    "(UCF101TrainTestSplits-RecognitionTask.zip)",
    "hmdb51": "HMDB51 is given out by the Serre lab of Brown University on its HMDB page: the videos (hmdb51_org.rar, "
    "with one archive a class inside) and the lists (test_train_splits.rar)",
    "kinetics": "Kinetics is a list of YouTube clips by Google DeepMind; the CVDF foundation mirrors lists and videos "
    "in its kinetics-dataset repository on GitHub",
    "ssv2": "Something-Something V2 is given out by Qualcomm on its developer site, after registration: the videos in "
    "parts to be joined, and the labels",
    "folder": "This is a folder of your own",
    "list": "This is the folder that the paths of your list are relative to",
}

_FORMS: Mapping[str, str] = {
    "ucf101": "<Class>/v_<Class>_g01_c01.avi (or all files side by side)",
    "hmdb51": "<class>/<file>.avi (or all files side by side)",
    "kinetics": "<class>/<id>_<start>_<end>.mp4 or <class>/<id>.mp4 (or all files side by side)",
    "ssv2": "<number>.webm",
    "folder": "<class>/<file>",
    "list": "<path as listed>",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Folder of the videos, folder (or file) of the lists if there is one, and folder of the result."""

    videos: Path
    splits: Path | None
    out: Path


@looking()
def find_places(
    name: str,
    *,
    root: Path = Path("data"),
    videos: Path | None = None,
    splits: Path | None = None,
    out: Path | None = None,
) -> Places:
    """Places by the default layout `<root>/<name>/{videos,splits,flow}`, each of which may be given instead.

    The lists are looked for beside the videos, where these were named, then in `<root>/<name>`, as `splits` or under
    their official folder names; so they are in the folder given as `splits`. For `list`, `splits` is the list file, for
    `folder` one of parts.

    Raises SettingsError for an unknown name, MissingDataError that says what was looked for, where the dataset is
    obtained and how it is laid out, or which folder may not be entered.
    """
    if name not in NAMES:
        raise SettingsError(f"the dataset must be one of {', '.join(NAMES)}, got {name!r}")
    base = root / name
    folder = base / "videos" if videos is None else videos
    if not folder.is_dir():
        if folder.exists():
            raise MissingDataError(
                f"{folder} is not a folder: --videos takes the folder that the videos are in; for some files of it "
                f"write their names into a list and give --dataset list --videos {folder.parent} --splits LIST"
            )
        raise MissingDataError(f"the video folder {folder} does not exist. {how_to_obtain(name, folder)}")
    if splits is not None and not splits.exists():
        raise MissingDataError(f"{splits}, where the lists of {name} were looked for, does not exist; check --splits")
    if name == "list" and (splits is None or splits.is_dir()):
        raise MissingDataError("the dataset `list` needs its list file, CSV or text; name it with --splits FILE")
    if name == "folder" and splits is not None and splits.is_dir():
        raise MissingDataError(
            f"{splits} is a folder; the parts of the dataset `folder` are in a CSV or text file with a header and the "
            "columns path and split; name it with --splits FILE"
        )
    if splits is not None and splits.is_file() and name not in ("list", "kinetics", "folder"):
        raise MissingDataError(f"{splits} is a file, but the lists of {name} are a folder; name it with --splits DIR")
    if splits is not None and splits.is_dir():
        splits = next((splits / child for child in _SPLIT_FOLDERS[name] if (splits / child).is_dir()), splits)
    if splits is None:
        beside = [] if videos is None else [videos.absolute().parent]
        candidates = [parent / child for parent in (*beside, base) for child in _SPLIT_FOLDERS[name]]
        splits = next((path for path in candidates if path.is_dir()), None)
    return Places(videos=folder, splits=splits, out=base / "flow" if out is None else out)


def how_to_obtain(name: str, videos: Path) -> str:
    """Where the dataset is given out and how it is laid out so that `videos` is found, in two sentences."""
    lists = f", with its lists in {videos.parent / _SPLIT_FOLDERS[name][0]}" if _SPLIT_FOLDERS[name] else ""
    return f"{_SOURCES[name]}. Lay it out as {videos}/{_FORMS[name]}{lists}, or name their folder with --videos"
