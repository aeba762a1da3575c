"""show(): the widget holds the trace, answers an edit with the run that begins there, and is a sentence elsewhere."""

import sys

import numpy as np
import pytest
import torch

import stepfit
from stepfit import datasets
from stepfit.viewers import widget

pytest.importorskip("anywidget", reason="the player in a notebook needs `pip install 'stepfit[lesson]'`")

WORDS, VIEW = "text/plain", "application/vnd.jupyter.widget-view+json"


def edited(player, **edit):
    """Move something in the player, as the browser tells of it; give the trace that answers."""
    whole = {"nonce": player.trace.get("nonce", 0) + 1, "id": player.trace["id"], "added": []}
    player.edit = whole | {"centers": None, "start": None} | edit
    assert player.trace["nonce"] == player.edit["nonce"]
    return player.trace


def same(answer, expected):
    return {name: value for name, value in answer.items() if name != "nonce"} == expected


@pytest.fixture
def plane():
    x, _ = datasets.blobs(60, 2, 3, seed=1)
    return stepfit.record(stepfit.lloyd(x, 3, seed=0, max_steps=20, empty="keep")), x


def test_it_holds_the_trace_and_is_a_sentence_without_widgets(plane):
    run, x = plane
    player = stepfit.show(run, x)
    assert player.trace == stepfit.trace(run, x)
    shown, _ = player._repr_mimebundle_()
    assert shown[WORDS] == repr(player) == player.trace["alt"]
    assert shown[VIEW]["model_id"] == player.model_id


def test_moved_centers_and_added_points_are_run_again_with_the_settings_of_the_run(plane):
    run, x = plane
    player = stepfit.show(run, x)
    centers = [[0.0, 0.0], [1.0, 1.0], [99.0, 99.0]]
    again = stepfit.record(stepfit.lloyd(x, 3, start=centers, seed=0, max_steps=20, empty="keep"))
    assert "its center stays" in again[0].events[0]
    assert same(edited(player, centers=centers), stepfit.trace(again, x))

    # The browser names all points that were added to the trace it holds, which may be an older one than the last.
    first = edited(player, centers=centers, added=[[5.0, 5.0]])["id"]
    assert player.trace["dims"]["n"] == 61
    edited(player, id=first, centers=centers, added=[[7.0, 7.0]])
    assert player.trace["dims"]["n"] == 62
    edited(player, id=first, centers=centers, added=[[7.0, 7.0], [8.0, 8.0]])
    more = torch.cat([x, x.new_tensor([[5.0, 5.0], [7.0, 7.0], [8.0, 8.0]])])
    again = stepfit.record(stepfit.lloyd(more, 3, start=centers, seed=0, max_steps=20, empty="keep"))
    assert same(player.trace, stepfit.trace(again, more))

    assert same(edited(player), stepfit.trace(run, x))  # all is undone


def test_a_point_may_lie_between_whole_numbers():
    x = np.array([[0, 0], [0, 1], [9, 0], [9, 1]], np.uint8)
    player = stepfit.show(stepfit.record(stepfit.lloyd(x, 2, start=x[[0, 2]])), x)
    edited(player, centers=[[0.0, 0.0], [9.0, 0.0]], added=[[4.25, 0.5]])
    assert player.trace["dtype"] == "float32"
    assert player.trace["box"][0] < 0
    more = np.concatenate([x, [[4.25, 0.5]]]).astype(np.float32)
    run = stepfit.record(stepfit.lloyd(more, 2, start=[[0.0, 0.0], [9.0, 0.0]]))
    assert player.trace["losses"] == [step.inertia for step in run]


@pytest.mark.parametrize("fit", [stepfit.linear_regression, stepfit.logistic_regression])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_new_start_on_the_surface_is_run_again(fit, dtype):
    x, x_test, y, y_test = datasets.toy_data()
    x, test = x.to(dtype), (x_test.to(dtype), y_test)
    options = {"lr": 0.3, "momentum": 0.5, "max_steps": 12, "seed": 4, "test": test}
    run = stepfit.record(fit(x, y, **options))
    player = stepfit.show(run, x, y, test=test)
    start = [[0.5, -2.0]], run[0].params["bias"]
    again = stepfit.record(fit(x, y, start=start, **options))
    assert same(edited(player, start=[0.5, -2.0]), stepfit.trace(again, x, y, test=test))


def test_a_run_that_its_settings_do_not_make_takes_no_edits(plane):
    _, x = plane
    weighted = stepfit.record(stepfit.lloyd(x, 3, seed=0, sample_weight=torch.arange(60.0)))
    player = stepfit.show(weighted, x)
    before = player.trace
    player.edit = {"nonce": 1, "id": before["id"], "added": [], "centers": [[0.0, 0.0]] * 3, "start": None}
    assert player.trace == before


def test_bad_input_is_told_in_words(plane):
    run, x = plane
    with pytest.raises(TypeError, match=r"run is a Steps; a recording is needed"):
        stepfit.show(stepfit.lloyd(x, 2), x)
    with pytest.raises(ValueError, match=r"made from \(60, 2\); give that x"):
        stepfit.show(run, x[1:])


def test_without_anywidget_it_says_what_to_install(plane, monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    widget._player_class.cache_clear()
    with pytest.raises(ImportError, match=r"needs anywidget: pip install 'stepfit\[lesson\]'"):
        stepfit.show(*plane)
