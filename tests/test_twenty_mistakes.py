"""The twenty known mistakes of learners: each, patched into the solution, is told apart from all others."""

import pytest
from notebook_cells import verdict_after

K_MEANS = "Pytorch1_KMeans"
REGRESSION = "Pytorch2_Linear_Logistic_Regression_For_Classification"
IN_PLACE = (
    "labels, centers = step(x, centers)\n        if labels.equal(before)",
    "old = centers\n        labels, centers[:] = step(x, centers)\n        if centers.equal(old)",
)
# The notebook, the exercise, what of its solution becomes what, and the name of the mistake.
MISTAKES = {
    "1 argmin over the wrong axis": (K_MEANS, "2.3", "dim=1", "dim=0", "argmin-over-wrong-axis"),
    "2 sum over the wrong axis": (K_MEANS, "2.2", "sum(dim=2)", "sum(dim=1)", "distance-over-wrong-axis"),
    "3 no unsqueeze": (K_MEANS, "2.2", "x.unsqueeze(1) - centers.unsqueeze(0)", "x - centers", "no-unsqueeze"),
    "4 no square": (K_MEANS, "2.2", "square().", "", "no-square"),
    "5 argmax for argmin": (K_MEANS, "2.3", "argmin", "argmax", "argmax-for-argmin"),
    "6 an empty cluster gives 0/0": (
        K_MEANS, "2.5", "torch.where(counts.unsqueeze(1) > 0, means, centers)", "means", "empty-cluster-is-nan",
    ),
    "7 the count is no column": (K_MEANS, "2.4", "counts.unsqueeze(1)", "counts", "counts-not-a-column"),
    "8 start with replacement": (
        K_MEANS, "2.1", "torch.randperm(len(x))[:k]", "torch.randint(len(x), (k,))", "start-with-replacement",
    ),
    "9 the old centers are the new ones": (K_MEANS, "2.8", *IN_PLACE, "compared-with-itself"),
    "10 the start is a slice": (K_MEANS, "2.1", "torch.randperm(len(x))[:k]", ":k", "slice-shares-memory"),
    "11 no zero_grad": (REGRESSION, "3.7", "optimizer.zero_grad()", "pass", "no-zero-grad"),
    "12 zero_grad between backward and step": (
        REGRESSION, "3.7", "optimizer.step()", "optimizer.zero_grad(); optimizer.step()", "order-of-the-moves",
    ),
    "13 another model's parameters": (
        REGRESSION, "3.5", "model.parameters()", "example.parameters()", "optimizer-of-another-model",
    ),
    "14 y is no column": (
        REGRESSION, "3.7", "loss_fn(output, y_train)", "loss_fn(output, y_train.flatten())", "targets-broadcast",
    ),
    "15 threshold 0 for classes 0 and 1": (REGRESSION, "3.8", "0.5", "0", "threshold-zero-on-targets"),
    "16 threshold 0.5 on logits": (REGRESSION, "3.10", "= 0", "= 0.5", "threshold-half-on-logits"),
    "17 sigmoid twice": (
        REGRESSION, "3.9", "nn.Linear(2, 1)", "nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())", "sigmoid-twice",
    ),
    "18 MSE on logits": (REGRESSION, "3.9", "BCEWithLogitsLoss", "MSELoss", "wrong-loss-for-logits"),
    "19 the target comes first": (
        REGRESSION, "3.7", "loss_fn(output, y_train)", "loss_fn(y_train, output)", "prediction-and-target-swapped",
    ),
    "20 the accuracy broadcasts": (REGRESSION, "3.6", "== y\n", "== y.flatten()\n", "accuracy-broadcasts"),
}  # fmt: skip


def test_there_are_twenty_and_no_two_share_a_name():
    assert [row.split()[0] for row in MISTAKES] == [str(number) for number in range(1, 21)]
    assert len({name for *_, name in MISTAKES.values()}) == 20


@pytest.mark.parametrize("row", MISTAKES)
def test_a_mistake_gets_its_own_words(row):
    *patch, name = MISTAKES[row]
    verdict = verdict_after(*patch)
    assert verdict.status in ("wrong", "error")
    assert verdict.mistake == name, verdict
    assert verdict.words.endswith("?"), "it ends with a question"
