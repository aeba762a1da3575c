"""Everything watches every step: what is kept, drawn, played, told and shown of the steps of every algorithm."""

import io
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import stepfit
from stepfit import (
    KMeans,
    LinearRegression,
    LogisticRegression,
    MiniBatchKMeans,
    Recording,
    animate,
    choose_k,
    descend,
    explain,
    figure,
    linear_regression,
    lloyd,
    logistic_regression,
    progress,
    record,
    show,
    trace,
)
from stepfit.clustering.mini_batch import mini_batches
from stepfit.steps import Step

DRAW = torch.Generator().manual_seed(0)
X = torch.randn(60, 2, generator=DRAW, dtype=torch.float64)
TARGETS = X @ torch.tensor([1.0, -2.0], dtype=torch.float64) + 0.1 * torch.randn(60, generator=DRAW).double()
TWO = (TARGETS > 0).long()
THREE = TWO + (TARGETS > 1).long()


def trained(make, y=TWO[:, None], build=lambda: nn.Linear(2, 1), loss=nn.BCEWithLogitsLoss, **options):
    torch.manual_seed(0)
    model = build().double()
    return descend(model, loss(), make(model.parameters()), X, y, max_steps=6, seed=0, **options)


def deep():
    return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))


def few(model, y):
    return model.set_params(max_iter=5, tol=0, random_state=0).steps(X, y)


RULES = ("sgd", "momentum", "nesterov", "adam")
# Each with the y that its pictures need.
RUNS = {
    "lloyd": (lambda: lloyd(X, 3, seed=0), None),
    "an empty cluster": (lambda: lloyd(X, 3, start=X[[0, 0, 1]], empty="nan", max_steps=4), None),
    "KMeans": (lambda: few(KMeans(3), None), None),
    "mini-batches": (lambda: mini_batches(X, 3, batch_size=10, seed=0, max_epochs=2), None),
    "MiniBatchKMeans": (lambda: few(MiniBatchKMeans(3, batch_size=20), None), None),
    "choose_k": (lambda: choose_k(X, [1, 2, 3], seed=0), None),
    "linear_regression on targets": (lambda: linear_regression(X, TARGETS, seed=0, max_steps=5), TARGETS),
    "linear_regression on classes": (lambda: linear_regression(X, TWO, seed=0, max_steps=5, test=(X, TWO)), TWO),
    "logistic_regression": (lambda: logistic_regression(X, TWO, seed=0, max_steps=5, momentum=0.5), TWO),
    "logistic_regression in batches": (lambda: logistic_regression(X, TWO, seed=0, batch_size=20), TWO),
    "a run that diverges": (lambda: linear_regression(X, TARGETS, seed=0, lr=1e4), TARGETS),
    "exact": (lambda: few(LinearRegression(), TARGETS), TARGETS),
    "ridge by L-BFGS": (lambda: few(LinearRegression(solver="lbfgs", l2=0.1), TARGETS), TARGETS),
    "two targets": (lambda: few(LinearRegression(solver="sgd"), torch.stack([TARGETS, -TARGETS], 1)), TARGETS),
    "L-BFGS": (lambda: few(LogisticRegression(), TWO), TWO),
    "softmax": (lambda: few(LogisticRegression(), THREE), THREE),
    **{f"lasso by {rule}": (lambda rule=rule: few(LinearRegression(solver=rule, l1=0.1), TWO), TWO) for rule in RULES},
    **{
        f"softmax by {rule} in batches": (
            lambda rule=rule: few(LogisticRegression(solver=rule, batch_size=20), THREE),
            THREE,
        )
        for rule in RULES
    },
    "early stopping": (lambda: few(LogisticRegression(early_stopping=True), TWO), TWO),
    "SGD": (lambda: trained(lambda p: torch.optim.SGD(p, lr=0.1), TWO[:, None].double()), TWO),
    "AdamW": (lambda: trained(lambda p: torch.optim.AdamW(p, lr=0.1), TWO[:, None].double()), TWO),
    "torch's L-BFGS": (lambda: trained(lambda p: torch.optim.LBFGS(p, lr=0.1), TWO[:, None].double()), TWO),
    "a net": (lambda: trained(lambda p: torch.optim.Adam(p), TWO[:, None].double(), deep, batch_size=20), TWO),
    "three classes": (
        lambda: trained(lambda p: torch.optim.SGD(p, lr=0.1), THREE, lambda: nn.Linear(2, 3), nn.CrossEntropyLoss),
        THREE,
    ),
    "another loss": (
        lambda: trained(lambda p: torch.optim.SGD(p, lr=0.1), TWO[:, None].double(), loss=nn.HuberLoss),
        TWO,
    ),
    "no bias": (
        lambda: trained(torch.optim.Adam, TWO[:, None].double(), lambda: nn.Linear(2, 1, bias=False)),
        TWO,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_everything_watches_it(name, tmp_path, capsys):
    make, y = RUNS[name]
    steps = progress(make())
    run = record(steps)
    shown = capsys.readouterr().err
    assert f"step {run.last.index}  loss {run.last.loss:,.6g}" in shown
    assert run.stop.name.lower().replace("_", " ") in shown

    again = Recording.load(run.save(tmp_path / "run.npz"))
    assert [repr(step.loss) for step in again] == [repr(step.loss) for step in run]
    assert (again.stop, len(again), again.settings) == (run.stop, len(run), run.settings)

    words = explain(run, X)
    said = f"The run ended at step {run.last.index}: {run.stop.value}."
    assert ("Elbow: at k" if run.last.kind == "choice" else said) in str(words)
    assert json.dumps(words.rows)

    for kept in (run, again):
        assert figure(kept, X, y).get_size_inches()[0] == 12
        played = trace(kept, X, y)
        assert played["losses"][0] == pytest.approx(run[0].loss)
        assert json.dumps(played, allow_nan=False)
    if run.last.kind != "choice":
        picture = io.BytesIO()
        figure(run[0], X, y).savefig(picture)
        assert picture.getvalue().startswith(b"\x89PNG")
    assert show(run, X, y).trace["id"] == played["id"]


@pytest.mark.parametrize("name", ["mini-batches", "choose_k", "softmax", "a net"])
def test_it_moves(name, tmp_path):
    make, y = RUNS[name]
    assert animate(record(make()), X, tmp_path / "run.gif", y).read_bytes().startswith(b"GIF89a")


def test_every_kind_of_step_is_watched_here():
    def below(kind):
        return {kind}.union(*map(below, kind.__subclasses__()))

    ours = {kind for kind in below(Step) if kind.__module__.startswith("stepfit.")} - {Step}
    assert ours == {type(next(make())) for make, _ in RUNS.values()}


def test_nobody_asks_what_kind_of_step_it_is():
    """A viewer reads the fields of a step, and one table by its kind: there is no isinstance over kinds of steps."""
    source = Path(stepfit.__file__).parent
    files = [*(source / "viewers").glob("*.py"), source / "recording.py", source / "explain.py"]
    asked = [line for file in files for line in file.read_text().splitlines() if "isinstance(" in line]
    assert asked
    assert not [line for line in asked if re.search(r"\w+Step\b", line.partition("#")[0])]
