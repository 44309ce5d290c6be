"""Settings of all tests: property tests are the same on every run, and no test asserts a time."""

from hypothesis import settings

settings.register_profile("flowprep", deadline=None, derandomize=True)
settings.load_profile("flowprep")
