"""The checks of the notebook on the basics: each mistake gets its own words, and every right way passes."""

import re

import pytest
import torch
from notebook_cells import code_cells, solved

from stepfit.lesson import checks
from stepfit.lesson.notebooks.build import HERE

NAME = "Tutorial1_Pytorch_Basics"
pytestmark = pytest.mark.usefixtures("checks_here")

NUMBERS = [number for number in checks.EXERCISES if number.startswith("1.")]
LOOP = """
def fit_line(x, y, lr, steps):
    w, b = torch.zeros((), requires_grad=True), torch.zeros((), requires_grad=True)
    losses = []
    for _ in range(steps):
        w.grad = b.grad = None
        loss = (w * x + b - y).square().mean()
        losses.append(loss.item())
        loss.backward()
        with torch.no_grad():
            w -= lr * w.grad
            b -= lr * b.grad
    return w, b, losses
"""


def instead(old, new):
    return {"old": old, "new": new}


def loop(*changes):
    code = LOOP
    for old, new in changes:
        assert old in code
        code = code.replace(old, new)
    return {"code": code}


DIFFERENCES = "points.unsqueeze(1) - centers.unsqueeze(0)"
DISTANCES = "differences.square().sum(dim=2)"
APPENDED = ("        losses.append(loss.item())\n", "")
LOSS_AFTER = "        losses.append((w * x + b - y).square().mean().item())\n"
SLOPE = """    t = torch.tensor(float(place), requires_grad=True)
    function(t).backward()
    return t.grad
"""

