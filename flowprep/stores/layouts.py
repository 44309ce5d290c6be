"""Named layouts of a JPEG tree: which file holds image or flow i, and which images are kept.

| layout | files of a video | first number | images of N frames |
|---|---|---|---|
| flowprep | `<class>/<video>/img_%05d.jpg, flow_x_%05d.jpg, flow_y_%05d.jpg, back_x_.., back_y_..` | 1 | N |
| denseflow | the same; other steps `flow_x_p<step>_%05d.jpg`, backward `flow_x_m<step>_%05d.jpg` from `step` | 0 | N |
| mmaction2 | `img_%05d.jpg, x_%05d.jpg, y_%05d.jpg` (`RawFrameDecode`'s template, start_index 1) | 1 | N |
| tsn | `img_%05d.jpg, flow_x_%05d.jpg, flow_y_%05d.jpg`; img k is the target of flow k (yjxiong/dense_flow) | 1 | N-1 |
| feichtenhofer | `jpegs_256/<video>/frame%06d.jpg, tvl1_flow/u/<video>/.., tvl1_flow/v/<video>/..` | 1 | N |

A backward flow has the number of the image that it starts from: denseflow counts by source frame, so its first one,
from image `step` to image 0, has number `step`. Numbers beyond the digits of a name get more digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flowprep.config import ExtractSettings
from flowprep.datasets.ids import folder_name, video_folder
from flowprep.errors import DatasetError
from flowprep.records import Video
from flowprep.stores.places import RESERVED

_ONE_FOLDER = {"": ""}
_THREE_FOLDERS = {"rgb": "jpegs_256/", "u": "tvl1_flow/u/", "v": "tvl1_flow/v/"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Names and alignment of one layout. `step` is that of the flow: denseflow has it in its names."""

    name: str
    step: int = 1

    @property
    def first_image(self) -> int:
        """Number of decoded images that are left out at the start: stored image j is decoded image j + first_image."""
        return 1 if self.name == "tsn" else 0

    def location(self, video: Video) -> str:
        """The video's folder, relative to the tree (to each of the three folders for feichtenhofer)."""
        return _stem_folder(video) if self.name == "feichtenhofer" else video_folder(video)

    def folders(self, location: str, streams: Sequence[str]) -> dict[str, str]:
        """Part name -> folder relative to the tree, of the parts that hold any of `streams`."""
        prefixes = _THREE_FOLDERS if self.name == "feichtenhofer" else _ONE_FOLDER
        used = {self.file(stream, 0)[0] for stream in streams}
        return {part: prefix + location for part, prefix in prefixes.items() if part in used}

    def file(self, stream: str, index: int) -> tuple[str, str]:
        """Part and file name of stored image or flow `index`, counted from 0."""
        if self.name == "feichtenhofer":
            return {"rgb": "rgb", "flow_x": "u", "flow_y": "v"}[stream], f"frame{index + 1:06d}.jpg"
        if self.name == "denseflow":
            return "", self._denseflow_file(stream, index)
        prefix = "img" if stream == "rgb" else stream
        if self.name == "mmaction2":
            prefix = prefix.removeprefix("flow_")
        return "", f"{prefix}_{index + 1:05d}.jpg"

    def _denseflow_file(self, stream: str, index: int) -> str:
        if stream == "rgb":
            return f"img_{index:05d}.jpg"
        if stream.startswith("back_"):
            return f"flow_{stream[-1]}_m{self.step}_{index + self.step:05d}.jpg"
        infix = f"p{self.step}_" if self.step > 1 else ""
        return f"{stream}_{infix}{index:05d}.jpg"


def layout_of(settings: ExtractSettings) -> Layout:
    """The layout that the settings of a tree ask for."""
    return Layout(name=settings.store.layout, step=settings.flow.step)


def check_listing(settings: ExtractSettings, videos: Sequence[Video]) -> None:
    """Refuse a listing whose videos cannot all have a folder of their own. Shards take every listing.

    Raises:
        DatasetError: two videos share a folder (for feichtenhofer: a stem, since it has no class folders), one
            video's folder lies inside another's, or a folder has a name that the store itself uses.
    """
    if settings.store.format == "hdf5":
        return
    layout = layout_of(settings)
    owners: dict[str, str] = {}
    for video in videos:
        location = layout.location(video)
        # A file system without case would give two spellings one folder.
        owner = owners.setdefault(location.casefold(), video.id)
        if owner != video.id:
            raise DatasetError(
                f"layout {layout.name} would put {owner!r} and {video.id!r} into one folder, {location!r}; "
                "give them different ids, or use a layout with class folders or --format hdf5"
            )
        if layout.name != "feichtenhofer" and location.split("/", 1)[0] in RESERVED:
            raise DatasetError(f"{video.id!r} would get the folder {location!r}, a name that the store itself uses")
    for location, owner in owners.items():
        parts = location.split("/")
        for count in range(1, len(parts)):
            outer = owners.get("/".join(parts[:count]))
            if outer is not None:
                raise DatasetError(f"the folder of {owner!r} would lie inside that of {outer!r}; rename one of them")


def _stem_folder(video: Video) -> str:
    return folder_name(video.id.rsplit("/", 1)[-1])
