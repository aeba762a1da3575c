"""lloyd() and assign(): by hand, as properties, against scikit-learn and the reference kernel, and with bad input."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Problem, problems

from stepfit import Stop, assign, lloyd, record
from stepfit.datasets import blobs, mnist


def run(problem: Problem, **options):
    options = {"start": problem.start, "sample_weight": problem.weight, "max_steps": 40} | options
    return list(lloyd(problem.x, problem.k, **options))


def same_bits(a, b) -> bool:
    """Whether two steps agree to the last bit, NaN equal to NaN."""
    tensors = ("labels", "counts", "mass", "centers", "next_centers")
    return all(
        np.array_equal(getattr(a, name).numpy(), getattr(b, name).numpy(), equal_nan=True) for name in tensors
    ) and repr((a.loss, a.changed, a.shift, a.events, a.stop)) == repr((b.loss, b.changed, b.shift, b.events, b.stop))


def with_threads(threads: int, work):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return work()
    finally:
        torch.set_num_threads(before)


# By hand


def test_four_points_on_a_line():
    steps = list(lloyd([[0.0], [1.0], [5.0], [7.0]], 2, start=[[0.0], [1.0]]))
    assert [s.labels.tolist() for s in steps] == [[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert [s.inertia for s in steps] == pytest.approx([52.0, 77 / 9, 2.5], rel=1e-15)
    assert [s.changed for s in steps] == [4, 1, 0]
    assert steps[1].next_centers.tolist() == [[0.5], [6.0]]
    assert steps[1].shift == pytest.approx(0.25 + (5 / 3) ** 2, rel=1e-15)
    assert [s.stop for s in steps] == [None, None, Stop.CONVERGED]


def test_a_tie_goes_to_the_lowest_index():
    step = next(lloyd([[0.0], [1.0], [2.0]], 2, start=[[0.0], [2.0]]))
    assert step.labels.tolist() == [0, 0, 1]


@pytest.mark.parametrize("kernel", ["chunked", "reference"])
def test_two_close_pairs_far_apart_keep_their_inertia(kernel):
    # |x|^2 - 2 x.c + |c|^2 in float32 gives 0 here.
    x = np.array([[1.0001], [0.9999], [-1.0001], [-0.9999]], np.float32)
    assert list(lloyd(x, 2, seed=0, kernel=kernel))[-1].inertia == pytest.approx(4.0e-8, rel=1e-3)


def test_two_outliers_leave_the_inertia_of_the_rest_right():
    rng = np.random.RandomState(0)
    x = np.r_[rng.randn(3000, 3), [[1e9, 0, 0], [1e9, 0, 1]]]
    step = list(lloyd(x, 2, start=[[0.0] * 3, [1e9, 0, 0]]))[-1]
    near = x[:3000]
    assert step.inertia == pytest.approx(((near - near.mean(0)) ** 2).sum() + 0.5, rel=1e-9)


def test_an_empty_cluster_moves_to_the_farthest_point():
    # Both centers lie on 0: the second gets nothing. Farthest is 9 (row 3), and the first center loses it.
    steps = list(lloyd([[0.0], [0.0], [1.0], [9.0]], 2, start=[[0.0], [0.0]], empty="farthest"))
    assert steps[0].counts.tolist() == [4, 0]
    assert steps[0].events == ("cluster 1 was empty; its center moved to point 3",)
    assert steps[0].next_centers[:, 0].tolist() == [1 / 3, 9.0]
    assert steps[-1].stop is Stop.CONVERGED
    assert steps[-1].labels.tolist() == [0, 0, 0, 1]


def test_empty_clusters_are_filled_in_order_and_ties_go_to_the_lowest_row():
    step = next(lloyd([[-4.0], [4.0], [0.0], [4.0]], 3, start=[[0.0], [0.0], [0.0]]))
    assert step.next_centers[:, 0].tolist() == [2.0, -4.0, 4.0]


def test_a_run_that_moves_a_center_has_not_converged_though_no_label_changes():
    # At step 1 centers 0 and 1 both lie on 3: center 1 is empty again, and 10 is the farthest point.
    steps = list(lloyd([[3.0], [3.0], [3.0], [10.0], [12.0]], 3, start=[[0.0], [0.0], [11.0]]))
    assert (steps[1].changed, steps[1].stop) == (0, None)
    assert steps[1].events == ("cluster 1 was empty; its center moved to point 3",)
    assert (steps[-1].inertia, steps[-1].stop) == (0.0, Stop.CONVERGED)


def test_an_empty_cluster_never_moves_to_a_point_of_no_weight():
    step = next(lloyd([[0.0], [1.0], [50.0]], 2, start=[[0.0], [0.0]], sample_weight=[1.0, 1.0, 0.0]))
    assert step.events == ("cluster 1 was empty; its center moved to point 1",)


def test_an_empty_cluster_may_keep_its_center():
    steps = list(lloyd([[0.0], [1.0]], 2, start=[[0.0], [50.0]], empty="keep"))
    assert steps[-1].centers[:, 0].tolist() == [0.5, 50.0]
    assert steps[-1].events == ("cluster 1 was empty; its center stays",)
    assert steps[-1].stop is Stop.CONVERGED


@pytest.mark.parametrize("kernel", ["chunked", "reference"])
def test_an_empty_cluster_may_become_nan_and_then_nan_takes_all(kernel):
    steps = list(lloyd([[0.0], [1.0], [2.0]], 2, start=[[0.0], [50.0]], empty="nan", max_steps=3, kernel=kernel))
    assert math.isnan(steps[0].next_centers[1, 0])
    assert steps[1].labels.tolist() == [1, 1, 1]
    assert math.isnan(steps[1].loss)
    assert steps[2].centers[:, 0].isnan().tolist() == [True, False]


def test_tol_yields_one_more_step_whose_labels_belong_to_its_centers():
    x, _ = blobs(n=500, k=4, spread=3.0, seed=0)
    steps = list(lloyd(x, 4, seed=1, tol=0.05))
    assert steps[-1].stop is Stop.TOLERANCE
    enough = 0.05 * x.double().var(0, unbiased=False).mean().item()
    assert steps[-2].shift <= enough < steps[-3].shift
    assert assign(x, steps[-1].centers).equal(steps[-1].labels)


# Properties


@settings(max_examples=200)
@given(problems(weighted=None))
def test_chunked_and_reference_give_the_same_bits(problem):
    chunked, reference = (run(problem, kernel=kernel, max_steps=6) for kernel in ("chunked", "reference"))
    assert len(chunked) == len(reference)
    assert all(same_bits(a, b) for a, b in zip(chunked, reference))


@settings(max_examples=200)
@given(problems())
def test_the_inertia_never_grows(problem):
    for before, after in pairwise(run(problem, empty="keep")):
        assert after.inertia <= before.inertia * (1 + 1e-12)


@settings(max_examples=200)
@given(problems(weighted=None))
def test_labels_and_inertia_belong_to_the_centers(problem):
    for step in run(problem):
        assert assign(problem.x, step.centers).equal(step.labels)
        x, c = torch.from_numpy(problem.x).double(), step.centers.double()
        weight = torch.ones(len(x)) if problem.weight is None else torch.from_numpy(problem.weight)
        direct = (weight * ((x - c[step.labels.long()]) ** 2).sum(1)).sum().item()
        resolution = len(x) * (weight[:, None] * x.abs()).max() * x.abs().max() * 2.0**-80
        assert step.inertia == pytest.approx(direct, rel=1e-9, abs=1e-9 + resolution.item())
        assert step.counts.sum() == len(x)
        assert step.counts.equal(torch.bincount(step.labels, minlength=problem.k))


@settings(max_examples=200)
@given(problems(weighted=None))
def test_kept_steps_never_change_and_x_neither(problem):
    x, kept, copies = problem.x.copy(), [], []
    for step in lloyd(problem.x, problem.k, start=problem.start, sample_weight=problem.weight, max_steps=20):
        kept.append(step)
        copies.append([t.clone() for t in (step.centers, step.labels, step.counts, step.mass, step.next_centers)])
    for step, (centers, labels, counts, mass, next_centers) in zip(kept, copies):
        assert step.centers.equal(centers)
        assert step.next_centers.equal(next_centers)
        assert step.labels.equal(labels)
        assert step.counts.equal(counts)
        assert step.mass.equal(mass)
    assert np.array_equal(problem.x, x)


@settings(max_examples=200)
@given(problems(weighted=None), st.sampled_from(["k-means++", "random", "farthest"]))
def test_the_same_seed_gives_the_same_run_for_one_and_two_threads(problem, start):
    one, two = (with_threads(n, lambda: run(problem, start=start, seed=3, max_steps=20)) for n in (1, 2))
    assert len(one) == len(two)
    assert all(same_bits(a, b) for a, b in zip(one, two))


def test_data_that_threads_share_gives_the_same_bits_too():
    x, _ = blobs(n=60_000, d=9, k=7, spread=4.0, seed=0)  # torch splits work from 32,768 values on
    one, two = (with_threads(n, lambda: list(lloyd(x, 7, seed=0, max_steps=8))) for n in (1, 2))
    assert all(same_bits(a, b) for a, b in zip(one, two))


@settings(max_examples=60)
@given(problems(dtypes=("uint8",)))
def test_a_whole_weight_is_so_many_equal_points(problem):
    weight = np.arange(len(problem.x)) % 3 + 1
    repeated = Problem(np.repeat(problem.x, weight, 0), problem.start, None)
    once, often = run(problem, sample_weight=weight, empty="keep"), run(repeated, empty="keep")
    assert len(once) == len(often)
    for a, b in zip(once, often):
        assert a.centers.equal(b.centers)
        assert a.labels.repeat_interleave(torch.from_numpy(weight)).equal(b.labels)
        assert a.inertia == b.inertia


@settings(max_examples=60)
@given(problems(weighted=None))
def test_a_run_goes_on_from_any_step_bit_for_bit(problem):
    whole = run(problem)
    middle = len(whole) // 2
    if whole[middle].stop is None:
        rest = run(problem, resume=whole[middle], max_steps=39 - middle)
        assert [s.index for s in rest] == [s.index for s in whole[middle + 1 :]]
        assert all(same_bits(a, b) for a, b in zip(rest, whole[middle + 1 :]))


# Against scikit-learn


@pytest.mark.parametrize("name", ["mnist", "blobs"])
@pytest.mark.parametrize("seed", [0, 1])
def test_scikit_learn_takes_as_many_steps_to_the_same_inertia(name, seed):
    from sklearn.cluster import KMeans

    x = mnist()[0].double().numpy() / 255 if name == "mnist" else blobs(3000, 5, 8, seed=1)[0].double().numpy()
    start = x[np.random.RandomState(seed).permutation(len(x))[:10]]
    peer = KMeans(10, init=start, n_init=1, tol=0, max_iter=300, algorithm="lloyd").fit(x)
    ours = list(lloyd(x, 10, start=start, max_steps=301))[-1]
    assert min(ours.index + 1, 300) == peer.n_iter_
    assert ours.inertia == pytest.approx(peer.inertia_, rel=1e-9)
    assert np.array_equal(ours.labels.numpy(), peer.labels_)


# Input of every kind


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "uint16", "bool"]
)
@pytest.mark.parametrize("as_torch", [False, True])
def test_every_dtype_is_the_same_problem(dtype, as_torch):
    x = np.random.RandomState(0).randint(0, 2, (50, 3)).astype(dtype)
    given_x = torch.from_numpy(x.astype("int32") if dtype == "uint16" else x) if as_torch else x
    last = list(lloyd(given_x, 4, seed=0, start="random"))[-1]
    assert last.centers.dtype == (torch.float64 if dtype in ("float64", "int32", "int64", "uint16") else torch.float32)
    plain = list(lloyd(x.tolist(), 4, seed=0, start="random"))[-1]
    assert last.labels.equal(plain.labels)
    assert last.inertia == pytest.approx(plain.inertia, rel=1e-6)


def test_bfloat16_views_and_read_only_and_mapped_arrays(tmp_path):
    x = np.random.RandomState(0).randn(60, 4).astype(np.float32)
    want = list(lloyd(x, 3, seed=0))[-1]
    read_only = x.copy()
    read_only.flags.writeable = False
    np.save(tmp_path / "x.npy", x)
    wide = np.zeros((120, 8), np.float32)
    wide[::2, ::2] = x
    big_endian = x.astype(">f4")
    same = [
        read_only,
        np.asfortranarray(x),
        wide[::2, ::2],
        x[::-1][::-1],
        big_endian,
        torch.tensor(x, requires_grad=True),
    ]
    same += [np.load(tmp_path / "x.npy", mmap_mode="r"), tmp_path / "x.npy", str(tmp_path / "x.npy")]
    for other in same:
        assert same_bits(list(lloyd(other, 3, seed=0))[-1], want)
    rounded = torch.from_numpy(x).bfloat16()
    assert same_bits(list(lloyd(rounded, 3, seed=0))[-1], list(lloyd(rounded.float(), 3, seed=0))[-1])


@pytest.mark.parametrize(
    ("x", "k"),
    [([[1.0, 2.0]], 1), ([[1.0]] * 5, 3), ([[1.0], [2.0], [4.0]], 3), ([[0.0, 0.0]] * 4, 1), ([[1e-300], [3e-300]], 2)],
)
@pytest.mark.parametrize("start", ["k-means++", "random", "farthest"])
def test_small_and_flat_data_work(x, k, start):
    last = list(lloyd(x, k, seed=0, start=start))[-1]
    assert last.stop is Stop.CONVERGED
    assert last.inertia == 0.0


def test_the_caller_s_settings_of_torch_neither_matter_nor_change():
    x, _ = blobs(300, 6, 4, seed=0)
    want = list(lloyd(x, 4, seed=0))[-1]
    state = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu"), torch.device("meta"), torch.inference_mode():
            got = list(lloyd(x, 4, seed=0))[-1]
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
    assert same_bits(got, want)
    assert torch.get_rng_state().equal(state)


def test_the_settings_say_how_to_run_it_again():
    x, _ = blobs(200, 2, 3, seed=0)
    steps = lloyd(x, 3)
    again = lloyd(x, 3, seed=steps.settings["seed"])
    assert same_bits(list(steps)[-1], list(again)[-1])


# Bad input: each is refused in a sentence


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        ([[1.0, math.nan], [0.0, 1.0]], {}, "x has nan at row 0, column 1"),
        ([[1.0], [math.inf]], {}, "x has inf at row 1, column 0"),
        ([[1e200], [1.0]], {}, "x has 1e\\+200 at row 0, column 0; squared distances overflow"),
        ([1.0, 2.0], {}, r"x has shape \(2,\).*x.reshape\(-1, 1\)"),
        (np.zeros((2, 2, 2)), {}, r"x has shape \(2, 2, 2\); it must be \(n, d\)"),
        (np.zeros((0, 2)), {}, r"x has shape \(0, 2\); at least one point"),
        (np.zeros((2, 0)), {}, r"x has shape \(2, 0\); at least one point and one feature"),
        ([["a"], ["b"]], {}, "x is an array of <U1; real numbers"),
        (np.zeros((3, 1), complex), {}, "x is an array of complex128"),
        (torch.zeros(3, 1, dtype=torch.complex64), {}, "x has dtype torch.complex64"),
        ([[1.0], [2.0, 3.0]], {}, "x is not a table of numbers"),
        ([[None], [1]], {}, "x is a list of mixed objects"),
        (torch.zeros(3, 2).to_sparse(), {}, "dense one is needed"),
        ("missing.npy", {}, "x is the path missing.npy, which cannot be read"),
        ("table.csv", {}, "must name a .npy file"),
        ([[1.0], [2.0]], {"k": 3}, "k is 3, but x has 2 points; k must be from 1 to 2"),
        ([[1.0], [2.0]], {"k": 0}, "k is 0"),
        ([[1.0], [2.0]], {"k": 1.5}, "k is 1.5; it must be a whole number"),
        ([[1.0], [2.0]], {"k": 2, "sample_weight": [1.0, 0.0]}, "x has 1 points of positive weight"),
        ([[1.0], [2.0]], {"sample_weight": [1.0]}, r"sample_weight has shape \(1,\); x has 2 rows"),
        ([[1.0], [2.0]], {"sample_weight": [1.0, -1.0]}, "sample_weight has -1.0 at row 1"),
        ([[1.0], [2.0]], {"sample_weight": [0.0, 0.0]}, "sample_weight is 0 everywhere"),
        ([[1.0], [2.0]], {"start": "best"}, "start='best' is not known; choose one of random, k-means"),
        ([[1.0], [2.0]], {"start": [[1.0], [2.0]]}, r"start has shape \(2, 1\); with k=1 and d=1 it must be \(1, 1\)"),
        ([[1.0], [2.0]], {"start": [[math.nan]]}, "start has a value that is NaN"),
        ([[1.0], [2.0]], {"start": lambda x, k, generator: x}, r"start has shape \(2, 1\)"),
        ([[1.0], [2.0]], {"empty": "drop"}, "empty='drop' is not known"),
        ([[1.0], [2.0]], {"max_steps": 0}, "max_steps is 0"),
        ([[1.0], [2.0]], {"tol": -1.0}, "tol is -1.0"),
        ([[1.0], [2.0]], {"seed": 10**23}, "seed is 100000000000000000000000; it must be from 0 to"),
        ([[1.0], [2.0]], {"seed": 0.5}, "seed is 0.5; it must be a whole number"),
        ([[1.0], [2.0]], {"kernel": "gpu"}, "there is no kernel 'gpu'; there are chunked, native, reference"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_a_sentence(x, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        lloyd(x, **{"k": 1} | options)


def test_assign_refuses_centers_of_another_width():
    with pytest.raises(ValueError, match=r"centers has shape \(1, 2\); x has 1 features, so it must be \(k, 1\)"):
        assign([[1.0]], [[1.0, 2.0]])


def test_resume_refuses_a_step_of_another_problem():
    step = next(lloyd([[1.0], [2.0]], 2, seed=0))
    with pytest.raises(ValueError, match="resume has 2 labels"):
        lloyd([[1.0], [2.0], [3.0]], 2, resume=step)


def test_centers_that_only_rounding_moves_do_not_keep_a_run_going():
    """Weights far apart round the means: empty clusters would take turns at points that lie on their centers."""
    x = np.array([[0.0]] * 6 + [[1.0], [1e-9]], np.float32)
    weight = [1e-3] * 6 + [1e6, 1e-3]
    run = record(lloyd(x, 4, start=[[0.0]] * 4, sample_weight=weight))
    assert (run.stop, run.last.inertia) == (Stop.CONVERGED, 0.0)
    assert len(run) < 5
    x = np.array([[0.0]] * 4 + [[1.0]] + [[0.0]] * 4 + [[1e9]] * 2, np.float32)
    weight = [1e6] * 4 + [1e-3] + [1e6] * 4 + [1e-3, 1e6]
    run = record(lloyd(x, 4, start=[[0.0]] * 4, sample_weight=weight))
    assert run.stop is Stop.CONVERGED
    assert len(run) < 6
    assert torch.equal(run.last.next_centers, run.last.centers)
    x = [[1.0], [0.0], [0.0], [1.0], [1e9]]
    run = record(lloyd(x, 5, start=[[1.0]] * 5, sample_weight=[0.1, 1.0, 1.0, 1.0, 1.0]))
    assert (run.stop, run.last.inertia) == (Stop.CONVERGED, 0.0)
