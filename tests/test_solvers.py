"""The solvers of linear problems: torch.optim's updates, scikit-learn's optima, and a rate that never diverges."""

import copy
import math

import pytest
import sklearn.linear_model as peer
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stepfit import Stop
from stepfit.descent.engine import DescentStep, run_descent
from stepfit.descent.linear import LinearProblem
from stepfit.descent.solvers import GradientDescent


def rows(n=60, d=4, seed=0):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=draw, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.5, 1.0])[:d]
    return x, (x.sum(1, keepdim=True) + torch.randn(n, 1, generator=draw, dtype=torch.float64))


def gradient_descent(problem, method, *, lr="auto", momentum=0.9, batch_size=None, seed=0, tol=1e-4, max_epochs=100):
    solver = GradientDescent(problem, method, lr, momentum, batch_size)
    max_steps = max_epochs * -(-problem.n // (batch_size or problem.n)) + 1
    return run_descent(problem, solver, problem.point(), max_steps=max_steps, batch_size=batch_size, seed=seed, tol=tol)


def test_two_steps_by_hand():
    """One row x = 1, y = 1, no bias, loss (w - 1)², lr 1/4, momentum 1/2.

    w: 0, then 0 + 1/2, then 1/2 + 1/4 + 1/2 (1/2 - 0) = 1: momentum adds half of the last move.
    """
    one = torch.ones(1, 1, dtype=torch.float64)
    problem = LinearProblem(one, one, "MSELoss", intercept=False)
    steps = list(gradient_descent(problem, "momentum", lr=0.25, momentum=0.5, max_epochs=2))
    assert [step.weight.item() for step in steps] == [0, 0.5, 1]
    assert [step.loss for step in steps] == [1, 0.25, 0]
    assert [step.gradient for step in steps] == [2, 1, 0]


def test_an_l1_step_by_hand():
    """The same row with l1 = 1/2: to 1/2, then 1/4 · 1/2 nearer to 0. And with l1 = 2 the start is the optimum."""
    one = torch.ones(1, 1, dtype=torch.float64)
    steps = list(
        gradient_descent(LinearProblem(one, one, "MSELoss", l1=0.5, intercept=False), "sgd", lr=0.25, max_epochs=1)
    )
    assert steps[1].weight.item() == 0.375
    assert [steps[0].gradient, steps[1].gradient] == [1.5, 0.75]
    assert steps[1].loss == 0.625**2 + 0.5 * 0.375
    only = list(gradient_descent(LinearProblem(one, one, "MSELoss", l1=2.0, intercept=False), "sgd"))
    assert [step.stop for step in only] == [Stop.TOLERANCE]


@pytest.mark.parametrize(
    ("method", "make"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.05)),
        ("momentum", lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
        ("nesterov", lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True)),
        ("adam", lambda p: torch.optim.Adam(p, lr=0.05)),
    ],
)
@pytest.mark.parametrize("classes", [None, 2, 3])
def test_the_updates_are_those_of_torch(method, make, classes):
    x, y = rows()
    if classes:
        y = (y[:, 0] > 0).long() + (y[:, 0] > 2).long() * (classes - 2)
    outputs = 3 if classes == 3 else 1
    loss_name = {None: "MSELoss", 2: "BCEWithLogitsLoss", 3: "CrossEntropyLoss"}[classes]
    target = y[:, None].double() if classes == 2 else y
    layer = torch.nn.Linear(4, outputs, dtype=torch.float64)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimizer = make(layer.parameters())
    steps = gradient_descent(LinearProblem(x, target, loss_name, l2=0.1), method, lr=0.05, tol=0, max_epochs=25)
    for step in steps:
        assert torch.allclose(step.weight, layer.weight, rtol=1e-9, atol=1e-12)
        assert torch.allclose(step.bias, layer.bias, rtol=1e-9, atol=1e-12)
        optimizer.zero_grad()
        logits = layer(x)
        if classes == 2:
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], y.double())
        elif classes:
            loss = torch.nn.functional.cross_entropy(logits, y)
        else:
            loss = torch.nn.functional.mse_loss(logits, y)
        loss = loss + 0.05 * layer.weight.square().sum()
        assert step.loss == pytest.approx(loss.item(), rel=1e-9)
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("method", ["sgd", "momentum", "nesterov", "adam"])
def test_the_l1_optimum_is_that_of_lasso_and_its_zeros_are_exact(method):
    x, y = rows()
    theirs = peer.Lasso(alpha=0.5, tol=1e-12).fit(x.numpy(), y[:, 0].numpy())
    lr = 0.02 if method == "adam" else "auto"
    *_, last = gradient_descent(LinearProblem(x, y, "MSELoss", l1=1.0), method, lr=lr, tol=1e-9, max_epochs=5000)
    assert last.stop is Stop.TOLERANCE
    assert last.weight[0].numpy() == pytest.approx(theirs.coef_, abs=1e-6)
    assert last.bias.item() == pytest.approx(theirs.intercept_, abs=1e-6)
    assert ((last.weight[0] == 0).numpy() == (theirs.coef_ == 0)).all()
    assert (last.weight == 0).any()


