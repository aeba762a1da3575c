"""The first centers: by hand, by their distribution, and against scikit-learn's quality."""

from collections import Counter
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from strategies import problems

from stepfit import kernels, lloyd
from stepfit.clustering import seeding
from stepfit.datasets import blobs
from stepfit.kernels import compiled, reference
from stepfit.kernels.points import Points

KERNELS = [kernel for name, kernel in kernels.KERNELS.items() if name != "native" or not compiled.missing]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def by_judges(monkeypatch):
    """Let a few points be too many to look at all of them for every center."""
    monkeypatch.setattr(seeding, "_MEASURED_EACH_TIME", 0)
    monkeypatch.setattr(seeding, "_JUDGES", 16)
    monkeypatch.setattr(seeding, "_MOST_CHOICES", 24)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float16, torch.bfloat16, torch.int64, torch.float64])
@pytest.mark.parametrize(
    "layout", [lambda x: x, lambda x: x.T, lambda x: x[:, ::2], lambda x: x[::3], lambda x: x[:, :1]]
)
def test_rows_are_taken_of_any_type_and_layout(dtype, layout):
    x = layout((torch.rand(20, 20, generator=generator()) * 2).to(dtype))
    rows = torch.tensor([3, 0, 3, 5])
    taken = Points(x, torch.arange(1.0, len(x) + 1)).take(rows)
    assert taken.x.equal(x[rows])
    assert taken.x.dtype == dtype
    assert taken.weight.tolist() == [4.0, 1.0, 4.0, 6.0]
    assert (taken.n, taken.d) == (4, x.shape[1])
    assert Points(x).take(rows[:0]).x.shape == (0, x.shape[1])


def test_random_start_draws_each_pair_equally_often():
    points = Points([[0.0], [1.0], [2.0], [3.0]])
    g = generator()
    seen = Counter(tuple(sorted(seeding.random_points(points, 2, g))) for _ in range(3000))
    assert len(seen) == 6
    assert all(abs(count - 500) < 5 * 500**0.5 for count in seen.values())


@given(problems(weighted=None), st.sampled_from(["random", "k-means++", "farthest"]), st.integers(0, 99))
def test_centers_are_rows_and_rows_are_drawn_once(problem, start, seed):
    points = Points(problem.x, problem.weight)
    centers = seeding.first_centers(points, problem.k, start, generator(seed))
    rows = {tuple(row) for row in problem.x.astype(centers.numpy().dtype).tolist()}
    assert {tuple(row) for row in centers.tolist()} <= rows
    drawn = seeding.random_points(points, problem.k, generator(seed))
    assert len(set(drawn)) == problem.k


def test_points_of_no_weight_are_never_chosen():
    x = np.arange(20.0)[:, None]
    weight = (np.arange(20) % 2).astype(float)
    for start in ("random", "k-means++", "farthest"):
        for seed in range(20):
            centers = seeding.first_centers(Points(x, weight), 5, start, generator(seed))
            assert all(int(c) % 2 for c in centers[:, 0])


def test_kmeans_plus_plus_draws_in_proportion_to_the_squared_distance():
    # From 0, the points 1 and 3 are drawn with probability 1/10 and 9/10. With k = 2 there are two trials, of which
    # the better is kept: 3 leaves 1, and 1 leaves 4; so 1 is kept only when it is drawn twice.
    points = Points([[0.0], [1.0], [3.0]])
    g = generator(1)
    second = [c[1] for c in (seeding.kmeans_plus_plus(points, 2, g, reference) for _ in range(6000)) if c[0] == 0]
    assert second.count(1) / len(second) == pytest.approx(0.01, abs=0.01)


def test_kmeans_plus_plus_never_draws_a_point_at_distance_0(monkeypatch):
    monkeypatch.setattr(seeding, "draw_each_below", lambda bounds, g: [0] * len(bounds))
    monkeypatch.setattr(seeding, "draw_below", lambda bound, count, g: torch.zeros(count, dtype=torch.int64))
    assert seeding.kmeans_plus_plus(Points([[0.0], [1.0], [2.0]]), 2, generator(), reference) == [0, 1]


