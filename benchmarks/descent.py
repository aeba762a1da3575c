"""What a step of descend() costs beside a loop written by hand, and what the sums save linear_regression().

Run with `python -m benchmarks.descent`. The two sides alternate in one process; what counts is their ratio.
"""

from __future__ import annotations

import gc
import platform
import statistics
from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from stepfit import descend, linear_regression
from stepfit.datasets import two_moons

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


def compare(name: str, ours: Callable[[], Any], other: Callable[[], Any], rounds: int) -> None:
    """Print the times of both and the ratio ours / other, alternating."""
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
    print(
        f"{name:<44}{1e3 * statistics.median(a for a, _ in times):9.2f}"
        f"{1e3 * statistics.median(b for _, b in times):9.2f}{min(ratios):8.3f}{statistics.median(ratios):8.3f}",
        flush=True,
    )


def main() -> None:
    data = two_moons()
    x, y = data.x_train, data.y_train.to(data.x_train.dtype).reshape(-1, 1)
    test = data.x_test, data.y_test.to(x.dtype).reshape(-1, 1)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}; times in ms, ratio a/b")
    print(f"{'a against b':<44}{'a':>9}{'b':>9}{'minimum':>8}{'median':>8}")
    for name, tested in (("without a test set", None), ("with one", test)):
        compare(
            f"descend / by hand, {len(x)} x {x.shape[1]}, {name}",
            lambda: by_descend(x, y, tested, 100),  # noqa: B023
            lambda: by_hand(x, y, tested, 100),  # noqa: B023
            rounds=30,
        )
    generator = torch.Generator().manual_seed(0)
    x, weight, noise = (torch.randn(*shape, generator=generator).double() for shape in ((N, D), (D, 1), (N, 1)))
    y = x @ weight + noise
    compare(f"by sums / by rows, {N:,} x {D}, {STEPS} steps", lambda: by_sums(x, y), lambda: by_rows(x, y), rounds=3)


if __name__ == "__main__":
    main()
