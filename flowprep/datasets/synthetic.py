"""A labelled set of real, encoded videos that only fusion in space and time can solve.

Two textures drift behind two round windows that stay in place. Two independent bits make four classes: *binding*, which
texture goes up in the vertical phase and which down, and *order*, whether the vertical phase comes before or after the
sideways one. A frame shows which texture is where and not how it moves; a flow stack shows which window goes up and
not what is behind it; neither knows what comes before. So appearance and motion must be joined at each place for the
first bit, and over time for the second.

Such data leak easily. Textures unlike each other change the estimated flow, so B is the negative of another draw of A's
process. Moving discs tell by their places and paths, so the windows stay. Inter coding leaves motion in the residue
of a single frame, so every frame is a JPEG of its own. Interpolation blurs what moves, see `synthetic_texture`. Random
numbers may differ between the classes by chance, see Note [one draw, every class].
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from flowprep.config import SynthSettings
from flowprep.datasets.synthetic_scene import MID_GREY, SPLITS, Draw, SynthClass, synth_classes
from flowprep.errors import RunStoppedError, SettingsError, looking
from flowprep.records import canonical_json
from flowprep.settings import differences

FORMAT = 1
"""Raised whenever the bytes of a set change for the same settings."""

HEADER = "synth.json"
"""File that marks a folder as a synthetic set: format and settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthSummary:
    """What `make_synthetic` made: all videos of the set, those written by this call, and the bytes of all."""

    num_videos: int
    num_written: int
    num_bytes: int
    num_frames: int
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clip:
    """One video of the set: where it stands in it. `draw` counts the draws of its split."""

    cls: SynthClass
    split: str
    draw: int
    group: int
    number: int

    @property
    def id(self) -> str:
        return f"v_{self.cls.name}_g{self.group:02d}_c{self.number:02d}"

    @property
    def path(self) -> str:
        """Relative to the folder of videos, as split lists have it."""
        return f"{self.cls.name}/{self.id}.avi"


def make_synthetic(
    out: Path, settings: SynthSettings, *, progress: Callable[[int, int], None] | None = None
) -> SynthSummary:
    """Write a synthetic set in UCF101's layout below `out`, or complete one that was interrupted.

    `videos/<Class>/v_<Class>_gNN_cNN.avi` (Motion JPEG), `splits/{classInd,trainlist01,testlist01}.txt` as UCF101's,
    `labels.jsonl` (a line a video: bits, places, speeds, seed) and `synth.json` (the settings). Each file appears
    whole. Videos that a former call with the same settings left are kept. `progress(done, total)` follows each video.
    The same settings give the same bytes on the same machine and versions of NumPy and FFmpeg.

    Raises SettingsError where `out` holds anything but a set of the same settings, RunStoppedError where it cannot be
    written.
    """
    _claim(out, settings)
    classes = synth_classes(settings.task)
    num_total = settings.num_train + settings.num_test
    clips: list[_Clip] = []
    facts: dict[str, dict[str, Any]] = {}
    num_written = num_bytes = 0
    for siblings in _plan(settings, classes):
        draw = Draw.sample(settings, siblings[0].split, siblings[0].draw)
        missing = [clip for clip in siblings if not (out / "videos" / clip.path).is_file()]
        background = draw.background_frames(settings) if missing else None
        for clip in siblings:
            path = out / "videos" / clip.path
            if background is not None and clip in missing:
                frames = draw.frames(settings, clip.cls, background)
                _publish(path, encode_intra(frames, fps=settings.fps, scale=settings.jpeg_scale))
                num_written += 1
            num_bytes += path.stat().st_size
            facts[clip.id] = draw.facts(settings, clip.cls)
            clips.append(clip)
            if progress is not None:
                progress(len(clips), num_total)
    _publish_lists(out, classes, sorted(clips, key=lambda clip: (clip.cls.label, clip.group, clip.number)), facts)
    return SynthSummary(
        num_videos=len(clips),
        num_written=num_written,
        num_bytes=num_bytes,
        num_frames=settings.num_frames,
        classes=tuple(cls.name for cls in classes),
    )