MISTAKES = [
    ("1.1", "uint8-has-a-sign", {"code": "guess_difference = -2"}),
    ("1.1", "uint8-drops-the-sign", {"code": "guess_difference = 2"}),
    ("1.1", "uint8-stops-at-zero", {"code": "guess_difference = 0"}),
    ("1.1", "uint8-difference-raises", {"code": "guess_difference = 'Error'"}),
    ("1.1", "uint8-off-by-one", {"code": "guess_difference = 253"}),
    ("1.1", "other-guess", {"code": "guess_difference = 8"}),
    ("1.1", "type", {"code": "guess_difference = {254}"}),
    ("1.2", "integer-dtype", instead("pixels.float() / 255", "pixels")),
    ("1.2", "integer-dtype", instead("pixels.float() / 255", "pixels.div_(255)")),
    ("1.2", "not-divided", instead(" / 255", "")),
    ("1.2", "divided-by-256", instead("255", "256")),
    ("1.2", "whole-division", instead("pixels.float() / 255", "(pixels // 255).float()")),
    ("1.2", "divided-by-own-maximum", instead("255", "pixels.max()")),
    ("1.2", "value", instead(" / 255", " / 2")),
    ("1.2", "shape", instead(" / 255", ".mean(dim=0) / 255")),
    ("1.3", "mean-of-everything", instead("mean(dim=0)", "mean()")),
    ("1.3", "mean-over-wrong-axis", instead("dim=0", "dim=1")),
    ("1.3", "mean-over-wrong-axis", instead("dim=1", "dim=0")),
    ("1.3", "sum-for-mean", instead("mean(dim=1)", "sum(dim=1)")),
    ("1.3", "axis-kept", instead("dim=0", "dim=0, keepdim=True")),
    ("1.3", "type", instead("return mean_row, row_means", "return mean_row")),
    ("1.3", "value", instead("mean(dim=0)", "amax(dim=0)")),
    ("1.4", "reshape-mixes-rows", instead("(-1, 28, 28)", "(28, 28, -1)")),
    ("1.4", "reshape-mixes-rows", instead("rows.reshape", "rows.T.reshape")),
    ("1.4", "reshape-mixes-rows", instead("(-1, 28, 28)", "(28, 28, -1).permute(2, 0, 1)")),
    ("1.4", "picture-turned", instead("(-1, 28, 28)", "(-1, 28, 28).mT")),
    ("1.4", "reshape-size", instead("(-1, 28, 28)", "(28, 28)")),
    ("1.4", "reshape-size", instead("(-1, 28, 28)", "(8, 28, 28)")),
    ("1.4", "shape", instead("(-1, 28, 28)", "(-1, 14, 56)")),
    ("1.4", "value", instead("(-1, 28, 28)", "(-1, 28, 28) / 255")),
    ("1.5", "columns-for-rows", instead("[labels]", "[:, labels]")),
    ("1.5", "each-center-once", instead("[labels]", "[labels.unique()]")),
    ("1.5", "counts-from-one", instead("[labels]", "[labels - 1]")),
    ("1.5", "value", instead("[labels]", "[labels.sort().values]")),
    ("1.5", "shape", instead("[labels]", "[labels[0]]")),
    ("1.6", "view-for-clone", instead(".clone()", "")),
    ("1.6", "view-for-clone", instead("clone()", "contiguous()")),
    ("1.6", "columns-for-rows", instead("[:k]", "[:, :k]")),
    ("1.6", "one-row", instead("[:k]", "[k]")),
    ("1.6", "other-rows", instead("[:k]", "[-k:]")),
    ("1.6", "shape", instead("[:k]", "[:k + 1]")),
    ("1.6", "changes-its-arguments", instead("[:k]", "[:k].zero_()")),
    ("1.7", "broadcast-expected-flat", {"code": "guess_shape = (600,)"}),
    ("1.7", "broadcast-expected-flat", {"code": "guess_shape = (600)"}),
    ("1.7", "broadcast-expected-column", {"code": "guess_shape = [600, 1]"}),
    ("1.7", "broadcast-expected-row", {"code": "guess_shape = torch.Size([1, 600])"}),
    ("1.7", "broadcast-expected-error", {"code": "guess_shape = 'error'"}),
    ("1.7", "other-guess", {"code": "guess_shape = '600 x'"}),
    ("1.8", "keepdim-missing", instead("dim=1, keepdim=True", "dim=1")),
    ("1.8", "columns-for-rows", instead("dim=1", "dim=0")),
    ("1.8", "columns-for-rows", instead("dim=1, keepdim=True", "dim=0")),
    ("1.8", "mean-of-everything", instead("dim=1, keepdim=True", "")),
    ("1.8", "added", instead("x - row_mean", "x + row_mean")),
    ("1.8", "shape", instead("return zero_mean", "return row_mean")),
    ("1.8", "value", instead("x - row_mean", "x / row_mean")),
    ("1.9", "no-unsqueeze", instead(DIFFERENCES, "points - centers")),
    ("1.9", "no-unsqueeze", instead(DIFFERENCES, "points.unsqueeze(0) - centers.unsqueeze(0)")),
    ("1.9", "pairs-turned", instead(DIFFERENCES, "points.unsqueeze(0) - centers.unsqueeze(1)")),
    ("1.9", "sum-over-wrong-axis", instead("dim=2", "dim=1")),
    ("1.9", "sum-over-wrong-axis", instead("dim=2", "dim=0")),
    ("1.9", "not-summed", instead(".sum(dim=2)", "")),
    ("1.9", "sum-of-everything", instead("dim=2", "")),
    ("1.9", "no-square", instead(".square()", "")),
    ("1.9", "no-square", instead(DISTANCES, "-differences.sum(dim=2)")),
    ("1.9", "absolute-for-square", instead(DISTANCES, "differences.abs().sum(dim=2)")),
    ("1.9", "square-after-sum", instead(DISTANCES, "differences.sum(dim=2).square()")),
    ("1.9", "mean-for-sum", instead("sum(dim=2)", "mean(dim=2)")),
    ("1.9", "root-taken", instead("sum(dim=2)", "sum(dim=2).sqrt()")),
    ("1.9", "root-taken", instead(DISTANCES, "torch.cdist(points, centers)")),
    ("1.9", "added", instead("1) -", "1) +")),
    ("1.9", "value", instead("square()", "pow(4)")),
    ("1.10", "argmin-over-wrong-axis", instead("dim=1", "dim=0")),
    ("1.10", "argmin-of-everything", instead("dim=1", "")),
    ("1.10", "argmax-for-argmin", instead("argmin", "argmax")),
    ("1.10", "value-for-place", instead("argmin", "amin")),
    ("1.10", "value-for-place", instead("argmin", "min")),
    ("1.10", "shape", instead("dim=1", "dim=1, keepdim=True")),
    ("1.10", "dtype", instead("dim=1)", "dim=1).float()")),
    ("1.10", "value", instead("dim=1)", "dim=1) + 1")),
    ("1.11", "integer-dtype", instead("float(place)", "place")),
    ("1.11", "no-requires-grad", instead(", requires_grad=True", "")),
    ("1.11", "backward-missing", instead("function(t).backward()", "function(t)")),
    ("1.11", "value-for-slope", instead("t.grad", "function(t)")),
    ("1.11", "place-for-slope", instead("t.grad", "t")),
    ("1.11", "gradient-adds-up", instead("function(t).backward()", "function(t).backward(), function(t).backward()")),
    ("1.11", "value", instead("t.grad", "3 * place**2 - 2 + 0.5")),
    ("1.11", "type", instead("return t.grad", "return 'steep'")),
    ("1.12", "gradient-is-replaced", {"code": "guess_grad = 6"}),
    ("1.12", "gradient-multiplies", {"code": "guess_grad = 36"}),
    ("1.12", "gradient-is-cleared", {"code": "guess_grad = 0"}),
    ("1.12", "value-for-slope", {"code": "guess_grad = 18"}),
    ("1.12", "second-derivative", {"code": "guess_grad = torch.tensor(2)"}),
    ("1.12", "second-backward-raises", {"code": "guess_grad = 'error'"}),
    ("1.12", "other-guess", {"code": "guess_grad = 7"}),
    ("1.13", "worked-example", {"code": "paper_w, paper_b = 1.3, 0.8"}),
    ("1.13", "step-uphill", {"code": "paper_w, paper_b = 0.2, -0.5"}),
    ("1.13", "sum-for-mean", {"code": "paper_w, paper_b = 2.6, 1.0"}),
    ("1.13", "two-missing", {"code": "paper_w, paper_b = 1.4, 0.25"}),
    ("1.13", "no-learning-rate", {"code": "paper_w, paper_b = 9, 5"}),
    ("1.13", "slope-for-place", {"code": "paper_w, paper_b = -8, -5"}),
    ("1.13", "change-for-place", {"code": "paper_w, paper_b = 0.8, 0.5"}),
    ("1.13", "x-forgotten", {"code": "paper_w, paper_b = 1.5, 0.5"}),
    ("1.13", "slope-of-w-for-b", {"code": "paper_w, paper_b = 1.8, 0.8"}),
    ("1.13", "new-w-for-b", {"code": "paper_w, paper_b = 1.8, 0.26"}),
    ("1.13", "only-w-right", {"code": "paper_w, paper_b = 1.8, 5.0"}),
    ("1.13", "only-b-right", {"code": "paper_w, paper_b = 18, 0.5"}),
    ("1.13", "value", {"code": "paper_w, paper_b = 3, 3"}),
    ("1.13", "type", {"code": "paper_w, paper_b = '1.8 or so', 0.5"}),
    ("1.14", "step-uphill", instead(" - lr", " + lr")),
    ("1.14", "sum-for-mean", instead(".mean()", ".sum()")),
    ("1.14", "no-learning-rate", instead("lr * ", "")),
    ("1.14", "backward-missing", instead("loss.backward()", "loss")),
    ("1.14", "loss-not-averaged", instead(".mean()", "")),
    ("1.14", "loss-not-squared", instead(".square()", "")),
    ("1.14", "slope-of-w-for-b", instead("b - lr * b.grad", "b - lr * w.grad")),
    ("1.14", "only-w-right", instead("b - lr * b.grad", "b + lr * b.grad")),
    ("1.14", "did-not-move", instead("return new_w, new_b", "return w, b")),
    ("1.14", "update-inside-graph", instead("torch.no_grad()", "torch.enable_grad()")),
    ("1.14", "value", instead(" - y", "")),
    ("1.14", "type", instead("return new_w, new_b", "return new_w")),
    ("1.15", "gradient-not-cleared", loop(("        w.grad = b.grad = None\n", ""))),
    ("1.15", "step-uphill", loop(("-=", "+="))),
    ("1.15", "sum-for-mean", loop(("mean()", "sum()"))),
    ("1.15", "did-not-move", loop(("w -=", "new_w ="), ("b -=", "new_b ="))),
    ("1.15", "backward-missing", loop(("loss.backward()", "loss"))),
    ("1.15", "update-inside-graph", loop(("torch.no_grad()", "torch.enable_grad()"))),
    ("1.15", "update-inside-graph", loop(("no_grad", "enable_grad"), ("w -=", "w = w -"), ("b -=", "b = b -"))),
    ("1.15", "loss-kept-as-tensor", loop(("loss.item()", "loss"))),
    ("1.15", "number-of-losses", loop(("return w, b, losses", "return w, b, [0.0] + losses"))),
    ("1.15", "later-steps", loop(("range(steps)", "range(1)"))),
    ("1.15", "loss-after-step", loop(APPENDED, ("b.grad\n", "b.grad\n" + LOSS_AFTER))),
    ("1.15", "loss-value", loop(("loss.item()", "loss.item() ** 0.5"))),
    ("1.15", "type", loop(("return w, b, losses", "return w, b"))),
    ("1.15", "type", loop(("return w, b, losses", "return w, b, losses[0]"))),
]  # fmt: skip

