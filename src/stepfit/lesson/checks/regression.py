"""Judges of the exercises 3.1 and on: linear and logistic regression."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from stepfit import datasets
from stepfit.lesson.checks.exercise import Learner, NotAttempted, Wrong, a, close, exercise, tensor

Loss = Callable[[Tensor, Tensor], Tensor]


# The data


@exercise(
    "3.1",
    "Four arrays",
    hints=(
        "The file keeps the points first and the classes after them. The tensors come as float64 and int64.",
        "Both lines work on the list `arrays`: one changes the dtype of each, the other gives each a name. Compare the "
        "order with what the cell above printed.",
        "A tensor `t` as float32 is `t.float()`; do it in a list comprehension. The order is points to train on, "
        "points to test on, then both classes.",
    ),
)
def _load(learner: Learner) -> str:
    random, names = learner.random, ("x_train", "x_test", "y_train", "y_test")
    stored = [torch.randn(rows, 2, generator=random, dtype=torch.float64) for rows in (7, 5)]
    stored += [torch.randint(2, (rows, 1), generator=random) for rows in (7, 5)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "points.npz"
        np.savez(path, *(array.numpy() for array in stored))  # as arr_0 .. arr_3
        found = learner.call("load", str(path))
    if not isinstance(found, (tuple, list)) or len(found) != 4:
        raise Wrong(f"`load` gives {a(found)}, but four tensors are wanted.", mistake="type")
    found = [tensor(part, f"`{name}`") for part, name in zip(found, names)]
    if {len(part) for part in found} == {600, 400}:
        raise Wrong("`load` was asked for another file, and gave the two moons. Where does it use `path`?")
    for part, name, index in zip(found, names, range(4)):
        for other in set(range(4)) - {index}:
            if part.numel() == stored[other].numel() and close(part.flatten(), stored[other].flatten()):
                raise Wrong(
                    f"`{name}` holds what the file keeps as arr_{other}, of shape {tuple(stored[other].shape)}. In "
                    "which order did the cell above print the four?",
                    mistake="arrays-in-another-order",
                )
    for part, name, right in zip(found, names, stored):
        m = len(right)
        if name[0] == "y" and part.shape == (m,):
            raise Wrong(
                f"`{name}` has shape ({m},), and the outputs of the model will be ({m}, 1). Their difference has shape "
                f"{tuple((torch.zeros(m, 1) - torch.zeros(m)).shape)}: each output meets all {m} classes. Which of "
                "your lines took the second axis away?",
                mistake="targets-broadcast",
            )
        tensor(part, f"`{name}`", shape=tuple(right.shape), kind="float")
        if not close(part, right):
            row = (part.double() - right).abs().amax(dim=1).argmax()
            raise Wrong(
                f"Row {row} of `{name}` is {_numbers(part[row])}; in the file it is {_numbers(right[row])}. What "
                "happens to the numbers on the way?"
            )
    if found[0].dtype == torch.float64:
        return "All four in order. They are float64, so your models will have to be `.double()` as well."
    return "All four in order, float32, and the classes still stand in a column."


# The linear model


@exercise(
    "3.2",
    "The linear model",
    hints=(
        "Two numbers come in for each point, one number goes out.",
        "It is the same class as in the example above, with other sizes.",
        "`nn.Linear(in_features, out_features)`, with the two numbers of features.",
    ),
)
def _linear_model(learner: Learner) -> str:
    model = _module(learner.call("linear_model"), "`linear_model()`")
    _scores(model, learner)
    if not _is_affine(model, learner):
        raise Wrong(
            "The outputs of your model do not lie on a plane over the points: the output of a + b is not what it must "
            "be. Linear regression has only weights and a bias; what comes after them here?"
        )
    if learner.call("linear_model") is model:
        raise Wrong(
            "`linear_model` gives the same model each time, so a second training would go on where the first "
            "ended. Where is the model made?"
        )
    count = sum(weight.numel() for weight in model.parameters())
    return f"(m, 2) becomes (m, 1), with {count} numbers to learn. Which line do the outputs of 0.5 lie on?"


@exercise(
    "3.3",
    "The squared error",
    hints=(
        "First the error of each point, then its square, then one number for all points.",
        "All in one line: `output` and `y` have the same shape, so you may subtract them as they are.",
        "(output minus y), then `.square()`, then `.mean()`.",
    ),
)
def _mean_squared_error(learner: Learner) -> str:
    for m in (7, 2):
        output, y = torch.randn(m, 1, generator=learner.random) * 2 + 3, _classes(m)
        found = learner.call("mean_squared_error", output, y)
        if isinstance(found, Real):
            raise Wrong(
                f"The loss is {a(found)}. Keep it a tensor: `backward()` starts from there, and a plain number has "
                "forgotten where it came from.",
                mistake="type",
            )
        found = tensor(found, "The loss")
        if found.shape != ():
            raise Wrong(
                f"The loss has shape {tuple(found.shape)}: one number for each point. How do {found.numel()} numbers "
                "become one?",
                mistake="shape",
            )
        errors = (output - y).double()
        right = errors.square().mean()
        if not close(found, right):
            raise _named(
                found,
                right,
                f"For {m} points",
                (errors.square().sum(), "That is the *sum* of the squared errors. What divides it by m?"),
                (errors.mean(), "That is the mean of the errors. What keeps +1 and -1 from cancelling?"),
                (errors.abs().mean(), "That is the mean of the errors without sign. What does *squared* ask for?"),
                (right.sqrt(), "The root is one step too many. Which formula stands above?"),
                (right / 2, "That is half of it. Which formula stands above?"),
            )
    if not learner.call("mean_squared_error", torch.ones(3, 1, requires_grad=True), torch.zeros(3, 1)).requires_grad:
        raise Wrong(
            "The number is right, but the loss has forgotten how it was computed, so `backward()` could not start from "
            "it. Which of your lines leaves autograd behind?"
        )
    return "Equal to `nn.MSELoss`, and autograd can go back from it."


@exercise(
    "3.4",
    "The gradient",
    hints=(
        "Read the formula from the right: outputs minus classes, then weighted with the points, then scaled.",
        "`errors` is (m, 1) and needs one matrix product. `grad` is (p, 1): which of X and X.T makes (m, 1) to (p, 1)?",
        "`errors` is X @ theta minus y. `grad` is two over m, times X.T @ errors; m is len(X).",
    ),
)
def _gradient(learner: Learner) -> str:
    for m, p in ((7, 3), (5, 2), (2, 2)):
        X, theta = (torch.randn(*shape, generator=learner.random) for shape in ((m, p), (p, 1)))
        y = _classes(m)
        found = tensor(learner.call("gradient", X, theta, y), "The gradient", shape=(p, 1))
        pull = (X.T @ (X @ theta - y)).double()
        right = 2 / m * pull
        if not close(found, right):
            raise _named(
                found,
                right,
                f"For {m} points and {p} weights",
                (-right, "That points the other way. What is the sign of outputs minus classes?"),
                (right / 2, "The factor 2 is missing. What is the derivative of a square?"),
                (2 * pull, "That has not been divided by m. Is the loss a sum or a mean?"),
                (pull, "The factor 2/m is missing. Is the loss a sum or a mean, and what is the slope of a square?"),
            )
    return "Equal to autograd's, for three sizes. What is it at the bottom of the bowl?"


# The training loop, piece by piece


@exercise(
    "3.5",
    "The optimizer",
    hints=(
        "An optimizer must be told whose weights it moves.",
        "The example has all you need; only the model and the learning rate are other ones: use the two arguments.",
        "`torch.optim.SGD(..., lr=lr)`, and for the dots the parameters() of `model`.",
    ),
)
def _optimizer_for(learner: Learner) -> str:
    model = nn.Linear(2, 1)
    _steps_plainly(learner.call("optimizer_for", model, 0.3), model, 0.3, "optimizer_for(model, 0.3)")
    return "It holds both parameters of the model, and a step is lr times the gradient."


@exercise(
    "3.6",
    "The accuracy",
    hints=(
        "Compare twice: the outputs with the threshold, and what comes out with the classes.",
        "The example above does it for four outputs. Here the outputs come from `model(x)`.",
        "`right` is (model(x) > threshold) == y. For `part`: `right.double()`, its mean, and .item().",
    ),
)
def _accuracy(learner: Learner) -> str:
    m, seen = 7, []
    model = nn.Linear(2, 1)
    x = torch.rand(m, 2, generator=learner.random)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0.5]]))
        model.bias.fill_(2.0)  # all outputs are over 2: neither 0 nor 0.5 can be the threshold by luck
        output = model(x)
    model.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    order = output.flatten().sort().indices
    threshold = output[order[3:5]].mean().item()
    y = (output > threshold).float()
    y[order[[0, 6]]] = 1 - y[order[[0, 6]]]  # so two of the seven come out wrong, one in each class
    wanted = (m - 2) / m

    def another_x(_: Exception | None = None) -> Wrong | None:
        if set(seen) <= {m}:
            return None
        return Wrong(
            f"`accuracy` was given {m} points, and asked the model for {next(n for n in seen if n != m)}. Whose points "
            "are those? An accuracy on the points that it was trained on would flatter the model.",
            mistake="accuracy-on-training-data",
        )

    found = learner.call("accuracy", model, x, y, threshold, explain=another_x)
    if wrong := another_x():
        raise wrong
    found = _plain(found, "`accuracy`")
    pairs = ((output > threshold) == y.flatten()).double()  # (m, m)
    if any(math.isclose(found, value, rel_tol=1e-4) for value in (pairs.sum() / m, pairs.mean(), pairs.sum())):
        raise Wrong(
            f"The accuracy is {found:.4g}, and {wanted:.4g} is right ({m - 2} of {m} points). It compares ({m}, 1) "
            f"with ({m},), and that broadcasts to ({m}, {m}): each output meets all {m} classes. Where does the second "
            "axis go?",
            mistake="accuracy-broadcasts",
        )
    if not math.isclose(found, wanted, rel_tol=1e-4):
        raise _named(
            torch.tensor(found),
            torch.tensor(wanted),
            f"{m - 2} of {m} points come out right. For their part",
            (torch.tensor(m - 2), "That is how many. Which *part* of all is it?"),
            (
                torch.tensor(100 * wanted),
                "That is in percent. As a part of all it lies between 0 and 1: what is too much?",
            ),
            (torch.tensor(1 - wanted), "That is the part that comes out *wrong*. Which way round do you compare?"),
            (y.mean(), "That is what a lower threshold gives; here it is over 2. Does your code use `threshold`?"),
            (1 - y.mean(), "So no output was above the threshold. Do you compare the outputs themselves with it?"),
        )
    return f"{m - 2} of {m} points are {wanted:.4f}, a plain number."


@exercise(
    "3.7",
    "The training loop",
    hints=(
        "Six moves: ask the model, say how wrong it is, forget the old gradients, find the new ones, move, write down.",
        "Each move is one line with the arguments of `train`: model, loss_fn, optimizer. The last has two lines, and "
        "uses your `accuracy` with the test points.",
        "`model(x_train)`; `loss_fn(output, y_train)`; `optimizer.zero_grad()`; `loss.backward()`; "
        "`optimizer.step()`; then append `loss.item()` and what `accuracy` says.",
    ),
)
def _train(learner: Learner) -> str:
    task = _Task(learner)
    ignored = False
    for loss_fn in (nn.MSELoss(), nn.BCEWithLogitsLoss()):
        for steps in (4, 1):
            run = _train_once(learner, task, loss_fn, steps, threshold=0.5)
            if isinstance(loss_fn, nn.BCEWithLogitsLoss) and _ended(run.model, task.path(nn.MSELoss())[0][steps]):
                ignored = True  # a loop that measures the squared error itself does what was asked of it up to now
                continue
            _judge_train(task, loss_fn, steps, run)
    for threshold, wanted in ((-1e3, 0.4), (1e3, 0.6)):
        run = _train_once(learner, task, nn.MSELoss(), 1, threshold=threshold)
        if not math.isclose(run.accuracies[0], wanted, rel_tol=1e-4):
            raise Wrong(
                f"With the threshold {threshold:g}, every output is on the same side of it, so the test accuracy must "
                f"be {wanted}; yours is {run.accuracies[0]:.4g}. Which threshold does your log use?"
            )
    if ignored:
        return (
            "Right for the squared error. But it does not ask `loss_fn`, and for logistic regression you will hand it "
            "another loss. What should stand in the line *loss*?"
        )
    return "Weights, losses and test accuracies are right after 1 step and after 4, for two loss functions."


@dataclass
class _Run:
    """What one run of a learner's loop has done, and which moves were seen in it."""

    model: nn.Module
    moves: set[str]
    losses: Sequence[Any] = ()
    accuracies: Sequence[Any] = ()


