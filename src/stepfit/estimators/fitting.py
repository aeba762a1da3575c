"""What the linear estimators share: solvers, standardising, early stopping, and the words for what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import wraps
from numbers import Integral, Real
from typing import Any, TypeVar, cast

import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from stepfit.descent.lbfgs import lbfgs
from stepfit.descent.linear import LinearStep, Objective
from stepfit.descent.proximal import proximal_descent
from stepfit.estimators.callbacks import ASKED
from stepfit.kernels.points import as_tensor
from stepfit.steps import Steps, Stop, checked_seed

F = TypeVar("F", bound=Callable[..., Any])
L = TypeVar("L", bound=LinearStep)

GRADIENT = ("sgd", "momentum", "nesterov", "adam")
_APART = 100  # a feature this many times as wide as the middle one is named

CONSTRAINTS: dict[str, list[Any]] = {
    "max_iter": [Interval(Integral, 0, None, closed="left")],
    "lr": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
    "momentum": [Interval(Real, 0, 1, closed="left")],
    "batch_size": [Interval(Integral, 1, None, closed="left"), None],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    "standardize": ["boolean"],
    "random_state": ["random_state"],
}


@dataclass(frozen=True, eq=False)
class Scaling:
    """Features as (x - mean) / scale, and weights of those in terms of x."""

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, x: Tensor, share: Tensor, center: bool) -> Scaling:
        """Measure x, (n, d), with the shares of its rows, (n, 1); a constant feature has scale 1."""
        wide = x.double()
        mean = (share * wide).sum(0)
        scale = (share * (wide - mean).square()).sum(0).sqrt()
        # What rounding leaves of a constant feature is no spread.
        scale[scale <= 10 * torch.finfo(x.dtype).eps * mean.abs()] = 1.0
        return cls(mean if center else torch.zeros_like(mean), scale)

    def there(self, x: Tensor) -> Tensor:
        """Give the standardised x, a copy."""
        return ((x.double() - self.mean) / self.scale).to(x.dtype)

    def back(self, step: L) -> L:
        """Give the step with the weight and bias that predict the same from x itself."""
        weight = step.weight.double() / self.scale
        bias = (step.bias.double() - weight @ self.mean).to(step.bias)
        weight = weight.to(step.weight)
        if step.stop is not Stop.DIVERGED and not (weight.isfinite().all() and bias.isfinite().all()):
            raise ValueError(
                f"coef_ overflows {weight.dtype}: a feature varies by {float(self.scale.min()):.3g} only; multiply it"
            )
        return replace(step, weight=weight, bias=bias)

    def start(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Undo `back`."""
        weight, bias = weight.double(), bias.double()
        return weight * self.scale, bias + weight @ self.mean


def all_or_nothing(fit: F) -> F:
    """Make a fit that raises leave the estimator as it was."""

    @wraps(fit)
    def whole(estimator: Any, *given: Any, **named: Any) -> Any:
        before = vars(estimator).copy()
        try:
            return fit(estimator, *given, **named)
        except BaseException:
            estimator.__dict__ = before
            raise

    return cast("F", whole)


def seeded(random_state: Any) -> int:
    """Give a seed for our own generators; None draws one without a touch on the global generator."""
    if random_state is None or isinstance(random_state, Integral):
        return checked_seed(None if random_state is None else int(random_state))
    return int(check_random_state(random_state).randint(2**31))


