"""The checks of the notebook on regression: each mistake has its own words, each right way passes, for any seed."""

import re
import warnings

import pytest
import torch
from notebook_cells import code_cells, solved, verdict_after
from torch import nn

from stepfit import Stop, linear_regression, logistic_regression, record
from stepfit.lesson.checks import EXERCISES
from stepfit.lesson.checks.exercise import Learner, NotAttempted, Wrong

NOTEBOOK = "Pytorch2_Linear_Logistic_Regression_For_Classification"
pytestmark = pytest.mark.usefixtures("checks_here")

NUMBERS = [number for number, _ in code_cells(NOTEBOOK) if number]

# Number of the exercise, what of its solution becomes what, the mistake, and a piece of the words.
MISTAKES = {
    "no zero_grad (11)": ("3.7", "optimizer.zero_grad()", "pass", "no-zero-grad", "fresh start"),
    "zero_grad before the loop (11)": (
        "3.7",
        "    for _ in range(steps):\n",
        "    optimizer.zero_grad()\n    optimizer.zero_grad = lambda: None\n    for _ in range(steps):\n",
        "no-zero-grad",
        "Each step adds its gradient",
    ),
    "no zero_grad, from memory (11)": ("3.13", "optimizer.zero_grad()", "pass", "no-zero-grad", "fresh start"),
    "zero between backward and step (12)": (
        "3.7",
        "optimizer.step()",
        "optimizer.zero_grad(); optimizer.step()",
        "order-of-the-moves",
        "moves the weights by nothing",
    ),
    "step before backward (12)": (
        "3.7",
        "loss.backward()",
        "optimizer.step(); loss.backward(); optimizer.step = lambda: None",
        "order-of-the-moves",
        "In which order",
    ),
    "step, zero, backward (12)": (
        "3.7",
        "optimizer.zero_grad()",
        "optimizer.step(); optimizer.zero_grad(); loss.backward(); optimizer.step = loss.backward = lambda: None",
        "order-of-the-moves",
        "In which order",
    ),
    "zero between backward and step, from memory (12)": (
        "3.13",
        "optimizer.step()",
        "optimizer.zero_grad(); optimizer.step()",
        "order-of-the-moves",
        "In which order",
    ),
    "no step": ("3.7", "optimizer.step()", "pass", "no-step", "nobody moves the weights"),
    "no backward": ("3.7", "loss.backward()", "pass", "no-backward", "no gradient was ever computed"),
    "forward outside the loop": (
        "3.7",
        "    for _ in range(steps):\n        # To Do: forward. What the model says to the training points, (m, 1)\n"
        "        output = model(x_train)\n",
        "    output = model(x_train)\n    for _ in range(steps):\n",
        "forward-outside-the-loop",
        "outside of the loop",
    ),
    "another model's parameters (13)": (
        "3.5",
        "model.parameters()",
        "example.parameters()",
        "optimizer-of-another-model",
        "Whose parameters",
    ),
    "the linear model's parameters (13)": (
        "3.9",
        "model.parameters()",
        "line.parameters()",
        "optimizer-of-another-model",
        "Whose parameters",
    ),
    "another model's parameters, from memory (13)": (
        "3.13",
        "model.parameters()",
        "line.parameters()",
        "optimizer-of-another-model",
        "Whose parameters",
    ),
    "y loses its column in the file (14)": (
        "3.1",
        "arrays = [array.float() for array in arrays]",
        "arrays = [array.float().squeeze() for array in arrays]",
        "targets-broadcast",
        "(7, 7)",
    ),
    "y loses its column in the loop (14)": (
        "3.7",
        "loss_fn(output, y_train)",
        "loss_fn(output, y_train.flatten())",
        "targets-broadcast",
        "(7, 7)",
    ),
    "y loses its column, from memory (14)": (
        "3.13",
        "loss_fn(model(x), y)",
        "loss_fn(model(x), y[:, 0])",
        "targets-broadcast",
        "(7, 7)",
    ),
    "threshold 0 for classes 0 and 1 (15)": ("3.8", "0.5", "0", "threshold-zero-on-targets", "0.6"),
    "threshold 0.5 on logits (16)": ("3.10", "= 0", "= 0.5", "threshold-half-on-logits", "0.6225"),
    "sigmoid twice (17)": (
        "3.9",
        "nn.Linear(2, 1)",
        "nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())",
        "sigmoid-twice",
        "one more",
    ),
    "sigmoid twice, from memory (17)": ("3.13", "model(x)", "model(x).sigmoid()", "sigmoid-twice", "applied twice"),
    "squared error on logits (18)": (
        "3.9",
        "BCEWithLogitsLoss",
        "MSELoss",
        "wrong-loss-for-logits",
        "as in linear regression",
    ),
    "BCELoss on logits (18)": ("3.9", "BCEWithLogitsLoss", "BCELoss", "wrong-loss-for-logits", "refuses"),
    "CrossEntropyLoss with one output (18)": (
        "3.9",
        "BCEWithLogitsLoss",
        "CrossEntropyLoss",
        "wrong-loss-for-logits",
        "nothing would ever move",
    ),
    "squared error of probabilities (18)": (
        "3.9",
        "nn.Linear(2, 1)\n    # To Do: the loss, to be called as loss_fn(output, y)\n"
        "    loss_fn = nn.BCEWithLogitsLoss()",
        "nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())\n    loss_fn = nn.MSELoss()",
        "wrong-loss-for-logits",
        "squared error",
    ),
    "squared error, from memory (18)": ("3.13", "BCEWithLogitsLoss", "MSELoss", "wrong-loss-for-logits", "linear"),
    "target before prediction (19)": (
        "3.7",
        "loss_fn(output, y_train)",
        "loss_fn(y_train, output)",
        "prediction-and-target-swapped",
        "Which comes first",
    ),
    "target before prediction, in the parts (19)": (
        "3.9",
        "nn.BCEWithLogitsLoss()",
        "lambda output, y: nn.BCEWithLogitsLoss()(y, output)",
        "prediction-and-target-swapped",
        "Which comes first",
    ),
    "target before prediction, from memory (19)": (
        "3.13",
        "loss_fn(model(x), y)",
        "loss_fn(y, model(x))",
        "prediction-and-target-swapped",
        "Which comes first",
    ),
    "accuracy broadcasts, counted (20)": (
        "3.6",
        "== y\n        # To Do: how large a part of all is that, as a plain number\n"
        "        part = right.double().mean().item()",
        "== y.flatten()\n        part = right.sum().item() / len(y)",
        "accuracy-broadcasts",
        "(7, 7)",
    ),
    "accuracy broadcasts, averaged (20)": ("3.6", "== y\n", "== y.flatten()\n", "accuracy-broadcasts", "(7, 7)"),
    "accuracy is a tensor (20)": ("3.6", ".item()", "", "logs-tensors", "plain number"),
    "accuracy on the training points (20)": (
        "3.6",
        "model(x)",
        "model(x_train)",
        "accuracy-on-training-data",
        "asked the model for 600",
    ),
    "log of the training accuracy (20)": (
        "3.7",
        "accuracy(model, x_test, y_test, threshold)",
        "accuracy(model, x_train, y_train, threshold)",
        "accuracy-on-training-data",
        "trained on",
    ),
    "log of loss tensors (20)": ("3.7", "loss.item()", "loss", "logs-tensors", "`losses` is a tensor"),
    "log above 1 (20)": (
        "3.7",
        "accuracy(model, x_test, y_test, threshold)",
        "((model(x_test) > threshold) == y_test.flatten()).sum().item() / len(y_test)",
        "accuracy-broadcasts",
        "more than all",
    ),
    "arr_1 taken for y_train": (
        "3.1",
        "x_train, x_test, y_train, y_test = arrays",
        "x_train, y_train, x_test, y_test = arrays",
        "arrays-in-another-order",
        "arr_2",
    ),
    "arrays as they come": ("3.1", "[array.float() for array in arrays]", "arrays", "dtype", "int64"),
    "another file": (
        "3.1",
        "[array.float() for array in arrays]",
        "[globals()[name] for name in ('x_train', 'x_test', 'y_train', 'y_test')]",
        None,
        "`path`",
    ),
    "two outputs": ("3.2", "nn.Linear(2, 1)", "nn.Linear(2, 2)", "shape", "(5, 2)"),
    "one feature": ("3.2", "nn.Linear(2, 1)", "nn.Linear(1, 1)", "shape", "How many features"),
    "a sigmoid on the linear model": (
        "3.2",
        "nn.Linear(2, 1)",
        "nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())",
        None,
        "plane",
    ),
    "the same model again": ("3.2", "nn.Linear(2, 1)", "line", None, "the same model each time"),
    "sum for mean": ("3.3", "mean()", "sum()", None, "*sum*"),
    "no mean": ("3.3", ".mean()", "", "shape", "(7, 1)"),
    "no square": ("3.3", ".square()", "", None, "cancelling"),
    "loss as a number": ("3.3", ".mean()", ".mean().item()", "type", "backward()"),
    "loss leaves autograd": ("3.3", "(output - y)", "(output - y).detach()", None, "forgotten"),
    "gradient uphill": ("3.4", "X @ theta - y", "y - X @ theta", None, "other way"),
    "gradient without its 2": ("3.4", "2 / len(X)", "1 / len(X)", None, "factor 2 is missing"),
    "gradient of the sum": ("3.4", "2 / len(X)", "2", None, "divided by m"),
    "X for X.T": ("3.4", "X.T", "X", "exception", "stopped with"),
    "one parameter forgotten": ("3.5", "model.parameters()", "[model.weight]", None, "`bias`"),
    "Adam": ("3.5", "SGD", "Adam", None, "plain gradient descent"),
    "momentum": ("3.5", "lr=lr", "lr=lr, momentum=0.9", None, "after step 2"),
    "lr of its own": ("3.5", "lr=lr", "lr=0.1", None, "moved by 0.2"),
    "threshold not used": ("3.6", "> threshold", "> 0.5", None, "lower threshold"),
    "below for above": ("3.6", "> threshold", "< threshold", None, "*wrong*"),
    "probabilities against the threshold": ("3.6", "model(x)", "model(x).sigmoid()", None, "no output was above"),
    "percent": ("3.6", ".item()", ".item() * 100", None, "percent"),
    "count": ("3.6", "right.double().mean()", "right.sum()", None, "how many"),
    "loss after the step": (
        "3.7",
        "loss.item()",
        "loss_fn(model(x_train), y_train).item()",
        None,
        "from before its step",
    ),
    "threshold of its own": ("3.7", "y_test, threshold)", "y_test, 0.5)", None, "Which threshold"),
    "two steps at once": ("3.7", "optimizer.step()", "optimizer.step(); optimizer.step()", None, "six moves"),
    "no log": ("3.7", "losses.append(loss.item())", "", None, "0 entries"),
    "mean of y": ("3.8", "0.5", "y_train.mean()", None, "nearer to 1"),
    "threshold 0 of probabilities": ("3.10", "= 0", "= 1", None, "probability 0.5"),
    "two outputs for two classes": ("3.9", "nn.Linear(2, 1)", "nn.Linear(2, 2)", "shape", "(5, 2)"),
    "the class of the loss": ("3.9", "nn.BCEWithLogitsLoss()", "nn.BCEWithLogitsLoss", "type", "is a class"),
    "the sum of the losses": (
        "3.9",
        "nn.BCEWithLogitsLoss()",
        "nn.BCEWithLogitsLoss(reduction='sum')",
        "wrong-loss-for-logits",
        "their cross-entropy",
    ),
    "flattest direction": ("3.11", "max()", "min()", None, "flattest"),
    "H of the sum": ("3.11", "2 / len(X) * ", "", None, "2/m is missing"),
    "half the limit": ("3.11", "limit = 2 /", "limit = 1 /", None, "half of it"),
    "losses of class 0": ("3.12", "torch.sigmoid(outputs)", "1 - torch.sigmoid(outputs)", None, "class 0"),
    "mean of the losses": ("3.12", ".square()", ".square().mean()", "shape", "(9,)"),
    "losses the other way round": ("3.12", "squared, entropy", "entropy, squared", None, "other way round"),
    "fit gives nothing": ("3.13", "return model", "pass", "returns-nothing", "return"),
}

