"""Judges of the exercises 2.1 and on: k-means."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from stepfit import datasets
from stepfit.clustering.lloyd import KMeansStep, lloyd
from stepfit.kernels import squared_distance
from stepfit.lesson.checks.exercise import Learner, Wrong, a, close, exercise, tensor
from stepfit.recording import Recording, record

# (n, k, d): all different, so that every mixed-up axis shows; and k = d = 2, where some mistakes fail silently.
SIZES = ((9, 4, 3), (5, 2, 2))
TRIED = " and ".join(f"n, k, d = {n}, {k}, {d}" for n, k, d in SIZES)


@exercise(
    "2.1",
    "The start",
    hints=(
        "Think of row numbers first, and take the rows second. A deck of cards never deals the same card twice.",
        "One line inside `choose_start`: shuffle the numbers 0 to n-1, keep the first k, take those rows of x.",
        "`torch.randperm(...)[:...]` gives k different numbers; put them between the brackets of `x[...]`.",
    ),
)
def _start(learner: Learner) -> str:
    n, d, draws = 12, 3, 500
    x = torch.randn(n, d, generator=learner.random)
    rows = []
    for k in (n, 5):  # all n of n: whoever draws with replacement cannot be lucky
        drawn = torch.stack([_rows_of(learner, x, k) for _ in range(draws)])  # (draws, k)
        twice = int((drawn.sort(dim=1).values.diff(dim=1) == 0).any(dim=1).sum())
        if twice:
            raise Wrong(
                f"We drew {draws} starts of {k} rows from {n} points, and in {twice} of them a point came twice. Two "
                "equal centers can never part. How do you draw numbers so that none comes back?",
                mistake="start-with-replacement",
            )
        rows.append(drawn)
    # Called without a copy of x, now that it is known to run: does the start share memory with the data?
    before, start = x.clone(), learner.value("choose_start")(x, 5).detach()
    start += 1
    if not x.equal(before):
        raise Wrong(
            "We wrote into your start, and x itself changed: it is a slice, and a slice shares memory with the data. "
            "Which way to take rows makes a copy?",
            mistake="slice-shares-memory",
        )
    if (rows[1] == torch.arange(5)).all():
        raise Wrong(
            f"In {draws} draws your start was always the first 5 rows. If the data is sorted, they are all alike. "
            "Where does chance come in?",
            mistake="start-not-random",
        )
    return f"{draws} starts of 5 and {draws} of all {n} points, and never a point twice"


def _rows_of(learner: Learner, x: Tensor, k: int) -> Tensor:
    """Call choose_start and tell which rows of x it took, (k,)."""
    what, d = f"`choose_start(x, {k})`", x.shape[1]
    start = learner.call("choose_start", x, k)
    if isinstance(start, Tensor) and start.shape == (k,):
        raise Wrong(
            f"{what} has shape ({k},): the numbers of the rows. The rows themselves are wanted, ({k}, {d}). "
            "What does `x[numbers]` give?",
            mistake="numbers-not-rows",
        )
    start = tensor(start, what, shape=(k, d), kind="float")
    same = (start.unsqueeze(1) == x.unsqueeze(0)).all(dim=2)  # (k, n)
    foreign = int((~same.any(dim=1)).sum())
    if foreign:
        raise Wrong(
            f"{foreign} of your {k} centers are no rows of x. A center far from all points may never get one. "
            "Where could you take places from that are sure to have points?",
            mistake="start-not-from-the-data",
        )
    return same.long().argmax(dim=1)


@exercise(
    "2.2",
    "Squared distances",
    hints=(
        "Every point must meet every center. An axis of length 1 stretches to meet the other side's axis.",
        "The first To Do makes `(n, 1, d)` minus `(1, k, d)`. The second squares, and adds up over the features.",
        "`x.unsqueeze(1) - centers.unsqueeze(...)`, then `pairs.square().sum(dim=...)` over the last axis.",
    ),
)
def _squared_distances(learner: Learner) -> str:
    for n, k, d in SIZES:
        x, centers = _problem(learner, n, k, d)
        _judge_distances(learner, "squared_distances", x, centers)
    return f"all distances right for {TRIED}. Which of the three axes did you add over, and why that one?"


def _judge_distances(learner: Learner, name: str, x: Tensor, centers: Tensor) -> None:
    (n, d), k = x.shape, len(centers)

    def meeting(error: Exception) -> Wrong | None:
        if not _is_misfit(error):
            return None
        return Wrong(
            f"{_said(error)}. With x of shape ({n}, {d}) and centers ({k}, {d}), the axes do not line up as they "
            "stand. Where does each side need an axis of length 1, so that every pair meets?",
            mistake="no-unsqueeze",
        )

    found = learner.call(name, x, centers, explain=meeting)
    shape, pairs = _shape(found), x.double().unsqueeze(1) - centers.double()
    if shape != (n, k) and shape in ((n, d), (k, d), (d,), ()):
        raise Wrong(
            f"`{name}` gave the shape {shape}; one number for each of the {n} points and each of the {k} centers is "
            f"wanted, ({n}, {k}). You have added up over the wrong axis. Which axis of (n, k, d) holds the features?",
            mistake="distance-over-wrong-axis",
        )
    if shape == (k, n):
        raise Wrong(
            f"`{name}` gave the shape ({k}, {n}), a row for each center; a row for each *point* is wanted, ({n}, {k}). "
            "Which side got its axis of length 1 in which place?",
            mistake="distances-transposed",
        )
    found = tensor(found, f"`{name}(x, centers)`", shape=(n, k), kind="float")
    right = pairs.square().sum(dim=2)
    if _near(found, right):
        return
    size = x.double().square().sum(dim=1, keepdim=True)
    if _near(found, right.sqrt()):
        raise Wrong(
            f"These are the distances; their squares are wanted. {_differs(found, right)} "
            "What must be left out, or undone?",
            mistake="root-taken",
        )
    if _near(found, right / d):
        raise Wrong(
            f"Your numbers are {d} times too small, and there are {d} features: you took their mean. The labels would "
            "be the same, the inertia would not. What adds up instead?",
            mistake="mean-not-sum",
        )
    if _near(found, pairs.abs().sum(dim=2)):
        raise Wrong(
            "You added up absolute differences: how far a taxi drives along the streets. "
            f"{_differs(found, right)} What happens to each difference in Pythagoras' theorem?",
            mistake="absolute-not-square",
        )
    if _near(found, right - size) or _near(found, (right - size).clamp_min(0)):
        raise Wrong(
            "Your numbers lack the squared length of each point. Its nearest center is still the same one, but these "
            f"are no distances: {_differs(found, right)} Which term of the formula is missing?",
            mistake="point-length-missing",
        )
    if (found < -1e-3 * right.max()).any():
        raise Wrong(
            f"The smallest of your distances is {found.min():.3g}, and a distance cannot be negative. "
            "What keeps + and - from canceling out?",
            mistake="no-square",
        )
    raise Wrong(f"{_differs(found, right)} Can you do this one by hand?", mistake="value")


@exercise(
    "2.3",
    "The nearest center",
    hints=(
        "For each point you look along its row of distances, and want to know *where* the smallest is, not how large.",
        "`dim` is the axis that disappears. From `(n, k)` to `(n,)`: which one goes?",
        "`distances.argmin(dim=...)`, with the number of the axis of the centers.",
    ),
)
def _nearest(learner: Learner) -> str:
    for n, k in ((7, 3), (2, 2)):
        distances = torch.rand(n, k, generator=learner.random)
        labels = _labels(learner, distances)
        if labels.equal(distances.argmin(dim=1)):
            continue
        if labels.equal(distances.argmax(dim=1)):
            raise Wrong(
                f"Every point went to its *farthest* center. {_mislabeled(labels, distances)} "
                "What would the inertia do?",
                mistake="argmax-for-argmin",
            )
        raise Wrong(f"{_mislabeled(labels, distances)} Which one is the smallest of these?", mistake="value")
    ties = torch.tensor([[1.0, 1.0, 2.0], [3.0, 0.0, 0.0], [5.0, 5.0, 5.0]])
    labels = _labels(learner, ties)
    if labels.tolist() != [0, 1, 0]:
        raise Wrong(
            f"{_mislabeled(labels, ties)} Two are the same there, and a tie goes to the lowest number, so that each "
            "run gives the same answer. Which does yours take?",
            mistake="tie-to-the-higher",
        )
    return "labels right for 7 x 3 and 2 x 2 distances, and a tie goes to the lowest number"


def _labels(learner: Learner, distances: Tensor) -> Tensor:
    n, k = distances.shape
    labels = learner.call("nearest", distances)
    if n != k and _shape(labels) == (k,):
        raise Wrong(
            f"`nearest` gave {k} answers for {n} points: you found the nearest *point* for each center. "
            "One answer for each row is wanted. Which axis must disappear?",
            mistake="argmin-over-wrong-axis",
        )
    if isinstance(labels, tuple):
        raise Wrong(
            f"`nearest` gave {len(labels)} things. `min` along an axis tells how large the smallest is and also where "
            "it is. Which of the two is the label?",
            mistake="value-and-place",
        )
    if isinstance(labels, Tensor) and labels.is_floating_point() and close(labels, distances.amin(dim=1)):
        raise Wrong(
            "`nearest` gave the smallest distances; the *number* of the center is wanted, 0, 1 or 2. "
            "Which function tells where the smallest is?",
            mistake="smallest-not-its-place",
        )
    return tensor(labels, "`nearest(distances)`", shape=(n,), kind="whole").long()


def _mislabeled(labels: Tensor, distances: Tensor) -> str:
    """Evidence: the first point with another label than its nearest center's."""
    i = int((labels != distances.argmin(dim=1)).long().argmax())
    return f"Point {i} has the squared distances {_numbers(distances[i])}, and you gave it label {int(labels[i])}."


