"""The checks of the k-means notebook: every mistake has its own words, every right way passes, for any seed."""

import pytest
import torch
from notebook_cells import code_cells, solved, verdict_after

from stepfit.lesson.checks import EXERCISES
from stepfit.lesson.checks.exercise import Learner, Wrong

NAME = "Pytorch1_KMeans"
pytestmark = pytest.mark.usefixtures("checks_here")

NUMBERS = [number for number, _ in code_cells(NAME) if number]
SHOWN_BY_CHANCE = ("start-with-replacement", "negative-by-rounding", "stops-early", "compared-with-itself")

DRAW = "x[torch.randperm(len(x))[:k]]"
PAIRS = "x.unsqueeze(1) - centers.unsqueeze(0)"
SUMMED = "pairs.square().sum(dim=2)"
SUMS = "torch.stack([x[labels == j].sum(dim=0) for j in range(k)])"
COLUMN = "sums / counts.unsqueeze(1)"
KEPT = "torch.where(counts.unsqueeze(1) > 0, means, centers)"
STEP = "return labels, update(x, labels, centers)"
TOTAL = "(x - centers[labels]).square().sum()"
LOOP = "labels, centers = step(x, centers)"
EQUAL = "labels.equal(before)"
FORMULA = "x.square().sum(dim=1).unsqueeze(1) - 2 * products + centers.square().sum(dim=1)"
ONE_HOT = "one_hot(labels, k)"
PRODUCT = "one_hot.T @ x"
ZEROS = "torch.zeros(k, x.shape[1], dtype=x.dtype)"
INDEX_ADD = "sums = sums.index_add_(0, labels, x)"
FAST = "return labels, torch.where(counts > 0, means, centers)"
RUN = "kmeans(points, points[rows], max_steps=20, step=fast_step)"  # its result is at hand in the notebook's `wall`
MOST = "table.amax(dim=1)"
SHARE = "most.sum() / len(labels)"

