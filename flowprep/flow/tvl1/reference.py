"""Dual TV-L1 optical flow in NumPy: slow, one function an equation, the oracle of the fast kernels.

Symbols as in the papers: I0, I1 images; u1, u2 the flow along x and y; v the flow before smoothing; p11, p12 the dual
variable of u1 (along x and y), p21, p22 that of u2; rho the residual; tau, lambda, theta as in the parameters; S the
error at which iterations end. u3, v3, p31, p32 belong to the change of illumination that OpenCV adds, with weight
gamma. Here `u` and `v` are lists of their two components, three where gamma is not 0, and `p` of as many pairs.

Sources: C. Zach, T. Pock, H. Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow", DAGM 2007, cited as
Zach; J. Sanchez Perez, E. Meinhardt-Llopis, G. Facciolo, "TV-L1 Optical Flow Estimation", IPOL 3 (2013) 137-150, cited
as IPOL; the behaviour of OpenCV, which differs from both and between its two variants.

Variant `cpu` is equal in every bit to `cv2.optflow.DualTVL1OpticalFlow` of the x86-64 wheel of OpenCV 5.1.0 with IPP
off (`tests/prep/test_tvl1_reference.py`), and so are its numbers of iterations. Two things differ: the last bits of a
pyramid with `scale_step` exactly 1/2 (see `resize_cpu`), and processors without AVX2 (see reference_sampling.py).
OpenCV 5.0.0 differs in one more, see `scaled`.

Variant `cuda` follows the source of `cv2.cuda.OpticalFlowDual_TVL1` of OpenCV 4 and 5; the compiler of a CUDA build
joins products and sums into FMA as it likes, here each is rounded. An initial flow, which OpenCV ignores there, counts.
"""

# ruff: noqa: N803, N806  (symbols as in the papers)

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flowprep.errors import SettingsError
from flowprep.flow.tvl1.params import MIN_SIDE, TVL1CPUParameters, TVL1CUDAParameters
from flowprep.flow.tvl1.reference_sampling import (
    Image,
    median_filter,
    resize_cpu,
    resize_cuda,
    warp_cpu,
    warp_cuda,
)

Parameters = TVL1CPUParameters | TVL1CUDAParameters
Flow = list[Image]
Dual = list[tuple[Image, Image]]


@dataclass(frozen=True, slots=True)
class WarpRecord:
    """What was done after one warp, so that implementations can be compared.

    `level` 0 is the finest. `num_median_filters` counts the rounds, each of which filters u1 and u2. `error` is the
    last that was computed, infinite where none was; iterations end when it is not above `S`.
    """

    level: int
    warp: int
    num_iterations: int
    num_median_filters: int
    error: float
    S: float


def tvl1_flow(
    I0: npt.NDArray[np.uint8] | Image,
    I1: npt.NDArray[np.uint8] | Image,
    parameters: Parameters,
    initial_flow: Image | None = None,
    trace: list[WarpRecord] | None = None,
) -> Image:
    """Flow from I0 to I1: I0(x, y) is I1(x + u1, y + u2) (Zach).

    Args:
        I0: uint8 (H, W), or float32 (H, W) in 0..1. Sides below 3 px are padded to 3 by repeating the last one.
        I1: Of the same shape and type.
        parameters: Their type tells the variant.
        initial_flow: float32 (H, W, 2) in pixels to start from; None is zero.
        trace: Receives a record a warp in the order of computation, the coarsest level first.

    Returns:
        float32 (H, W, 2), x then y, in pixels. Values that are not finite, in the images or the initial flow, spread
        by the rules of IEEE 754, if no median filter removes them. An error that is NaN ends the iterations of a warp.

    Raises:
        SettingsError: Shapes or types do not fit.
    """
    _check(I0, I1, initial_flow)
    with np.errstate(all="ignore"):
        u = _solve(_padded(_grey_levels(I0)), _padded(_grey_levels(I1)), parameters, initial_flow, trace)
    height, width = I0.shape
    return np.stack(u[:2], axis=-1)[:height, :width]


