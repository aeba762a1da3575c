"""explain(): what it says is what happened, of every kind of run, and nothing is said that did not."""

import sys
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn

from stepfit import (
    LinearRegression,
    LogisticRegression,
    Stop,
    assign,
    choose_k,
    descend,
    explain,
    linear_regression,
    lloyd,
    logistic_regression,
    record,
)  # fmt: skip
from stepfit.clustering.choose import table, verdict
from stepfit.datasets import blobs, two_moons
from stepfit.steps import Step
from tests.strategies import problems

X, _ = blobs(200, 2, 3, seed=0)
MOONS = two_moons()


def row(explanation, what):
    (found,) = [row for row in explanation.rows if row["what"] == what]
    return found


def kinds(explanation):
    return {row["what"] for row in explanation.rows}


# Any run


def test_a_run_worked_out_by_hand():
    """Inertia 26 + 0, then 1/2 + 2, and nothing moves."""
    run = record(lloyd([[0.0], [1.0], [5.0], [7.0]], 2, start=[[0.0], [6.0]]))
    told = explain(run)
    assert told.sentences == (
        "The run ended at step 1: nothing changes any more: the run is complete.",
        "In 2 steps the inertia fell from 3 to 2.5, by 16.7%.",
    )
    assert str(told) == "\n".join(told.sentences)
    assert told.rows == [
        {"step": 1, "what": "stop", "reason": "CONVERGED", "kept": 2, "changed": 0},
        {"step": 1, "what": "loss", "first": 3.0, "last": 2.5, "rises": []},
    ]


def test_what_to_do_about_the_end_is_said():
    told = explain(record(lloyd(X, 9, seed=0, max_steps=2)))
    assert "raise max_steps to go on. In that step" in told.sentences[0]
    assert row(told, "stop")["changed"] > 0
    assert "the run went on after it, or was cut" in explain(list(lloyd(X, 9, seed=0))[:1]).sentences[0]
    assert explain(record(lloyd(X, 9, seed=0))[:1]).sentences[1].startswith("One step was kept; its inertia is")


def test_a_loss_that_rises_is_told():
    run = [Step(index=i, loss=loss, seconds=0.0) for i, loss in enumerate([3.0, 1.0, 2.0, 1.5, 4.0])]
    told = explain(run)
    assert (
        told.sentences[1] == "In 5 steps the loss went from 3 to 4; it did not fall. It rose 2 times, first at step 2."
    )
    assert row(told, "loss")["rises"] == [2, 4]


def test_a_kind_of_step_that_is_not_known_tells_its_events():
    run = [Step(index=0, loss=2.0, seconds=0.0, events=("a lamp went out",)), Step(index=1, loss=1.0, seconds=0.0)]
    assert explain(run).sentences[-1] == "Step 0: a lamp went out."


def test_it_is_frozen_and_reads_as_markdown():
    told = explain(record(lloyd(X, 3, seed=0)))
    with pytest.raises(FrozenInstanceError):
        told.sentences = ()
    assert told._repr_markdown_() == "\n".join(f"- {sentence}" for sentence in told.sentences)


# k-means


def test_an_empty_cluster_and_where_its_center_went():
    told = explain(record(lloyd([[0.0], [1.0], [5.0], [7.0]], 3, start=[[0.0], [0.0], [6.0]])))
    assert "Cluster 1 was empty: its center moved to point 1 (at step 0)." in told.sentences
    assert row(told, "empty cluster") == {
        "step": 0, "what": "empty cluster", "cluster": 1, "happened": "its center moved to point 1", "point": 1,
    }  # fmt: skip
    assert "empty at the end" not in kinds(told)


def test_a_cluster_that_stays_empty():
    told = explain(record(lloyd([[0.0], [1.0], [5.0]], 2, start=[[0.0], [90.0]], empty="keep")))
    assert "Cluster 1 was empty: its center stays (at steps 0 to 1)." in told.sentences
    assert "At the end cluster 1 had no points." in told.sentences
    assert row(told, "empty at the end")["clusters"] == [1]


def test_many_empty_clusters_are_all_in_the_rows_and_ten_in_words():
    told = explain(record(lloyd(X, 30, start=[[0.0, 0.0]] + [[900.0, 0.0]] * 29, empty="keep", max_steps=1)))
    assert sum(row["what"] == "empty cluster" for row in told.rows) == 29
    assert sum(sentence.startswith("Cluster") for sentence in told.sentences) == 10
    assert "19 more clusters were empty at some step." in told.sentences
    assert "At the end clusters 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 19 more had no points." in told.sentences


def test_centers_that_coincide_and_centers_that_are_nan():
    told = explain(record(lloyd([[0.0], [1.0]], 2, start=[[3.0], [3.0]], empty="keep", max_steps=1)))
    assert row(told, "duplicate centers")["clusters"] == [0, 1]
    lost = explain(record(lloyd([[0.0], [1.0]], 2, start=[[0.0], [90.0]], empty="nan", max_steps=2)), [[0.0], [1.0]])
    assert row(lost, "NaN center")["clusters"] == [1]
    assert any('run again with empty="farthest"' in sentence for sentence in lost.sentences)


