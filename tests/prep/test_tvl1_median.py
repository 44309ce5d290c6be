"""The median network on all 0-1 inputs that matter, and the median of images against OpenCV's, bit for bit."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from helpers.tvl1 import float32, random_image
from helpers.tvl1_kernels import median, network

from flowprep.flow.tvl1.reference_sampling import median_filter

SIZES = [
    (1, 1),
    (1, 2),
    (2, 1),
    (3, 2),
    (4, 15),
    (5, 16),
    (6, 17),
    (7, 31),
    (3, 32),
    (2, 33),
    (1, 48),
    (40, 3),
    (21, 50),
]


@pytest.mark.parametrize("size", [3, 5])
def test_sorting_networks_sort_every_0_1_input(size: int) -> None:
    """A network of minima and maxima that sorts all zeros and ones sorts all numbers (Knuth 5.3.4, theorem Z)."""
    inputs = float32(list(itertools.product((0, 1), repeat=size))).T
    np.testing.assert_array_equal(network(inputs), np.sort(inputs, axis=0))


def test_median_of_sorted_columns_on_every_0_1_input() -> None:
    """By the same principle; a sorted column of zeros and ones is known by its number of ones."""
    num_ones = np.array(list(itertools.product(range(6), repeat=5)))  # (7776, 5)
    rows = np.arange(5)[:, None, None] >= 5 - num_ones[None]  # (5, 7776, 5), ones at the bottom
    inputs = float32(rows.transpose(0, 2, 1).reshape(25, -1))
    np.testing.assert_array_equal(network(inputs), num_ones.sum(axis=1) >= 13)


def test_median_of_sorted_columns_on_numbers() -> None:
    columns = np.sort(np.random.default_rng(0).normal(size=(5, 5, 1000)).astype(np.float32), axis=0)
    inputs = columns.reshape(25, -1)
    np.testing.assert_array_equal(network(inputs), np.median(inputs, axis=0))


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_median_is_that_of_opencv(size: int, height: int, width: int) -> None:
    components = float32([random_image(height, width, seed) - 128 for seed in range(3)])
    filtered = median(components, size)
    for before, after in zip(components[:2], filtered[:2], strict=True):
        np.testing.assert_array_equal(after, cv2.medianBlur(before, size))
        np.testing.assert_array_equal(after, median_filter(before, size))
    np.testing.assert_array_equal(filtered[2], components[2], err_msg="the illumination is not filtered")
    np.testing.assert_array_equal(median(components[:2], size), filtered[:2])


@pytest.mark.parametrize("size", [3, 5])
def test_median_of_equal_and_infinite_values(size: int) -> None:
    image = np.random.default_rng(1).choice(float32([-np.inf, -1, 0, 0, 2, np.inf]), (30, 37))
    np.testing.assert_array_equal(median(float32([image, image]), size)[1], cv2.medianBlur(image, size))