class _Task:
    """A small training problem on which every known mistake leaves its own trace.

    7 points to train on and 5 to test on, and in both one place has a point of each class. So an accuracy is never 0
    or 1, and that of the training points, a seventh, is never that of the test points, a fifth.
    """

    lr = 0.1

    def __init__(self, learner: Learner):
        def points(y: Tensor) -> Tensor:
            x = torch.rand(len(y), 2, generator=learner.random) + torch.tensor([-1.0, 0.5]) * (2 * y - 1)
            x[1] = x[0]
            return x

        self.y_train, self.y_test = _classes(7), torch.tensor([[0.0], [1.0], [0.0], [1.0], [0.0]])
        self.x_train, self.x_test = points(self.y_train), points(self.y_test)
        self.model = nn.Linear(2, 1)
        with torch.no_grad():  # far from where both losses want it, so that each step is a long one
            self.model.weight.copy_(torch.tensor([[1.5, -1.0]]) + torch.rand(1, 2, generator=learner.random) / 4)
            self.model.bias.fill_(0.5)

    def path(self, loss_fn: Loss, *, steps: int = 4, clear: bool = True) -> tuple[list[Tensor], list[float]]:
        """Return the parameters before, between and after the steps of gradient descent, and the loss before each."""
        model = copy.deepcopy(self.model)
        places, losses = [_parameters(model)], []
        held = [torch.zeros_like(weight) for weight in model.parameters()]
        for _ in range(steps):
            loss = loss_fn(model(self.x_train), self.y_train)
            losses.append(loss.item())
            for old, weight, new in zip(held, model.parameters(), torch.autograd.grad(loss, list(model.parameters()))):
                old.copy_(new if clear else old + new)
                weight.data -= self.lr * old
            places.append(_parameters(model))
        return places, losses

    def accuracies(self, places: list[Tensor], x: Tensor, y: Tensor) -> list[float]:
        """Return the accuracy at each place, for the threshold 0.5."""
        return [(((x.double() @ place[:2, None] + place[2]) > 0.5) == y).double().mean().item() for place in places]


