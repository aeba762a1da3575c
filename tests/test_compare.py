"""show(my_step): it stops at the first difference and marks it, takes every right way, and tells the rest in words."""

import os
import re

import pytest
import torch

import stepfit
from stepfit import datasets
from stepfit.lesson import show
from stepfit.lesson.compare import compare

pytest.importorskip("anywidget", reason="the player in a notebook needs `pip install 'stepfit[lesson]'`")


def my_step(x, centers):
    labels = torch.cdist(x, centers).argmin(1)
    return labels, means(x, labels, centers)


def means(x, labels, centers):
    counts = labels.bincount(minlength=len(centers))[:, None]
    sums = torch.zeros_like(centers).index_add(0, labels, x)
    return torch.where(counts > 0, sums / counts, centers)


def in_python(x, centers):
    """Points and centers one by one; a tie goes to the last center, and a center without points to a point."""
    labels = []
    for point in x.double():
        distances = [float(((point - center) ** 2).sum()) for center in centers.double()]
        labels.append(max(j for j, distance in enumerate(distances) if distance == min(distances)))
    labels = torch.tensor(labels)
    return [labels, torch.stack([x[labels == j].double().mean(0) if (labels == j).any() else x[0] for j in range(4)])]


def one_hot(x, centers):
    distances = x.square().sum(1, keepdim=True) - 2 * x @ centers.T + centers.square().sum(1)
    hot = torch.nn.functional.one_hot(distances.argmin(1), len(centers)).to(x.dtype)
    kept = torch.where(hot.sum(0)[:, None] > 0, hot.T @ x / hot.sum(0).clamp(min=1)[:, None], centers)
    return distances.argmin(1).to(torch.int32), kept


def from_step_2(x, centers):
    """Right, but from step 2 on the points 37 to 50 go to the center after their own."""
    labels, _ = my_step(x, centers)
    calls.append(1)
    if len(calls) == 3:
        labels[37:51] = (labels[37:51] + 1) % 4
    return labels, means(x, labels, centers)


calls: list[int] = []


@pytest.mark.parametrize("step", [my_step, in_python, one_hot])
def test_a_right_step_plays_the_whole_run(step, capsys):
    player = show(step)
    said = capsys.readouterr().out
    x = datasets.blobs(n=150, k=4, spread=1.3, seed=1)[0]
    ours = stepfit.record(stepfit.lloyd(x, 4, start="random", seed=0, empty="keep"))
    assert len(ours) == 9
    words = "The same as ours in all 9 steps, also with a center that has no points."
    assert said == f"Your step beside ours: passed. {words}\n"
    assert player.trace["changed"] == [step.changed for step in ours]
    assert player.trace["losses"] == pytest.approx([step.inertia for step in ours], rel=1e-5)
    assert "mark" not in player.trace
    assert not player.trace["twin"]  # what a drag would lead to in the learner's code, nobody knows


def test_it_stops_where_labels_first_differ_and_marks_the_points(capsys):
    player = show(from_step_2)
    said = capsys.readouterr().out
    x = datasets.blobs(n=150, k=4, spread=1.3, seed=1)[0]
    third = stepfit.record(stepfit.lloyd(x, 4, start="random", seed=0, empty="keep"))[2]
    right = third.labels[37].item()
    assert f"not yet. Step 2: 14 points have the wrong label, first point 37: yours {(right + 1) % 4}, " in said
    assert f"right {right}. " in said
    assert f"{(x[37] - third.centers[right]).square().sum():.2f}" in said
    mark = player.trace["mark"]
    assert len(player.trace["losses"]) == 3
    assert mark["frame"] == 5  # start, then the two halves of steps 0 and 1, then the assignment of step 2
    assert mark["points"] == [[p, third.labels[p].item()] for p in range(37, 51)]
    assert mark["centers"] == []
    assert mark["words"].startswith("14 points have the wrong label")


def test_it_marks_centers_that_go_elsewhere_by_hand(capsys):
    x = [[0.0, 0.0], [0.0, 2.0], [10.0, 0.0], [10.0, 4.0]]

    def total(x, centers):
        labels = torch.cdist(x, centers).argmin(1)
        return labels, torch.stack([x[:2].mean(0), x[2:].sum(0)])

    player = compare(total, x, [[0.0, 0.0], [10.0, 0.0]])
    assert capsys.readouterr().out == (
        "Your step beside ours: not yet. Step 0: the labels are right, but 1 of 2 centers goes to the wrong place, "
        "first center 1: yours (20.00, 4.00), right (10.00, 2.00). What is the mean of its 2 points?\n"
    )
    assert player.trace["mark"]["frame"] == 2
    assert player.trace["mark"]["centers"] == [[1, 10.0, 2.0]]
    assert player.trace["box"][2] < 11  # a center that is far away does not make the points small
    assert str(player).startswith("total on 4 points. The labels are right, but")