def _check(I0: npt.NDArray[np.uint8] | Image, I1: npt.NDArray[np.uint8] | Image, initial_flow: Image | None) -> None:
    if I0.ndim != 2 or 0 in I0.shape or I0.dtype not in (np.uint8, np.float32):
        raise SettingsError(f"`I0` must be uint8 or float32 (H, W), got {I0.dtype} {I0.shape}")
    if (I1.dtype, I1.shape) != (I0.dtype, I0.shape):
        raise SettingsError(f"`I1` must be {I0.dtype} {I0.shape} as `I0`, got {I1.dtype} {I1.shape}")
    if initial_flow is not None and (initial_flow.dtype != np.float32 or initial_flow.shape != (*I0.shape, 2)):
        raise SettingsError(
            f"`initial_flow` must be float32 {(*I0.shape, 2)}, got {initial_flow.dtype} {initial_flow.shape}"
        )


def _grey_levels(image: npt.NDArray[np.uint8] | Image) -> Image:
    """float32 in 0..255."""
    levels: Image = image.astype(np.float32)
    return levels if image.dtype == np.uint8 else levels * np.float32(255)


def _padded(image: Image) -> Image:
    height, width = image.shape
    return np.pad(image, ((0, max(MIN_SIDE - height, 0)), (0, max(MIN_SIDE - width, 0))), mode="edge")


# -- pyramid -----------------------------------------------------------------------------------------------------------


def _solve(
    I0: Image, I1: Image, parameters: Parameters, initial_flow: Image | None, trace: list[WarpRecord] | None
) -> Flow:
    """Flow of the finest level, from the coarsest on."""
    levels = [(I0, I1)]
    for _ in range(1, parameters.num_levels(*I0.shape)):
        levels.append((coarser(levels[-1][0], parameters), coarser(levels[-1][1], parameters)))
    coarsest = len(levels) - 1
    u = [np.zeros_like(levels[coarsest][0]) for _ in range(2 if parameters.gamma == 0 else 3)]
    if initial_flow is not None:
        u[:2] = [_padded(initial_flow[..., k]) for k in (0, 1)]
        for _ in range(coarsest):
            u[:2] = [scaled(coarser(component, parameters), parameters.scale_step) for component in u[:2]]
    for level in range(coarsest, -1, -1):
        if level < coarsest:
            u = upsampled(u, levels[level][0].shape, parameters)
        u = solve_level(*levels[level], u, parameters, level, trace)
    return u


def coarser(image: Image, parameters: Parameters) -> Image:
    """The next level of the pyramid: bilinear without smoothing, sizes rounded half to even."""
    height, width = (round(side * parameters.scale_step) for side in image.shape)
    inverse = 1 / parameters.scale_step
    resize = resize_cuda if isinstance(parameters, TVL1CUDAParameters) else resize_cpu
    return resize(image, height, width, inverse, inverse)


def upsampled(u: Flow, shape: tuple[int, ...], parameters: Parameters) -> Flow:
    """The flow at the size of the next finer level, u1 and u2 in its pixels; u3 is no length and stays."""
    height, width = shape
    inverse_y, inverse_x = 1 / (height / u[0].shape[0]), 1 / (width / u[0].shape[1])
    resize = resize_cuda if isinstance(parameters, TVL1CUDAParameters) else resize_cpu
    finer = [resize(component, height, width, inverse_y, inverse_x) for component in u]
    return [scaled(component, 1 / parameters.scale_step) for component in finer[:2]] + finer[2:]


def scaled(component: Image, factor: float) -> Image:
    """One component times a factor, both float32, as OpenCV does since 5.1.

    On the CPU, 5.0 and 4.x multiply in double and round the product. That is the same where float32 holds the factor,
    as it does the 1 / 0.8 of the default `scale_step`; a `scale_step` of 0.7, or an initial flow, has other last bits.
    """
    return component * np.float32(factor)


# -- one level ---------------------------------------------------------------------------------------------------------


def solve_level(
    I0: Image, I1: Image, u: Flow, parameters: Parameters, level: int, trace: list[WarpRecord] | None
) -> Flow:
    """Warp and iterate `num_warps` times. p is 0 at first and goes on from warp to warp."""
    I1x, I1y = centered_gradient(I1)
    p: Dual = [(np.zeros_like(I0), np.zeros_like(I0)) for _ in u]
    for warp in range(parameters.num_warps):
        data = linearised(I0, I1, I1x, I1y, u, parameters)
        if isinstance(parameters, TVL1CUDAParameters):
            u, p, counts = iterate_cuda(data, u, p, parameters)
        else:
            u, p, counts = iterate_cpu(data, u, p, parameters)
        if trace is not None:
            trace.append(WarpRecord(level, warp, *counts))
    return u