def _train_once(learner: Learner, task: _Task, loss_fn: nn.Module, steps: int, threshold: float) -> _Run:
    """Let the learner's `train` run, and see to it that what it gives back are two lists of that many."""
    model = copy.deepcopy(task.model)
    optimizer = torch.optim.SGD(model.parameters(), lr=task.lr)
    data = (task.x_train, task.y_train, task.x_test, task.y_test)
    with _watched(model) as moves:
        try:
            found = learner.call("train", model, loss_fn, optimizer, *data, steps, threshold, explain=_explained)
        except NotAttempted:
            if {"backward", "step"} <= moves:
                raise NotAttempted("`train` writes down a `...`; is `accuracy` (3.6) finished?") from None
            raise
    if not (isinstance(found, (tuple, list)) and len(found) == 2 and all(isinstance(part, list) for part in found)):
        raise Wrong(f"`train` gives {a(found)}, but two lists are wanted: losses, accuracies.", mistake="type")
    if not any(found) and _ended(model, _parameters(task.model)):
        if {"forward", "backward", "step"} <= moves:
            raise Wrong("Both lists are empty after the loop. What does the sixth move append?")
        done = f"it does {' and '.join(sorted(moves))} now; the next is open" if moves else "all six moves are open"
        raise NotAttempted(f"Put your own code in place of each `...`: {done}.")
    return _Run(model, moves, *found)


