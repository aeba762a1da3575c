"""A room apart: work in a forked child with one thread, a time limit and a memory limit, whatever it does."""

from __future__ import annotations

import faulthandler
import gc
import os
import pickle
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch

T = TypeVar("T")

SECONDS = 6.0
GRACE = 2.0  # for work that does not listen to the alarm: torch in one long call, or an `except` that takes everything
GIGABYTES = 4
# macOS has fork too, but its linear algebra does not survive one.
CAN_FORK = sys.platform == "linux"


class Overdue(BaseException):
    """The time is up. No Exception, so that a learner's `except Exception` lets it through."""

    def __init__(self, seconds: float):
        super().__init__(seconds)
        self.seconds = seconds


class Died(Exception):  # noqa: N818, said in words and not as a traceback
    """The child ended without an answer; the words say how."""


def run_sandboxed(work: Callable[[], T], *, seconds: float = SECONDS) -> T:
    """Do the work in a child process and give what it returned, or raise what it raised.

    Nothing that the work changes is changed here: data, random generators, open files, settings of torch. What it
    prints is dropped. Where the system cannot fork, it is done in this process, with a warning.

    Parameters
    ----------
    work : callable
        What it returns or raises must be picklable.
    seconds : float
        The time limit.

    Raises
    ------
    Overdue
        The time was up.
    Died
        The child ended Python.

    Examples
    --------
    >>> run_sandboxed(lambda: 6 * 7)
    42
    """
    if not CAN_FORK:
        warnings.warn(
            "this system cannot run your code apart: an endless loop must be interrupted by hand", stacklevel=2
        )
        return work()
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads of a notebook's kernel: the child has none
        child = os.fork()
    if child == 0:
        os.close(reading)
        _be_the_child(work, writing, seconds)
    os.close(writing)
    answer = None
    try:
        answer = _read(reading, time.monotonic() + seconds + GRACE)
    finally:  # also when the waiting itself is interrupted
        os.close(reading)
        if answer is None:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if answer is None:
        raise Overdue(seconds)
    if not answer:
        code = os.waitstatus_to_exitcode(status)
        raise Died(f"it ended Python with {f'signal {-code}' if code < 0 else f'exit code {code}'}")
    returned, value = pickle.loads(answer)
    if not returned:
        raise value
    return value


def _read(pipe: int, deadline: float) -> bytes | None:
    """Read to the end, or give None when the deadline comes first."""
    parts = []
    while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(pipe, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
    return None


def _be_the_child(work: Callable[[], Any], pipe: int, seconds: float) -> None:
    """Do the work, send its answer, and end at once: what the parent opened is not for us to tidy up."""
    code = 1
    with suppress(BaseException):
        _settle_in(seconds)
        try:
            answer = (True, work())
        except BaseException as error:
            answer = (False, error.with_traceback(None))
        signal.setitimer(signal.ITIMER_REAL, 0)
        with os.fdopen(pipe, "wb") as out:
            out.write(pickle.dumps(answer))
        code = 0
    os._exit(code)


def _settle_in(seconds: float) -> None:
    faulthandler.disable()  # a crash is told in words
    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    warnings.simplefilter("ignore")  # nobody would read them, and a judge has its own words for what they are about
    gc.freeze()  # the parent's sockets and widgets must not be closed from here
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    sys.stdin = open(os.devnull)  # noqa: SIM115
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()):
        shell.ask_exit = sys.exit  # `exit()` in a notebook only asks the kernel to end later
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + GIGABYTES * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def ring(*_: Any) -> None:
        raise Overdue(seconds)

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