@exercise(
    "2.4",
    "The means",
    hints=(
        "A mean is a sum divided by a count. Each center has its own sum (a row) and its own count (a number).",
        "First To Do: for each j, add up the rows of `x[labels == j]`. Second: divide by the counts as a column.",
        "`torch.stack([x[labels == j].sum(dim=...) for j in range(k)])`, then `sums / counts.unsqueeze(...)`.",
    ),
)
def _new_centers(learner: Learner) -> str:
    for n, k, d in SIZES:
        x, centers = _problem(learner, n, k, d)
        labels = torch.cat([torch.arange(k), torch.zeros(n - k, dtype=torch.int64)])  # no two equal counts at k = 2
        labels = labels[torch.randperm(n, generator=learner.random)]
        found = learner.call("new_centers", x, labels, centers, explain=_not_a_column(k, d))
        if _shape(found) in ((k, k), (k,), (k, 1)) and _shape(found) != (k, d):
            raise Wrong(
                f"`new_centers` gave the shape {_shape(found)}, but each center has {d} features: ({k}, {d}). "
                "Over which axis should the points of a center be added up, and which must stay?",
                mistake="sum-over-features",
            )
        found = tensor(found, "`new_centers(x, labels, centers)`", shape=(k, d), kind="float")
        sums, counts = _sums(x, labels, k), labels.bincount(minlength=k)
        right = sums / counts.unsqueeze(1)
        if close(found, right):
            continue
        if close(found, x.double().mean(dim=0).expand(k, d)):
            raise Wrong(
                f"All {k} centers came out the same, {_numbers(found[0])}: the mean of *all* points. "
                "Which points belong to center j alone?",
                mistake="mean-of-all-data",
            )
        if close(found, sums):
            raise Wrong(
                f"These are the sums. Center 0 has {int(counts[0])} points. What is still to be done with that number?",
                mistake="sum-not-mean",
            )
        if close(found, sums / n):
            raise Wrong(
                f"You divided every sum by {n}, the number of all points. Center 0 has only {int(counts[0])}. "
                "By what must its sum be divided?",
                mistake="divided-by-n",
            )
        if k == d and close(found, sums / counts):
            raise _column_wanted(k, d)
        raise Wrong(f"{_differs(found, right, 'center', 'feature')} Which points have this label?", mistake="value")
    return f"means right for {TRIED}. At k = d = 2 a row of counts would have failed silently"


