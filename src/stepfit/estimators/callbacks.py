"""scikit-learn's callbacks (sklearn.callback, since 1.9): a fit is a task, and each of its steps a task under it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from stepfit.steps import Step, Steps, Stop

try:
    from sklearn.callback import CallbackSupportMixin as CallbackSupportMixin  # for the estimators
    from sklearn.callback import with_callbacks as _with_callbacks
except ImportError:  # an older scikit-learn has none to call

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Refuses callbacks."""

        def set_callbacks(self, *callbacks: Any) -> Any:
            """Raise ImportError."""
            raise ImportError("callbacks came with scikit-learn 1.9, and this one is older; update it, or use .steps()")

    def _with_callbacks(method: Any) -> Any:
        return method


S = TypeVar("S", bound=Step)
F = TypeVar("F", bound=Callable[..., Any])

ASKED = "a callback asked for the end"


def with_callbacks(fit: F) -> F:
    """Make scikit-learn end the callbacks of a fit, however the fit ends."""
    return _with_callbacks(fit)  # type: ignore[no-any-return]


class Watch:
    """The task tree of one fit: begun with the first run that is watched, and ended by `end`.

    The task of a step lasts from that step to the next one: it begins with the estimator as the step leaves it, and
    ends as the next one does. So the task of the last step is empty, and there are as many tasks as steps.
    Without callbacks nothing is done at all.

    Parameters
    ----------
    estimator : CallbackSupportMixin
        What is fitted; its fit is decorated by `with_callbacks`.
    X, y, sample_weight
        As fit got them.
    runs : int, default 1
        How many runs will be watched. With several each is a task of the fit, and has those of its steps.
    """

    def __init__(self, estimator: Any, X: Any, y: Any = None, sample_weight: Any = None, *, runs: int = 1) -> None:
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._context = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._estimator, self._runs = estimator, runs
        self._fit: Any = None  # the context of the fit's own task

    def __call__(self, steps: Steps[S], learned: Callable[[S], Mapping[str, Any]]) -> Iterable[S]:
        """Return the steps of a run, and tell the callbacks of each; `learned` gives the attributes that it leaves.

        A callback that asks for the end gets it: its step is the last, with stop INTERRUPTED and the event ASKED.
        """
        return self._followed(steps, learned) if hasattr(self._estimator, "_skl_callbacks") else steps

    def _followed(self, steps: Steps[S], learned: Callable[[S], Mapping[str, Any]]) -> Iterator[S]:
        limit = steps.settings.get("max_steps")
        if self._fit is None:
            self._fit = self._estimator._init_callback_context(max_subtasks=limit if self._runs == 1 else self._runs)
            self._fit.call_on_fit_task_begin(**self._context)
        run = self._fit
        if self._runs > 1:
            run = self._fit.subcontext(task_name="run", max_subtasks=limit)
            run.call_on_fit_task_begin(**self._context)
        task: Any = None
        for step in steps:
            whole = step.stop is not Stop.DIVERGED  # of which nothing is kept
            context = {
                **self._context,
                "reconstruction_attributes": (lambda step=step: learned(step)) if whole else None,
            }
            asked = task is not None and task.call_on_fit_task_end(**context)
            if asked and step.stop is None:
                step = replace(step, stop=Stop.INTERRUPTED, events=(*step.events, ASKED))
            task = run.subcontext(task_name="iter")  # scikit-learn's word
            task.call_on_fit_task_begin(**context)
            yield step
            if step.stop is not None:
                break
        if task is not None:
            task.call_on_fit_task_end(estimator=self._estimator)
        if run is not self._fit:
            run.call_on_fit_task_end(**context)

    def end(self) -> None:
        """Tell the callbacks that the fit has ended; the estimator has learned all that it will."""
        if self._fit is not None:
            self._fit.call_on_fit_task_end(**self._context, reconstruction_attributes={})
