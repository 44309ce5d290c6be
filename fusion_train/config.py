"""What of training can be set: frozen, keyword-only, validated, with a JSON round trip (`flowprep.settings`).

Note [loads nothing heavy]: this module is imported by `fusion-train --help`; it needs the standard library alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from flowprep.errors import SettingsError
from flowprep.settings import Settings, setting

BACKBONES = ("vgg16", "vggm", "resnet50", "resnet50-caffe", "synthetic", "debug")
"""VGG-16, VGG-M-2048, ResNet-50 of torchvision and of MatConvNet, a small net for the clips of `flowprep synth`, and a
smaller one for tests."""

_WEIGHTS_HELP = (
    "Initial weights of the {} stream: torchvision (ImageNet), torchvision-features (convolutions in Caffe's scale), "
    "none (random), or a file: .mat of MatConvNet, or a state dict as .pt, .pth or .npz."
)


@dataclass(frozen=True, kw_only=True)
class ModelSettings(Settings):
    """Which network is built. docs/fusion.md says what each choice is in the paper and in the authors' code."""

    network: str = setting(
        "fused",
        "A single stream, or temporal features fused into the spatial one.",
        choices=("spatial", "temporal", "fused"),
    )
    spatial: str = setting("vgg16", "Backbone of the spatial stream.", choices=BACKBONES)
    temporal: str = setting("vgg16", "Backbone of the temporal stream.", choices=BACKBONES)
    stack_length: int = setting(10, "L, the flow fields that a chunk stacks to 2L channels.", minimum=1, maximum=100)
    fusion: str = setting(
        "conv",
        "How two maps become one; bilinear ends its tower, all others go on with the spatial stream's layers.",
        choices=("sum", "max", "concat", "conv", "bilinear"),
    )
    at: str = setting(
        "relu5_3",
        "Layers after which the streams are fused, separated by commas; spatial:temporal where names differ, as in "
        "relu5_3:relu5; prediction is the last layer of any backbone.",
    )
    temporal_fusion: str = setting(
        "conv3d+pool3d",
        "What joins the chunks: nothing but the mean of their logits (pool2d), pooling over time, or that after a "
        "convolution in space and time.",
        choices=("pool2d", "pool3d", "conv3d+pool3d"),
    )
    conv_kernel: int | None = setting(
        None, "Side of the fusion filter, odd. [default: 1 in 2D, 3 in 3D]", minimum=1, maximum=11
    )
    conv_init: str = setting(
        "gaussian",
        "Fusion filter at the start: the identity under a Gaussian window (sigma 1), the identity, or 0.01 * normal.",
        choices=("gaussian", "identity", "random"),
    )
    init_spatial: float = setting(0.25, "Factor of the spatial map in the initial filter.", minimum=0, maximum=100)
    init_temporal: float = setting(0.75, "Factor of the temporal map in the initial filter.", minimum=0, maximum=100)
    pool_kernel: str = setting(
        "3,3,3", "3D pooling over t,y,x: numbers; all for all chunks in t; own for what the backbone has in y or x."
    )
    pool_stride: str = setting("2,own,own", "Stride of 3D pooling in t,y,x. A maximum over the steps left follows.")
    pool_padding: str = setting(
        "1,own,own", "Padding of 3D pooling in t,y,x; own keeps the size of the backbone's map."
    )
    keep_temporal: bool = setting(True, "Keep the temporal tower beside the fused one, with its own logits.")
    spatial_dropout: float = setting(0.85, "Share that dropout drops in the spatial stream.", minimum=0, maximum=0.99)
    temporal_dropout: float = setting(0.9, "Share that dropout drops in the temporal stream.", minimum=0, maximum=0.99)
    fused_dropout: float | None = setting(
        None, "The same for both towers of the fused network. [default: those of the streams]", minimum=0, maximum=0.99
    )
    backprop_to: str = setting(
        "fusion",
        "Where gradients end: above the first fusion (a single stream has none and trains whole), above the first "
        "layer of `at` in single streams too, at the prediction layer, which alone trains, or nowhere.",
        choices=("fusion", "at", "prediction", "input"),
    )
    batch_norm: str = setting(
        "frozen",
        "Statistics of batch normalisation: as loaded, as loaded but in the first layer, or those of the batch.",
        choices=("frozen", "partial", "batch"),
    )
    spatial_weights: str = setting("torchvision", _WEIGHTS_HELP.format("spatial"))
    temporal_weights: str = setting("torchvision", _WEIGHTS_HELP.format("temporal"))
    fusion_weights: str = setting(
        "none",
        "Fusion filters of a fused network at the start: none (`conv_init`), or a file with a fused network: a "
        "checkpoint, .pt, .pth, .npz or .mat.",
        added=True,
    )
    random_fc: bool = setting(False, "Do not load fc6 and fc7; torchvision-features has none that could be.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.conv_kernel is not None and self.conv_kernel % 2 == 0:
            raise SettingsError(f"`conv_kernel` must be odd, so that maps keep their place, got {self.conv_kernel}")
        if self.temporal_fusion == "conv3d+pool3d" and self.fusion != "conv" and self.network == "fused":
            raise SettingsError(
                f"`temporal_fusion` conv3d+pool3d is for fusion conv and not for {self.fusion}; use pool3d or pool2d"
            )
        points = self.fusion_points
        if len(set(points)) < len(points):
            raise SettingsError(f"`at` must name each layer once, got {self.at!r}")
        if self.fusion == "bilinear" and len(points) > 1:
            raise SettingsError(f"`fusion` bilinear ends its tower and goes at one layer, got `at` {self.at!r}")
        for name, words in (("pool_kernel", ("all", "own")), ("pool_stride", ("own",)), ("pool_padding", ("own",))):
            self._triple(name, words, minimum=0 if name == "pool_padding" else 1)
        self._check_weights()

    def _check_weights(self) -> None:
        for stream in ("spatial", "temporal"):
            backbone, weights = getattr(self, stream), getattr(self, f"{stream}_weights")
            if weights == "torchvision-features" and not self.random_fc:
                raise SettingsError(
                    f"`{stream}_weights` torchvision-features has no valid fc6 and fc7; set `random_fc`, or use "
                    "torchvision, which has them"
                )
            trained = {"torchvision": ("vgg16", "resnet50"), "torchvision-features": ("vgg16",)}
            if self.network in (stream, "fused") and backbone not in trained.get(weights, BACKBONES):
                raise SettingsError(
                    f"torchvision has no weights for `{stream}` {backbone}: set `{stream}_weights` to a file"
                    f"{' (imagenet-vgg-m-2048.mat)' if backbone == 'vggm' else ''} or to none"
                )

    def _triple(self, name: str, words: tuple[str, ...], minimum: int) -> tuple[int | str, int | str, int | str]:
        """A setting for t,y,x as numbers and words: `all` is for t, `own` for y and x."""
        parts = [part.strip() for part in getattr(self, name).split(",")]
        values: list[int | str] = []
        for axis, part in enumerate(parts):
            if part in words and (part == "all") == (axis == 0):
                values.append(part)
            elif part.isdecimal() and int(part) >= minimum:
                values.append(int(part))
        if len(parts) != 3 or len(values) != 3:
            raise SettingsError(
                f"`{name}` must be three of t,y,x: numbers of at least {minimum}"
                f"{', all (t)' if 'all' in words else ''} or own (y, x), got {getattr(self, name)!r}"
            )
        return values[0], values[1], values[2]

    @property
    def pool_window(self) -> tuple[tuple[int | str, int | str, int | str], ...]:
        """Kernel, stride and padding of 3D pooling, each in t, y, x, with the words `all` and `own`."""
        return (
            self._triple("pool_kernel", ("all", "own"), minimum=1),
            self._triple("pool_stride", ("own",), minimum=1),
            self._triple("pool_padding", ("own",), minimum=0),
        )

    @property
    def fusion_points(self) -> tuple[tuple[str, str], ...]:
        """The pairs of a spatial and a temporal layer after which the streams are fused, as `at` lists them."""
        pairs = []
        for entry in self.at.split(","):
            spatial, _, temporal = (part.strip() for part in entry.partition(":"))
            if not spatial or (":" in entry and not temporal):
                raise SettingsError(f"`at` must name layers as in relu5_3 or relu5_3:relu5, got {self.at!r}")
            pairs.append((spatial, temporal or spatial))
        return tuple(pairs)

    def dropout_of(self, stream: str) -> float:
        """The share that dropout drops in `spatial` or `temporal` of this network."""
        own: float = self.spatial_dropout if stream == "spatial" else self.temporal_dropout
        return self.fused_dropout if self.network == "fused" and self.fused_dropout is not None else own


_BY_PROTOCOL = {
    "paper": {"tau_min": 1, "tau_max": 10, "test_tau": 10, "crops": "borders"},
    "authors": {"tau_min": 5, "tau_max": 15, "test_tau": 15, "crops": "diagonal"},
}
"""What the settings that are left out become. The paper names no tau for testing: there it is the largest of training,
as in the released code."""


@dataclass(frozen=True, kw_only=True)
class DataSettings(Settings):
    """Which frames of a video a network sees, and how they are cropped. See docs/fusion-data.md.

    A field of which the protocol decides is None only until the object is made.
    """

    protocol: str = setting(
        "paper",
        "paper, or authors: indices, crops and flip as the released code has them.",
        choices=("paper", "authors"),
    )
    num_chunks: int = setting(5, "T, the chunks of a clip.", minimum=1, maximum=1000)
    stack_length: int = setting(10, "L, the flow fields around the frame of a chunk.", minimum=1, maximum=100)
    tau_min: int | None = setting(None, "Smallest distance of two chunks in training.", minimum=1, maximum=1000)
    tau_max: int | None = setting(None, "Largest distance of two chunks in training.", minimum=1, maximum=1000)
    test_tau: int | None = setting(None, "Distance of two chunks in evaluation.", minimum=1, maximum=1000)
    num_test_clips: int = setting(
        10, "Clips of a video in evaluation, spread evenly: 25 with one chunk for single streams.", minimum=1
    )
    test_flip: bool = setting(True, "Evaluate each clip mirrored too.")
    crop_size: int = setting(224, "Side of the network's input in pixels.", minimum=8, maximum=4096)
    crops: str | None = setting(
        None,
        "Where training crops lie: borders (y and x each near a border), diagonal (top left or bottom right, as the "
        "released code has it), corners (four corners and the centre, sides of 3/4 to 8/7 in four steps), "
        "borders+corners (sizes of borders; every second one at a corner or in the centre).",
        choices=("borders", "diagonal", "corners", "borders+corners"),
    )
    jitter: float = setting(
        0.25,
        "Height and width of a crop differ from its size by up to this share, each by itself.",
        minimum=0,
        maximum=0.9,
    )
    border: float = setting(
        0.25, "Crops lie at most this share of the free space from a border; 0.5 is anywhere.", minimum=0, maximum=0.5
    )
    flip: bool = setting(True, "Mirror every second clip of training, by chance.")
    same_clips: bool = setting(
        False, "Show single streams only the clips that fused networks see, for which both streams are long enough."
    )
    blank: str = setting(
        "none",
        "Show no network what this stream has: rgb becomes mid-grey, flow becomes no motion. A control.",
        choices=("none", "rgb", "flow"),
    )
    interpolation: str = setting(
        "bicubic", "How crops are resized; both with antialiasing, as Pillow.", choices=("bicubic", "bilinear")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in _BY_PROTOCOL[self.protocol].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.taus[0] > self.taus[1]:
            raise SettingsError(
                f"`tau_min` must be at most `tau_max`, got {self.tau_min} and {self.tau_max}; "
                f"left out, protocol {self.protocol} has {_BY_PROTOCOL[self.protocol]['tau_min']} and "
                f"{_BY_PROTOCOL[self.protocol]['tau_max']}"
            )

    @property
    def taus(self) -> tuple[int, int]:
        """Smallest and largest distance of two chunks in training."""
        assert self.tau_min is not None
        assert self.tau_max is not None
        return self.tau_min, self.tau_max


_EPOCHS_OF_PLATEAU = 20
"""Where a plateau lowers the rate it also ends the training; this is for one that never comes."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Settings):
    """How a network is trained. See docs/fusion-training.md."""

    split: str = setting("1", "Name of the official split.")
    val: str = setting(
        "groups",
        "What is held out for the learning rate, the choice of the network and the late fusion's weights: whole groups "
        "of the training list (or the part val of a list of your own), nothing, or the test list (as the released code "
        "does; every figure then says so).",
        choices=("groups", "none", "test"),
    )
    val_share: float = setting(0.1, "Share of the training list that is held out.", above=0, maximum=0.5)
    num_val_clips: int = setting(5, "Clips of a held-out video, not mirrored.", minimum=1, maximum=1000)
    seed: int = setting(0, "Of initial weights, order, clips, crops and dropout.", minimum=0, maximum=2**31)
    batch_size: int = setting(96, "Videos of a step, of all processes together.", minimum=1)
    videos_at_once: int = setting(
        8, "Videos in memory at a time; gradients are added up to `batch_size`.", minimum=1, maximum=4096
    )
    num_epochs: int | None = setting(
        None, "Epochs at most. [default: one a rate of `rates`; 20 where a plateau lowers the rate]", minimum=1
    )
    passes: int = setting(1, "Times that an epoch goes through the training list.", minimum=1)
    rates: str = setting(
        "1e-3",
        "Learning rate of each epoch, as in 3x1e-3,5x5e-4; the last one stays if there are more epochs. Where "
        "`schedule` is plateau, the first one is where it starts.",
    )
    schedule: str | None = setting(
        None,
        "fixed: `rates`. plateau: a tenth whenever the held-out accuracy has not risen for `patience` epochs. "
        "[default: plateau where groups are held out, else fixed]",
        choices=("fixed", "plateau"),
    )
    patience: int = setting(2, "Epochs without a gain after which a plateau is one.", minimum=1)
    num_drops: int = setting(2, "Times that a plateau lowers the rate; the next one ends the training.", minimum=0)
    head_epochs: int = setting(0, "Epochs at the start in which the prediction layer alone is trained.", minimum=0)
    momentum: float = setting(0.9, "Of stochastic gradient descent.", minimum=0, maximum=1)
    reset_momentum: bool = setting(False, "Forget the momentum at the start of every epoch, as the released code does.")
    weight_decay: float = setting(5e-4, "Of weights.", minimum=0)
    bias_rate: float = setting(1.0, "Learning rate of biases, times that of weights.", minimum=0)
    bias_decay: bool = setting(True, "Decay biases too.")
    bilinear_classifier: str = setting(
        "svm",
        "What classifies the features of bilinear fusion: a linear SVM, fitted at the end on the training list as in "
        "the paper, or the softmax layer that is trained.",
        choices=("svm", "softmax"),
        added=True,
    )
    svm_cost: float = setting(1.0, "C of the SVM.", above=0, added=True)
    precision: str = setting(
        "float32", "Of activations: float32, or bfloat16 where that is safe.", choices=("float32", "bfloat16")
    )
    compiled: bool = setting(
        False, "Compile the network with torch.compile; slow to start, and again after `head_epochs`."
    )
    channels_last: bool = setting(
        False, "Filters of 2D convolutions with channels last in memory; on CUDA faster in bfloat16.", added=True
    )
    deterministic: bool = setting(False, "The same numbers from the same run, on CUDA at some cost.")
    num_threads: int = setting(0, "Threads that decode; 0 is one a core.", minimum=0, maximum=4096)
    log_every: int = setting(10, "Steps from one line of the log to the next.", minimum=1)
    save_every: int = setting(200, "Steps from one checkpoint to the next; there is one after every epoch.", minimum=1)
    tensorboard: bool = setting(False, "Write what is logged for TensorBoard too.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule == "plateau" and self.val == "none":
            raise SettingsError("`schedule` plateau needs held-out videos; set `val` to groups, or `schedule` to fixed")
        if self.batch_size % self.videos_at_once:
            raise SettingsError(
                f"`batch_size` must be a multiple of `videos_at_once`, got {self.batch_size} and {self.videos_at_once}"
            )
        self.rate_of_epochs()

    @property
    def by_plateau(self) -> bool:
        """Whether the held-out accuracy decides on the learning rate."""
        return self.schedule == "plateau" or (self.schedule is None and self.val == "groups")

    @property
    def max_epochs(self) -> int:
        """After how many epochs a training ends, if a plateau has not ended it before."""
        if self.num_epochs is not None:
            return self.num_epochs
        return _EPOCHS_OF_PLATEAU if self.by_plateau else len(self.rate_of_epochs())

    def rate_of_epochs(self) -> tuple[float, ...]:
        """The learning rates that `rates` lists, one an epoch."""
        found: list[float] = []
        for entry in self.rates.split(","):
            count, times, rate = entry.strip().rpartition("x")
            try:
                repeats, value = int(count) if times else 1, float(rate)
            except ValueError:
                repeats, value = 0, 0.0
            if repeats < 1 or not 0 < value < float("inf"):
                raise SettingsError(f"`rates` must be rates above 0 as in 3x1e-3,5x5e-4, got {self.rates!r}")
            found += [value] * repeats
        return tuple(found)


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(Settings):
    """How a network is evaluated; which clips it sees is said by `DataSettings`. None of these changes a score."""

    videos_at_once: int = setting(1, "Videos decoded into a batch.", minimum=1, maximum=4096)
    clips_at_once: int = setting(5, "Clips that pass through the network at a time.", minimum=1, maximum=4096)
    num_threads: int = setting(0, "Threads that decode; 0 is one a core.", minimum=0, maximum=4096)
    precision: str = setting("float32", "Of activations.", choices=("float32", "bfloat16"))


@dataclass(frozen=True, kw_only=True)
class FusionSettings(Settings):
    """All of one network: what it is, what it sees, how it is trained and evaluated. Checkpoints hold it."""

    model: ModelSettings
    data: DataSettings
    train: TrainSettings
    evaluate: EvaluateSettings

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model.stack_length != self.data.stack_length:
            raise SettingsError(
                f"`model.stack_length` and `data.stack_length` must be equal, got {self.model.stack_length} and "
                f"{self.data.stack_length}"
            )
