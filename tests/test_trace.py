"""trace(): what is packed equals the recording and is small, its words are true, its code runs, bad input is told."""

import base64
import json
import zlib

import numpy as np
import pytest
import torch
from torch import nn

import stepfit
from stepfit import datasets
from stepfit.clustering.mini_batch import mini_batches
from stepfit.viewers.palette import COLORS, MARKERS
from stepfit.viewers.surface import loss_surface


def unpacked(trace):
    """Read the arrays of a trace, as player.js does."""
    data, arrays, at = zlib.decompress(base64.b64decode(trace["data"])), {}, 0
    for name, kind, shape, divisor in trace["arrays"]:
        values = np.frombuffer(data, f"<{kind}", int(np.prod(shape)), at).reshape(shape)
        at += values.nbytes
        if kind[0] == "u" and len(shape) > 1:
            values = np.cumsum(values, axis=0, dtype=values.dtype)
        arrays[name] = values / divisor if divisor > 1 else values
    assert at == len(data)
    return arrays


@pytest.fixture(scope="module")
def plane():
    x, _ = datasets.blobs(300, 2, 4, seed=1)
    run = stepfit.record(stepfit.lloyd(x, 4, start="random", seed=0))
    return run, x, stepfit.trace(run, x)


@pytest.fixture(scope="module")
def wall():
    images, digits = (part[:2000] for part in datasets.mnist())
    run = stepfit.record(stepfit.lloyd(images, 10, start="random", seed=0, max_steps=20))
    return run, images, digits, stepfit.trace(run, images, digits)


@pytest.fixture(scope="module")
def descent():
    data = datasets.two_moons()
    test = data.x_test, data.y_test
    run = stepfit.record(stepfit.logistic_regression(data.x_train, data.y_train, seed=0, test=test))
    return run, data, stepfit.trace(run, data.x_train, data.y_train, test=test)


def test_a_plane_is_the_recording(plane):
    run, x, trace = plane
    arrays = unpacked(trace)
    assert trace["kind"] == "kmeans"
    assert trace["dims"] == {"n": 300, "k": 4, "d": 2}
    assert (arrays["x"] == x.numpy()).all()
    for i, step in enumerate(run):
        assert (arrays["labels"][i] == step.labels.numpy()).all()
        assert (arrays["centers"][i] == step.centers.numpy()).all()
    assert (arrays["centers"][len(run)] == run.last.next_centers.numpy()).all()
    assert trace["losses"] == [step.inertia for step in run]
    assert trace["changed"] == [step.changed for step in run]
    assert trace["stop"] == run.stop.name
    assert trace["settings"] | {"kernel": run.settings["kernel"]} == run.settings
    assert "kernel" not in trace["settings"]  # whichever made it, the trace is the same
    assert (tuple(trace["colors"]), tuple(trace["markers"])) == (COLORS, MARKERS)
    left, bottom, right, top = trace["box"]
    assert (x.numpy() > (left, bottom)).all()
    assert (x.numpy() < (right, top)).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.uint8, torch.int64])
def test_points_and_centers_of_any_dtype_lose_nothing(dtype):
    random = torch.Generator().manual_seed(0)
    x = (torch.rand(40, 2, generator=random, dtype=torch.float64) * 200).to(dtype)
    run = stepfit.record(stepfit.lloyd(x, 3, seed=0))
    trace = stepfit.trace(run, x)
    arrays = unpacked(trace)
    assert (arrays["x"] == x.double().numpy()).all()
    assert (arrays["centers"][:-1] == torch.stack([step.centers for step in run]).numpy()).all()
    assert trace["dtype"] == str(run.last.centers.dtype).removeprefix("torch.")


def test_six_decimals_in_float64_take_four_bytes_and_lose_nothing():
    x = datasets.toy_data().x_train
    trace = stepfit.trace(stepfit.record(stepfit.lloyd(x, 2, seed=0)), x)
    assert trace["arrays"][0] == ["x", "i4", [600, 2], 10**6]
    assert (unpacked(trace)["x"] == x.numpy()).all()


