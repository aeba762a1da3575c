"""descend() and the two regressions: by hand, against a loop written out and closed forms, and with bad input."""

import math
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from stepfit import Stop, descend, linear_regression, logistic_regression, record
from stepfit.datasets import two_moons

X = torch.tensor([[0.0], [1.0], [2.0]])


def same(a, b) -> bool:
    return all(a[name].equal(b[name]) for name in a) and a.keys() == b.keys()


# By hand


def test_one_step_on_two_points():
    # weight 1, bias 0: predictions 1, 2; errors 1, -1; loss 1; gradients (2/2)(1*1 - 1*2) = -1 and 0.
    step = next(linear_regression([[1.0], [2.0]], [0.0, 3.0], lr=0.5, start=([[1.0]], [0.0])))
    assert (step.index, step.loss, step.epoch, step.lr) == (0, 1.0, 0, 0.5)
    assert step.params["weight"].tolist() == [[1.0]]
    assert step.grads["weight"].tolist() == [[-1.0]]
    assert step.grads["bias"].tolist() == [0.0]
    assert step.next_params["weight"].tolist() == [[1.5]]


def test_one_logistic_step():
    # Logit 0 everywhere: loss log 2, gradient of the logit (1/2 - y)/n.
    step = next(logistic_regression([[1.0], [3.0]], [0, 1], start=([[0.0]], [0.0])))
    assert step.loss == pytest.approx(math.log(2))
    assert step.grads["weight"].item() == pytest.approx((0.5 * 1 - 0.5 * 3) / 2)
    assert step.metrics == {"train_accuracy": 0.5}


def test_the_limit_of_lr_is_where_the_run_turns():
    data = two_moons()
    limit = next(linear_regression(data.x_train, data.y_train, lr=0.1)).lr_limit
    under = record(linear_regression(data.x_train, data.y_train, lr=0.98 * limit, max_steps=300, seed=0))
    over = record(linear_regression(data.x_train, data.y_train, lr=1.5 * limit, max_steps=300, seed=0))
    assert under.stop is Stop.MAX_STEPS
    assert under.last.loss < under[0].loss
    assert over.stop is Stop.DIVERGED
    assert over[-2].loss <= 1000 * over[0].loss < over.last.loss < 1e6 * over[0].loss  # at once, and not at infinity
    assert "above the limit 2/lambda_max" in over.last.events[0]
    assert "try lr=" in over.last.events[0]


@pytest.mark.parametrize(
    "options",
    [{"momentum": 0.5}, {"batch_size": 2}],
)
def test_the_limit_is_only_given_for_plain_full_batch_descent(options):
    assert next(linear_regression(X, X[:, 0], **options)).lr_limit is None
    assert next(logistic_regression([[0.0], [1.0]], [0, 1])).lr_limit is None


def test_a_run_that_has_nothing_left_to_do_has_converged():
    run = record(linear_regression(X, 2 * X + 1, start=([[2.0]], [1.0])))
    assert (len(run), run.stop) == (1, Stop.CONVERGED)


