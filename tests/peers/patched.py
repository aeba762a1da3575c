"""Run one of scikit-learn's installed test files with our class in the place of theirs."""

import sys
from collections.abc import Mapping
from importlib import import_module

import pytest


class _Chosen:
    """Deselects the excluded tests, and says how many for which reason.

    A key of `excluded` is the name of a test, with or without its parameters, or a part of a parametrised name that
    begins with [ or -.
    """

    def __init__(self, excluded: Mapping[str, str]) -> None:
        self.excluded = excluded

    def pytest_collection_modifyitems(self, config, items):
        used, kept, gone = set(), [], []
        for item in items:
            name = item.originalname
            keys = {key for key in self.excluded if key in (name, item.name) or (key[0] in "[-" and key in item.name)}
            used |= keys
            (gone if keys else kept).append(item)
        stale = set(self.excluded) - used
        if stale:
            raise pytest.UsageError(f"excluded, but not there: {sorted(stale)}")
        config.hook.pytest_deselected(items=gone)
        items[:] = kept


def run(module: str, ours: type, excluded: Mapping[str, str]) -> None:
    """Run the tests of a module that are not excluded, and exit with pytest's answer."""
    tests = import_module(module)
    if not hasattr(tests, ours.__name__):
        raise LookupError(f"{module} has no {ours.__name__} to replace")
    setattr(tests, ours.__name__, ours)
    # Their tests are not written for our rule that every warning is an error.
    arguments = ["-q", "-p", "no:cacheprovider", "-o", "filterwarnings=", "--pyargs", module, *sys.argv[1:]]
    sys.exit(pytest.main(arguments, plugins=[_Chosen(excluded)]))
