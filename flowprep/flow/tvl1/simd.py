"""Vectors of 16 float32 for Numba: what stands in the code is what the processor executes.

Numba leaves vectorisation to LLVM, which gives up silently: on indices that may wrap around, on arrays that may
overlap, on reductions whose order it must keep. The kernels here say it themselves. A `f32x16` is a value like a float:
`+ - * /`, comparisons, `min`, `max`, `abs`, `math.floor` and the functions below work on it, a scalar beside one is
spread over all lanes, and the arithmetic of `pointwise.py` compiles for it as it stands.

Every operation is one IEEE operation a lane, in the order written, with `fma` only where it is written; nothing is
reassociated. So results depend neither on the loop around an expression nor on the width of the machine's registers:
LLVM makes one AVX-512, two AVX2 or four NEON instructions of an operation. Nor do they depend on the processor: the one
approximate instruction that is used leaves no trace, see Note [estimates change no bit].

Loads and stores are unaligned and unchecked, by pointers to float32 (`pointer_to`).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import llvmlite.ir as ir
from numba.core import cgutils, types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, lower_cast, models, overload, register_jitable, register_model

from flowprep.flow.tvl1 import pointwise

LANES = 16

_F32 = ir.FloatType()
_I32 = ir.IntType(32)
_VECTOR = ir.VectorType(_F32, LANES)
_MASK = ir.VectorType(ir.IntType(1), LANES)
_FLOATS = types.CPointer(types.float32)  # type: ignore[attr-defined]
_FLUSH = 0x8040
"""Bits FTZ and DAZ of MXCSR: denormal results and operands count as 0."""


class _VectorType(types.Type):
    """Numba's type of 16 float32."""


class _MaskType(types.Type):
    """Numba's type of 16 booleans."""


f32x16 = _VectorType("f32x16")
mask16 = _MaskType("mask16")


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _VECTOR)


@register_model(_MaskType)
class _MaskModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _MASK)


def _constant(value: float) -> ir.Constant:
    return ir.Constant(_VECTOR, [value] * LANES)


def _spread(builder: Any, scalar: Any) -> Any:
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


