"""Gradient descent: descend() beside a loop written by hand, linear_regression() from sums, and LogisticRegression.

Run with `python -m benchmarks.descent`; it writes RESULTS.md. The two sides alternate in one process; what counts is
their ratio.
"""

from __future__ import annotations

import gc
import statistics
import warnings
from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression as Theirs
from torch import Tensor, nn

from benchmarks import results
from stepfit import LogisticRegression, descend, linear_regression
from stepfit.datasets import mnist, two_moons
from stepfit.descent.linear import LinearProblem

N, D, STEPS = 200_000, 20, 500  # of the linear regression


def by_hand(x: Tensor, y: Tensor, test: tuple[Tensor, Tensor] | None, steps: int) -> list[dict[str, Any]]:
    """The training loop of the course, with the log that a DescentStep holds."""
    torch.manual_seed(0)
    model, loss_fn = nn.Linear(x.shape[1], 1, dtype=x.dtype), nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    full = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    limit = 2 / torch.linalg.eigvalsh(2 / len(x) * full.T @ full)[-1].item()
    log: list[dict[str, Any]] = []
    params = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(steps):
        metrics = {}
        if test is not None:
            model.eval()
            with torch.no_grad():
                prediction = model(test[0])
                metrics["test_accuracy"] = accuracy(prediction, test[1])
                metrics["test_loss"] = loss_fn(prediction, test[1]).item()
            model.train()
        prediction = model(x)
        loss = loss_fn(prediction, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        metrics["train_accuracy"] = accuracy(prediction.detach(), y)
        grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        next_params = {name: p.detach().clone() for name, p in model.named_parameters()}
        log.append(
            {"loss": loss.item(), "params": params, "grads": grads, "next_params": next_params, "metrics": metrics}
            | {"lr_limit": limit}
        )
        params = next_params
    return log


def accuracy(prediction: Tensor, y: Tensor) -> float:
    return ((prediction > 0.5) == (y > 0.5)).double().mean().item()


def by_descend(x: Tensor, y: Tensor, test: tuple[Tensor, Tensor] | None, steps: int) -> list[Any]:
    torch.manual_seed(0)
    model = nn.Linear(x.shape[1], 1, dtype=x.dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return list(descend(model, nn.MSELoss(), optimizer, x, y, max_steps=steps, test=test))


def by_sums(x: Tensor, y: Tensor) -> list[Any]:
    return list(linear_regression(x, y, max_steps=STEPS, seed=0))


def by_rows(x: Tensor, y: Tensor) -> list[Any]:
    """A metric looks at predictions, so every step must pass over the rows."""
    return list(linear_regression(x, y, max_steps=STEPS, seed=0, metrics={"none": lambda prediction, target: 0.0}))


def down_to(loss: float, x: Tensor, y: Tensor) -> None:
    """Fit until the loss is as low, to 1e-6 of it."""
    for step in LogisticRegression(max_iter=1000).steps(x, y):
        if step.loss <= loss * (1 + 1e-6):
            return
    raise RuntimeError(f"the run ended at a loss of {step.loss:.9g}, above {loss:.9g}")


def loss_of(theirs: Any, x: Tensor, y: Tensor) -> float:
    """The loss of a fit of scikit-learn's with C=1, as our steps give theirs."""
    problem = LinearProblem(x, y, "CrossEntropyLoss", l2=1 / len(x))
    return problem.look(problem.point(torch.from_numpy(theirs.coef_), torch.from_numpy(theirs.intercept_))).loss


def compare(name: str, ours: Callable[[], Any], other: Callable[[], Any], rounds: int) -> list[str]:
    """Give a line of the table: the times of both, alternating, and the ratio ours / other."""
    times: list[tuple[float, float]] = []
    for i in range(rounds + 1):
        pair = [0.0, 0.0]
        for side in (0, 1) if i % 2 else (1, 0):
            gc.collect()
            began = perf_counter()
            (ours, other)[side]()
            pair[side] = perf_counter() - began
        times.append((pair[0], pair[1]))
    times = times[1:]  # the first warms up
    ratios = [a / b for a, b in times]
    medians = (1e3 * statistics.median(side) for side in zip(*times))
    return [name, *(f"{ms:,.2f}" for ms in medians), f"{min(ratios):.3f}", f"{statistics.median(ratios):.3f}"]


def main() -> None:
    data = two_moons()
    x, y = data.x_train, data.y_train.to(data.x_train.dtype).reshape(-1, 1)
    test = data.x_test, data.y_test.to(x.dtype).reshape(-1, 1)
    lines = [
        compare(
            f"descend / by hand, {len(x)} x {x.shape[1]}, {name}",
            lambda: by_descend(x, y, tested, 100),  # noqa: B023
            lambda: by_hand(x, y, tested, 100),  # noqa: B023
            rounds=30,
        )
        for name, tested in (("without a test set", None), ("with one", test))
    ]
    generator = torch.Generator().manual_seed(0)
    x, weight, noise = (torch.randn(*shape, generator=generator).double() for shape in ((N, D), (D, 1), (N, 1)))
    y = x @ weight + noise
    name = f"linear_regression, by sums / by rows, {N:,} x {D}, {STEPS} steps"
    lines.append(compare(name, lambda: by_sums(x, y), lambda: by_rows(x, y), rounds=3))
    images, digits = mnist("train")
    pixels, labels = images / 255, digits.long()
    warnings.simplefilter("ignore")  # that scikit-learn's has not converged after its 100 iterations
    theirs = Theirs().fit(pixels.numpy(), labels.numpy())
    loss = loss_of(theirs, pixels, labels)
    name = f"LogisticRegression / scikit-learn's lbfgs, {len(pixels):,} x {pixels.shape[1]}, to its loss {loss:.6f}"
    lines.append(
        compare(
            name,
            lambda: down_to(loss, pixels, labels),
            lambda: Theirs().fit(pixels.numpy(), labels.numpy()),
            rounds=3,
        )
    )
    table = results.table(["a / b", "ms of a", "ms of b", "least a / b", "median a / b"], lines)
    block = f"{table}\n\n{results.provenance('benchmarks.descent')}"
    print(block)
    results.write(results.RESULTS, {"machine": results.machine(), "descent": block})


if __name__ == "__main__":
    main()
