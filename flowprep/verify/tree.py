"""A video in a tree: its folders hold exactly its images, and these have the checksums of its row."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator

from flowprep.records import Row
from flowprep.stores.layouts import layout_of
from flowprep.stores.places import row_path
from flowprep.verify.evidence import Evidence
from flowprep.verify.files import open_regular
from flowprep.verify.findings import Finding, Remedy
from flowprep.verify.looked import Looked, image_problem, num_images
from flowprep.verify.records import Outcome, outcome_of


def check_video(evidence: Evidence, index: int, *, deep: bool) -> Looked:
    """Look at one video of a tree."""
    looked = Looked()
    outcome = outcome_of(evidence, index, {})
    looked.add_outcome(evidence, index, outcome)
    is_stored = outcome.entry is not None and outcome.entry.row.state.stored
    if is_stored or outcome.entry is None:
        layout, settings = layout_of(evidence.settings), evidence.settings
        looked.folders += layout.folders(layout.location(evidence.listing.videos[index]), settings.streams).values()
    if outcome.entry is not None and is_stored:
        _Video(evidence, outcome.entry.row, index, looked, deep=deep).check()
    looked.findings += _about_record(evidence, index, outcome, is_sound=not looked.findings)
    return looked


def _about_record(evidence: Evidence, index: int, outcome: Outcome, *, is_sound: bool) -> Iterator[Finding]:
    """What is wrong with the record of a video, whose images `is_sound` is about."""
    if not outcome.lost:
        yield from outcome.findings
        return
    video = evidence.listing.videos[index].id
    missing = Finding(
        kind="missing",
        path=str(row_path(evidence.out, video)).removeprefix(f"{evidence.out}/"),
        text="the record of this video is not there",
        video=video,
        place=index,
    )
    remedy = Remedy.RECORD if outcome.entry is not None and is_sound else Remedy.VIDEO
    for finding in outcome.findings or (missing,):
        yield dataclasses.replace(finding, remedy=remedy)


class _Video:
    """One look at the images of one video."""

    def __init__(self, evidence: Evidence, row: Row, index: int, looked: Looked, *, deep: bool) -> None:
        self._files, self._settings = evidence.files, evidence.settings
        self._row, self._index, self._looked, self._deep = row, index, looked, deep
        self._layout = layout_of(evidence.settings)
        self._folders = self._layout.folders(row.location, evidence.settings.streams)

    def check(self) -> None:
        found = len(self._looked.findings)
        for folder in self._folders.values():
            problem = self._files.problem(folder, folder=True)
            if problem is not None:
                self._wrong(problem[0], folder, problem[1])
        if len(self._looked.findings) == found:
            if not self._settings.store.adopted:
                self._check_names()
            for stream in self._settings.streams:
                self._check_stream(stream)

    def _place(self, stream: str, index: int) -> str:
        part, name = self._layout.file(stream, index)
        return f"{self._folders[part]}/{name}"

    def _check_names(self) -> None:
        """Find what is in the folders beside the video's images."""
        streams = self._settings.streams
        expected = {self._place(stream, k) for stream in streams for k in range(num_images(self._row, stream))}
        for folder in self._folders.values():
            for name in sorted(os.listdir(self._files.path(folder))):
                place = f"{folder}/{name}"
                if place not in expected and not name.startswith(".nfs"):  # what NFS keeps of an open file
                    self._looked.findings.append(
                        Finding(
                            kind="added",
                            path=place,
                            text="is none of the images of its video",
                            video=self._row.id,
                            remedy=Remedy.ASIDE,
                        )
                    )

    def _check_stream(self, stream: str) -> None:
        """Compare the images of a stream with its checksum; where they differ, find the image that is not whole."""
        digest, size, found = hashlib.sha256(), 0, len(self._looked.findings)
        num = num_images(self._row, stream)
        for index, data in self._images(stream):
            digest.update(data)
            size += len(data)
            if self._deep:
                self._check_image(stream, index, data)
        self._looked.num_bytes += size
        self._looked.num_jpegs += num
        if digest.hexdigest() == self._row.stream_sha256[stream] or len(self._looked.findings) > found:
            return
        for index, data in self._images(stream):
            self._check_image(stream, index, data)
        if len(self._looked.findings) == found:
            expected = self._row.stream_bytes[stream]
            text = f"one or more of its {num} images do not have the checksum of the row ({size} bytes of {expected})"
            self._wrong("damaged", self._folders[self._layout.file(stream, 0)[0]], text, stream)

    def _images(self, stream: str) -> Iterator[tuple[int, bytes]]:
        """Index and bytes of each image that can be read; the others are findings."""
        for index in range(num_images(self._row, stream)):
            place = self._place(stream, index)
            try:
                with os.fdopen(open_regular(f"{self._files.out}/{place}"), "rb", buffering=0) as file:
                    data = file.read()
            except OSError as error:
                problem = self._files.problem(place) or ("unreadable", f"cannot be read: {error.strerror}")
                self._wrong(problem[0], place, problem[1], stream, index)
                continue
            yield index, data

    def _check_image(self, stream: str, index: int, data: bytes) -> None:
        problem = image_problem(self._row, stream, data, decode=self._deep)
        if problem:
            self._wrong("jpeg", self._place(stream, index), problem, stream, index)

    def _wrong(self, kind: str, place: str, text: str, stream: str = "", index: int | None = None) -> None:
        self._looked.findings.append(
            Finding(
                kind=kind,
                path=place,
                text=text,
                video=self._row.id,
                stream=stream,
                index=index,
                remedy=Remedy.VIDEO,
                place=self._index,
            )
        )
