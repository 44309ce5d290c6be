"""Settings of all tests: property tests are the same on every run, no test asserts a time, and Ctrl-C can be tested."""

import signal

from hypothesis import settings

settings.register_profile("flowprep", deadline=None, derandomize=True)
settings.load_profile("flowprep")

# A shell ignores these for what it starts in the background, and nohup the first; all that is started here would too.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
