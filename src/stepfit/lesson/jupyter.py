"""Jupyter as a child of the lesson: it starts with it, listens on this machine alone, and ends with it."""

from __future__ import annotations

import importlib.metadata
import os
import secrets
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from urllib.parse import quote, urlencode

SECONDS_TO_END = 4.0  # for Jupyter with its kernels
NEEDED = 7  # the first Notebook with the addresses of the course


def missing() -> str | None:
    """Say what must be installed before notebooks can be opened, if anything."""
    try:
        version = importlib.metadata.version("notebook")
    except importlib.metadata.PackageNotFoundError:
        return "Notebooks need Jupyter: pip install 'stepfit[lesson]'"
    if int(version.split(".")[0]) < NEEDED:
        return f"Notebooks need Jupyter Notebook {NEEDED} or newer, {version} is here: pip install -U notebook"
    return None


class Jupyter:
    """A Jupyter Notebook that shows one folder to this machine alone.

    Two pipes tie it to this process. Its standard input closes when this process ends, however it ends; it then
    stops its kernels and itself. On its standard output it says one line, as soon as it listens.

    Parameters
    ----------
    folder : str or path
        What it shows.
    port : int
        Where it listens. The port must be free.
    """

    def __init__(self, folder: str | os.PathLike[str], port: int) -> None:
        self.port = port
        self._token = secrets.token_urlsafe(32)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, closed by stop()
        self._asking = threading.Lock()
        self._listens: bool | None = None  # not known yet
        self._process = subprocess.Popen(
            # -P: a learner's own random.py in the folder must not stand in for Python's.
            [sys.executable, "-P", "-m", "stepfit.lesson.jupyter_child", str(port), str(Path(folder).resolve())],
            env=os.environ | {"JUPYTER_TOKEN": self._token},  # arguments can be read by every user of the machine
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C in the terminal is for the lesson, which then ends Jupyter
        )

    def address(self, path: str) -> str:
        """Return the address that opens a file, with the token in it. Waits until Jupyter listens.

        Raises
        ------
        RuntimeError
            Jupyter has ended; the message is its last line.
        """
        with self._asking:
            if self._listens is None:
                self._listens = bool(self._process.stdout.readline())
        if not self._listens or self._process.poll() is not None:
            self._log.seek(0)
            lines = self._log.read().decode(errors="replace").split("\n")
            raise RuntimeError(next((line for line in reversed(lines) if line.strip()), "It left no word."))
        return f"http://localhost:{self.port}/notebooks/{quote(path)}?{urlencode({'token': self._token})}"

    def begin_to_stop(self) -> None:
        """Tell Jupyter to end itself and its kernels."""
        self._process.terminate()

    def stop(self) -> None:
        """End Jupyter and its kernels."""
        self.begin_to_stop()
        try:
            self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its kernels look for their parent every second
            self._process.wait()
        with self._process.stdin, self._process.stdout, self._log:
            pass

    def __enter__(self) -> Jupyter:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
