"""scikit-learn's own tests of its estimators, run against ours."""

import subprocess
import sys
from pathlib import Path

import pytest

PEERS = Path(__file__).parent / "peers"


@pytest.mark.parametrize("script", ["linear", "logistic", "kmeans"])
def test_scikit_learns_tests_pass(script):
    done = subprocess.run([sys.executable, PEERS / f"{script}.py"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
