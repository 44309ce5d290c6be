"""Whether `native-cuda` compiles and computes the reference's flow on this GPU: a minute that may save the others.

python benchmarks/cuda_smoke.py
"""

from __future__ import annotations

import time

from common import print_result

from flowprep.flow import create_backend


def main() -> None:
    start = time.perf_counter()
    with create_backend("native-cuda") as backend:
        backend.warm_up()
        figures = {"build": backend.build, "compiling_and_self_test_s": round(time.perf_counter() - start, 2)}
    print(f"{backend.build}: kernels compile, and a small pair has the reference's flow")
    print_result("cuda_smoke", figures=figures, target={}, passed=True)


if __name__ == "__main__":
    main()
