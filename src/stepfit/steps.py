"""Step, Stop and the one loop: an algorithm says how to begin and how to go on; all else watches.

A step is a frozen record. The next one depends on the last alone, so steps can be kept, scrubbed and resumed from.
"""

from __future__ import annotations

import operator
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Generic, TypeVar


class Stop(Enum):
    """Why the last step is the last. The text of each value says what to do about it."""

    CONVERGED = "nothing changes any more: the run is complete"
    TOLERANCE = "what the run watches, the last move or the gradient, fell under tol; lower tol to go on"
    MAX_STEPS = "the limit on steps came first; raise max_steps to go on"
    EARLY = (
        "the rows held out fitted no better for a while, so the best weights were kept; raise n_iter_no_change to go on"
    )
    PLATEAU = "the loss of the batches fell no further for a while; raise max_no_improvement to go on"
    INTERRUPTED = "the run was interrupted; resume from its last step to go on"
    DIVERGED = "the loss is not finite or over 1,000 times the first; try a smaller learning rate"


@dataclass(frozen=True, eq=False, kw_only=True)
class Step:
    """What every viewer may rely on. Each algorithm adds fields of its own.

    Attributes
    ----------
    index : int
        0 for the first step.
    loss : float
        The number being made small.
    seconds : float
        Wall time of this step.
    events : tuple of str
        What happened in it, in words.
    stop : Stop or None
        Set on the last step only.
    """

    index: int
    loss: float
    seconds: float
    events: tuple[str, ...] = ()
    stop: Stop | None = None


S = TypeVar("S", bound=Step)


class Steps(Iterator[S], Generic[S]):
    """The steps of one run, each yielded as soon as it is known, with the settings that made it.

    Attributes
    ----------
    settings : Mapping
        Plain values (str, int, float, bool, None), the seed that was drawn among them: enough to run it again.
    """

    def __init__(self, steps: Iterator[S], settings: Mapping[str, Any]) -> None:
        self._steps = steps
        self.settings = dict(settings)

    def __next__(self) -> S:
        return next(self._steps)


def run(first: Callable[[], S], following: Callable[[S], S], *, max_steps: int) -> Iterator[S]:
    """Yield the first step and those that follow; the last one says in `stop` why it is the last."""
    step = first()
    for _ in range(max_steps - 1):
        if step.stop is not None:
            break
        yield step
        step = following(step)
    yield step if step.stop else replace(step, stop=Stop.MAX_STEPS)


def settled(seed: int | None) -> int:
    """Give the seed of a run: the one asked for, or a drawn one where None was, so that every run can be run again."""
    if seed is None:
        return secrets.randbelow(2**32)
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(f"seed is {seed!r}; it must be a whole number, or None to draw one") from None
    if not 0 <= number < 2**62:
        raise ValueError(f"seed is {number}; it must be from 0 to {2**62 - 1}")
    return number