def _not_a_column(k: int, d: int) -> Callable[[Exception], Wrong | None]:
    def explain(error: Exception) -> Wrong | None:
        if "stack expects each tensor to be equal size" in str(error):
            return Wrong(
                "The sums have different lengths, one number for each *point*. Every center needs as many numbers as "
                "there are features. Over which axis of `x[labels == j]` must you add?",
                mistake="sum-over-features",
            )
        return _column_wanted(k, d) if _is_misfit(error) else None

    return explain


def _column_wanted(k: int, d: int) -> Wrong:
    return Wrong(
        f"({k}, {d}) meets the counts ({k},): shapes line up from the right, so the counts are taken as a *row*, "
        "one for each feature. Each row of the centers has its own count. Which shape makes them a column?",
        mistake="counts-not-a-column",
    )


@exercise(
    "2.5",
    "Empty clusters",
    hints=(
        "A center without points has no mean. Decide for each row: the new one or the old one.",
        "`torch.where` takes a condition, what to take where it is true, and what where it is false. "
        "The condition is about the counts, and must be a column.",
        "`torch.where(counts.unsqueeze(...) > 0, ..., ...)`: means where there are points, else the old centers.",
    ),
)
def _update(learner: Learner) -> str:
    for (n, k, d), empty in ((SIZES[0], [1, 3]), (SIZES[1], [1])):
        x, centers = _problem(learner, n, k, d)
        full = [j for j in range(k) if j not in empty]
        labels = torch.tensor([full[i % len(full)] for i in range(n)])
        found = learner.call("update", x, labels, centers, explain=_not_a_column(k, d))
        found = tensor(found, "`update(x, labels, centers)`", shape=(k, d), kind="float")
        right = _updated(x, labels, centers)
        if close(found[full], centers[full]):
            raise Wrong(
                f"The centers that have points did not move: center 0 stays at {_numbers(found[0])}, and its points "
                f"have the mean {_numbers(right[0])}. When is the old center the right one, and when the mean?",
                mistake="choice-turned-around",
            )
        _judge_empty(found, x, right, empty)
        if not close(found, right):
            raise Wrong(
                f'{_differs(found, right, "center", "feature")} Does `check("2.4")` still pass?', mistake="value"
            )
    return "a center without points keeps its place, and the others move to their means"