def _judge_train(task: _Task, loss_fn: nn.Module, steps: int, run: _Run) -> None:
    """Compare a run with the right one: first the weights, then what was written down."""
    places, losses = task.path(loss_fn, steps=steps)
    if not _ended(run.model, places[-1]):
        raise _astray(task, loss_fn, steps, run, "train")
    for name, log in (("losses", run.losses), ("accuracies", run.accuracies)):
        if len(log) != steps:
            raise Wrong(f"After {steps} steps `{name}` has {len(log)} entries. Where in the loop does it grow?")
        for value in log:
            _plain(value, f"An entry of `{name}`")
    if not close(torch.tensor(run.losses), torch.tensor(losses)):
        raise Wrong(
            f"The weights are right, but `losses` is {_numbers(run.losses)}, and {_numbers(losses)} is right: each "
            "loss from before its step. Which number do you append?"
        )
    train, test = (task.accuracies(places, x, y) for x, y in ((task.x_train, task.y_train), (task.x_test, task.y_test)))
    if any(_alike(run.accuracies, right) for right in (test[1:], test[:-1])):  # after each step, or before it
        return
    if max(run.accuracies) > 1:
        raise Wrong(
            f"An accuracy is {max(run.accuracies):.4g}, more than all. Outputs (5, 1) against classes (5,) broadcast "
            "to (5, 5). What are the shapes that you compare?",
            mistake="accuracy-broadcasts",
        )
    if any(_alike(run.accuracies, flattering) for flattering in (train[1:], train[:-1])):
        raise Wrong(
            f"`accuracies` is {_numbers(run.accuracies)}: that is the accuracy on the points that the model is trained "
            f"on. On the test points it is {_numbers(test[1:])}. Which of the two tells how good it is on new points?",
            mistake="accuracy-on-training-data",
        )
    raise Wrong(
        f"The weights and the losses are right, but `accuracies` is {_numbers(run.accuracies)}, and on the test points "
        f"{_numbers(test[1:])} is right. Does `accuracy` (3.6) pass, and what do you give to it?"
    )


def _astray(task: _Task, loss_fn: Loss, steps: int, run: _Run, name: str) -> Wrong:
    """Say by which known mistake a run has come to other weights than the right ones."""
    places, losses = task.path(loss_fn, steps=steps)
    start, end = places[0], places[-1]
    logged = f" The loss is {_numbers(run.losses)}." if len(run.losses) and _are_plain(run.losses) else ""
    if "step of another" in run.moves:
        return _another_models(f"`{name}`", "The optimizer that takes the steps")
    if _ended(run.model, start):
        if "backward" not in run.moves:
            return Wrong(
                f"After {steps} steps the weights are where they began: no gradient was ever computed. Which move "
                "fills the gradients?",
                mistake="no-backward",
            )
        if "step" not in run.moves:
            return Wrong(
                f"After {steps} steps the weights are where they began.{logged} The gradients are there, but nobody "
                "moves the weights. Whose move is that?",
                mistake="no-step",
            )
    if any(_ended(run.model, place) for place in (start, places[-2], task.path(loss_fn, clear=False)[0][steps - 1])):
        return Wrong(
            f"The first step moves the weights by nothing.{logged} When the optimizer takes its step, the gradients "
            "are not there: cleared already, or not computed yet. In which order must zero, backward and step come?",
            mistake="order-of-the-moves",
        )
    if _ended(run.model, task.path(loss_fn, steps=steps, clear=False)[0][-1]):
        return Wrong(
            f"The first step is right, and then the weights run away: after {steps} steps they are "
            f"{_numbers(_parameters(run.model))}, and {_numbers(end)} is right. Each step adds its gradient to those "
            "of all the steps before. Which move makes a fresh start?",
            mistake="no-zero-grad",
        )
    if _ended(run.model, task.path(lambda output, y: loss_fn(y, output), steps=steps)[0][-1]):
        swapped = loss_fn(task.y_train, task.model(task.x_train)).item()
        return Wrong(
            f"The loss takes the classes for the prediction, and the prediction for the classes: its first value is "
            f"{swapped:.4f}, and {losses[0]:.4f} is right. With the squared error nobody would notice; this loss is "
            "not the same both ways, and can even fall below 0. Which comes first?",
            mistake="prediction-and-target-swapped",
        )
    m = len(task.y_train)
    everyone = task.path(lambda output, y: (output - y.flatten()).square().mean(), steps=steps)
    if isinstance(loss_fn, nn.MSELoss) and _ended(run.model, everyone[0][-1]):
        return _broadcast(m, f"Its first value is {everyone[1][0]:.4f}, and {losses[0]:.4f} is right.")
    return Wrong(
        f"After {steps} steps the weights and the bias are {_numbers(_parameters(run.model))}, and {_numbers(end)} is "
        f"right; they began at {_numbers(start)}. Go through the six moves: which one does something else?"
    )


