#!/usr/bin/env bash
# All GPU tests and GPU benchmarks in one call, in under 9 minutes; ends with a table and one JSON line.
#
#   benchmarks/gpu_check.sh [--data DIR] [--pairs DIR] [--videos DIR] [--wheels DIR] [--results DIR]
#
# Needs a Python (>= 3.11; $PYTHON, else .venv/bin/python, else python3) with NumPy, Numba, numba-cuda with its toolkit,
# OpenCV (with contrib) and h5py. No network is used. What else is missing can lie beside it:
#   --wheels DIR   wheels of what that Python lacks, made elsewhere by
#                    pip download --no-deps --only-binary :all: --python-version 3.12 --dest DIR \
#                      pytest hypothesis "av<19" "numpy<2.5" [numba-cuda ..]
#                  pytest and hypothesis are needed for the tests; PyAV (av) to decode clips; joblib, click and rich for
#                  whole runs; torch and torchvision for the training; "numpy<2.5" where NumPy is newer, since
#                  numba-cuda 0.30 compiles nothing with that. A toolkit cannot come so: numba-cuda looks for it in
#                  site-packages, where the system's loader looks, and in CUDA_PATH and CUDA_HOME alone.
#   --data DIR     the clips and flow pairs of ../shared/data, where they are elsewhere: DIR/videos, DIR/flow
#   --pairs DIR    real frames, written elsewhere by `benchmarks/make_pairs.py DIR`; without them and without PyAV and
#                  clips, textures stand in for them, and the output says so.
#   --videos DIR   class folders of clips for whole runs (default: videos/ucf101 of the data)
#   --results DIR  where three files stay: output.log, parts.tsv, report.json (default: a new folder for temporary files)
#
# Each part has a limit of time of its own, and what the parts before it have found is kept whatever becomes of it. The
# first two say within a minute or two whether kernels compile and compute what the reference computes; where they fail,
# nothing else is begun.
# Exit code 0: all parts passed and figures were reached. 1: a part failed, overran or could not run, or a figure was
# missed.
set -uo pipefail

pairs=() wheels="" data="" videos="" results=""
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || { echo "$1 is no option, or its value is missing; see the head of $0" >&2; exit 2; }
    case "$1" in
        --data) data="$(realpath -m "$2")" ;;
        --pairs) pairs=(--pairs "$(realpath -m "$2")") ;;
        --videos) videos="$(realpath -m "$2")" ;;
        --wheels) wheels="$(realpath -m "$2")" ;;
        --results) results="$(realpath -m "$2")" ;;
        *) echo "unknown option $1; see the head of $0" >&2; exit 2 ;;
    esac
    shift 2