def centered_gradient(image: Image) -> tuple[Image, Image]:
    """Half the difference of both neighbours; at the border half of that to the one inside (IPOL)."""
    framed = np.pad(image, 1, mode="edge")
    half = np.float32(0.5)
    return half * (framed[1:-1, 2:] - framed[1:-1, :-2]), half * (framed[2:, 1:-1] - framed[:-2, 1:-1])


@dataclass(frozen=True, slots=True)
class DataTerm:
    """I1 around the flow u0 of the warp: rho(u) = rho_c + I1wx u1 + I1wy u2 (+ gamma u3) (Zach)."""

    I1wx: Image
    I1wy: Image
    grad: Image
    rho_c: Image


def linearised(I0: Image, I1: Image, I1x: Image, I1y: Image, u: Flow, parameters: Parameters) -> DataTerm:
    """The data term around u. The gradient is that of I1, warped; not that of I1 warped."""
    height, width = I0.shape
    x = np.arange(width, dtype=np.float32) + u[0]
    y = np.arange(height, dtype=np.float32)[:, None] + u[1]
    warp = warp_cuda if isinstance(parameters, TVL1CUDAParameters) else warp_cpu
    I1w, I1wx, I1wy = warp([I1, I1x, I1y], x, y)
    grad = I1wx * I1wx + I1wy * I1wy
    rho_c = I1w - I1wx * u[0] - I1wy * u[1] - I0
    return DataTerm(I1wx, I1wy, grad, rho_c)


# -- iterations after a warp -------------------------------------------------------------------------------------------

_Counts = tuple[int, int, float, float]
"""The last four fields of WarpRecord."""


def iterate_cuda(data: DataTerm, u: Flow, p: Dual, parameters: TVL1CUDAParameters) -> tuple[Flow, Dual, _Counts]:
    """At most `iterations`. The error is computed at odd ones, after a large one not for long.

    Each iteration without a check takes S from the error of the last one, and there is no check until that is below S:
    after error e at iteration n the next check is at n + 2j with the smallest j >= 1 for which e < 2jS.
    """
    height, width = data.grad.shape
    S = parameters.epsilon * parameters.epsilon * width * height
    error, expected_error, last_error = math.inf, 0.0, math.inf
    n = 0
    while error > S and n < parameters.iterations:
        u_old = u
        u = primal_step(data, u_old, p, parameters)
        if parameters.epsilon > 0 and n % 2 == 1 and expected_error < S:
            error = expected_error = last_error = change_cuda(u_old, u)
        else:
            error = math.inf
            expected_error -= S
        p = dual_step(u, p, parameters)
        n += 1
    return u, p, (n, 0, last_error, S)


def iterate_cpu(data: DataTerm, u: Flow, p: Dual, parameters: TVL1CPUParameters) -> tuple[Flow, Dual, _Counts]:
    """At most `outer_iterations` of a median filter and `inner_iterations`, the error computed at each of these."""
    S = float(np.float32(parameters.epsilon * parameters.epsilon * data.grad.size))
    error = math.inf
    num_iterations = num_median_filters = 0
    for _ in range(parameters.outer_iterations):
        if not error > S:
            break
        if parameters.median_filtering > 1:
            u = [median_filter(component, parameters.median_filtering) for component in u[:2]] + u[2:]
            num_median_filters += 1
        for _ in range(parameters.inner_iterations):
            if not error > S:
                break
            u_old = u
            u = primal_step(data, u_old, p, parameters)
            error = change_cpu(u_old, u)
            p = dual_step(u, p, parameters)
            num_iterations += 1
    return u, p, (num_iterations, num_median_filters, error, S)


def primal_step(data: DataTerm, u: Flow, p: Dual, parameters: Parameters) -> Flow:
    """The new u = v + theta div p (Zach)."""
    theta = np.float32(parameters.theta)
    v = thresholded(data, u, parameters)
    return [vd + theta * divergence(pd1, pd2) for vd, (pd1, pd2) in zip(v, p, strict=True)]


