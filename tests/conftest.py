"""Settings for all tests."""

import os
import warnings

import pytest
from hypothesis import settings

# As the command line does: threads of torch that wait in a busy loop starve each other, here and in notebooks' kernels.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# So that scikit-learn checks its array API input too; read when SciPy is loaded.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

# A green run must stay green: in CI hypothesis draws the same problems each time. `make explore` draws new ones.
settings.register_profile("stepfit", deadline=None, derandomize="CI" in os.environ)
settings.register_profile("explore", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("stepfit")


def pytest_report_header():
    from stepfit.kernels import compiled

    levels = f"missing: {compiled.missing}" if compiled.missing else ", ".join(compiled.module.levels())
    return f"the compiled kernel: {levels}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """In CI a skip is a failure, whatever is missing; pytest says what."""
    report = yield
    if report.skipped and "CI" in os.environ and not hasattr(report, "wasxfail"):
        report.outcome, report.longrepr = "failed", f"skipped, which CI does not allow: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """The same of files that are skipped as a whole."""
    report = yield
    if report.skipped and "CI" in os.environ:
        report.outcome, report.longrepr = "failed", f"skipped, which CI does not allow: {report.longrepr}"
    return report


@pytest.fixture
def checks_here(monkeypatch):
    """Judge in this process, with one thread: known code does no harm, and a fork takes longer than most checks."""
    import torch

    def here(work):
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return work()

    monkeypatch.setattr("stepfit.lesson.checks.exercise.run_sandboxed", here)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield here
    torch.set_num_threads(threads)