done
cd "$(dirname "$0")/.." || exit 1
data="${data:-$(realpath -m ../shared/data)}"
videos="${videos:-$data/videos/ucf101}"
python="${PYTHON:-.venv/bin/python}"
command -v "$python" > /dev/null || python=python3
results="${results:-$(mktemp -d)}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir -p "$results"
: > "$results/parts.tsv"
: > "$results/output.log"
# A part that is ended at its limit has printed what it found: Python holds back nothing.
export PYTHONUNBUFFERED=1 FLOWPREP_REQUIRE_CUDA=1 FLOWPREP_TEST_DATA="$data"
if [ -n "$wheels" ]; then
    timeout 100 "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$work/site" "$wheels"/*.whl ||
        { echo "pip cannot install the wheels of $wheels, or not within 100 s" >&2; exit 1; }
fi
export PYTHONPATH="$PWD:$PWD/cli${wheels:+:$work/site}${PYTHONPATH:+:$PYTHONPATH}"
if [ -z "${CUDA_HOME:-}${CUDA_PATH:-}" ]; then
    # numba-cuda itself does not look into the usual places of a toolkit.
    nvcc="$(command -v nvcc || true)"
    for place in "$(dirname "$(dirname "$(readlink -f "${nvcc:-/usr/local/cuda/bin/nvcc}")")")" /usr/local/cuda; do
        if [ -d "$place/nvvm" ]; then
            export CUDA_HOME="$place"
            break
        fi
    done
fi

budget="${GPU_CHECK_SECONDS:-500}"  # the summary below has the rest of 9 minutes

say() { echo "$@" | tee -a "$results/output.log"; }

# part NAME SECONDS COMMAND..: run it for so long at most, or for what is left; keep its output and how it ended.
part() {
    local name="$1" limit="$2" left=$((budget - SECONDS)) start=$SECONDS code
    shift 2
    [ "$limit" -gt "$left" ] && limit="$left"
    say "== $name"
    if [ "$limit" -lt 10 ]; then
        say "no time is left for it"
        printf '%s\t%s\t%s\n' "$name" 124 0 >> "$results/parts.tsv"
        return 124
    fi
    # Interrupted, not ended: pytest then tells the failures so far, and a run closes what it has begun.
    timeout --signal INT --kill-after 10 "$limit" "$@" 2>&1 | tee -a "$results/output.log" "$work/$name.log"
    code=${PIPESTATUS[0]}
    [ "$code" -eq 0 ] || say "$name: ended with $code; 124 is the end of its $limit seconds"
    printf '%s\t%s\t%s\n' "$name" "$code" $((SECONDS - start)) >> "$results/parts.tsv"
    return "$code"
}

# left_out NAME REASON: say why a part cannot run here.
left_out() {
    say "== LEFT OUT, so nothing is known of it: $1"
    say "   $2"
    printf '%s\tleft out: %s\t0\n' "$1" "$2" >> "$results/parts.tsv"
}

has() { "$python" -c "import $1" > /dev/null 2>&1; }

# finish: the table and the JSON line of what was found; the end.
finish() {
    say ""
    say "== output and figures of all parts: $results"
    timeout 30 "$python" benchmarks/gpu_report.py "$results" "$work" | tee -a "$results/output.log"
    exit "${PIPESTATUS[0]}"
}

say "== $("$python" --version), $(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2> /dev/null || echo 'no nvidia-smi'), CUDA_HOME ${CUDA_HOME:-not set}"
part backends 40 "$python" -c 'import flowprep, sys
found = flowprep.backends()
for status in found:
    print("  ", status.name + ":", "runs" if status.available else f"{status.reason}; {status.cure}")
sys.exit(not any(status.available for status in found if status.name == "native-cuda"))' || finish
part smoke 110 "$python" benchmarks/cuda_smoke.py || finish

if has "pytest, hypothesis"; then
    part tests 170 "$python" -m pytest -q -p no:cacheprovider -o filterwarnings=default --durations 5 tests/prep/test_cuda_device.py
    [ -d "$data/videos" ] && [ -d "$data/flow" ] ||
        left_out real-pairs "real pairs beside those of native: give clips and flow pairs with --data"
else
    left_out tests "pytest and hypothesis are missing, give them with --wheels"
fi
part flow 90 "$python" benchmarks/bench_cuda.py --no-sweep ${pairs[@]+"${pairs[@]}"}
if [ -d "$videos" ] && has "av, joblib, click, rich"; then
    part stages 40 "$python" -c "from flowprep_cli.main import main; main()" bench "$videos" --backend native-cuda --pairs 2 --repeats 1 --jobs "$(nproc)" --json
    part extract 80 "$python" benchmarks/bench_extract.py --videos "$videos" --backend native-cuda --jobs "$(nproc)" --copies 20 --repeats 1 --formats hdf5
else
    left_out extract "whole runs, the process that owns the device, shared memory: give clips with --data or --videos, and PyAV (av), joblib, click or rich with --wheels"
fi
if has "torch, torchvision, click"; then
    if has "pytest, hypothesis"; then
        part fusion-tests 50 "$python" -m pytest -q -p no:cacheprovider -o filterwarnings=default tests/fusion/test_on_gpu.py
    else
        left_out fusion-tests "pytest and hypothesis are missing, give them with --wheels"
    fi
    part fusion-bench 50 "$python" -c "from flowprep_cli.fusion_main import main; main()" bench --preset ucf101-vgg16 --network fused --device cuda --set train.precision=bfloat16 --json
else
    left_out fusion "torch, torchvision or click is missing, give them with --wheels"
fi
part sweep 90 "$python" benchmarks/bench_cuda.py --sweep --batches 1,32,64,128,256 --repeats 1 ${pairs[@]+"${pairs[@]}"}
finish
