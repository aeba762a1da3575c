"""The first centers: by hand, by their distribution, and against scikit-learn's quality."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import problems

from stepfit import lloyd, seeding
from stepfit.datasets import blobs
from stepfit.points import Points


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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
    second = [c[1] for c in (seeding.kmeans_plus_plus(points, 2, g) for _ in range(6000)) if c[0] == 0]
    assert second.count(1) / len(second) == pytest.approx(0.01, abs=0.01)


def test_kmeans_plus_plus_never_draws_a_point_at_distance_0(monkeypatch):
    monkeypatch.setattr(seeding, "draw_below", lambda bound, g: 0)
    assert seeding.kmeans_plus_plus(Points([[0.0], [1.0], [2.0]]), 2, generator()) == [0, 1]


def test_farthest_takes_the_extremes():
    points = Points([[0.0], [4.0], [10.0], [5.0]])
    first, second, third = seeding.farthest_points(points, 3, generator(3))
    x = points.x[:, 0]
    assert second == int((x - x[first]).abs().argmax())
    assert sorted([first, second, third]) != [first] * 3


def test_draw_below_is_even_for_large_bounds():
    g, bound = generator(), 3 * 2**60  # a plain remainder of 64 bits would favour the low third
    low = sum(seeding.draw_below(bound, g) < bound // 3 for _ in range(15_000))
    assert abs(low - 5000) < 5 * 5000**0.5
    assert {seeding.draw_below(1, g) for _ in range(5)} == {0}


@pytest.mark.parametrize("seed", range(5))
def test_as_good_a_start_as_scikit_learn_s(seed):
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
