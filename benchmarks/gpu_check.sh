#!/usr/bin/env bash
# All GPU tests and GPU benchmarks in one call, in under 9 minutes; ends with a table and one JSON line.
#
#   benchmarks/gpu_check.sh [--pairs DIR] [--videos DIR] [--wheels DIR] [--results DIR]
#
# Needs a Python (>= 3.11; $PYTHON, else .venv/bin/python, else python3) with NumPy, Numba, numba-cuda with its toolkit,
# OpenCV (with contrib) and h5py. No network is used. What else is missing can lie beside it:
#   --wheels DIR   wheels of what that Python lacks, made elsewhere by
#                    pip download --only-binary :all: --python-version 3.12 --dest DIR pytest hypothesis [av numba-cuda ..]
#                  pytest and hypothesis are needed for the tests; PyAV (av) to decode clips; joblib, click and rich for
#                  whole runs; torch and torchvision for the training.
#   --pairs DIR    real frames, written elsewhere by `benchmarks/make_pairs.py DIR`; without them and without PyAV and
#                  ../shared/data, textures stand in for them, and the output says so.
#   --videos DIR   class folders of clips for whole runs (default: ../shared/data/videos/ucf101, left out where it is not)
#   --results DIR  where output and figures of each part stay (default: a new folder for temporary files)
#
# Each part has a limit of time of its own, and what the parts before it have found is kept whatever becomes of it.
# Exit code 0: all parts passed and figures were reached. 1: a part failed, overran or could not run, or a figure was
# missed.
set -uo pipefail
cd "$(dirname "$0")/.."

pairs=() wheels="" videos="../shared/data/videos/ucf101" results=""
while [ $# -gt 0 ]; do
    case "$1" in
        --pairs) pairs=(--pairs "$2"); shift 2 ;;
        --videos) videos="$2"; shift 2 ;;
        --wheels) wheels="$2"; shift 2 ;;
        --results) results="$2"; shift 2 ;;
        *) echo "unknown option $1; see the head of $0" >&2; exit 2 ;;
    esac
done
python="${PYTHON:-.venv/bin/python}"
command -v "$python" > /dev/null || python=python3
results="${results:-$(mktemp -d)}"
mkdir -p "$results"
: > "$results/parts.tsv"
export PYTHONPATH="$PWD:$PWD/cli${PYTHONPATH:+:$PYTHONPATH}" FLOWPREP_REQUIRE_CUDA=1
if [ -n "$wheels" ]; then
    beside="$(mktemp -d)"
    trap 'rm -rf "$beside"' EXIT
    timeout 60 "$python" -m pip install --quiet --no-index --no-deps --target "$beside" "$wheels"/*.whl || exit 1
    export PYTHONPATH="$PYTHONPATH:$beside"
fi

budget="${GPU_CHECK_SECONDS:-510}"  # the installation above and the summary below have the rest of 9 minutes

# part NAME SECONDS COMMAND..: run it for so long at most, or for what is left; keep its output and how it ended.
part() {
    local name="$1" limit="$2" left=$((budget - SECONDS)) start=$SECONDS code
    shift 2
    [ "$limit" -gt "$left" ] && limit="$left"
    echo "== $name"
    if [ "$limit" -lt 10 ]; then
        echo "no time is left for it"
        printf '%s\t%s\t%s\n' "$name" 124 0 >> "$results/parts.tsv"
        return
    fi
    timeout --kill-after 5 "$limit" "$@" 2>&1 | tee "$results/$name.log"
    code=${PIPESTATUS[0]}
    [ "$code" -eq 0 ] || echo "$name: ended with $code; 124 is the end of its $limit seconds"
    printf '%s\t%s\t%s\n' "$name" "$code" $((SECONDS - start)) >> "$results/parts.tsv"
}

# left_out NAME REASON: say why a part cannot run here.
left_out() {
    echo "== $1: $2"
    printf '%s\tleft out: %s\t0\n' "$1" "$2" >> "$results/parts.tsv"
}

has() { "$python" -c "import $1" > /dev/null 2>&1; }

echo "== $("$python" --version), $(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2> /dev/null || echo 'no nvidia-smi')"
part backends 30 "$python" -c 'import flowprep, sys
found = flowprep.backends()
for status in found:
    print("  ", status.name + ":", status.reason or "runs")
sys.exit(not any(status.available for status in found if status.name == "native-cuda"))'

if has "pytest, hypothesis"; then
    part tests 170 "$python" -m pytest -q -p no:cacheprovider --durations 5 tests/prep/test_cuda_device.py
else
    left_out tests "pytest and hypothesis are missing, give them with --wheels"
fi
part flow 110 "$python" benchmarks/bench_cuda.py ${pairs[@]+"${pairs[@]}"}
if [ -d "$videos" ] && has "av, joblib, click, rich"; then
    part stages 30 "$python" -c "from flowprep_cli.main import main; main()" bench "$videos" --backend native-cuda --pairs 2 --repeats 1 --jobs "$(nproc)" --json
    part extract 70 "$python" benchmarks/bench_extract.py --videos "$videos" --backend native-cuda --jobs "$(nproc)" --copies 60 --repeats 1 --formats hdf5
else
    left_out extract "no folder of clips, or PyAV, joblib, click or rich is missing"
fi
if has "torch, torchvision, click"; then
    if has "pytest, hypothesis"; then
        part fusion-tests 50 "$python" -m pytest -q -p no:cacheprovider tests/fusion/test_on_gpu.py
    else
        left_out fusion-tests "pytest and hypothesis are missing, give them with --wheels"
    fi
    if "$python" -c "from flowprep_cli.fusion_main import main; main()" bench --help > /dev/null 2>&1; then
        part fusion-bench 50 "$python" -c "from flowprep_cli.fusion_main import main; main()" bench --preset ucf101-vgg16 --network fused --device cuda --set train.precision=bfloat16 --json
    else
        echo "== fusion-bench: this version has no fusion-train bench"
    fi
else
    left_out fusion "torch, torchvision or click is missing, give them with --wheels"
fi

echo
echo "== output and figures of all parts: $results"
"$python" benchmarks/gpu_report.py "$results"
