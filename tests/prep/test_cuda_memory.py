"""Want of memory on the device without a device: what fits is taken, down to one; other errors are no such thing."""

from __future__ import annotations

import gc
import weakref

import pytest

from flowprep.errors import BackendUnavailableError, VideoError
from flowprep.flow.tvl1.cuda_failures import DeviceError, allocated, cuda_failures, halves, is_want_of_memory


class CudaError(RuntimeError):
    __module__ = "numba.cuda.cudadrv.driver"


def room(limit: int) -> object:
    def allocate(num: int) -> str:
        if num > limit:
            raise CudaError("[CUresult.CUDA_ERROR_OUT_OF_MEMORY] Call to cuMemAlloc results in it")
        return f"room for {num}"

    return allocate


@pytest.mark.parametrize(("num", "sizes"), [(1, [1]), (2, [2, 1]), (13, [13, 6, 3, 1]), (256, [256, 128, 64])])
def test_a_batch_is_halved_down_to_one(num: int, sizes: list[int]) -> None:
    assert list(halves(num))[: len(sizes)] == sizes
    assert list(halves(num))[-1] == 1


def test_the_largest_that_fits_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    assert allocated(halves(64), room(20), 256, 340, "pairs") == ("room for 16", 16)  # type: ignore[arg-type]
    assert "taking 16 pairs of 340x256 at a time" in caplog.text
    caplog.clear()
    assert allocated(halves(64), room(64), 256, 340, "pairs")[1] == 64  # type: ignore[arg-type]
    assert not caplog.text


def test_what_a_failed_try_had_allocated_is_free_before_the_next_one() -> None:
    pieces: list[weakref.ref[Piece]] = []

    class Piece:
        """Memory on a device."""

    class Rooms:
        def __init__(self, num: int) -> None:
            assert not any(piece() for piece in pieces), "memory of an earlier try is held"
            self.first = Piece()
            pieces.append(weakref.ref(self.first))
            room(1)(num)  # type: ignore[operator]

    gc.disable()  # it must not be the one that frees them
    try:
        rooms, num = allocated(halves(8), Rooms, 256, 340, "pairs")
    finally:
        gc.enable()
    assert num == 1
    assert [piece() for piece in pieces] == [None, None, None, rooms.first]


def test_not_even_one_is_a_failure_of_the_video() -> None:
    with pytest.raises(VideoError, match=r"not enough free memory for pairs of 340x256; end what else") as caught:
        allocated(halves(8), room(0), 256, 340, "pairs")  # type: ignore[arg-type]
    assert caught.value.code == "memory"


def test_another_error_is_not_tried_again() -> None:
    def allocate(num: int) -> None:
        raise CudaError("CUDA_ERROR_ILLEGAL_ADDRESS")

    with pytest.raises(CudaError, match="ILLEGAL"):
        allocated(halves(8), allocate, 256, 340, "pairs")


def test_errors_of_cuda_become_ours() -> None:
    with pytest.raises(VideoError) as caught, cuda_failures(256, 340):
        raise CudaError("CUDA_ERROR_OUT_OF_MEMORY")
    assert caught.value.code == "memory"
    with pytest.raises(DeviceError, match="ILLEGAL"), cuda_failures(256, 340):
        raise CudaError("CUDA_ERROR_ILLEGAL_ADDRESS")
    with pytest.raises(BackendUnavailableError), cuda_failures(256, 340):
        raise BackendUnavailableError("wrong flow")
    with pytest.raises(KeyError), cuda_failures(256, 340):
        raise KeyError("a mistake of ours")
    assert is_want_of_memory(MemoryError())
    assert not is_want_of_memory(KeyError("x"))