def test_a_seed_gives_the_centers_that_it_always_gave():
    x, _ = blobs(300, 2, 5, seed=0)
    assert seeding.kmeans_plus_plus(Points(x), 8, generator(3), reference) == [36, 211, 278, 274, 160, 27, 60, 18]


@settings(max_examples=40)
@given(problems(weighted=None), st.integers(0, 99))
def test_kernels_choose_the_same_centers(problem, seed):
    points = Points(problem.x, problem.weight)
    for start in ("k-means++", "farthest"):
        chosen = [seeding._NAMED[start](points, problem.k, generator(seed), kernel) for kernel in KERNELS]
        assert chosen == chosen[:1] * len(KERNELS)


@pytest.mark.usefixtures("by_judges")
@settings(max_examples=40)
@given(problems(weighted=None), st.integers(0, 99))
def test_kernels_choose_the_same_centers_among_many_points(problem, seed):
    points = Points(problem.x, problem.weight)
    chosen = [seeding.kmeans_plus_plus(points, problem.k, generator(seed), kernel) for kernel in KERNELS]
    assert chosen == chosen[:1] * len(KERNELS)
    assert len(chosen[0]) == problem.k
    # A point is chosen again only when all points lie on centers.
    distinct = len(np.unique(problem.x, axis=0))
    if problem.weight is None and not np.abs(problem.x.astype(float)).max() > 1e6:
        assert len(np.unique(problem.x[chosen[0]], axis=0)) == min(distinct, problem.k)


@pytest.mark.usefixtures("by_judges")
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float16, torch.bfloat16, torch.int64, torch.float64])
def test_kernels_choose_the_same_centers_in_every_type(dtype):
    points = Points((torch.rand(200, 9, generator=generator()) * 2).to(dtype))
    chosen = [seeding.kmeans_plus_plus(points, 40, generator(1), kernel) for kernel in KERNELS]
    assert chosen == chosen[:1] * len(KERNELS)


@pytest.mark.usefixtures("by_judges")
@pytest.mark.parametrize("at_once", [1, 4])  # the third center is drawn anew, or with the second
def test_centers_of_many_points_are_drawn_in_proportion_to_the_squared_distance(at_once, monkeypatch):
    monkeypatch.setattr(seeding, "_MOST_CHOICES", at_once)
    monkeypatch.setattr(seeding, "log", lambda k: -1)  # one candidate, so that the choice is the draw
    monkeypatch.setattr(seeding, "random_points", lambda points, k, g: [0])
    x, weight = np.array([0.0, 1.0, 3.0, 4.0, 8.0]), np.array([1.0, 8.0, 2.0, 0.0, 0.5])
    points, g, draws = Points(x[:, None], weight), generator(), 1000
    seen = Counter(tuple(seeding.kmeans_plus_plus(points, 3, g, reference)) for _ in range(draws))

    def chances(*chosen):
        lengths = weight * ((x[:, None] - x[list(chosen)]) ** 2).min(1)
        return lengths / lengths.sum()

    expected = {(0, i, j): chances(0)[i] * chances(0, i)[j] * draws for i, j in permutations([1, 2, 4], 2)}
    assert set(seen) == set(expected)
    assert min(expected.values()) > 20
    chi_square = sum((seen[chosen] - count) ** 2 / count for chosen, count in expected.items())
    assert chi_square < 20.5  # with 5 degrees of freedom, 1 in 1,000 is larger


@pytest.mark.usefixtures("by_judges")
def test_what_a_center_took_is_no_gain_of_the_next(monkeypatch):
    # At first a center at 10 or at 7.5 gains most. Once there is one, the other gains 69 at most, and -8.5 gains 650.
    monkeypatch.setattr(seeding, "_JUDGES", 256)
    monkeypatch.setattr(seeding, "random_points", lambda points, k, g: [0])
    monkeypatch.setattr(seeding, "log", lambda k: 2)
    points = Points(np.repeat([0.0, 10.0, 7.5, -8.5], [1, 11, 10, 9])[:, None])
    for seed in range(60):
        _, second, third = points.x[seeding.kmeans_plus_plus(points, 3, generator(seed), reference)][:, 0].tolist()
        assert (second > 0) != (third > 0)