# The mistakes 1 to 10 of the lesson's table come first in each exercise that can have them.
MISTAKES = [
    ("2.1", DRAW, "x[torch.randint(len(x), (k,))]", "start-with-replacement"),  # 8
    ("2.1", DRAW, "torch.rand(k, x.shape[1])", "start-not-from-the-data"),  # 8
    ("2.1", DRAW, "x[torch.randperm(len(x))[:k]] + 0.01", "start-not-from-the-data"),
    ("2.1", DRAW, "x[:k]", "slice-shares-memory"),  # 10
    ("2.1", DRAW, "x[:k].clone()", "start-not-random"),
    ("2.1", DRAW, "torch.randperm(len(x))[:k]", "numbers-not-rows"),
    ("2.1", DRAW, "x[torch.randperm(len(x))]", "shape"),
    ("2.2", SUMMED, "pairs.square().mean(dim=0)", "distance-over-wrong-axis"),  # 2
    ("2.2", SUMMED, "pairs.square().sum(dim=1)", "distance-over-wrong-axis"),
    ("2.2", SUMMED, "pairs.square().sum()", "distance-over-wrong-axis"),
    ("2.2", PAIRS, "x - centers", "no-unsqueeze"),  # 3
    ("2.2", PAIRS, "x.unsqueeze(0) - centers", "no-unsqueeze"),
    ("2.2", PAIRS, "torch.from_numpy(x.numpy() - centers.numpy())", "no-unsqueeze"),
    ("2.2", PAIRS, "centers.unsqueeze(1) - x.unsqueeze(0)", "distances-transposed"),
    ("2.2", SUMMED, "pairs.sum(dim=2)", "no-square"),  # 4
    ("2.2", SUMMED, "pairs.mean(dim=2)", "no-square"),
    ("2.2", SUMMED, "pairs.abs().sum(dim=2)", "absolute-not-square"),
    ("2.2", SUMMED, "pairs.square().mean(dim=2)", "mean-not-sum"),
    ("2.2", SUMMED, "torch.cdist(x, centers)", "root-taken"),
    ("2.2", SUMMED, "pairs.norm(dim=2)", "root-taken"),
    ("2.2", SUMMED, "pairs.square().sum(dim=2) + 1", "value"),
    ("2.3", "argmin(dim=1)", "argmin(dim=0)", "argmin-over-wrong-axis"),  # 1
    ("2.3", "argmin(dim=1)", "argmax(dim=1)", "argmax-for-argmin"),  # 5
    ("2.3", "argmin(dim=1)", "amin(dim=1)", "smallest-not-its-place"),
    ("2.3", "argmin(dim=1)", "min(dim=1)", "value-and-place"),
    ("2.3", "argmin(dim=1)", "argmin(dim=1, keepdim=True)", "shape"),
    ("2.3", "argmin(dim=1)", "argmin(dim=1).float()", "dtype"),
    ("2.3", "distances.argmin(dim=1)", "2 - distances.flip(1).argmin(dim=1)", "value"),
    (
        "2.3",
        "distances.argmin(dim=1)",
        "distances.shape[1] - 1 - distances.flip(1).argmin(dim=1)",
        "tie-to-the-higher",
    ),
    ("2.4", COLUMN, "sums / counts", "counts-not-a-column"),  # 7
    (
        "2.4",  # 7 where it is silent: somebody who mended only the case that fails
        COLUMN,
        "sums / (counts if k == x.shape[1] else counts.unsqueeze(1))",
        "counts-not-a-column",
    ),
    ("2.4", SUMS, "x.sum(dim=0).expand(k, -1) * counts.unsqueeze(1) / len(x)", "mean-of-all-data"),
    ("2.4", COLUMN, "x.mean(dim=0).repeat(k, 1)", "mean-of-all-data"),
    ("2.4", COLUMN, "sums", "sum-not-mean"),
    ("2.4", COLUMN, "sums / len(x)", "divided-by-n"),
    ("2.4", "sum(dim=0)", "sum(dim=1)", "sum-over-features"),
    ("2.4", "sum(dim=0)", "sum()", "sum-over-features"),
    ("2.4", "labels == j", "labels != j", "value"),
    ("2.5", KEPT, "means", "empty-cluster-is-nan"),  # 6
    ("2.5", KEPT, "means.nan_to_num()", "empty-cluster-is-zero"),
    ("2.5", KEPT, "torch.where(counts > 0, means, centers)", "counts-not-a-column"),
    ("2.5", KEPT, "torch.where(counts.unsqueeze(1) == 0, means, centers)", "choice-turned-around"),
    ("2.5", KEPT, "centers", "choice-turned-around"),
    ("2.5", KEPT, "torch.where(counts.unsqueeze(1) > 0, means, x[:1])", "empty-cluster-moved"),
    ("2.5", KEPT, "torch.where(counts.unsqueeze(1) > 0, means, centers + 1)", "value"),
    ("2.6", STEP, "return labels, centers", "centers-never-written-back"),  # 9
    ("2.6", STEP, "return labels, new_centers(x, labels, centers)", "empty-cluster-is-nan"),  # 6
    ("2.6", STEP, "return update(x, labels, centers), labels", "pair-turned-around"),
    ("2.6", STEP, "return update(x, labels, centers)", "not-a-pair"),
    ("2.6", STEP, "centers[:] = update(x, labels, centers)\n    return labels, centers", "changes-its-arguments"),
    ("2.6", "nearest(squared_distances(x, centers))", "squared_distances(x, centers).argmax(dim=1)", "labels"),
    ("2.6", STEP, "return labels, update(x, labels, centers) + 1", "value"),
    ("2.7", TOTAL, "(x - centers[labels]).square().sum(dim=1).mean()", "mean-not-sum"),
    ("2.7", TOTAL, "(x - centers[labels]).square().mean()", "mean-not-sum"),
    ("2.7", TOTAL, "(x - centers[labels]).sum()", "no-square"),
    ("2.7", TOTAL, "(x - centers[labels]).abs().sum()", "absolute-not-square"),
    ("2.7", TOTAL, "(x - centers[labels]).norm()", "root-taken"),
    ("2.7", TOTAL, "(x - centers[labels]).norm(dim=1).sum()", "root-taken"),
    ("2.7", TOTAL, "squared_distances(x, centers).sum()", "every-center-counted"),
    ("2.7", TOTAL, "(x - centers[labels]).square().sum(dim=1)", "shape"),
    ("2.7", TOTAL, "'much'", "type"),
    ("2.7", TOTAL, "(x - centers[0]).square().sum()", "value"),
    ("2.8", LOOP, "labels, moved = step(x, centers)", "centers-never-written-back"),  # 9
    ("2.8", f"{LOOP}\n        if {EQUAL}", f"old = centers\n        {LOOP}\n        if True", "compared-with-itself"),
    (
        "2.8",  # 9: two names of one tensor
        f"{LOOP}\n        if {EQUAL}",
        "old = centers\n        labels, centers[:] = step(x, centers)\n        if centers.equal(old)",
        "compared-with-itself",
    ),
    (
        "2.8",  # 10: a right comparison, and written in place
        f"{LOOP}\n        if {EQUAL}",
        "labels, centers[:] = step(x, centers)\n        if labels.equal(before)",
        "start-changed-in-place",
    ),
    ("2.8", EQUAL, "_ == 2", "stops-early"),
    ("2.8", EQUAL, "False", "never-stops"),
    ("2.8", "range(max_steps)", "range(1000)", "max-steps-ignored"),
    ("2.8", LOOP, "labels, centers = my_step(x, centers)", "step-not-used"),
    ("2.8", "return labels, centers", "return labels", "not-a-pair"),
    ("2.8", "return labels, centers", "return labels, centers * torch.nan", "empty-cluster-is-nan"),  # 6
    ("2.9", FORMULA, "(x.unsqueeze(1) - centers).square().sum(dim=2)", "three-axes-held"),
    ("2.9", FORMULA, "centers.square().sum(dim=1) - 2 * products", "point-length-missing"),
    ("2.9", FORMULA, FORMULA.replace(".unsqueeze(1)", ""), "no-unsqueeze"),
    ("2.9", FORMULA, FORMULA.replace("2 * ", ""), "value"),
    ("2.9", ".clamp_min(0)", "", "negative-by-rounding"),
    ("2.9", ".clamp_min(0)", ".clamp_min(0).sqrt()", "root-taken"),
    ("2.10", ONE_HOT, "one_hot(labels)", "last-center-missing"),
    ("2.10", ".to(x.dtype)", "", "dtypes-differ"),
    ("2.10", PRODUCT, "one_hot @ x", "no-transpose"),
    ("2.10", PRODUCT, "one_hot.T @ x / one_hot.sum(dim=0).clamp_min(1).unsqueeze(1)", "mean-not-sum"),
    ("2.10", PRODUCT, SUMS, "loop-over-centers"),
    ("2.10", PRODUCT, "one_hot.T @ x + 1", "value"),
    ("2.11", ZEROS, "torch.zeros(labels.max() + 1, x.shape[1])", "last-center-missing"),
    ("2.11", ZEROS, "torch.zeros(k, x.shape[1], dtype=torch.int64)", "dtypes-differ"),
    ("2.11", INDEX_ADD, "sums[labels] += x", "written-once"),
    ("2.11", INDEX_ADD, "for i in range(len(x)):\n        sums[labels[i]] += x[i]", "loop-over-points"),
    ("2.12", "product_distances", "squared_distances", "three-axes-held"),
    ("2.12", FAST, "return labels, update(x, labels, centers)", "loop-over-centers"),
    ("2.12", FAST, "return labels, means", "empty-cluster-is-nan"),  # 6
    ("2.12", FAST, "return labels, centers", "centers-never-written-back"),  # 9
    ("2.13", "images.float() / 255", "images", "pixels-still-whole"),
    ("2.13", "images.float() / 255", "images // 255", "pixels-still-whole"),
    ("2.13", "images.float() / 255", "(images // 255).float()", "pixels-cut-off"),
    ("2.13", "images.float() / 255", "images.float()", "pixels-not-scaled"),
    ("2.13", "images.float() / 255", "images.float() / 256", "value"),
    ("2.14", RUN, "(wall[0].labels, wall[1].centers)", "stops-early"),
    ("2.14", RUN, "(wall.last.labels, wall.last.centers * 255)", "pixels-not-scaled"),
    ("2.14", RUN, "(wall.last.labels, wall.last.centers.flip(0))", "labels"),
    ("2.14", RUN, "wall.last.labels", "not-a-pair"),
    ("2.14", RUN, "(wall.last.labels, wall.last.centers * float('nan'))", "empty-cluster-is-nan"),  # 6
    ("2.15", MOST, "table.amax(dim=0)", "purity-over-wrong-axis"),
    ("2.15", SHARE, "most.sum()", "not-a-share"),
    ("2.15", SHARE, "(most / table.sum(dim=1)).mean()", "mean-of-shares"),
    ("2.15", MOST, "table.argmax(dim=1)", "value"),
]