# Where class 1 begins


@exercise(
    "3.8",
    "The threshold of linear regression",
    hints=(
        "The outputs try to be the classes.",
        "The classes are 0 and 1. Which outputs are nearer to 1 than to 0?",
        "The number half-way between 0 and 1.",
    ),
)
def _linear_threshold(learner: Learner) -> str:
    found = _plain(learner.value("linear_threshold"), "`linear_threshold`", tensors=True)
    data = datasets.two_moons()
    theta = torch.linalg.lstsq(_with_ones(data.x_train), data.y_train.double()).solution
    output = _with_ones(data.x_test) @ theta
    at, best = (((output > level) == data.y_test).double().mean().item() for level in (found, 0.5))
    evidence = (
        f"At the threshold {found:g} the best line for our data is right for {at:.4g} of the test points, and at the "
        f"right threshold for {best:.4g}."
    )
    if found == 0:
        raise Wrong(
            f"{evidence} 0 is the threshold for classes -1 and +1. The outputs here aim at 0 and 1: which value lies "
            "half-way?",
            mistake="threshold-zero-on-targets",
        )
    if not math.isclose(found, 0.5, rel_tol=1e-6):
        raise Wrong(
            f"{found:g} is not half-way between the classes. {evidence} Which outputs are nearer to 1 than to 0?"
        )
    return f"Half-way between the classes. The best line for our data is right for {best:.4g} of the test points."


# Logistic regression


@exercise(
    "3.9",
    "Model, loss and optimizer of logistic regression",
    hints=(
        "The model is the same as for linear regression; what changes is how its output is read.",
        "The text above names three losses. Your model gives one logit for each point: which of them takes that?",
        "A linear model from 2 to 1, the loss *with logits* (made with brackets: `Name()`), and an optimizer that has "
        "the parameters of this very model.",
    ),
)
def _logistic_parts(learner: Learner) -> str:
    parts = learner.call("logistic_parts", 0.3)
    if not isinstance(parts, (tuple, list)) or len(parts) != 3:
        raise Wrong(f"`logistic_parts` gives {a(parts)}, but model, loss and optimizer are wanted.", mistake="type")
    model, loss_fn = _module(parts[0], "The model"), parts[1]
    _scores(model, learner)
    if not callable(loss_fn):
        raise Wrong(f"The loss is {a(loss_fn)}, and cannot be called as `loss_fn(output, y)`.", mistake="type")
    if isinstance(loss_fn, type):
        raise Wrong(f"`{loss_fn.__name__}` is a class, not yet a loss. What makes a loss from it?", mistake="type")
    _judge_loss(loss_fn, logits=_is_affine(model, learner), learner=learner)
    _steps_plainly(parts[2], model, 0.3, "The optimizer")
    return "The loss takes just what the model gives, and the optimizer moves this model."


