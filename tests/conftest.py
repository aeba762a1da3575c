"""Settings for all tests."""

import os

from hypothesis import settings

# As the command line does: threads of torch that wait in a busy loop starve each other, here and in notebooks' kernels.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A green run must stay green: in CI hypothesis draws the same problems each time.
settings.register_profile("stepfit", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("stepfit")