RIGHT_WAYS = [
    ("2.1", DRAW, "x[torch.multinomial(torch.ones(len(x)), k)]"),
    ("2.1", DRAW, "x[torch.randperm(len(x))][:k]"),  # a slice, but of a copy
    ("2.1", DRAW, "x[__import__('random').sample(range(len(x)), k)]"),
    ("2.1", DRAW, "x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:k]].double()"),
    ("2.1", DRAW, "torch.from_numpy(__import__('numpy').random.default_rng().permutation(x.numpy())[:k])"),
    ("2.2", SUMMED, "torch.cdist(x, centers).square()"),
    ("2.2", SUMMED, "torch.einsum('nkd,nkd->nk', pairs, pairs)"),
    ("2.2", SUMMED, FORMULA.replace("products", "(x @ centers.T)")),
    ("2.2", SUMMED, "torch.tensor([[((p - c) ** 2).sum() for c in centers] for p in x])"),
    ("2.2", SUMMED, "torch.from_numpy(((x.numpy()[:, None] - centers.numpy()) ** 2).sum(axis=2))"),
    ("2.2", SUMMED, "(x[:, None].double() - centers).pow(2).sum(-1)"),
    ("2.3", "argmin(dim=1)", "min(dim=1).indices"),
    ("2.3", "distances.argmin(dim=1)", "torch.tensor([row.argmin() for row in distances], dtype=torch.int32)"),
    ("2.3", "distances.argmin(dim=1)", "torch.from_numpy(distances.numpy().argmin(axis=1))"),
    ("2.4", COLUMN, "torch.stack([x[labels == j].mean(dim=0) for j in range(k)])"),
    ("2.4", COLUMN, "(torch.nn.functional.one_hot(labels, k).double().T @ x.double()) / counts[:, None]"),
    ("2.4", COLUMN, "torch.zeros(k, x.shape[1]).index_add_(0, labels, x) / counts[:, None]"),
    (
        "2.4",
        COLUMN,
        "torch.zeros_like(centers).scatter_reduce(0, labels[:, None].expand_as(x), x, 'mean', include_self=False)",
    ),
    ("2.5", KEPT, "torch.where(means.isnan(), centers, means)"),
    ("2.5", KEPT, "means.clone()\n    following[counts == 0] = centers[counts == 0]"),
    ("2.5", KEPT, "torch.stack([means[j] if counts[j] else centers[j] for j in range(len(centers))])"),
    ("2.6", STEP, "return [labels.int(), update(x.double(), labels, centers.double())]"),
    ("2.7", TOTAL, "squared_distances(x, centers).min(dim=1).values.sum().item()"),
    ("2.7", TOTAL, "sum(float(((p - centers[j]) ** 2).sum()) for p, j in zip(x, labels))"),
    ("2.8", f"{LOOP}\n        if {EQUAL}", f"old = centers.clone()\n        {LOOP}\n        if centers.equal(old)"),
    (
        "2.8",  # written in place, but into a copy of its own
        f"{LOOP}\n        if {EQUAL}",
        "centers = centers.clone()\n        labels, centers[:] = step(x, centers)\n        if labels.equal(before)",
    ),
    ("2.8", "return labels, centers", "return step(x, centers)"),
    ("2.9", FORMULA, "torch.cdist(x, centers).square()"),
    ("2.9", FORMULA, "torch.stack([(x - c).square().sum(dim=1) for c in centers], dim=1)"),
    ("2.9", FORMULA, FORMULA.replace("products", "torch.einsum('nd,kd->nk', x, centers)")),
    ("2.10", PRODUCT, "torch.einsum('nk,nd->kd', one_hot, x)"),
    ("2.10", PRODUCT, "(labels == torch.arange(k)[:, None]).to(x.dtype) @ x"),
    ("2.11", INDEX_ADD, "sums.index_put_((labels,), x, accumulate=True)"),
    ("2.11", INDEX_ADD, "sums = sums.scatter_reduce(0, labels[:, None].expand_as(x), x, 'sum')"),
    ("2.11", INDEX_ADD, "sums.scatter_add_(0, labels[:, None].expand_as(x), x)"),
    ("2.11", INDEX_ADD, "__import__('numpy').add.at(sums.numpy(), labels.numpy(), x.numpy())"),
    ("2.12", "sums_by_index(x, labels, k)", "sums_by_product(x, labels, k)"),
    ("2.13", "images.float() / 255", "images / 255"),
    ("2.13", "images.float() / 255", "images.double().div(255)"),
    ("2.14", RUN, "(wall.last.labels, wall.last.next_centers.double())"),
    ("2.15", SHARE, "sum(int(table[j].max()) for j in range(k)) / len(digits)"),
    ("2.15", SHARE, "(table.argmax(dim=1)[labels] == digits).double().mean()"),
]


