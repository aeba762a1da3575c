"""The command line, as a newcomer types it: right, wrong, interrupted, and into a closed pipe."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from stepfit import Recording, Stop, __version__, datasets, kernels, lloyd, record
from stepfit.cli import app, checkup, inputs, results, runs
from stepfit.kernels import compiled

needs_native = pytest.mark.skipif(bool(compiled.missing), reason="the native kernel was not built")


def stepfit(*words):
    """Run a command in this process; a traceback fails the test."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(*words):
    result = stepfit(*words)
    assert result.exit_code == 0, result.output
    return result


def refused(*words):
    """The one sentence with which a command is refused."""
    result = stepfit(*words)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("stepfit: ")
    return lines[0]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def points(folder):
    """40 points of the plane in points.npy."""
    x = np.random.RandomState(0).standard_normal((40, 2))
    np.save("points.npy", x)
    return x


# What is read


def test_kmeans_does_what_lloyd_does(points):
    summary = json.loads(done("kmeans", "points.npy", "-k", 3, "--seed", 5, "--json").stdout)
    last = record(lloyd(points, 3, seed=5)).last
    assert summary.pop("seconds") > 0
    assert summary == {
        "command": "kmeans", "input": "points.npy", "n": 40, "d": 2, "k": 3, "steps": last.index + 1,
        "stop": "CONVERGED", "loss": last.loss, "counts": last.counts.tolist(), "kernel": kernels.choose(),
        "dtype": "float64", "start": "k-means++", "seed": 5, "tol": 0.0, "version": __version__,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "n", "d", "dtype"),
    [
        ("blobs", 1000, 2, "float32"),
        ("toy", 1000, 2, "float64"),
        ("two-moons", 1000, 2, "float64"),
        ("two-circles", 1000, 2, "float64"),
    ],
)
def test_names(name, n, d, dtype):
    summary = json.loads(done("kmeans", name, "-k", 2, "--max-steps", 1, "--start", "random", "--json").stdout)
    assert (summary["n"], summary["d"], summary["dtype"]) == (n, d, dtype)


def test_pixels_are_clustered_as_bytes_and_come_out_divided_by_255(folder):
    x, digits, unit = inputs.read_points("mnist")
    assert (x.dtype, x.shape, int(x.max()), unit) == (torch.uint8, (10000, 784), 255, 255)
    assert digits[:4].tolist() == [7, 2, 1, 0]
    start = x[:3].numpy() / 255
    np.save("start.npy", start.astype(np.float32))
    done("kmeans", "mnist", "-k", 3, "--max-steps", 3, "--start", "start.npy", "--out", "out")
    run, scaled = Recording.load("out/steps.npz"), record(lloyd(x / 255, 3, start=start, max_steps=3))
    for ours, theirs in zip(run, scaled, strict=True):
        assert ours.labels.equal(theirs.labels)
        torch.testing.assert_close(ours.centers, theirs.centers)
        torch.testing.assert_close(ours.next_centers, theirs.next_centers)
        assert (ours.loss, ours.shift) == pytest.approx((theirs.loss, theirs.shift), rel=1e-5)
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["loss"] == run.last.loss
    assert np.load("out/centers.npy").max() <= 1
    done("assign", "mnist", "--centers", "out/centers.npy", "--out", "labels.npy")
    assert (np.load("labels.npy") == scaled.last.labels.numpy()).mean() > 0.9999


@pytest.mark.parametrize(
    "text",
    [
        "1,2\n3,4\n",
        "a,b\n1,2\n3,4\n",
        "a;b\r\n1;2\r\n3;4\r\n",
        "a\tb\n1\t2\n3\t4\n",
        '"a, b","c"\n"1","2"\n"3","4"\n',
        "\ufeff1,2\n3,4\n",
        "\n1,2\n\n3,4\n\n",
    ],
)
def test_csv(folder, text):
    Path("points.csv").write_text(text, encoding="utf-8")
    assert inputs.read_points("points.csv").x.tolist() == [[1, 2], [3, 4]]


def test_npz_and_parquet_and_mapped_npy(points):
    np.savez("one.npz", points)
    np.savez("two.npz", first=points, second=points[:5])
    assert np.array_equal(inputs.read_points("one.npz").x, points)
    assert np.array_equal(inputs.read_points("two.npz:second").x, points[:5])
    assert isinstance(inputs.read_points("points.npy").x, np.memmap)
    from pyarrow import parquet, table

    parquet.write_table(table({"a": [1, 2, 3], "b": [0.5, 1.5, 2.5]}), "points.parquet")
    assert inputs.read_points("points.parquet").x.tolist() == [[1, 0.5], [2, 1.5], [3, 2.5]]