def thresholded(data: DataTerm, u: Flow, parameters: Parameters) -> Flow:
    """v, which minimises lambda |rho(v)| + |u - v|^2 / (2 theta) (Zach: the thresholding step)."""
    lt = np.float32(parameters.lambda_ * parameters.theta)
    gamma = np.float32(parameters.gamma)
    rho = residual(data, u, parameters)
    cases = [rho < -lt * data.grad, rho > lt * data.grad, data.grad > np.finfo(np.float32).eps]
    with np.errstate(divide="ignore", invalid="ignore"):  # where grad is 0, another case is taken
        step: Image = np.select(cases, [lt, -lt, -rho / data.grad], np.float32(0))
    v = [u[0] + step * data.I1wx, u[1] + step * data.I1wy]
    return v if parameters.gamma == 0 else [*v, u[2] + step * gamma]


def residual(data: DataTerm, u: Flow, parameters: Parameters) -> Image:
    """rho(u) (Zach)."""
    change: Image = data.I1wx * u[0] + data.I1wy * u[1]
    if parameters.gamma == 0:
        return data.rho_c + change
    illumination = np.float32(parameters.gamma) * u[2]
    if isinstance(parameters, TVL1CUDAParameters):
        return data.rho_c + (change + illumination)
    return (data.rho_c + change) + illumination


def divergence(p1: Image, p2: Image) -> Image:
    """Backward differences of p1 along x plus those of p2 along y, p being 0 outside (IPOL).

    Negative adjoint of `forward_gradient` where p1 is 0 in the last column and p2 in the last row, as they stay here.
    """
    along_x, along_y = p1.copy(), p2.copy()
    along_x[:, 1:] -= p1[:, :-1]
    along_y[1:] -= p2[:-1]
    div = along_x + along_y
    div[1:, 0] = (p1[1:, 0] + p2[1:, 0]) - p2[:-1, 0]  # OpenCV adds from left to right
    return div


def dual_step(u: Flow, p: Dual, parameters: Parameters) -> Dual:
    """The new p = (p + tau/theta grad u) / (1 + tau/theta |grad u|), each component by itself (IPOL)."""
    taut = np.float32(parameters.tau / parameters.theta)
    new = []
    for ud, (pd1, pd2) in zip(u, p, strict=True):
        udx, udy = forward_gradient(ud)
        ng = np.float32(1) + taut * magnitude(udx, udy, parameters)
        new.append(((pd1 + taut * udx) / ng, (pd2 + taut * udy) / ng))
    return new


def forward_gradient(u: Image) -> tuple[Image, Image]:
    """Differences to the right and lower neighbours, 0 in the last column and row (IPOL)."""
    ux, uy = np.zeros_like(u), np.zeros_like(u)
    ux[:, :-1] = u[:, 1:] - u[:, :-1]
    uy[:-1] = u[1:] - u[:-1]
    return ux, uy


def magnitude(ux: Image, uy: Image, parameters: Parameters) -> Image:
    """|grad u|; variant `cuda` in float32, variant `cpu` in float64 and rounded."""
    if isinstance(parameters, TVL1CUDAParameters):
        return np.hypot(ux, uy)
    return np.hypot(ux.astype(np.float64), uy.astype(np.float64)).astype(np.float32)


# -- stop rule (IPOL, without the division by the number of pixels) ----------------------------------------------------


def change_cuda(u_old: Flow, u: Flow) -> float:
    """Sum of |u_old - u|^2 over all pixels, without u3: float32 a pixel, added in float64."""
    d1, d2 = (u_old[k] - u[k] for k in (0, 1))
    return float(np.sum(d1 * d1 + d2 * d2, dtype=np.float64))


def change_cpu(u_old: Flow, u: Flow) -> float:
    """Sum of |u_old - u|^2 over all pixels, with u3: added in float32 pixel by pixel, row by row."""
    squares = [(old - new) * (old - new) for old, new in zip(u_old, u, strict=True)]
    return float(np.cumsum(sum(squares[1:], squares[0]))[-1])
