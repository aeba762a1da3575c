"""Gradient descent: descend(), linear_regression(), logistic_regression() and DescentStep."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from stepfit.descent.least_squares import LeastSquares, gram
from stepfit.groups import Group
from stepfit.kernels.points import FLOATS, as_tensor
from stepfit.steps import Step, Steps, Stop, checked_seed, run

Metric = Callable[[Tensor, Tensor], float]


@dataclass(frozen=True, eq=False, kw_only=True)
class DescentStep(Step):
    """One update. The loss is measured at `params`, before the update, on the rows that the update uses.

    Attributes
    ----------
    params, grads, next_params : Mapping from str to Tensor
        By parameter name ("weight", "bias" in the two regressions): before the update, its gradient, after it.
    metrics : Mapping from str to float
        train_accuracy, test_accuracy, test_loss, or your own; all measured at `params`.
    epoch : int
        Passes over the data so far; equals `index` on a full batch.
    lr : float
        The learning rate of the first parameter group.
    lr_limit : float or None
        2 / lambda_max, above which full-batch gradient descent on a linear model diverges; None where unknown.
    """

    kind: ClassVar[str] = "descent"

    params: Mapping[str, Tensor]
    grads: Mapping[str, Tensor]
    next_params: Mapping[str, Tensor]
    metrics: Mapping[str, float]
    epoch: int
    lr: float | None
    lr_limit: float | None
    threshold: float | None = None
    gradient: float | None = None
    margin: float | None = None

    @property
    def facts(self) -> tuple[str, ...]:
        """The accuracy on the test rows, or else on the training rows."""
        measured = [name for name in ("test_accuracy", "train_accuracy") if name in self.metrics]
        return tuple(f"{name.replace('_', ' ')} {self.metrics[name]:.1%}" for name in measured[:1])


def descend(
    model: nn.Module,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    x: Any,
    y: Any,
    *,
    max_steps: int = 100,
    batch_size: int | None = None,
    test: tuple[Any, Any] | None = None,
    metrics: Mapping[str, Metric] | None = None,
    seed: int | None = None,
    group: Group | None = None,
    resume: DescentStep | None = None,
) -> Steps[DescentStep]:
    """Train a model by gradient descent and yield each step as soon as it is known.

    It is the usual training loop (forward, loss, zero_grad, backward, step) with its log kept. The model is trained in
    place; the steps hold copies.

    Parameters
    ----------
    model : nn.Module
        Takes (rows, d), gives (rows, outputs).
    loss_fn : callable
        Takes (prediction, target), gives a scalar tensor, such as nn.MSELoss().
    optimizer : torch.optim.Optimizer
        Over the parameters of the model.
    x : array-like of shape (n, d)
        The inputs. Floats are brought to the dtype and device of the model.
    y : array-like
        The targets, as loss_fn wants them: (n, outputs), or class numbers (n,) for CrossEntropyLoss.
    max_steps : int, default 100
        The most updates.
    batch_size : int, optional
        Rows per update, drawn in a new order for each epoch; None takes all rows.
    test : (x_test, y_test), optional
        Data for test_loss and the test metrics; never trained on.
    metrics : mapping from name to callable, optional
        Each takes (prediction, target) and gives a number, kept as train_NAME (on the rows of the update) and
        test_NAME. Default: accuracy, with the threshold that the loss implies: 0.5 for MSELoss and BCELoss, 0 for
        BCEWithLogitsLoss, argmax for CrossEntropyLoss; none for other losses.
    seed : int, optional
        Of the order of the rows. None draws one; `.settings["seed"]` says which.
    group : Group, optional
        The processes that share the run.
    resume : DescentStep, optional
        Go on after this step: its next_params are loaded into the model.

    Returns
    -------
    Steps of DescentStep
        The last one says in `stop` why it is the last. DIVERGED: the loss is not finite or over 1,000 times the first.

    Raises
    ------
    TypeError, ValueError
        At the call, before anything is changed: what came, and what would be right.

    Examples
    --------
    >>> import torch, stepfit
    >>> x = torch.tensor([[0.0], [1.0], [2.0]])
    >>> model = torch.nn.Linear(1, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    >>> steps = stepfit.descend(model, torch.nn.MSELoss(), optimizer, x, 2 * x + 1, max_steps=200)
    >>> round(list(steps)[-1].loss, 6)
    0.0
    """
    return _begin(_Task(model, loss_fn, optimizer, x, y, test, metrics, batch_size), max_steps, seed, resume)


def _begin(
    task: _Task, max_steps: int, seed: int | None, resume: DescentStep | None = None, *, own: bool = False
) -> Steps[DescentStep]:
    """Check what is left to check and start the loop. Nobody can see whether our `own` model passes over the rows."""
    model, loss_fn, optimizer = task.model, task.loss_fn, task.optimizer
    if max_steps < 1:
        raise ValueError(f"max_steps is {max_steps}; at least 1 step is needed")
    names = dict(model.named_parameters())
    if resume is not None and {n: p.shape for n, p in resume.next_params.items()} != {
        n: p.shape for n, p in names.items()
    }:
        raise ValueError(
            f"resume has parameters {sorted(resume.next_params)}; the model has {sorted(names)}, or other shapes"
        )
    seed = checked_seed(seed)
    first = optimizer.param_groups[0]
    settings = {
        "algorithm": "descend",
        "n": len(task.x),
        "d": task.x.shape[-1],
        "model": type(model).__name__,
        "loss": type(loss_fn).__name__ if isinstance(loss_fn, nn.Module) else getattr(loss_fn, "__name__", "loss"),
        "optimizer": type(optimizer).__name__,
        "lr": float(first["lr"]),
        "momentum": float(first.get("momentum", 0.0)),
        "max_steps": max_steps,
        "batch_size": None if task.full else task.batch_size,
        "seed": seed,
        "dtype": str(task.x.dtype).removeprefix("torch."),
    }
    squares = task.squares()
    limit = None if squares is None else _lr_limit(squares, task)
    # With this many steps they cost less than one pass over the rows. What looks at predictions needs the rows.
    cheap = own and task.x.dtype == torch.float64 and max_steps * task.x.shape[1] < len(task.x)
    sums = None
    if cheap and squares is not None and not task.metrics and task.test is None:
        sums = LeastSquares(task.trained["weight"], task.trained["bias"], task.x, task.y, squares)
    return Steps(_descend(task, seed, max_steps, resume, limit, sums), settings)


def linear_regression(
    x: Any,
    y: Any,
    *,
    lr: float = 0.1,
    momentum: float = 0.0,
    start: tuple[Any, Any] | None = None,
    max_steps: int = 100,
    batch_size: int | None = None,
    test: tuple[Any, Any] | None = None,
    metrics: Mapping[str, Metric] | None = None,
    seed: int | None = None,
) -> Steps[DescentStep]:
    """Fit y = x @ weight.T + bias by gradient descent on the mean squared error.

    Parameters
    ----------
    x : array-like of shape (n, d)
        The inputs.
    y : array-like of shape (n,) or (n, 1)
        The targets. Where they are 0 and 1, train_accuracy and test_accuracy use the threshold 0.5.
    lr : float, default 0.1
        Learning rate; above `lr_limit` of the steps the run diverges.
    momentum : float, default 0
        As in torch.optim.SGD.
    start : (weight (1, d), bias (1,)), optional
        Where to begin; default: uniform in +-1/sqrt(d) from `seed`, the range of nn.Linear.
    max_steps, batch_size, test, metrics, seed
        As in `descend`.

    Returns
    -------
    Steps of DescentStep
        With parameters "weight" (1, d) and "bias" (1,).

    Raises
    ------
    TypeError, ValueError
        At the call: what came, and what would be right.

    Examples
    --------
    >>> import stepfit
    >>> steps = stepfit.linear_regression([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0], lr=0.3, max_steps=200, seed=0)
    >>> last = list(steps)[-1]
    >>> round(last.params["weight"].item(), 4), round(last.params["bias"].item(), 4), last.stop.name
    (2.0, 1.0, 'MAX_STEPS')
    """
    return _regression(nn.MSELoss(), x, y, lr, momentum, start, max_steps, batch_size, test, metrics, seed)


def logistic_regression(
    x: Any,
    y: Any,
    *,
    lr: float = 1.0,
    momentum: float = 0.0,
    start: tuple[Any, Any] | None = None,
    max_steps: int = 100,
    batch_size: int | None = None,
    test: tuple[Any, Any] | None = None,
    metrics: Mapping[str, Metric] | None = None,
    seed: int | None = None,
) -> Steps[DescentStep]:
    """Fit the logit x @ weight.T + bias of the class y by gradient descent on the cross-entropy.

    Parameters
    ----------
    x : array-like of shape (n, d)
        The inputs.
    y : array-like of shape (n,) or (n, 1)
        The classes, 0 and 1. A logit above 0 predicts 1.
    lr, momentum, start, max_steps, batch_size, test, metrics, seed
        As in `linear_regression`.

    Returns
    -------
    Steps of DescentStep
        With parameters "weight" (1, d) and "bias" (1,).

    Raises
    ------
    TypeError, ValueError
        At the call: what came, and what would be right.

    Examples
    --------
    >>> import stepfit
    >>> steps = stepfit.logistic_regression([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1], seed=0)
    >>> list(steps)[-1].metrics["train_accuracy"]
    1.0
    """
    return _regression(nn.BCEWithLogitsLoss(), x, y, lr, momentum, start, max_steps, batch_size, test, metrics, seed)


def _regression(
    loss_fn: nn.Module,
    x: Any,
    y: Any,
    lr: float,
    momentum: float,
    start: tuple[Any, Any] | None,
    max_steps: int,
    batch_size: int | None,
    test: tuple[Any, Any] | None,
    metrics: Mapping[str, Metric] | None,
    seed: int | None,
) -> Steps[DescentStep]:
    rows = as_tensor(x, "x")
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(f"x has shape {tuple(rows.shape)}; it must be (n, d): a row an example")
    if not 0 < lr < math.inf:
        raise ValueError(f"lr is {lr}; it must be a positive number")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum is {momentum}; it must be from 0 to under 1")
    if test is not None and (not isinstance(test, (tuple, list)) or len(test) != 2):
        raise TypeError("test must be the pair (x_test, y_test)")
    classes = isinstance(loss_fn, nn.BCEWithLogitsLoss)
    target = _column(y, "y", classes)
    tested = None if test is None else (test[0], _column(test[1], "y_test", classes))
    seed = checked_seed(seed)
    dtype = rows.dtype if rows.dtype in (torch.float32, torch.float64) else torch.float32
    d = rows.shape[1]
    model = nn.Linear(d, 1, dtype=dtype, device="meta").to_empty(device=rows.device)
    if start is None:
        # Drawn here and not by nn.Linear, which would use up the caller's global generator.
        draw = torch.empty(d + 1, dtype=torch.float64, device="cpu")
        draw.uniform_(-(d**-0.5), d**-0.5, generator=torch.Generator(device="cpu").manual_seed(seed))
        weight, bias = draw[:d], draw[d:]
    else:
        weight, bias = as_tensor(start[0], "start weight"), as_tensor(start[1], "start bias")
        if weight.numel() != d or bias.numel() != 1:
            raise ValueError(
                f"start has weight {tuple(weight.shape)} and bias {tuple(bias.shape)}; x needs (1, {d}) and (1,)"
            )
    with torch.no_grad():
        model.weight.copy_(weight.reshape(1, d))
        model.bias.copy_(bias.reshape(1))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    task = _Task(model, loss_fn, optimizer, rows, target, tested, metrics, batch_size)
    return _begin(task, max_steps, seed, own=True)


def _column(y: Any, name: str, classes: bool) -> Tensor:
    """See targets (n,) or (n, 1) as (n, 1)."""
    target = as_tensor(y, name)
    if target.ndim not in (1, 2) or (target.ndim == 2 and target.shape[1] != 1):
        raise ValueError(f"{name} has shape {tuple(target.shape)}; it must be (n,) or (n, 1)")
    if classes:
        strange = target[(target != 0) & (target != 1)]
        if len(strange):
            raise ValueError(f"{name} holds {strange[0].item()}; logistic regression wants the classes 0 and 1")
    return target.reshape(-1, 1)


class _Task:
    """What is trained on what, checked: nothing has been changed when it is refused."""

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Callable[[Tensor, Tensor], Tensor],
        optimizer: torch.optim.Optimizer,
        x: Any,
        y: Any,
        test: tuple[Any, Any] | None,
        metrics: Mapping[str, Metric] | None,
        batch_size: int | None,
    ) -> None:
        self.model, self.loss_fn, self.optimizer = model, loss_fn, optimizer
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        held = {id(p) for options in optimizer.param_groups for p in options["params"]}
        if not any(id(p) in held for p in self.trained.values()):
            raise ValueError(
                "the optimizer holds no parameter of this model, so nothing would move; make it with model.parameters()"
            )
        self.x, self.y = self._inputs(x, y, "x", "y")
        self.test = None if test is None else self._inputs(*test, "x_test", "y_test")
        if batch_size is not None and not 1 <= batch_size <= len(self.x):
            raise ValueError(
                f"batch_size is {batch_size}; x has {len(self.x)} rows, so it must be from 1 to {len(self.x)}"
            )
        self.batch_size = batch_size or len(self.x)
        self.full = self.batch_size == len(self.x)
        self.metrics = _default_metrics(loss_fn, self.y) if metrics is None else dict(metrics)
        self._try_one()

    def _inputs(self, x: Any, y: Any, x_name: str, y_name: str) -> tuple[Tensor, Tensor]:
        like = next(iter(self.trained.values()))
        inputs, targets = as_tensor(x, x_name), as_tensor(y, y_name)
        if inputs.ndim == 0 or not len(inputs) or targets.ndim == 0 or len(inputs) != len(targets):
            raise ValueError(
                f"{x_name} has shape {tuple(inputs.shape)} and {y_name} {tuple(targets.shape)}; "
                "both need the same number of rows, at least one"
            )
        for name, values in ((x_name, inputs), (y_name, targets)):
            if values.dtype in FLOATS and not values.isfinite().all():
                where = tuple((~values.isfinite()).nonzero()[0].tolist())
                raise ValueError(f"{name} has {values[where].item()} at {where}; every value must be finite")
        numbers = not any(isinstance(module, nn.Embedding) for module in self.model.modules())
        inputs = inputs.to(like.device, like.dtype if numbers else inputs.dtype)
        classes = isinstance(self.loss_fn, (nn.CrossEntropyLoss, nn.NLLLoss)) and targets.dtype not in FLOATS
        return inputs, targets.to(like.device, torch.int64 if classes else like.dtype)

    def _try_one(self) -> None:
        """Refuse shapes that do not fit, on a copy: the model's buffers and generators stay as they are."""
        trial = copy.deepcopy(self.model).eval()
        for x, y in [(self.x, self.y)] + ([self.test] if self.test else []):
            with torch.no_grad():
                try:
                    prediction = trial(x[:2])
                except RuntimeError as error:
                    raise ValueError(f"the model cannot take x of shape {tuple(x.shape)}: {error}") from error
                pairs = (
                    nn.MSELoss,
                    nn.L1Loss,
                    nn.BCELoss,
                    nn.BCEWithLogitsLoss,
                    nn.SmoothL1Loss,
                    nn.HuberLoss,
                )
                wanted = (len(y), *prediction.shape[1:])
                if isinstance(self.loss_fn, pairs) and wanted != tuple(y.shape):
                    raise ValueError(
                        f"the model gives predictions {wanted}, but y has shape {tuple(y.shape)}; give y the same, "
                        "for example y.reshape(-1, 1): otherwise every prediction would meet every target"
                    )
                loss = self.loss_fn(prediction, y[:2])
                if loss.ndim:
                    raise ValueError(f"loss_fn gives shape {tuple(loss.shape)}; one number is needed: reduction='mean'")

    def squares(self) -> Tensor | None:
        """X'X where it tells all of the curvature: plain gradient descent on a linear model, on a full batch."""
        model, options = self.model, self.optimizer.param_groups[0]
        plain = type(self.optimizer) is torch.optim.SGD and len(self.optimizer.param_groups) == 1
        if not (
            plain
            and isinstance(model, nn.Linear)
            and len(self.trained) == len(list(model.parameters()))
            and isinstance(self.loss_fn, nn.MSELoss)
            and self.loss_fn.reduction == "mean"
            and not (options["momentum"] or options["weight_decay"] or options["maximize"])
            and self.full
        ):
            return None
        squares = gram(self.x, bias=model.bias is not None)
        return squares if squares.isfinite().all() else None

    def measure(self, prefix: str, prediction: Tensor, target: Tensor) -> dict[str, float]:
        """Evaluate the metrics on one set of rows."""
        return {f"{prefix}_{name}": float(metric(prediction, target)) for name, metric in self.metrics.items()}

    def on_test(self) -> dict[str, float]:
        """Loss and metrics on the test rows, in evaluation mode, as the parameters are now."""
        if self.test is None:
            return {}
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        with torch.no_grad():
            prediction = self.model(self.test[0])
            loss = self.loss_fn(prediction, self.test[1])
        for module, mode in modes:
            module.training = mode
        return self.measure("test", prediction, self.test[1]) | {"test_loss": loss.item()}


def _default_metrics(loss_fn: object, y: Tensor) -> dict[str, Metric]:
    """Accuracy where the loss says what counts as a hit."""
    if isinstance(loss_fn, nn.CrossEntropyLoss):
        if y.dtype == torch.int64:
            return {"accuracy": lambda prediction, target: (prediction.argmax(1) == target).double().mean().item()}
        return {}
    thresholds = {nn.MSELoss: 0.5, nn.BCELoss: 0.5, nn.BCEWithLogitsLoss: 0.0}
    threshold = thresholds.get(type(loss_fn))
    if threshold is None or not ((y == 0) | (y == 1)).all():
        return {}
    return {"accuracy": lambda prediction, target: ((prediction > threshold) == (target > 0.5)).double().mean().item()}


def _descend(
    task: _Task,
    seed: int,
    max_steps: int,
    resume: DescentStep | None,
    limit: float | None,
    sums: LeastSquares | None,
) -> Iterator[DescentStep]:
    n, full = len(task.x), task.full
    per_epoch = math.ceil(n / task.batch_size)
    first_loss = resume.loss if resume else None
    order: tuple[int, Tensor] = (-1, torch.empty(0))

    def rows(index: int) -> tuple[Tensor, Tensor]:
        nonlocal order
        if full:
            return task.x, task.y
        epoch, position = divmod(index, per_epoch)
        if order[0] != epoch:  # made from the seed and the epoch alone, so that a resumed run sees the same rows
            generator = torch.Generator(device="cpu").manual_seed(seed + epoch)
            order = epoch, torch.randperm(n, generator=generator, device="cpu").to(task.x.device)
        chosen = order[1][position * task.batch_size : (position + 1) * task.batch_size]
        return task.x[chosen], task.y[chosen]

    def step_at(index: int, before: DescentStep | None) -> DescentStep:
        nonlocal first_loss
        began = perf_counter()
        x, y = rows(index)
        params = before.next_params if before else {name: p.detach().clone() for name, p in task.trained.items()}
        lr = float(task.optimizer.param_groups[0]["lr"])
        metrics = task.on_test()
        seen: list[tuple[Tensor, float, dict[str, Tensor]]] = []

        def closure() -> Tensor:
            task.optimizer.zero_grad()
            if sums is None:
                with torch.enable_grad():
                    prediction = task.model(x)
                    loss = task.loss_fn(prediction, y)
                loss.backward()  # type: ignore[no-untyped-call]
            else:
                prediction, loss = y, sums.backward()  # there is no metric to ask for a prediction
            if not seen:  # L-BFGS asks more than once; the step is about the first
                grads = {
                    name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in task.trained.items()
                }
                seen.append((prediction.detach(), loss.item(), grads))
            return loss

        task.optimizer.step(closure)  # type: ignore[arg-type]
        prediction, loss, grads = seen[0]
        first_loss = loss if first_loss is None else first_loss
        next_params = {name: p.detach().clone() for name, p in task.trained.items()}
        stop: Stop | None = None
        events: tuple[str, ...] = ()
        if not math.isfinite(loss) or (loss > 1000 * first_loss > 0):
            stop, events = Stop.DIVERGED, (_why_diverged(first_loss, loss, lr, limit),)
        elif (
            full
            and all(next_params[name].equal(params[name]) for name in params)
            and not any(grad.any() for grad in grads.values())
        ):
            stop = Stop.CONVERGED
        return DescentStep(
            index=index,
            loss=loss,
            params=params,
            grads=grads,
            next_params=next_params,
            metrics=task.measure("train", prediction, y) | metrics,
            epoch=index // per_epoch,
            lr=lr,
            lr_limit=limit,
            threshold={nn.MSELoss: 0.5, nn.BCELoss: 0.5, nn.BCEWithLogitsLoss: 0.0}.get(type(task.loss_fn)),
            events=events,
            stop=stop,
            seconds=perf_counter() - began,
        )

    if resume is not None:
        with torch.no_grad():
            for name, p in task.trained.items():
                p.copy_(resume.next_params[name])
    return run(
        lambda: step_at(resume.index + 1 if resume else 0, resume),
        lambda last: step_at(last.index + 1, last),
        max_steps=max_steps,
    )


def _lr_limit(squares: Tensor, task: _Task) -> float | None:
    """2 / lambda_max of the Hessian 2/(n outputs) X'X."""
    hessian = 2 / task.y.numel() * squares
    largest = float(torch.linalg.eigvalsh(hessian.cpu())[-1])
    return 2 / largest if largest > 0 else None


def _why_diverged(first: float, loss: float, lr: float, limit: float | None) -> str:
    grew = f"the loss went from {first:.4g} to {loss:.4g}"
    if limit is not None and lr > limit:
        return (
            f"{grew}: lr {lr:.4g} is above the limit 2/lambda_max = {limit:.4g}, so each step overshoots by more than "
            f"the last; try lr={limit / 2:.2g}"
        )
    return f"{grew}; try lr={lr / 10:.2g}, or features of similar scale"