def test_start_from_a_file_goes_on(points):
    done("kmeans", "points.npy", "-k", 3, "--seed", 1, "--max-steps", 2, "--out", "first")
    again = done("kmeans", "points.npy", "-k", 3, "--start", "first/centers.npy", "--json")
    whole = json.loads(done("kmeans", "points.npy", "-k", 3, "--seed", 1, "--json").stdout)
    summary = json.loads(again.stdout)
    assert summary["loss"] == whole["loss"]
    assert summary["start"] == "first/centers.npy"


# What is refused


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b,kind\n1,2,setosa\n", "'setosa' in row 2, column 3 (kind); every cell must be a finite number"),
        ("1,2\n3,x\n", "'x' in row 2, column 2; every cell"),
        ("a,7\n1,2\n", "'a' in row 1, column 1; every cell"),
        ("a,b\n1,2\n3,\n", "nothing in row 3, column 2 (b)"),
        ("1,2\n3,nan\n", "'nan' in row 2, column 2"),
        ("1,2\n3,4,5\n", "3 cells in row 2 and 2 before it"),
        ("a,b\n", "no row of numbers"),
        ("", "no row of numbers"),
        ("a,b\n\ud800,1\n", "is not text"),
    ],
)
def test_csv_names_the_cell(folder, text, said):
    Path("points.csv").write_text(text, encoding="utf-8", errors="surrogatepass")
    sentence = refused("kmeans", "points.csv", "-k", 1)
    assert sentence.startswith("stepfit: points.csv ")
    assert said in sentence


def test_parquet_names_the_column(folder):
    from pyarrow import parquet, table

    parquet.write_table(table({"a": [1, 2], "b": ["x", "y"]}), "text.parquet")
    assert "has string in column b" in refused("kmeans", "text.parquet", "-k", 1)
    parquet.write_table(table({"a": [1, None]}), "hole.parquet")
    assert "lacks 1 of 2 values in column a" in refused("kmeans", "hole.parquet", "-k", 1)
    parquet.write_table(table({}), "empty.parquet")
    assert "has no column" in refused("kmeans", "empty.parquet", "-k", 1)
    Path("fake.parquet").write_text("hello")
    assert "is not a .parquet file" in refused("kmeans", "fake.parquet", "-k", 1)


def test_files_that_are_not_what_their_names_say(points):
    np.savez("two.npz", first=points, second=points)
    np.save("objects.npy", np.array([{}, 1], dtype=object))
    Path("text.npy").write_text("hello")
    Path("empty.npy").touch()
    Path("archive.npy").write_bytes(Path("two.npz").read_bytes())
    Path("notes.txt").write_text("1 2")
    Path("folder.npy").mkdir()
    for name in ("objects.npy", "text.npy", "empty.npy", "archive.npy"):
        assert f"{name} is not a whole .npy file of numbers; write it by" in refused("kmeans", name, "-k", 2)
    assert "notes.txt is a file of another kind; INPUT must be" in refused("kmeans", "notes.txt", "-k", 2)
    assert "folder.npy is a folder; INPUT must be" in refused("kmeans", "folder.npy", "-k", 2)
    assert "did you mean mnist?" in refused("kmeans", "mnits", "-k", 2)
    assert refused("kmeans", "two.npz", "-k", 2).endswith(
        "two.npz holds more than one array; choose by two.npz:NAME, where NAME is one of first, second"
    )
    assert "has no array 'third'; choose by" in refused("kmeans", "two.npz:third", "-k", 2)
    assert "none.npz is neither a file" in refused("kmeans", "none.npz:a", "-k", 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-k", 0], "k is 0, but x has 40 points; k must be from 1 to 40"),
        (["-k", 41], "k is 41"),
        (["-k", 2, "--max-steps", 0], "max_steps is 0"),
        (["-k", 2, "--tol", "nan"], "tol is nan"),
        (["-k", 2, "--start", "middle"], "start='middle' is not known"),
        (["-k", 2, "--start", "none.npy"], "none.npy cannot be read: No such file"),
        (["-k", 2, "--start", "points.npy"], "start has shape (40, 2); with k=2 and d=2 it must be (2, 2)"),
        (["-k", 2, "--empty", "zero"], "empty='zero' is not known"),
        (["-k", 2, "--kernel", "gpu"], "there is no kernel 'gpu'"),
        (["-k", 2, "--out", "points.npy"], "points.npy is a file; --out needs a folder"),
        (["-k", 2, "--out", "points.npy/deep"], "points.npy/deep cannot be made: Not a directory"),
        (["-k", 2, "--gif", "a.mp4"], "a.mp4 does not end in .gif"),
        (["-k", 2, "--mp4", "none/a.mp4"], "none/a.mp4 cannot be written: No such file or directory"),
        (["-k", 2, "--gif", "a.gif", "--max-steps", 2_000_000], "--max-steps 1250000, or with fewer points"),
    ],
)
def test_kmeans_refuses(points, words, said):
    assert said in refused("kmeans", "points.npy", *words)