def _judge_empty(found: Tensor, x: Tensor, right: Tensor, empty: Sequence[int]) -> None:
    """Refuse what is wrong with the centers that have no points."""
    for j in empty:
        here = f"Center {j} has no points. It should stay at {_numbers(right[j])}"
        if found[j].isnan().any():
            raise Wrong(
                f"{here}, and is NaN: 0/0. In the next step all points would go to it. What could it keep instead?",
                mistake="empty-cluster-is-nan",
            )
        if not found[j].any():
            raise Wrong(
                f"{here}, and went to zero. Nothing in the data says that zero is a good place. "
                "Dividing by at least 1 avoids NaN, but which center does it give?",
                mistake="empty-cluster-is-zero",
            )
        if not close(found[j], right[j]) and (found[j] == x).all(dim=1).any():
            raise Wrong(
                f"{here}, and moved to one of the points. That is a good rule too, and stepfit's own; here we keep "
                "the old place, so that your steps can be compared with ours. What would you write for that?",
                mistake="empty-cluster-moved",
            )


@exercise(
    "2.6",
    "One step",
    hints=(
        "You have written all of it. Distances go into labels, and labels go into new centers.",
        "`nearest` takes what `squared_distances` gives. `update` takes x, the labels and the centers.",
        "`labels = nearest(...)`, then `return labels, update(...)`.",
    ),
)
def _my_step(learner: Learner) -> str:
    _judge_step(learner, "my_step")
    return f"labels and next centers right for {TRIED}, and with a center that has no points"


def _judge_step(learner: Learner, name: str) -> None:
    for n, k, d in SIZES:
        x, centers = _problem(learner, n, k, d)
        lost = centers.clone()
        lost[1] = 1000.0
        for start in (centers, lost):
            labels, following = _pair(learner.call(name, x, start), f"`{name}(x, centers)`", n, k, d)
            distances = _distances(x, start)
            right = distances.argmin(dim=1)
            if not labels.equal(right):
                raise Wrong(
                    f"{_mislabeled(labels, distances)} Do the distances come in, and is the nearest taken?",
                    mistake="labels",
                )
            if close(following, start):
                raise Wrong(
                    "The labels are right, but the next centers are the old ones: nothing will ever move. "
                    "Which of your functions moves them?",
                    mistake="centers-never-written-back",
                )
            wanted = _updated(x, right, start)
            empty = [j for j, count in enumerate(right.bincount(minlength=k).tolist()) if count == 0]
            _judge_empty(following, x, wanted, empty)
            if not close(following, wanted):
                raise Wrong(
                    f"The labels are right. {_differs(following, wanted, 'center', 'feature')} "
                    "Which points have this label?",
                    mistake="value",
                )


def _refuse_lost(centers: Tensor) -> None:
    lost = int((~centers.isfinite().all(dim=1)).sum())
    if lost:
        raise Wrong(
            f"{lost} of your {len(centers)} centers are NaN: they have lost their points on the way, and then 0/0. "
            "Does your step keep the old place of a center without points?",
            mistake="empty-cluster-is-nan",
        )


def _pair(result: Any, what: str, n: int, k: int, d: int) -> tuple[Tensor, Tensor]:
    """Return labels (n,) and centers (k, d) if the result is that pair."""
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        came = f"{len(result)} things" if isinstance(result, (tuple, list)) else a(result)
        raise Wrong(
            f"{what} gave {came}; a pair is wanted: the labels and the centers. What stands behind your `return`?",
            mistake="not-a-pair",
        )
    if (_shape(result[0]), _shape(result[1])) == ((k, d), (n,)):
        raise Wrong(
            f"{what} gave the centers first and the labels second. Whoever calls it expects it the other way round. "
            "In which order does the docstring name them?",
            mistake="pair-turned-around",
        )
    labels = tensor(result[0], f"the labels of {what}", shape=(n,), kind="whole").long()
    return labels, tensor(result[1], f"the centers of {what}", shape=(k, d), kind="float")