def test_a_lost_center_is_told_though_the_first_run_has_none(capsys):
    def lossy(x, centers):
        labels = torch.cdist(x, centers).argmin(1)
        return labels, torch.stack([x[labels == j].mean(0) for j in range(4)])

    player = show(lossy)
    said = capsys.readouterr().out
    assert re.search(
        r"Step 0: the labels are right, but center 3 is lost: yours \(nan, nan\), before \(.*0 / 0\?", said
    )
    assert [j for j, *_ in player.trace["mark"]["centers"]] == [3]


def test_the_picture_does_not_show_the_solution():
    for step in (my_step, from_step_2):
        code = "\n".join(text for text, *_ in show(step).trace["code"])
        assert f"{step.__name__}(x, centers)" in code
        assert "argmin" not in code


@pytest.mark.parametrize("label", [0, 1])
def test_a_tie_may_be_broken_either_way(label, capsys):
    labels = torch.tensor([0, 1, label])
    x = [[0.0, 0.0], [2.0, 0.0], [1.0, 0.0]]
    compare(lambda x, centers: (labels, means(x, labels, centers)), x, [x[0], x[1]])
    assert "The same as ours in all 2 steps." in capsys.readouterr().out


def changing(x, centers):
    labels, centers[:] = my_step(x, centers)
    return labels, centers


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (..., "not attempted. A line of `my_step` is still `...`"),
        (lambda x, c: ..., "not attempted. A line of `my_step` is still `...`"),
        (lambda x, c: (..., c), "not attempted. A line of `my_step` is still `...`"),
        (lambda x, c: None, "not yet. `my_step` gives nothing back"),
        (lambda x, c: c, "not yet. `my_step` gives a Tensor, but a pair is wanted: `labels` and `next_centers`"),
        (lambda x, c: (c, c, c), "not yet. `my_step` gives 3 values, but a pair is wanted"),
        (lambda x, c: (my_step(x, c)[1], my_step(x, c)[0]), "as labels has shape (4, 2), but (150,) is wanted"),
        (lambda x, c: (torch.cdist(x, c).argmin(0), c), "as labels has shape (4,), but (150,) is wanted"),
        (lambda x, c: (my_step(x, c)[0].float(), c), "as labels has dtype torch.float32, but whole numbers are wanted"),
        (lambda x, c: (my_step(x, c)[0] + 1, c), "gives the label 4, but the 4 centers have the numbers 0 to 3"),
        (lambda x, c: (my_step(x, c)[0], c[:3]), "as next centers has shape (3, 2), but (4, 2) is wanted"),
        (lambda x, c: (my_step(x, c)[0], c * float("nan")), "first center 0: yours (nan, nan), right ("),
        (lambda x, c: (my_step(x, c)[0], c), "the labels are right, but 4 of 4 centers go to the wrong place"),
        (lambda x, c: x @ c, "stopped by an error. `my_step` stopped with a RuntimeError"),
        (lambda x: x, "stopped by an error. `my_step` stopped with a TypeError"),
        (lambda x, c: exit(), "stopped by an error. `my_step` wants to end Python"),
        (changing, "`changing` changed its argument number 2"),
    ],
)  # fmt: skip
def test_whatever_a_step_does_is_told_in_words(step, words, capsys):
    show(step)
    said = capsys.readouterr().out
    assert said.startswith("Your step beside ours: ")
    assert words in said


def test_a_step_that_ends_python_is_told_in_words(capsys):
    assert show(lambda x, centers: os._exit(3)) is None
    assert "stopped by an error. Your code stopped everything: it ended Python" in capsys.readouterr().out


def test_a_recording_is_played_and_anything_else_refused():
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [4.0, 0.0], [4.0, 1.0]])
    run = stepfit.record(stepfit.lloyd(x, 2, start=x[:2]))
    assert show(run, x).trace == stepfit.trace(run, x)
    moons = datasets.two_moons()
    data, test = (moons.x_train, moons.y_train), (moons.x_test, moons.y_test)
    line = stepfit.record(stepfit.linear_regression(*data, test=test, max_steps=2, seed=0))
    assert show(line, *data, test=test).trace == stepfit.trace(line, *data, test=test)
    with pytest.raises(TypeError, match=r"a recording does not hold its points; .*: show\(run, x\)"):
        show(run)
    with pytest.raises(TypeError, match=r"an int cannot be shown; give a recording, .* or your step: show\(my_step\)"):
        show(3)
    with pytest.raises(ValueError, match=r"x has shape \(4, 3\); the player draws your step on points \(n, 2\)"):
        show(my_step, torch.ones(4, 3))
