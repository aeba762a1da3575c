"""What the k-means estimators share: where they begin, and all that is asked of their centers after fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from stepfit import kernels
from stepfit.clustering.lloyd import KMeansStep, assign
from stepfit.clustering.mini_batch import MiniBatchStep
from stepfit.estimators.arrays import cast_like, shared_points, weights
from stepfit.estimators.callbacks import CallbackSupportMixin
from stepfit.estimators.fitting import warn
from stepfit.kernels.points import Points, as_tensor
from stepfit.recording import Recording
from stepfit.steps import Step, Stop

S = TypeVar("S", bound=Step)

_BLOCK_DISTANCES = 2**20  # distances in a block, which are float64 before they are rounded

CONSTRAINTS: dict[str, list[Any]] = {
    "n_clusters": [Interval(Integral, 1, None, closed="left")],
    "init": [StrOptions({"k-means++", "random", "farthest"}), callable, "array-like", KMeansStep, MiniBatchStep],
    "n_init": [StrOptions({"auto"}), Interval(Integral, 1, 2**31 - 1, closed="both")],  # more would take for ever
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "tol": [Interval(Real, 0, None, closed="left")],
    "random_state": ["random_state"],
    "kernel": [StrOptions(set(kernels.KERNELS)), None],
}


class Clusters(CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Centers, and what can be asked of them."""

    def _data(self, X: Any, sample_weight: Any, *, reset: bool) -> tuple[Tensor, Tensor | None]:
        """Check X and the weights; with `reset` that there are rows enough too."""
        x = shared_points(self, X, reset=reset)
        weight = None if sample_weight is None else weights(sample_weight, x)
        n = len(x) if weight is None else int((weight > 0).sum())
        if reset and n < self.n_clusters:
            raise ValueError(
                f"n_samples={n} should be >= n_clusters={self.n_clusters}: give more rows"
                f"{'' if n == len(x) else ' of positive weight'}, or ask for fewer clusters"
            )
        return x, weight

    def _inits(self, many: int) -> int:
        """Tell how many starts to try; "auto" is `many` where each is a matter of luck."""
        lucky = callable(self.init) or (isinstance(self.init, str) and self.init == "random")
        if self.n_init == "auto":
            return many if lucky else 1
        if not (isinstance(self.init, str) or callable(self.init)) and self.n_init > 1:
            warn(
                f"Explicit initial center position passed: performing only one init in {type(self).__name__} "
                f"instead of n_init={self.n_init}.",
                RuntimeWarning,
            )
            return 1
        return int(self.n_init)

    def _start(self, X: Any, seed: int) -> Any:
        """Return `init` as `lloyd` takes it."""
        if isinstance(self.init, str):
            return str(self.init)
        if not callable(self.init):
            return self._centers(self.init)
        # As scikit-learn calls it: with X in the user's own kind, and numpy's random numbers.
        random = np.random.RandomState(seed % 2**32)
        return lambda x, k, _: self._centers(self.init(cast_like(x, X), k, random_state=random))

    def _centers(self, given: Any) -> Tensor:
        """Check centers that were given."""
        if isinstance(given, Recording):
            given = given.last
        if isinstance(given, (KMeansStep, MiniBatchStep)):
            given = given.next_centers
        elif isinstance(given, Step):
            raise TypeError(f"init is a recording of {type(given).__name__}; one of k-means steps has centers")
        centers = as_tensor(given, "init")
        right = (self.n_clusters, self.n_features_in_)
        if centers.shape != right:
            clusters = centers.ndim != 2 or len(centers) != self.n_clusters
            raise ValueError(
                f"The shape of the initial centers {tuple(centers.shape)} does not match the number of "
                f"{'clusters' if clusters else 'features of the data'}; it must be {right}"
            )
        return centers

    def _warn(self, counts: Tensor) -> tuple[str, ...]:
        """Say in words, and warn, of what is wrong with the end of a fit."""
        said = []
        found = int((counts > 0).sum())
        if found < self.n_clusters:
            said.append(
                f"Number of distinct clusters ({found}) found smaller than n_clusters ({self.n_clusters}). "
                "Possibly due to duplicate points in X."
            )
        if self.stop_ is Stop.INTERRUPTED:
            said.append(Stop.INTERRUPTED.value)
        for event in said:
            warn(event, ConvergenceWarning)
        return tuple(said)

    def _fitted(self, X: Any) -> tuple[Tensor, Tensor]:
        check_is_fitted(self)
        return shared_points(self, X, reset=False), as_tensor(self.cluster_centers_, "cluster_centers_")

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit and give labels_; parameters as in `fit`."""
        return self.fit(X, sample_weight=sample_weight).labels_

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit and give transform(X); parameters as in `fit`."""
        return self.fit(X, sample_weight=sample_weight).transform(X)

    def predict(self, X: Any) -> Any:
        """Return the index of each row's nearest center, on a tie the lowest: labels_, for the X of `fit`.

        Parameters
        ----------
        X : array-like of shape (n, d), or path of a .npy file
            The points.

        Returns
        -------
        array of shape (n,), int32
            A tensor where X is one.

        Raises
        ------
        NotFittedError, ValueError
            Before fit, or where X does not fit what was learned.
        """
        x, centers = self._fitted(X)
        return cast_like(assign(x, centers, kernel=self.kernel), X)

    def transform(self, X: Any) -> Any:
        """Return the distance of each row to each center, (n, k), float32 where X and centers are; X as in predict."""
        x, centers = self._fitted(X)
        points = Points(x)
        centers = centers.to(points.device)
        all_distances = kernels.KERNELS[kernels.choose(self.kernel, points.device)].all_distances
        wide = torch.promote_types(points.dtype, centers.dtype)
        distances = torch.empty(points.n, len(centers), dtype=wide, device=points.device)
        for here, block in points.blocks(max(1, _BLOCK_DISTANCES // len(centers))):
            distances[here] = all_distances(block, centers).sqrt_()
        return cast_like(distances, X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return minus the inertia: 0 at best; X as in predict, sample_weight as in fit, y is not looked at."""
        x, centers = self._fitted(X)
        weight = None if sample_weight is None else weights(sample_weight, x)
        return -exactly(Points(x, weight), centers, self.kernel)[2]

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def followed(begin: Callable[[], Iterable[S]]) -> tuple[S | None, tuple[str, ...], bool]:
    """Run to the end, or to Ctrl-C; give the last whole step, what happened in words, and whether it was the end.

    A callback that ends a run does what Ctrl-C does.
    """
    last: S | None = None
    events: list[str] = []
    try:
        for step in begin():
            last = step
            events += [f"step {step.index}: {event}" for event in step.events]
    except KeyboardInterrupt:
        return last, tuple(events), False
    return last, tuple(events), last is None or last.stop is not Stop.INTERRUPTED


def exactly(points: Points, centers: Tensor, kernel: str | None) -> tuple[Tensor, Tensor, float]:
    """Return labels, points per center and inertia, by one pass."""
    centers = centers.to(points.device)
    totals = kernels.KERNELS[kernels.choose(kernel, points.device)].assign_and_sum(points, centers)
    return totals.labels, totals.counts, totals.inertia(centers, points.scale)
