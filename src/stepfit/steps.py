"""Step, Stop and the one loop: an algorithm defines its first step and how the next follows; everything else watches.

A step is a frozen record. The next step depends on the last alone, so steps can be kept, scrubbed and resumed from.
"""

from __future__ import annotations

import operator
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, ClassVar, Generic, TypeVar


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
    """The fields that every viewer may rely on. Each algorithm adds fields of its own.

    Attributes
    ----------
    index : int
        0 for the first step.
    loss : float
        The number that the algorithm minimises.
    seconds : float
        Wall time of this step.
    events : tuple of str
        What happened in this step, in words.
    stop : Stop or None
        Why the run ended. It is set on the last step only.
    state : Mapping or None
        What the algorithm carries to the next step besides the step's own fields, as tensors, plain values, and lists
        and dicts of these. It is empty when the algorithm carries nothing, and None when it was not kept; then the
        step cannot be resumed from.
    kind, loss_name : str
        Of the class: which viewers fit its steps ("" for those that every step has), and what its loss is called.
    """

    kind: ClassVar[str] = ""
    loss_name: ClassVar[str] = "loss"

    index: int
    loss: float
    seconds: float
    events: tuple[str, ...] = ()
    stop: Stop | None = None
    state: Mapping[str, Any] | None = field(default_factory=dict)

    @property
    def facts(self) -> tuple[str, ...]:
        """What a line of progress says of the step, besides its loss."""
        return ()

    def made_on(self, n: int, d: int) -> tuple[int, int]:
        """Return the shape of the x that the step was made from; n and d stand for what the step does not know."""
        return n, d


S = TypeVar("S", bound=Step)


class Steps(Iterator[S], Generic[S]):
    """The steps of one run, each yielded as soon as it is known, with the settings of the run.

    Attributes
    ----------
    settings : Mapping
        Plain values (str, int, float, bool, None) that suffice to repeat the run; they include the seed.
    """

    def __init__(self, steps: Iterator[S], settings: Mapping[str, Any]) -> None:
        self._steps = steps
        self.settings = dict(settings)

    def __next__(self) -> S:
        return next(self._steps)


def run(first: Callable[[], S], following: Callable[[S], S], *, max_steps: int) -> Iterator[S]:
    """Yield the first step and those that follow, at most `max_steps`; the last says in `stop` why it is the last."""
    step = first()
    for _ in range(max_steps - 1):
        if step.stop is not None:
            break
        yield step
        step = following(step)
    yield step if step.stop else replace(step, stop=Stop.MAX_STEPS)


def carried(resume: Step) -> Mapping[str, Any]:
    """Return the state that a run continues from; raise ValueError when the step was kept without it."""
    if resume.state is None:
        raise ValueError(
            f"resume is step {resume.index} without its state: a recording keeps the state of its last step only; "
            "resume from run.last, or keep the step itself while the run goes on"
        )
    return resume.state


def checked_seed(seed: int | None) -> int:
    """Return the seed of a run after checking it; None draws one, and `settings` records it so the run can be repeated.

    Raises
    ------
    TypeError
        When the seed is neither None nor a whole number.
    ValueError
        When the seed is negative or not below 2**62.
    """
    if seed is None:
        return secrets.randbelow(2**32)
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(f"seed is {seed!r}; it must be a whole number, or None to draw one") from None
    if not 0 <= number < 2**62:
        raise ValueError(f"seed is {number}; it must be from 0 to {2**62 - 1}")
    return number