def test_a_refused_run_leaves_nothing_behind(points):
    refused("kmeans", "points.npy", "-k", 0, "--out", "result", "--gif", "a.gif")
    assert [path.name for path in Path().iterdir()] == ["points.npy"]


def test_what_is_no_table_of_numbers_is_refused(folder):
    np.save("scalar.npy", np.float64(3))
    np.save("row.npy", np.arange(5.0))
    assert "must be (n, d)" in refused("kmeans", "scalar.npy", "-k", 1, "--gif", "a.gif")
    assert "must be (n, d)" in refused("kmeans", "row.npy", "-k", 1, "--gif", "a.gif")
    np.save("words.npy", np.array([["a", "b"]]))
    assert "x is an array of <U1; real numbers" in refused("kmeans", "words.npy", "-k", 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["linear", "mnist"], "INPUT must be a file (.npz) or one of toy, two-moons, two-circles"),
        (["linear", "points.npy"], "points.npy is a file of another kind"),
        (["linear", "two.npz"], "holds first; arr_0 .. arr_3 = x_train, x_test, y_train, y_test are needed"),
        (["linear", "toy", "--lr", "fast"], "--lr is 'fast'; a number or auto is needed"),
        (["linear", "toy", "--lr", "0"], "lr is 0.0; it must be a positive number"),
        (["linear", "toy", "--max-steps", "0"], "max_steps is 0"),
    ],
)
def test_regress_refuses(points, words, said):
    np.savez("two.npz", first=points)
    assert said in refused("regress", *words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["kmeans", "blobs"], "Missing option '-k'"),
        (["kmeans"], "Missing argument 'INPUT'"),
        (["kmeans", "blobs", "-k", "ten"], "'-k'"),
        (["kmeans", "blobs", "-k", "2", "--seed", "-1"], "'--seed'"),
        (["regress", "cubic", "toy"], "'cubic' is not one of 'linear', 'logistic'"),
        (["frobnicate"], "No such command 'frobnicate'"),
    ],
)
def test_bad_usage(words, said):
    result = stepfit(*words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "--help" in result.stderr


def test_points_that_cannot_be_drawn_are_refused_before_the_run(folder, monkeypatch):
    monkeypatch.setattr(runs, "lloyd", None)  # a call would raise
    np.save("wide.npy", np.zeros((10, 5)))
    assert "x has 5 features; k-means can be drawn for 2" in refused("kmeans", "wide.npy", "-k", 2, "--gif", "a.gif")
    np.savez("wide.npz", *[np.zeros((10, 9))] * 2, *[np.zeros(10)] * 2)


def test_a_missing_extra_is_named_with_the_line_that_installs_it(points, monkeypatch):
    monkeypatch.setattr(runs, "find_spec", lambda name: None)
    assert "pip install 'stepfit[video]'" in refused("kmeans", "points.npy", "-k", 2, "--mp4", "a.mp4")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    Path("a.parquet").touch()
    assert "pip install 'stepfit[parquet]'" in refused("kmeans", "a.parquet", "-k", 2)
    monkeypatch.delitem(sys.modules, "stepfit.lesson.server", raising=False)
    monkeypatch.setitem(sys.modules, "starlette", None)
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    assert "the lesson needs starlette: pip install 'stepfit[lesson]'" in refused("learn")


# What is written


def test_kmeans_writes_a_whole_folder(points):
    Path("result").mkdir()
    Path("result/centers.npy").write_text("from an earlier run")
    Path("result/notes.txt").write_text("mine")
    done("kmeans", "points.npy", "-k", 3, "--seed", 5, "--out", "result")
    assert sorted(path.name for path in Path("result").iterdir()) == [
        "centers.npy", "labels.npy", "notes.txt", "steps.npz", "summary.json",
    ]  # fmt: skip
    run = Recording.load("result/steps.npz")
    summary = json.loads(Path("result/summary.json").read_text())
    centers, labels = np.load("result/centers.npy"), np.load("result/labels.npy")
    assert summary["steps"] == len(run)
    assert summary["counts"] == np.bincount(labels).tolist()
    # Together: these labels belong to these centers, and their loss is the one in the summary.
    assert summary["loss"] == pytest.approx(((points - centers[labels]) ** 2).sum())
    assert np.array_equal(run.last.labels, labels)
    assert all(len(step.labels) == 40 for step in run)


def test_labels_of_early_steps_are_left_out_when_there_are_many(points, monkeypatch):
    monkeypatch.setattr(runs, "_MOST_LABELS", 40 * 299)
    result = done("kmeans", "points.npy", "-k", 3, "--seed", 5, "--out", "result")
    assert "labels of the last step only" in result.stderr
    run = Recording.load("result/steps.npz")
    assert len(run) > 2
    assert [len(step.labels) for step in run] == [0] * (len(run) - 1) + [40]
    whole = record(lloyd(points, 3, seed=5))
    assert np.array_equal(np.load("result/labels.npy"), whole.last.labels)
    assert [step.loss for step in run] == [step.loss for step in whole]
    assert run.stop is Stop.CONVERGED


def test_a_run_whose_files_fail_leaves_the_old_ones(points, monkeypatch):
    done("kmeans", "points.npy", "-k", 3, "--seed", 5, "--out", "result")
    before = {path.name: path.read_bytes() for path in Path("result").iterdir()}

    def full_disk(*_):
        raise OSError(28, "No space left on device", "result/steps.npz")

    monkeypatch.setattr(Recording, "save", full_disk)
    assert stepfit("kmeans", "points.npy", "-k", 2, "--out", "result").exit_code == 2
    assert {path.name: path.read_bytes() for path in Path("result").iterdir()} == before


def test_regress_writes_the_model_that_its_numbers_belong_to(folder):
    done("regress", "linear", "two-moons", "--seed", 0, "--out", "result")
    summary = json.loads(Path("result/summary.json").read_text())
    weight, bias = np.load("result/weight.npy"), np.load("result/bias.npy")
    x_train, x_test, y_train, y_test = (part.numpy() for part in datasets.two_moons())
    assert summary["loss"] == pytest.approx(((x_train @ weight.T + bias - y_train) ** 2).mean())
    assert summary["test_accuracy"] == pytest.approx(((x_test @ weight.T + bias > 0.5) == y_test).mean())
    assert summary["weight"] == weight.flatten().tolist()
    assert (summary["steps"], summary["stop"], summary["lr"]) == (100, "MAX_STEPS", 0.1)
    assert len(Recording.load("result/steps.npz")) == 100


def test_lr_auto_is_one_over_the_bound(folder):
    """By hand: x = 1 and -1, so 1/n X'X is the unit matrix; L is 2 for linear regression and 1/4 for logistic."""
    np.savez("pair.npz", *[np.array([[1.0], [-1.0]])] * 2, *[np.array([1, 0])] * 2)
    for model, lr in (("linear", 0.5), ("logistic", 4.0)):
        summary = json.loads(done("regress", model, "pair.npz", "--lr", "auto", "--json", "--max-steps", 1).stdout)
        assert summary["lr"] == pytest.approx(lr)


def test_regress_says_when_it_diverges(folder):
    result = done("regress", "linear", "two-moons", "--lr", 0.8)
    assert "DIVERGED" in result.stdout
    assert "2/lambda_max = 0.652" in result.stdout
    summary = json.loads(done("regress", "linear", "toy", "--lr", "1e300", "--json").stdout)
    assert summary["stop"] == "DIVERGED"


def test_json_has_no_infinity():
    said = results.summary_text({"loss": float("inf"), "weight": [1.5, float("nan")], "stop": "DIVERGED"})
    assert json.loads(said, parse_constant=pytest.fail) == {"loss": None, "weight": [1.5, None], "stop": "DIVERGED"}


def test_moving_pictures_are_drawn_from_the_run(points):
    np.save("few.npy", points[:6])
    done("kmeans", "few.npy", "-k", 2, "--max-steps", 1, "--gif", "plane.gif")
    assert Path("plane.gif").read_bytes().startswith(b"GIF89a")
    done("regress", "linear", "toy", "--max-steps", 1, "--mp4", "line.mp4")
    assert Path("line.mp4").read_bytes()[4:8] == b"ftyp"


def test_the_digits_go_into_the_picture(folder, monkeypatch):
    from stepfit.viewers import animation

    few = inputs.Points(torch.rand(20, 784), torch.arange(20) % 10)
    monkeypatch.setitem(inputs._POINTS, "mnist", lambda: few)
    drawn = []
    monkeypatch.setattr(animation, "animate", lambda run, x, path, y: drawn.append((len(run), x, path, y)))
    steps = json.loads(done("kmeans", "mnist", "-k", 3, "--gif", "wall.gif", "--json").stdout)["steps"]
    assert drawn == [(steps, few.x, Path("wall.gif"), few.digits)]


def test_assign_gives_the_labels_of_the_run(points):
    done("kmeans", "points.npy", "-k", 3, "--out", "result")
    done("assign", "points.npy", "--centers", "result/centers.npy", "--out", "again.npy")
    assert np.array_equal(np.load("again.npy"), np.load("result/labels.npy"))
    assert "does not end in .npy" in refused("assign", "points.npy", "--centers", "again.npy", "--out", "a.txt")
    assert "centers has shape (40,)" in refused("assign", "points.npy", "--centers", "again.npy")


# What is said


def test_the_table_has_a_row_a_cluster_and_names_the_digit(monkeypatch):
    """By hand: on a line, the digits 1, 1, 7 lie at 0 and the digit 4 at 9."""
    few = inputs.Points(torch.tensor([[0.0], [0.0], [0.0], [9.0]]), torch.tensor([1, 1, 7, 4]))
    monkeypatch.setitem(inputs._POINTS, "mnist", lambda: few)
    lines = done("kmeans", "mnist", "-k", 2, "--max-steps", 1).stdout.splitlines()
    assert re.findall(r"[\w%()]+", lines[1]) == ["cluster", "points", "share", "mostly"]
    rows = [re.findall(r"[\d.]+", line)[1:] for line in lines if line.startswith("│")]
    assert sorted(rows) == [["1", "25.0", "4", "100"], ["3", "75.0", "1", "67"]]
    assert "raise max_steps to go on" in lines[-1]


def test_of_many_clusters_the_largest_are_shown(folder):
    result = done("kmeans", "blobs", "-k", 40, "--max-steps", 1)
    assert "the 30 largest of 40 clusters" in result.stdout
    counts = [int(line.split("│")[2]) for line in result.stdout.splitlines() if line.startswith("│")]
    assert len(counts) == 30
    assert counts == sorted(counts, reverse=True)


def test_the_seed_that_is_shown_makes_the_same_run(points):
    first = json.loads(done("kmeans", "points.npy", "-k", 4, "--json", "--start", "random").stdout)
    again = done("kmeans", "points.npy", "-k", 4, "--json", "--start", "random", "--seed", first["seed"])
    assert json.loads(again.stdout)["counts"] == first["counts"]


def test_doctor(monkeypatch):
    monkeypatch.setattr(checkup, "find_spec", lambda name: None if name == "pyarrow" else name)
    said = done("doctor").stdout
    assert f"stepfit     {__version__}" in said
    assert re.search(r"processor   \d+ of \d+ cores allowed; (has|torch uses) ", said)
    assert f"threads     {torch.get_num_threads()};" in said
    assert "lacks pyarrow: pip install 'stepfit[parquet]'" in said
    assert re.search(
        r"kernel      (native|chunked), the fastest there is; there are chunked, native, reference\n", said
    )
    monkeypatch.setenv("STEPFIT_KERNEL", "reference")
    assert "reference, forced by STEPFIT_KERNEL" in done("doctor").stdout
    monkeypatch.setenv("STEPFIT_KERNEL", "warp")
    assert "STEPFIT_KERNEL is wrong: there is no kernel 'warp'" in done("doctor").stdout


@needs_native
def test_doctor_knows_the_native_kernel(monkeypatch):
    said = done("doctor").stdout
    assert re.search(
        r"native      levels generic.* here; \w+ is used, the best of them\nbuild       .*-ffp-contract=", said
    )
    monkeypatch.setenv("STEPFIT_ISA", "generic")
    assert "generic is used, forced by STEPFIT_ISA" in done("doctor").stdout
    monkeypatch.setenv("STEPFIT_ISA", "warp")
    assert "native      STEPFIT_ISA is 'warp'; this machine has generic" in done("doctor").stdout
    assert refused("doctor", "-n", 9, "-d", 2, "-k", 3).startswith("stepfit: STEPFIT_ISA is 'warp'; this machine has")


@pytest.mark.parametrize(("compiler", "advice"), [("g++", "g++ is here now"), (None, "apt-get install g++")])
def test_doctor_says_what_to_do_without_the_native_kernel(monkeypatch, compiler, advice):
    monkeypatch.setattr(compiled, "missing", "No module named 'stepfit._native'")
    monkeypatch.setattr(checkup.shutil, "which", lambda name: compiler if name == compiler else None)
    said = done("doctor").stdout
    assert "kernel      chunked, the fastest there is" in said
    assert re.search(r"native      missing \(No module .*\): .*, then install stepfit again", said)
    assert advice in said
    assert "build" not in said
    assert "screened in float32 and settled in float64, by torch" in done("doctor", "-n", 9, "-d", 2, "-k", 3).stdout


@needs_native
@pytest.mark.parametrize(
    ("shape", "path", "late"),
    [
        ((5_000_000, 2, 8, "float32"), "narrow, few features and few centers", "look at all rows"),
        ((10_000, 128, 10, "uint8"), "bytes, bytes and few centers", "skip the rows"),
        ((10_000, 784, 10, "float32"), "tiles, for all other shapes", "skip the rows"),
        ((1_000_000, 64, 256, "float32"), "tiles, for all other shapes", "skip the rows"),
        ((1_000_000, 64, 1, "float64"), "tiles, for all other shapes", "look at all rows"),
    ],
)
def test_doctor_tells_what_would_run_for_a_shape(shape, path, late):
    n, d, k, dtype = shape
    said = done("doctor", "-n", n, "-d", d, "-k", k, "--dtype", dtype).stdout
    assert f"points      {n} x {d}, {dtype}, {k} centers" in said
    assert "kernel      native, the fastest there is" in said
    assert f"path        {path}" in said
    assert f"threads     {torch.get_num_threads()}, as torch has" in said
    assert f"late steps  {late}" in said


@needs_native
def test_doctor_has_words_for_long_rows_of_bytes():
    said = done("doctor", "-n", 10_000, "-d", 784, "-k", 10, "--dtype", "uint8").stdout
    assert "path        rows, long rows of bytes" in said or "path        bytes, bytes and few centers" in said


@needs_native
def test_little_work_is_not_shared(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert "threads     1, for so little work is not shared" in done("doctor", "-n", 9, "-d", 2, "-k", 3).stdout
    monkeypatch.setenv("STEPFIT_KERNEL", "reference")
    assert "kernel      reference, forced by STEPFIT_KERNEL" in done("doctor", "-n", 9, "-d", 2, "-k", 3).stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-n", 9], "a shape needs -n, -d and -k; -d and -k are missing"),
        (["--dtype", "uint8"], "-n and -d and -k are missing"),
        (["-n", 9, "-d", 2], "-k is missing"),
        (["-n", 9, "-k", 3], "-d is missing"),
        (["-n", 9, "-d", 0, "-k", 3], "-d is 0; it must be at least 1"),
        (["-n", 9, "-d", 2, "-k", 10], "-k is 10, but -n is 9; each center needs a point, so -k must be from 1 to 9"),
        (["-n", 9, "-d", 2, "-k", 3, "--dtype", "int9"], "--dtype is 'int9'; it must be one of float16, bfloat16,"),
    ],
)
def test_doctor_refuses_what_is_no_shape(words, sentence):
    assert sentence in refused("doctor", *words)


