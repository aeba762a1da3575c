"""Settings for all tests."""

import os

from hypothesis import settings

# A green run must stay green: in CI hypothesis draws the same problems each time.
settings.register_profile("stepfit", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("stepfit")