# Against a loop written out


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_equal_to_the_training_loop_written_out(name):
    data = two_moons()
    x, y = data.x_train.float(), data.y_train.float()
    x_test, y_test = data.x_test.float(), data.y_test.float()
    make = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.5),
        "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        "adam": lambda p: torch.optim.Adam(p, lr=0.1),
    }[name]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1))
    twin = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1))
    twin.load_state_dict(model.state_dict())
    loss_fn = nn.BCEWithLogitsLoss()
    steps = list(descend(model, loss_fn, make(model.parameters()), x, y, max_steps=20, test=(x_test, y_test)))
    optimizer = make(twin.parameters())
    for step in steps:
        params = {n: p.detach().clone() for n, p in twin.named_parameters()}
        with torch.no_grad():
            logits = twin(x_test)
            accuracy = ((logits > 0) == (y_test > 0.5)).float().mean().item()
        loss = loss_fn(twin(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert same(step.params, params)
        assert same(step.next_params, {n: p.detach() for n, p in twin.named_parameters()})
        assert step.loss == loss.item()
        assert step.metrics["test_accuracy"] == pytest.approx(accuracy, abs=1e-6)
        assert step.metrics["test_loss"] == pytest.approx(loss_fn(logits, y_test).item())
    assert same(steps[-1].next_params, {n: p.detach() for n, p in model.named_parameters()})


def test_lbfgs_takes_a_closure_and_the_step_is_about_its_start():
    model = nn.Linear(1, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=1, max_iter=5)
    steps = list(descend(model, nn.MSELoss(), optimizer, X, 2 * X + 1, max_steps=5))
    assert steps[0].loss == pytest.approx(
        nn.MSELoss()(X @ steps[0].params["weight"].T + steps[0].params["bias"], 2 * X + 1).item()
    )
    assert steps[-1].loss < 1e-8


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(5, 40))
@settings(max_examples=8)
def test_linear_regression_goes_to_the_least_squares_solution(seed, d, n):
    rng = np.random.RandomState(seed)
    x = rng.randn(n + d, d)
    y = x @ rng.randn(d) + rng.randn(n + d)
    lr = next(linear_regression(x, y)).lr_limit / 2
    last = list(linear_regression(x, y, lr=lr, max_steps=1500, seed=seed))[-1]
    full = np.c_[x, np.ones(len(x))]
    want = np.linalg.lstsq(full, y, rcond=None)[0]
    condition = np.linalg.cond(full)
    if condition < 5:
        got = np.r_[last.next_params["weight"].numpy()[0], last.next_params["bias"].numpy()]
        assert got == pytest.approx(want, abs=1e-6)


@given(st.integers(0, 10**6), st.floats(0.01, 0.9))
@settings(max_examples=25)
def test_under_the_limit_the_loss_never_grows(seed, share):
    rng = np.random.RandomState(seed)
    x, y = rng.randn(30, 3) * 10 ** rng.uniform(-2, 2), rng.randn(30)
    limit = next(linear_regression(x, y)).lr_limit
    losses = [s.loss for s in linear_regression(x, y, lr=share * limit, max_steps=50, seed=seed)]
    assert all(b <= a * (1 + 1e-9) for a, b in pairwise(losses))


def test_batches_visit_every_row_once_an_epoch_and_a_run_can_be_resumed():
    x = torch.arange(10.0, dtype=torch.float64)[:, None]
    seen = []

    def watch(prediction, target):
        seen.append(target[:, 0].tolist())
        return 0.0

    options = {"lr": 1e-4, "batch_size": 4, "seed": 5, "metrics": {"rows": watch}, "start": ([[0.0]], [0.0])}
    steps = list(linear_regression(x, x[:, 0], max_steps=6, **options))
    assert [s.epoch for s in steps] == [0, 0, 0, 1, 1, 1]
    first, second = list(chain(*seen[:3])), list(chain(*seen[3:]))
    assert sorted(first) == sorted(second) == x[:, 0].tolist()
    assert first != second
    rest = list(linear_regression_resumed(x, steps[2], options))
    assert [s.index for s in rest] == [3, 4, 5]
    for a, b in zip(rest, steps[3:]):  # the arithmetic of an nn.Linear goes on where that of linear_regression ended
        assert all(a.next_params[name].allclose(b.next_params[name], rtol=1e-12) for name in b.next_params)


def linear_regression_resumed(x, step, options):
    model = nn.Linear(1, 1, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=options["lr"])
    return descend(
        model, nn.MSELoss(), optimizer, x, x, max_steps=3, batch_size=4, seed=5, metrics=options["metrics"], resume=step
    )


# From sums

BY_ROWS = {"metrics": {"nothing": lambda prediction, target: 0.0}}  # a metric looks at predictions


@st.composite
def linear_problems(draw):
    """Float64 rows of a known condition number, in any scale, with and without an offset and noise."""
    rng = np.random.RandomState(draw(st.integers(0, 2**32 - 1)))
    d = draw(st.integers(1, 6))
    steps = draw(st.integers(1, 80))
    n = d + draw(st.integers(1, 200))
    left, right = np.linalg.qr(rng.randn(n, d))[0], np.linalg.qr(rng.randn(d, d))[0]
    spread = np.geomspace(1, 10 ** -draw(st.floats(0, 5.9)), d)
    scale = 10 ** draw(st.floats(-3, 3))
    x = scale * (draw(st.sampled_from([0, 1, 100])) + math.sqrt(n) * (left * spread) @ right)
    y = x @ rng.randn(d) / scale + draw(st.sampled_from([0, 1e-3, 1])) * rng.randn(n) + rng.randn()
    return x, y, {"max_steps": steps, "seed": draw(st.integers(0, 100))}


def vector(params):
    return torch.cat([params["weight"][0], params["bias"]])


@given(linear_problems(), st.floats(0.01, 0.95) | st.floats(1.1, 2.5))
@settings(max_examples=60)
def test_steps_from_sums_are_those_of_the_plain_loop(problem, share):
    x, y, options = problem
    lr = share * next(linear_regression(x, y)).lr_limit
    ours = list(linear_regression(x, y, lr=lr, **options))
    plain = list(linear_regression(x, y, lr=lr, **options, **BY_ROWS))
    ends = ours[-1].stop, plain[-1].stop
    if Stop.CONVERGED not in ends:  # rounding says whether a small gradient ends as 0
        assert ends[0] is ends[1]
        assert [step.events for step in ours] == [step.events for step in plain]
    largest = max(vector(step.grads).norm() for step in plain)
    for a, b in zip(ours, plain):
        for name in ("params", "next_params"):
            one, other = vector(getattr(a, name)), vector(getattr(b, name))
            assert (one - other).norm() <= 1e-9 * other.norm()
        assert (vector(a.grads) - vector(b.grads)).norm() <= 1e-9 * largest
        assert abs(a.loss - b.loss) <= 1e-12 * max((y**2).mean(), b.loss)  # in float64 a large loss has no more digits
        assert a.loss >= 0
        assert (a.index, a.epoch, a.lr, a.lr_limit, a.metrics) == (b.index, b.epoch, b.lr, b.lr_limit, {})
        assert a.params.keys() == b.params.keys() == a.grads.keys()
        assert all(a.grads[name].shape == b.grads[name].shape == a.params[name].shape for name in a.grads)


def test_the_loss_from_sums_keeps_its_digits_near_the_optimum():
    """On exact targets it falls to the rounding of y, far below what subtracting sums of size y'y would leave."""
    x = np.random.RandomState(0).randn(2000, 2)
    lr = next(linear_regression(x, x[:, 0])).lr_limit / 2
    ours, plain = (
        list(linear_regression(x, x @ [1e3, -1e3] + 1e3, lr=lr, max_steps=300, seed=0, **options))
        for options in ({}, BY_ROWS)
    )
    assert ours[-1].loss < 1e-22
    for a, b in zip(ours, plain):
        assert a.loss == pytest.approx(b.loss, rel=1e-9, abs=1e-20)


def test_a_run_from_sums_that_has_nothing_left_to_do_has_converged():
    x = [[float(i)] for i in range(200)]
    run = record(linear_regression(x, [2 * i[0] + 1 for i in x], start=([[2.0]], [1.0])))
    assert (len(run), run.stop, run.last.loss) == (1, Stop.CONVERGED, 0.0)


class Rows(torch.utils._python_dispatch.TorchDispatchMode):
    """Count the operations that read tensors of n rows."""

    def __init__(self, n):
        super().__init__()
        self.n, self.passes = n, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        reads = function is not torch.ops.aten.detach.default
        self.passes += reads and any(isinstance(a, torch.Tensor) and self.n in a.shape for a in args)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("options", "from_sums"),
    [
        ({}, True),
        ({"max_steps": 2}, True),  # so that a run that is cut and resumed has the bits of a whole one
        ({"batch_size": 100}, True),
        ({"batch_size": 99}, False),
        ({"momentum": 0.5}, True),
        ({"test": ([[1.0, 2.0]], [3.0])}, False),
        (BY_ROWS, False),
        ({"dtype": torch.float32}, False),
        ({"targets": "classes"}, False),  # train_accuracy looks at predictions
    ],
)
def test_the_rows_are_passed_over_where_something_needs_them(options, from_sums):
    options = {"max_steps": 10, "seed": 0, "lr": 1e-3} | options
    x = torch.randn(100, 2, dtype=options.pop("dtype", torch.float64), generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).double() if options.pop("targets", None) else x.sum(1)
    steps = linear_regression(x, y, **options)
    next(steps)  # the sums are made where the first loss is asked for
    with Rows(50 if options.get("batch_size") == 99 else 100) as rows:  # two batches of nearly equal size
        assert len(list(steps)) == options["max_steps"] - 1
    assert (rows.passes == 0) == from_sums


