"""The kernels compile to PTX without a GPU, and hold no accident: float64, local memory, joined operations.

Needs NVIDIA's compiler library, which `pip install "flowprep[cuda]"` brings.
"""

from __future__ import annotations

import re
import types
from typing import Any

import pytest

pytest.importorskip("numba_cuda", reason="the kernels are of numba-cuda: pip install numba-cuda")

from helpers.gpu import REQUIRED
from numba import cuda, float32, void

from flowprep.flow.tvl1 import cuda_fields, cuda_images, cuda_median, cuda_quantise, cuda_stop, cuda_warp
from flowprep.flow.tvl1.cuda_arithmetic import SIMULATED
from flowprep.flow.tvl1.cuda_kernel import Kernel
from flowprep.flow.tvl1.cuda_solve import make_iterate
from flowprep.flow.tvl1.cuda_tiles import TILE, TILE_WITH_ILLUMINATION

DOUBLES = {"_begin", "_decide", "_quantise", "_measure"}
"""Kernels that compute in float64 on purpose: the sums of the stop rule, and codes."""


def has_compiler() -> bool:
    def nothing(array: Any) -> None:
        array[0] = 1

    try:
        cuda.compile_ptx(nothing, void(float32[::1]), cc=(9, 0))
    except Exception:  # noqa: BLE001 - each release of numba-cuda has another one
        return REQUIRED
    return True


pytestmark = pytest.mark.skipif(
    SIMULATED or not has_compiler(),
    reason='no NVVM that this NumPy does for: pip install "numba-cuda[cu12]" "numpy<2.5"',
)

KERNELS: dict[str, Kernel] = {
    kernel.name: kernel
    for module in (cuda_images, cuda_fields, cuda_warp, cuda_median, cuda_stop, cuda_quantise)
    for kernel in vars(module).values()
    if isinstance(kernel, Kernel)
}
KERNELS |= {
    f"iterate {'with' if illumination else 'without'} illumination, {'each' if each else 'last'}": make_iterate(
        TILE_WITH_ILLUMINATION if illumination else TILE, illumination=illumination, records_each=each
    )
    for illumination in (False, True)
    for each in (False, True)
}


def test_no_kernel_is_left_out() -> None:
    assert len(KERNELS) == 18


@pytest.mark.parametrize("capability", [(7, 5, ""), (8, 0, ""), (9, 0, "a")], ids=str)  # as numba-cuda names them
@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_compiles_to_what_it_says(
    name: str, capability: tuple[int, int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from numba.cuda import dispatcher

    device = types.SimpleNamespace(compute_capability=capability[:2])
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: device)  # which functions are compiled for
    kernel = KERNELS[name]
    ptx: Any
    ptx, _ = cuda.compile_ptx(kernel.function, void(*kernel.types), cc=capability)
    assert re.search(rf"\.target sm_{''.join(map(str, capability))}\b", ptx)
    assert (".f64" in ptx) == (name in DOUBLES)
    assert ".local" not in ptx
    assert "approx" not in ptx
    assert not re.search(r"\bcall\b", ptx)
    # `mul.f32` may be joined with a sum, `mul.rn.f32` may not.
    assert not re.search(r"\b(mul|add|sub)\.f32", ptx)
    assert not re.search(r"\bfma\.rn\.f64", ptx)
    if name == "_decide":  # all threads have read the pair's status before the first one may write it, sums or none
        assert "st." not in ptx.split("bar.sync")[0]
    if name.startswith("iterate"):
        tile = TILE_WITH_ILLUMINATION if "with " in name else TILE
        num_roots = (3 if "with " in name else 2) * tile.rows
        assert len(re.findall(r"sqrt\.rn\.f32", ptx)) == len(re.findall(r"rcp\.rn\.f32", ptx)) == num_roots
        assert ptx.count("bar.sync") == 2
