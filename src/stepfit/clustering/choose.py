"""How many clusters? choose_k() tries each k as a step; verdict() and table() say what the criteria make of them.

- Elbow: where the inertia, drawn over k, lies farthest below the straight line between its ends, both axes scaled to
  0..1. V. Satopää, J. Albrecht, D. Irwin, B. Raghavan, "Finding a 'kneedle' in a haystack: detecting knee points in
  system behavior", ICDCS workshops, 2011 (of a curve that is not smoothed, its highest peak).
- Silhouette: how much nearer a point is to its own cluster than to the next one. P. J. Rousseeuw, "Silhouettes: a
  graphical aid to the interpretation and validation of cluster analysis", J. Comput. Appl. Math. 20, 1987.
- Stability: whether runs from different seeds find the same clusters. L. Hubert, P. Arabie, "Comparing partitions",
  J. Classification 2, 1985; S. Bubeck, M. Meila, U. von Luxburg, "How the initialization affects the stability of the
  k-means algorithm", ESAIM: Probability and Statistics 16, 2012.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from time import perf_counter
from typing import Any, ClassVar

import torch
from torch import Tensor

from stepfit.clustering.lloyd import KMeansStep, lloyd
from stepfit.clustering.seeding import random_points
from stepfit.kernels.points import Points
from stepfit.steps import Step, Steps, Stop, checked_seed

_KEPT_ROWS = 2**12  # rows whose distances from each other (128 MB) are measured once and not for each k
_BLOCK_DISTANCES = 2**20  # distances in a block
_AS_STABLE = 0.02  # a difference of the Rand index that a few points at a border make

# L. Kaufman, P. J. Rousseeuw, "Finding groups in data", Wiley, 1990, table 4 of chapter 2.
_STRUCTURE = ((0.25, "no substantial structure"), (0.5, "a weak structure"), (0.7, "a reasonable structure"))


@dataclass(frozen=True, eq=False, kw_only=True)
class ChoiceStep(Step):
    """One k: the best of its runs, and what the criteria measure. `loss` is the inertia of the best run.

    Attributes
    ----------
    k : int
        How many clusters.
    silhouette : float or None
        Mean silhouette of the sampled rows, -1 to 1; None where they all lie in one cluster.
    stability : float or None
        Mean adjusted Rand index of all pairs of runs: 1 where they found the same clusters, about 0 where they agree
        no more than chance would. None when there was one run.
    inertias : Tensor of shape (seeds,), float64
        What each run ended with.
    best : KMeansStep
        The last step of the run with the least inertia: the answer for this k.
    """

    kind: ClassVar[str] = "choice"
    loss_name: ClassVar[str] = "inertia"

    k: int
    silhouette: float | None
    stability: float | None
    inertias: Tensor
    best: KMeansStep

    @property
    def inertia(self) -> float:
        """Sum of squared distances of the points to their centers, in the best run."""
        return self.loss

    @property
    def facts(self) -> tuple[str, ...]:
        """The number of clusters."""
        return (f"k = {self.k}",)


def choose_k(
    x: Any, ks: Iterable[int], *, seeds: int = 3, sample: int = 2000, seed: int | None = None, max_steps: int = 300
) -> Steps[ChoiceStep]:
    """Run k-means for each k, from several seeds, and yield what is known about that k as soon as it is.

    No number tells how many clusters there are. Three are given here, and `explain(record(choose_k(...)))` says whether
    they agree; `figure` draws them.

    Parameters
    ----------
    x : array-like of shape (n, d), or path of a .npy file
        The points, as in `lloyd`.
    ks : iterable of int
        The numbers of clusters to try, each from 1 to n, in rising order: `range(2, 11)`. The elbow needs three.
    seeds : int, default 3
        Runs for each k, from `seed`, `seed + 1` and so on. With one there is no stability.
    sample : int, default 2000
        The most rows, drawn from `seed` and the same for each k, that the silhouette looks at: each is compared with
        all the others.
    seed : int, optional
        None draws one; `.settings["seed"]` of the result says which.
    max_steps : int, default 300
        The most steps of one run.

    Returns
    -------
    Steps of ChoiceStep
        One for each k.

    Raises
    ------
    TypeError, ValueError
        At the call, when x is no table of finite numbers, ks are no rising whole numbers from 1 to n, or an option is
        out of range.

    References
    ----------
    Satopää and others 2011 (elbow), Rousseeuw 1987 (silhouette), Hubert and Arabie 1985 (stability).

    Examples
    --------
    >>> import stepfit
    >>> x, _ = stepfit.datasets.blobs(300, 2, 3, seed=0)
    >>> for step in stepfit.choose_k(x, [2, 3, 4], seed=0):
    ...     print(step.k, round(step.inertia), round(step.silhouette, 2), round(step.stability, 2))
    2 937 0.44 1.0
    3 522 0.47 0.99
    4 423 0.42 0.83
    """
    points = Points(x)
    wanted = _checked(ks, points.n)
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; at least 1 run for each k is needed, and 2 to compare them")
    if sample < 2:
        raise ValueError(f"sample is {sample}; at least 2 rows are needed, since they are compared with each other")
    if max_steps < 1:
        raise ValueError(f"max_steps is {max_steps}; at least 1 step is needed")
    seed = checked_seed(seed)
    checked_seed(seed + seeds - 1)
    settings = {
        "algorithm": "choose_k", "n": points.n, "d": points.d, "seeds": seeds, "sample": min(sample, points.n),
        "seed": seed, "max_steps": max_steps, "dtype": str(points.x.dtype).removeprefix("torch."),
    }  # fmt: skip
    return Steps(_choose_k(points, wanted, range(seed, seed + seeds), sample, max_steps), settings)


def _checked(ks: Iterable[int], n: int) -> list[int]:
    if not isinstance(ks, Iterable) or isinstance(ks, str):
        raise TypeError(f"ks is {ks!r}; it must be several numbers of clusters, such as range(2, 11)")
    wanted: list[int] = []
    for k in ks:
        try:
            number = operator.index(k)
        except TypeError:
            raise TypeError(f"ks holds {k!r}; each must be a whole number of clusters") from None
        if isinstance(k, bool) or not 1 <= number <= n:
            raise ValueError(f"ks holds {k}, but x has {n} points; each k must be from 1 to {n}")
        if wanted and number <= wanted[-1]:
            raise ValueError(f"ks has {k} after {wanted[-1]}; give each k once, in rising order")
        wanted.append(number)
    if not wanted:
        raise ValueError("ks is empty; give the numbers of clusters to try, such as range(2, 11)")
    return wanted


def _choose_k(points: Points, ks: list[int], seeds: range, sample: int, max_steps: int) -> Iterator[ChoiceStep]:
    generator = torch.Generator(device="cpu").manual_seed(seeds[0])
    chosen = random_points(points, sample, generator) if sample < points.n else range(points.n)
    # In order, so that a file is read forwards.
    rows = torch.tensor(sorted(chosen), device=points.device)
    sampled = points.x[rows]
    kept = list(_distances(sampled)) if len(rows) <= _KEPT_ROWS else None
    for index, k in enumerate(ks):
        began = perf_counter()
        runs = [deque(lloyd(points.x, k, seed=seed, max_steps=max_steps), maxlen=1).pop() for seed in seeds]
        best = min(runs, key=lambda last: last.inertia)  # of equals the first
        agreements = [adjusted_rand(a.labels, b.labels) for a, b in combinations(runs, 2)]
        yield ChoiceStep(
            index=index,
            loss=best.inertia,
            k=k,
            silhouette=_silhouette(kept or _distances(sampled), best.labels[rows]),
            stability=sum(agreements) / len(agreements) if agreements else None,
            inertias=torch.tensor([last.inertia for last in runs], dtype=torch.float64, device="cpu"),
            best=best,
            events=_what_happened(k, runs, best),
            # Every k has been tried: there is no limit that could be raised to go on.
            stop=Stop.CONVERGED if index == len(ks) - 1 else None,
            seconds=perf_counter() - began,
        )


def _what_happened(k: int, runs: list[KMeansStep], best: KMeansStep) -> tuple[str, ...]:
    events = []
    short = sum(last.stop is Stop.MAX_STEPS for last in runs)
    if short:
        events.append(f"k = {k}: {short} of {len(runs)} runs came to max_steps; raise it for their true inertia")
    empty = int((best.counts == 0).sum())
    if empty:
        events.append(f"k = {k}: {empty} of the clusters are empty: there are fewer distinct points than clusters")
    return tuple(events)


def silhouette(x: Any, labels: Tensor) -> float | None:
    """Return the mean over all points (n, d) of (b - a) / max(a, b), from -1 to 1; None when all have one label.

    a is the mean distance to the other points of its own cluster, b the least mean distance to those of another one. A
    point that is alone in its cluster counts 0. Time grows with n squared, memory does not.
    P. J. Rousseeuw, "Silhouettes", J. Comput. Appl. Math. 20, 1987.

    Examples
    --------
    >>> import torch
    >>> silhouette([[0.0], [1.0], [5.0]], torch.tensor([0, 0, 1]))  # (4/5 + 3/4 + 0) / 3
    0.516...
    """
    points = Points(x)
    if labels.shape != (points.n,):
        raise ValueError(f"labels has shape {tuple(labels.shape)}; x has {points.n} rows, so it must be ({points.n},)")
    return _silhouette(_distances(points.x), labels)


def _distances(x: Tensor) -> Iterator[Tensor]:
    """Yield the distances of a block of rows to all rows, block after block, in float64."""
    x = x.double()
    rows = max(1, _BLOCK_DISTANCES // len(x))
    for first in range(0, len(x), rows):
        # By products it would be faster, and wrong for points that are near each other and far from the origin.
        yield torch.cdist(x[first : first + rows], x, compute_mode="donot_use_mm_for_euclid_dist")


def _silhouette(blocks: Iterable[Tensor], labels: Tensor) -> float | None:
    _, labels, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    if len(counts) == 1:
        return None
    total, first = 0.0, 0
    for distances in blocks:
        own = labels[first : first + len(distances), None]
        first += len(distances)
        sums = distances.new_zeros(len(distances), len(counts)).index_add_(1, labels, distances)
        inside = (sums.gather(1, own) / (counts[own] - 1).clamp(min=1))[:, 0]
        outside = (sums / counts).scatter_(1, own, torch.inf).amin(1)
        widest = torch.maximum(inside, outside)
        counted = (counts[own[:, 0]] > 1) & (widest > 0)  # where all distances are 0 there is nothing to compare
        total += float(((outside - inside) / widest)[counted].sum())
    return total / len(labels)


def adjusted_rand(a: Tensor, b: Tensor) -> float:
    """Return how far two labelings (n,) agree, whatever they call their clusters: 1 for the same clusters.

    It counts the pairs of points that are together in both, and puts it between what chance would give, 0, and 1.
    L. Hubert, P. Arabie, "Comparing partitions", J. Classification 2, 1985.

    Examples
    --------
    >>> import torch
    >>> adjusted_rand(torch.tensor([0, 0, 1, 1]), torch.tensor([5, 5, 3, 3]))
    1.0
    """
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"the labels have shapes {tuple(a.shape)} and {tuple(b.shape)}; both must be (n,), n over 0")
    _, a = torch.unique(a, return_inverse=True)
    _, b = torch.unique(b, return_inverse=True)
    in_a, in_b, both = map(_pairs, (a, b, a * (int(b.max()) + 1) + b))
    every = len(a) * (len(a) - 1) // 2
    # Whole numbers until the one division: with many points float64 would round.
    excess = 2 * (both * every - in_a * in_b)
    largest = (in_a + in_b) * every - 2 * in_a * in_b
    return excess / largest if largest else 1.0


def _pairs(labels: Tensor) -> int:
    """Count the pairs of points that share a label."""
    counts = torch.unique(labels, return_counts=True)[1]
    return int((counts * (counts - 1)).sum()) // 2


@dataclass(frozen=True)
class Verdict:
    """Which k each criterion points to, None where it has no opinion, and what to make of it.

    Attributes
    ----------
    elbow, silhouette, stability : int or None
        The k of each criterion.
    k : int or None
        What most of them say; where each says another, the silhouette's.
    sentences : tuple of str
        Which k and why, and how far to trust it.
    """

    elbow: int | None
    silhouette: int | None
    stability: int | None
    k: int | None
    sentences: tuple[str, ...]

    def criteria(self, k: int) -> list[str]:
        """Name the criteria that point to k."""
        return [name for name in ("elbow", "silhouette", "stability") if getattr(self, name) == k]


def verdict(choices: Sequence[ChoiceStep]) -> Verdict:
    """Say which k the steps of `choose_k` speak for.

    - elbow: the k whose inertia lies farthest below the line between the ends of the curve, both axes scaled to 0..1;
    - silhouette: the k of the highest;
    - stability: the largest k that is within 0.02 of the most stable, since few clusters are easily found again. k = 1,
      which every run finds, is left out.

    Examples
    --------
    >>> import stepfit
    >>> x, _ = stepfit.datasets.blobs(300, 2, 3, seed=0)
    >>> print(verdict(stepfit.record(stepfit.choose_k(x, range(2, 7), seed=0))).k)
    3
    """
    elbow, depth = _elbow(choices)
    known = [step for step in choices if step.silhouette is not None]
    clearest = max(known, key=lambda step: step.silhouette or 0.0, default=None)
    compared = [step for step in choices if step.stability is not None and step.k > 1]
    top = max((step.stability or 0.0 for step in compared), default=0.0)
    stable = [step for step in compared if (step.stability or 0.0) >= top - _AS_STABLE]
    opinions = {
        "elbow": elbow,
        "silhouette": clearest.k if clearest else None,
        "stability": stable[-1].k if stable else None,
    }
    votes = [k for k in (opinions["silhouette"], elbow, opinions["stability"]) if k is not None]
    k = max(votes, key=votes.count, default=None)  # of equals the first: the silhouette knows the points best
    sentences = _agreement(opinions, k)
    if elbow is not None:
        sentences.append(
            f"Elbow: at k = {elbow} the inertia lies {depth:.0%} of its fall below a straight line; "
            "it depends on the first and the last k, and a smooth curve has such a point too."
        )
    if clearest and clearest.silhouette is not None:
        kind = next((words for limit, words in _STRUCTURE if clearest.silhouette <= limit), "a strong structure")
        sentences.append(
            f"Silhouette: highest at k = {clearest.k}, {clearest.silhouette:.2f}: {kind}, "
            "as Kaufman and Rousseeuw (1990) read it."
        )
    if stable:
        lowest = min(compared, key=lambda step: step.stability or 0.0)
        sentences.append(
            f"Stability: k = {stable[-1].k} is the largest with a Rand index near the highest, {top:.2f}; "
            f"the lowest is {lowest.stability:.2f}, at k = {lowest.k}."
            + (" No k gives the same clusters from every seed." if top < 0.9 else "")
        )
    return Verdict(**opinions, k=k, sentences=(*sentences, *(event for step in choices for event in step.events)))


def _elbow(choices: Sequence[ChoiceStep]) -> tuple[int | None, float]:
    """Return the k farthest below the line between the ends, and how far; None where the curve never lies below it."""
    first, last = choices[0], choices[-1]
    best: tuple[int | None, float] = None, 1e-9  # more than rounding makes of a straight line
    for step in choices[1:-1]:
        across = (step.k - first.k) / (last.k - first.k)
        fall = first.loss - last.loss
        down = (first.loss - step.loss) / fall if fall > 0 else 0.0
        if down - across > best[1]:
            best = step.k, down - across
    return best


def _agreement(opinions: dict[str, int | None], k: int | None) -> list[str]:
    if k is None:
        return ["No criterion has an opinion: give three ks or more, from 2 on, and two seeds or more."]
    given = {name: value for name, value in opinions.items() if value is not None}
    those = [name for name, value in given.items() if value == k]
    others = [f"{name} says {value}" for name, value in given.items() if value != k]
    if not others:
        return [f"k = {k}: {_listed(those)} {'agree' if len(those) > 1 else 'alone has an opinion'}."]
    if len(those) > 1:
        return [f"k = {k}: {_listed(those)} agree; {_listed(others)}."]
    return [
        f"The criteria disagree: {those[0]} says {k}, {_listed(others)}.",
        f"No one number of clusters stands out here; let what the clusters are for decide, or else take k = {k}.",
    ]


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def table(choices: Sequence[ChoiceStep]) -> str:
    """Write the steps of `choose_k` as a table, with a mark where a criterion points to a k.

    Examples
    --------
    >>> import stepfit
    >>> x, _ = stepfit.datasets.blobs(300, 2, 3, seed=0)
    >>> print(table(stepfit.record(stepfit.choose_k(x, [2, 3, 4], seed=0))))
    k        inertia  silhouette  stability   seconds
    2        937.412       0.440      1.000      ...
    3        521.626       0.473      0.987      ...  <- elbow, silhouette, stability
    4        423.242       0.416      0.825      ...
    """
    found = verdict(choices)
    lines = [f"{'k':>6}{'inertia':>15}{'silhouette':>12}{'stability':>11}{'seconds':>10}"]
    for step in choices:
        numbers = ("-" if value is None else f"{value:.3f}" for value in (step.silhouette, step.stability))
        line = f"{step.k:>6}{step.inertia:>15,.6g}{next(numbers):>12}{next(numbers):>11}{step.seconds:>10.2f}"
        marks = found.criteria(step.k)
        lines.append(line + (f"  <- {', '.join(marks)}" if marks else ""))
    return "\n".join(lines)