def test_version_and_help():
    assert done("--version").stdout == f"stepfit {__version__}\n"
    for words in ([], ["kmeans"], ["regress"], ["assign"], ["learn"], ["doctor"]):
        said = done(*words, "--help").stdout
        assert "Usage: " in said
        assert max(map(len, said.splitlines())) <= 80


@pytest.fixture
def calls(folder, monkeypatch):
    """What `stepfit learn` asks of the server."""
    calls = []

    class Server:
        LOOPBACK = ("127.0.0.1", "localhost")

        def serve(self, **words):
            calls.append(words)

        def export(self, path):
            calls.append(path)

    monkeypatch.setitem(sys.modules, "stepfit.lesson.server", Server())
    return calls


def test_learn_serves_and_exports(calls):
    done("learn", "--port", 4001, "--no-jupyter", "--no-browser", "--dir", "mine")
    said = done("learn", "--export", "page").stderr
    served = {"port": 4001, "host": "127.0.0.1", "open_browser": False, "folder": Path("mine"), "jupyter_port": None}
    assert calls == [served, Path("page")]
    assert said == f"wrote the lesson in page; open {Path('page/index.html')}\n"


@pytest.mark.parametrize(
    ("words", "port"),
    [
        ([], 8888),
        (["--jupyter-port", 8889], 8889),
        (["--host", "localhost"], 8888),
        (["--no-jupyter"], None),
        (["--no-jupyter", "--jupyter-port", 8889], None),
        (["--host", "0.0.0.0"], None),
        (["--host", "0.0.0.0", "--jupyter-port", 8888], 8888),
    ],
)
def test_jupyter_is_started_unless_others_may_visit(calls, words, port):
    said = done("learn", *words).stderr
    assert calls[0]["jupyter_port"] == port
    assert ("--jupyter-port 8888 starts it for this computer alone" in said) == (words == ["--host", "0.0.0.0"])


