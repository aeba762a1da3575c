"""scikit-learn's callbacks, which watch the steps of a fit: the fit is the root task, and a step one below it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from stepfit.steps import Step, Stop

S = TypeVar("S", bound=Step)


class Watchers:
    """The callbacks of one fit, whose method is decorated `with_callbacks`.

    A task goes from one step to the next, as in scikit-learn: it begins with what is learned at the first and ends with
    what is at the second. After the last step one more begins, and ends with nothing.

    Parameters
    ----------
    estimator : CallbackSupportMixin
        Who fits.
    most : int or None
        The most steps, where that is known.
    X, y, sample_weight
        What fit was given.
    """

    def __init__(self, estimator: Any, most: int | None, X: Any, y: Any, sample_weight: Any) -> None:
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._given = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._root = estimator._init_callback_context(max_subtasks=most)
        self._root.call_on_fit_task_begin(**self._given)

    def follow(self, steps: Iterable[S], learned: Callable[[S], dict[str, Any]]) -> Iterator[S]:
        """Pass steps on and tell the callbacks of each; the run ends where one of them asks for it.

        `learned` gives the attributes with which a copy of the estimator predicts as it would after a step.
        """
        if not self._root._callbacks:
            yield from steps
            return
        task = None
        for step in steps:
            known = {"reconstruction_attributes": lambda step=step: learned(step)}  # asked for by some callbacks only
            if task and task.call_on_fit_task_end(**self._given, **known) and step.stop is None:
                step = replace(step, stop=Stop.INTERRUPTED)
            task = self._root.subcontext("iter")
            task.call_on_fit_task_begin(**self._given, **known)
            yield step
            if step.stop is not None:
                break
        if task:
            task.call_on_fit_task_end(estimator=self._given["estimator"])

    def end(self) -> None:
        """Tell that the fit has ended."""
        self._root.call_on_fit_task_end(**self._given, reconstruction_attributes={})
