"""The benchmarks: peers are run alike, answers are compared like with like, and results take the place of results."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import cells, grid, measure, results, run, starts, stream
from benchmarks.peers import PEERS
from benchmarks.run import Measured, Row
from benchmarks.workloads import WORKLOADS, drawn_rows, files

X = np.array([[0.0], [1.0], [5.0], [7.0]], np.float32)
START = X[:2]


FIT = [name for name, peer in PEERS.items() if peer.installed and not peer.own_start]


def test_those_of_the_test_extra_are_there():
    assert {*FIT} >= {"stepfit", "stepfit-chunked", "scikit-learn-lloyd", "scikit-learn-elkan", "plain-torch"}


@pytest.mark.parametrize("name", FIT)
@pytest.mark.filterwarnings("ignore")  # scikit-learn says where it has not converged
def test_a_peer_makes_the_steps_that_were_asked_for(name):
    one = PEERS[name].fit(X, START.copy(), 1)
    assert one.updates == 1
    assert one.centers == pytest.approx(np.array([[0.0], [13 / 3]]))
    three = PEERS[name].fit(X, START.copy(), 3)
    assert three.updates == 3
    assert three.centers == pytest.approx(np.array([[0.5], [6.0]]))


@pytest.mark.parametrize("name", ["stepfit", "scikit-learn-lloyd", "scikit-learn-elkan", "plain-torch"])
def test_a_peer_stops_when_nothing_changes(name):
    done = PEERS[name].fit(X, START.copy(), 50)
    assert done.updates == 3
    assert done.centers == pytest.approx(np.array([[0.5], [6.0]]))


def test_peers_do_not_inherit_settings_that_slow_them_down(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("KEPT", "1")
    environment = PEERS["faiss"].environment()
    assert environment["KEPT"] == "1"
    assert not {"OPENBLAS_CORETYPE", "OMP_NUM_THREADS"} & environment.keys()
    skylake = replace(PEERS["faiss"], settings={"OPENBLAS_CORETYPE": "SkylakeX"})
    assert skylake.environment()["OPENBLAS_CORETYPE"] == "SkylakeX"


def test_inertia_by_hand():
    assert run.inertia(X, np.array([[0.5], [6.0]])) == 2.5


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 5), st.integers(1, 9))
def test_inertia_is_the_sum_of_the_least_squared_distances(seed, n, d, k):
    random = np.random.default_rng(seed)
    x, centers = random.standard_normal((n, d)).astype(np.float32), random.standard_normal((k, d))
    squared = np.square(x[:, None].astype(np.float64) - centers[None]).sum(2)
    assert run.inertia(x, centers) == pytest.approx(squared.min(1).sum())


def test_rows_are_drawn_as_faiss_draws_them():
    # faiss.rand_perm(perm, 5000, 1235) of faiss 1.15.1
    assert drawn_rows(5000, 10) == [4083, 3720, 866, 645, 3075, 2512, 4727, 2478, 3073, 1895]


@given(st.integers(1, 200), st.data())
def test_rows_are_drawn_once_each(n, data):
    rows = drawn_rows(n, data.draw(st.integers(1, n)))
    assert len({*rows}) == len(rows)
    assert {*rows} <= {*range(n)}


def test_files_are_made_once_and_the_start_is_float32(tmp_path):
    x_file, start_file = files("w3", 1100, tmp_path)
    x, start = np.load(x_file), np.load(start_file)
    assert (x.dtype, x.shape) == (np.float32, (1100, 128))
    assert (start.dtype, start.shape) == (np.float32, (1024, 128))
    assert np.array_equal(start, x[drawn_rows(1100, 1024)])
    again = WORKLOADS["w3"].points(1100)
    assert np.array_equal(again, x)
    written = x_file.stat().st_mtime_ns
    files("w3", 1100, tmp_path)
    assert x_file.stat().st_mtime_ns == written


def rows(**figures):
    """A row a peer: (seconds, updates, inertia) of its first round."""
    return [Row(name.replace("_", "-"), Measured(s, u, float("nan"), i)) for name, (s, u, i) in figures.items()]


def test_the_slow_and_the_wrong_drop_out_and_ours_stays():
    field = rows(
        stepfit=(9.0, 1, 100.0), faiss=(4.0, 2, 100.05), plain_torch=(5.1, 1, 100.0), torch_kmeans=(1.0, 1, 102.0)
    )
    run.weed_out(field)
    assert [row.out for row in field] == [False, False, True, True]
    assert field[2].notes == ["first round only: over 2.5 x the best peer"]
    assert field[3].notes == ["disagrees: its inertia is 1.0200 of stepfit's"]


def test_a_nan_disagrees():
    field = rows(stepfit=(1.0, 1, 100.0), faiss=(1.0, 1, float("nan")))
    run.weed_out(field)
    assert field[1].out


def test_ratios_are_taken_round_by_round_with_the_best_peer_of_each():
    field = rows(stepfit=(1.0, 1, 5.0), faiss=(3.0, 1, 5.0), scikit_learn_lloyd=(3.0, 1, 5.0))
    for row, seconds in zip(field, [(1.0, 2.0, 1.0), (3.0, 9.0, 5.0), (4.0, 8.0, 6.0)]):
        row.rounds = [Measured(s, 1, float("nan"), 5.0) for s in seconds]
    said = run.compared(WORKLOADS["w2"], field)  # 3 / 1, 8 / 2, 5 / 1
    assert said.startswith("**stepfit is 4.00 x as fast as the best peer** (faiss, scikit-learn-lloyd;")
    assert said.endswith("least 3.00 x).")


def test_to_the_end_the_whole_time_counts():
    field = rows(stepfit=(1.0, 1, 5.0), faiss=(1.0, 1, 5.0))
    field[0].rounds, field[1].rounds = [Measured(10.0, 10, 0.0, 5.0)], [Measured(30.0, 60, 0.0, 5.0)]
    assert "3.00 x as fast" in run.compared(WORKLOADS["w6-k10"], field)
    assert "0.50 x as fast" in run.compared(WORKLOADS["w2"], field)


@pytest.mark.parametrize(
    ("code", "stderr", "said"),
    [
        (
            1,
            "RuntimeError: can't allocate memory: you tried to allocate 52428800000 bytes. Error code 12",
            "asks for 52 GB",
        ),
        (-9, "", "ended by signal 9"),
        (1, "Traceback\nValueError: d must be 32\n", "ValueError: d must be 32"),
        (1, "RuntimeError: Error in f(int) at g.cpp:9: Error: 'd | k' failed: d must be 32", "d must be 32"),
        (3, "", "exit code 3"),
    ],
)
def test_a_failure_is_told_in_a_few_words(code, stderr, said):
    assert run.failure(code, stderr) == said


def test_results_replace_results_and_keep_what_was_written_by_hand(tmp_path):
    file = tmp_path / "RESULTS.md"
    file.write_text("by hand\n<!-- w1 -->\nold\n<!-- end of w1 -->\nby hand too\n")
    for _ in range(2):
        results.write(file, {"w1": "new"})
        assert file.read_text() == "by hand\n<!-- w1 -->\n\nnew\n\n<!-- end of w1 -->\nby hand too\n"
    with pytest.raises(ValueError, match="has no place for w2; add the lines <!-- w2 --> and <!-- end of w2 --> to it"):
        results.write(file, {"w2": "new"})


def test_every_workload_has_its_place():
    text = results.RESULTS.read_text()
    for name in [*WORKLOADS, "w5", "machine", "grid", "starts", "descent"]:
        assert f"<!-- {name} -->" in text
        assert f"<!-- end of {name} -->" in text


def test_a_measurement_writes_seconds_updates_and_centers(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "start.npy", START)
    measure.measure("stepfit", str(tmp_path / "x.npy"), str(tmp_path / "start.npy"), 3, str(tmp_path / "out.npz"))
    with np.load(tmp_path / "out.npz") as out:
        assert out["seconds"] > 0
        assert out["updates"] == 3
        assert out["centers"].tolist() == [[0.5], [6.0]]


def test_cells_give_a_time_and_the_steps_made():
    (((seconds, updates),),) = cells.cells("stepfit", 50, [2], [3], 4)
    assert seconds > 0
    assert 1 <= updates <= 4


def test_starts_are_measured_beside_a_step():
    block = starts.report(500, 8, rounds=1)
    assert "The first 8 centers of the 500 points of w3" in block
    rows = [line.split(" | ") for line in block.splitlines() if "stepfit, " in line or "scikit-learn, " in line]
    assert [row[0] for row in rows] == ["| stepfit, random", "| stepfit, k-means++", "| scikit-learn, k-means++"]
    inertia = [float(row[3].removesuffix(" |")) for row in rows]
    assert max(inertia) < 1.2 * min(inertia)
    assert all(float(row[2]) > 0 for row in rows)


@pytest.mark.parametrize("one", [["stepfit"], ["faiss", "500", "8", "0"], ["stepfit", "500", "8", "x"]])
def test_one_start_wants_a_peer_and_three_numbers(one, capsys):
    with pytest.raises(SystemExit):
        starts.main(one)
    assert "give one of stepfit, scikit-learn-lloyd, then three whole numbers" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="needs Linux")
def test_a_file_is_streamed(tmp_path):
    stream.write(tmp_path / "x.npy", 3000)
    answer = stream.measure(tmp_path / "x.npy")
    assert len(answer["reads"]) == 3
    assert len(answer["steps"]) == stream.STEPS - 1
    assert "a step runs at" in stream.described(answer, 3000, 3000 * 64)


def test_the_driver_runs_and_writes(tmp_path, capsys):
    file = tmp_path / "RESULTS.md"
    file.write_text(results.RESULTS.read_text())
    data = ["--data", str(tmp_path), "--results", str(file)]
    run.main(["w1-uint8", "--quick", "--peers", "stepfit", "scikit-learn-lloyd", *data])
    text = file.read_text()
    assert "MNIST test as bytes, 2,000 x 784, k = 10" in text
    table = text.split("<!-- w1-uint8 -->")[1].split("<!-- end of w1-uint8 -->")[0]
    inertias = {line.split("|")[7].strip() for line in table.splitlines() if line.startswith(("| stepfit", "| scikit"))}
    assert len(inertias) == 1
    assert "Python 3" in text
    assert "## What was tried and did not help\n\n- " in text
    assert "2,000 x 784" in capsys.readouterr().out


def test_an_unknown_workload_is_refused(capsys):
    with pytest.raises(SystemExit):
        run.main(["w1", "w9"])
    assert "there is no workload w9; there are w1-uint8, w1-float32, w2" in capsys.readouterr().err


@pytest.mark.parametrize("main", [run.main, grid.main, starts.main])
def test_results_that_cannot_be_written_are_refused_before_anything_is_measured(main, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--quick", "--results", str(tmp_path / "no.md")])
    assert "no.md; give a copy of RESULTS.md" in capsys.readouterr().err
