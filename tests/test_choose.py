"""choose_k(): each k is the best of its runs, the criteria are what others compute, and the verdict is honest."""

from collections import Counter
from dataclasses import fields, replace
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, silhouette_score

from stepfit import ChoiceStep, Recording, Stop, choose_k, lloyd, record
from stepfit.clustering.choose import adjusted_rand, silhouette, table, verdict
from stepfit.clustering.seeding import random_points
from stepfit.datasets import blobs

THREE = torch.cat([blobs(60, 2, 1, seed=j)[0] * 0.2 + 20 * j for j in range(3)])


def curve(ks, inertias, silhouettes=None, stabilities=None):
    """Steps of choose_k with these numbers, whatever points they would come from."""
    best = list(lloyd([[0.0]], 1))[-1]
    rows = zip(ks, inertias, silhouettes or [None] * len(ks), stabilities or [None] * len(ks))
    return [
        ChoiceStep(index=i, loss=loss, seconds=0.0, k=k, silhouette=s, stability=a, inertias=torch.ones(1), best=best)
        for i, (k, loss, s, a) in enumerate(rows)
    ]


# What is measured


def test_a_silhouette_worked_out_by_hand():
    """0: a 1, b 5. 1: a 1, b 4. The third is alone: 0."""
    assert silhouette([[0.0], [1.0], [5.0]], torch.tensor([7, 7, 2])) == pytest.approx((4 / 5 + 3 / 4) / 3)


def test_a_rand_index_worked_out_by_hand():
    """Pairs together: 2 in a, 3 in b, 1 in both, of 6; chance gives 2 * 3 / 6 = 1, so nothing is above it."""
    assert adjusted_rand(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 1])) == 0
    assert adjusted_rand(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])) == pytest.approx(-0.5)


labelings = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=40)


@given(labelings)
def test_the_rand_index_is_that_of_scikit_learn(pairs):
    a, b = torch.tensor(pairs).T
    assert adjusted_rand(a, b) == pytest.approx(adjusted_rand_score(a.numpy(), b.numpy()), abs=1e-12)
    assert adjusted_rand(a, b) == adjusted_rand(b, a) == adjusted_rand(9 - a, b)


@given(labelings, st.integers(0, 99))
def test_the_silhouette_is_that_of_scikit_learn(pairs, seed):
    labels = torch.tensor(pairs)[:, 0]
    # Rounded, so that some points are one: there 0 is divided by 0.
    x = np.random.default_rng(seed).normal(size=(len(labels), 3)).round() + 50
    if not 2 <= len(labels.unique()) < len(labels):
        assert silhouette(x, labels) == (None if len(labels.unique()) == 1 else 0)
    else:
        assert silhouette(x, labels) == pytest.approx(silhouette_score(x, labels.numpy()), abs=1e-6)


def test_the_silhouette_is_right_far_from_the_origin():
    """Distances by way of products would be rounding alone here."""
    x = torch.tensor([[0.0], [1.0], [5.0]], dtype=torch.float64) + 1e9
    assert silhouette(x, torch.tensor([0, 0, 1])) == pytest.approx((4 / 5 + 3 / 4) / 3)


@pytest.mark.parametrize("block", [1, 40])
def test_blocks_do_not_change_the_silhouette(monkeypatch, block):
    labels = list(lloyd(THREE, 5, seed=0))[-1].labels
    whole = silhouette(THREE, labels)
    monkeypatch.setattr("stepfit.clustering.choose._BLOCK_DISTANCES", block * len(THREE))
    assert silhouette(THREE, labels) == pytest.approx(whole, rel=1e-14)


# The steps


def test_a_step_is_the_best_of_its_runs():
    for step in choose_k(THREE, [2, 5], seeds=3, seed=7):
        runs = [list(lloyd(THREE, step.k, seed=seed))[-1] for seed in (7, 8, 9)]
        assert step.inertias.tolist() == [run.inertia for run in runs]
        assert step.inertia == step.loss == step.best.inertia == min(step.inertias)
        assert step.best.stop is Stop.CONVERGED
        agreements = [adjusted_rand_score(a.labels, b.labels) for a, b in combinations(runs, 2)]
        assert step.stability == pytest.approx(np.mean(agreements))
        assert step.silhouette == pytest.approx(silhouette_score(THREE, step.best.labels))


def test_the_silhouette_of_a_sample_is_that_of_scikit_learn_on_the_same_rows(monkeypatch):
    looked = []
    monkeypatch.setattr(
        "stepfit.clustering.choose.random_points", lambda *given: looked.append(random_points(*given)) or looked[-1]
    )
    steps = list(choose_k(THREE, [2, 3, 4], seeds=1, sample=25, seed=3))
    (rows,) = looked
    assert len(set(rows)) == 25
    for step in steps:
        assert step.silhouette == pytest.approx(silhouette_score(THREE[rows], step.best.labels[rows]))
    monkeypatch.setattr("stepfit.clustering.choose._KEPT_ROWS", 10)  # distances measured again for each k
    assert [s.silhouette for s in choose_k(THREE, [2, 3, 4], seeds=1, sample=25, seed=3)] == [
        s.silhouette for s in steps
    ]


