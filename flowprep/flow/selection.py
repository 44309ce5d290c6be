"""Which backends run here, which one a name means, and how one is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowprep.config import BACKENDS, FlowSettings
from flowprep.errors import BackendUnavailableError
from flowprep.flow.parameters import parse_parameters
from flowprep.flow.probe import find_obstacle

if TYPE_CHECKING:
    from flowprep.flow.backend import FlowBackend

AUTO_ORDER = ("native-cuda", "native")
"""What `auto` tries, best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendStatus:
    """A backend, its TV-L1 variants, and whether it runs here; `reason` and `cure` are empty where it does."""

    name: str
    variants: tuple[str, ...]
    available: bool
    reason: str = ""
    cure: str = ""


def backends() -> list[BackendStatus]:
    """Every backend, with the reason and the cure for each that cannot run here."""
    return [_status(name) for name in BACKENDS]


def resolve(
    backend: str = "auto", variant: str | None = None, cpu_baseline: str | None = None, *, here: bool = True
) -> tuple[str, str | None]:
    """The backend and variant that a choice means on this machine.

    `auto` is the best backend of our own that runs here and has the variant. A backend that is named is never replaced
    by another one. With a `cpu_baseline`, which is for `native`, `auto` means that. Without a variant, either takes
    `cuda` where it has it, else `cpu`, else (dis, farneback) None. One that is named for another machine, not `here`,
    is not tried.

    Raises:
        SettingsError: There is no such backend, or it has no such variant.
        BackendUnavailableError: It cannot run here; the message has the reason and the cure.
    """
    FlowSettings(backend=backend, variant=variant)  # refuses unknown names and variants
    if backend != "auto":
        if here:
            _require(_status(backend))
        variants = BACKENDS[backend]
        return backend, variant or (variants[0] if variants else None)
    candidates = []
    for name in AUTO_ORDER if cpu_baseline is None else ("native",):
        if variant is not None and variant not in BACKENDS[name]:
            continue
        status = _status(name)
        candidates.append(status)
        if status.available:
            return status.name, variant or status.variants[0]
    wanted = f"TV-L1 variant {variant}" if variant else "TV-L1"
    reasons = "; ".join(f"{status.name}: {status.reason} ({status.cure})" for status in candidates)
    raise BackendUnavailableError(f"no backend for {wanted} runs here: {reasons}")


def create_backend(
    name: str = "auto",
    *,
    variant: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    device: int = 0,
    num_threads: int = 1,
    cpu_baseline: str | None = None,
) -> FlowBackend:
    """Make a backend for one worker (never share one between threads). Close it, or use it in a `with` statement.

    Args:
        name: A backend, or `auto`, as `resolve` takes it.
        variant: `cuda` or `cpu`, or None for what the backend has.
        parameters: Algorithm parameters by name, see `parameter_names`; those not given have OpenCV's defaults.
        device: CUDA device, counted from 0; CPU backends ignore it.
        num_threads: Threads that `native` computes with; the others ignore it. It changes no result.
        cpu_baseline: Processor that `native` compiles for, one of `config.CPU_BASELINES`, or None for the one at hand.

    Raises:
        SettingsError: A name, variant or parameter is wrong.
        BackendUnavailableError: The backend or device is not there; the message has the reason and the cure.
    """
    name, variant = resolve(name, variant, cpu_baseline)
    FlowSettings(backend=name, variant=variant, cpu_baseline=cpu_baseline)
    values = parse_parameters(name, variant, parameters or {})
    if name == "opencv-cuda":
        from flowprep.flow.opencv_cuda import TVL1CUDABackend

        return TVL1CUDABackend(values, device=device)
    if name == "native-cuda":
        from flowprep.flow.tvl1.cuda import NativeCUDABackend

        return NativeCUDABackend(values, device=device)
    if name == "native":
        from flowprep.flow.tvl1.jit import select_target

        select_target(cpu_baseline)  # before any kernel is seen
        from flowprep.flow.tvl1.cpu import NativeBackend

        return NativeBackend(values, num_threads=num_threads)
    from flowprep.flow.opencv import DISBackend, FarnebackBackend, TVL1Backend

    if name == "opencv":
        return TVL1Backend(values)
    return DISBackend(values) if name == "dis" else FarnebackBackend(values)


def _status(name: str) -> BackendStatus:
    obstacle = find_obstacle(name)
    if obstacle is None:
        return BackendStatus(name=name, variants=BACKENDS[name], available=True)
    return BackendStatus(
        name=name, variants=BACKENDS[name], available=False, reason=obstacle.reason, cure=obstacle.cure
    )


def _require(status: BackendStatus) -> None:
    if not status.available:
        raise BackendUnavailableError(f"flow backend {status.name} cannot run here: {status.reason}; {status.cure}")
