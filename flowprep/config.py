"""What can be set, and its limits.

`ExtractSettings` are *content* settings: they decide bytes, are stored with the data
and must agree when a run is resumed. `RunSettings` are free: they decide how the work is done.

Note [loads nothing heavy]: this module is imported by `flowprep --help`; it must not import NumPy, OpenCV or PyAV.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from flowprep.arrays import SLURM, slurm_part
from flowprep.errors import SettingsError
from flowprep.settings import Settings, setting

ALGORITHMS: Mapping[str, int] = {"decode": 3, "resize": 1, "flow": 2, "quantise": 1, "encode": 1}
"""One integer a stage, raised whenever the stage's output bytes change for the same settings."""

BACKENDS: Mapping[str, tuple[str, ...]] = {
    "native": ("cuda", "cpu"),
    "native-cuda": ("cuda", "cpu"),
    "opencv": ("cpu",),
    "opencv-cuda": ("cuda",),
    "dis": (),
    "farneback": (),
}
"""Flow backends and the TV-L1 variants that each computes, its default first; the last two are other algorithms."""

DEVICE_BACKENDS = frozenset({"native-cuda", "opencv-cuda"})
"""Those that compute on a CUDA device, which one process of a run owns."""

CPU_BASELINES = ("x86-64-v3",)
"""Processors that the kernels of `native` can be compiled for, instead of the one they run on."""

LAYOUTS = ("flowprep", "denseflow", "mmaction2", "tsn", "feichtenhofer")

LIST_STYLES = ("mmaction2", "tsn")
"""Whose annotation lists `flowprep lists` writes."""

_KNOWN_OF_ADOPTED = ("dataset", "quantise", "store")
_KNOWN_OF_ADOPTED_FLOW = ("step", "backward")


@dataclass(frozen=True, kw_only=True)
class DecodeSettings(Settings):
    """How a file becomes frames, and what is refused."""

    on_damage: str = setting(
        "fail",
        "What becomes of a damaged or truncated video: fail, keep the frames before the damage, or keep all and flag.",
        choices=("fail", "keep-prefix", "keep-flagged"),
        option="--on-damage",
    )
    fps: float | None = setting(
        None,
        "Pick the frames nearest to this rate by time stamp; invents none. [default: all frames]",
        above=0,
        maximum=1000,
        option="--fps",
        metavar="F",
    )
    on_pts: str = setting(
        "flag",
        "What becomes of a video whose time stamps step back or are missing.",
        choices=("flag", "fail"),
        option="--on-pts",
    )
    segments: str = setting(
        "auto",
        "Cut segments that a list gives by time: always, never, or (auto) unless the file is as short as its segment.",
        choices=("auto", "cut", "whole"),
        option="--segments",
    )
    max_pixels: int = setting(
        7680 * 4320, "Refuse frames with more pixels than this.", minimum=1, option="--max-pixels", metavar="N"
    )
    max_frames: int = setting(
        500_000, "Refuse videos with more frames than this.", minimum=1, option="--max-frames", metavar="N"
    )


@dataclass(frozen=True, kw_only=True)
class ResizeSettings(Settings):
    """The size of the stored frames. Without any of these, the short side becomes 256 pixels."""

    short_side: int | None = setting(
        256,
        "Scale up or down so that the short side has S pixels, e.g. 320x240 to 340x256. [default: 256]",
        minimum=1,
        maximum=16384,
        option="--short-side",
        metavar="S",
    )
    width: int | None = setting(None, "Exact width in pixels, with height.", minimum=1, maximum=16384)
    height: int | None = setting(None, "Exact height in pixels, with width.", minimum=1, maximum=16384)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.width is None) != (self.height is None):
            raise SettingsError(f"`width` and `height` go together, got width={self.width}, height={self.height}")
        if self.width is not None and self.short_side is not None:
            raise SettingsError("give either `short_side` or `width` and `height`, not both")


