"""The recorded runs that the page shows in its players, tells of in its text, and exports as GIFs."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stepfit import datasets
from stepfit.clustering.lloyd import lloyd
from stepfit.descent.regression import linear_regression
from stepfit.recording import Recording, record


class Picture(NamedTuple):
    """A run with what is needed to draw it.

    Attributes
    ----------
    run : Recording
        The steps.
    x, y : Tensor
        The points (n, d), and what belongs to them: the digits (n,), the classes (n, 1), or nothing.
    gif : str
        Name of the file that `stepfit learn --export` writes.
    test : (x_test, y_test) or None
        Data that the run was not trained on.
    """

    run: Recording[Any]
    x: Tensor
    y: Tensor | None
    gif: str
    test: tuple[Tensor, Tensor] | None = None


@cache
def plane() -> Picture:
    """Four overlapping clouds and a bad start, which this run gets out of again."""
    x = clouds()
    return Picture(record(lloyd(x, 4, start="random", seed=4)), x, None, "K_means_plane.gif")


@cache
def wall() -> Picture:
    """Ten thousand digits, begun with the same ten images as the code on the page."""
    images, digits = datasets.mnist()
    x = images.float() / 255
    first = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:10]
    return Picture(record(lloyd(x, 10, start=x[first], seed=0, max_steps=20)), x, digits, "K_means.gif")


@cache
def moons() -> Picture:
    """Linear regression on two moons, begun with the same weights as the code on the page."""
    data = datasets.two_moons()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torch.nn.Linear(2, 1, dtype=torch.float64)
    steps = linear_regression(
        data.x_train,
        data.y_train,
        lr=0.1,
        start=(model.weight.detach(), model.bias.detach()),
        seed=0,
        max_steps=100,
        test=(data.x_test, data.y_test),
    )
    return Picture(record(steps), data.x_train, data.y_train, "Linear_Regression.gif", (data.x_test, data.y_test))


@cache
def clouds() -> Tensor:
    """The points (600, 2) of the plane."""
    return datasets.blobs(n=600, k=4, spread=1.3, seed=1)[0]