def test_the_curvature_is_the_largest_eigenvalue_and_parts_of_the_rows_are_bounded_by_it():
    x, y = rows()
    wide = torch.cat([x, torch.ones(60, 1, dtype=torch.float64)], 1)
    problem = LinearProblem(x, y, "MSELoss", l2=0.3)
    largest = 2 * float(torch.linalg.eigvalsh(wide.T @ wide / 60)[-1])
    assert problem.curvature() == pytest.approx(largest + 0.3, rel=1e-12)
    assert problem._power_iteration() == pytest.approx(largest / 2, rel=1e-2)
    worst = 2 * float(wide.square().sum(1).max())
    assert problem.curvature(1) == pytest.approx(worst + 0.3)
    for part in torch.randperm(60, generator=torch.Generator().manual_seed(0)).split(20):
        assert 2 * float(torch.linalg.eigvalsh(wide[part].T @ wide[part] / 20)[-1]) + 0.3 <= problem.curvature(20)


@pytest.mark.parametrize("method", ["sgd", "momentum", "nesterov"])
def test_under_the_limit_a_run_converges_and_above_it_diverges_in_words(method):
    x, y = rows()
    problem = LinearProblem(x, y, "MSELoss")
    limit = GradientDescent(problem, method, "auto", 0.9).limit
    *_, under = gradient_descent(problem, method, lr=0.97 * limit, tol=1e-6, max_epochs=20_000)
    assert under.stop is Stop.TOLERANCE
    *_, over = gradient_descent(problem, method, lr=1.03 * limit, tol=1e-6, max_epochs=20_000)
    assert over.stop is Stop.DIVERGED
    assert f"is above the limit {'2/lambda_max = ' * (method == 'sgd')}{limit:.4g}" in over.events[0]


def test_batches_see_each_row_once_an_epoch_and_the_same_seed_gives_the_same_run():
    x, y = rows()
    problem = LinearProblem(x, y, "MSELoss")
    one, two = (list(gradient_descent(problem, "sgd", batch_size=8, seed=3, max_epochs=4, tol=0)) for _ in range(2))
    assert [step.epoch for step in one] == [i // 8 for i in range(33)]  # 60 rows in 8 parts of 7 and 8
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(one, two))
    start = problem.point()
    looks = torch.arange(60).tensor_split(8)
    mean = sum(problem.look(start, part).gradient * len(part) for part in looks) / 60
    assert torch.allclose(mean, problem.look(start).gradient)
    assert one[-1].metrics["train_loss"] == pytest.approx(
        problem.look(problem.point(one[-1].weight, one[-1].bias)).loss
    )


def test_kept_steps_never_change():
    x, y = rows()
    kept = [(step, copy.deepcopy(step)) for step in gradient_descent(LinearProblem(x, y, "MSELoss"), "nesterov")]
    assert all(torch.equal(a.weight, b.weight) and torch.equal(a.bias, b.bias) for a, b in kept)


def test_the_distance_is_that_of_weight_and_bias():
    def at(weight, bias):
        params = {"weight": torch.tensor([weight]), "bias": torch.tensor([bias])}
        return DescentStep(index=0, loss=0, seconds=0, epoch=0, params=params, grads=params, next_params=params)

    assert at([1.0, 2.0], 3.0).distance(at([1.0, 4.0], 0.0)) == pytest.approx(math.sqrt(13))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": 0.0}, "lr is 0.0; it must be a positive number"),
        ({"lr": math.nan}, "lr is nan"),
        ({"momentum": 1.0}, "momentum is 1.0; it must be from 0 to under 1"),
        ({"batch_size": 61}, "batch_size is 61; there are 60 rows"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_settings_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        gradient_descent(LinearProblem(*rows(), "MSELoss"), "momentum", **options)


@given(
    st.data(),
    st.sampled_from(["sgd", "momentum", "nesterov", "adam"]),
    st.sampled_from([None, 1, 2]),
    st.booleans(),
    st.sampled_from([0.0, 0.1]),
)
def test_the_automatic_rate_never_diverges(data, method, batch, classes, l1):
    n, d = data.draw(st.integers(2, 12)), data.draw(st.integers(1, 4))
    values = st.integers(-3, 3).map(float) | st.sampled_from([1e6, -1e4, 1e-6])
    x = torch.from_numpy(data.draw(arrays("float64", (n, d), elements=values)))
    y = torch.from_numpy(data.draw(arrays("int64", n, elements=st.integers(0, 1))))
    weight = torch.from_numpy(data.draw(arrays("float64", n, elements=st.sampled_from([1.0, 0.1, 5.0]))))
    loss, size = ("BCEWithLogitsLoss", 1) if classes else ("MSELoss", 1e3)
    problem = LinearProblem(x, size * y[:, None].double(), loss, l1=l1, sample_weight=weight)
    for step in gradient_descent(problem, method, batch_size=batch, seed=0, max_epochs=60):
        assert step.stop is not Stop.DIVERGED
        assert step.weight.isfinite().all()
