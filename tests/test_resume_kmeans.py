"""A run of k-means can be resumed from any of its steps: all rows or mini-batches, directly or from a recording."""

from dataclasses import fields
from itertools import islice

import pytest
import torch

from stepfit import KMeans, MiniBatchKMeans, Recording, Stop, lloyd
from stepfit import record as recorded
from stepfit.clustering.mini_batch import mini_batches

STEPS = 20
DRAW = torch.Generator().manual_seed(0)
X = torch.rand(400, 3, generator=DRAW, dtype=torch.float64)  # without clusters, so that runs are long
WEIGHT = torch.randint(0, 4, (400,), generator=DRAW).double()


def rows(**options):
    def run(max_steps, resume=None):
        return lloyd(X, 9, seed=1, max_steps=max_steps, resume=resume, **options)

    return run


def batches(x=X, **options):
    rest = {"seed": 1, "batch_size": 40, "max_epochs": 2, "max_no_improvement": None} | options

    def run(max_steps, resume=None):
        return islice(mini_batches(x, 9, resume=resume, **rest), max_steps)

    return run


def estimator(model, **options):
    def run(max_steps, resume=None):
        return islice(model.steps(X, resume=resume, **options), max_steps)

    return run


RUNS = {
    "lloyd": rows(),
    "weighted": rows(sample_weight=WEIGHT),
    "tol": rows(tol=1e-4),
    "float32": lambda max_steps, resume=None: lloyd(X.float(), 9, seed=1, max_steps=max_steps, resume=resume),
    **{f"empty {rule}": rows(empty=rule, start=X[[0, 0, 1, 2, 3, 4, 5, 6, 7]]) for rule in ("farthest", "keep", "nan")},
    "mini-batches": batches(),
    "mini-batches, weighted": batches(sample_weight=WEIGHT),
    "mini-batches, few seen": batches(reassignment_ratio=0.5),
    "mini-batches, plateau": batches(max_no_improvement=4),
    "mini-batches, tol": batches(tol=1e-3),
    "mini-batches, float32": batches(X.float()),
    "KMeans": estimator(KMeans(9, random_state=1, tol=0)),
    "MiniBatchKMeans": estimator(MiniBatchKMeans(9, random_state=1, batch_size=50), sample_weight=WEIGHT),
}


def same(a, b):
    """Whether two steps are equal bit for bit, but for the time they took."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    return repr(a) == repr(b)


def same_step(a, b):
    return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a) if f.name != "seconds")


@pytest.mark.parametrize("name", RUNS)
def test_a_run_goes_on_bit_for_bit_from_any_step(name, tmp_path):
    run = RUNS[name]
    whole = list(run(STEPS))
    assert len(whole) == 1 or len(whole) > 5
    for i, step in enumerate(whole[:-1]):
        path = Recording(whole[: i + 1], {}, Stop.INTERRUPTED).save(tmp_path / "cut.npz")
        for known in (step, Recording.load(path).last):
            left = len(whole) - i - 1
            rest = list(islice(run(STEPS - i - 1, resume=known), left))
            assert len(rest) == left
            assert all(same_step(a, b) for a, b in zip(rest, whole[i + 1 :]))


def test_the_epochs_of_mini_batches_count_from_the_start_of_the_run():
    whole = list(mini_batches(X, 9, seed=1, batch_size=100, max_epochs=3, max_no_improvement=None))
    rest = list(mini_batches(X, 9, batch_size=100, max_epochs=3, max_no_improvement=None, resume=whole[4]))
    assert (len(whole), len(rest), rest[-1].index, rest[-1].stop) == (12, 7, 11, Stop.MAX_STEPS)


def test_what_does_not_fit_is_refused():
    run = recorded(mini_batches(X, 9, seed=1, batch_size=40, max_epochs=2))
    with pytest.raises(ValueError, match=r"resume has centers \(9, 3\); x and k need \(8, 3\)"):
        mini_batches(X, 8, resume=run.last)
    with pytest.raises(ValueError, match="resume is step 0 without its state: a recording keeps the state of its last"):
        mini_batches(X, 9, resume=run[0])
