"""Gradients of processes added up in buckets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import distributed, nn

from fusion_train import reduction
from fusion_train.reduction import add_up_gradients


class Arrived:
    """A reduction whose result is there when it is waited for, not before."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def wait(self) -> None:
        self.tensor *= 3


@pytest.mark.parametrize("bucket_bytes", [1, 40, 2**20])
def test_every_gradient_is_reduced_once_and_neighbours_together(
    monkeypatch: pytest.MonkeyPatch, bucket_bytes: int
) -> None:
    sent: list[int] = []

    def all_reduce(tensor: torch.Tensor, async_op: bool = False) -> Any:
        assert async_op
        sent.append(tensor.numel())
        return Arrived(tensor)

    monkeypatch.setattr(distributed, "all_reduce", all_reduce)
    shapes = [(2, 3), (4,), (5, 1), (), (3, 3)]
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for number, parameter in enumerate(parameters):
        parameter.grad = torch.full_like(parameter, number + 1.0)
    parameters[2].grad = None  # frozen
    add_up_gradients(parameters, bucket_bytes=bucket_bytes)
    for number, parameter in enumerate(parameters):
        assert parameter.grad is None or torch.equal(parameter.grad, torch.full_like(parameter, 3 * (number + 1.0)))
    assert sent == {1: [6, 4, 1, 9], 40: [10, 10], 2**20: [20]}[bucket_bytes]


def test_buckets_are_of_one_dtype() -> None:
    tensors = [torch.zeros(2), torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)]
    assert [len(bucket) for bucket in reduction._buckets(tensors, 2**20)] == [1, 2]