@dataclass(frozen=True, kw_only=True)
class FlowSettings(Settings):
    """Which flow is computed. `parameters` are those of the backend's algorithm; those not given have its defaults."""

    backend: str = setting(
        "auto",
        "Flow backend; auto takes the best that runs here.",
        choices=("auto", *BACKENDS),
        option="--backend",
    )
    variant: str | None = setting(
        None,
        "TV-L1 variant: cuda (as in published two-stream flow) or cpu. [default: what the backend has, cuda first]",
        choices=("cuda", "cpu"),
        option="--variant",
    )
    step: int = setting(
        1, "Flow goes from image i to image i+STEP.", minimum=1, maximum=1000, option="--step", metavar="STEP"
    )
    backward: bool = setting(
        False, "Also compute flow from image i+step to image i (streams back_x, back_y).", option="--backward"
    )
    cpu_baseline: str | None = setting(
        None,
        "Compile the kernels of native for this processor level, so that unlike machines run the same instructions. "
        "[default: for the processor at hand]",
        choices=CPU_BASELINES,
        option="--cpu-baseline",
        added=True,
    )
    parameters: Mapping[str, float | int | str | bool] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "parameters", dict(sorted(self.parameters.items())))
        if self.cpu_baseline is not None and self.backend not in ("auto", "native"):
            raise SettingsError(f"`cpu_baseline` is for the backend native and not for {self.backend}; leave it out")
        if self.variant is None or self.backend == "auto":
            return
        variants = BACKENDS[self.backend]
        if not variants:
            raise SettingsError(f"`variant` is for TV-L1 and the backend {self.backend} is not; leave it out")
        if self.variant not in variants:
            having = " or ".join(name for name, has in BACKENDS.items() if self.variant in has)
            raise SettingsError(
                f"backend {self.backend} computes variant {' and '.join(variants)}, not {self.variant}; "
                f"{self.variant} needs {having}"
            )


@dataclass(frozen=True, kw_only=True)
class QuantiseSettings(Settings):
    """Flow in pixels to 8 bits, see `flowprep.quantise`."""

    bound_px: float = setting(
        20.0,
        "Flow is clipped to -BOUND..BOUND pixels before it becomes 0..255.",
        above=0,
        maximum=10000,
        option="--bound",
        metavar="BOUND",
    )
    rounding: str = setting(
        "round",
        "round (zero is 128) or truncate (zero is 127, as data made by mmaction2's script).",
        choices=("round", "truncate"),
        option="--rounding",
    )