RIGHT_WAYS = [
    ("1.1", {"code": "guess_difference = '254'"}),
    ("1.1", {"code": "guess_difference = torch.tensor(3, dtype=torch.uint8) - torch.tensor(5, dtype=torch.uint8)"}),
    ("1.2", instead("pixels.float() / 255", "pixels / 255")),
    ("1.2", instead("pixels.float() / 255", "pixels.double().div(255)")),
    ("1.2", instead("pixels.float() / 255", "torch.from_numpy(pixels.numpy() / 255)")),
    ("1.2", instead("pixels.float() / 255", "torch.tensor([[p / 255 for p in row] for row in pixels.tolist()])")),
    ("1.3", instead("x.mean(dim=0)", "torch.einsum('nd->d', x) / len(x)")),
    ("1.3", instead("x.mean(dim=0)", "torch.ones(len(x)) @ x / len(x)")),
    ("1.3", instead("x.mean(dim=0)", "sum(x) / len(x)")),
    ("1.3", instead("x.mean(dim=1)", "torch.stack([row.mean() for row in x])")),
    ("1.3", instead("x.mean(dim=1)", "torch.from_numpy(x.double().numpy().mean(axis=-1))")),
    ("1.4", instead("rows.reshape(-1,", "rows.view(len(rows),")),
    ("1.4", instead("rows.reshape(-1, 28, 28)", "rows.unflatten(1, (28, 28))")),
    ("1.4", instead("rows.reshape(-1, 28, 28)", "torch.stack([row.reshape(28, 28) for row in rows])")),
    ("1.4", instead("rows.reshape(-1, 28, 28)", "torch.tensor(rows.numpy().reshape(-1, 28, 28))")),
    ("1.5", instead("centers[labels]", "centers.index_select(0, labels)")),
    ("1.5", instead("centers[labels]", "torch.stack([centers[label] for label in labels])")),
    ("1.5", instead("centers[labels]", "torch.nn.functional.one_hot(labels, len(centers)).float() @ centers")),
    ("1.5", instead("centers[labels]", "centers.gather(0, labels.unsqueeze(1).expand(-1, centers.shape[1]))")),
    ("1.5", instead("centers[labels]", "torch.from_numpy(centers.numpy()[labels.numpy()])")),
    ("1.6", instead("x[:k].clone()", "x.clone()[:k]")),
    ("1.6", instead("x[:k].clone()", "x[torch.arange(k)]")),
    ("1.6", instead("x[:k].clone()", "torch.tensor(x.numpy()[:k])")),
    ("1.6", instead("x[:k].clone()", "x[:k] + 0")),
    ("1.6", instead("x[:k].clone()", "torch.stack([x[row] for row in range(k)])")),
    ("1.7", {"code": "guess_shape = '(600, 600)'"}),
    ("1.7", {"code": "guess_shape = (torch.zeros(600) - torch.zeros(600, 1)).shape"}),
    ("1.8", instead("x.mean(dim=1, keepdim=True)", "x.mean(dim=1).unsqueeze(1)")),
    ("1.8", instead("x.mean(dim=1, keepdim=True)", "x.double().mean(1)[:, None]")),
    ("1.8", instead("x - row_mean", "(x.T - x.mean(dim=1)).T")),
    ("1.8", instead("x - row_mean", "torch.stack([row - row.mean() for row in x])")),
    ("1.8", instead("x - row_mean", "x - x @ torch.ones(x.shape[1], x.shape[1]) / x.shape[1]")),
    ("1.9", instead(DIFFERENCES, "points[:, None] - centers[None]")),
    ("1.9", instead(DISTANCES, "torch.cdist(points, centers) ** 2")),
    ("1.9", instead(DISTANCES, "torch.einsum('nkd,nkd->nk', differences, differences)")),
    ("1.9", instead(DISTANCES, "torch.stack([(points - c).square().sum(1) for c in centers], dim=1)")),
    ("1.9", instead(DISTANCES, "torch.tensor([[sum((p - c) ** 2) for c in centers] for p in points])")),
    ("1.9", instead(DISTANCES, "(points**2).sum(1, keepdim=True) - 2 * points @ centers.T + (centers**2).sum(1)")),
    ("1.9", instead(DISTANCES, "torch.from_numpy(((points.numpy()[:, None] - centers.numpy()) ** 2).sum(-1))")),
    ("1.9", instead(DISTANCES, "differences.double().norm(dim=-1).pow(2)")),
    ("1.10", instead("prices.argmin(dim=1)", "prices.min(dim=1).indices")),
    ("1.10", instead("prices.argmin(dim=1)", "(-prices).argmax(dim=-1).int()")),
    ("1.10", instead("prices.argmin(dim=1)", "prices.sort(dim=1).indices[:, 0]")),
    ("1.10", instead("prices.argmin(dim=1)", "torch.tensor([row.tolist().index(row.min()) for row in prices])")),
    ("1.10", instead("prices.argmin(dim=1)", "torch.from_numpy(prices.numpy().argmin(1))")),
    ("1.11", instead(SLOPE, "    return torch.func.grad(function)(torch.tensor(float(place)))\n")),
    ("1.11", instead(SLOPE, "    return (function(place + 1e-5) - function(place - 1e-5)) / 2e-5\n")),
    ("1.11", instead("return t.grad", "return t.grad.item()")),
    ("1.11", instead("torch.tensor(float(place), ", "torch.tensor([place], dtype=torch.float64, ")),
    ("1.11", instead("function(t).backward()\n    return t.grad", "return torch.autograd.grad(function(t), t)[0]")),
    ("1.12", {"code": "guess_grad = 12.0"}),
    ("1.12", {"code": "guess_grad = torch.tensor(12)"}),
    ("1.13", {"code": "paper_w, paper_b = torch.tensor(1.8), 1 / 2"}),
    ("1.13", {"code": "paper_w, paper_b = '1.8', '0.5'"}),
    ("1.14", instead("(w * x + b - y).square().mean()", "torch.nn.functional.mse_loss(w * x + b, y)")),
    ("1.14", instead("(w * x + b - y).square().mean()", "sum((w * p + b - q) ** 2 for p, q in zip(x, y)) / len(x)")),
    ("1.14", instead("w - lr * w.grad", "w - lr * (2 * ((w * x + b - y) * x).mean())")),
    ("1.14", instead("return new_w, new_b", "return new_w.item(), new_b.double()")),
    ("1.14", instead("w - lr * w.grad", "w.sub_(lr * w.grad)")),
    ("1.15", {"code": LOOP}),
    ("1.15", loop(("w.grad = b.grad = None", "w, b = (t.detach().clone().requires_grad_() for t in (w, b))"))),
    ("1.15", loop(("    losses = []", "    optimizer, losses = torch.optim.SGD([w, b], lr), []"),
                  ("w -= lr * w.grad\n            b -= lr * b.grad", "optimizer.step()"),
                  ("w.grad = b.grad = None", "optimizer.zero_grad()"))),
    ("1.15", loop(("            w -= lr * w.grad\n            b -= lr * b.grad",
                   "            error = w * x + b - y\n            w -= lr * 2 * (error * x).mean()\n"
                   "            b -= lr * 2 * error.mean()"))),
    ("1.15", loop(("return w, b, losses", "return w.item(), b.item(), torch.tensor(losses)"))),
    ("1.15", loop(("loss.item()", "loss.detach()"))),
]  # fmt: skip