# Promises


@pytest.mark.parametrize("regression", ["logistic", "from sums"])
def test_kept_steps_never_change(regression):
    x, y = two_moons().x_train, two_moons().y_train
    kept, copies = [], []
    for step in {
        "logistic": logistic_regression(x, y, max_steps=30, momentum=0.9, seed=1),
        "from sums": linear_regression(x, 5 * y, max_steps=30, seed=1),
    }[regression]:
        kept.append(step)
        copies.append([{n: t.clone() for n, t in d.items()} for d in (step.params, step.grads, step.next_params)])
    for step, copied in zip(kept, copies):
        assert all(same(a, b) for a, b in zip((step.params, step.grads, step.next_params), copied))


def test_the_global_generator_neither_matters_nor_moves():
    data = two_moons()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = list(linear_regression(data.x_train, data.y_train, seed=3, max_steps=5, batch_size=100))
    assert torch.get_rng_state().equal(state)
    torch.manual_seed(2)
    two = list(linear_regression(data.x_train, data.y_train, seed=3, max_steps=5, batch_size=100))
    assert all(same(a.next_params, b.next_params) for a, b in zip(one, two))


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_targets_may_be_a_row_or_a_column(shape):
    step = next(linear_regression(X, np.array([1, 0, 1]).reshape(shape), seed=0))
    assert "train_accuracy" in step.metrics


