"""Videos of a prediction: files and folders of files, or videos of a store.

A file is decoded, resized and given flow by the pipeline of `flowprep extract`, with the content settings of the store
that the network was trained on, JPEG coding included; from there on it is evaluated as a stored video is. So its scores
are those that it would have in a store. As in a run, all of that happens in a supervised child: a file that crashes its
decoder, hangs it or eats all memory is a `Failure`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flowprep.config import ExtractSettings, RunSettings
from flowprep.datasets.scan import FOLDER_EXTENSIONS, scan
from flowprep.errors import (
    BackendUnavailableError,
    DatasetError,
    FlowprepError,
    MissingDataError,
    SettingsError,
    StoreError,
    VideoError,
)
from flowprep.stores import Store
from flowprep.stores.places import MANIFEST
from fusion_train.predict import Failure, Member, Prediction, Predictor

if TYPE_CHECKING:
    from flowprep.videofiles import FileExtractor

_VIDEO_ERRORS = (VideoError, DatasetError, StoreError)


def is_store(path: Path) -> bool:
    """Whether a path is a store rather than a video or a folder of videos."""
    return (path / MANIFEST).is_file()


def find_videos(inputs: Sequence[Path]) -> list[tuple[str, Path]]:
    """Ids and files of videos given as files and folders: the stem, or the path without suffix below its folder.

    Raises:
        MissingDataError: A path is not there, or a folder has no video.
        SettingsError: Two videos have one id.
    """
    found: dict[str, Path] = {}
    for given in inputs:
        if given.is_dir():
            names = scan(given).with_extension(FOLDER_EXTENSIONS)
            if not names:
                raise MissingDataError(
                    f"{given} is no store, and has no video; give videos, a folder of them or a store"
                )
            videos = [(name.removesuffix(Path(name).suffix), given / name) for name in sorted(names)]
        else:
            videos = [(given.stem, given)]
        for video_id, path in videos:
            if found.setdefault(video_id, path) != path:
                raise SettingsError(
                    f"{found[video_id]} and {path} have the same id {video_id}; predict them one at a time"
                )
    return list(found.items())


def predictions_of_files(
    predictor: Predictor, videos: Sequence[tuple[str, Path]], run: RunSettings | None = None
) -> Iterator[tuple[Prediction, Sequence[Store]] | Failure]:
    """A prediction of each video (id, file) with the stores that it was made from, or why there is none.

    The stores last until the next is asked for. Of `run`, memory and stall count.

    Raises:
        SettingsError: A checkpoint does not say how its data was made.
        BackendUnavailableError: A flow backend does not run here.
        RunStoppedError: The disk of the temporary folder is full, or no child process can be started.
    """
    from flowprep.videofiles import FileExtractor

    with contextlib.ExitStack() as extractors:
        # Networks that were trained on equal data share an extraction.
        groups: list[tuple[ExtractSettings, FileExtractor, list[Member]]] = []
        for member in predictor.members:
            content = member.known_content()
            for known, _, members in groups:
                if known == content:
                    members.append(member)
                    break
            else:
                groups.append((content, extractors.enter_context(FileExtractor(content, run)), [member]))
        for video_id, path in videos:
            with contextlib.ExitStack() as opened:
                try:
                    stores: dict[Path, Store] = {}
                    for _, extractor, members in groups:
                        store = opened.enter_context(_extracted(extractor, members[0], path, video_id))
                        stores.update((member.path, store) for member in members)
                    chosen = [stores[member.path] for member in predictor.members]
                    yield predictor.predict(chosen, video_id), chosen
                except _VIDEO_ERRORS as error:
                    yield _failure(error, str(path))


def _extracted(extractor: FileExtractor, member: Member, path: Path, video_id: str) -> Store:
    try:
        return extractor.extract(path, video_id)
    except BackendUnavailableError as error:
        cure = "; or give --backend native, which computes nearly the same flow on the CPU"
        raise BackendUnavailableError(f"{member.path}: {error}{cure}") from error


def predictions_of_store(
    predictor: Predictor, store: Store, ids: Sequence[str]
) -> Iterator[tuple[Prediction, Sequence[Store]] | Failure]:
    """The same of stored videos."""
    stores = [store] * len(predictor.members)
    for video_id in ids:
        try:
            yield predictor.predict(stores, video_id, label=store.clip(video_id).label), stores
        except _VIDEO_ERRORS as error:
            yield _failure(error, video_id)


def _failure(error: FlowprepError, source: str) -> Failure:
    text = str(error)
    return Failure(source=source, reason=text if source in text else f"{source}: {text}")
