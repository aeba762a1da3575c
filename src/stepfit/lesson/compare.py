"""show(): a recording in the player, or the learner's own step of k-means beside ours, up to where they part."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from stepfit import datasets
from stepfit.clustering.lloyd import KMeansStep, assign, lloyd
from stepfit.kernels import squared_distance
from stepfit.kernels.points import as_tensor
from stepfit.lesson.checks.commands import say
from stepfit.lesson.checks.exercise import UNTOUCHED, Learner, Wrong, a, apart_in_words, close, tensor
from stepfit.lesson.checks.verdict import Verdict
from stepfit.recording import Recording
from stepfit.steps import Stop
from stepfit.viewers import widget
from stepfit.viewers.trace import trace

if TYPE_CHECKING:
    from anywidget import AnyWidget

MAX_STEPS = 30


class Walk(NamedTuple):
    """The steps that the learner's function took from one start; at the last one, what is not right and its marks."""

    x: Tensor
    steps: list[KMeansStep]
    words: str = ""
    mark: dict[str, Any] | None = None


def show(what: Any, x: Any = None, y: Any = None, *, test: tuple[Any, Any] | None = None) -> AnyWidget | None:
    """Play a recording, or run your own step of k-means beside ours.

    Parameters
    ----------
    what : Recording or function
        A recording is played. A function `my_step(x, centers)` that gives `(labels, next_centers)` is run step by
        step, and the player stops where it first differs from ours: there it marks the points and the centers.
    x, y, test
        The points of a recording, and what else `stepfit.trace` wants for it. A function is tried on points (n, 2) of
        your own where x is given.

    Returns
    -------
    AnyWidget or None
        The player; None when there is nothing to be seen. What was found is said in words before.

    Raises
    ------
    TypeError, ValueError
        What came, and what would be right.

    Examples
    --------
    >>> show(...)
    Your step beside ours: not attempted. A line of `my_step` is still `...`; put your own code there.
    """
    if isinstance(what, Recording):
        if x is None:
            raise TypeError("a recording does not hold its points; give those that it was made on: show(run, x)")
        return widget.show(what, x, y, test=test)
    if what is ...:
        return _say("not attempted", UNTOUCHED.format(name="my_step"))
    if not callable(what):
        raise TypeError(
            f"{a(what)} cannot be shown; give a recording, show(record(steps), x), or your step: show(my_step)"
        )
    return compare(what, x)


def compare(
    my_step: Callable[[Tensor, Tensor], Any], x: Any = None, start: Any = None, *, max_steps: int = MAX_STEPS
) -> AnyWidget | None:
    """Run a step of k-means from a start again and again, and compare each time with what is right.

    Parameters
    ----------
    my_step : callable
        Takes (x, centers), gives (labels, next_centers). It runs apart from this process, as in a check.
    x : array-like of shape (n, 2), optional
        Default: 150 points in four clouds, from two starts; in the second, one center has no points.
    start : array-like of shape (k, 2), optional
        Default: four random points of x.
    max_steps : int
        The most steps; it ends before when no label changes.

    Returns
    -------
    AnyWidget or None
        The player with the steps of `my_step`, up to the first that is wrong; None when it gave none.

    Examples
    --------
    >>> from stepfit import assign
    >>> player = compare(lambda x, centers: (assign(x, centers), centers))
    Your step beside ours: not yet. Step 0: the labels are right, but 4 of 4 centers go to the wrong place, first center
    0: yours (-4.81, -4.30), right (-2.90, -0.98). What is the mean of its 17 points?
    >>> player
    my_step on 150 points. The labels are right, but 4 of 4 centers go to the wrong place, ...
    """
    name = getattr(my_step, "__name__", "")
    name = name if name.isidentifier() else "my_step"  # not "<lambda>"
    tries = _tries(x, start)

    def work() -> list[Walk]:
        walks: list[Walk] = []
        while len(walks) < len(tries) and not (walks and walks[-1].words):
            walks.append(_walk(Learner({name: my_step}), name, *tries[len(walks)], max_steps))
        return walks

    try:
        walks = apart_in_words(work)
    except Wrong as wrong:
        return _say(wrong.status, wrong.words, wrong.mistake)
    if walks[-1].words:
        _say("wrong", f"Step {walks[-1].steps[-1].index}: {walks[-1].words}")
        return widget.play(_played(walks[-1], name, max_steps))
    more = ", also with a center that has no points" if len(walks) > 1 else ""
    _say("passed", f"The same as ours in all {len(walks[0].steps)} steps{more}.")
    return widget.play(_played(walks[0], name, max_steps))


def _say(status: str, words: str, mistake: str | None = None) -> None:
    words = words[0].upper() + words[1:] + ("" if words.endswith((".", "?")) else ".")
    verdict = Verdict("Your step", "beside ours", status, words, mistake)
    say(str(verdict), verdict._repr_html_())


def _tries(x: Any, start: Any) -> list[tuple[Tensor, Tensor]]:
    """Return points and starts to try a step on."""
    points = datasets.blobs(n=150, k=4, spread=1.3, seed=1)[0] if x is None else as_tensor(x, "x")
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"x has shape {tuple(points.shape)}; the player draws your step on points (n, 2)")
    centers = next(lloyd(points, 4, start="random", seed=0)).centers if start is None else as_tensor(start, "start")
    if x is not None:
        return [(points, centers)]
    lonely = centers.clone()
    lonely[3] = torch.stack([points[:, 0].max() + 9, points[:, 1].min()])
    return [(points, centers), (points, lonely)]