def table(rows):
    """Name each row by its exercise, its mistake and its place among those of the same name."""
    return [pytest.param(*row, id="-".join([*map(str, row[:-1]), str(index)])) for index, row in enumerate(rows)]


def verdicts_after(number, old="", new="", code=None):
    """Change one cell of the solved notebook, and judge it with every seed: none may be lucky."""
    source = dict(code_cells(NAME))[number]
    assert old in source
    namespace = dict(solved(NAME))
    exec(code or (source.replace(old, new) if old else source), namespace)
    return [checks.judge(number, namespace, seed=seed) for seed in range(20)]


@pytest.mark.parametrize(("number", "mistake", "change"), table(MISTAKES))
def test_a_mistake_gets_its_own_words(number, mistake, change):
    for verdict in verdicts_after(number, **change):
        assert (verdict.status, verdict.mistake) == ("wrong", mistake), str(verdict)
        assert verdict.words.endswith((".", "?"))
        plain = re.sub("`.*?`", "", verdict.words)
        assert not re.search(r"tensor\(|\*\w", plain), "neither a raw tensor nor a mark of Markdown"


@pytest.mark.parametrize(("number", "change"), table(RIGHT_WAYS))
def test_every_right_way_passes(number, change):
    for verdict in verdicts_after(number, **change):
        assert verdict.status == "passed", str(verdict)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_solution_passes(number):
    for verdict in verdicts_after(number):
        assert verdict.status == "passed", str(verdict)


