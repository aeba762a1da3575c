"""whole_file(): the one way in which files are written, whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside the file; what is written there takes the file's place at the end, or never.

    The bytes are on the disk before the name changes, so a crash leaves the old file or the new one, never a part.

    Parameters
    ----------
    path : Path
        The name that the file gets, over what was there.

    Yields
    ------
    Path
        Where to write.
    """
    unfinished = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    try:
        yield unfinished
        with unfinished.open("rb+") as file:
            os.fsync(file)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