@dataclass(frozen=True, kw_only=True)
class JpegSettings(Settings):
    """JPEG encoding; every parameter that decides bytes is named."""

    quality: int = setting(95, "JPEG quality.", minimum=1, maximum=100, option="--quality", metavar="Q")
    subsampling: str = setting("4:2:0", "Chroma subsampling of colour images.", choices=("4:2:0",))
    progressive: bool = setting(False, "Always false: baseline.")
    optimize: bool = setting(False, "Always false: the standard Huffman tables.")
    restart_interval: int = setting(0, "Always 0: no restart markers.", minimum=0, maximum=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("progressive", "optimize"):
            if getattr(self, name):
                raise SettingsError(f"`{name}` must be false, got true")


@dataclass(frozen=True, kw_only=True)
class StoreSettings(Settings):
    """Where the JPEGs go."""

    format: str = setting(
        "hdf5",
        "HDF5 shards, or a tree of JPEG files.",
        choices=("hdf5", "jpeg"),
        option="--format",
    )
    layout: str = setting("flowprep", "Names and alignment of a JPEG tree.", choices=LAYOUTS, option="--layout")
    shard_videos: int = setting(
        256, "Videos in an HDF5 shard.", minimum=1, maximum=100_000, option="--shard-videos", metavar="N"
    )
    rgb: bool = setting(True, "Store the images.", option="--rgb/--no-rgb")
    flow: bool = setting(True, "Compute and store flow.", option="--flow/--no-flow")
    adopted: bool = setting(False, "Made by another tool, see `flowprep.adopt`: how is not known.", added=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.format == "hdf5" and self.layout != "flowprep":
            raise SettingsError(f"`layout` {self.layout} is a JPEG tree's; use it with --format jpeg")
        if not self.rgb and not self.flow:
            raise SettingsError("neither images nor flow would be stored; drop --no-rgb or --no-flow")


@dataclass(frozen=True, kw_only=True)
class ExtractSettings(Settings):
    """Everything that decides the bytes of a store."""

    dataset: str = setting("folder", "Name of the dataset's form.")
    decode: DecodeSettings = DecodeSettings()
    resize: ResizeSettings = ResizeSettings()
    flow: FlowSettings = FlowSettings()
    quantise: QuantiseSettings = QuantiseSettings()
    jpeg: JpegSettings = JpegSettings()
    store: StoreSettings = StoreSettings()
    algorithms: Mapping[str, int] = dataclasses.field(default_factory=lambda: dict(ALGORITHMS))

    def __post_init__(self) -> None:
        super().__post_init__()
        layout = self.store.layout
        if layout in ("mmaction2", "tsn", "feichtenhofer"):
            if self.flow.step != 1:
                raise SettingsError(
                    f"layout {layout} has no names for step {self.flow.step}; "
                    "use step 1, or layout flowprep or denseflow"
                )
            if self.flow.backward:
                raise SettingsError(f"layout {layout} has no names for backward flow; use layout flowprep or denseflow")

    def to_json(self) -> dict[str, Any]:
        """As of all settings; of images that another tool has made, only what is known about them."""
        data = super().to_json()
        if self.store.adopted:
            flow = {name: data["flow"][name] for name in _KNOWN_OF_ADOPTED_FLOW}
            data = {**{name: data[name] for name in _KNOWN_OF_ADOPTED}, "flow": flow}
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """As of all settings; what is not known of images that another tool has made has its default, unused."""
        if isinstance(data.get("store"), Mapping) and data["store"].get("adopted"):
            flow = {**FlowSettings().to_json(), **data.get("flow", {})}
            data = {**cls().to_json(), **data, "flow": flow}
        return super().from_json(data)

    @property
    def changed_stages(self) -> str:
        """Stages that give other bytes here than where these settings are from: `decode 1, now 2`; "" if none does."""
        stages = [*ALGORITHMS, *(stage for stage in self.algorithms if stage not in ALGORITHMS)]
        pairs = [(stage, self.algorithms.get(stage), ALGORITHMS.get(stage)) for stage in stages]
        return ", ".join(f"{stage} {there}, now {here}" for stage, there, here in pairs if there != here)

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams that a stored video has.

        Flow i goes from image i to image i + step, back i from image i + step to image i.
        """
        images = ("rgb",) if self.store.rgb else ()
        forward = ("flow_x", "flow_y") if self.store.flow else ()
        backward = ("back_x", "back_y") if self.store.flow and self.flow.backward else ()
        return images + forward + backward


@dataclass(frozen=True, kw_only=True)
class RunSettings(Settings):
    """How the work is done. None of these changes a byte of the result, so a resumed run may have others."""

    jobs: int = setting(
        0,
        "Videos that are extracted at a time; 0 is one a core.",
        minimum=0,
        maximum=1024,
        option="--jobs",
        metavar="N",
    )
    device: str | None = setting(
        None,
        "CUDA devices that compute flow, such as cuda:0,cuda:1. [default: cuda:0 where the backend needs one]",
        option="--device",
        metavar="LIST",
    )
    durability: str = setting(
        "video",
        "video: safe against power loss a video; strict: fsync each file; fast: safe against crashes only.",
        choices=("video", "strict", "fast"),
        option="--durability",
    )
    retry: str = setting(
        "transient",
        "Failed videos to try again in a resumed run: those that may heal by themselves, or all.",
        choices=("transient", "all"),
        option="--retry",
    )
    strict: bool = setting(False, "Exit 1 for flagged videos too.", option="--strict")
    memory_gib: float = setting(
        1.5,
        "Memory in GiB that one video may take, beyond what a worker needs anyway.",
        above=0,
        maximum=4096,
        option="--memory",
        metavar="GIB",
    )
    stall_seconds: float | None = setting(
        None,
        "A video that makes no progress for so long has failed. [default: by the size of its frames, at least 300]",
        above=0,
        maximum=1_000_000,
        option="--stall",
        metavar="SECONDS",
    )
    part: str | None = setting(
        None,
        "Do the I-th of N parts of the list, as one job of an array; slurm takes both from the array, slurm/N the I "
        "alone. `flowprep merge` ends the run.",
        option="--part",
        metavar="I/N|slurm|slurm/N",
    )
    takeover: bool = setting(
        False, "Go on although another process seems to be at work on the same part.", option="--takeover"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.devices()
        if self.part is not None:
            if self.part.partition("/")[0] == SLURM:
                object.__setattr__(self, "part", slurm_part(self.part, os.environ))
            part, num_parts = self.slice_of_parts()
            object.__setattr__(self, "part", f"{part}/{num_parts}")  # one name for 1/8 and 01/8

    def devices(self) -> tuple[str, ...]:
        """Names of the CUDA devices that are given, `cuda:0` and so on."""
        if self.device is None:
            return ()
        names = tuple(self.device.split(","))
        if not all(re.fullmatch(r"cuda:(0|[1-9][0-9]{0,3})", name) for name in names) or len(set(names)) < len(names):
            raise SettingsError(f"`device` must be different devices such as cuda:0,cuda:1, got {self.device!r}")
        return names

    def slice_of_parts(self) -> tuple[int, int]:
        """Part and number of parts, (1, 1) for a whole run."""
        if self.part is None:
            return 1, 1
        first, slash, second = self.part.partition("/")
        if not (slash and first.isascii() and first.isdecimal() and second.isascii() and second.isdecimal()):
            raise SettingsError(f"`part` must be I/N, such as 1/8, got {self.part!r}")
        part, num_parts = int(first), int(second)
        if not 1 <= part <= num_parts <= 100_000:
            raise SettingsError(f"`part` must be I/N with 1 <= I <= N <= 100000, got {self.part!r}")
        return part, num_parts


@dataclass(frozen=True, kw_only=True)
class PreviewSettings(Settings):
    """Which frames of a stored video `flowprep preview` shows, see `flowprep.preview`."""

    num_frames: int | None = setting(
        None,
        "Frames that are shown. [default: 4 in a picture, all in a film]",
        minimum=1,
        maximum=1_000_000,
        option="--num-frames",
        metavar="N",
    )
    start: int = setting(
        0,
        "First frame that may be shown; a picture spreads its frames over what follows, a film begins here.",
        minimum=0,
        option="--start",
        metavar="FRAME",
    )
    backward: bool = setting(False, "Show the backward flow.", option="--backward")


@dataclass(frozen=True, kw_only=True)
class SynthSettings(Settings):
    """The labelled synthetic videos of `flowprep synth`, see `flowprep.datasets.synthetic`."""

    task: str = setting(
        "fusion",
        "fusion: 4 classes that need both streams in space and time; pretext: 8 classes of one texture and direction.",
        choices=("fusion", "pretext"),
        option="--task",
    )
    num_train: int = setting(800, "Training videos.", minimum=1, option="--num-train", metavar="N")
    num_test: int = setting(400, "Test videos.", minimum=1, option="--num-test", metavar="N")
    width: int = setting(96, "Frame width in pixels.", minimum=48, maximum=1024, option="--width", metavar="W")
    height: int = setting(96, "Frame height in pixels.", minimum=48, maximum=1024, option="--height", metavar="H")
    pause_steps: int = setting(
        12, "Flow steps of each pause, at least stack length + 2.", minimum=1, option="--pause-steps", metavar="N"
    )
    phase_steps: int = setting(
        12, "Flow steps of each of the two phases of motion.", minimum=1, option="--phase-steps", metavar="N"
    )
    stack_length: int = setting(
        10, "L of the flow stacks that the videos are for.", minimum=1, option="--stack-length", metavar="L"
    )
    min_speed_px: float = setting(
        1.5, "Slowest drift of a texture, in pixels a frame.", above=0, maximum=32, option="--min-speed", metavar="PX"
    )
    max_speed_px: float = setting(
        2.5, "Fastest drift of a texture, in pixels a frame.", above=0, maximum=32, option="--max-speed", metavar="PX"
    )
    num_groups: int = setting(
        25,
        "Groups (g01, g02, ..) in which the videos are numbered; a group is in one split only.",
        minimum=2,
        maximum=100_000,
        option="--num-groups",
        metavar="N",
    )
    fps: int = setting(25, "Frames a second that the files announce.", minimum=1, maximum=1000, option="--fps")
    jpeg_scale: int = setting(
        2,
        "Motion JPEG quantiser scale; 1 is the best quality.",
        minimum=1,
        maximum=31,
        option="--jpeg-scale",
        metavar="Q",
    )
    seed: int = setting(0, "Seed of all random draws.", minimum=0, option="--seed", metavar="N")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("width", "height"):
            if getattr(self, name) % 2:
                raise SettingsError(f"`{name}` must be even (chroma has half the size), got {getattr(self, name)}")
        for name in ("num_train", "num_test"):
            if getattr(self, name) % self.num_classes:
                raise SettingsError(
                    f"`{name}` must be a multiple of {self.num_classes}, the classes of task {self.task} "
                    f"(every random draw makes one video of each), got {getattr(self, name)}"
                )
        if self.min_speed_px > self.max_speed_px:
            raise SettingsError(
                f"`min_speed_px` must be at most `max_speed_px`, got {self.min_speed_px} and {self.max_speed_px}"
            )
        if self.pause_steps < self.stack_length + 2:
            raise SettingsError(
                f"`pause_steps` must be at least `stack_length` + 2 = {self.stack_length + 2}, so that no stack "
                f"reaches from one phase into the other, got {self.pause_steps}"
            )

    @property
    def num_classes(self) -> int:
        """4 for fusion (two bits), 8 for pretext (two textures, four directions)."""
        return 4 if self.task == "fusion" else 8

    @property
    def num_steps(self) -> int:
        """Flow steps of a video: pause, phase, pause, phase, pause."""
        return 3 * self.pause_steps + 2 * self.phase_steps

    @property
    def num_frames(self) -> int:
        """Frames of a video, one more than its flow steps."""
        return self.num_steps + 1


@dataclass(frozen=True, kw_only=True)
class BenchSettings(Settings):
    """What `flowprep bench` measures, see `flowprep.bench`."""

    num_pairs: int = setting(
        8, "Pairs of frames, spread over the videos.", minimum=1, maximum=100_000, option="--pairs", metavar="N"
    )
    num_repeats: int = setting(
        3,
        "Times that each pair is computed; the median counts.",
        minimum=1,
        maximum=1000,
        option="--repeats",
        metavar="N",
    )
    num_frames: int = setting(
        64,
        "Frames of each of up to 4 videos that go through all stages; a slow one is left after 5 s.",
        minimum=2,
        maximum=1_000_000,
        option="--frames",
        metavar="N",
    )
    durability: str = setting(
        "video",
        "How commits are flushed, as of `extract`.",
        choices=("video", "strict", "fast"),
        option="--durability",
    )
    compare: str | None = setting(
        None,
        "Compute every pair with this backend too, in turns, and show both side by side.",
        choices=("opencv",),
        option="--compare",
    )
    hours_for: str = setting(
        "ucf101",
        "Data set whose hours are estimated: ucf101, hmdb51, kinetics400, ssv2, or its videos and mean number of "
        "frames, such as 13320x185.",
        option="--hours-for",
        metavar="SIZE",
    )
    jobs: int = setting(
        0,
        "Processes that the hours are estimated for; 0 is one a core.",
        minimum=0,
        maximum=1_000_000,
        option="--jobs",
        metavar="N",
    )


@dataclass(frozen=True, kw_only=True)
class VerifySettings(Settings):
    """How `flowprep verify` looks at a store, see `flowprep.verify`."""

    deep: bool = setting(
        False, "Decode every JPEG too, and with --videos compute a sample of the flow again.", option="--deep"
    )
    num_pairs: int = setting(
        16,
        "Pairs of frames that --deep --videos computes again, spread over the videos.",
        minimum=1,
        maximum=1_000_000,
        option="--pairs",
        metavar="N",
    )
    jobs: int = setting(
        0,
        "Videos or shards that are read at a time, and videos that --repair extracts at a time; 0 is one a core.",
        minimum=0,
        maximum=1024,
        option="--jobs",
        metavar="N",
    )