def test_a_step_comes_before_the_next_k_is_tried(monkeypatch):
    tried = Counter()
    watched = lambda x, k, **options: tried.update([k]) or lloyd(x, k, **options)  # noqa: E731
    monkeypatch.setattr("stepfit.clustering.choose.lloyd", watched)
    steps = choose_k(THREE, range(1, 5), seed=0, seeds=2)
    assert not tried
    for step in steps:
        assert tried == dict.fromkeys(range(1, step.k + 1), 2)
        assert (step.index, step.stop) == (step.k - 1, Stop.CONVERGED if step.k == 4 else None)


def test_the_same_seed_gives_the_same_steps():
    once, again = (list(choose_k(THREE, [2, 3, 6], seed=5, sample=20)) for _ in range(2))
    assert [(s.loss, s.silhouette, s.stability) for s in once] == [(s.loss, s.silhouette, s.stability) for s in again]
    drawn = choose_k(THREE, [2])
    assert 0 <= drawn.settings["seed"] < 2**32


@given(st.integers(1, 12), st.data())
def test_any_points_and_ks_give_numbers_in_their_ranges(n, data):
    x = data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=n, max_size=n))
    ks = sorted(data.draw(st.sets(st.integers(1, n), min_size=1)))
    seeds = data.draw(st.integers(1, 3))
    run = record(choose_k(np.array(x), ks, seeds=seeds, sample=data.draw(st.integers(2, 15)), seed=1))
    assert [step.k for step in run] == ks
    for step in run:
        assert step.silhouette is None or -1 <= step.silhouette <= 1
        assert (step.stability is None) == (seeds == 1)
        assert step.k > 1 or (step.stability in (None, 1.0) and step.silhouette is None)
    found = verdict(run)
    assert found.k in {*ks, None}
    assert found.sentences
    assert table(run).count("\n") == len(ks)


def test_what_went_short_is_told():
    run = record(choose_k(THREE, [4], seed=0, max_steps=1))
    assert run.last.events == ("k = 4: 3 of 3 runs came to max_steps; raise it for their true inertia",)
    repeats = record(choose_k([[0.0], [0.0], [1.0]], [3], seed=0))
    assert repeats.last.events[-1].startswith("k = 3: 1 of the clusters are empty")
    assert repeats.last.events[-1] in verdict(repeats).sentences


def test_a_recording_is_saved_and_loaded(tmp_path):
    run = record(choose_k(THREE, [1, 2, 3], seed=0))
    again = Recording.load(run.save(tmp_path / "choices.npz"))
    assert table(again) == table(run)
    assert again.settings == run.settings
    for a, b in zip(run, again):
        assert type(b) is ChoiceStep
        assert type(b.best) is type(a.best)
        assert b.best.stop is a.best.stop
        assert b.inertias.equal(a.inertias)
        for field in fields(a.best):
            one, other = getattr(a.best, field.name), getattr(b.best, field.name)
            assert one.equal(other) if isinstance(one, torch.Tensor) else one == other


def test_points_of_a_file_and_bytes_give_the_same_steps(tmp_path):
    x = (THREE * 4).clamp(0, 255).to(torch.uint8)
    np.save(tmp_path / "x.npy", x.numpy())
    for kind in (x, x.numpy(), tmp_path / "x.npy"):
        steps = list(choose_k(kind, [2, 3], seed=0, sample=30))
        assert [s.silhouette for s in steps] == [s.silhouette for s in choose_k(x.float(), [2, 3], seed=0, sample=30)]


# What is made of them


def test_three_clear_clusters_are_found_by_all():
    found = verdict(record(choose_k(THREE, range(1, 9), seed=0)))
    assert (found.elbow, found.silhouette, found.stability, found.k) == (3, 3, 3, 3)
    assert found.sentences[0] == "k = 3: elbow, silhouette and stability agree."
    assert "a strong structure" in " ".join(found.sentences)


def test_the_elbow_by_hand():
    """Scaled, the curve is 1, 0.5, 0.1, 0.05, 0 at 0, 1/4, 1/2, 3/4, 1: below the line by 0.25, 0.4 and 0.2."""
    found = verdict(curve([1, 2, 3, 4, 5], [110, 60, 20, 15, 10]))
    assert (found.elbow, found.k) == (3, 3)
    assert "at k = 3 the inertia lies 40% of its fall" in found.sentences[1]


