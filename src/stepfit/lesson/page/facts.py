"""Every number of the text: measured by running stepfit and PyTorch, never typed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from stepfit import datasets
from stepfit.clustering.lloyd import KMeansStep, lloyd
from stepfit.datasets import Split
from stepfit.descent.engine import DescentStep
from stepfit.descent.regression import linear_regression, logistic_regression
from stepfit.lesson.page import runs
from stepfit.recording import Recording, record

NAMES = "ABCDEF"
SIX = [[0.0, 0.0], [3.0, 0.0], [0.0, 3.0], [6.0, 7.0], [8.0, 7.0], [7.0, 10.0]]
SEEDS = 100
FAR = (12.0, -6.0)
FAR_COUNT = 20


def measure() -> dict[str, Any]:
    """Return all numbers by the names that lesson.md uses; tables are Markdown."""
    parts = {
        "six": _six(),
        "plane": _plane(),
        "wall": _wall(),
        "scaling": _scaling(),
        "memory": _memory(),
        "seeds": _seeds(),
        "repeat": _repeat(),
        "nan": _nan(),
        "moons_cut": {"agreement": _moons_agreement()},
        "elbow": {"table": _elbow()},
        "broadcast_trap": {"loss": _broadcast_trap()},
        "two": _two_points(),
        "moons.linear": _moons_linear(),
        "limit": _limit(),
        "outliers": _outliers(),
        "losses": {"table": _losses()},
        "logistic": _logistic(),
        "circles": _circles(),
        "double_sigmoid": {"highest": 1 / (1 + math.exp(-1))},
    }
    return {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}


@cache
def six_run() -> Recording[KMeansStep]:
    """The run of the example by hand, from A and B."""
    return record(lloyd(SIX, 2, start=SIX[:2]))


@cache
def stuck_run() -> Recording[KMeansStep]:
    """The first random start on the plane that ends in a valley which is not the deepest."""
    best = runs.plane().run.last.loss
    every = (record(lloyd(runs.clouds(), 4, start="random", seed=seed)) for seed in range(SEEDS))
    return next(run for run in every if run.last.loss > 1.01 * best)


@cache
def moons_cut() -> tuple[Tensor, Tensor, Tensor]:
    """All points of the two moons (n, 2), the moon of each (n,), and the cluster that k-means gives it (n,)."""
    data = datasets.two_moons()
    x, moon = torch.cat([data.x_train, data.x_test]), torch.cat([data.y_train, data.y_test])[:, 0]
    labels = record(lloyd(x, 2, seed=0)).last.labels.long()
    return x, moon, labels if (labels == moon).double().mean() >= 0.5 else 1 - labels


@cache
def with_outliers() -> Split:
    """The two moons with correct points of class 1 added far away; the test points are the old ones."""
    data = datasets.two_moons()
    far = torch.tensor([FAR], dtype=torch.float64).repeat(FAR_COUNT, 1)
    ones = torch.ones(FAR_COUNT, 1, dtype=torch.int64)
    return data._replace(x_train=torch.cat([data.x_train, far]), y_train=torch.cat([data.y_train, ones]))


@cache
def trained(name: str, lr: float, steps: int, outliers: bool = False, seed: int = 0) -> Recording[DescentStep]:
    """A regression, "linear" or "logistic", on the two moons."""
    data = with_outliers() if outliers else datasets.two_moons()
    regression = {"linear": linear_regression, "logistic": logistic_regression}[name]
    test = (data.x_test, data.y_test)
    return record(regression(data.x_train, data.y_train, lr=lr, max_steps=steps, test=test, seed=seed))


class Line(NamedTuple):
    """Where the output of a trained model equals its threshold: weight . x = level."""

    weight: Tensor
    level: float


def line(name: str, run: Recording[DescentStep]) -> Line:
    """Return the border of a trained regression."""
    return Line(run.last.params["weight"][0], run.last.threshold - run.last.params["bias"].item())


def outlier_lines() -> dict[str, Line]:
    """Both borders, each trained to rest with the far points."""
    return {
        name: line(name, trained(name, lr, 1000, outliers=True)) for name, lr in (("linear", 0.1), ("logistic", 1.0))
    }


def _six() -> dict[str, Any]:
    x = torch.tensor(SIX)
    run = six_run()
    distances = torch.cdist(x, run[0].centers.float()).square().round()
    own = distances.gather(1, run[0].labels.long().unsqueeze(1)).squeeze(1)
    other = record(lloyd(SIX, 2, start=[SIX[3], SIX[5]]))
    to_d, to_f = ((x[4] - x[j]).square().sum().item() for j in (3, 5))
    return {
        "distances": _table(
            ["Point", "Place", "to A", "to B", "Label"],
            [[n, _place(p), f"{a:g}", f"{b:g}", f"{j}"] for n, p, (a, b), j in _rows(x, distances, run[0])],
        ),
        "inertia_terms_0": " + ".join(f"{value:g}" for value in own.tolist()),
        "inertia_0": run[0].loss,
        "next_1": _place(run[0].next_centers[0]),
        "next_2": _place(run[0].next_centers[1]),
        "steps": _table(
            ["Step", "Center 0", "Center 1", "Points of 0", "Points of 1", "Changed", "Inertia"],
            [
                [
                    f"{step.index}",
                    *(_place(center) for center in step.centers),
                    *(" ".join(n for n, j in zip(NAMES, step.labels.tolist()) if j == c) for c in range(2)),
                    "all" if step.index == 0 else f"{step.changed}",
                    f"{step.loss:g}",
                ]
                for step in run
            ],
        ),
        "exercise.e_to_d": to_d,
        "exercise.e_to_f": to_f,
        "exercise.next_1": _place(other[0].next_centers[0]),
        "exercise.last_step": other.last.index,
        **{f"exercise.inertia_{step.index}": step.loss for step in other},
    }


def _rows(x: Tensor, distances: Tensor, step: KMeansStep) -> Iterable[tuple[str, Tensor, list[float], int]]:
    return zip(NAMES, x, distances.tolist(), step.labels.tolist())


def _plane() -> dict[str, Any]:
    run = runs.plane().run
    return {
        "n": run.settings["n"],
        "steps": len(run),
        "inertia_first": run[0].loss,
        "inertia_last": run.last.loss,
    }


def _wall() -> dict[str, Any]:
    picture = runs.wall()
    table = torch.zeros(10, 10, dtype=torch.int64)
    one = torch.ones(len(picture.x), dtype=torch.int64)
    table.index_put_((picture.run.last.labels.long(), picture.y), one, accumulate=True)
    majority = table.argmax(dim=1)
    centers_of = majority.bincount(minlength=10).tolist()
    ones = picture.run.last.centers[majority == 1]
    four, nine = (picture.x[picture.y == digit].mean(dim=0) for digit in (4, 9))
    return {
        "between_ones": (ones[0] - ones[1]).square().sum().item(),
        "four_to_nine": (four - nine).square().sum().item(),
        "agreement": table.amax(dim=1).sum().item() / len(picture.x),
        "doubled": "The digits " + _listed(digit for digit in range(10) if centers_of[digit] == 2),
        "missing": _listed(digit for digit in range(10) if centers_of[digit] == 0),
    }


def _scaling() -> dict[str, Any]:
    scaled = runs.wall().run
    images, _ = datasets.mnist()
    # The same pictures as start, in 0..255.
    whole = record(lloyd(images, 10, start=(scaled[0].centers * 255).round(), max_steps=20))
    different = sum(int((a.labels != b.labels).sum()) for a, b in zip(scaled, whole))
    return {"steps": len(scaled), "different": different}


def _memory() -> dict[str, Any]:
    images, _ = datasets.mnist()
    n, d = images.shape
    return {"broadcast_mb": n * 10 * d * 4 / 1e6, "result_mb": n * 10 * 4 / 1e6}


def _seeds() -> dict[str, Any]:
    ends = {
        start: [record(lloyd(runs.clouds(), 4, start=start, seed=seed)).last.loss for seed in range(SEEDS)]
        for start in ("random", "k-means++")
    }
    best = min(ends["random"] + ends["k-means++"])
    good = {start: sum(loss < 1.001 * best for loss in losses) for start, losses in ends.items()}
    return {
        "count": SEEDS,
        "best": best,
        "worst": max(ends["random"]),
        "random_good": good["random"],
        "random_bad": SEEDS - good["random"],
        "plus_good": good["k-means++"],
    }


def _repeat() -> dict[str, Any]:
    none = math.prod(1 - i / 10_000 for i in range(10))
    return {"one": 1 - none, "class_of_200": 1 - none**200}


def _nan() -> dict[str, Any]:
    start = runs.wall().run[0].centers.clone()
    start[1] = start[0]
    run = record(lloyd(runs.wall().x, 10, start=start, empty="nan", max_steps=4))
    return {f"after_{step.index}": int(step.centers.isnan().any(dim=1).sum()) for step in run[1:]}


def _moons_agreement() -> float:
    _, moon, cluster = moons_cut()
    return (moon == cluster).double().mean().item()


def _elbow() -> str:
    best = [min(record(lloyd(runs.clouds(), k, seed=seed)).last.loss for seed in range(10)) for k in range(1, 9)]
    return _table(["k", *map(str, range(1, 9))], [["inertia", *(f"{loss:,.0f}" for loss in best)]])


def _broadcast_trap() -> float:
    data = datasets.two_moons()
    model = nn.Linear(2, 1, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the warning that the text tells of
        for _ in range(300):
            loss = nn.MSELoss()(model(data.x_train), data.y_train[:, 0].double())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return loss.item()


def _two_points() -> dict[str, Any]:
    x = torch.tensor([[0.0], [2.0]], dtype=torch.float64)
    first, second = linear_regression(x, [0.0, 1.0], lr=0.1, start=([[0.0]], [0.0]), max_steps=2)
    weight, bias = second.params["weight"].item(), second.params["bias"].item()
    out_1, out_2 = (weight * x[:, 0] + bias).tolist()
    return {
        "loss_0": first.loss,
        "grad_w": first.grads["weight"].item(),
        "grad_b": first.grads["bias"].item(),
        "w_1": weight,
        "b_1": bias,
        "out_1": out_1,
        "out_2": out_2,
        "loss_1": second.loss,
    }


def _moons_linear() -> dict[str, Any]:
    last = runs.moons().run.last
    data = datasets.two_moons()
    output = data.x_test @ last.params["weight"].T + last.params["bias"]
    accuracy = {level: ((output > level) == data.y_test).double().mean().item() for level in (0.0, 0.5)}
    return {
        "loss": last.loss,
        "lowest": _lowest(nn.MSELoss()),
        "accuracy_at_0": accuracy[0.0],
        "accuracy_at_half": accuracy[0.5],
    }


def _lowest(loss_function: nn.Module) -> float:
    """The least loss that any line has on the training points of the two moons."""
    data = datasets.two_moons()
    model = nn.Linear(2, 1, dtype=torch.float64)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = loss_function(model(data.x_train), data.y_train.double())
        value.backward()
        return value

    optimizer.step(loss)
    return loss().item()


def _with_ones(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)


def _limit() -> dict[str, Any]:
    limit = runs.moons().run[0].lr_limit
    rows = []
    for lr in (0.1, 0.3, 0.6, 0.99 * limit, 1.01 * limit, 0.7):
        run = trained("linear", lr, 1000)
        ended = "diverged" if run.stop.name == "DIVERGED" else "at rest" if _still(run) else "still moving"
        rows.append([f"{lr:.3f}", f"{lr / limit:.0%}", ended, f"{len(run):,}", f"{run.last.loss:.4g}"])
    x = _with_ones(datasets.two_moons().x_train)
    curvature = torch.linalg.eigvalsh(2 / len(x) * x.T @ x)
    table = _table(["lr", "of the limit", "the run", "steps", "last loss"], rows)
    return {"limit": limit, "smallest": curvature[0].item(), "table": table}


def _still(run: Recording[DescentStep]) -> bool:
    return all(gradient.abs().max() < 1e-9 for gradient in run.last.grads.values())


def _outliers() -> dict[str, Any]:
    rows = []
    for name, lr in (("linear", 0.1), ("logistic", 1.0)):
        without, with_far = (trained(name, lr, 1000, outliers=far).last.metrics for far in (False, True))
        rows.append([f"{name} regression", f"{without['test_accuracy']:g}", f"{with_far['test_accuracy']:g}"])
    old = trained("linear", 0.1, 1000).last.params
    return {
        "count": FAR_COUNT,
        "table": _table(["Test accuracy", "without the far points", "with them"], rows),
        "old_output": (old["weight"][0] @ torch.tensor(FAR, dtype=torch.float64) + old["bias"]).item(),
        "limit": trained("linear", 0.1, 1000, outliers=True)[0].lr_limit,
    }


def _losses() -> str:
    outputs = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0, 9.0])
    squared = (outputs - 1).square()
    entropy = nn.functional.softplus(-outputs)
    return _table(
        ["Output", *(f"{z:g}".replace("-", "−") for z in outputs)],
        [
            ["squared error", *(f"{value:g}" for value in squared)],
            ["cross-entropy", *(f"{value:.4f}" for value in entropy)],
        ],
    )


def _logistic() -> dict[str, Any]:
    lowest = {"linear": _lowest(nn.MSELoss()), "logistic": _lowest(nn.BCEWithLogitsLoss())}
    rows = []
    for name, lr, steps in (
        ("linear", 0.1, 100),
        ("logistic", 0.1, 100),
        ("logistic", 0.1, 1000),
        ("logistic", 1.0, 100),
    ):
        lasts = [trained(name, lr, steps, seed=seed).last for seed in range(3)]
        accuracy = [f"{last.metrics['test_accuracy']:g}" for last in lasts]
        rows.append([name, f"{lr:g}", f"{steps:,}", f"{lasts[0].loss:.3f}", f"{lowest[name]:.3f}", *accuracy])
    head = ["Model", "lr", "steps", "loss", "lowest loss", "accuracy, seed 0", "seed 1", "seed 2"]
    best = trained("logistic", 1.0, 100).last.metrics["test_accuracy"]
    return {"table": _table(head, rows), "accuracy": best}


def _circles() -> dict[str, Any]:
    data = datasets.two_circles()

    def accuracy(regression: Any, lr: float, widen: Any) -> float:
        test = (widen(data.x_test), data.y_test)
        steps = regression(widen(data.x_train), data.y_train, lr=lr, max_steps=1000, test=test, seed=0)
        return float(record(steps).last.metrics["test_accuracy"])

    def with_radius(x: Tensor) -> Tensor:
        return torch.cat([x, x.square().sum(dim=1, keepdim=True)], dim=1)

    return {
        "linear": accuracy(linear_regression, 0.1, lambda x: x),
        "logistic": accuracy(logistic_regression, 1.0, lambda x: x),
        "with_radius": accuracy(logistic_regression, 1.0, with_radius),
    }


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _place(point: Tensor) -> str:
    return f"({', '.join(f'{value:g}' for value in point.tolist())})"


def _listed(items: Iterable[Any]) -> str:
    *most, last = map(str, items)
    return f"{', '.join(most)} and {last}" if most else last
