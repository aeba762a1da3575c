"""Runs the code that the lab shows: what a learner copies is what was run, for every setting.

The topics put the lines together from settings that were checked; nothing that a visitor types is run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import streamlit as st

UPLOAD = "points.csv"  # what the visitor's own file is called in the code


@st.cache_resource(max_entries=8, show_spinner=False)
def data_of(code: str, upload: bytes | None = None) -> dict[str, Any]:
    """Run the lines that make the data; gives what they name."""
    names: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        if upload is not None:
            path = Path(folder, UPLOAD)
            path.write_bytes(upload)
            code = code.replace(UPLOAD, path.as_posix())
        exec(code, names)
    return names


@st.cache_resource(max_entries=32, show_spinner="Running …")
def run_of(
    data: str, fit: str, upload: bytes | None, _drawn: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """Run the lines that make the data and those that fit; gives what they name, and what `_drawn` makes of it."""
    names = dict(data_of(data, upload))
    exec(fit, names)
    return names | _drawn(names)
