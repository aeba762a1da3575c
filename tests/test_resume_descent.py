"""A run can be resumed from any of its steps: every solver goes on bit for bit, also from a recording on disk."""

from itertools import islice

import pytest
import torch
from torch import nn

from stepfit import (
    LinearRegression,
    LogisticRegression,
    Recording,
    Stop,
    descend,
    linear_regression,
    logistic_regression,
)

STEPS = 20
DRAW = torch.Generator().manual_seed(0)
X = torch.randn(40, 3, generator=DRAW, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.5])
Y = X @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + torch.randn(40, generator=DRAW, dtype=torch.float64)
CLASSES = (Y > 0).long() + (Y > 2).long()


def module(make, build=lambda: nn.Linear(3, 1, dtype=torch.float64), loss=nn.MSELoss, y=Y[:, None], **options):
    """Return a function that begins a run of descend with a new model and optimizer, or resumes one."""

    def run(max_steps, resume=None):
        torch.manual_seed(1)
        model = build()
        x = X.to(next(model.parameters()).dtype)
        seed = 3 if resume is None else None
        return descend(
            model, loss(), make(model.parameters()), x, y, max_steps=max_steps, seed=seed, resume=resume, **options
        )

    return run


def estimator(model, y):
    def run(max_steps, resume=None):
        return islice(model.steps(X, y, WEIGHT, resume=resume), max_steps)

    return run


def function(regression, y, **options):
    def run(max_steps, resume=None):
        return regression(X, y, seed=3 if resume is None else None, max_steps=max_steps, resume=resume, **options)

    return run


WEIGHT = torch.rand(40, generator=DRAW, dtype=torch.float64)


def network():
    layers = nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3)
    return nn.Sequential(*layers)


SGD, ADAM = torch.optim.SGD, torch.optim.Adam
DEEP = {"build": network, "loss": nn.CrossEntropyLoss, "y": CLASSES, "test": (X[:9].float(), CLASSES[:9])}
GRADIENT = ["sgd", "momentum", "nesterov", "adam"]
RUNS = {
    "SGD": module(lambda p: SGD(p, lr=0.05)),
    "momentum": module(lambda p: SGD(p, lr=0.05, momentum=0.9)),
    "Nesterov": module(lambda p: SGD(p, lr=0.05, momentum=0.9, nesterov=True)),
    "Adam": module(lambda p: ADAM(p, lr=0.05)),
    "AMSGrad": module(lambda p: ADAM(p, lr=0.05, amsgrad=True)),
    "AdamW": module(lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1)),
    "torch's L-BFGS": module(lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3, line_search_fn="strong_wolfe")),
    "RMSprop": module(lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True)),
    "two groups": module(lambda p: SGD([{"params": [q], "lr": lr} for q, lr in zip(p, (0.1, 0.01))], momentum=0.5)),
    "a network in batches": module(lambda p: ADAM(p, lr=0.01), batch_size=16, **DEEP),
    "a diverging run": module(lambda p: SGD(p, lr=0.3, momentum=0.2)),
    "linear_regression": function(linear_regression, Y, lr=0.05, momentum=0.9),
    "linear_regression in batches": function(linear_regression, Y, lr=0.02, batch_size=7),
    "linear_regression from sums": function(linear_regression, X @ torch.ones(3, dtype=torch.float64), lr=0.3),
    "logistic_regression": function(logistic_regression, (Y > 0).long(), lr=0.5, test=(X[:9], (Y[:9] > 0).long())),
    "exact": estimator(LinearRegression(), Y),
    **{
        f"{name} {kind}": estimator(model, y)
        for name, model, y in [
            *((f"proximal l1 by {rule}", LinearRegression(solver=rule, l1=0.2, tol=0), Y) for rule in GRADIENT),
            *((f"{rule} by 9", LogisticRegression(solver=rule, batch_size=9, tol=0), CLASSES) for rule in GRADIENT),
            ("L-BFGS", LogisticRegression(tol=0, C=10.0), CLASSES),
            ("L-BFGS without a penalty", LogisticRegression(tol=0, C=float("inf")), (Y > 0).long()),
            ("L-BFGS on lines", LinearRegression(solver="lbfgs", tol=0), Y),
            ("early stopping", LogisticRegression(early_stopping=True, tol=0, n_iter_no_change=3), CLASSES),
            ("early batches", LogisticRegression(
                early_stopping=True, tol=0, n_iter_no_change=2, solver="momentum", batch_size=9), CLASSES),
        ]
        for kind, model in [
            ("", model.set_params(random_state=0)),
            ("standardised", type(model)(**{**model.get_params(), "standardize": True, "random_state": 0})),
        ]
    },
}  # fmt: skip


def same_step(a, b):
    """Whether two steps are equal bit for bit, but for the time they took."""
    maps = ((getattr(a, name), getattr(b, name)) for name in ("params", "grads", "next_params"))
    equal = all(x.keys() == y.keys() and all(torch.equal(x[n], y[n]) for n in x) for x, y in maps)
    names = ("index", "loss", "stop", "events", "epoch", "lr", "lr_limit", "gradient", "margin", "metrics")
    return equal and all(repr(getattr(a, name)) == repr(getattr(b, name)) for name in names)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_goes_on_bit_for_bit_from_any_step(name, tmp_path):
    run = RUNS[name]
    whole = list(run(STEPS))
    assert len(whole) == 1 or len(whole) > 5
    for i, step in enumerate(whole[:-1]):
        path = Recording(whole[: i + 1], {}, Stop.INTERRUPTED).save(tmp_path / "cut.npz")
        for known in (step, Recording.load(path).last):
            left = len(whole) - i - 1
            rest = list(islice(run(STEPS - i - 1, resume=known), left))
            assert len(rest) == left
            assert all(same_step(a, b) for a, b in zip(rest, whole[i + 1 :]))
