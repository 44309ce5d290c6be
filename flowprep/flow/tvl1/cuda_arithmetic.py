"""The arithmetic of a pixel compiled for CUDA threads: `pointwise.py` and the median's networks as they stand.

Numba reads a literal 0.5 as a float64, and NVIDIA's compiler joins a product and a sum into a fused multiply-add
wherever it sees both. Either would change bits, the second differently from one copy of an unrolled loop to the next.
So the functions are translated from their source before they are compiled: literals become float32, and each `+`, `-`
and `*` becomes a function that rounds once and that no compiler joins. `fma` is the processor's. Division and root are
IEEE operations; there is no fast mathematics anywhere. Hence a pixel has the same bits in every kernel, at every place
of a tile and on every card.

In Numba's simulator (NUMBA_ENABLE_CUDASIM=1) the same functions run as Python on float32 numbers, where `fma` rounds
twice; that is the only operation that differs.
"""

from __future__ import annotations

import ast
import math
import types
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
from numba import config, cuda

SIMULATED = bool(config.ENABLE_CUDASIM)
"""Whether kernels run in Numba's simulator."""

_FOLDER = Path(__file__).parent
_OPERATORS: dict[type[ast.operator], str] = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul"}


def device_function(function: Callable[..., Any]) -> Any:
    """A function that kernels call. The simulator would spend most of its time on wrapping it, so there it stays."""
    return function if SIMULATED else cuda.jit(device=True)(function)


class _Translation(ast.NodeTransformer):
    """Float literals become float32; outside the simulator, operators become functions that round once."""

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if isinstance(node.value, float):
            return ast.copy_location(ast.Call(ast.Name("float32", ast.Load()), [node], []), node)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        name = _OPERATORS.get(type(node.op))
        if name is None or SIMULATED:
            return node
        return ast.copy_location(ast.Call(ast.Name(name, ast.Load()), [node.left, node.right], []), node)


def translated(
    file: str, given: dict[str, Any], names: Collection[str] = (), *, wrap: Callable[..., Any] = device_function
) -> dict[str, Any]:
    """Functions of a module of this folder, by name, compiled for the device.

    Args:
        file: The module's file name.
        given: What replaces functions of the module, and what the translation needs: `float32`, `add`, `sub`, `mul`.
        names: Functions to take, without their decorators; empty takes the module as it is.
        wrap: Makes a device function of each.
    """
    path = _FOLDER / file
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    if names:
        tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in names]
        for node in tree.body:
            assert isinstance(node, ast.FunctionDef)
            node.decorator_list, node.returns = [], None
            for argument in node.args.args:
                argument.annotation = None
    tree = ast.fix_missing_locations(_Translation().visit(tree))
    space: dict[str, Any] = {"__name__": f"{__name__}.{path.stem}", **given}
    exec(compile(tree, str(path), "exec", dont_inherit=True), space)  # noqa: S102 - our own source
    space |= given
    if SIMULATED:
        space["math"] = types.SimpleNamespace(sqrt=np.sqrt)  # Python's gives a float64
    functions = {name: value for name, value in space.items() if isinstance(value, types.FunctionType)}
    for name, function in functions.items():
        if function.__module__ == space["__name__"]:
            space[name] = wrap(function)  # in the space too, so that they call each other's compiled form
    return space


def _rounding() -> dict[str, Any]:
    """`add`, `sub`, `mul` and `fma`, each rounded once."""
    if SIMULATED:
        return {
            "add": lambda x, y: x + y,
            "sub": lambda x, y: x - y,
            "mul": lambda x, y: x * y,
            "fma": lambda x, y, z: x * y + z,
        }
    from numba.cuda import libdevice

    return {
        "add": device_function(lambda x, y: libdevice.fadd_rn(x, y)),
        "sub": device_function(lambda x, y: libdevice.fsub_rn(x, y)),
        "mul": device_function(lambda x, y: libdevice.fmul_rn(x, y)),
        "fma": device_function(lambda x, y, z: cuda.fma(x, y, z)),
    }


_given: dict[str, Any] = {"float32": np.float32, "math": math, **_rounding()}
_pointwise = translated("pointwise.py", _given)
_median = translated(
    "cpu_median.py",
    _given,
    ("sort3", "sort5", "median_of_sorted_columns", "_largest2", "_smallest2", "_largest3", "_smallest3"),
)

add, sub, mul, fma = _given["add"], _given["sub"], _given["mul"], _given["fma"]
linear = _pointwise["linear"]
central_difference = _pointwise["central_difference"]
cubic_weights = _pointwise["cubic_weights"]
linearise = _pointwise["linearise"]
residual = _pointwise["residual"]
threshold = _pointwise["threshold"]
divergence = _pointwise["divergence"]
primal_step = _pointwise["primal_step"]
dual_step = _pointwise["dual_step"]
sort3 = _median["sort3"]
sort5 = _median["sort5"]
median_of_sorted_columns = _median["median_of_sorted_columns"]