@exercise(
    "2.7",
    "The inertia",
    hints=(
        "Give each point its own center, then it is one distance for each point, and one sum over all.",
        "`centers[labels]` has the shape of x. Subtract, square, add up everything.",
        "`(x - centers[...]).square().sum()`, without a `dim`.",
    ),
)
def _inertia(learner: Learner) -> str:
    for n, k, d in SIZES:
        x, centers = _problem(learner, n, k, d)
        distances = _distances(x, centers)
        labels = distances.argmin(dim=1)
        found = _number(learner.call("inertia", x, labels, centers), "`inertia(x, labels, centers)`")
        right = float(distances.amin(dim=1).sum())
        if _equal(found, right):
            continue
        came = f"`inertia` gave {found:.4g}; the sum of the squared distances is {right:.4g}."
        own = x.double() - centers.double()[labels]
        if _equal(found, right / n) or _equal(found, right / (n * d)):
            raise Wrong(
                f"{came} You took a mean. The inertia is a sum, so that twice as many points count twice. "
                "Which word of your line makes the mean?",
                mistake="mean-not-sum",
            )
        if _equal(found, float(distances.sum())):
            raise Wrong(
                f"{came} You added every point's distance to *every* center. Which one of the {k} is its own?",
                mistake="every-center-counted",
            )
        if _equal(abs(found), abs(float(own.sum()))):
            raise Wrong(
                f"{came} Without squares, + and - cancel out. What must happen to each difference first?",
                mistake="no-square",
            )
        if _equal(found, float(own.abs().sum())):
            raise Wrong(
                f"{came} You added up absolute differences. What does Pythagoras do with each difference?",
                mistake="absolute-not-square",
            )
        if _equal(found, float(distances.amin(dim=1).sqrt().sum())) or _equal(found, math.sqrt(right)):
            raise Wrong(f"{came} There is a root in it. Is one wanted?", mistake="root-taken")
        raise Wrong(f"{came} Which center does `labels[0]` name for point 0?", mistake="value")
    return f"the inertia is right for {TRIED}"


@exercise(
    "2.8",
    "The loop",
    hints=(
        "What must survive from one step to the next? The centers, to go on from; and the labels, to compare with.",
        "In the loop: remember the labels, do a step (its centers become *the* centers), compare, `break` when equal.",
        "`for _ in range(max_steps):` then `labels, centers = step(x, centers)`, "
        "`if labels.equal(...): break`, and `before = labels`. Before the loop, `before` can be all -1.",
    ),
)
def _kmeans(learner: Learner) -> str:
    n, k, d, enough = 60, 4, 3, 50
    x, run = _long_run(learner, n, k, d)
    start, last, step = run[0].centers, run.last, _Recorder()
    labels, centers = _pair(
        learner.call("kmeans", x, start, enough, step, may_change=True), "`kmeans(x, centers)`", n, k, d
    )
    if close(centers, start) or (len(step.given) > 1 and close(step.given[1], start)):
        raise Wrong(
            "Every step of your loop begins with the same old centers: the new ones are never written back. "
            "Which name does the next round hand to `step`?",
            mistake="centers-never-written-back",
        )
    if labels.equal(run[0].labels.long()):
        raise Wrong(
            f"Your loop stops after one step; here it takes {len(run)} until nothing changes. What you compare is "
            "equal from the first moment. Are old and new two names of one tensor, or was something written in place? "
            "Would a clone of the old one still be equal?",
            mistake="compared-with-itself",
        )
    _refuse_lost(centers)
    still = int((labels != last.labels).sum())
    if still or not close(centers, last.centers):
        raise Wrong(
            f"It has not come to rest: {still} of {n} labels are not those of the complete run ({len(run)} steps, "
            f"inertia {last.inertia:.4g}; yours {_step(x, centers).inertia:.4g}). When does your loop stop?",
            mistake="stops-early",
        )
    if not step.given:
        raise Wrong(
            "The answer is right, but your loop never calls the `step` it is given. So nobody can hand it a faster "
            "one later on. Which name do you call?",
            mistake="step-not-used",
        )
    if len(step.given) >= enough:
        raise Wrong(
            f"The answer is right, but your loop did all {enough} steps; nothing changed after {len(run)}. "
            "How can it see that it is done?",
            mistake="never-stops",
        )
    step = _Recorder()
    learner.call("kmeans", x, start, 2, step, may_change=True)
    if len(step.given) > 3:  # one more than asked may be for the labels of the last centers
        raise Wrong(
            f"With max_steps=2 your loop did {len(step.given)} steps. Where does it look at `max_steps`?",
            mistake="max-steps-ignored",
        )
    # Called without copies, now that it is known to run: a start that is a slice of the data is the worst case.
    data = x.clone()
    learner.value("kmeans")(data, data[:k], enough, _Recorder())
    if not data.equal(x):
        raise Wrong(
            f"We began with `x[:{k}]`, and afterwards x itself was changed in {int((data != x).any(dim=1).sum())} "
            "rows: your loop writes into the centers it was given, and a slice shares memory with the data. "
            "Can the new centers be a new tensor?",
            mistake="start-changed-in-place",
        )
    return f"the run comes to rest after {len(run)} steps, as ours does, and neither x nor the start was touched"