def test_other_models_and_losses():
    model = nn.Linear(2, 3)
    y = torch.tensor([0, 1, 2, 1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step = next(descend(model, nn.CrossEntropyLoss(), optimizer, torch.randn(4, 2), y))
    assert 0 <= step.metrics["train_accuracy"] <= 1
    plain = nn.Linear(1, 1)
    step = next(descend(plain, nn.L1Loss(), torch.optim.SGD(plain.parameters(), lr=0.1), X, X))
    assert step.metrics == {}


# Bad input


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        ([1.0, 2.0], [0, 1], {}, r"x has shape \(2,\); it must be \(n, d\)"),
        ([[1.0], [2.0]], [0, 1, 1], {}, r"x has shape \(2, 1\) and y \(3, 1\); both need the same number of rows"),
        ([[1.0], [math.nan]], [0, 1], {}, r"x has nan at \(1, 0\)"),
        ([[1.0], [2.0]], [0, 2], {}, "y holds 2.*wants the classes 0 and 1"),
        ([[1.0], [2.0]], [[0, 1], [1, 0]], {}, r"y has shape \(2, 2\); it must be \(n,\) or \(n, 1\)"),
        ([[1.0], [2.0]], [0, 1], {"lr": 0.0}, "lr is 0.0; it must be a positive number"),
        ([[1.0], [2.0]], [0, 1], {"momentum": 1.0}, "momentum is 1.0"),
        ([[1.0], [2.0]], [0, 1], {"max_steps": 0}, "max_steps is 0"),
        ([[1.0], [2.0]], [0, 1], {"batch_size": 3}, "batch_size is 3; there are 2 rows to learn from"),
        ([[1.0], [2.0]], [0, 1], {"start": ([[1.0, 2.0]], [0.0])}, r"start has weight \(1, 2\)"),
        ([[1.0], [2.0]], [0, 1], {"test": [[1.0]]}, "test must be the pair"),
        ([[1.0], [2.0]], [0, 1], {"test": ([[1.0, 2.0]], [0])}, "x_test has 2 features and x has 1"),
        ([["a"]], [0], {}, "x is an array of <U1"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_a_sentence(x, y, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        logistic_regression(x, y, **options)


def test_targets_of_another_shape_are_refused_and_nothing_moves():
    model = nn.Linear(1, 1)
    before = {n: p.clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"gives predictions \(3, 1\), but y has shape \(3,\).*reshape\(-1, 1\)"):
        descend(model, nn.MSELoss(), optimizer, X, X[:, 0])
    assert same({n: p.detach() for n, p in model.named_parameters()}, {n: p.detach() for n, p in before.items()})


def test_an_optimizer_of_another_model_is_refused():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    with pytest.raises(ValueError, match="the optimizer holds no parameter of this model"):
        descend(nn.Linear(1, 1), nn.MSELoss(), optimizer, X, X)
