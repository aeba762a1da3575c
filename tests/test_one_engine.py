"""One engine: the functions, the estimators and descend() on torch's modules make the same steps of the same loss."""

import math
from itertools import islice

import pytest
import torch
from torch import nn

from stepfit import LinearRegression, LogisticRegression, descend, linear_regression, logistic_regression

STEPS = 50
DRAW = torch.Generator().manual_seed(4)
X = torch.randn(60, 3, generator=DRAW, dtype=torch.float64) * torch.tensor([1.0, 3.0, 0.3]) + 0.5
Y = X @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + torch.randn(60, generator=DRAW, dtype=torch.float64)
CLASSES = (Y - Y.median() > 0).double()
ZEROS = torch.zeros(1, 3, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
FAMILIES = {
    "linear": (linear_regression, nn.MSELoss, LinearRegression, Y, 0.02),
    "logistic": (logistic_regression, nn.BCEWithLogitsLoss, LogisticRegression, CLASSES, 0.5),
}


def module(loss, y, lr, momentum, **options):
    model = nn.Linear(3, 1, dtype=torch.float64)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.zero_()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    return descend(model, loss(), optimizer, X, y[:, None], max_steps=STEPS, **options)


def estimator(kind, y, lr, momentum, **options):
    rest = {"tol": 0, "random_state": 3, "max_iter": STEPS - 1} | ({} if kind is LinearRegression else {"C": math.inf})
    solver = "momentum" if momentum else "sgd"
    return islice(kind(solver=solver, lr=lr, momentum=momentum, **rest, **options).steps(X, y), STEPS)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_start_lr_and_data_make_the_same_steps(family, momentum):
    function, loss, kind, y, lr = FAMILIES[family]
    runs = [
        function(X, y, lr=lr, momentum=momentum, start=ZEROS, max_steps=STEPS),
        estimator(kind, y, lr, momentum),
        module(loss, y, lr, momentum),
    ]
    count = 0
    for ours, theirs, torchs in zip(*runs, strict=True):
        count += 1
        assert ours.lr == theirs.lr == torchs.lr == lr
        assert torchs.loss == pytest.approx(ours.loss, rel=1e-12)
        assert theirs.loss == ours.loss
        assert (ours.lr_limit is None) == (family == "logistic" or momentum > 0)
        assert ours.lr_limit == theirs.lr_limit == torchs.lr_limit
        for name in ("params", "next_params"):
            for parameter in ("weight", "bias"):
                one = getattr(ours, name)[parameter]
                assert torch.equal(one, getattr(theirs, name)[parameter])
                torch.testing.assert_close(getattr(torchs, name)[parameter], one, rtol=1e-12, atol=1e-15)
    assert count == STEPS


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_are_the_same_everywhere(family):
    """The seed of a run orders the rows of its batches, in all three."""
    function, loss, kind, y, lr = FAMILIES[family]
    options = {"batch_size": 7, "seed": 3}
    runs = [
        function(X, y, lr=lr / 5, momentum=0.9, start=ZEROS, max_steps=STEPS, **options),
        estimator(kind, y, lr / 5, 0.9, batch_size=7),
        module(loss, y, lr / 5, 0.9, **options),
    ]
    for ours, theirs, torchs in zip(*runs, strict=True):
        assert torch.equal(ours.weight, theirs.weight)
        assert theirs.loss == ours.loss == pytest.approx(torchs.loss, rel=1e-12)
        assert (ours.epoch, ours.index) == (theirs.epoch, theirs.index) == (torchs.epoch, torchs.index)
        torch.testing.assert_close(torchs.weight, ours.weight, rtol=1e-12, atol=1e-15)