@pytest.mark.usefixtures("by_judges")
def test_many_points_that_are_all_equal_or_weigh_nothing():
    assert len(seeding.kmeans_plus_plus(Points(np.ones((50, 3))), 5, generator(), reference)) == 5
    x = np.arange(50.0)[:, None] // 2
    weight = (np.arange(50) % 2).astype(float)
    for seed in range(20):
        chosen = seeding.kmeans_plus_plus(Points(x, weight), 25, generator(seed), reference)
        assert sorted(chosen) == list(range(1, 50, 2))


def test_a_center_does_not_cost_a_pass_over_many_points(by_judges, monkeypatch):
    monkeypatch.setattr(seeding, "_JUDGES", 512)
    passes = []

    def assign(points, centers):
        passes.append(points.n)
        return reference.assign(points, centers)

    watched = SimpleNamespace(assign=assign, distances=reference.distances, closer=reference.closer)
    x, _ = blobs(3000, 8, 20, spread=3, seed=0)  # hardly to be told apart: all that centers do is to halve the inertia
    chosen = seeding.kmeans_plus_plus(Points(x), 60, generator(), watched)
    assert len(set(chosen)) == 60
    assert passes.count(3000) <= 3


def test_farthest_takes_the_extremes():
    points = Points([[0.0], [4.0], [10.0], [5.0]])
    first, second, third = seeding.farthest_points(points, 3, generator(3), reference)
    x = points.x[:, 0]
    assert second == int((x - x[first]).abs().argmax())
    assert sorted([first, second, third]) != [first] * 3


