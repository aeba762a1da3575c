"""figure(): a step of a run as a matplotlib picture; which picture, depends on the kind of step and on x."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from stepfit.explain import check_points
from stepfit.formats import counted
from stepfit.kernels.points import as_tensor
from stepfit.recording import Recording
from stepfit.steps import Step
from stepfit.viewers.choices import Choices
from stepfit.viewers.clusters import Plane, Wall
from stepfit.viewers.drawable import class_numbers, class_scores, layout
from stepfit.viewers.lines import ClassRegions, Curves
from stepfit.viewers.picture import Picture


def figure(step_or_run: Step | Recording[Any], x: Any = None, y: Any = None) -> Figure:
    """Draw a step of any algorithm, or the last step of a recording with the curves of the whole run beside it.

    k-means is drawn as a plane with the region of each center, or as the centers' images; gradient descent on two
    features as the regions of the classes; `choose_k` as curves over k; everything else as curves over the steps.

    Parameters
    ----------
    step_or_run : Step or Recording
        What to draw; `run[3]` is one step alone. `choose_k` needs the whole recording.
    x : array-like of shape (n, d), or path of a .npy file
        The points of the run; curves need none. k-means needs d = 2 (a plane), or a square number above 4 such as 784
        (images).
    y : array-like of shape (n,) or (n, 1), optional
        k-means on images: what each image shows, to say what most of a center's do. Gradient descent on two features
        needs it: the class of each point. Targets that are no classes lead to curves.

    Returns
    -------
    matplotlib.figure.Figure
        1200 pixels wide; `.savefig("picture.png")` writes it.

    Raises
    ------
    TypeError
        When step_or_run is neither a step nor a recording, x is missing, or one step of `choose_k` comes alone.
    ValueError
        When x is not what the run was made from, y has another number of values, or k-means has no picture for d.

    Examples
    --------
    >>> import stepfit
    >>> x = [[0.0, 0.0], [0.0, 1.0], [5.0, 0.0], [5.0, 1.0]]
    >>> run = stepfit.record(stepfit.lloyd(x, 2, seed=0))
    >>> print(stepfit.figure(run, x))
    Figure(1200x700)
    """
    picture = picture_of(step_or_run, x, y)
    picture.show(len(picture.steps) - 1)
    return picture.figure


def picture_of(step_or_run: Step | Recording[Any], x: Any, y: Any = None) -> Picture:
    """Choose the picture that fits the run and its points; raise the errors of `figure`."""
    if not isinstance(step_or_run, (Step, Recording)):
        raise TypeError(
            f"a {type(step_or_run).__name__} cannot be drawn; give a step, or keep the run first: record(lloyd(...))"
        )
    last = step_or_run.last if isinstance(step_or_run, Recording) else step_or_run
    return _PICTURES.get(last.kind, _curves)(step_or_run, last, x, None if y is None else as_tensor(y, "y"))


def _curves(run: Any, last: Any, x: Any, y: Any) -> Picture:
    return Curves(run)


def _choices(run: Any, last: Any, x: Any, y: Any) -> Picture:
    if isinstance(run, Step):
        raise TypeError("one k is no curve; give the recording of choose_k, or draw the clusters: figure(step.best, x)")
    return Choices(run)


def _clusters(run: Any, last: Any, x: Any, y: Any) -> Picture:
    x = _points(run, x, y)
    return Plane(run, x) if layout(x.shape[1]) == "plane" else Wall(run, y)


def _descent(run: Any, last: Any, x: Any, y: Any) -> Picture:
    scores = class_scores(last, 2)
    if scores is None:
        return Curves(run)
    x = _points(run, x, y)
    if y is None:
        raise ValueError("y is missing; gradient descent is drawn with the class of each point")
    classes = class_numbers(y, last, len(scores[0]))
    return Curves(run) if classes is None else ClassRegions(run, x, classes)


# By the kind of step: from (step or run, last step, x, y) to the picture. Any other kind has curves.
_PICTURES: dict[str, Callable[[Any, Any, Any, Any], Picture]] = {
    "kmeans": _clusters,
    "mini_batches": _clusters,
    "descent": _descent,
    "choice": _choices,
}


def _points(run: Any, x: Any, y: Tensor | None) -> Tensor:
    """Return x as a tensor, once it and y are known to fit the run."""
    if x is None:
        raise TypeError("x is missing; give the points that the run was made from")
    points = as_tensor(x, "x")
    if points.ndim != 2:
        raise ValueError(f"x has shape {tuple(points.shape)}; it must be (n, d), the points that the run was made from")
    check_points(run, *points.shape)
    if y is not None and len(y) != len(points):
        raise ValueError(f"y has {counted(len(y), 'value')} and x {counted(len(points), 'row')}; each row needs one")
    return points
