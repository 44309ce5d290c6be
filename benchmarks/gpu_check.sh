#!/usr/bin/env bash
# All GPU tests and the GPU benchmark in one call, in under 9 minutes; ends with the benchmark's JSON line.
#
#   benchmarks/gpu_check.sh [--pairs DIR] [--wheels DIR]
#
# Needs a Python (>= 3.11; $PYTHON, else .venv/bin/python, else python3) with NumPy, Numba, numba-cuda with its toolkit,
# OpenCV (with contrib) and h5py. No network is used. What else is missing can lie beside it:
#   --wheels DIR   wheels of what that Python lacks, made elsewhere by
#                    pip download --only-binary :all: --python-version 3.12 --dest DIR pytest hypothesis [av numba-cuda ..]
#                  pytest and hypothesis are needed for the tests; PyAV (av) only to decode clips here.
#   --pairs DIR    real frames, written elsewhere by `benchmarks/make_pairs.py DIR`; without them and without PyAV and
#                  ../shared/data, textures stand in for them, and the output says so.
# Exit code 0: tests passed and figures reached. 1: tests failed or could not run, or a figure was missed.
set -uo pipefail
cd "$(dirname "$0")/.."

pairs=() wheels=""
while [ $# -gt 0 ]; do
    case "$1" in
        --pairs) pairs=(--pairs "$2"); shift 2 ;;
        --wheels) wheels="$2"; shift 2 ;;
        *) echo "unknown option $1; see the head of $0" >&2; exit 2 ;;
    esac
done
python="${PYTHON:-.venv/bin/python}"
command -v "$python" > /dev/null || python=python3
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" FLOWPREP_REQUIRE_CUDA=1
if [ -n "$wheels" ]; then
    beside="$(mktemp -d)"
    trap 'rm -rf "$beside"' EXIT
    "$python" -m pip install --quiet --no-index --no-deps --target "$beside" "$wheels"/*.whl || exit 1
    export PYTHONPATH="$PYTHONPATH:$beside"
fi

echo "== $("$python" --version), $(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2> /dev/null || echo 'no nvidia-smi')"
"$python" -c 'import flowprep
for status in flowprep.backends():
    print("  ", status.name + ":", status.reason or "runs")' || exit 1

failed=0
echo "== tests"
if "$python" -c 'import pytest, hypothesis' 2> /dev/null; then
    timeout 300 "$python" -m pytest -q -p no:cacheprovider --durations 5 tests/prep/test_cuda_device.py || failed=1
else
    echo "pytest and hypothesis are missing: give them with --wheels, see the head of $0"
    failed=1
fi

echo "== benchmark"
timeout 220 "$python" benchmarks/bench_cuda.py ${pairs[@]+"${pairs[@]}"} | tee /tmp/flowprep-gpu-check.$$
benchmark=${PIPESTATUS[0]}
grep -q '"passed": true' /tmp/flowprep-gpu-check.$$ || failed=1
rm -f /tmp/flowprep-gpu-check.$$
[ "$benchmark" -eq 0 ] && [ "$failed" -eq 0 ]