@given(st.lists(st.floats(0, 1e6), min_size=3, max_size=12), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_units_do_not_move_the_elbow(inertias, factor, offset):
    inertias = np.unique(np.round(inertias))[::-1]
    ks = list(range(1, len(inertias) + 1))
    plain, scaled = (verdict(curve(ks, values)) for values in (inertias, inertias * factor + offset))
    if plain.elbow != scaled.elbow:  # two ks are equally far below
        falls = [(inertias[0] - inertias[k - 1]) / np.ptp(inertias) - (k - 1) / (len(ks) - 1) for k in ks]
        either = [0.0 if found.elbow is None else falls[found.elbow - 1] for found in (plain, scaled)]
        assert either[0] == pytest.approx(either[1], abs=1e-6)


@pytest.mark.parametrize("inertias", [[3, 2, 1], [9, 6, 1], [0, 0, 0], [5], [5, 2], [1, 2, 3]])
def test_no_elbow_where_nothing_bends(inertias):
    found = verdict(curve(range(1, len(inertias) + 1), inertias))
    assert found.elbow is found.k is None
    assert found.sentences[0].startswith("No criterion has an opinion")


def test_the_largest_k_that_is_as_stable_is_taken_and_one_cluster_never_is():
    assert verdict(curve([1, 2, 3, 4], [9, 6, 3, 0], None, [1.0, 0.97, 0.96, 0.5])).stability == 3
    assert verdict(curve([1], [9], None, [1.0])).stability is None


def test_criteria_that_disagree_are_said_to():
    found = verdict(curve([2, 3, 4, 5], [100, 30, 10, 0], [0.2, 0.1, 0.1, 0.1], [0.7, 0.6, 0.7, 0.2]))
    assert (found.elbow, found.silhouette, found.stability, found.k) == (3, 2, 4, 2)
    assert found.sentences[0] == "The criteria disagree: silhouette says 2, elbow says 3 and stability says 4."
    assert "no substantial structure" in " ".join(found.sentences)
    assert any("No k gives the same clusters from every seed" in sentence for sentence in found.sentences)


def test_two_against_one():
    found = verdict(curve([2, 3, 4, 5], [100, 30, 10, 0], [0.2, 0.6, 0.1, 0.1], [1.0, 0.6, 0.6, 0.2]))
    assert found.sentences[0] == "k = 3: elbow and silhouette agree; stability says 2."


def test_the_table_marks_what_each_criterion_points_to():
    lines = table(curve([2, 3, 4, 5], [100, 30, 10, 0], [0.2, None, 0.1, 0.1], [1.0, 0.6, 0.6, 0.2])).splitlines()
    assert lines[0].split() == ["k", "inertia", "silhouette", "stability", "seconds"]
    assert [line.partition("<- ")[2] for line in lines[1:]] == ["silhouette, stability", "elbow", "", ""]
    assert lines[2].split()[:4] == ["3", "30", "-", "0.600"]
    assert all(len(a.partition("<")[0].rstrip()) == len(b.partition("<")[0].rstrip()) for a, b in pairwise(lines))


# Bad input


@pytest.mark.parametrize(
    ("ks", "options", "error", "words"),
    [
        ([], {}, ValueError, r"ks is empty; .* range\(2, 11\)"),
        (3, {}, TypeError, r"ks is 3; it must be several .* range\(2, 11\)"),
        ("23", {}, TypeError, "ks is '23'"),
        ([2, 2.5], {}, TypeError, "ks holds 2.5; each must be a whole number"),
        ([True, 2], {}, ValueError, "ks holds True"),
        ([0, 2], {}, ValueError, "ks holds 0, but x has 4 points; each k must be from 1 to 4"),
        (range(2, 6), {}, ValueError, "ks holds 5, but x has 4 points"),
        ([3, 2], {}, ValueError, "ks has 2 after 3; give each k once, in rising order"),
        ([2, 2], {}, ValueError, "ks has 2 after 2"),
        ([2], {"seeds": 0}, ValueError, "seeds is 0; at least 1 run"),
        ([2], {"sample": 1}, ValueError, "sample is 1; at least 2 rows"),
        ([2], {"max_steps": 0}, ValueError, "max_steps is 0; at least 1"),
        ([2], {"seed": -1}, ValueError, "seed is -1"),
        ([2], {"seed": 2**62 - 2}, ValueError, "seed is "),
        ([2], {"seed": "a"}, TypeError, "seed is 'a'"),
    ],
)
def test_bad_input_is_refused_at_the_call(ks, options, error, words):
    with pytest.raises(error, match=words):
        choose_k([[0.0], [1.0], [2.0], [3.0]], ks, **options)


def test_points_that_are_none_are_refused_at_the_call():
    with pytest.raises(ValueError, match="x has nan at row 1"):
        choose_k([[0.0], [np.nan]], [1])
    with pytest.raises(ValueError, match=r"labels has shape \(2,\); x has 1 rows"):
        silhouette([[0.0]], torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"the labels have shapes \(2,\) and \(1,\)"):
        adjusted_rand(torch.tensor([0, 1]), torch.tensor([0]))


def test_a_step_is_frozen():
    (step,) = choose_k(THREE, [2], seed=0)
    with pytest.raises(AttributeError):
        step.k = 3
    assert replace(step, index=4).best is step.best