def test_an_exception_without_words_of_its_own_is_told_with_its_line():
    code = "def squared_distances(points, centers):\n    return points @ centers\n"
    verdict = verdicts_after("1.9", code=code)[0]
    assert (verdict.status, verdict.mistake) == ("error", "exception")
    assert "line 2" in verdict.words


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    "value", [None, "a text", 5, torch.ones(3, 3).bool(), lambda *args: "a text", lambda *args: None]
)
def test_whatever_bears_the_name_is_answered_in_a_sentence(number, value):
    asked = {"1.1": "guess_difference", "1.7": "guess_shape", "1.12": "guess_grad", "1.13": "paper_w"}
    name = asked.get(number) or re.search(r"def (\w+)", dict(code_cells(NAME))[number])[1]
    verdict = checks.judge(number, solved(NAME) | {name: value})
    assert verdict.status == "wrong", str(verdict)
    assert verdict.words.endswith((".", "?"))


@pytest.mark.parametrize(
    "strange",
    [torch.Tensor.to_sparse, lambda t: t.to("meta"), lambda t: t * 1j, lambda t: t.flatten()[:0], lambda t: t.numpy()],
    ids=["sparse", "meta", "complex", "empty", "numpy"],
)
def test_a_strange_tensor_is_answered_in_a_sentence(strange):
    def strangely(function):
        def give(*args):
            result = function(*args)
            return tuple(map(strange, result)) if isinstance(result, tuple) else strange(result)

        return give

    for number in ("1.2", "1.3", "1.4", "1.5", "1.6", "1.8", "1.9", "1.10"):
        name = re.search(r"def (\w+)", dict(code_cells(NAME))[number])[1]
        verdict = checks.judge(number, solved(NAME) | {name: strangely(solved(NAME)[name])})
        assert (verdict.status, verdict.mistake) in (("wrong", "type"), ("wrong", "shape")), str(verdict)


