"""The arithmetic of one pixel of TV-L1, written once for every processor.

These functions are plain Python on numbers. The CPU kernels compile them for vectors of 16 pixels (`simd.py`), CUDA
kernels for single pixels, and tests run them as they stand. They use nothing but operators, `min`, `max` and the three
functions at the head, which a target may replace by instructions of its own; none of them branches.

Note [roundings of u]: what makes u (`residual`, `threshold`, `primal_step`) has OpenCV's operations in OpenCV's order,
without `fma`; what makes p has `fma`, and one inverse for two divisions, since that is where the time is. Docs/log.md
has what each of OpenCV's roundings costs, and what it is good for.

Symbols as in Zach, Pock, Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow" (DAGM 2007), and Sanchez,
Meinhardt-Llopis, Facciolo (IPOL 3, 2013): u flow, p dual variables, rho residual, theta coupling, lambda data weight.
"""

from __future__ import annotations

import math
from typing import Any

FLT_EPSILON = 1.1920929e-07
"""Squared gradients up to this count as none (OpenCV)."""

_FLAT = 1e-30
"""Stands for |grad|^2 where there is no gradient: what is divided by it is beyond every limit, and zero stays zero."""


def fma(x: Any, y: Any, z: Any) -> Any:
    """X * y + z, rounded once where the processor can."""
    return x * y + z


def select(condition: Any, x: Any, y: Any) -> Any:
    """`x` where the condition holds, else `y`; both are computed."""
    return x if condition else y


def damping(x: Any, y: Any, factor: Any) -> Any:
    """1 / (1 + factor * sqrt(x^2 + y^2))."""
    return 1.0 / fma(factor, math.sqrt(fma(x, x, y * y)), 1.0)


def linear(first: Any, second: Any, weight: Any) -> Any:
    """Linear interpolation from `first` (weight 0) to `second` (weight 1), with OpenCV's roundings."""
    return first * (1.0 - weight) + second * weight


def central_difference(before: Any, after: Any) -> Any:
    """Half the difference of a pixel's neighbours."""
    return (after - before) * 0.5


def cubic_weights(t: Any, a: Any) -> Any:
    """Weights of the pixels at -1, 0, 1, 2 for a place between 0 and 1: R. Keys' cubic convolution (1981).

    `a` is -0.5 for Catmull-Rom (OpenCV's CUDA TV-L1) and -0.75 for OpenCV's `remap`. The weights sum to 1.
    """
    s = 1.0 - t
    first = ((s * s) * t) * a
    last = ((t * t) * s) * a
    second = fma(t * t, fma(t, a + 2.0, -(a + 3.0)), 1.0)
    return first, second, ((1.0 - first) - second) - last, last


def linearise(warped: Any, i1x: Any, i1y: Any, i0: Any, u1: Any, u2: Any) -> Any:
    """What a warp leaves for the iterations: rho_c = I1(x + u0) - <grad I1, u0> - I0, and -|grad I1|^2.

    Zach et al., equation 9. Where there is no gradient the second is a negative number that is nearly 0.
    """
    square = i1x * i1x + i1y * i1y
    rho_c = ((warped - i1x * u1) - i1y * u2) - i0
    return rho_c, select(square > FLT_EPSILON, -square, -_FLAT)


def residual(rho_c: Any, i1x: Any, i1y: Any, u1: Any, u2: Any) -> Any:
    """Rho(u) = rho_c + <grad I1, u>."""
    return rho_c + (i1x * u1 + i1y * u2)


def threshold(rho: Any, minus_square: Any, limit: Any) -> Any:
    """How far along grad I1 the data term moves u, for limit = lambda * theta (Zach et al., equation 12).

    The three cases of the equation are one clamp: -rho / |grad I1|^2 between -limit and limit.
    """
    return max(min(rho / minus_square, limit), -limit)


def divergence(p1: Any, p1_left: Any, p2: Any, p2_above: Any) -> Any:
    """Backward differences of (p1, p2); those of neighbours outside the image are 0."""
    return (p1 - p1_left) + (p2 - p2_above)


def primal_step(u: Any, step: Any, i1_derivative: Any, div_p: Any, theta: Any) -> Any:
    """U = v + theta * div p, with v = u + step * dI1 (Zach et al., equations 10 and 12)."""
    return (u + step * i1_derivative) + theta * div_p


def dual_step(p1: Any, p2: Any, ux: Any, uy: Any, taut: Any) -> Any:
    """One step of Chambolle's iteration for a component of u, with taut = tau / theta (Zach et al., equation 11)."""
    scale = damping(ux, uy, taut)
    return fma(taut, ux, p1) * scale, fma(taut, uy, p2) * scale