MANUAL_STEP = """with torch.no_grad():
            for weight in model.parameters():
                weight -= optimizer.param_groups[0]["lr"] * weight.grad"""

# Number of the exercise, and what of its solution becomes what.
RIGHT_WAYS = {
    "float64 data": ("3.1", ".float()", ".double()"),
    "a list of arrays": ("3.1", "return x_train, x_test, y_train, y_test", "return arrays"),
    "nn.Sequential": ("3.2", "nn.Linear(2, 1)", "nn.Sequential(nn.Linear(2, 1))"),
    "a float64 model": ("3.2", "nn.Linear(2, 1)", "nn.Linear(2, 1).double()"),
    "a model of two layers, still linear": (
        "3.2",
        "nn.Linear(2, 1)",
        "nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))",
    ),
    "nn.MSELoss": ("3.3", "(output - y).square().mean()", "nn.MSELoss()(output, y)"),
    "a loop over the points": (
        "3.3",
        "(output - y).square().mean()",
        "sum((o - t) ** 2 for o, t in zip(output[:, 0], y[:, 0])) / len(y)",
    ),
    "autograd for the gradient": (
        "3.4",
        "grad = 2 / len(X) * X.T @ errors",
        "t = theta.clone().requires_grad_()\n    grad = torch.autograd.grad((X @ t - y).square().mean(), t)[0]",
    ),
    "the mean of the pulls": ("3.4", "2 / len(X) * X.T @ errors", "2 * (errors * X).mean(dim=0).unsqueeze(1)"),
    "a list of parameters": ("3.5", "model.parameters()", "[model.bias, model.weight]"),
    "groups of parameters": ("3.5", "model.parameters()", "[{'params': model.weight}, {'params': [model.bias]}]"),
    "counted": ("3.6", "right.double().mean().item()", "sum(right.flatten().tolist()) / len(y)"),
    "both flat": ("3.6", "(model(x) > threshold) == y", "(model(x).flatten() >= threshold) == y.flatten().bool()"),
    "numpy": ("3.6", "right.double().mean().item()", "right.numpy().mean()"),
    "manual step": ("3.7", "optimizer.step()", MANUAL_STEP),
    "functional loss": ("3.7", "loss_fn(output, y_train)", "nn.functional.mse_loss(output, y_train)"),
    "squared error by hand": ("3.7", "loss_fn(output, y_train)", "(y_train - output).pow(2).mean()"),
    "both flat in the loss": ("3.7", "loss_fn(output, y_train)", "loss_fn(output.flatten(), y_train.flatten())"),
    "zero at the end": (
        "3.7",
        "optimizer.zero_grad()",
        "pass",
        "optimizer.step()",
        "optimizer.step()\n        optimizer.zero_grad()",
    ),
    "zero first": (
        "3.7",
        "        output = model(x_train)",
        "        optimizer.zero_grad()\n        output = model(x_train)",
    ),
    "model.zero_grad": ("3.7", "optimizer.zero_grad()", "model.zero_grad()"),
    "gradients of zeros": ("3.7", "optimizer.zero_grad()", "optimizer.zero_grad(set_to_none=False)"),
    "gradients to None": (
        "3.7",
        "optimizer.zero_grad()",
        "for weight in model.parameters():\n            weight.grad = None",
    ),
    "float64 loop": (
        "3.7",
        "losses, accuracies = [], []",
        "losses, accuracies = [], []\n    model.double()\n    x_train, y_train, x_test, y_test = "
        "(t.double() for t in (x_train, y_train, x_test, y_test))",
    ),
    "accuracy before the step": (
        "3.7",
        "        optimizer.zero_grad()",
        "        accuracies.append(accuracy(model, x_test, y_test, threshold))\n        optimizer.zero_grad()",
        "\n        accuracies.append(accuracy(model, x_test, y_test, threshold))\n    return",
        "\n    return",
    ),
    "half-way, computed": ("3.8", "0.5", "y_train.unique().mean()"),
    "functional loss of logits": ("3.9", "nn.BCEWithLogitsLoss()", "nn.functional.binary_cross_entropy_with_logits"),
    "sigmoid and BCELoss": (
        "3.9",
        "nn.Linear(2, 1)",
        "nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())",
        "BCEWithLogitsLoss",
        "BCELoss",
    ),
    "cross-entropy by hand": (
        "3.9",
        "nn.BCEWithLogitsLoss()",
        "lambda z, y: (nn.functional.softplus(z) - y * z).mean()",
    ),
    "float64 logistic": ("3.9", "nn.Linear(2, 1)", "nn.Linear(2, 1, dtype=torch.float64)"),
    "threshold as a tensor": ("3.10", "= 0", "= torch.tensor(0.0)"),
    "singular values": (
        "3.11",
        "2 / torch.linalg.eigvalsh(hessian).max()",
        "(len(X) / torch.linalg.matrix_norm(X, ord=2) ** 2).item()",
    ),
    "softplus": ("3.12", "-torch.log(torch.sigmoid(outputs))", "nn.functional.softplus(-outputs)"),
    "PyTorch's own losses": (
        "3.12",
        "-torch.log(torch.sigmoid(outputs))",
        "nn.BCEWithLogitsLoss(reduction='none')(outputs, torch.ones(len(outputs)))",
    ),
    "your own loop": (
        "3.13",
        "optimizer = torch.optim.SGD(model.parameters(), lr=lr)",
        "optimizer = optimizer_for(model, lr)",
    ),
}


