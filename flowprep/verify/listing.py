"""The list of a store from its manifest, where its own is lost."""

from __future__ import annotations

import json

from flowprep.config import ExtractSettings
from flowprep.errors import StoreError
from flowprep.records import Listing, Row, Segment, Video
from flowprep.stores.manifest import read_manifest
from flowprep.stores.places import MANIFEST, SPLITS
from flowprep.verify.files import Files


def listing_of_manifest(files: Files, settings: ExtractSettings, *, splits_proven: bool) -> Listing:
    """The listing that a manifest is of, with the splits of splits.json if that is proven.

    What only the lists said is lost: notes, unlisted files, duplicates. Raises what `UNTRUSTED` names where the
    manifest is not one.
    """
    videos: dict[str, Video] = {}
    for row in read_manifest(files.path(MANIFEST))[1]:
        if row.id in videos:
            raise StoreError(f"{MANIFEST} has {row.id!r} twice")
        videos[row.id] = _video(row, settings)
    splits = json.loads(b"".join(files.blocks(SPLITS))) if splits_proven else {"classes": [], "splits": {}}
    return Listing(
        dataset=settings.dataset,
        videos=tuple(videos.values()),
        classes=tuple(splits["classes"]),
        splits={name: {part: tuple(ids) for part, ids in parts.items()} for name, parts in splits["splits"].items()},
    )


def _video(row: Row, settings: ExtractSettings) -> Video:
    """The list's entry of a row. One of whose source nothing was ever read has failed by the list."""
    segment = None
    if row.segment is not None:
        start_seconds, end_seconds = row.segment
        # A Kinetics file whose segment is listed may have been cut to it already, others have not.
        certain = settings.dataset != "kinetics"
        segment = Segment(start_seconds=start_seconds, end_seconds=end_seconds, certain=certain)
    by_list = not row.state.stored and row.source_bytes == 0 and row.decoder is None and row.reasons
    return Video(
        id=row.id,
        path=row.path,
        class_name=row.class_name,
        label=row.label,
        segment=segment,
        problem=row.reasons[0] if by_list else None,
    )