def _named(rows):
    return [pytest.param(*row, id=f"{row[0]}-{row[2][:50]}") for row in rows]


@pytest.mark.parametrize(("number", "old", "new", "mistake"), _named(MISTAKES))
def test_a_mistake_has_its_own_words(number, old, new, mistake):
    verdict = verdict_after(NAME, number, old, new)
    assert (verdict.status, verdict.mistake) == ("wrong", mistake), verdict
    if mistake not in ("shape", "dtype", "type"):  # those three are said by tensor(), for every notebook
        assert "?" in verdict.words


@pytest.mark.parametrize(("number", "old", "new"), _named(RIGHT_WAYS))
def test_a_right_way_passes(number, old, new):
    verdict = verdict_after(NAME, number, old, new)
    assert verdict.status == "passed", verdict


@pytest.mark.parametrize("number", NUMBERS)
def test_the_solution_passes_for_every_seed(number):
    for seed in range(20 if number != "2.14" else 1):  # that one draws nothing
        assert judged(number, solved(NAME), seed)


@pytest.mark.parametrize(
    ("number", "old", "new", "mistake"),
    _named(row for row in MISTAKES if row[3] in SHOWN_BY_CHANCE and row[0] != "2.14"),
)
def test_a_mistake_that_shows_by_chance_shows_for_every_seed(number, old, new, mistake):
    namespace = dict(solved(NAME))
    exec(dict(code_cells(NAME))[number].replace(old, new), namespace)
    for seed in range(20):
        with pytest.raises(Wrong) as wrong:
            judged(number, namespace, seed)
        assert wrong.value.mistake == mistake