# Returned by whatever is called, and kept where a number is wanted.
STRANGE = [
    None,
    "a text",
    -7,
    torch.ones(3, 3).bool(),
    torch.ones(2, 1) * 1j,
    [["a"], ["b"]],
    (None,) * 3,
    nn.ReLU(),
    1e400,
]


def changed(number, *changes):
    """Give the cell of an exercise after changes of its solution: old, new, old, new, ..."""
    code = dict(code_cells(NOTEBOOK))[number]
    for old, new in zip(changes[::2], changes[1::2]):
        assert old in code, f"the solution of {number} has no {old!r}:\n{code}"
        code = code.replace(old, new)
    return code


def judged(number, namespace, seed=0):
    """Judge as check() does, but in this process: faster, and fine for code that is known."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        return EXERCISES[number].judge(Learner(namespace, seed))


def after(number, *changes):
    """Give the solved notebook after changes of one of its solutions."""
    namespace = dict(solved(NOTEBOOK))
    exec(compile(changed(number, *changes), "<cell>", "exec"), namespace)
    return namespace


@pytest.mark.parametrize(("number", "old", "new", "mistake", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_has_its_own_words_for_any_seed(number, old, new, mistake, words):
    namespace = after(number, old, new)
    for seed in (0, 7, 14):
        with pytest.raises(Wrong) as wrong:
            judged(number, namespace, seed)
        assert wrong.value.status in ("wrong", "error")
        assert (wrong.value.mistake, words in wrong.value.words) == (mistake, True), wrong.value.words
        if mistake not in ("shape", "dtype", "type", "exception"):  # those are said for every notebook
            assert "?" in wrong.value.words


@pytest.mark.parametrize(("number", "changes"), [(n, c) for n, *c in RIGHT_WAYS.values()], ids=RIGHT_WAYS)
def test_a_right_way_passes_for_any_seed(number, changes):
    namespace = after(number, *changes)
    for seed in (0, 7, 14):
        assert judged(number, namespace, seed)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_solution_passes_for_every_seed(number):
    for seed in range(20):
        assert judged(number, solved(NOTEBOOK), seed)


@pytest.mark.parametrize("number", NUMBERS)
def test_whatever_bears_the_name_is_answered_in_a_sentence(number):
    name = re.search(r"^def (\w+)|^(\w+) = ", dict(code_cells(NOTEBOOK))[number], re.MULTILINE)
    name = name[1] or name[2]
    for value in STRANGE:
        for made in (value, lambda *_, value=value: value, lambda *_, value=value: ([value] * 4, [value] * 4)):
            with pytest.raises(Wrong) as wrong:
                judged(number, solved(NOTEBOOK) | {name: made})
            assert wrong.value.words.strip()


def test_half_a_loop_is_not_yet_an_attempt():
    blank = "def train(model, loss_fn, optimizer, x_train, y_train, x_test, y_test, steps, threshold):\n"
    blank += "    for _ in range(steps):\n        ...\n    return [], []\n"
    for code, words in (
        (blank, "all six moves are open"),
        (blank.replace("...", "output = model(x_train)"), "it does forward now"),
        (blank.replace("...", "loss_fn(model(x_train), y_train).backward()"), "backward and forward now"),
    ):
        verdict = verdict_after(NOTEBOOK, "3.7", code=code)
        assert (verdict.status, words in verdict.words) == ("not attempted", True), verdict.words


def test_a_loop_waits_for_the_accuracy():
    namespace = after("3.7")
    namespace["accuracy"] = lambda *_: ...
    with pytest.raises(NotAttempted, match=r"is `accuracy` \(3.6\) finished"):
        judged("3.7", namespace)


def test_a_loop_that_does_not_ask_its_loss_passes_with_a_warning():
    verdict = verdict_after(NOTEBOOK, "3.7", "loss_fn(output, y_train)", "nn.functional.mse_loss(output, y_train)")
    assert (verdict.status, "does not ask `loss_fn`" in verdict.words) == ("passed", True)


def test_a_sigmoid_in_the_model_moves_its_threshold():
    model = nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())
    namespace = solved(NOTEBOOK) | {"logistic_parts": lambda lr: (model, nn.BCELoss(), None)}
    assert "The output 0.5" in judged("3.10", namespace | {"logistic_threshold": 0.5})
    with pytest.raises(Wrong, match="gives probabilities"):
        judged("3.10", namespace | {"logistic_threshold": 0})


def test_what_the_text_says_of_the_data():
    data = solved(NOTEBOOK)
    assert 0.64 < data["lr_limit"](data["X"]) < 0.66
    assert data["far_output"] > 6

    def end(regression, lr, steps=300, points="train"):
        test = (data["x_test"], data["y_test"])
        return record(
            regression(data[f"x_{points}"], data[f"y_{points}"], lr=lr, max_steps=steps, test=test, seed=0)
        ).last

    linear, logistic = end(linear_regression, 0.1), end(logistic_regression, 1.0)
    unfinished = end(logistic_regression, 0.1, steps=100)
    far = end(linear_regression, 0.1, points="far"), end(logistic_regression, 1.0, points="far")
    accuracy, *others = (step.metrics["test_accuracy"] for step in (linear, logistic, unfinished, *far))
    assert abs(others[0] - accuracy) < 0.01  # the two agree to within a few of 400 points
    assert others[1] < accuracy - 0.02  # after 100 steps at lr 0.1, logistic regression looks worse
    assert others[2] < accuracy - 0.05  # the far points turn the line
    assert others[3] == others[0]  # and do not surprise the cross-entropy
    assert end(linear_regression, 0.64, steps=400).loss < linear.loss * 1.001  # at rest
    assert end(linear_regression, 0.66, steps=400).stop is Stop.DIVERGED