def test_nan_centers_and_infinite_losses_survive():
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]])
    run = stepfit.record(stepfit.lloyd(x, 3, start=x[[0, 0, 2]], empty="nan", max_steps=4))
    trace = stepfit.trace(run, x)
    centers = unpacked(trace)["centers"]
    expected = torch.stack([step.centers for step in run]).numpy()
    assert np.isnan(expected).any()
    assert np.array_equal(centers[:-1], expected, equal_nan=True)
    assert None in trace["losses"]
    assert "to NaN" in trace["alt"]
    assert np.isfinite(trace["box"]).all()
    assert any("became NaN" in text for texts in trace["events"] for text in texts)

    x, y = torch.tensor([[1e200, 0.0], [0.0, 1.0]], dtype=torch.float64), torch.tensor([1, 0])
    run = stepfit.record(stepfit.linear_regression(x, y, lr=1.0, start=([[0.0, 0.0]], [0.0])))
    trace = stepfit.trace(run, x, y)
    assert trace["stop"] == "DIVERGED"
    assert trace["losses"][-1] is None
    json.dumps(trace, allow_nan=False)


def test_the_wall_shows_the_centers_their_counts_and_majorities(wall):
    run, images, digits, trace = wall
    arrays = unpacked(trace)
    grays = trace["grays"] - 1
    for i, step in enumerate(run):
        shown = arrays["centers"][i].reshape(10, 784) / grays * float(images.max())
        assert np.abs(shown - step.centers.double().numpy()).max() <= float(images.max()) / grays / 2 + 1e-6
        assert (arrays["counts"][i] == step.counts.numpy()).all()
        for j in range(10):
            votes = digits[step.labels == j].bincount(minlength=10)
            assert votes[int(arrays["majority"][i][j])] == votes.max() == arrays["agree"][i][j]
    share = arrays["agree"][-1].sum() / 2000
    assert f"{share:.0%} of the images" in trace["alt"]


def test_the_wall_marks_a_center_that_is_nan():
    x = torch.arange(36.0).reshape(4, 9)
    run = stepfit.record(stepfit.lloyd(x, 2, start=x[[0, 0]], empty="nan", max_steps=2))
    assert run.last.centers[1].isnan().all()
    assert (unpacked(stepfit.trace(run, x))["centers"][1].reshape(2, 9)[1] == 255).all()


def test_descent_is_the_recording(descent):
    run, data, trace = descent
    arrays = unpacked(trace)
    assert trace["kind"] == "descent"
    for name in ("x_train", "x_test"):
        assert (arrays[name.replace("_train", "")] == getattr(data, name).numpy()).all()
    assert (arrays["y"] == data.y_train.numpy()[:, 0]).all()
    assert (arrays["y_test"] == data.y_test.numpy()[:, 0]).all()
    for params, step in zip(arrays["params"], run):
        assert params.tolist() == [*step.params["weight"][0].tolist(), step.params["bias"].item()]
    for name in ("train_accuracy", "test_accuracy"):
        assert trace["metrics"][name] == [step.metrics[name] for step in run]
    assert trace["threshold"] == 0
    assert trace["lr_limit"] == run[0].lr_limit


def test_the_surface_holds_the_path_and_is_the_loss(descent):
    run, data, trace = descent
    surface = loss_surface(run, data.x_train, data.y_train, size=21)
    weights = torch.cat([step.params["weight"] for step in run]).numpy()
    for axis, values in enumerate((surface.w1, surface.w2)):
        assert values[0] < weights[:, axis].min()
        assert values[-1] > weights[:, axis].max()
    assert np.ptp(surface.w1) == pytest.approx(np.ptp(surface.w2))
    targets = data.y_train.double()
    for i, j in ((0, 0), (20, 3), (7, 12)):
        model = nn.Linear(2, 1, dtype=torch.float64)
        with torch.no_grad():
            model.weight.copy_(torch.tensor([[surface.w1[j], surface.w2[i]]]))
            model.bias.copy_(run.last.params["bias"])
            expected = nn.BCEWithLogitsLoss()(model(data.x_train), targets).item()
        assert surface.loss[i, j] == pytest.approx(expected, rel=1e-12)
    heights = unpacked(trace)["heights"]
    assert heights.shape == (64, 64)
    assert (heights.min(), heights.max()) == (0, 255)


