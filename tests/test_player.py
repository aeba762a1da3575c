"""player.js without a browser: its own k-means and descent equal stepfit's; regions, colors and words are right."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import stepfit
from stepfit import datasets
from stepfit.viewers.palette import COLORS

PLAYER = Path(stepfit.__file__).parent / "viewers/player.js"
BRIDGE = Path(__file__).parent / "player/call.mjs"


@pytest.fixture(scope="session")
def call():
    """Give `call([[name, ...arguments], ...])`: the results of these functions of player.js, all in one run of node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node: `apt-get install nodejs`")

    def results(calls):
        done = subprocess.run([node, BRIDGE], input=json.dumps(calls), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return results


def _kmeans_problem(seed):
    """Points on a coarse grid (ties, repeats) or spread out; the start repeats points, so that clusters are empty."""
    random = np.random.default_rng(seed)
    n, k = int(random.integers(4, 80)), int(random.integers(1, 7))
    k = min(k, n)
    x = random.integers(-2, 3, (n, 2)).astype(float) if seed % 2 else random.normal(size=(n, 2))
    if seed % 5 == 0:
        x[: n // 2] = x[0]
    x = torch.from_numpy(x).to(torch.float32 if seed % 3 == 0 else torch.float64)
    start = x[random.integers(0, n, k)]
    empty = ("farthest", "keep", "nan")[seed % 7 % 3]
    return x, start, {"empty": empty, "max_steps": 40}


def test_kmeans_equals_stepfit_on_30_problems(call):
    problems = [_kmeans_problem(seed) for seed in range(30)]
    runs = [stepfit.record(stepfit.lloyd(x, len(start), start=start, **settings)) for x, start, settings in problems]
    dtypes = [str(run.last.centers.dtype).removeprefix("torch.") for run in runs]
    calls = [
        ["kmeans", x.reshape(-1).tolist(), start.reshape(-1).tolist(), settings, dtype]
        for (x, start, settings), dtype in zip(problems, dtypes)
    ]
    happened = set()
    for (x, start, _), run, dtype, twin in zip(problems, runs, dtypes, call(calls)):
        rtol = 1e-9 if dtype == "float64" else 1e-4
        assert twin["stop"] == run.stop.name
        assert len(twin["losses"]) == len(run)
        assert twin["changed"] == [step.changed for step in run]
        assert twin["events"] == [list(step.events) for step in run]
        labels = np.reshape(twin["labels"], (len(run), len(x)))
        centers = np.array(twin["centers"], float).reshape(len(run), len(start), 2)
        for step, twin_labels, twin_centers, loss in zip(run, labels, centers, twin["losses"]):
            assert (twin_labels == step.labels.numpy()).all()
            np.testing.assert_allclose(twin_centers, step.centers.double().numpy(), rtol, 1e-12)
            np.testing.assert_allclose(float(loss), step.inertia, rtol, 1e-12)
        happened |= {run.stop.name, *(event.split("; ")[1].split(" point")[0] for step in run for event in step.events)}
    # Or else the problems were too tame to show anything.
    assert happened == {"CONVERGED", "MAX_STEPS", "its center moved to", "its center stays", "its center became NaN"}


def test_the_farthest_rule_by_hand(call):
    settings = {"empty": "farthest", "max_steps": 9}
    # Two points in one place: the center that takes one of them is empty again, no label changes, and yet it goes on.
    x, start = [5, 0, 5, 0, 0, 0, 1, 0], [4, 0, 0.5, 0, 99, 0]
    twin, still = call(
        [["kmeans", x, start, settings, "float64"], ["kmeans", [3, 3] * 4, [3, 3, 3, 3], settings, "float64"]]
    )
    assert twin["changed"] == [4, 0, 1, 0]
    assert twin["events"][:2] == [[f"cluster 2 was empty; its center moved to point {i}"] for i in (0, 2)]
    assert twin["losses"] == [2.5, 0.5, 0, 0]
    run = stepfit.record(stepfit.lloyd(np.reshape(x, (4, 2)), 3, start=np.reshape(start, (3, 2))))
    assert [step.changed for step in run] == twin["changed"]
    # All points lie on their center: nothing is far, so nothing moves.
    assert still["events"] == [["cluster 1 was empty; its center stays"]] * 2
    assert still["stop"] == "CONVERGED"


@pytest.mark.parametrize("fit", [stepfit.linear_regression, stepfit.logistic_regression])
def test_descent_equals_stepfit(call, fit):
    cases = [
        (0.1, 0.0, torch.float64, datasets.two_moons),
        (0.9, 0.0, torch.float64, datasets.two_moons),
        (0.1, 0.9, torch.float64, datasets.toy_data),
        (0.1, 0.0, torch.float32, datasets.toy_data),
        (0.1, 0.9, torch.float32, datasets.two_moons),
    ]
    runs, calls = [], []
    for lr, momentum, dtype, data in cases:
        x, x_test, y, y_test = data()
        x, x_test = x.to(dtype), x_test.to(dtype)
        run = stepfit.record(fit(x, y, lr=lr, momentum=momentum, test=(x_test, y_test), max_steps=40, seed=1))
        points = [("x", x), ("y", y), ("x_test", x_test), ("y_test", y_test)]
        rows = {name: values.reshape(-1).tolist() for name, values in points}
        start = [*run[0].params["weight"].reshape(-1).tolist(), run[0].params["bias"].item()]
        runs.append(run)
        calls.append(["descend", rows, start, run.settings, run.settings["dtype"]])
    for run, twin in zip(runs, call(calls)):
        rtol = 1e-9 if run.settings["dtype"] == "float64" else 1e-3
        assert twin["stop"] == run.stop.name
        assert twin["index"] == [step.index for step in run]
        params = [[*step.params["weight"].reshape(-1).tolist(), step.params["bias"].item()] for step in run]
        np.testing.assert_allclose(np.reshape(twin["params"], (-1, 3)), params, rtol, rtol)
        np.testing.assert_allclose(twin["losses"], [step.loss for step in run], rtol)
        for name in ("train_accuracy", "test_accuracy"):
            # A point on the very line may fall to either side of it in float32.
            slack = 0 if rtol == 1e-9 else 2 / 400
            np.testing.assert_allclose(twin["metrics"][name], [step.metrics[name] for step in run], 0, slack + 1e-12)
    stops = {run.stop.name for run in runs}
    assert stops == ({"MAX_STEPS", "DIVERGED"} if fit is stepfit.linear_regression else {"MAX_STEPS"})


def test_descent_stops_where_nothing_moves(call):
    rows = {"x": [1.0, 0.0, 0.0, 1.0], "y": [1, 0]}
    (twin,) = call(
        [["descend", rows, [1, 0, 0], {"loss": "MSELoss", "lr": 0.1, "momentum": 0, "max_steps": 9}, "float64"]]
    )
    assert (twin["stop"], twin["losses"]) == ("CONVERGED", [0])
    x, y = torch.eye(2, dtype=torch.float64), torch.tensor([1, 0])
    run = stepfit.record(stepfit.linear_regression(x, y, start=([[1.0, 0.0]], [0.0])))
    assert run.stop.name == "CONVERGED"


def test_two_centers_share_a_square_by_hand(call):
    (halves,) = call([["regions", [1, 2, 3, 2], [0, 0, 4, 4]]])
    assert sorted(map(tuple, halves[0])) == [(0, 0), (0, 4), (2, 0), (2, 4)]
    assert sorted(map(tuple, halves[1])) == [(2, 0), (2, 4), (4, 0), (4, 4)]


def test_regions_are_where_each_center_is_nearest(call):
    random = np.random.default_rng(0)
    box = [-3, -2, 3, 4]
    sets = [random.normal(size=(k, 2)).round(1) for k in (1, 2, 3, 5, 8, 8, 8)]
    sets[-1][5] = sets[-1][2]  # two in one place
    for centers, polygons in zip(sets, call([["regions", centers.reshape(-1).tolist(), box] for centers in sets])):
        areas = [_area(polygon) for polygon in polygons]
        assert sum(areas) == pytest.approx(36)
        spots = random.uniform(box[:2], box[2:], (4000, 2))
        nearest = ((spots[:, None] - centers) ** 2).sum(2).argmin(1)
        for j, polygon in enumerate(polygons):
            assert areas[j] / 36 == pytest.approx((nearest == j).mean(), abs=0.04)
            for corner in polygon:  # is as near to its center as to any other
                distances = ((np.array(corner) - centers) ** 2).sum(1)
                assert distances[j] == pytest.approx(distances.min(), abs=1e-9)


def test_nan_takes_the_whole_plane_as_it_takes_the_labels(call):
    # NaN does not pass through JSON; a twin's second step has it.
    settings = {"empty": "nan", "max_steps": 2}
    (twin,) = call([["kmeans", [0, 0, 1, 0], [0, 0, 0, 0, 9, 9], settings, "float64"]])
    assert twin["centers"][6:] == [0.5, 0, "NaN", "NaN", "NaN", "NaN"]
    assert twin["labels"][2:] == [1, 1]


def _area(polygon):
    x, y = np.array(polygon or [[0, 0]]).T
    return abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2


@pytest.mark.parametrize(("back", "text"), [((255, 255, 255), (29, 32, 37)), ((21, 23, 27), (228, 230, 234))])
def test_marks_stand_out_from_the_background_and_from_every_tint(call, back, text):
    colors = [[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in COLORS]
    tints = call([["tint", color, back] for color in colors])
    grounds = [back, *tints]
    inks = call([["ink", color, grounds, text] for color in colors])
    contrasts = call([["contrast", ink, ground] for ink in inks for ground in grounds])
    assert min(contrasts) >= 3
    # A flash needs a tenth of the full brightness: the tints, light or dark, are closer to each other than that.
    brightness = [(1.05 / ratio) for ratio in call([["contrast", [255, 255, 255], ground] for ground in tints])]
    assert max(brightness) - min(brightness) < 0.25
    assert max(brightness) - min(brightness) < 0.1 or min(brightness) > 0.8


def test_numbers_are_written_for_people(call):
    written = {
        3.14159: "3.142",
        -0.5: "−0.5",
        1234.5: "1,235",
        2.5e10: "2.50e10",
        0: "0",
        0.00001234: "1.23e-5".replace("-", "−"),
    }
    assert call([["num", value] for value in written]) == list(written.values())
    assert call([["num", None]]) == ["not a number"]


def test_the_player_is_one_small_file():
    source = PLAYER.read_text()
    assert "import " not in source.replace("import.meta", "")
    assert len(source.encode()) < 58_000


def test_the_words_of_mini_batches_and_of_curves(call):
    common = {"losses": [3.0, 1.5], "index": [0, 1], "events": [[], ["center 1 moved"]], "stop": "EARLY"}
    common |= {"stops": {"EARLY": "it was enough"}}
    batches = {"kind": "kmeans", "dims": {"n": 90, "k": 2, "d": 2, "b": 10}, **common}
    curve = {"kind": "curve", "dims": {}, "loss_name": "loss", "metrics": {"test_accuracy": [0.5, None]}, **common}
    calls = [["frames", batches], *(["sentence", batches, i] for i in range(5)), ["title", batches, 4]]
    calls += [["frames", curve], ["sentence", curve, 0], ["sentence", curve, 1]]
    assert call(calls) == [
        5,
        "2 centers are placed; no point belongs to one yet.",
        "Each of the 10 points of the batch joins its nearest center. Loss 3.",
        "Each center moves towards its points of the batch.",
        "Each of the 10 points of the batch joins its nearest center. Loss 1.5.",
        "Each center moves towards its points of the batch. Center 1 moved. It was enough.",
        "Step 1, update",
        2,
        "Loss 3, test accuracy 50%.",
        "Loss 1.5, test accuracy not a number. Center 1 moved. It was enough.",
    ]