def test_draw_below_is_even_for_large_bounds():
    g, bound = generator(), 3 * 2**60  # a plain remainder of 64 bits would favour the low third
    low = int((seeding.draw_below(bound, 15_000, g) < bound // 3).sum())
    assert abs(low - 5000) < 5 * 5000**0.5
    assert seeding.draw_below(1, 5, g).tolist() == [0] * 5


BOUNDS = st.integers(1, 2**63 - 1) | st.sampled_from([2**j for j in range(63)])


@given(BOUNDS, st.integers(1, 20), st.integers(0, 99))
def test_many_draws_are_as_many_single_ones(bound, count, seed):
    one, all_ = generator(seed), generator(seed)
    drawn = seeding.draw_below(bound, count, all_).tolist()
    assert drawn == [int(seeding.draw_below(bound, 1, one)) for _ in range(count)]
    assert one.get_state().equal(all_.get_state())
    assert all(0 <= value < bound for value in drawn)


@given(st.lists(BOUNDS, max_size=20), st.integers(0, 99))
def test_draws_below_many_bounds_are_as_many_single_ones(bounds, seed):
    one, all_ = generator(seed), generator(seed)
    assert seeding.draw_each_below(bounds, all_) == [int(seeding.draw_below(bound, 1, one)) for bound in bounds]
    assert one.get_state().equal(all_.get_state())


@pytest.mark.parametrize("few", [2000, 1999])
@pytest.mark.parametrize("seed", range(5))
def test_as_good_a_start_as_scikit_learn_s(seed, few, monkeypatch):
    monkeypatch.setattr(seeding, "_MEASURED_EACH_TIME", few)
    from sklearn.cluster import kmeans_plusplus

    x, _ = blobs(2000, 4, 12, spread=0.3, seed=seed)

    def inertia(centers):
        return ((x[:, None] - torch.as_tensor(centers)[None]) ** 2).sum(2).amin(1).sum().item()

    ours = np.median([inertia(seeding.first_centers(Points(x), 12, "k-means++", generator(s))) for s in range(15)])
    theirs = np.median([inertia(kmeans_plusplus(x.numpy(), 12, random_state=s)[0]) for s in range(15)])
    assert ours < 1.25 * theirs


def test_a_callable_gets_x_k_and_a_generator():
    def last_rows(x, k, g):
        assert isinstance(g, torch.Generator)
        return x[-k:]

    step = next(lloyd([[0.0], [1.0], [5.0]], 2, start=last_rows))
    assert step.centers.tolist() == [[1.0], [5.0]]
    assert lloyd([[0.0]], 1, start=last_rows).settings["start"] == "given"


def test_the_array_given_as_start_is_copied():
    start = np.array([[0.0], [1.0]])
    steps = list(lloyd(np.array([[0.0], [1.0], [5.0]]), 2, start=start))
    start[:] = 9
    assert steps[0].centers.tolist() == [[0.0], [1.0]]


# Weights

WEIGHTS = torch.tensor([0.0, 1.0, 2.0, 3.0, 6.0, 0.0])
DRAWS = 20_000


def weighted_rows():
    return Points(torch.arange(12.0).reshape(6, 2) ** 2, WEIGHTS)


def test_the_first_center_follows_the_weights():
    """A weight of 3 is three equal rows: chi-squared of 20,000 draws against the weights."""
    points, draw = weighted_rows(), generator(0)
    counts = np.bincount([seeding.random_points(points, 1, draw)[0] for _ in range(DRAWS)], minlength=6)
    assert counts[[0, 5]].tolist() == [0, 0]
    assert chisquare(counts[1:5], DRAWS * WEIGHTS[1:5].numpy() / 12).pvalue > 0.01


@pytest.mark.parametrize("start", ["k-means++", "random", "farthest"])
def test_every_start_begins_with_such_a_draw(start):
    points = weighted_rows()
    for seed in range(100):
        first = seeding.first_centers(points, 3, start, generator(seed))[0]
        if start == "random":  # all of its centers are drawn together
            assert first.equal(points.x[seeding.random_points(points, 3, generator(seed))[0]])
        else:
            assert first.equal(points.x[seeding.random_points(points, 1, generator(seed))[0]])


def test_random_starts_follow_the_weights_one_after_the_other():
    """Of two centers the first is row i with chance w_i / W, and the second row j with chance w_j / (W - w_i)."""
    points, draw = weighted_rows(), generator(1)
    counts = torch.zeros(6, 6)
    for _ in range(DRAWS):
        counts[tuple(seeding.random_points(points, 2, draw))] += 1
    expected = WEIGHTS[:, None] / 12 * WEIGHTS / (12 - WEIGHTS[:, None])
    expected.fill_diagonal_(0)
    assert counts[expected == 0].sum() == 0
    assert chisquare(counts[expected > 0], DRAWS * expected[expected > 0]).pvalue > 0.01


def test_a_few_heavy_rows_do_not_hide_the_light_ones():
    weight = torch.tensor([1e-30, 1e30, 1.0, 0.0, 1e-290], dtype=torch.float64)
    points = Points(torch.rand(5, 2), weight)
    rows = seeding.random_points(points, 4, generator(0))
    assert rows == [1, 2, 0, 4]


@pytest.mark.parametrize("start", ["random", "farthest"])
def test_equal_weights_draw_as_none(start):
    x = torch.rand(50, 2, generator=generator(0))
    centers = [
        seeding.first_centers(Points(x, weight), 5, start, generator(3)) for weight in (None, torch.full((50,), 2.5))
    ]
    assert torch.equal(*centers)


def test_a_sample_for_mini_batches_takes_every_row_alike():
    """Its rows keep their weights, which the first centers follow; drawn by weight, they would count twice."""
    points, draw = weighted_rows(), generator(2)
    counts = np.bincount([row for _ in range(2000) for row in seeding.equal_points(points, 2, draw)], minlength=6)
    assert counts[[0, 5]].tolist() == [0, 0]
    assert chisquare(counts[1:5]).pvalue > 0.01
