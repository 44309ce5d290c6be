"""How far our flow is from OpenCV's (IPP off), from the NumPy reference, and from the truth.

OpenCV against itself, IPP on and off, stands beside it: where a pair is chaotic, that differs as much.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from common import Spread, print_table, spin_seconds
from tvl1_pairs import UNKNOWN_PX, Flow, Pair, flow_of, ipp, opencv

from flowprep.config import QuantiseSettings
from flowprep.flow import create_backend
from flowprep.flow.backend import FlowBackend
from flowprep.flow.tvl1.cpu import NativeBackend
from flowprep.flow.tvl1.params import TVL1CPUParameters, TVL1CUDAParameters
from flowprep.flow.tvl1.reference import WarpRecord, tvl1_flow
from flowprep.quantise import quantise

TARGET = {
    "median_px": 0.002,
    "mean_px": 0.02,
    "mean_px_share": 0.95,
    "equal_codes": 0.98,
    "within_one_level": 0.998,
    "worse_than_opencv_px": 0.002,
}
CROP_HEIGHT, CROP_WIDTH = 128, 160
HEADER = ("median px", "mean px", "max px", "equal %", "within 1 %")


class Difference(NamedTuple):
    """Of two flow fields: end-point differences (H, W) in pixels, and the larger difference of codes a pixel."""

    lengths_px: npt.NDArray[np.float64]
    levels: npt.NDArray[np.int64]

    @classmethod
    def of(cls, flow: Flow, other: Flow) -> Difference:
        """The difference of two flow fields, float32 (H, W, 2)."""
        codes = [np.stack(quantise(field, QuantiseSettings()), -1).astype(int) for field in (flow, other)]
        return cls(np.hypot(*np.moveaxis(flow.astype(float) - other, -1, 0)), np.abs(codes[0] - codes[1]).max(-1))

    @property
    def median_px(self) -> float:
        """Median over pixels."""
        return float(np.median(self.lengths_px))

    @property
    def mean_px(self) -> float:
        """Mean over pixels."""
        return float(self.lengths_px.mean())

    def within(self, levels: int) -> float:
        """Share of pixels with both codes within so many levels."""
        return float((self.levels <= levels).mean())

    def cells(self) -> tuple[str, ...]:
        """As cells of a table, see HEADER."""
        lengths = f"{self.median_px:.1e}", f"{self.mean_px:.1e}", f"{self.lengths_px.max():.2f}"
        return *lengths, f"{100 * self.within(0):.2f}", f"{100 * self.within(1):.2f}"


def pooled(differences: Sequence[Difference]) -> Difference:
    """All pixels of all pairs as one field."""
    lengths, levels = ([getattr(d, field).ravel() for d in differences] for field in Difference._fields)
    return Difference(np.concatenate(lengths), np.concatenate(levels))


def measure_accuracy(pairs: Sequence[Pair], truths: Sequence[Pair]) -> dict[str, Any]:
    """Variant `cpu` against OpenCV: print the tables; the figures, with `passed`."""
    backend = create_backend("native", variant="cpu")
    backend.warm_up()
    ours: list[Difference] = []
    itself: list[Difference] = []
    others: list[int] = []
    rows, ratios, spins, errors = [], [], [], []
    for pair in (*pairs, *truths):
        spins.append(1000 * spin_seconds())
        flows: dict[bool, Flow] = {}
        seconds = {}
        for on in (False, True):
            with ipp(on=on):
                start = time.perf_counter()
                flows[on] = opencv(pair.frames)()
                seconds[on] = time.perf_counter() - start
        ratios.append(seconds[True] / seconds[False])
        flow = flow_of(backend, pair.frames)
        others.append(_num_other_counts(backend, pair))
        ours.append(Difference.of(flow, flows[False]))
        itself.append(Difference.of(flows[True], flows[False]))
        motion = float(np.hypot(flow[..., 0], flow[..., 1]).mean())
        cells = (*ours[-1].cells(), *itself[-1].cells())
        rows.append((pair.name, pair.size, f"{motion:.2f}", others[-1], *cells))
        if pair.truth is not None:
            errors.append((pair.name, *(error_px(field, pair.truth) for field in (flow, flows[False], flows[True]))))
    print_table(
        "Variant cpu against OpenCV with IPP off; on the right OpenCV with IPP on against itself with IPP off. "
        "other it.: warps with another number of iterations than in the reference",
        ("pair", "size", "mean |u| px", "other it.", *HEADER, *HEADER),
        rows,
    )
    print_table("All pixels together", ("pairs", "compared", *HEADER), _pooled_rows(ours, itself, others, len(pairs)))
    print_table(
        "Mean end-point error against the truth, px",
        ("pair", "native cpu", "OpenCV, IPP off", "OpenCV, IPP on", "native - OpenCV"),
        [(name, *(f"{e:.4f}" for e in found), f"{found[0] - found[1]:+.5f}") for name, *found in errors],
    )
    ratio, spin = Spread.of(ratios), Spread.of(spins)
    print(f"\nOpenCV's time with IPP on / off: median {ratio.median:.3f}, {ratio.minimum:.2f} to {ratio.maximum:.2f}")
    print(f"A fixed loop before each pair: {spin.median:.0f} ms, {spin.minimum:.0f} to {spin.maximum:.0f}")
    worse = max((mine - theirs for _, mine, theirs, _ in errors), default=0.0)
    figures = _figures(ours)
    return {
        **figures,
        "opencv_itself": _figures(itself),
        "worse_than_opencv_px": round(worse, 6),
        "ipp_on_over_off_seconds": ratio.to_json(),
        "passed": figures["passed"] and worse <= TARGET["worse_than_opencv_px"],
    }


def _num_other_counts(backend: FlowBackend, pair: Pair) -> int:
    """Warps of the last pair with another number of iterations than in the reference; OpenCV does not tell its own."""
    assert isinstance(backend, NativeBackend)
    trace: list[WarpRecord] = []
    tvl1_flow(pair.frames[0], pair.frames[1], TVL1CPUParameters(), trace=trace)
    counts = backend.num_iterations[0, ::-1].ravel()
    return sum(int(mine != record.num_iterations) for mine, record in zip(counts, trace, strict=True))


def measure_reference(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Variant `cuda` against the NumPy reference, on the middle of real pairs; the figures, with `passed`."""
    differences, rows = [], []
    with create_backend("native", variant="cuda") as backend:
        backend.warm_up()
        for pair in pairs:
            top, left = (side // 2 - half for side, half in zip(pair.frames.shape[1:], (64, 80), strict=True))
            frames = pair.frames[:, top : top + CROP_HEIGHT, left : left + CROP_WIDTH].copy()
            found = Difference.of(flow_of(backend, frames), tvl1_flow(frames[0], frames[1], TVL1CUDAParameters()))
            differences.append(found)
            rows.append((pair.name, *found.cells()))
    print_table(
        f"Variant cuda against the NumPy reference, the {CROP_WIDTH}x{CROP_HEIGHT} pixels in the middle",
        ("pair", *HEADER),
        [*rows, ("all", *pooled(differences).cells())],
    )
    return _figures(differences)


def error_px(flow: Flow, truth: Flow) -> float:
    """Mean end-point error over the pixels whose truth is known."""
    known = (np.abs(truth) < UNKNOWN_PX).all(axis=-1)
    return float(np.hypot(*np.moveaxis(flow.astype(float) - truth, -1, 0))[known].mean())


def _pooled_rows(
    ours: Sequence[Difference], itself: Sequence[Difference], others: Sequence[int], num_real: int
) -> list[tuple[object, ...]]:
    groups = {
        "real, the reference's numbers of iterations": [k for k in range(num_real) if not others[k]],
        "real, others": [k for k in range(num_real) if others[k]],
        "real": list(range(num_real)),
        "all": list(range(len(ours))),
    }
    return [
        (f"{len(places)} {name}", compared, *pooled([found[k] for k in places]).cells())
        for name, places in groups.items()
        if places
        for compared, found in (("native and OpenCV", ours), ("OpenCV and itself", itself))
    ]


def _figures(differences: Sequence[Difference]) -> dict[str, Any]:
    """Against the bars; a median counts for each pair, codes for all pixels together."""
    every = pooled(differences)
    share = statistics.fmean(found.mean_px <= TARGET["mean_px"] for found in differences)
    largest = max(found.median_px for found in differences)
    figures = {
        "num_pairs": len(differences),
        "largest_median_px": round(largest, 7),
        "mean_px_share": round(share, 4),
        "equal_codes": round(every.within(0), 6),
        "within_one_level": round(every.within(1), 6),
    }
    passed = largest <= TARGET["median_px"] and all(
        figures[key] >= TARGET[key] for key in ("mean_px_share", "equal_codes", "within_one_level")
    )
    return {**figures, "passed": passed}
