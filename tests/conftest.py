"""Settings of all tests: each finds the same environment, property tests are the same on every run, no test asserts a
time, and Ctrl-C can be tested. What is skipped for want of real data is said, or fails with FLOWPREP_REQUIRE_DATA=1.
"""

import os
import re
import signal
from collections.abc import Generator

import pytest
from helpers.shared_data import NO_DATA
from hypothesis import settings

settings.register_profile("flowprep", deadline=None, derandomize=True)
settings.load_profile("flowprep")

# What a batch job, torchrun, Dask or a terminal sets would change what is tested: parts, ranks, ports, and texts.
_OF_OTHERS = re.compile(
    r"(SLURM|PBS|SGE|LSB|MASTER|TORCHELASTIC|DASK)_\w+|(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)"
    r"|FORCE_COLOR|NO_COLOR|CLICOLOR(_FORCE)?|TTY_\w+|COLUMNS|LINES"
)
for name in filter(_OF_OTHERS.fullmatch, list(os.environ)):
    del os.environ[name]

# A shell ignores these for what it starts in the background, and nohup the first; all that is started here would too.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def lacks_data(report: pytest.TestReport) -> bool:
    """Whether a test was skipped since the real clips are not here."""
    return report.skipped and isinstance(report.longrepr, tuple) and NO_DATA in report.longrepr[2]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if os.environ.get("FLOWPREP_REQUIRE_DATA", "0") == "1" and lacks_data(report):
        report.outcome, report.longrepr = "failed", f"{NO_DATA}, and FLOWPREP_REQUIRE_DATA=1 forbids to skip this"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    num_skipped = sum(map(lacks_data, terminalreporter.stats.get("skipped", ())))
    if num_skipped:
        terminalreporter.write_line(
            f"{num_skipped} tests skipped because ../shared/data is absent; FLOWPREP_REQUIRE_DATA=1 makes them fail"
        )