def split(n: int, fraction: float, seed: int, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Give the rows to learn from and those held out, drawn; with classes, the same part of each."""
    generator = torch.Generator(device="cpu").manual_seed(seed)
    order = torch.randperm(n, generator=generator, device="cpu")
    if classes is not None:
        order = order[classes.cpu()[order].argsort(stable=True)]
    count = max(1, round(fraction * n))
    held = torch.zeros(n, dtype=torch.bool)
    held[((torch.arange(count) + 0.5) * n / count).long()] = True
    learned = order[~held]
    left = set() if classes is None else set(classes.tolist()) - set(classes.cpu()[learned].tolist())
    if not len(learned) or left:
        raise ValueError(
            f"early_stopping would hold out {count} of {n} rows, and leave "
            f"{'no row of some class' if left else 'none'} to learn from; lower validation_fraction or give more rows"
        )
    return learned, order[held]


def solve(
    estimator: Any, objective: Objective, *, tol: float, seed: int, start: Tensor | None = None
) -> Steps[LinearStep]:
    """Start the estimator's solver, one of GRADIENT or "lbfgs", on an objective."""
    if estimator.solver == "lbfgs":
        return cast("Steps[LinearStep]", lbfgs(objective, start=start, tol=tol, max_steps=estimator.max_iter + 1))
    return cast(
        "Steps[LinearStep]",
        proximal_descent(
            objective,
            estimator.solver,
            lr=None if estimator.lr == "auto" else float(estimator.lr),
            momentum=estimator.momentum,
            batch_size=estimator.batch_size,
            seed=seed,
            start=start,
            tol=tol,
            max_epochs=estimator.max_iter,
        ),
    )


def stopped_early(steps: Iterable[LinearStep], held_out: Objective, patience: int) -> Iterator[LinearStep]:
    """Measure the rows held out at each epoch's begin; end once they fit no better for `patience` epochs.

    The last step, whatever ended the run, holds the weights under which they fitted best.
    """
    best: LinearStep | None = None
    epoch = -1
    for step in steps:
        if step.epoch > epoch and step.stop is not Stop.DIVERGED:
            epoch = step.epoch
            loss = held_out.look(held_out.start(step.weight, step.bias)).loss
            step = replace(step, held_out=loss)
            if best is None or best.held_out is None or loss < best.held_out:
                best = step
            elif step.stop is None and epoch - best.epoch >= patience:
                step = replace(step, stop=Stop.EARLY)
        if step.stop not in (None, Stop.DIVERGED) and best is not None and best is not step:
            told = f"the weights of step {best.index} are back: there the rows held out had their lowest loss"
            step = replace(
                step,
                weight=best.weight,
                bias=best.bias,
                loss=best.loss,
                gradient=best.gradient,
                margin=best.margin,
                held_out=best.held_out,
                events=(*step.events, told),
            )
        yield step
        if step.stop is not None:
            return


def last_of(steps: Iterable[LinearStep]) -> LinearStep:
    """Run to the end, or to Ctrl-C, which leaves the last whole step; a run that diverged is an error."""
    last: LinearStep | None = None
    try:
        for step in steps:
            last = step
    except KeyboardInterrupt:
        if last is None:  # there is nothing to give back
            raise
        last = replace(last, stop=Stop.INTERRUPTED)
    assert last is not None
    if last.stop is Stop.DIVERGED:
        raise ValueError(f"the run diverged at step {last.index}: {last.events[-1]}")
    return last


def told(estimator: Any, x: Tensor, last: LinearStep, tol: float) -> tuple[str, ...]:
    """Say in words what is wrong with the end of a run; nothing where it ended well."""
    if last.margin is not None and last.margin > 0:
        return (
            f"the classes are separable: every row is right by at least {last.margin:.3g}, so that larger weights "
            "always fit better, and without a penalty there is no optimum; give a finite C",
        )
    if last.stop is Stop.INTERRUPTED and ASKED not in last.events:
        return (Stop.INTERRUPTED.value,)
    if last.stop is not Stop.MAX_STEPS:
        return ()
    said = (
        f"{estimator.solver} failed to converge after {last.epoch} iteration(s): the largest partial derivative is "
        f"{last.gradient:.3g}, over tol={tol:.3g}; raise max_iter"
    )
    scales = x.double().std(0, correction=0)
    widest = int(scales.argmax())
    middle = float(scales[scales > 0].median()) if scales[widest] > 0 else 0.0
    if not estimator.standardize and scales[widest] > _APART * middle:
        name = getattr(estimator, "feature_names_in_", range(x.shape[1]))[widest]
        said += (
            f", or scale the data (standardize=True): feature {name} has scale {scales[widest]:.3g}, "
            f"the middle one {middle:.3g}"
        )
    return (said,)


def warm(estimator: Any, x: Tensor) -> tuple[Tensor, Tensor] | None:
    """Give weight and bias of the last fit where warm_start asks for them."""
    if not (estimator.warm_start and hasattr(estimator, "coef_")):
        return None
    return as_tensor(estimator.coef_, "coef_").to(x), as_tensor(estimator.intercept_, "intercept_").to(x)