def _judge_loss(loss_fn: Loss, *, logits: bool, learner: Learner) -> None:
    """Hold the loss against the cross-entropy, for outputs such as the model gives."""
    y = _classes(7)
    output = 3 * torch.randn(7, 1, generator=learner.random).abs() + 0.5  # outside 0..1 for some, away from 0 for all
    output[::2] *= -1
    output[0] = -2.0
    entropy = nn.functional.binary_cross_entropy_with_logits
    wanted = entropy(output, y)
    if not logits:
        output = torch.sigmoid(output)
    given = "logits, numbers such as -2 and 3" if logits else "probabilities"
    said = getattr(loss_fn, "__name__", type(loss_fn).__name__)
    try:
        found = tensor(loss_fn(output, y), f"What `{said}` gives", shape=())
    except (RuntimeError, ValueError) as error:
        raise Wrong(
            f"Your model gives {given}, and `{said}` refuses them: {str(error).partition(chr(10))[0]}. Which of the "
            "three losses takes the outputs of your model?",
            mistake="wrong-loss-for-logits",
        ) from None
    if close(found, wanted):
        return
    if not logits and close(found, entropy(output, y)):
        raise Wrong(
            "The model ends with a sigmoid, and the loss applies one more. For a perfect model, with outputs of just 0 "
            f"and 1, this loss would still be {entropy(y, y):.4f} on our 7 points. Who should apply the sigmoid?",
            mistake="sigmoid-twice",
        )
    if close(found, torch.zeros(())):
        raise Wrong(
            f"`{said}` gives {found.abs():g} for a model that is quite wrong: it compares the outputs of one point "
            "with each other, and here there is only one, so nothing would ever move. Which loss is for one output and "
            "two classes?",
            mistake="wrong-loss-for-logits",
        )
    if close(found, (output - y).square().mean()):
        raise Wrong(
            f"The loss is the squared error, {found:.4f} on 7 points, as in linear regression; the cross-entropy is "
            f"{wanted:.4f}. Your model gives {given}: which loss is made for that?",
            mistake="wrong-loss-for-logits",
        )
    if logits and close(found, entropy(y, output)):
        raise Wrong(
            f"The loss takes the classes for the prediction: it gives {found:.4f}, and {wanted:.4f} is right. Which "
            "comes first?",
            mistake="prediction-and-target-swapped",
        )
    raise Wrong(
        f"Your model gives {given}. On 7 points `{said}` gives {found:.4f}; their cross-entropy is {wanted:.4f}. Which "
        "of the three losses takes the outputs of your model?",
        mistake="wrong-loss-for-logits",
    )


@exercise(
    "3.10",
    "The threshold of logistic regression",
    hints=(
        "Class 1 begins where its probability passes one half.",
        "Your model gives logits, unless it ends with a sigmoid. Look at the table of logits and probabilities above.",
        "The logit whose sigmoid is one half; the table has it.",
    ),
)
def _logistic_threshold(learner: Learner) -> str:
    found = _plain(learner.value("logistic_threshold"), "`logistic_threshold`", tensors=True)
    model = _module(learner.call("logistic_parts", 1.0)[0], "The model of `logistic_parts`")
    data, theta = datasets.two_moons(), torch.zeros(3, 1, dtype=torch.float64)
    X = _with_ones(data.x_train)
    for _ in range(100):
        theta -= X.T @ (torch.sigmoid(X @ theta) - data.y_train) / len(X)
    output = _with_ones(data.x_test) @ theta
    logits = _is_affine(model, learner)
    if not logits:
        output = torch.sigmoid(output)
    right = 0.0 if logits else 0.5
    at, best = (((output > level) == data.y_test).double().mean().item() for level in (found, right))
    evidence = (
        f"After 100 steps at lr 1 on our data, the threshold {found:g} is right for {at:.4g} of the test points, and "
        f"the right threshold for {best:.4g}."
    )
    if logits and found == 0.5:
        raise Wrong(
            f"0.5 is one half as a *probability*, but your model gives logits: an output of 0.5 is the probability "
            f"{torch.sigmoid(torch.tensor(0.5)):.4f}. {evidence} Which logit has the probability 0.5?",
            mistake="threshold-half-on-logits",
        )
    if not math.isclose(found, right, rel_tol=1e-6, abs_tol=1e-6):
        kind = "logits" if logits else "probabilities"
        raise Wrong(f"Your model gives {kind}. {evidence} Which output has the probability 0.5?")
    return f"The output {right:g} of your model is the probability 0.5: right for {best:.4g} of our test points."


# How large a step, and points far out


@exercise(
    "3.11",
    "The largest learning rate",
    hints=(
        "The curvature is the same everywhere, so it depends on the points only. The steepest direction decides.",
        "`hessian` is the formula for H, with m = len(X). `limit` needs the largest of its eigenvalues.",
        "`hessian` is 2 / len(X) * X.T @ X; `limit` is 2 divided by torch.linalg.eigvalsh(hessian).max().",
    ),
)
def _lr_limit(learner: Learner) -> str:
    for m, p in ((7, 3), (5, 2)):
        X = torch.randn(m, p, generator=learner.random) * torch.arange(1, p + 1)
        found = torch.tensor(_plain(learner.call("lr_limit", X), "`lr_limit`", tensors=True), dtype=torch.float64)
        curvature = torch.linalg.eigvalsh(2 / m * X.T.double() @ X.double())
        steepest, right = curvature.max(), 2 / curvature.max()
        if not close(found, right):
            raise _named(
                found,
                right,
                f"For {m} points and {p} weights",
                (2 / curvature.min(), "That belongs to the flattest direction. Which direction flies apart first?"),
                (steepest, "That is the steepest curvature itself. What is the limit, when you know it?"),
                (1 / steepest, "That is half of it. When does |1 - lr times lambda| pass 1?"),
                (4 / m / steepest, "The factor 2/m is missing in H. Is the loss a sum or a mean?"),
                (2 * right, "The factor 2 is missing in H. What is the derivative of a square?"),
                (right / m, "The 1/m is missing in H. Is the loss a sum or a mean?"),
            )
    return "Right for two sizes. Why will far points make it smaller?"