@given(problems())
def test_every_empty_cluster_of_every_step_is_in_the_rows(problem):
    run = record(lloyd(problem.x, problem.k, start=problem.start, max_steps=5))
    told = explain(run, problem.x)
    said = {(row["step"], row["cluster"]) for row in told.rows if row["what"] == "empty cluster"}
    assert said == {(step.index, j) for step in run for j in (step.counts == 0).nonzero()[:, 0].tolist()}
    distinct = len(np.unique(problem.x, axis=0))
    few = [row["distinct"] for row in told.rows if row["what"] == "too few distinct points"]
    assert few == ([distinct] if distinct < problem.k else [])


def test_too_few_distinct_points_in_any_number_of_blocks(monkeypatch):
    x = torch.tensor([[1.0], [2.0]]).repeat(50, 1)
    run = record(lloyd(x, 4, seed=0))
    whole = explain(run, x)
    assert row(whole, "too few distinct points") == {
        "step": run.last.index, "what": "too few distinct points", "distinct": 2, "k": 4,
    }  # fmt: skip
    assert any("only 2 distinct points, fewer than k = 4" in sentence for sentence in whole.sentences)
    monkeypatch.setattr("stepfit.kernels.points._BLOCK_BYTES", 24)
    assert explain(run, x) == whole


def test_near_ties_by_hand():
    """The centers end at 0 and 100: 50 is tied, 49.8 nearly (49.8 / 50.2 is over 0.99), 49 is not."""
    x = torch.tensor([[49.0], [50.0], [49.8], [0.0], [100.0]], dtype=torch.float64)
    (step,) = lloyd(x, 2, start=[[0.0], [100.0]], max_steps=1)
    told = explain([step], x)
    assert row(told, "near ties") == {"step": 0, "what": "near ties", "points": [1, 2], "exact": 1}
    assert told.sentences[-1] == (
        "2 points of 5 lay nearly as near to a second center (within 1% of its distance), the nearest first: 1, 2. "
        "Of these 1 exactly, and have the lower label."
    )
    doubled = explain([replace(step, centers=torch.tensor([[0.0], [100.0], [100.0]], dtype=torch.float64))], x)
    assert row(doubled, "near ties")["points"] == [1, 2]  # and not all, which the same center twice would make ties


@given(problems())
def test_near_ties_are_those_of_plain_arithmetic(problem):
    run = record(lloyd(problem.x, problem.k, start=problem.start, max_steps=5))
    centers = np.unique(run.last.centers.double().numpy(), axis=0)
    if len(centers) < 2:
        return
    apart = np.sqrt(((problem.x.astype(float)[:, None] - centers) ** 2).sum(-1))
    apart.sort(axis=1)
    share = apart[:, 0] / apart[:, 1]
    rows = [row["points"] for row in explain(run, problem.x).rows if row["what"] == "near ties"]
    tied = set(rows[0] if rows else [])
    assert set(np.flatnonzero(share >= 0.99 + 1e-9)) <= tied <= set(np.flatnonzero(share >= 0.99 - 1e-9))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float16, torch.float32, torch.int64])
def test_points_of_any_type_are_read_in_blocks(monkeypatch, dtype):
    x = (X * 10).round().clamp(0, 200).to(dtype)
    run = record(lloyd(x, 4, seed=0))
    monkeypatch.setattr(sys.modules["stepfit.explain"], "NEAR", 0.3)
    whole = explain(run, x)
    assert whole.rows == explain(run, x.double()).rows
    assert row(whole, "near ties")["points"]
    monkeypatch.setattr("stepfit.kernels.points._BLOCK_BYTES", 100)
    monkeypatch.setattr(sys.modules["stepfit.explain"], "_BLOCK_VALUES", 100)
    assert explain(run, x) == whole


def test_a_feature_out_of_scale_is_named():
    x = torch.stack([X[:, 0], 1000 * X[:, 1], X[:, 0] + X[:, 1]], 1)
    told = explain(record(lloyd(x, 3, seed=0)), x)
    found = row(told, "out of scale")
    assert found["feature"] == 1
    assert found["share"] == pytest.approx(float(x.var(0)[1] / x.var(0).sum()))
    assert found["deviation"] == pytest.approx(float(x[:, 1].std(correction=0)))
    assert any("Feature 1 is out of scale" in s and "decides which center is nearest" in s for s in told.sentences)


@pytest.mark.parametrize("factors", [(1, 1), (9, 1), (1, 0), (1e6, 0)])
def test_a_feature_that_only_varies_more_is_not_out_of_scale(factors):
    x = torch.stack([X[:, 0] / X[:, 0].std() * factors[0], X[:, 1] / X[:, 1].std() * factors[1]], 1)
    assert "out of scale" not in kinds(explain(record(lloyd(x, 2, seed=0)), x))


def test_explaining_changes_nothing():
    run, before = record(lloyd(X, 3, seed=0)), X.clone()
    labels = [step.labels.clone() for step in run]
    state = torch.get_rng_state()
    assert explain(run, X) == explain(run, X)
    assert X.equal(before)
    assert torch.get_rng_state().equal(state)
    assert all(step.labels.equal(kept) for step, kept in zip(run, labels))
    assert assign(X, run.last.centers).equal(run.last.labels)