def test_the_slopes_are_those_of_the_table_on_paper():
    from stepfit.lesson.checks.basics import POINTS, _fit, _slopes

    # By hand, in the text of 1.13: errors -3 and -5, slopes -13 and -8, then w = 1.3 and b = 0.8.
    assert _slopes(torch.zeros(2), *POINTS).tolist() == [-13, -8]
    assert _slopes(torch.tensor([1.0, 0.0]), *POINTS).tolist() == [
        -8,
        -5,
    ]  # as in its hints: 1.8 and 0.5 after the step
    line, losses = _fit(*POINTS, 0.1, 1)
    assert line.tolist() == pytest.approx([1.3, 0.8])
    assert losses == [17]


def test_the_learner_may_ask_for_hints_and_solutions():
    assert {"check", "hint", "show", "solution"} <= solved(NAME).keys()


def test_the_minutes_of_the_parts_are_those_of_the_whole():
    text = (HERE / f"{NAME}.py").read_text(encoding="utf-8")
    parts = re.findall(r"^# ## .*\((\d+) minutes?\)$", text, re.MULTILINE)
    assert f"**Plan {sum(map(int, parts))} minutes.**" in text


@pytest.mark.parametrize("number", NUMBERS)
def test_there_are_three_different_hints(number):
    hints = checks.EXERCISES[number].hints
    assert len(set(hints)) == 3
    assert all(hint.endswith((".", "?")) for hint in hints)
