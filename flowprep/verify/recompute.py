"""Flow and images of a sample of frames, made again from the sources and compared with what is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from flowprep import source
from flowprep.decode import VideoReader
from flowprep.encode import decode_plane, decode_rgb, encode_plane, encode_rgb
from flowprep.errors import BackendUnavailableError, SettingsError, StoreError, VideoError
from flowprep.flow.backend import FlowBackend
from flowprep.pipeline import open_backend
from flowprep.quantise import quantise
from flowprep.records import Row, Video
from flowprep.resize import grey, resize, target_size
from flowprep.sample import spread
from flowprep.stores import Store, open_store
from flowprep.stores.layouts import layout_of
from flowprep.verify.evidence import Evidence
from flowprep.verify.findings import Compared, Finding, Remedy
from flowprep.verify.tolerance import TOLERANCES

_SPAN_FRAMES = 2000
"""Pairs are taken from so many frames of a video at most: those before a pair must be decoded to reach it."""


@dataclass(slots=True)
class Comparison:
    """What came of it. `notes` say what could not be compared, and why."""

    compared: Compared = field(default_factory=Compared)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def recompute(evidence: Evidence, videos: Path, num_pairs: int, damaged: Set[str]) -> Comparison:
    """Make `num_pairs` pairs again, of videos at equal distances in the list of those that are not `damaged`.

    `damaged` has ids and places. The choice depends on the list and the lengths of the videos alone.
    """
    comparison = Comparison()
    if evidence.is_adopted:
        comparison.notes.append("nothing was computed again: another tool has made it, in a way that is not known")
        return comparison
    if evidence.settings.changed_stages:
        why = f"another version of flowprep has made it ({evidence.settings.changed_stages})"
        comparison.notes.append(f"nothing was computed again: {why}")
        return comparison
    try:
        backend = open_backend(evidence.settings)
    except (BackendUnavailableError, SettingsError) as error:
        comparison.notes.append(f"nothing was computed again: {error}")
        return comparison
    try:
        with open_store(evidence.out) as store:
            _Comparing(evidence, videos, store, backend, comparison).compare(num_pairs, damaged)
    except (StoreError, BackendUnavailableError) as error:  # the latter of a device that is busy, or is lost meanwhile
        what = "no more" if comparison.compared.num_pairs else "nothing"
        comparison.notes.append(f"{what} was computed again: {error}")
    finally:
        if backend is not None:
            backend.close()
    return comparison


@final
class _Comparing:
    def __init__(
        self, evidence: Evidence, videos: Path, store: Store, backend: FlowBackend | None, comparison: Comparison
    ) -> None:
        self._evidence, self._folder, self._store, self._backend = evidence, videos, store, backend
        self._settings, self._comparison = evidence.settings, comparison
        self._num_videos = self._num_pairs = self._num_equal = self._num_changed = self._num_unreadable = 0
        self._max_mean_codes = 0.0

    def compare(self, num_pairs: int, damaged: Set[str]) -> None:
        try:
            self._compare_videos(num_pairs, damaged)
        finally:
            self._sum_up()

    def _compare_videos(self, num_pairs: int, damaged: Set[str]) -> None:
        rows = [row for row in self._rows() if row.id not in damaged and row.location not in damaged]
        listed = {video.id: index for index, video in enumerate(self._evidence.listing.videos)}
        num_videos = min(num_pairs, len(rows))
        for k, place in enumerate(spread(num_videos, len(rows)) if rows else ()):
            share = num_pairs * (k + 1) // num_videos - num_pairs * k // num_videos
            index = listed[rows[place].id]
            self._compare_video(rows[place], index, self._evidence.listing.videos[index], share)

    def _sum_up(self) -> None:
        flow = self._settings.flow
        self._comparison.compared = Compared(
            backend=" ".join(filter(None, (flow.backend, flow.variant))) if self._backend is not None else "",
            num_videos=self._num_videos,
            num_pairs=self._num_pairs,
            num_equal=self._num_equal,
            max_mean_codes=round(self._max_mean_codes, 4),
            num_changed=self._num_changed,
            num_unreadable=self._num_unreadable,
        )

    def _rows(self) -> Iterator[Row]:
        known = {video.id for video in self._evidence.listing.videos}
        return (row for row in self._store.rows if row.id in known and max(row.frames, row.flows))

    def _compare_video(self, row: Row, index: int, video: Video, num_pairs: int) -> None:
        try:
            if source_sha256(self._folder / video.path) != row.source_sha256:
                self._num_changed += 1
                self._comparison.notes.append(f"{video.path} is not the file any more that {row.id} was made from")
                return
            num_flows = min(row.flows or row.frames, _SPAN_FRAMES)
            pairs = self._pairs(video, spread(num_pairs, num_flows))
        except VideoError as error:
            self._num_unreadable += 1
            self._comparison.notes.append(f"{video.path} cannot be compared: {error.detail}")
            return
        self._num_videos += 1
        for made in pairs:
            self._num_pairs += 1
            self._comparison.findings += self._compare_pair(row, index, made)

    def _pairs(self, video: Video, wanted: list[int]) -> list[dict[tuple[str, int], bytes]]:
        """Of each pair the JPEGs of its first image and its flow, by stream and index."""
        step = self._settings.flow.step
        frames: dict[int, NDArray[np.uint8]] = {}
        with VideoReader(self._folder / video.path, self._settings.decode, video.segment) as reader:
            for number, rgb in enumerate(reader.frames()):
                if number in wanted or number - step in wanted:
                    size = target_size(rgb.shape[1], rgb.shape[0], self._settings.resize)
                    frames[number] = resize(rgb, size)
                if number >= wanted[-1] + step:
                    break
        return [dict(self._made(frames, pair)) for pair in wanted if pair in frames]

    def _made(self, frames: Mapping[int, NDArray[np.uint8]], pair: int) -> Iterator[tuple[tuple[str, int], bytes]]:
        settings, target = self._settings, pair + self._settings.flow.step
        stored = pair - layout_of(settings).first_image
        if settings.store.rgb and stored >= 0:
            yield ("rgb", stored), encode_rgb(frames[pair], settings.jpeg)
        if self._backend is None or target not in frames:
            return
        first, second = self._backend.prepare(np.stack([grey(frames[pair]), grey(frames[target])]))
        directions = [("flow", first, second), *([("back", second, first)] if settings.flow.backward else [])]
        for name, start, end in directions:
            planes = quantise(self._backend.compute([start], [end])[0], settings.quantise)
            for axis, plane in zip("xy", planes, strict=True):
                yield (f"{name}_{axis}", pair), encode_plane(plane, settings.jpeg)

    def _compare_pair(self, row: Row, index: int, made: Mapping[tuple[str, int], bytes]) -> Iterator[Finding]:
        is_equal = True
        for (stream, number), expected in made.items():
            found = bytes(self._store.jpeg(row.id, stream, number))
            if found == expected:
                continue
            is_equal = False
            decode = decode_rgb if stream == "rgb" else decode_plane
            there, here = decode(found), decode(expected)
            if there.shape != here.shape:
                yield self._wrong(row, index, stream, number, "has another size than what its source gives")
                continue
            mean_codes = float(np.abs(there.astype(np.int16) - here).mean())
            self._max_mean_codes = max(self._max_mean_codes, mean_codes)
            if not TOLERANCES["rgb" if stream == "rgb" else self._settings.flow.backend].allows(there, here):
                text = f"is not what its source gives: {mean_codes:.1f} of 255 codes away in the mean"
                yield self._wrong(row, index, stream, number, text)
        self._num_equal += is_equal

    def _wrong(self, row: Row, index: int, stream: str, number: int, text: str) -> Finding:
        path = row.location
        if self._evidence.is_tree:
            layout = layout_of(self._settings)
            part, name = layout.file(stream, number)
            path = f"{layout.folders(row.location, self._settings.streams)[part]}/{name}"
        return Finding(
            kind="flow",
            path=path,
            text=text,
            video=row.id,
            stream=stream,
            index=number,
            remedy=Remedy.VIDEO,
            place=index,
        )


def source_sha256(path: Path) -> str:
    """SHA-256 of a source file. Raises VideoError where it cannot be read."""
    with source.opened(path) as file:
        version = source.fingerprint(file)
    return source.sha256_of(path, version)