def test_a_bowl_by_hand():
    # One point (1, 0) of class 1 and bias 0: the loss is (w1 - 1)^2, whatever w2 is.
    run = stepfit.record(stepfit.linear_regression([[1.0, 0.0]], [1], lr=0.1, start=([[0.0, 0.0]], [0.0]), max_steps=1))
    w1, w2, loss = loss_surface(run, [[1.0, 0.0]], [1], size=5)
    assert w1.tolist() == w2.tolist() == [-1, -0.5, 0, 0.5, 1]
    assert loss.tolist() == [[4, 2.25, 1, 0.25, 0]] * 5


def test_the_same_run_has_the_same_id_and_another_has_not(plane):
    run, x, trace = plane
    assert stepfit.trace(run, x)["id"] == trace["id"]
    other = stepfit.record(stepfit.lloyd(x, 4, start="random", seed=1))
    assert stepfit.trace(other, x)["id"] != trace["id"]


def test_the_sentences_are_true(plane, descent):
    run, _, trace = plane
    assert trace["alt"].startswith("k-means with 4 centers on 300 points. ")
    assert f"In {len(run)} steps the inertia falls from {run[0].loss:,.0f} to {run.last.loss:.4g};" in trace["alt"]
    run, _, trace = descent
    first, last = (100 * step.metrics["test_accuracy"] for step in (run[0], run.last))
    assert trace["alt"].startswith("Logistic regression by gradient descent on 600 points. In 100 steps the loss falls")
    assert trace["alt"].endswith(f"The test accuracy goes from {first:g}% to {last:g}%.")


def test_traces_are_small(plane, wall, descent):
    # The page with all three is to stay under 200,000. All 10,000 digits change less from step to step: 28,000.
    bounds = {"kmeans": 8_000, "wall": 36_000, "descent": 24_000}
    for trace in (plane[-1], wall[-1], descent[-1]):
        assert len(json.dumps(trace, separators=(",", ":"))) < bounds[trace["kind"]]


def test_a_trace_is_plain_json(plane, wall, descent):
    for trace in (plane[-1], wall[-1], descent[-1]):
        assert json.loads(json.dumps(trace, allow_nan=False)) == trace


@pytest.mark.parametrize("empty", ["farthest", "keep", "nan"])
def test_the_code_beside_the_picture_runs_and_gives_the_run(empty):
    x, _ = datasets.blobs(200, 2, 3, seed=3)
    x = x.double()
    run = stepfit.record(stepfit.lloyd(x, 3, start=x[:3], empty=empty, max_steps=6))
    trace = stepfit.trace(run, x)
    names = {"torch": torch, "x": x, "n": 200, "k": 3, "d": 2, "start": x[:3]}
    source = "\n".join(text for text, _, _ in trace["code"]).replace("torch.zeros(k, d)", "torch.zeros(k, d).double()")
    exec(source, names)
    torch.testing.assert_close(names["centers"], run.last.next_centers)
    _check_shapes(trace, names)


def test_the_code_of_descent_runs_and_gives_the_run(descent):
    run, data, trace = descent
    names = {"torch": torch, "nn": nn, "x": data.x_train, "x_test": data.x_test, "y_test": data.y_test}
    names["y"] = data.y_train.double()
    lines = [text for text, _, _ in trace["code"]]
    exec("\n".join(lines[:1]), names)
    with torch.no_grad():
        names["model"].double().weight.copy_(run[0].params["weight"])
        names["model"].bias.copy_(run[0].params["bias"])
    exec("\n".join(lines[1:]), names)
    assert names["loss"].item() == pytest.approx(run.last.loss)
    assert names["accuracy"].item() == pytest.approx(run.last.metrics["test_accuracy"])
    _check_shapes(trace, names)


def _check_shapes(trace, names):
    seen = 0
    for text, shape, _ in trace["code"]:
        name = text.split("=")[0].strip()
        if shape is not None and isinstance(names.get(name), torch.Tensor):
            assert list(names[name].shape) == [trace["dims"].get(letter, letter) for letter in shape], text
            seen += 1
    assert seen >= 3


