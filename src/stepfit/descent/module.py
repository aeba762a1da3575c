"""descend(): gradient descent on any nn.Module, with any loss and any optimizer of torch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from stepfit.descent.engine import DescentStep, Look, Metric, Move, Problem, State, run_descent
from stepfit.descent.linear import THRESHOLDS, LinearProblem, checked_rows, default_metrics
from stepfit.groups import Group
from stepfit.kernels.points import FLOATS
from stepfit.steps import Steps

Params = dict[str, Tensor]

_ELEMENTWISE = (nn.MSELoss, nn.L1Loss, nn.BCELoss, nn.BCEWithLogitsLoss, nn.SmoothL1Loss, nn.HuberLoss)


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
    place; the steps hold copies of its parameters and, in `state`, of its buffers and of the optimizer's state. A model
    that draws random numbers, as dropout does, draws them from `seed` and the index of the step.

    Parameters
    ----------
    model : nn.Module
        It takes (rows, d) and returns (rows, outputs).
    loss_fn : callable
        It takes (prediction, target) and returns a scalar tensor, as nn.MSELoss() does.
    optimizer : torch.optim.Optimizer
        Over the parameters of the model.
    x : array-like of shape (n, d)
        The inputs. Floats are brought to the dtype and device of the model.
    y : array-like
        The targets, as loss_fn wants them: (n, outputs), or class numbers (n,) for CrossEntropyLoss.
    max_steps : int, default 100
        The most updates.
    batch_size : int, optional
        The most rows of an update. Each epoch has its own order of the rows, cut into parts of nearly equal size.
        None takes all rows.
    test : (x_test, y_test), optional
        Data for test_loss and the test metrics; never trained on.
    metrics : mapping from name to callable, optional
        Each takes (prediction, target) and returns a number, kept as train_NAME (on the rows of the update) and
        test_NAME. Default: accuracy, with the threshold that the loss implies: 0.5 for MSELoss and BCELoss, 0 for
        BCEWithLogitsLoss, argmax for CrossEntropyLoss; none for other losses.
    seed : int, optional
        Of the order of the rows and of the model's random numbers. None draws one; `.settings["seed"]` says which.
    group : Group, optional
        The processes that share the run; for now it must be a single one.
    resume : DescentStep, optional
        Go on after this step, with the parameters, buffers and optimizer state that it left. Settings of the optimizer,
        such as lr, are those of `optimizer`.

    Returns
    -------
    Steps of DescentStep
        The last one says in `stop` why it is the last. DIVERGED: the loss is not finite or over 1,000 times the first.

    Raises
    ------
    TypeError, ValueError
        At the call, before anything is changed: when x or y is no table of finite numbers, their shapes do not fit the
        model or each other, the optimizer holds no parameter of the model, or an option is out of range.

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
    if group is not None and group.size > 1:
        raise ValueError(f"group has {group.size} processes; gradient descent runs in one: leave group out")
    training = _Training(model, loss_fn, optimizer, x, y, test, metrics, batch_size)
    start = training.copied_params()
    return run_descent(training, training, start, max_steps=max_steps, batch_size=batch_size, seed=seed, resume=resume)


class _Training(Problem):
    """A model and its optimizer, as a problem and a solver of the engine. A point is a copy of the parameters."""

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
        self.held = [p for options in optimizer.param_groups for p in options["params"]]
        if not any(p is q for p in self.trained.values() for q in self.held):
            raise ValueError(
                "the optimizer holds no parameter of this model, so nothing would move; make it with model.parameters()"
            )
        self.x, self.y = self._inputs(x, y, "x", "y")
        self.test = None if test is None else self._inputs(*test, "x_test", "y_test")
        self._refuse_shapes_that_do_not_fit()
        loss = type(loss_fn).__name__ if isinstance(loss_fn, nn.Module) else getattr(loss_fn, "__name__", "loss")
        known = loss if isinstance(loss_fn, nn.Module) else ""
        self.metrics = default_metrics(known, self.y) if metrics is None else metrics
        self.threshold = THRESHOLDS.get(known)
        self.complex = not isinstance(model, nn.Linear)  # others may have buffers or draw random numbers
        self.shown: Any = None  # the point that the model holds
        self.limit = self.lr_limit = self._lr_limit(batch_size)
        self.auto = None if self.limit is None else self.limit / 2
        options = optimizer.param_groups[0]
        self.settings = {
            "model": type(model).__name__, "loss": loss, "optimizer": type(optimizer).__name__,
            "momentum": float(options.get("momentum", 0.0)), "nesterov": bool(options.get("nesterov", False)),
        }  # fmt: skip

    def _inputs(self, x: Any, y: Any, x_name: str, y_name: str) -> tuple[Tensor, Tensor]:
        like = next(iter(self.trained.values()))
        inputs, targets = checked_rows(x, y, x_name, y_name)
        numbers = not any(isinstance(module, nn.Embedding) for module in self.model.modules())
        inputs = inputs.to(like.device, like.dtype if numbers else inputs.dtype)
        classes = isinstance(self.loss_fn, (nn.CrossEntropyLoss, nn.NLLLoss)) and targets.dtype not in FLOATS
        return inputs, targets.to(like.device, torch.int64 if classes else like.dtype)

    def _refuse_shapes_that_do_not_fit(self) -> None:
        trial = copy.deepcopy(self.model).eval()  # the model's buffers and generators stay as they are
        for x, y in [(self.x, self.y)] + ([self.test] if self.test else []):
            with torch.no_grad():
                try:
                    prediction = trial(x[:2])
                except RuntimeError as error:
                    raise ValueError(f"the model cannot take x of shape {tuple(x.shape)}: {error}") from error
                wanted = (len(y), *prediction.shape[1:])
                if isinstance(self.loss_fn, _ELEMENTWISE) and wanted != tuple(y.shape):
                    raise ValueError(
                        f"the model gives predictions {wanted}, but y has shape {tuple(y.shape)}; give y the same, "
                        "for example y.reshape(-1, 1): otherwise every prediction would meet every target"
                    )
                loss = self.loss_fn(prediction, y[:2])
                if loss.ndim:
                    raise ValueError(f"loss_fn gives shape {tuple(loss.shape)}; one number is needed: reduction='mean'")

    def _lr_limit(self, batch_size: int | None) -> float | None:
        """Return 2 / lambda_max where plain gradient descent on all rows fits a linear model to squared errors."""
        model, options = self.model, self.optimizer.param_groups[0]
        if not (
            isinstance(model, nn.Linear)
            and type(self.optimizer) is torch.optim.SGD
            and len(self.optimizer.param_groups) == 1
            and len(self.trained) == len(list(model.parameters()))
            and isinstance(self.loss_fn, nn.MSELoss)
            and self.loss_fn.reduction == "mean"
            and not (options["momentum"] or options["weight_decay"] or options["maximize"])
            and batch_size in (None, len(self.x))
        ):
            return None
        x = self.x if self.x.dtype in (torch.float32, torch.float64) else self.x.float()
        y = self.y.reshape(len(x), -1).double()
        curvature = LinearProblem(x, y, "MSELoss", intercept=model.bias is not None).curvature()
        return 2 / curvature if 0 < curvature < math.inf else None

    # As a solver

    @property
    def lr(self) -> float:
        """The learning rate of the first parameter group, now."""
        return float(self.optimizer.param_groups[0]["lr"])

    def init(self, problem: Any, point: Params) -> tuple[Params, State]:
        """Return the parameters that the model has, and what it and the optimizer hold now."""
        self.shown = point
        return point, self._held_state() | {"updates": 0}

    def step(self, problem: Any, point: Params, rows: Tensor | None, state: State) -> Move:
        """Make one step of the optimizer, on some rows."""
        self._show(point, state)
        x, y = (self.x, self.y) if rows is None else (self.x[rows], self.y[rows])
        looks: list[Look] = []

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            prediction = self.model(x)
            loss = self.loss_fn(prediction, y)
            loss.backward()  # type: ignore[no-untyped-call]
            if not looks:  # L-BFGS of torch asks more than once; the step is about the first look
                grads = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in self.trained.items()}
                looks.append(Look(loss.item(), grads, prediction.detach()))
            return loss

        self.shown = None  # while it changes
        with self._random_numbers(state) if self.complex else nullcontext():
            self.optimizer.step(closure)  # type: ignore[arg-type]
        self.shown = following = self.copied_params()
        return Move(looks[0], following, {**state, **self._held_state(), "updates": state["updates"] + 1})

    def copied_params(self) -> Params:
        """Return copies of the parameters."""
        return {name: p.detach().clone() for name, p in self.trained.items()}

    def _held_state(self) -> dict[str, Any]:
        held: dict[str, Any] = {"optimizer": [_copied(self.optimizer.state.get(p, {})) for p in self.held]}
        if self.complex:
            held["buffers"] = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        return held

    def _show(self, point: Params, state: State) -> None:
        """Bring model and optimizer to a point, unless that is what they hold."""
        if self.shown is point:
            return
        if len(state["optimizer"]) != len(self.held):
            raise ValueError("the optimizer of the step to resume from had other parameters; make it the same way")
        with torch.no_grad():
            for name, p in self.trained.items():
                p.copy_(point[name])
            for name, buffer in self.model.named_buffers():
                buffer.copy_(state["buffers"][name])
        for p, held in zip(self.held, state["optimizer"]):
            self.optimizer.state.pop(p, None)
            if held:
                self.optimizer.state[p] = _copied(held)

    @contextmanager
    def _random_numbers(self, state: State) -> Iterator[None]:
        """Draw what the model draws from the seed and the step; the caller's generators stay as they are."""
        device = self.x.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed((state["seed"] * 1_000_003 + state["updates"]) % 2**63)
            yield

    def predict_test(self, point: Params, state: State) -> tuple[Tensor, float]:
        """Return predictions and loss on the test rows, in evaluation mode."""
        self._show(point, state)
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        with torch.no_grad():
            prediction = self.model(self.test[0])
            loss = self.loss_fn(prediction, self.test[1])
        for module, mode in modes:
            module.training = mode
        return prediction, loss.item()


def _copied(value: Any) -> Any:
    """Copy what an optimizer holds: tensors, plain values, and lists and dicts of these."""
    if isinstance(value, dict):
        return {name: _copied(item) for name, item in value.items()}
    if isinstance(value, Tensor):
        return value.detach().clone()
    return [_copied(item) for item in value] if isinstance(value, (list, tuple)) else value
