"""The CUDA kernels in Numba's simulator: against `native` and the reference, halos, batches, stop rule, codes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cuda_simulation import BOUND_PX, CASES, Case
from helpers.flow_tolerances import FEW_ITERATIONS, assert_flow_near

from flowprep.config import QuantiseSettings
from flowprep.flow import create_backend
from flowprep.flow.parameters import parse_parameters
from flowprep.flow.tvl1.reference import WarpRecord, tvl1_flow
from flowprep.quantise import flow_facts, quantise

pytest.importorskip("numba_cuda", reason="the simulator is a part of numba-cuda: pip install numba-cuda")

Results = Mapping[str, Any]
ALL = pytest.mark.parametrize("name", CASES)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    out = tmp_path_factory.mktemp("simulator") / "results.npz"
    tests = Path(__file__).resolve().parents[1]
    environment = {
        **os.environ,
        "NUMBA_ENABLE_CUDASIM": "1",
        "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", "helpers.cuda_simulation", str(out)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert found.returncode == 0, found.stderr
    return dict(np.load(out))


def expected_counts(trace: list[WarpRecord], num_warps: int) -> Any:
    counts = np.zeros((1 + max(record.level for record in trace), num_warps), np.int64)
    for record in trace:
        counts[record.level, record.warp] = record.num_iterations
    return counts


def references(case: Case) -> tuple[list[Any], list[Any]]:
    """Flow and numbers of iterations of each pair, by the reference."""
    values = parse_parameters("native-cuda", case.variant, case.all_parameters)
    flows, counts = [], []
    for k, (a, b) in enumerate(case.pairs):
        trace: list[WarpRecord] = []
        start = None if case.initial_flow is None else case.initial_flow[k]
        flows.append(tvl1_flow(case.frames[a], case.frames[b], values, start, trace))
        counts.append(expected_counts(trace, values.num_warps))
    return flows, counts


@ALL
def test_flow_and_counts_are_the_references(results: Results, name: str) -> None:
    flows, counts = references(CASES[name])
    np.testing.assert_array_equal(results[f"{name}/counts"], counts)
    for flow, expected in zip(results[f"{name}/flow"], flows, strict=True):
        assert_flow_near(flow, expected, FEW_ITERATIONS)


@ALL
def test_flow_and_counts_are_those_of_native(results: Results, name: str) -> None:
    case = CASES[name]
    with create_backend("native", variant=case.variant, parameters=case.all_parameters) as backend:
        prepared = backend.prepare(case.frames)
        pairs = [prepared[a] for a, _ in case.pairs], [prepared[b] for _, b in case.pairs]
        expected = backend.compute(*pairs, case.initial_flow)
        np.testing.assert_array_equal(results[f"{name}/counts"], backend.num_iterations)  # type: ignore[attr-defined]
    for flow, other in zip(results[f"{name}/flow"], expected, strict=True):
        assert_flow_near(flow, other, FEW_ITERATIONS)


def test_the_cases_stop_at_different_places(results: Results) -> None:
    """Or the stop rule would not be tested."""
    for name in ("batch", "cpu"):
        assert len(np.unique(results[f"{name}/counts"])) > 1
        assert results[f"{name}/counts"].min() < 4


def test_neither_batch_nor_tile_changes_a_bit(results: Results) -> None:
    np.testing.assert_array_equal(results["alone/flow"][0], results["batch/flow"][1])
    np.testing.assert_array_equal(results["device tile/flow"][0], results["batch/flow"][0])
    np.testing.assert_array_equal(results["halves/flow"], results["whole/flow"])
    np.testing.assert_array_equal(results["long halo/flow"], results["short halo/flow"])


@pytest.mark.parametrize("name", ["codes", "cut codes"])
def test_codes_of_the_device_are_those_of_the_host(results: Results, name: str) -> None:
    settings = QuantiseSettings(bound_px=BOUND_PX, rounding=CASES[name].quantise)
    for k, flow in enumerate(results[f"{name}/flow"]):
        x, y = quantise(flow, settings)
        np.testing.assert_array_equal(results[f"{name}/codes"][k], np.stack([x, y]))
        facts = flow_facts(flow, x, y, settings)
        assert results[f"{name}/num_saturated"][k] == facts.num_saturated > 0
        assert results[f"{name}/sum_magnitude_px"][k] == pytest.approx(facts.sum_magnitude_px, rel=1e-6)