@exercise(
    "3.12",
    "What both losses say to one point",
    hints=(
        "Put the class 1 into both formulas: what is left of the cross-entropy when y is 1?",
        "The squared error measures the way from the output to 1. The cross-entropy is minus the logarithm of the "
        "probability. Take no mean: one loss for each output.",
        "(outputs minus 1) squared, and minus torch.log of torch.sigmoid(outputs); return both, in this order.",
    ),
)
def _losses_of_class_1(learner: Learner) -> str:
    outputs = torch.rand(9, generator=learner.random) * 10 - 3
    found = learner.call("losses_of_class_1", outputs)
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise Wrong(f"`losses_of_class_1` gives {a(found)}, but two tensors are wanted.", mistake="type")
    softplus = nn.functional.softplus
    squared, entropy = ((outputs - 1).square(), softplus(-outputs))
    if all(isinstance(part, Tensor) for part in found) and close(found[0], entropy) and close(found[1], squared):
        raise Wrong("Both are there, the other way round. Which does the docstring name first?")
    for part, right, name, other, words in (
        (found[0], squared, "squared errors", outputs.square(), "That is the error against class 0."),
        (found[1], entropy, "cross-entropies", softplus(outputs), "That is the loss of class 0, minus log(1 - p)."),
    ):
        part = tensor(part, f"What you give for the {name}", shape=(9,), kind="float")
        if not close(part, right):
            row = (part - right).abs().nan_to_num(math.inf).argmax()
            raise Wrong(
                f"For the output {outputs[row]:.4f} your {name} have {part[row]:.4f}, and {right[row]:.4f} is right. "
                + (words + " Which class is wanted?" if close(part, other) else "What does the formula say for y = 1?")
            )
    return "Both right. For which outputs of class 1 is the cross-entropy smaller than the squared error?"


@exercise(
    "3.13",
    "The loop from memory",
    hints=(
        "Forward, loss, zero, backward, step. Two things must be made before the loop.",
        "Before the loop: a loss that takes logits, and an optimizer that holds the parameters of `model`. Inside: "
        "five lines. After it: give the model back.",
        "`loss_fn` and `optimizer` as in 3.9, then `for _ in range(steps):` with the first five moves of 3.7, on x and "
        "y; then `return model`.",
    ),
)
def _fit(learner: Learner) -> str:
    task, entropy = _Task(learner), nn.BCEWithLogitsLoss()
    for steps in (4, 1):
        model = copy.deepcopy(task.model)
        with _watched(model) as moves:
            found = learner.call("fit", model, task.x_train, task.y_train, task.lr, steps, explain=_explained)
        run = _Run(_module(found, "What `fit` gives back"), moves)
        _scores(run.model, learner)
        if _ended(run.model, task.path(entropy, steps=steps)[0][-1]):
            continue
        for words, mistake, loss_fn in (
            ("That is linear regression: the squared error. Which loss", "wrong-loss-for-logits", nn.MSELoss()),
            ("The sigmoid is applied twice. Which loss", "sigmoid-twice", lambda z, y: entropy(torch.sigmoid(z), y)),
        ):
            if _ended(run.model, other := task.path(loss_fn, steps=steps)[0][-1]):
                raise Wrong(
                    f"After {steps} steps the weights and the bias are {_numbers(other)}, and "
                    f"{_numbers(task.path(entropy, steps=steps)[0][-1])} is right. {words} takes logits as they are?",
                    mistake=mistake,
                )
        raise _astray(task, entropy, steps, run, "fit")
    return "The weights are right after 1 step and after 4. You know the loop."


# What the judges share


def _classes(m: int) -> Tensor:
    """Return a column of classes that begins with 0, 1."""
    return (torch.arange(m) % 2).float().unsqueeze(1)


def _with_ones(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)


def _numbers(values: Any) -> str:
    return ", ".join(f"{float(value):.4f}" for value in values)


def _alike(found: Sequence[float], right: Sequence[float]) -> bool:
    return close(torch.tensor(found), torch.tensor(right))


def _named(found: Tensor, right: Tensor, what: str, *known: tuple[Tensor, str]) -> Wrong:
    """Say what came and what is right, and by which known way one comes to it."""
    why = next((words for value, words in known if close(found, value)), "Which step of the formula is not there?")
    return Wrong(f"{what} you have {_numbers(found.flatten())}, and {_numbers(right.flatten())} is right. {why}")


def _are_plain(values: Sequence[Any]) -> bool:
    return all(isinstance(value, Real) and not isinstance(value, bool) for value in values)


def _plain(value: Any, what: str, *, tensors: bool = False) -> float:
    """Return a number, which may be a tensor of one number where that does no harm."""
    if tensors and isinstance(value, (Tensor, np.ndarray)) and math.prod(value.shape) == 1:
        value = value.item()
    if isinstance(value, Tensor):
        raise Wrong(
            f"{what} is a tensor of shape {tuple(value.shape)}, but a plain number is wanted. A log of tensors keeps "
            "more than the number, and cannot be drawn or compared like one. Which method takes the number out?",
            mistake="logs-tensors",
        )
    if not _are_plain([value]):
        raise Wrong(f"{what} is {a(value)}, but a number is wanted.", mistake="type")
    return float(value)