class _Recorder:
    """A right step of k-means that remembers the centers it was given."""

    def __init__(self) -> None:
        self.given: list[Tensor] = []

    def __call__(self, x: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
        self.given.append(centers.clone())
        step = _step(x, centers)
        return step.labels.long(), step.next_centers


def _long_run(learner: Learner, n: int, k: int, d: int) -> tuple[Tensor, Recording[KMeansStep]]:
    """Points, and a run on them that takes at least five steps."""
    while True:
        x = torch.randn(n, d, generator=learner.random)
        run = record(lloyd(x, k, start=x[torch.randperm(n, generator=learner.random)[:k]], empty="keep"))
        if len(run) >= 5:
            return x, run


@exercise(
    "2.9",
    "Distances by a product",
    hints=(
        "All products of a point with a center are one matrix product; nothing with three axes is needed.",
        "`x` is `(n, d)` and `centers` is `(k, d)`: turn one of them over. Then a column `(n, 1)`, the products "
        "`(n, k)` and a row `(k,)` go into the formula.",
        "`products = x @ centers.T`; then `x.square().sum(dim=1, keepdim=True) - 2 * products + ...`, "
        "and `.clamp_min(0)` at the end.",
    ),
)
def _product_distances(learner: Learner) -> str:
    for n, k, d in SIZES:
        x, centers = _problem(learner, n, k, d)
        _judge_distances(learner, "product_distances", x, centers)
    x = torch.randn(64, 13, generator=learner.random) + 100  # each point is a center; far from 0, rounding is coarse
    found = learner.call("product_distances", x, x)
    if (found < 0).any():
        raise Wrong(
            f"We put a center on every point, far from zero, and one squared distance came out as {found.min():.3g}: "
            "large numbers cancel, and the rounding is left. What lifts it to 0?",
            mistake="negative-by-rounding",
        )
    _refuse_block(learner, "product_distances")
    return f"right for {TRIED}, none below 0, and nothing larger than x or the answer was ever held"


def _refuse_block(learner: Learner, name: str) -> None:
    n, k, d = 50, 20, 30
    with _Watch() as watch:
        learner.call(name, *_problem(learner, n, k, d))
    if watch.largest >= n * k * d:
        raise Wrong(
            f"The numbers are right, but for {n} points, {k} centers and {d} features your code holds a tensor of "
            f"{watch.largest:,} numbers, n x k x d. The answer has {n * k:,}. Which line makes the third axis?",
            mistake="three-axes-held",
        )


class _Watch(TorchFunctionMode):
    """Counts the calls of torch, and the numbers in the largest tensor that came out of one."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.largest = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls += 1
        if isinstance(result, Tensor):  # by its memory: an expanded axis takes none
            self.largest = max(self.largest, result.untyped_storage().nbytes() // result.element_size())
        return result


@exercise(
    "2.10",
    "Sums by a product",
    hints=(
        "In the one-hot table, the column of center j has a 1 for each of its points. A product adds up what has a 1.",
        "`one_hot` needs to know k, the last center may have no points. Turn the table over before the product, "
        "and give it x's dtype.",
        "`torch.nn.functional.one_hot(labels, k).to(...)`, and then `one_hot.T @ ...`.",
    ),
)
def _sums_by_product(learner: Learner) -> str:
    return _judge_sums(learner, "sums_by_product")


@exercise(
    "2.11",
    "Sums by index",
    hints=(
        "Each point is added to one row of the sums, and its label says to which.",
        "First a tensor of zeros, `(k, d)`. Then `index_add_` along axis 0 with labels and x.",
        "`sums = torch.zeros(k, ..., dtype=x.dtype)`, then `sums.index_add_(0, ..., ...)`.",
    ),
)
def _sums_by_index(learner: Learner) -> str:
    return _judge_sums(learner, "sums_by_index")


def _judge_sums(learner: Learner, name: str) -> str:
    def explain(error: Exception) -> Wrong | None:
        if "dtype" in str(error) or "scalar type" in str(error):
            return Wrong(
                f"{_said(error)}. Both sides need the same kind of number, and one of them is whole numbers. "
                "Which one, and how do you turn it into floats?",
                mistake="dtypes-differ",
            )
        if "cannot be multiplied" in str(error):
            return Wrong(
                f"{_said(error)}. In a product the inner axes must be the same, and the axis that disappears here is "
                "that of the points. Which side must be turned over?",
                mistake="no-transpose",
            )
        return None

    for n, k, d in SIZES:
        for used in (k, k - 1):  # with k - 1 the last center has no points
            x, _ = _problem(learner, n, k, d)
            labels = torch.arange(n) % used
            found = learner.call(name, x, labels, k, explain=explain)
            what = f"`{name}(x, labels, {k})`"
            if _shape(found) == (used, d) and used < k:
                raise Wrong(
                    f"{what} has shape ({used}, {d}): the last center has no points, and its row is missing. "
                    "Where could your code learn that there are more centers than labels tell?",
                    mistake="last-center-missing",
                )
            found = tensor(found, what, shape=(k, d), kind="float")
            right = _sums(x, labels, k)
            if close(found, right):
                continue
            if close(found, right / labels.bincount(minlength=k).clamp_min(1).unsqueeze(1)):
                raise Wrong("These are the means; here the sums are wanted. What is too much?", mistake="mean-not-sum")
            if all(any(close(found[j], point) for point in x[labels == j]) for j in range(used)):
                raise Wrong(
                    f"Row 0 of your sums is a single point, {_numbers(found[0])}, though {int((labels == 0).sum())} "
                    "belong to it: when a label comes twice, `sums[labels] += x` writes the row only once. "
                    "What adds each time?",
                    mistake="written-once",
                )
            raise Wrong(f"{_differs(found, right, 'center', 'feature')} Which points have this label?", mistake="value")
    _refuse_loop(learner, name, lambda n, k, d: (_problem(learner, n, k, d)[0], torch.arange(n) % k, k))
    return "the sums are right, also for a center without points, and there is no loop"


def _refuse_loop(learner: Learner, name: str, problem: Callable[[int, int, int], tuple[Any, ...]]) -> None:
    """Refuse a function whose calls of torch grow with the number of centers, or of points."""
    calls = []
    for n, k in ((60, 3), (60, 30), (120, 3)):
        with _Watch() as watch:
            learner.call(name, *problem(n, k, 7))
        calls.append(watch.calls)
    few, centers, points = calls
    for more, what in ((centers - few, "center"), (points - few, "point")):
        if more > 20:
            raise Wrong(
                f"The numbers are right, but there is a loop: with more {what}s your code makes {more} more calls of "
                f"PyTorch. Which single call does the work of all {what}s at once?",
                mistake=f"loop-over-{what}s",
            )


@exercise(
    "2.12",
    "The fast step",
    hints=(
        "The same three parts as in `my_step`, each in its fast version; and the empty cluster as in 2.5.",
        "`product_distances` for the distances, one of the two sums, the counts by `bincount` as a column, "
        "and `torch.where` at the end.",
        "`labels = nearest(product_distances(...))`, `counts = labels.bincount(minlength=...).unsqueeze(1)`, "
        "`means = sums_by_index(...) / counts`, then `torch.where(counts > 0, ..., ...)`.",
    ),
)
def _fast_step(learner: Learner) -> str:
    _judge_step(learner, "fast_step")
    _refuse_block(learner, "fast_step")
    _refuse_loop(learner, "fast_step", lambda n, k, d: _problem(learner, n, k, d))
    return "the same step as before, without the block and without a loop"


@exercise(
    "2.13",
    "Pixels to points",
    hints=(
        "First the kind of number, then the range.",
        "The largest pixel is 255, and it should become 1.",
        "`images.float() / ...`.",
    ),
)
def _to_points(learner: Learner) -> str:
    images = torch.randint(0, 256, (6, 784), generator=learner.random).to(torch.uint8)
    images[0, :2] = torch.tensor([0, 255])
    found = tensor(learner.call("to_points", images), "`to_points(images)`", shape=(6, 784))
    if not found.is_floating_point():
        raise Wrong(
            f"`to_points` gave {found.dtype}, and whole numbers have no room between 0 and 1. "
            "Which dtype has, and when must it come: before or after dividing?",
            mistake="pixels-still-whole",
        )
    right = images.double() / 255
    if close(found, right):
        return "0 becomes 0, 255 becomes 1, and what lies between stays between"
    if close(found, images):
        raise Wrong("These are floats, but still from 0 to 255. What brings 255 to 1?", mistake="pixels-not-scaled")
    if set(found.unique().tolist()) <= {0.0, 1.0}:
        raise Wrong(
            "Only zeros and ones are left: the fractions were cut off before there was room for them. "
            "What must come first, floats or dividing?",
            mistake="pixels-cut-off",
        )
    raise Wrong(
        f"The pixel 255 became {found[0, 1]:.4g}, and pixel {images[1, 0]} became {found[1, 0]:.4g}. "
        "Which number brings 255 to exactly 1, and leaves 0 at 0?",
        mistake="value",
    )


@exercise(
    "2.14",
    "The digits",
    hints=(
        "Two lines: the pictures become points, and the points go into your k-means.",
        "The start is `points[rows]`. Name the last two arguments: `max_steps=` and `step=`.",
        "`points = to_points(...)`, then `clusters = kmeans(points, points[...], max_steps=..., step=...)`.",
    ),
)
def _digits(learner: Learner) -> str:
    images, _ = datasets.mnist()
    x = images.float() / 255
    labels, centers = _pair(learner.value("clusters"), "`clusters`", len(x), 10, 784)
    _refuse_lost(centers)
    if centers.max() > 2:
        raise Wrong(
            f"The largest number in your centers is {centers.max():.0f}: these are pixels from 0 to 255. "
            "Did the pictures go through `to_points`?",
            mistake="pixels-not-scaled",
        )
    here, after = record(lloyd(x, 10, start=centers.float(), empty="keep", max_steps=2))
    # Twenty steps from any start leave few labels to change; the first ten steps change more.
    if after.changed > 500:
        raise Wrong(
            f"The inertia of your centers is {here.inertia:,.0f}, and one more step would still change "
            f"{after.changed:,} labels; after twenty steps it is a few. How many steps did yours take?",
            mistake="stops-early",
        )
    apart = int((labels != here.labels).sum())
    if apart > 500:  # the labels may be those of one step before
        raise Wrong(
            f"{apart:,} of your labels do not name the nearest of your centers: the two do not belong together. "
            "Are both from the same call?",
            mistake="labels",
        )
    return f"inertia {here.inertia:,.0f}, and one more step would change {after.changed} of 10,000 labels"


@exercise(
    "2.15",
    "Purity",
    hints=(
        "Go through the clusters one by one: how many of its pictures show the digit that most of them show?",
        "A row of `table` is a cluster. The first To Do takes the largest number of each row.",
        "`table.amax(dim=...)`, then its sum divided by the number of all pictures.",
    ),
)
def _purity(learner: Learner) -> str:
    for n, k in ((200, 4), (90, 10)):
        labels = torch.randint(k, (n,), generator=learner.random)
        labels[:k] = torch.arange(k)
        digits = torch.where(torch.rand(n, generator=learner.random) < 0.6, labels // 2, n % 7)
        found = _number(learner.call("purity", labels, digits, k), "`purity(labels, digits, k)`")
        table = torch.zeros(k, 10, dtype=torch.float64)
        table.index_put_((labels, digits), torch.tensor(1.0, dtype=torch.float64), accumulate=True)
        most = table.amax(dim=1)
        right = float(most.sum()) / n
        if _equal(found, right):
            continue
        came = f"`purity` gave {found:.4g}; {int(most.sum())} of {n} pictures show what most of their cluster shows."
        if found > 1:
            raise Wrong(f"{came} A share is never above 1. What must the count be divided by?", mistake="not-a-share")
        if _equal(found, float(table.amax(dim=0).sum()) / n):
            raise Wrong(
                f"{came} You went through the digits, not through the clusters. Is a cluster a row or a column?",
                mistake="purity-over-wrong-axis",
            )
        if _equal(found, float((most / table.sum(dim=1)).mean())):
            raise Wrong(
                f"{came} You took the mean of the clusters' shares, so that a cluster of three counts as much as one "
                "of a thousand. What should every *picture* count?",
                mistake="mean-of-shares",
            )
        raise Wrong(f"{came} Which number of each row of `table` counts?", mistake="value")
    return "right for 4 and for 10 clusters"


def _problem(learner: Learner, n: int, k: int, d: int) -> tuple[Tensor, Tensor]:
    """Points (n, d) and centers (k, d), on both sides of zero."""
    draw = 3 * torch.randn(n + k, d, generator=learner.random)
    return draw[:n].clone(), draw[n:].clone()


def _distances(x: Tensor, centers: Tensor) -> Tensor:
    """The squared distances (n, k) in float64."""
    return squared_distance(x.unsqueeze(1), centers)


def _sums(x: Tensor, labels: Tensor, k: int) -> Tensor:
    return torch.zeros(k, x.shape[1], dtype=torch.float64).index_add_(0, labels, x.double())


def _updated(x: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """The means in float64; a center without points stays."""
    counts = labels.bincount(minlength=len(centers)).unsqueeze(1)
    return torch.where(counts > 0, _sums(x, labels, len(centers)) / counts, centers.double())


def _step(x: Tensor, centers: Tensor) -> KMeansStep:
    """Ours, from these centers."""
    return next(lloyd(x, len(centers), start=centers, empty="keep"))


def _near(found: Tensor, right: Tensor) -> bool:
    """Close, where the algebra of 2.9 has rounded away a part of the largest."""
    return torch.allclose(found.double(), right, rtol=1e-4, atol=1e-5 * float(right.abs().max()))


def _equal(found: float, right: float) -> bool:
    return math.isclose(found, right, rel_tol=1e-4)


def _number(value: Any, what: str) -> float:
    """Return a tensor of one number, or a plain one, as a float."""
    if isinstance(value, Tensor):
        return float(tensor(value, what, shape=()).detach())
    try:
        return float(value)
    except (TypeError, ValueError):
        raise Wrong(f"{what} is {a(value)}, but one number is wanted.", mistake="type") from None


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _differs(found: Tensor, right: Tensor, row: str = "point", column: str = "center") -> str:
    """Evidence: where the two differ most."""
    gap = (found.double() - right).abs().nan_to_num(nan=math.inf)
    i, j = divmod(int(gap.argmax()), right.shape[1])
    return f"For {row} {i} and {column} {j} you have {found[i, j]:.4g}; right is {right[i, j]:.4g}."


def _numbers(values: Tensor) -> str:
    return "(" + ", ".join(f"{value:.3g}" for value in values.tolist()) + ")"


def _is_misfit(error: Exception) -> bool:
    return "size of tensor" in str(error) or "could not be broadcast" in str(error)


def _said(error: Exception) -> str:
    return "PyTorch says: " + str(error).partition("\n")[0].rstrip(".")
