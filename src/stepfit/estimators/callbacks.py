"""scikit-learn's callbacks (sklearn.callback, since 1.9): a fit is a task, and each of its steps a task under it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar

from stepfit.steps import Step, Steps, Stop

try:
    from sklearn.callback import CallbackSupportMixin as CallbackSupportMixin  # given on
    from sklearn.callback import with_callbacks
except ImportError:  # an older scikit-learn has none to call

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """What says so."""

        def set_callbacks(self, *callbacks: Any) -> Any:
            """Refuse them."""
            raise ImportError("callbacks came with scikit-learn 1.9, and this one is older; update it, or use .steps()")

    def with_callbacks(method: Any) -> Any:
        """Change nothing, one call deep as scikit-learn's, so that warnings point to the same line."""

        @wraps(method)
        def fit(*given: Any, **named: Any) -> Any:
            return method(*given, **named)

        return fit


S = TypeVar("S", bound=Step)
F = TypeVar("F", bound=Callable[..., Any])

ASKED = "a callback asked for the end"


def torn_down(fit: F) -> F:
    """Make a fit tear its callbacks down, however it ends."""
    return with_callbacks(fit)  # type: ignore[no-any-return]


class Watch:
    """The task tree of one fit: begun with the first run that is watched, and ended by `end`.

    The task of a step lasts from that step to the next one: it begins with the estimator as the step leaves it, and
    ends as the next one does. So the task of the last step is empty, and there are as many tasks as steps.
    Without callbacks nothing is done at all.

    Parameters
    ----------
    estimator : CallbackSupportMixin
        What is fitted; its fit is `torn_down`.
    X, y, sample_weight
        As fit got them.
    runs : int, default 1
        How many runs will be watched. With several each is a task of the fit, and has those of its steps.
    """

    def __init__(self, estimator: Any, X: Any, y: Any = None, sample_weight: Any = None, *, runs: int = 1) -> None:
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._told = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._estimator, self._runs = estimator, runs
        self._fit: Any = None  # the context of the fit's own task

    def __call__(self, steps: Steps[S], learned: Callable[[S], Mapping[str, Any]]) -> Iterable[S]:
        """Give the steps of a run back, and tell of each; `learned` gives the attributes that a step would leave.

        A callback that asks for the end gets it: its step is the last, with stop INTERRUPTED and the event ASKED.
        """
        return self._followed(steps, learned) if hasattr(self._estimator, "_skl_callbacks") else steps

    def _followed(self, steps: Steps[S], learned: Callable[[S], Mapping[str, Any]]) -> Iterator[S]:
        most = steps.settings.get("max_steps")
        if self._fit is None:
            self._fit = self._estimator._init_callback_context(max_subtasks=most if self._runs == 1 else self._runs)
            self._fit.call_on_fit_task_begin(**self._told)
        run = self._fit
        if self._runs > 1:
            run = self._fit.subcontext(task_name="run", max_subtasks=most)
            run.call_on_fit_task_begin(**self._told)
        task: Any = None
        for step in steps:
            whole = step.stop is not Stop.DIVERGED  # of which nothing is kept
            told = {**self._told, "reconstruction_attributes": (lambda step=step: learned(step)) if whole else None}
            asked = task is not None and task.call_on_fit_task_end(**told)
            if asked and step.stop is None:
                step = replace(step, stop=Stop.INTERRUPTED, events=(*step.events, ASKED))
            task = run.subcontext(task_name="iter")  # scikit-learn's word
            task.call_on_fit_task_begin(**told)
            yield step
            if step.stop is not None:
                break
        if task is not None:
            task.call_on_fit_task_end(estimator=self._estimator)
        if run is not self._fit:
            run.call_on_fit_task_end(**told)

    def end(self) -> None:
        """Tell of the end of the fit; the estimator has learned all that it will."""
        if self._fit is not None:
            self._fit.call_on_fit_task_end(**self._told, reconstruction_attributes={})
