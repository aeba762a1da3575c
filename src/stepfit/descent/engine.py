"""The engine of gradient descent: DescentStep, Problem, and the one loop that drives any solver on any problem.

A problem says what the loss and its gradient are at a point. A solver says which point comes next; what it needs for
that (velocities, moments, the pairs of L-BFGS) is in the state of the step. A solver has

- `init(problem, point) -> (point, state)`: where the run begins, and what is carried to the first step;
- `step(problem, point, rows, state) -> Move`: a look at a point on some rows (None for all), the next point and state;
- `lr`, `lr_limit` (for the steps), `limit`, `auto` (rates for the words on a run that diverged), each a number or None;
- `settings`: what is worth keeping of it, by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from stepfit.steps import Step, Steps, Stop, carried, checked_seed, run

State = Mapping[str, Any]  # tensors, plain values, and lists and mappings of these
Metric = Callable[[Tensor, Tensor], float]

# What the loop carries; a state of no other names is that of plain gradient descent, which any solver can go on from.
_CARRIED = {"point", "first_loss", "still", "seed", "best"}
_DIVERGED = 1000  # a loss this many times the first one is taken for a run that diverged


@dataclass(frozen=True, eq=False, kw_only=True)
class DescentStep(Step):
    """One update. The loss is measured at `params`, before the update, on the rows that the update uses.

    Attributes
    ----------
    params, grads, next_params : Mapping from str to Tensor
        By parameter name: before the update; the gradient of the loss (of an l1 penalty, without it); after the update.
        A linear model has "weight" (outputs, d) and "bias" (outputs,), which is zeros where it has no intercept.
    metrics : Mapping from str to float
        train_accuracy, test_accuracy, test_loss, or your own; all measured at `params`. Linear solvers on mini-batches
        add train_loss, the loss over all rows, where an epoch begins.
    epoch : int
        Passes over the data so far; equals `index` on a full batch.
    lr : float or None
        The learning rate of the first parameter group; None for solvers without one.
    lr_limit : float or None
        2 / lambda_max, lambda_max being the largest curvature of the loss: above it plain gradient descent on all rows
        of a linear regression diverges. None for other models, losses and solvers.
    threshold : float or None
        A prediction above it means class 1; None where the loss does not say.
    gradient : float or None
        The largest partial derivative over all rows, in size; at a kink of an l1 penalty, the smallest that the kink
        allows. None where it was not measured: for modules, and in the middle of an epoch.
    margin : float or None
        Of a linear classifier without a penalty, the smallest lead of a right logit over the best wrong one. Above 0
        the classes are separable, and the loss has no minimum. None where it was not measured.
    """

    kind: ClassVar[str] = "descent"

    params: Mapping[str, Tensor]
    grads: Mapping[str, Tensor]
    next_params: Mapping[str, Tensor]
    metrics: Mapping[str, float] = field(default_factory=dict)
    epoch: int
    lr: float | None = None
    lr_limit: float | None = None
    threshold: float | None = None
    gradient: float | None = None
    margin: float | None = None

    @property
    def weight(self) -> Tensor:
        """The weight of a linear model, (outputs, d)."""
        return self.params["weight"]

    @property
    def bias(self) -> Tensor:
        """The bias of a linear model, (outputs,)."""
        return self.params["bias"]

    @property
    def facts(self) -> tuple[str, ...]:
        """The accuracy on the test rows, or else on the training rows."""
        measured = [name for name in ("test_accuracy", "train_accuracy") if name in self.metrics]
        return tuple(f"{name.replace('_', ' ')} {self.metrics[name]:.1%}" for name in measured[:1])

    def distance(self, other: DescentStep) -> float:
        """Return the Euclidean distance of all `params` to those of another step, such as the optimum."""
        return math.hypot(*(float((p.double() - other.params[n].double()).norm()) for n, p in self.params.items()))


class Look(NamedTuple):
    """The loss at a point, its gradient (of the kind of the point), and the predictions that they come from."""

    loss: float
    gradient: Any
    prediction: Tensor | None = None
    steepest: float | None = None  # the `gradient` and `margin` of a step, where all rows were looked at
    margin: float | None = None
    anchor: Tensor | None = None  # the point that sums over the rows belong to, where the loss comes from sums


class Move(NamedTuple):
    """The look that a solver took at a point, the next point, and what it carries to that."""

    look: Look
    point: Any
    state: State
    stop: Stop | None = None
    events: tuple[str, ...] = ()


class Problem:
    """Rows, targets, test rows and metrics. Points are parameters by name here; a subclass may have others.

    A subclass adds `predict_test(point, state) -> (predictions, loss)`, and where `watches_epochs` a look over all rows
    where an epoch of mini-batches begins, `look(point) -> Look`.
    """

    x: Tensor
    y: Tensor
    test: Any  # (x, y, ...), or None
    metrics: Mapping[str, Metric]
    threshold: float | None
    settings: Mapping[str, Any]
    predict_test: Callable[..., tuple[Tensor, float]]
    look: Callable[..., Look]
    watches_epochs = False

    def params(self, point: Any) -> Mapping[str, Tensor]:
        """Return a point, or the derivatives by it, as named parameters in the units and the dtype of the user."""
        return point  # type: ignore[no-any-return]

    grads = params

    def resumed(self, step: DescentStep) -> Any:
        """Return the point after a step."""
        return step.next_params

    def measured(self, part: str, prediction: Tensor | None, target: Tensor) -> dict[str, float]:
        """Return the metrics on the rows of a part, "train" or "test"."""
        if prediction is None:
            return {}
        return {f"{part}_{name}": float(metric(prediction, target)) for name, metric in self.metrics.items()}


def run_descent(
    problem: Problem,
    solver: Any,
    start: Any,
    *,
    max_steps: int,
    batch_size: int | None = None,
    seed: int | None = None,
    tol: float = -1.0,
    patience: int | None = None,
    resume: DescentStep | None = None,
) -> Steps[DescentStep]:
    """Return the steps of a solver on a problem, from a start or after a step.

    Each epoch has its own order of the rows, which comes from the seed and the number of the epoch alone, cut into
    parts of nearly equal size. The run ends with TOLERANCE when `gradient` is at most `tol`, and with EARLY when
    test_loss was no lower for `patience` epochs; the last step, whatever ended the run, then has the parameters under
    which it was lowest.

    Raises
    ------
    ValueError
        When max_steps or batch_size is out of range, or `resume` has no state or belongs to another model or solver.
    """
    n = len(problem.x)
    if max_steps < 1:
        raise ValueError(f"max_steps is {max_steps}; at least 1 step is needed")
    if batch_size is not None and not 1 <= batch_size <= n:
        raise ValueError(f"batch_size is {batch_size}; there are {n} rows to learn from, so it must be from 1 to {n}")
    batches = math.ceil(n / (batch_size or n))
    start, begun = solver.init(problem, start)
    index, params = 0, problem.params(start)
    state: State
    order: tuple[int, tuple[Tensor, ...]] = (-1, ())
    if resume is None:
        seed = checked_seed(seed)
        state = {**begun, "point": start, "still": 0, "seed": seed}
    else:
        state, wanted = carried(resume), {name: tuple(p.shape) for name, p in params.items()}
        index, params = resume.index + 1, resume.next_params
        found = {name: tuple(p.shape) for name, p in params.items()}
        if found != wanted or not (begun.keys() <= state.keys() or state.keys() <= _CARRIED):
            raise ValueError(
                f"resume has the parameters {found}, and this model {wanted}; or resume comes from a run of another "
                "solver. Resume a run of the same model and solver"
            )
        seed = state["seed"] if seed is None else checked_seed(seed)
        state = {**begun, **state, "point": problem.resumed(resume), "seed": seed}
    end = index + max_steps - 1

    def rows_of(epoch: int, batch: int) -> Tensor | None:
        nonlocal order
        if batches == 1:
            return None
        if order[0] != epoch:
            generator = torch.Generator(device="cpu").manual_seed(seed + epoch)
            rows = torch.randperm(n, generator=generator, device="cpu").to(problem.x.device)
            order = epoch, rows.tensor_split(batches)
        return order[1][batch]

    def step_at(index: int, params: Mapping[str, Tensor], state: State) -> DescentStep:
        began = perf_counter()
        epoch, batch = divmod(index, batches)
        point, rows, best = state["point"], rows_of(epoch, batch), state.get("best")
        metrics: dict[str, float] = {}
        if problem.test is not None:
            prediction, test_loss = problem.predict_test(point, state)
            metrics = problem.measured("test", prediction, problem.test[1]) | {"test_loss": test_loss}
        move = solver.step(problem, point, rows, state)
        look, next_params, stop, events = move.look, problem.params(move.point), move.stop, move.events
        loss, grads = look.loss, problem.grads(look.gradient)
        metrics = problem.measured("train", look.prediction, problem.y if rows is None else problem.y[rows]) | metrics
        if batches > 1 and batch == 0 and problem.watches_epochs:
            look = problem.look(point)
            metrics["train_loss"] = look.loss
        gradient = look.steepest
        # Of mini-batches the first may fit by chance, so the largest loss of the first epoch is what counts.
        first_loss = state.get("first_loss", loss) if epoch else max(state.get("first_loss", loss), loss)
        still = state["still"] + 1 if _equal(move.point, point) else 0
        if not math.isfinite(loss + (gradient or 0.0)) or loss > _DIVERGED * first_loss > 0:
            stop, events = Stop.DIVERGED, (*events, _why_diverged(first_loss, loss, solver))
        elif gradient is not None and gradient <= tol:
            stop = Stop.TOLERANCE
        elif batches == 1 and still and stop is None:
            # One update that moves nothing can be the turning point of momentum, unless the gradient is 0 too.
            over = (still > 1 and gradient is not None) or not any(grad.any() for grad in grads.values())
            stop = Stop.CONVERGED if over else None
        if patience is not None and batch == 0 and stop is not Stop.DIVERGED:
            if best is None or metrics["test_loss"] < best["test_loss"]:
                best = {"test_loss": metrics["test_loss"], "epoch": epoch, "index": index, "point": point}
            elif stop is None and epoch - best["epoch"] >= patience:
                stop = Stop.EARLY
        if stop is None and index == end:
            stop = Stop.MAX_STEPS
        kept = {**move.state, "point": move.point, "first_loss": first_loss, "still": still}
        if look.anchor is not None:
            kept["anchor"] = look.anchor
        if best is not None:
            kept["best"] = best
        if stop not in (None, Stop.DIVERGED) and best is not None and best["index"] != index:
            look = problem.look(best["point"])
            params, grads, loss = problem.params(best["point"]), problem.grads(look.gradient), look.loss
            metrics |= {"test_loss": best["test_loss"]} | ({"train_loss": loss} if batches > 1 else {})
            events = (*events, f"the weights of step {best['index']} are back: there the test loss was lowest")
        return DescentStep(
            index=index, loss=loss, params=params, grads=grads, next_params=next_params, metrics=metrics, epoch=epoch,
            lr=solver.lr, lr_limit=solver.lr_limit, threshold=problem.threshold, gradient=look.steepest,
            margin=look.margin, events=events, stop=stop, seconds=perf_counter() - began, state=kept,
        )  # fmt: skip

    settings = {
        "algorithm": "descend", **problem.settings, **solver.settings, "n": n, "d": problem.x.shape[-1],
        "lr": solver.lr, "max_steps": max_steps, "batch_size": None if batches == 1 else batch_size, "seed": seed,
        "dtype": str(problem.x.dtype).removeprefix("torch."),
    }  # fmt: skip
    steps = run(
        lambda: step_at(index, params, state),
        lambda last: step_at(last.index + 1, last.next_params, carried(last)),
        max_steps=max_steps,
    )
    return Steps(steps, settings)


def _equal(a: Any, b: Any) -> bool:
    return bool(a.equal(b)) if isinstance(a, Tensor) else all(a[name].equal(b[name]) for name in a)


def _why_diverged(first: float, loss: float, solver: Any) -> str:
    grew = f"the loss went from {first:.4g} to {loss:.4g}"
    if solver.limit is not None and solver.lr > solver.limit:
        name = "the limit 2/lambda_max =" if solver.lr_limit else "the limit"
        return (
            f"{grew}: lr {solver.lr:.4g} is above {name} {solver.limit:.4g}, so each step overshoots by more than the "
            f"last; try lr={solver.auto:.2g}"
        )
    if solver.lr is None:
        return f"{grew}; bring x and y near 1"
    return f"{grew}; try lr={min(solver.auto or math.inf, solver.lr / 10):.2g}, or features of similar scale"
