"""MiniBatchKMeans: k-means on mini-batches, or on data that arrives in pieces, with scikit-learn's conventions."""

from __future__ import annotations

import copy
from math import ceil
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor

from stepfit import kernels
from stepfit.clustering.lloyd import lloyd
from stepfit.clustering.mini_batch import MiniBatchStep, best_start, due, learn, mini_batches
from stepfit.estimators.arrays import cast_like
from stepfit.estimators.callbacks import Watch, with_callbacks
from stepfit.estimators.clusters import CONSTRAINTS, Clusters, exactly, followed
from stepfit.estimators.fitting import all_or_nothing, seeded
from stepfit.kernels.points import Points, as_tensor
from stepfit.steps import Steps, Stop

_STEPS = 10_000  # of Lloyd's algorithm after the batches: more than any run has needed


class MiniBatchKMeans(Clusters):
    """k-means on mini-batches: a step looks at a few rows, drawn at random, and each center is a running mean.

    Parameters
    ----------
    n_clusters : int, default 8
        How many clusters.
    init : {"k-means++", "random", "farthest"}, array of shape (n_clusters, d), callable, step or recording
        The first centers, as in KMeans, chosen from a sample of 3 batches, or 3 n_clusters rows where that is more.
    max_iter : int, default 100
        The most rows to draw, in terms of those of X.
    batch_size : int, default 1024
        Rows of a batch, drawn with replacement.
    tol : float, default 0
        The run ends when the squared moves of the centers in a step sum to at most tol times the mean variance of the
        features. 0 never ends it.
    max_no_improvement : int or None, default 10
        The run ends when so many steps in a row brought no lower running mean of the loss. None never ends it.
    n_init : "auto" or int, default "auto"
        How many starts are tried on the sample; the best is taken. "auto" is 3 for "random" and callables, otherwise 1.
    reassignment_ratio : float, default 0.01
        A center that has seen less than this part of what the largest one has moves to a random point of the batch.
    exact : bool, default False
        After the batches, go on from their centers with Lloyd's algorithm until no label changes. Then each center is
        the mean of its points, as after KMeans with tol=0.
    random_state : int, RandomState or None
        Of the start and the batches. None draws a seed; the global generator is never used.
    kernel : {"native", "chunked", "reference"}, optional
        Force a kernel; the answer is the same.

    Attributes
    ----------
    cluster_centers_ : array of shape (n_clusters, d)
        float64 where X is float64, int32, int64 or a list, otherwise float32; as all results a tensor on X's device
        where X was a tensor.
    counts_ : array of shape (n_clusters,), float64
        The weight of the points that each center is the mean of.
    labels_ : array of shape (n,), int32
        Index of each row's nearest center; always predict(X), of the piece that partial_fit was given last.
    inertia_ : float
        Sum of squared distances to the nearest centers, times the weights, of the same rows.
    n_iter_ : int
        How often as many rows as there are were drawn, begun ones too.
    n_steps_ : int
        Batches that were learned from.
    stop_ : Stop
        Why the run ended; INTERRUPTED after Ctrl-C, which keeps the last whole step.
    events_ : tuple of str
        What happened in the run, or with the last piece, in words: centers that moved to other points, fewer clusters
        than asked for.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    D. Sculley, "Web-scale k-means clustering", WWW 2010.

    Examples
    --------
    >>> from stepfit import MiniBatchKMeans
    >>> X = [[0.0], [1.0], [8.0], [9.0]]
    >>> model = MiniBatchKMeans(2, batch_size=2, exact=True, random_state=0).fit(X)
    >>> sorted(model.cluster_centers_.ravel().tolist()), model.inertia_
    ([0.5, 8.5], 1.0)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CONSTRAINTS,
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_no_improvement": [Interval(Integral, 1, None, closed="left"), None],
        "reassignment_ratio": [Interval(Real, 0, 1, closed="both")],
        "exact": ["boolean"],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        max_iter: int = 100,
        batch_size: int = 1024,
        tol: float = 0.0,
        max_no_improvement: int | None = 10,
        n_init: int | str = "auto",
        reassignment_ratio: float = 0.01,
        exact: bool = False,
        random_state: Any = None,
        kernel: str | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.tol = tol
        self.max_no_improvement = max_no_improvement
        self.n_init = n_init
        self.reassignment_ratio = reassignment_ratio
        self.exact = exact
        self.random_state = random_state
        self.kernel = kernel

    @all_or_nothing
    @with_callbacks
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MiniBatchKMeans:
        """Find the centers, from the beginning.

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
        MiniBatchKMeans
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
        x, weight, steps = self._begin(X, sample_weight)

        def learned(step: MiniBatchStep) -> dict[str, Any]:
            return {"cluster_centers_": cast_like(step.next_centers, X)}

        watch = Watch(self, X, y, sample_weight, runs=2 if self.exact else 1)
        last, events, whole = followed(lambda: watch(steps, learned))
        if last is None:  # there is nothing to give back
            raise KeyboardInterrupt
        self.n_steps_ = last.index + 1
        self.n_iter_ = ceil(self.n_steps_ * steps.settings["batch_size"] / len(x))
        centers, seen, stop = last.next_centers, last.next_seen, last.stop
        if self.exact and whole:
            options: Any = {"max_steps": _STEPS, "sample_weight": weight, "kernel": self.kernel}
            rest = lloyd(x, self.n_clusters, start=centers, **options)
            end, more, whole = followed(
                lambda: watch(rest, lambda step: {"cluster_centers_": cast_like(step.centers, X)})
            )
            events += tuple(f"after the batches, {event}" for event in more)
            if end is not None:
                centers, seen, stop = end.centers, end.mass, end.stop
        self.stop_ = stop if whole else Stop.INTERRUPTED
        counts = self._keep(X, Points(x, weight), centers, seen)
        self.events_ = events + self._warn(counts)
        self._seed, self._since = steps.settings["seed"], 0
        watch.end()
        return self

    @all_or_nothing
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MiniBatchKMeans:
        """Learn from one more piece of the data, as from a batch; the first must have n_clusters rows at least.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`. After `fit` it goes on from there.

        Returns
        -------
        MiniBatchKMeans
            This object.

        Raises
        ------
        TypeError, ValueError
            When X or sample_weight is no table of finite numbers, or an option is out of range: nothing is learned.
        """
        self._validate_params()
        first = not hasattr(self, "cluster_centers_")
        x, weight = self._data(X, sample_weight, reset=first)
        points = Points(x, weight)
        if first:
            self._seed, self._since, self.n_steps_ = seeded(self.random_state), 0, 0
        # A step's draws depend on its number alone, so that a copy of this object goes on alike.
        generator = torch.Generator(device="cpu").manual_seed(self._seed + self.n_steps_)
        kernel = kernels.choose(self.kernel, points.device)
        if first:
            start = self._start(X, self._seed)
            centers = best_start(points, self.n_clusters, start, self._inits(3), generator, kernel)
            seen = torch.zeros(self.n_clusters, dtype=torch.float64, device=points.device)
        else:
            centers, seen = (
                as_tensor(getattr(self, name), name).to(x.device) for name in ("cluster_centers_", "counts_")
            )
        self._since += points.n
        looks = due(seen, self._since)
        if looks:
            self._since = 0
        rows, ratio = torch.arange(points.n, device=points.device), self.reassignment_ratio if looks else 0.0
        step = learn(points, rows, centers, seen, ratio=ratio, generator=generator, kernel=kernel)
        self._keep(X, points, step.next_centers, step.next_seen)
        self.events_ = tuple(f"step {self.n_steps_}: {event}" for event in step.events)
        self.n_steps_ += 1
        return self

    def steps(self, X: Any, sample_weight: Any = None, *, resume: MiniBatchStep | None = None) -> Steps[MiniBatchStep]:
        """Return the batches of `fit` as steps; this object stays as it is.

        Parameters
        ----------
        X, sample_weight
            As in `fit`.
        resume : MiniBatchStep, optional
            Go on after this step of an earlier run with the same X, weights and options.

        Returns
        -------
        Steps of MiniBatchStep
            The next_centers of the last are what `fit` keeps, or with exact=True goes on from.

        Raises
        ------
        TypeError, ValueError
            At the call, as `fit` does.
        """
        return copy.copy(self)._begin(X, sample_weight, resume)[-1]

    def _begin(
        self, X: Any, sample_weight: Any, resume: MiniBatchStep | None = None
    ) -> tuple[Tensor, Tensor | None, Steps[MiniBatchStep]]:
        """Check everything; return X, the weights and the steps."""
        self._validate_params()
        x, weight = self._data(X, sample_weight, reset=True)
        seed = seeded(self.random_state)
        steps = mini_batches(
            x, self.n_clusters, start=self._start(X, seed), starts=self._inits(3), seed=seed, tol=self.tol,
            batch_size=self.batch_size, max_epochs=self.max_iter, max_no_improvement=self.max_no_improvement,
            reassignment_ratio=self.reassignment_ratio, sample_weight=weight, kernel=self.kernel, resume=resume,
        )  # fmt: skip
        return x, weight, steps

    def _keep(self, X: Any, points: Points, centers: Tensor, seen: Tensor) -> Tensor:
        """Set centers, and labels and inertia by one exact pass; return the points per center."""
        labels, counts, self.inertia_ = exactly(points, centers, self.kernel)
        self.cluster_centers_, self.counts_, self.labels_ = (cast_like(result, X) for result in (centers, seen, labels))
        return counts
