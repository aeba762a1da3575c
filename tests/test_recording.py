"""record() and Recording: kept, cut, saved and loaded."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import nn

from stepfit import LogisticRegression, Recording, Stop, descend, linear_regression, lloyd, record
from stepfit.datasets import blobs

X, _ = blobs(100, 2, 3, seed=0)


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a.nan_to_num(-7.5), b.nan_to_num(-7.5))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[name], b[name]) for name in a)
    return repr(a) == repr(b)


def runs():
    yield record(lloyd(X, 3, seed=0))
    yield record(lloyd([[0.0], [1.0]], 2, start=[[0.0], [50.0]], empty="nan", max_steps=3))
    yield record(linear_regression(X, X[:, 0], lr=1e9, seed=0))  # ends with a loss that is not small
    model = nn.Linear(2, 1, dtype=torch.bfloat16)
    yield record(descend(model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1), X, X[:, :1], max_steps=3))
    y = X[:, 0] > 0
    yield record(LogisticRegression(C=0.1).steps(X, y))
    yield record(LogisticRegression(solver="adam", batch_size=7, random_state=0, max_iter=3).steps(X, y))


@pytest.mark.parametrize("run", list(runs()), ids=["kmeans", "nan", "diverged", "bfloat16", "lbfgs", "proximal"])
def test_what_is_loaded_is_what_was_saved(run, tmp_path):
    again = Recording.load(run.save(tmp_path / "run.npz"))
    assert (len(again), again.stop, again.settings) == (len(run), run.stop, run.settings)
    for a, b in zip(run, again):
        assert type(a) is type(b)
        assert all(equal(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]


def test_a_run_goes_on_from_a_loaded_step(tmp_path):
    whole = record(lloyd(X, 3, seed=0, start="random"))
    cut = record(lloyd(X, 3, seed=0, start="random", max_steps=2))
    loaded = Recording.load(cut.save(tmp_path / "cut.npz"))
    rest = record(lloyd(X, 3, resume=loaded.last))
    assert rest[0].index == 2
    assert rest.last.loss == whole.last.loss
    assert rest.last.labels.equal(whole.last.labels)


def test_every_other_step_and_always_the_last():
    whole = record(lloyd(X, 3, seed=4, start="random"))
    some = record(lloyd(X, 3, seed=4, start="random"), every=4)
    assert [s.index for s in some] == sorted({*range(0, len(whole), 4), len(whole) - 1})
    assert some.stop is Stop.CONVERGED
    assert whole[1:3][0] is whole[1]


def interrupted_after(steps, count):
    for i, step in enumerate(steps):
        if i == count:
            raise KeyboardInterrupt
        yield step


def test_ctrl_c_gives_the_last_whole_step_back():
    run = record(interrupted_after(lloyd(X, 3, seed=4, start="random"), 2))
    assert (len(run), run.stop, run.last.stop) == (2, Stop.INTERRUPTED, Stop.INTERRUPTED)
    with pytest.raises(KeyboardInterrupt):
        record(interrupted_after(lloyd(X, 3, seed=4), 0))


def test_the_seed_that_was_drawn_is_kept():
    run = record(lloyd(X, 3))
    again = record(lloyd(X, 3, seed=run.settings["seed"]))
    assert again.last.labels.equal(run.last.labels)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    run = record(lloyd(X, 3, seed=0))
    path = run.save(tmp_path / "run.npz")
    before = path.read_bytes()

    def full(*_args, **_kwargs):
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="no space"):
        run.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]


def test_bad_files_and_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a recording is saved as .npz; 'run.pt' is not"):
        record(lloyd(X, 3, seed=0)).save(tmp_path / "run.pt")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match=r"other.npz' is not a recording of stepfit"):
        Recording.load(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(ValueError, match=r"is not a recording of stepfit"):
        Recording.load(tmp_path / "text.npz")
    with pytest.raises(ValueError, match="every is 0"):
        record(lloyd(X, 3), every=0)
    with pytest.raises(ValueError, match="there are no steps to record"):
        record(iter([]))