def _module(value: Any, what: str) -> nn.Module:
    if isinstance(value, nn.Module):
        return value
    raise Wrong(f"{what} is {a(value)}, but a model (`nn.Module`) is wanted.", mistake="type")


def _scores(model: nn.Module, learner: Learner) -> None:
    """See to it that a model can be trained and gives one output for each point."""
    weights = list(model.parameters())
    if not weights:
        raise Wrong("Your model has no parameters, so there is nothing to train. Which layer has weights?")
    x = torch.randn(5, 2, generator=learner.random).to(weights[0].dtype)
    try:
        found = model(x)
    except RuntimeError as error:
        raise Wrong(
            f"Your model cannot take points of shape (5, 2): {error}. How many features has a point?", mistake="shape"
        ) from None
    if found.shape != (5, 1):
        raise Wrong(
            f"For 5 points your model gives outputs of shape {tuple(found.shape)}, but (5, 1) is wanted: one score for "
            "each point. Which of its sizes says so?",
            mistake="shape",
        )


def _is_affine(model: nn.Module, learner: Learner) -> bool:
    """Say whether the outputs are weights times features plus a bias, with no sigmoid or the like behind."""
    exact = copy.deepcopy(model).double()
    first, second = 20 * torch.rand(2, 9, 2, generator=learner.random, dtype=torch.float64) - 10
    with torch.no_grad():
        bent = exact(first) + exact(second) - exact(first + second) - exact(torch.zeros_like(first))
    return bool(bent.abs().max() < 1e-4)


def _parameters(model: nn.Module) -> Tensor:
    """Return all parameters as one row of numbers."""
    return torch.cat([weight.detach().double().flatten() for weight in model.parameters()])


def _ended(model: nn.Module, place: Tensor) -> bool:
    return close(_parameters(model), place)


@contextmanager
def _watched(model: nn.Module) -> Iterator[set[str]]:
    """Note which moves a learner's loop makes. It looks on: model, loss and optimizer stay what they are."""
    moves: set[str] = set()
    weights = list(model.parameters())

    def stepped(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        held = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        moves.add("step" if held & {id(weight) for weight in weights} else "step of another")

    def noted(move: str) -> Callable[..., None]:
        return lambda *_: moves.update([move])

    hooks = [
        model.register_forward_hook(noted("forward")),
        *(weight.register_hook(noted("backward")) for weight in weights),  # type: ignore[no-untyped-call]
        register_optimizer_step_pre_hook(stepped),
    ]
    try:
        yield moves
    finally:
        for hook in hooks:
            hook.remove()


def _explained(error: Exception) -> Wrong | None:
    """Find better words for what PyTorch says when a training loop goes wrong."""
    said = str(error)
    if "backward through the graph a second time" in said:
        return Wrong(
            "The second step goes back through the notes of the first, and they are used up. The model must be asked "
            "anew in every step: which of your lines stands outside of the loop?",
            mistake="forward-outside-the-loop",
            status="error",
        )
    if isinstance(error, ValueError) and "target size" in said.lower():
        return _broadcast(7, f"PyTorch says: {said}.")
    return None


def _broadcast(m: int, evidence: str) -> Wrong:
    return Wrong(
        f"The loss meets outputs of shape ({m}, 1) and classes of shape ({m},). Their difference broadcasts to ({m}, "
        f"{m}): each output is compared with all {m} classes. {evidence} What shape had the classes when they came in?",
        mistake="targets-broadcast",
    )


def _another_models(what: str, holder: str) -> Wrong:
    return Wrong(
        f"{holder} holds none of the parameters of this model, but those of another. So {what} moves that one, and "
        "here every weight moves by 0. Whose parameters does it hold?",
        mistake="optimizer-of-another-model",
    )


def _steps_plainly(optimizer: Any, model: nn.Module, lr: float, what: str) -> None:
    """See to it that an optimizer moves all parameters of this model by lr times their gradient, each time."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise Wrong(f"{what} is {a(optimizer)}, but an optimizer of `torch.optim` is wanted.", mistake="type")
    held = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    missing = [name for name, weight in model.named_parameters() if id(weight) not in held]
    if len(missing) == len(list(model.parameters())):
        raise _another_models("a step", "The optimizer")
    if missing:
        raise Wrong(
            f"The optimizer does not hold `{'`, `'.join(missing)}`, so that stays where it began. Who moves it?"
        )
    before = _parameters(model)
    for times in (1, 2):
        for weight in model.parameters():
            weight.grad = torch.full_like(weight, 2)  # not 1: Adam would move by lr too
        optimizer.step()
        moved = before - _parameters(model)
        if not torch.allclose(moved, torch.full_like(moved, 2 * times * lr), rtol=1e-3):
            raise Wrong(
                f"With every gradient 2 and lr {lr:g}, the parameters have moved by {_numbers(moved)} after step "
                f"{times}; plain gradient descent moves them by {2 * times * lr:g}. Which optimizer is it, which lr?"
            )
