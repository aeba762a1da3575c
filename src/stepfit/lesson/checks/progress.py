"""The learner's progress: tries, hints and passes, in a JSON file beside the notebooks."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from stepfit.files import whole_file

FILE = "progress.json"


@dataclass
class Standing:
    """How one exercise stands."""

    tries: int = 0
    hints: int = 0
    passed: bool = False


def standings() -> dict[str, Standing]:
    """Read how all exercises stand; those without an entry have not been begun."""
    try:
        return {number: Standing(**entry) for number, entry in json.loads(_file().read_text()).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError):  # half a file, or somebody's own
        with suppress(OSError):
            os.replace(_file(), _file().with_suffix(".damaged.json"))
        return {}


@contextmanager
def changing() -> Iterator[dict[str, Standing]]:
    """Return the standings to change; they are written at the end. Several notebooks may do so at the same time."""
    with _alone():
        now = standings()
        yield now
        text = json.dumps({number: asdict(standing) for number, standing in sorted(now.items(), key=_place)}, indent=1)
        try:
            with whole_file(_file()) as unfinished:
                unfinished.write_text(text + "\n", encoding="utf-8")
        except OSError as error:  # a check answers on a read-only stick too
            warnings.warn(f"your progress cannot be kept in {_file()}: {error.strerror}", stacklevel=3)


def _file() -> Path:
    return Path.cwd() / FILE


def _place(entry: tuple[str, Standing]) -> list[int]:
    return [int(part) for part in entry[0].split(".")]


@contextmanager
def _alone() -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows: the last of two notebooks that write in the same moment wins
        yield
        return
    folder = os.open(_file().parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network drives know no locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