def _walk(learner: Learner, name: str, x: Tensor, centers: Tensor, max_steps: int) -> Walk:
    """Let the learner's step go on from where it leads, until no label changes or something is not right."""
    steps: list[KMeansStep] = []
    while len(steps) < max_steps:
        labels, following = _pair(learner.call(name, x, centers), name, x, centers)
        steps.append(_step(x, centers, labels, following, steps))
        words, points, places = _difference(x, steps[-1])
        if words:
            frame = 2 * len(steps) - bool(points)  # the assignment of this step, or its update
            return Walk(x, steps, words, {"frame": frame, "points": points, "centers": places})
        if not steps[-1].changed:
            break
        centers = following
    return Walk(x, steps)


def _pair(given: Any, name: str, x: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Return labels and next centers if they are such, and say what is wrong if not."""
    n, k = len(x), len(centers)
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        what = f"{len(given)} values" if isinstance(given, (tuple, list)) else a(given)
        raise Wrong(f"`{name}` gives {what}, but a pair is wanted: `labels` and `next_centers`, in this order.")
    labels = tensor(given[0], f"What `{name}` gives as labels", shape=(n,), kind="whole").detach().long()
    following = tensor(given[1], f"What `{name}` gives as next centers", shape=(k, 2), kind="float").detach()
    strange = labels[(labels < 0) | (labels >= k)]
    if len(strange):
        raise Wrong(f"`{name}` gives the label {strange[0].item()}, but the {k} centers have the numbers 0 to {k - 1}.")
    return labels, following.to(centers)


def _step(x: Tensor, centers: Tensor, labels: Tensor, following: Tensor, before: list[KMeansStep]) -> KMeansStep:
    counts = labels.bincount(minlength=len(centers))
    return KMeansStep(
        index=len(before),
        loss=squared_distance(x, centers[labels]).sum().item(),
        seconds=0.0,
        centers=centers,
        labels=labels.int(),
        counts=counts,
        mass=counts.double(),
        changed=int((labels != before[-1].labels).sum()) if before else len(x),
        next_centers=following,
        shift=(following - centers).square().sum().item(),
    )


def _difference(x: Tensor, step: KMeansStep) -> tuple[str, list[Any], list[Any]]:
    """Say what is not right in a step; with each point its right label, or with each center its right place."""
    mine, right = step.labels.long(), assign(x, step.centers).long()
    distances = squared_distance(x[:, None], step.centers)
    own, least = (distances.gather(1, labels[:, None])[:, 0] for labels in (mine, right))
    wrong = (own > least * (1 + 1e-4)).nonzero()[:, 0].tolist()  # a tie may be broken either way
    if wrong:
        p, k = wrong[0], len(step.centers)
        have = f"{len(wrong)} points have" if len(wrong) > 1 else "1 point has"
        words = (
            f"{have} the wrong label, first point {p}: yours {mine[p]}, right {right[p]}. Its squared "
            f"distances to the centers 0 to {k - 1} are {_numbers(distances[p])}: which of them did you choose?"
        )
        return words, [[i, int(right[i])] for i in wrong], []
    means = torch.zeros(step.centers.shape, dtype=torch.float64).index_add(0, mine, x.double())
    means = means / step.counts[:, None]
    places = torch.where(step.counts[:, None] > 0, means, step.centers.double())
    # A center without points may stay, or move to wherever points are wanted; it may not be lost.
    fits = [
        close(found, place) if count else bool(found.isfinite().all())
        for found, place, count in zip(step.next_centers, places, step.counts)
    ]
    elsewhere = [j for j, fit in enumerate(fits) if not fit]
    if not elsewhere:
        return "", [], []
    j = elsewhere[0]
    yours, place, count = f"yours ({_numbers(step.next_centers[j])})", f"({_numbers(places[j])})", int(step.counts[j])
    go = "goes" if len(elsewhere) == 1 else "go"
    words = (
        f"the labels are right, but {len(elsewhere)} of {len(fits)} centers {go} to the wrong place, first center {j}: "
        f"{yours}, right {place}. What is the mean of its {count} points?"
        if count
        else f"the labels are right, but center {j} is lost: {yours}, before {place}. It has no points: what is 0 / 0?"
    )
    return words, [], [[i, *places[i].tolist()] for i in elsewhere]


def _numbers(values: Tensor) -> str:
    return ", ".join(f"{value:.2f}" for value in values.tolist())


def _played(walk: Walk, name: str, max_steps: int) -> dict[str, Any]:
    """Return the trace of a walk, with the learner's step for its code: ours would be the solution."""
    stop = Stop.INTERRUPTED if walk.words else Stop.CONVERGED
    settings = {"start": "given", "max_steps": max_steps, "empty": "keep", "tol": 0.0}
    play = trace(Recording(walk.steps, settings, stop), walk.x) | {"twin": False}
    loop, step = f"for step in range({max_steps}):", f"    labels, centers = {name}(x, centers)"
    play |= {"code": [[loop, None, []], [step, None, ["assign", "update"]]], "id": f"{play['id']}-{name}"}
    if walk.mark:
        legend = "Each ring has the color of the right label." if walk.mark["points"] else "Dashed: the right place."
        words = f"{walk.words[0].upper()}{walk.words[1:]} {legend}"
        play |= {"mark": walk.mark | {"words": words}, "alt": f"{name} on {len(walk.x)} points. {words}"}
    return play