def _call(builder: Any, name: str, arguments: list[Any]) -> Any:
    """A call of an LLVM intrinsic that gives a vector."""
    kind = ir.FunctionType(_VECTOR, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    return _call(builder, "llvm.fma.v16f32", [x, y, z])


@lower_cast(types.Float, f32x16)  # type: ignore[untyped-decorator]
@lower_cast(types.Integer, f32x16)  # type: ignore[untyped-decorator]
def _scalar_to_vector(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    return _spread(builder, context.cast(builder, value, source, types.float32))


# Operators. A template says that an operator takes vectors (scalars are cast), a builtin says what it becomes.


def _takes_vectors(operation: Any, result: types.Type) -> None:
    class Template(AbstractTemplate):  # type: ignore[misc]
        key = operation

        def generic(self, arguments: tuple[types.Type, ...], keywords: dict[str, types.Type]) -> Any:
            if f32x16 in arguments and all(kind == f32x16 or isinstance(kind, types.Number) for kind in arguments):
                return signature(result, *[f32x16] * len(arguments))
            return None

    infer_global(operation)(Template)


def _define(operation: Any, num_arguments: int, emit: Callable[..., Any], result: types.Type = f32x16) -> None:
    _takes_vectors(operation, result)

    @lower_builtin(operation, *[f32x16] * num_arguments)  # type: ignore[untyped-decorator]
    def lower(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return emit(builder, *arguments)


_define(operator.add, 2, lambda builder, x, y: builder.fadd(x, y))
_define(operator.sub, 2, lambda builder, x, y: builder.fsub(x, y))
_define(operator.mul, 2, lambda builder, x, y: builder.fmul(x, y))
_define(operator.truediv, 2, lambda builder, x, y: builder.fdiv(x, y))
_define(operator.neg, 1, lambda builder, x: builder.fneg(x))
_define(operator.lt, 2, lambda builder, x, y: builder.fcmp_ordered("<", x, y), mask16)
_define(operator.le, 2, lambda builder, x, y: builder.fcmp_ordered("<=", x, y), mask16)
_define(operator.gt, 2, lambda builder, x, y: builder.fcmp_ordered(">", x, y), mask16)
_define(operator.ge, 2, lambda builder, x, y: builder.fcmp_ordered(">=", x, y), mask16)
# Where x is not a number, min and max give y; x86 has just that as one instruction.
_define(min, 2, lambda builder, x, y: builder.select(builder.fcmp_ordered("<", x, y), x, y))
_define(max, 2, lambda builder, x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y))
_define(abs, 1, lambda builder, x: _call(builder, "llvm.fabs.v16f32", [x]))
_define(math.floor, 1, lambda builder, x: _call(builder, "llvm.floor.v16f32", [x]))


class _And(AbstractTemplate):  # type: ignore[misc]
    key = operator.and_

    def generic(self, arguments: tuple[types.Type, ...], keywords: dict[str, types.Type]) -> Any:
        return signature(mask16, mask16, mask16) if arguments == (mask16, mask16) else None


infer_global(operator.and_)(_And)


@lower_builtin(operator.and_, mask16, mask16)  # type: ignore[untyped-decorator]
def _lower_and(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
    return builder.and_(*arguments)


# Functions of kernels.


@intrinsic  # type: ignore[untyped-decorator]
def splat(typing: Any, value: Any) -> Any:
    """A vector with `value` in all lanes."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return _spread(builder, context.cast(builder, arguments[0], sig.args[0], types.float32))

    return f32x16(value), generate


@intrinsic  # type: ignore[untyped-decorator]
def lane_numbers(typing: Any) -> Any:
    """The vector 0, 1, .. 15."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return ir.Constant(_VECTOR, [float(lane) for lane in range(LANES)])

    return f32x16(), generate


@intrinsic  # type: ignore[untyped-decorator]
def load(typing: Any, pointer: Any, index: Any) -> Any:
    """The vector pointer[index] .. pointer[index + 15]."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        value = builder.load(_address(builder, *arguments))
        value.align = 4
        return value

    return f32x16(_FLOATS, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def store(typing: Any, pointer: Any, index: Any, vector: Any) -> Any:
    """Set pointer[index] .. pointer[index + 15]."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        instruction = builder.store(arguments[2], _address(builder, *arguments[:2]))
        instruction.align = 4
        return context.get_dummy_value()

    return types.void(_FLOATS, types.intp, f32x16), generate


def _address(builder: Any, pointer: Any, index: Any) -> Any:
    return builder.bitcast(builder.gep(pointer, [index]), _VECTOR.as_pointer())


@intrinsic  # type: ignore[untyped-decorator]
def pointer_to(typing: Any, array: Any) -> Any:
    """Where an array's elements begin. Kernels hand pointers on: Numba counts references to arrays at every call.

    `pointer[i]` reads and writes an element, unchecked; the array must outlive it.
    """

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return context.make_array(sig.args[0])(context, builder, arguments[0]).data

    return types.CPointer(array.dtype)(array), generate  # type: ignore[attr-defined]


@intrinsic  # type: ignore[untyped-decorator]
def shifted(typing: Any, before: Any, vector: Any) -> Any:
    """Lane 15 of `before`, then lanes 0 to 14 of `vector`: each pixel's left neighbour, without a load across lines."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        indices = ir.Constant(ir.VectorType(_I32, LANES), list(range(LANES - 1, 2 * LANES - 1)))
        return builder.shuffle_vector(*arguments, indices)

    return f32x16(f32x16, f32x16), generate


@intrinsic  # type: ignore[untyped-decorator]
def offset(typing: Any, pointer: Any, index: Any) -> Any:
    """The pointer to `pointer[index]`."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.gep(arguments[0], [arguments[1]])

    return pointer(pointer, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def flush_denormals(typing: Any) -> Any:
    """Let this thread's vector unit take denormal numbers as 0, and give the state for `restore_state`.

    Flow that dies away in still parts of an image ends in denormals, on which each operation costs a hundred times as
    much: a pair of equal frames took three times as long as a moving one. Nothing is done on other than x86.
    """

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        if not context.codegen().magic_tuple()[0].startswith("x86_64"):
            return ir.Constant(_I32, 0)
        room = cgutils.alloca_once(builder, _I32)
        _control_register(builder, "stmxcsr", room)
        before = builder.load(room)
        builder.store(builder.or_(before, ir.Constant(_I32, _FLUSH)), room)
        _control_register(builder, "ldmxcsr", room)
        return before

    return types.int32(), generate


@intrinsic  # type: ignore[untyped-decorator]
def restore_state(typing: Any, state: Any) -> Any:
    """Undo `flush_denormals`."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        if context.codegen().magic_tuple()[0].startswith("x86_64"):
            room = cgutils.alloca_once(builder, _I32)
            builder.store(arguments[0], room)
            _control_register(builder, "ldmxcsr", room)
        return context.get_dummy_value()

    return types.void(types.int32), generate


def _control_register(builder: Any, instruction: str, room: Any) -> None:
    pointer = builder.bitcast(room, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [pointer.type])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{instruction}"), [pointer])


@intrinsic  # type: ignore[untyped-decorator]
def lane_sum(typing: Any, vector: Any) -> Any:
    """The float32 sum of all lanes, in a fixed order: lanes 0-7 + 8-15, then 0-3 + 4-7, and so on."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return _halve(builder, arguments[0], builder.fadd)

    return types.float32(f32x16), generate


@intrinsic  # type: ignore[untyped-decorator]
def lane_min(typing: Any, vector: Any) -> Any:
    """The smallest lane."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return _halve(builder, arguments[0], lambda x, y: builder.select(builder.fcmp_ordered("<", x, y), x, y))

    return types.float32(f32x16), generate


def _halve(builder: Any, vector: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """Combine the lower half of the lanes with the upper one until one lane is left."""
    num_lanes = LANES
    while num_lanes > 1:
        num_lanes //= 2
        undefined = ir.Constant(vector.type, ir.Undefined)
        indices = ir.VectorType(_I32, num_lanes)
        lower = builder.shuffle_vector(vector, undefined, ir.Constant(indices, list(range(num_lanes))))
        upper = builder.shuffle_vector(vector, undefined, ir.Constant(indices, list(range(num_lanes, 2 * num_lanes))))
        vector = combine(lower, upper)
    return builder.extract_element(vector, ir.Constant(_I32, 0))


@intrinsic  # type: ignore[untyped-decorator]
def any_lane(typing: Any, mask: Any) -> Any:
    """Whether a lane of the mask is set."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[0], ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(mask16), generate


@intrinsic  # type: ignore[untyped-decorator]
def without(typing: Any, mask: Any, other: Any) -> Any:
    """The lanes of `mask` that `other` does not have."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.and_(arguments[0], builder.not_(arguments[1]))

    return mask16(mask16, mask16), generate


# What the functions of `pointwise.py` stand for on vectors and on scalars.


@intrinsic  # type: ignore[untyped-decorator]
def _vector_fma(typing: Any, x: Any, y: Any, z: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return _fma(builder, *arguments)

    return f32x16(f32x16, f32x16, f32x16), generate


@overload(pointwise.fma, strict=False)  # type: ignore[untyped-decorator]
def _fma_overload(x: Any, y: Any, z: Any) -> Any:
    return (lambda x, y, z: _vector_fma(x, y, z)) if f32x16 in (x, y, z) else None


@intrinsic  # type: ignore[untyped-decorator]
def _vector_select(typing: Any, mask: Any, x: Any, y: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.select(*arguments)

    return f32x16(mask16, f32x16, f32x16), generate


@overload(pointwise.select, strict=False)  # type: ignore[untyped-decorator]
def _select_overload(condition: Any, x: Any, y: Any) -> Any:
    return (lambda condition, x, y: _vector_select(condition, x, y)) if condition == mask16 else None


@intrinsic  # type: ignore[untyped-decorator]
def _vector_damping(typing: Any, x: Any, y: Any, factor: Any) -> Any:
    """An IEEE root, and an inverse by two Newton steps from an estimate; with AVX-512 from its 14-bit instruction.

    Note [estimates change no bit]: after the second step the inverse is the same float whatever the estimate was, from
    12 bits to one unit in the last place: the correctly rounded one, but for 3 of 2^23 mantissas, where it is a
    neighbour. So a processor's own estimate leaves no trace, and flow has the same bits with AVX-512 as with IEEE
    divisions (`test_tvl1_simd.py`), which take a tenth to a fifth more time.
    """

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        x, y, factor = arguments
        one = _constant(1.0)
        root = _call(builder, "llvm.sqrt.v16f32", [_fma(builder, x, x, builder.fmul(y, y))])
        divisor = _fma(builder, factor, root, one)
        if "+avx512f" in context.codegen().magic_tuple()[2]:
            every_lane = [_constant(0.0), ir.Constant(ir.IntType(16), -1)]
            inverse = _call(builder, "llvm.x86.avx512.rcp14.ps.512", [divisor, *every_lane])
        else:
            # As good as such an estimate and no better: from the very inverse, the greatest mantissa would not change.
            inverse = builder.fdiv(_constant(1.0 - 2.0**-13), divisor)
        minus = builder.fneg(divisor)
        for _ in range(2):
            inverse = _fma(builder, inverse, _fma(builder, minus, inverse, one), inverse)
        return inverse

    return f32x16(f32x16, f32x16, f32x16), generate


@overload(pointwise.damping, strict=False)  # type: ignore[untyped-decorator]
def _damping_overload(x: Any, y: Any, factor: Any) -> Any:
    return (lambda x, y, factor: _vector_damping(x, y, factor)) if f32x16 in (x, y) else None


for _function in (
    pointwise.central_difference,
    pointwise.cubic_weights,
    pointwise.divergence,
    pointwise.dual_step,
    pointwise.linear,
    pointwise.linearise,
    pointwise.primal_step,
    pointwise.residual,
    pointwise.threshold,
):
    register_jitable(_function)
