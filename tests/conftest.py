"""Settings of all tests: each finds the same environment, property tests are the same on every run, no test asserts a
time, and Ctrl-C can be tested.
"""

import os
import re
import signal

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
