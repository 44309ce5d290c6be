"""The networks: a single stream, or temporal features fused into the spatial stream, as one module each.

`network(rgb, flow)` takes clips of T chunks and gives logits; nothing else of a network needs to be known to train it.
"""

from __future__ import annotations

from typing import Self, final

import torch
from torch import Tensor, nn

from flowprep.errors import SettingsError
from fusion_train.config import ModelSettings
from fusion_train.models.backbones import backbone_of
from fusion_train.models.fusion import BilinearFusion, ConcatFusion, ConvFusion, Fusion, MaxFusion, SumFusion
from fusion_train.models.inputs import check_pair, clip_maps
from fusion_train.models.layers import by_clip
from fusion_train.models.plan import Point, plan
from fusion_train.models.stream import Stream, index_of

Logits = dict[str, Tensor]


class Network(nn.Module):
    """What all networks share. `streams` has `spatial`, `temporal` or both; `settings` are what it was built from."""

    def __init__(self, settings: ModelSettings, num_classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.num_classes = num_classes
        self.frozen: dict[str, int] = {}
        """By stream, how many of its first layers are frozen: they keep no activations and get no gradient."""
        self.passed: dict[str, int] = {}
        """By stream, how many of its first layers the inputs have passed already: they are maps then, not images."""

    @property
    def streams(self) -> dict[str, Stream]:
        """The streams by name."""
        children = {name: getattr(self, name, None) for name in ("spatial", "temporal")}
        return {name: child for name, child in children.items() if isinstance(child, Stream)}

    def forward(self, rgb: Tensor | None = None, flow: Tensor | None = None) -> Logits:
        """Logits of whole clips: the mean over positions of the map and over what time steps are left.

        Args:
            rgb: uint8 or float (B, T, 3, H, W) of 0..255. A temporal network ignores it.
            flow: The same of (B, T, 2L, H, W), u and v interleaved. A spatial network ignores it.

        Returns:
            float32 (B, C) by tower: `spatial` or `temporal` of a single stream, else `spatiotemporal` and, if that
            tower is kept, `temporal`.

        Raises:
            SettingsError: An input is missing, too small, or of another shape or dtype.
        """
        return {name: logits.mean(1) for name, logits in self.frame_logits(rgb, flow).items()}

    def frame_logits(self, rgb: Tensor | None = None, flow: Tensor | None = None) -> Logits:
        """Like `forward`, but (B, T', C): a mean over positions only. T' is T, or 1 where time is pooled.

        Losses of 2D pooling are taken on these, as the authors repeat the label for every chunk.
        """
        batch_size = check_pair(rgb, flow, equal_sizes=not self.passed)
        maps = self._towers(rgb, flow, batch_size)
        return {name: by_clip(out.float().mean((2, 3)), batch_size) for name, out in maps.items()}

    def _towers(self, rgb: Tensor | None, flow: Tensor | None, batch_size: int) -> Logits:
        """Maps of logits, (B*T', C, h, w), by tower."""
        raise NotImplementedError

    def set_backprop(self, backprop_to: str) -> None:
        """Freeze what lies below `fusion` or `prediction`, or nothing (`input`); see `ModelSettings.backprop_to`."""
        for name, stream in self.streams.items():
            self.frozen[name] = self._num_frozen(name, backprop_to)
            stream.freeze(self.frozen[name])
        self.train(self.training)

    def _num_frozen(self, name: str, backprop_to: str) -> int:
        """How many layers of a stream are frozen."""
        backbone = self.streams[name].backbone
        if backprop_to == "at":
            return 1 + index_of(backbone, self.settings.fusion_points[0][name == "temporal"], name)
        return len(backbone.layers) - 1 if backprop_to == "prediction" else 0

    def train(self, mode: bool = True) -> Self:
        """As PyTorch's; statistics of batch normalisation that are frozen stay as they are."""
        super().train(mode)
        for name, stream in self.streams.items():
            below = {
                id(m)
                for layer in stream.layers[: self.frozen.get(name, 0)]
                for m in getattr(stream, layer.name).modules()
            }
            kept = {"frozen": 0, "partial": 1, "batch": len(stream.norms())}[self.settings.batch_norm]
            for index, norm in enumerate(stream.norms()):
                if index >= kept or id(norm) in below:
                    norm.eval()
        return self

    def _run(self, name: str, maps: Tensor, batch_size: int, start: int = 0, stop: int | None = None) -> Tensor:
        """Layers `start` to `stop` (excluded) of a stream; those that are frozen leave no trace for gradients."""
        stream = self.streams[name]
        stop = len(stream.layers) if stop is None else stop
        start = min(max(start, self.passed.get(name, 0)), stop)
        frozen = min(max(self.frozen[name], start), stop)
        if frozen > start:
            with torch.no_grad():
                maps = stream.run(maps, batch_size, start, frozen)
        return stream.run(maps, batch_size, frozen, stop) if frozen < stop else maps

    def _entering(self, name: str, inputs: Tensor | None) -> Tensor:
        """What enters a stream, as (B*T, C, H, W): images, checked, or maps of layers that they have passed."""
        stream = self.streams[name]
        if name in self.passed and inputs is not None:
            return inputs.flatten(0, 1)
        return clip_maps(name, inputs, stream)


@final
class SingleStream(Network):
    """A spatial or temporal stream alone; each chunk is seen by itself."""

    def __init__(self, settings: ModelSettings, num_classes: int) -> None:
        super().__init__(settings, num_classes)
        name = settings.network
        self.add_module(name, make_stream(settings, name, num_classes))
        self.set_backprop(settings.backprop_to)

    def _towers(self, rgb: Tensor | None, flow: Tensor | None, batch_size: int) -> Logits:
        name = self.settings.network
        images = self._entering(name, rgb if name == "spatial" else flow)
        return {name: self._run(name, images, batch_size)}


@final
class FusedNetwork(Network):
    """Temporal maps fused into the spatial stream, whose upper layers then are the spatiotemporal tower.

    At every fusion point the spatial map becomes the fused one; the temporal stream stays what it is. Where `settings`
    pool over time, both streams do so at their last pooling layer.
    """

    def __init__(self, settings: ModelSettings, num_classes: int) -> None:
        super().__init__(settings, num_classes)
        self.plan = plan(settings, num_classes)
        first, last = self.plan.points[0], self.plan.points[-1]
        bilinear = settings.fusion == "bilinear"
        self.spatial = make_stream(
            settings, "spatial", num_classes, end=first.spatial + 1 if bilinear else None, extra=self.plan.widened
        )
        self.temporal = make_stream(
            settings, "temporal", num_classes, end=None if settings.keep_temporal else last.temporal + 1
        )
        self.fusions = nn.ModuleList(make_fusion(settings, point) for point in self.plan.points)
        self.bilinear_classifier = (
            nn.Conv2d(first.num_spatial * first.num_temporal, num_classes, 1) if bilinear else None
        )
        if self.bilinear_classifier is not None:
            nn.init.normal_(self.bilinear_classifier.weight, std=0.01)
            assert self.bilinear_classifier.bias is not None
            nn.init.zeros_(self.bilinear_classifier.bias)
        self.set_backprop(settings.backprop_to)

    def _num_frozen(self, name: str, backprop_to: str) -> int:
        if backprop_to in ("fusion", "at"):
            point = self.plan.points[0]
            return 1 + (point.spatial if name == "spatial" else point.temporal)
        return min(super()._num_frozen(name, backprop_to), len(self.streams[name].layers))

    def set_backprop(self, backprop_to: str) -> None:
        """As of every network; with `prediction`, fusions below it are frozen too."""
        super().set_backprop(backprop_to)
        top = len(self.plan.spatial.layers) - 1
        for point, fusion in zip(self.plan.points, self.fusions, strict=True):
            fusion.requires_grad_(backprop_to != "prediction" or point.spatial == top)

    def _towers(self, rgb: Tensor | None, flow: Tensor | None, batch_size: int) -> Logits:
        fused, temporal = self._joined(rgb, flow, batch_size)
        if self.bilinear_classifier is not None:
            towers = {"spatiotemporal": self.bilinear_classifier(fused)}
        else:
            done = self.plan.points[-1].spatial + 1
            towers = {"spatiotemporal": self._run("spatial", fused, batch_size, done)}
        if self.settings.keep_temporal:
            done = self.plan.points[-1].temporal + 1
            towers["temporal"] = self._run("temporal", temporal, batch_size, done)
        return towers

    def _joined(self, rgb: Tensor | None, flow: Tensor | None, batch_size: int) -> tuple[Tensor, Tensor]:
        """The fused map after the last fusion, and the temporal one there."""
        spatial = self._entering("spatial", rgb)
        temporal = self._entering("temporal", flow)
        done = 0, 0
        for point, fusion in zip(self.plan.points, self.fusions, strict=True):
            spatial = self._run("spatial", spatial, batch_size, done[0], point.spatial + 1)
            temporal = self._run("temporal", temporal, batch_size, done[1], point.temporal + 1)
            spatial = fusion(spatial, temporal, batch_size)
            done = point.spatial + 1, point.temporal + 1
        return spatial, temporal

    def bilinear_features(self, rgb: Tensor, flow: Tensor) -> Tensor:
        """float32 (B, T', Cs*Ct), what the classifier of a bilinear network sees; T' as in `frame_logits`.

        Raises:
            SettingsError: The fusion is another one.
        """
        if self.bilinear_classifier is None:
            raise SettingsError(f"features are of `fusion` bilinear, this network has {self.settings.fusion}")
        batch_size = check_pair(rgb, flow)
        return by_clip(self._joined(rgb, flow, batch_size)[0].flatten(1), batch_size)


def make_stream(
    settings: ModelSettings,
    name: str,
    num_classes: int,
    end: int | None = None,
    extra: dict[int, int] | None = None,
) -> Stream:
    """The stream `name` of the network that `settings` describe, with random weights."""
    pools = settings.network == "fused" and settings.temporal_fusion != "pool2d"
    return Stream(
        backbone_of(getattr(settings, name), name),
        in_channels=3 if name == "spatial" else 2 * settings.stack_length,
        num_classes=num_classes,
        dropout=settings.dropout_of(name),
        pool=settings.pool_window if pools else None,
        end=end,
        extra_inputs=extra,
    )


def make_fusion(settings: ModelSettings, point: Point) -> Fusion:
    """The fusion at a point. Above the last pooling nothing is left but single vectors, and a convolution is 1x1."""
    match settings.fusion:
        case "sum":
            return SumFusion()
        case "max":
            return MaxFusion()
        case "concat":
            return ConcatFusion()
        case "bilinear":
            return BilinearFusion(over_time=settings.temporal_fusion != "pool2d" and not point.after_pooling)
    over_time = settings.temporal_fusion == "conv3d+pool3d" and not point.after_pooling
    kernel = 1 if point.after_pooling else settings.conv_kernel or (3 if over_time else 1)
    return ConvFusion(
        point.num_spatial,
        point.num_temporal,
        kernel=kernel,
        over_time=over_time,
        rectify=point.rectified,
        settings=settings,
    )
