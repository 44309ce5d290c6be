"""Datasets: which videos there are, by official lists, a folder or a list of the user's.

`find_places` finds folders, `list_videos` makes the `records.Listing` of one. Nothing here opens a video.
"""

from __future__ import annotations

from pathlib import Path

from flowprep.datasets.folder import list_folder
from flowprep.datasets.hmdb51 import list_hmdb51
from flowprep.datasets.ids import video_folder
from flowprep.datasets.kinetics import list_kinetics
from flowprep.datasets.listfile import list_from_file
from flowprep.datasets.listing import missing_by_class_and_split
from flowprep.datasets.places import NAMES, Places, find_places
from flowprep.datasets.scan import Scan
from flowprep.datasets.ssv2 import list_ssv2
from flowprep.datasets.ucf101 import list_ucf101
from flowprep.errors import SettingsError, looking
from flowprep.records import Listing

__all__ = ["NAMES", "Places", "find_places", "list_videos", "missing_by_class_and_split", "video_folder"]


@looking()
def list_videos(
    name: str,
    videos: Path,
    *,
    splits: Path | None = None,
    skip_bad_lines: bool = False,
    found: Scan | None = None,
) -> Listing:
    """All videos of the dataset `name` below `videos`, in an order that depends only on lists and folder.

    `splits` is the folder of the official lists, or the file of `list`; without it, all files count and there are no
    splits. `skip_bad_lines` is for `list`, see `listfile.list_from_file`. `found` stands for what is below `videos`,
    which is scanned without it; `list` always looks itself.

    Raises SettingsError for an unknown name, DatasetError for malformed or empty lists and folders, MissingDataError
    for lists that are not there and folders without any video.
    """
    match name:
        case "folder" if splits is not None:
            raise SettingsError(
                f"--dataset folder has no lists, its classes are the folders in {videos}: leave out --splits {splits}, "
                "or name the dataset that they are of; a list of your own is for --dataset list"
            )
        case "ucf101":
            return list_ucf101(videos, splits, found)
        case "hmdb51":
            return list_hmdb51(videos, splits, found)
        case "kinetics":
            return list_kinetics(videos, splits, found)
        case "ssv2":
            return list_ssv2(videos, splits, found)
        case "folder":
            return list_folder(videos, found)
        case "list" if splits is not None:
            return list_from_file(videos, splits, skip_bad_lines=skip_bad_lines)
        case "list":
            raise SettingsError("the dataset `list` needs its list file; give it as `splits`")
        case _:
            raise SettingsError(f"the dataset must be one of {', '.join(NAMES)}, got {name!r}")