def test_learn_check_shows_and_writes(folder):
    assert "no notebooks in " in refused("learn", "--check")
    cell = {"cell_type": "code", "metadata": {}, "source": "check('1.1')", "outputs": [], "execution_count": None}
    text = json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 4})
    Path("notebooks").mkdir()
    Path("notebooks/mine.ipynb").write_text(text)
    result = done("learn", "--check")
    assert "   1.1  " in result.stdout
    assert result.stdout.splitlines()[-1].startswith("0 of ")
    assert result.stderr == f"mine.ipynb ...\nwrote {Path('notebooks/checks.json')}\n"
    assert json.loads(Path("notebooks/checks.json").read_text())["passed"] == 0
    assert Path("notebooks/mine.ipynb").read_text() == text


# How it ends


def test_ctrl_c_writes_the_last_whole_step(points, monkeypatch):
    def interrupted(steps):
        yield next(steps)
        yield next(steps)
        next(steps)  # computed, but not kept before Ctrl-C
        raise KeyboardInterrupt

    def progress(steps):
        from stepfit.steps import Steps

        return Steps(interrupted(steps), steps.settings)

    monkeypatch.setattr(runs, "progress", progress)
    for most_labels in (runs._MOST_LABELS, 1):
        monkeypatch.setattr(runs, "_MOST_LABELS", most_labels)
        result = stepfit("kmeans", "points.npy", "-k", 3, "--seed", 5, "--out", "result")
        assert result.exit_code == 130
        assert "INTERRUPTED" in result.stdout
        assert "--start result/centers.npy" in result.stdout
        second = list(lloyd(points, 3, seed=5))[1]
        assert json.loads(Path("result/summary.json").read_text())["stop"] == "INTERRUPTED"
        assert np.array_equal(np.load("result/labels.npy"), second.labels)
        assert Recording.load("result/steps.npz").last.loss == second.loss


def test_ctrl_c_in_a_real_process(folder):
    words = ["regress", "logistic", "toy", "--max-steps", "100000000", "--out", "result"]
    process = subprocess.Popen([sys.executable, "-m", "stepfit", *words], stderr=subprocess.PIPE, text=True)
    for _ in range(2):  # a step is told before it is kept: only the next one says that it was
        process.stderr.readline()
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in said
    summary = json.loads(Path("result/summary.json").read_text())
    assert summary["stop"] == "INTERRUPTED"
    assert summary["steps"] == Recording.load("result/steps.npz").last.index + 1


def test_a_closed_pipe_is_no_traceback(points):
    command = [sys.executable, "-m", "stepfit", "kmeans", "points.npy", "-k", "3"]
    processes = [
        subprocess.Popen([*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for words in (["--json"], [])
    ]
    for process in processes:
        process.stdout.close()
    for process in processes:
        with process:
            said = process.stderr.read()
        assert "step 0" in said
        assert "Traceback" not in said
        assert "BrokenPipe" not in said
