"""KMeans: Lloyd's algorithm with scikit-learn's conventions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from math import isnan
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import StrOptions

from stepfit.clustering.lloyd import EMPTY_RULES, KMeansStep, lloyd
from stepfit.estimators.arrays import cast_like
from stepfit.estimators.callbacks import Watch, with_callbacks
from stepfit.estimators.clusters import CONSTRAINTS, Clusters, followed
from stepfit.estimators.fitting import all_or_nothing, seeded
from stepfit.steps import Steps, Stop


class KMeans(Clusters):
    """k-means: exact labels, the same bits for any number of threads, and every step to be seen.

    Parameters
    ----------
    n_clusters : int, default 8
        How many clusters.
    init : {"k-means++", "random", "farthest"}, array of shape (n_clusters, d), callable, step or recording
        The first centers. A callable gets (X, n_clusters, random_state=RandomState) and gives an array; a step of
        k-means, or the last of a recording, gives its next_centers, so that fit goes on from it, on any X.
    n_init : "auto" or int, default "auto"
        How many starts are tried; the run that ends with the least inertia is kept, of equals the first. "auto" is 10
        for "random" and callables, otherwise 1.
    max_iter : int, default 300
        The most updates of the centers.
    tol : float, default 1e-4
        The run ends when the squared moves of the centers sum to at most tol times the mean variance of the features;
        0 when no label changes.
    random_state : int, RandomState or None
        Of the starts. None draws a seed; the global generator is never used.
    empty : {"farthest", "keep", "nan"}, default "farthest"
        What becomes of the center of a cluster without points, as in `lloyd`.
    kernel : {"native", "chunked", "reference"}, optional
        Force a kernel; the answer is the same.

    Attributes
    ----------
    cluster_centers_ : array of shape (n_clusters, d)
        float64 where X is float64, int32, int64 or a list, otherwise float32; as all results a tensor on X's device
        where X was a tensor.
    labels_ : array of shape (n,), int32
        Index of each row's nearest center; always predict(X).
    inertia_ : float
        Sum of squared distances to the nearest centers, times the weights.
    n_iter_ : int
        Steps made, the one in which nothing changed any more among them; at most max_iter.
    stop_ : Stop
        Why the run ended; INTERRUPTED after Ctrl-C, which keeps the last whole step.
    events_ : tuple of str
        What happened in the run, in words: clusters that were empty, fewer clusters than asked for.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    S. Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28(2), 1982.

    Examples
    --------
    >>> from stepfit import KMeans
    >>> model = KMeans(2, random_state=0).fit([[0.0], [1.0], [8.0], [9.0]])
    >>> sorted(model.cluster_centers_.ravel().tolist()), model.inertia_
    ([0.5, 8.5], 1.0)
    >>> model.stop_.name
    'CONVERGED'
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {**CONSTRAINTS, "empty": [StrOptions(set(EMPTY_RULES))]}

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        n_init: int | str = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        random_state: Any = None,
        empty: str = "farthest",
        kernel: str | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.empty = empty
        self.kernel = kernel

    @all_or_nothing
    @with_callbacks
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> KMeans:
        """Find the centers.

        Parameters
        ----------
        X : array-like of shape (n, d), or path of a .npy file
            The points. Numbers of 8 to 64 bits are taken as they are, and a file is memory-mapped: nothing is copied.
        y : None
            Not looked at.
        sample_weight : array-like of shape (n,), optional
            How much each point counts.

        Returns
        -------
        KMeans
            This object.

        Raises
        ------
        TypeError, ValueError
            When X or sample_weight is no table of finite numbers, or an option is out of range: nothing is learned.

        Warns
        -----
        ConvergenceWarning
            When fewer clusters than asked for have points, or after Ctrl-C.
        """
        run, seeds = self._begin(X, sample_weight)

        def learned(step: KMeansStep) -> dict[str, Any]:
            return {"cluster_centers_": cast_like(step.centers, X), "labels_": cast_like(step.labels, X)}

        watch = Watch(self, X, y, sample_weight, runs=len(seeds))
        last, events = _best(lambda seed: watch(run(seed), learned), seeds)
        self.__dict__.update(learned(last))
        self.inertia_, self.stop_ = last.inertia, last.stop
        self.n_iter_ = min(last.index + 1, self.max_iter)
        self.events_ = events + self._warn(last.counts)
        watch.end()
        return self

    def steps(self, X: Any, sample_weight: Any = None, *, resume: KMeansStep | None = None) -> Steps[KMeansStep]:
        """Return the first run as steps; this object stays as it is.

        Parameters
        ----------
        X, sample_weight
            As in `fit`.
        resume : KMeansStep, optional
            Go on after this step of an earlier run with the same X and weights.

        Returns
        -------
        Steps of KMeansStep
            With n_init=1 the last holds what `fit` would keep.

        Raises
        ------
        TypeError, ValueError
            At the call, as `fit` does.
        """
        run, seeds = copy.copy(self)._begin(X, sample_weight, resume)
        return run(seeds[0])

    def _begin(
        self, X: Any, sample_weight: Any, resume: KMeansStep | None = None
    ) -> tuple[Callable[[int], Steps[KMeansStep]], list[int]]:
        """Check everything; return the run that each seed makes, and the seeds."""
        self._validate_params()
        x, weight = self._data(X, sample_weight, reset=True)
        seed = seeded(self.random_state)
        # The first is the seed itself, so that one run is lloyd's.
        seeds = [seed, *np.random.SeedSequence(seed).generate_state(self._inits(10) - 1).tolist()]

        def run(seed: int) -> Steps[KMeansStep]:
            return lloyd(
                x, self.n_clusters, start=self._start(X, seed), seed=seed, tol=self.tol, empty=self.empty,
                max_steps=self.max_iter + 1,  # the last update's labels cost one more
                sample_weight=weight, kernel=self.kernel, resume=resume,
            )  # fmt: skip

        return run, seeds


def _best(run: Callable[[int], Iterable[KMeansStep]], seeds: list[int]) -> tuple[KMeansStep, tuple[str, ...]]:
    """Return the last step of the best run, and what happened in that; after Ctrl-C, of what there is by then."""
    best: tuple[KMeansStep, tuple[str, ...]] | None = None
    for seed in seeds:
        last, events, whole = followed(lambda seed=seed: run(seed))  # type: ignore[misc]
        # A NaN, which empty="nan" may leave, is worse than any number.
        if last is not None and (best is None or last.inertia < best[0].inertia or isnan(best[0].inertia)):
            best = last, events
        if not whole:
            break
    if best is None:  # there is nothing to give back
        raise KeyboardInterrupt
    return (best[0] if whole else replace(best[0], stop=Stop.INTERRUPTED)), best[1]