# Gradient descent


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (2, "above it each step overshoots by more than the last"),
        (0.9, "in the steepest direction each step overshoots, by less than the last"),
        (0.2, "no step overshoots."),
        (0.001, "no step overshoots, and a larger one would be faster"),
    ],
)
def test_the_learning_rate_against_its_limit(times, words):
    """x'x / n is 1 for each of bias and weight: the limit is 2 / 2."""
    x, y = [[1.0], [-1.0]], [2.0, 0.0]
    told = explain(record(linear_regression(x, y, lr=times, start=([[0.0]], [0.0]), max_steps=4)), x)
    found = row(told, "learning rate")
    assert (found["lr"], found["limit"], found["times"]) == (times, pytest.approx(1.0), pytest.approx(times))
    assert any(words in sentence for sentence in told.sentences)
    assert bool(row(told, "loss")["rises"]) == (times > 1)


def test_a_run_that_diverged():
    run = record(linear_regression(MOONS.x_train, MOONS.y_train, lr=50.0, seed=0))
    told = explain(run)
    assert row(told, "stop")["reason"] == "DIVERGED"
    assert any(sentence.startswith(f"Step {run.last.index}: the loss went from") for sentence in told.sentences)
    endless = explain([replace(run.last, index=i, loss=loss, events=()) for i, loss in enumerate([1.0, float("nan")])])
    assert row(endless, "loss")["rises"] == [1]


def test_a_limit_that_is_not_known_is_said_to_be():
    told = explain(record(logistic_regression(MOONS.x_train, MOONS.y_train, seed=0, max_steps=3)), MOONS.x_train)
    assert "lr was 1; its limit is not known for this model, loss or optimizer." in told.sentences
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = record(descend(model, nn.MSELoss(), optimizer, X, X[:, :1] * 1000, batch_size=20, max_steps=30, seed=0))
    assert row(explain(run), "learning rate")["limit"] is None


def test_a_feature_out_of_scale_under_gradient_descent():
    x = MOONS.x_train * torch.tensor([1.0, 1e3])
    told = explain(record(linear_regression(x, MOONS.y_train, lr=1e-7, seed=0)), x)
    assert row(told, "out of scale")["feature"] == 1
    assert "it alone sets the limit of lr" in told.sentences[-1]


@pytest.mark.parametrize("penalty", [False, True])
def test_separable_classes_are_named_where_there_is_no_penalty(penalty):
    x, y = torch.tensor([[0.0], [1.0], [5.0], [6.0]]), torch.tensor([0, 0, 1, 1])
    run = record(LogisticRegression(C=1.0 if penalty else np.inf).steps(x, y))
    told = explain(run, x)
    assert row(told, "gradient")["gradient"] == run.last.gradient
    assert ("separable" in kinds(told)) != penalty
    if not penalty:
        first = row(told, "separable")["step"]
        assert run[first].margin > 0 >= run[first - 1].margin
        assert "set a penalty" in told.sentences[-1]


def test_the_learning_rate_of_a_linear_model_against_its_limit():
    x, y = MOONS.x_train, MOONS.y_train.ravel()
    told = explain(record(LinearRegression(solver="sgd", max_iter=3).steps(x, y)))
    assert row(told, "learning rate")["times"] == 0.5
    told = explain(record(LogisticRegression(solver="adam", max_iter=3).steps(x, y)))
    assert row(told, "learning rate")["limit"] is None


# Choosing k


def test_a_run_of_choose_k_gives_its_table_and_its_verdict():
    run = record(choose_k(X, range(2, 6), seed=0))
    told = explain(run)
    assert told.table == table(run)
    assert told.sentences == verdict(run).sentences
    assert str(told).startswith(told.table)
    assert told._repr_markdown_().startswith("```text\n")
    assert [row["k"] for row in told.rows] == [2, 3, 4, 5]
    assert sum("silhouette" in row["chosen by"] for row in told.rows) == 1


# Bad input


def test_what_holds_no_steps_is_refused():
    with pytest.raises(TypeError, match=r"run is a Steps; keep the steps first: run = stepfit.record\(steps\)"):
        explain(lloyd(X, 3, seed=0))
    with pytest.raises(TypeError, match="run is a list; keep the steps"):
        explain([1, 2])
    with pytest.raises(ValueError, match="run is empty"):
        explain([])


@pytest.mark.parametrize("steps", [lloyd(X, 3, seed=0), linear_regression(X, X[:, 0], seed=0, max_steps=2)])
def test_points_of_another_run_are_refused(steps):
    run = record(steps)
    for x in (X[:5], X[:, :1]):
        with pytest.raises(ValueError, match=r"x has shape .* but the run was made from \(200, 2\); give that x"):
            explain(run, x)
    with pytest.raises(ValueError, match="it must be"):
        explain(run, X[0])


def test_a_stop_says_its_own_words():
    run = record(lloyd(X, 3, seed=0))
    for stop in Stop:
        assert stop.value in explain([replace(run.last, stop=stop)]).sentences[0]