def judged(number, namespace, seed):
    """Judge as check() does, but in this process: faster, and fine for code that is known."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return EXERCISES[number].judge(Learner(namespace, seed))


def test_the_two_ones_lie_farther_apart_than_fours_and_nines():
    notebook = solved(NAME)
    last, digits, pixels = notebook["wall"].last, notebook["digits"], notebook["pixels"]
    most = [digits[last.labels == j].bincount(minlength=10).argmax().item() for j in range(10)]
    ones = [last.centers[j] for j in range(10) if most[j] == 1]
    four, nine = (pixels[digits == digit].mean(dim=0) for digit in (4, 9))
    assert len(ones) == 2
    assert (ones[0] - ones[1]).square().sum() > (four - nine).square().sum()


def test_a_lost_center_loses_the_others():
    notebook = solved(NAME)
    steps = notebook["lloyd"](notebook["six"], k=3, start=notebook["twins"], empty="nan", max_steps=4)
    assert [int(step.centers.isnan().any(dim=1).sum()) for step in steps] == [0, 1, 2, 2]


def test_every_random_start_on_the_eight_clouds_ends_above_every_better_one():
    notebook = solved(NAME)
    ends = {
        start: [
            notebook["record"](notebook["lloyd"](notebook["clouds"], k=8, start=start, seed=seed)).last.inertia
            for seed in range(10)
        ]
        for start in ("random", "k-means++")
    }
    assert min(ends["random"]) > 1.1 * max(ends["k-means++"])