def encode_intra(frames: npt.NDArray[np.uint8], *, fps: int, scale: int) -> bytes:
    """Grey frames (F, H, W), H and W even, as an AVI file of Motion JPEG in full range; the same bytes each time.

    Each frame is coded by itself with the fixed quantiser `scale` (1..31, 1 the best), so that no frame's quality
    depends on another's.
    """
    _, height, width = frames.shape
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="avi", options={"fflags": "+bitexact"}) as container:
        options = {"flags": "+qscale+bitexact", "qmin": str(scale), "qmax": str(scale), "huffman": "default"}
        stream = container.add_stream("mjpeg", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        stream.codec_context.thread_count = 1
        planes = np.full((height * 3 // 2, width), MID_GREY, np.uint8)  # luma, then neutral chroma
        for i, frame in enumerate(frames):
            planes[:height] = frame
            picture = av.VideoFrame.from_ndarray(planes, format="yuvj420p")
            picture.pts = i
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return buffer.getvalue()


def _claim(out: Path, settings: SynthSettings) -> None:
    """Make `out` the folder of this set, or make sure that it is."""
    asked = {"format": FORMAT, "settings": settings.to_json()}
    header = out / HEADER
    with looking():
        is_begun = header.is_file()
    if is_begun:
        try:
            there = json.loads(header.read_bytes())
            found = differences(there, asked)
        except (ValueError, AttributeError, TypeError) as error:
            raise SettingsError(f"{header} cannot be read ({error}); choose another folder, or remove {out}") from error
        if found:
            raise SettingsError(
                f"{out} holds a synthetic set of other settings ({'; '.join(found)}); choose another folder"
            )
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingsError(f"{out} is not an empty folder and holds no synthetic set; choose another folder")
    _publish(header, (json.dumps(asked, indent=2) + "\n").encode())


def _plan(settings: SynthSettings, classes: tuple[SynthClass, ...]) -> Iterator[list[_Clip]]:
    """The clips of each draw, one a class: all in one split, one group and with one clip number.

    As in UCF101's first split the lowest groups are the test groups; groups share out by the number of videos.
    """
    num_videos = {"train": settings.num_train, "test": settings.num_test}
    share = settings.num_test / (settings.num_train + settings.num_test)
    num_test_groups = min(max(round(settings.num_groups * share), 1), settings.num_groups - 1)
    groups = {"test": (1, num_test_groups), "train": (num_test_groups + 1, settings.num_groups - num_test_groups)}
    for split in SPLITS:
        first, num_groups = groups[split]
        for draw in range(num_videos[split] // len(classes)):
            number, group = divmod(draw, num_groups)
            yield [_Clip(cls=cls, split=split, draw=draw, group=first + group, number=number + 1) for cls in classes]


def _publish_lists(
    out: Path, classes: tuple[SynthClass, ...], clips: list[_Clip], facts: dict[str, dict[str, Any]]
) -> None:
    """Split lists in UCF101's form (labels from 1, none in the test list), and `labels.jsonl`, last."""
    names = [f"{cls.label + 1} {cls.name}" for cls in classes]
    train = [f"{clip.path} {clip.cls.label + 1}" for clip in clips if clip.split == "train"]
    test = [clip.path for clip in clips if clip.split == "test"]
    labels = [
        canonical_json(
            {
                "id": clip.id,
                "path": clip.path,
                "class": clip.cls.name,
                "label": clip.cls.label,
                "split": clip.split,
                "group": clip.group,
                "clip": clip.number,
                **facts[clip.id],
            }
        )
        for clip in clips
    ]
    for name, lines in (
        ("splits/classInd.txt", names),
        ("splits/trainlist01.txt", train),
        ("splits/testlist01.txt", test),
        ("labels.jsonl", labels),
    ):
        _publish(out / name, "".join(f"{line}\n" for line in lines).encode())


def _publish(path: Path, content: bytes) -> None:
    """Write a file so that it appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise RunStoppedError(
            f"{path} cannot be written ({error.strerror}); what is there is kept, run the same command again to go on"
        ) from error