def test_a_player_cannot_rerun_what_its_twin_does_not_know():
    data = datasets.toy_data()
    x, y = data.x_train, data.y_train
    assert stepfit.trace(stepfit.record(stepfit.lloyd(x, 2, seed=0)), x)["twin"]
    weight = torch.arange(600.0)
    assert not stepfit.trace(stepfit.record(stepfit.lloyd(x, 2, seed=0, sample_weight=weight)), x)["twin"]
    assert not stepfit.trace(stepfit.record(stepfit.lloyd(x, 2, seed=0, tol=0.1)), x)["twin"]
    batches = stepfit.record(stepfit.linear_regression(x, y, batch_size=50, max_steps=5, seed=0))
    assert not stepfit.trace(batches, x, y)["twin"]


def test_bad_input_is_told_in_words(plane, descent):
    run, x, _ = plane
    with pytest.raises(TypeError, match=r"run is a Steps; a recording is needed: run = stepfit\.record\(steps\)"):
        stepfit.trace(stepfit.lloyd(x, 2), x)
    with pytest.raises(ValueError, match=r"x has shape \(299, 2\), but the run was made from \(300, 2\); give that x"):
        stepfit.trace(run, x[1:])
    with pytest.raises(ValueError, match=r"x has shape \(300,\); it must be \(n, d\): a row a point"):
        stepfit.trace(run, x[:, 0])
    cube = torch.arange(12.0).reshape(4, 3)
    with pytest.raises(
        ValueError, match=r"x has 3 features; k-means can be drawn for 2 \(a plane\), or for a square number above 4"
    ):
        stepfit.trace(stepfit.record(stepfit.lloyd(cube, 2, seed=0)), cube)
    images = torch.arange(36.0).reshape(4, 9)
    images_run = stepfit.record(stepfit.lloyd(images, 2, seed=0))
    with pytest.raises(ValueError, match="y has 3 values; it must say what each of the 4 images shows"):
        stepfit.trace(images_run, images, [0, 1, 2])
    run, data, _ = descent
    with pytest.raises(ValueError, match=r"drawn with its classes: trace\(run, x, y\)"):
        stepfit.trace(run, data.x_train)
    with pytest.raises(ValueError, match="y holds 2; the player draws two classes, 0 and 1"):
        stepfit.trace(run, data.x_train, data.y_train * 2)
    with pytest.raises(ValueError, match=r"x has shape \(599, 2\), but the run was made from \(600, 2\)"):
        stepfit.trace(run, data.x_train[1:], data.y_train)
    with pytest.raises(ValueError, match=r"x_test has shape \(400, 2\) and y_test 399 values"):
        stepfit.trace(run, data.x_train, data.y_train, test=(data.x_test, data.y_test[1:]))


def test_a_run_without_a_picture_of_its_own_is_a_curve(descent):
    _, data, _ = descent
    x, y = data.x_train.float(), data.y_train.float()
    line, deep = nn.Linear(2, 1), nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    for model, loss in ((line, nn.L1Loss()), (deep, nn.MSELoss())):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        run = stepfit.record(stepfit.descend(model, loss, optimizer, x, y, max_steps=3))
        trace = stepfit.trace(run, x, y)
        assert (trace["kind"], trace["twin"], trace["arrays"]) == ("curve", False, [])
        assert trace["losses"] == [step.loss for step in run]
        assert trace["metrics"] == {name: [step.metrics[name] for step in run] for name in run.last.metrics}
    choice = stepfit.record(stepfit.choose_k(x[:50], [1, 2, 3], seed=0))
    trace = stepfit.trace(choice, x[:50])
    assert (trace["loss_name"], trace["losses"]) == ("inertia", [step.inertia for step in choice])
    assert trace["metrics"] == {name: [getattr(step, name) for step in choice] for name in ("stability", "silhouette")}
    assert trace["metrics"]["silhouette"][0] is None  # of one cluster


def test_the_labels_of_a_mini_batch_are_those_of_its_rows():
    x, _ = datasets.blobs(200, 2, 3, seed=3)
    run = stepfit.record(mini_batches(x, 3, batch_size=20, seed=0, max_epochs=1))
    trace = stepfit.trace(run, x)
    arrays = unpacked(trace)
    assert (trace["kind"], trace["twin"], trace["dims"]) == ("kmeans", False, {"n": 200, "k": 3, "d": 2, "b": 20})
    for labels, step in zip(arrays["labels"], run, strict=True):
        assert (labels[step.rows] == step.labels.numpy()).all()
        assert (np.delete(labels, step.rows) == 3).all()
    assert (arrays["centers"][-1] == run.last.next_centers.numpy()).all()
