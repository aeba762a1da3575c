"""Pictures: regions are right, what is drawn is what the step holds, every kind is legible, nothing global moves."""

import io
import subprocess
import sys
from dataclasses import replace
from itertools import combinations

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from stepfit import assign, choose_k, datasets, descend, figure, linear_regression, lloyd, logistic_regression, record
from stepfit.clustering.choose import verdict
from stepfit.clustering.mini_batch import mini_batches
from stepfit.steps import Stop
from stepfit.viewers.figures import picture_of
from stepfit.viewers.voronoi import class_regions, clipped, corners, regions

BOX = (-4.0, 4.0, -3.0, 3.0)


def area(polygon):
    x, y = polygon.T
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def depth(polygon, point):
    """How far inside a convex polygon (corners counterclockwise) a point lies; negative outside."""
    along = np.roll(polygon, -1, axis=0) - polygon
    lengths = np.hypot(*along.T)
    across = along[:, 0] * (point - polygon)[:, 1] - along[:, 1] * (point - polygon)[:, 0]
    return (across[lengths > 1e-9] / lengths[lengths > 1e-9]).min(initial=np.inf)


def pixels(drawn):
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()


def cloud(n=40, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 2))


def plane(n=40, k=4, **options):
    x = cloud(n)
    return record(lloyd(x, k, seed=0, **options)), x


def wall(k=3, **options):
    x = np.random.default_rng(0).normal(size=(30, 9))
    return record(lloyd(x, k, seed=0, **options)), x


def line(regression=linear_regression, **options):
    x = cloud()
    y = (x @ [1, 2] > 0.3).astype(int)
    return record(regression(x, y, seed=0, **options)), x, y


# Regions


def test_four_centers_share_a_square():
    quarters = regions(np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]), (-2, 2, -2, 2))
    assert [area(quarter) for quarter in quarters] == [4, 4, 4, 4]
    assert sorted(map(tuple, quarters[0].tolist())) == [(-2, -2), (-2, 0), (0, -2), (0, 0)]


def test_of_two_centers_at_one_place_the_lower_has_the_region():
    assert [area(region) for region in regions(np.array([[1.0, 1], [1, 1], [1, 1]]), BOX)] == [48, 0, 0]


def test_the_first_center_that_is_nan_has_all():
    centers = np.array([[0.0, 0], [np.nan, 0], [1, 1], [np.nan, np.nan]])
    assert [area(region) for region in regions(centers, BOX)] == [0, 48, 0, 0]


def test_clipping_through_corners_and_beside():
    square = corners((0, 1, 0, 1))
    across = np.array([1.0, -1]) / np.sqrt(2)
    assert area(clipped(square, np.zeros(2), across, 0.0)) == pytest.approx(0.5)
    assert area(clipped(square, np.zeros(2), np.array([1.0, 0]), 5.0)) == 1
    assert len(clipped(square, np.zeros(2), np.array([1.0, 0]), -5.0)) == 0


coordinates = st.integers(-3, 3).map(float) | st.floats(-6, 6)


@given(
    arrays("float64", st.tuples(st.integers(1, 12), st.just(2)), elements=coordinates),
    arrays("float64", (20, 2), elements=st.floats(-3, 3)),
    st.sampled_from([0.0, 1e6]),
)
def test_a_region_holds_exactly_the_points_that_are_labeled_with_it(centers, points, offset):
    centers, points, box = centers + offset, points + offset, tuple(np.array(BOX) + offset)
    polygons = regions(centers, box)
    assert sum(map(area, polygons)) == pytest.approx(48, abs=1e-6 * (1 + offset))
    rounding = 1e-9 * (1 + offset)
    for point, label in zip(points, assign(points, centers).tolist()):
        for j, polygon in enumerate(polygons):
            inside = depth(polygon, point) if len(polygon) else -1.0
            distances = np.hypot(*(centers[[j, label]] - point).T)
            if j == label:
                assert inside >= -rounding or abs(np.diff(distances)[0]) <= rounding
            else:
                assert inside <= rounding or np.isclose(*distances, rtol=0, atol=rounding)


# k-means on the plane


def test_points_are_drawn_in_the_group_of_their_label():
    run, x = plane(k=10)
    picture = picture_of(run, x)
    picture.show(0)
    labels = run[0].labels.numpy()
    for j, group in enumerate(picture.groups):
        np.testing.assert_array_equal(np.column_stack(group.get_data()), x[labels % 8 == j])
    assert len(picture.unlabeled.get_xdata()) == 0


def test_the_centers_are_numbered_and_move():
    run, x = plane()
    picture = picture_of(run, x)
    picture.show(0, "assign")
    assert [text.get_text() for text in picture.numbers] == ["0", "1", "2", "3"]
    np.testing.assert_array_equal(picture.marks.get_offsets(), run[0].centers)
    assert len(picture.moves.get_xdata()) == 0
    picture.show(0, "update")
    np.testing.assert_array_equal(picture.marks.get_offsets(), run[0].next_centers)
    np.testing.assert_array_equal(np.column_stack(picture.ends.get_data()), run[0].centers)
    picture.show(0)
    np.testing.assert_array_equal(picture.marks.get_offsets(), run[0].centers)
    np.testing.assert_array_equal(np.column_stack(picture.ends.get_data()), run[0].next_centers)


def test_the_regions_stay_until_the_next_assignment():
    run, x = plane()
    picture = picture_of(run, x)
    picture.show(0, "assign")
    before = [path.vertices for path in picture.regions.get_paths()]
    picture.show(0, "update")
    for old, new in zip(before, picture.regions.get_paths()):
        np.testing.assert_array_equal(old, new.vertices)
    picture.show(1, "assign")
    assert not all(np.array_equal(old, new.vertices) for old, new in zip(before, picture.regions.get_paths()))


def test_at_the_start_nothing_has_a_label():
    run, x = plane()
    picture = picture_of(run, x)
    picture.show(0, "start")
    assert len(picture.unlabeled.get_xdata()) == len(x)
    assert not any(len(group.get_xdata()) for group in picture.groups)
    assert not picture.regions.get_paths()


def test_the_curve_ends_at_the_step_shown():
    run, x = plane()
    picture = picture_of(run, x)
    picture.show(1)
    ((_, strong, dot),) = picture.curve.drawn
    assert strong.get_ydata().tolist() == [run[0].inertia, run[1].inertia]
    assert (dot.get_xdata().tolist(), dot.get_ydata().tolist()) == ([1], [run[1].inertia])


def test_both_axes_have_the_same_unit():
    run, x = plane()
    axes = figure(run, x * [1, 100]).axes[-1]
    (x0, y0), (x1, y1) = axes.transData.transform([(0, 0), (1, 1)])
    assert x1 - x0 == pytest.approx(y1 - y0)


def test_many_points_are_thinned_the_same_way_each_time_and_never_by_the_callers_generators():
    x = cloud(12_000)
    run = record(lloyd(x, 3, seed=0, max_steps=2))
    generators = np.random.mtrand._rand.get_state()[1].copy(), torch.get_rng_state()
    first, second = picture_of(run, x), picture_of(run, x)
    assert len(first.points) == 5_000
    np.testing.assert_array_equal(first.points, second.points)
    np.testing.assert_array_equal(first.points, x[first.rows.numpy()])
    np.testing.assert_array_equal(generators[0], np.random.mtrand._rand.get_state()[1])
    assert generators[1].equal(torch.get_rng_state())


def test_a_far_center_does_not_make_the_points_small():
    x = cloud()
    run = record(lloyd(x, 2, start=[[0, 0], [1e6, 0]], empty="keep"))
    picture = picture_of(run, x)
    assert picture.box[1] < 10
    picture.show(0)
    assert [text.get_text() for text in picture.counts] == ["0: 40 points", "1: 0 points, center is outside"]


def test_a_center_that_is_nan_is_named_and_not_drawn():
    x = cloud()
    run = record(lloyd(x, 2, start=[[0, 0], [50, 0]], empty="nan", max_steps=3))
    picture = picture_of(run, x)
    picture.show(1)
    assert [text.get_visible() for text in picture.numbers] == [True, False]
    assert picture.counts[1].get_text() == "1: 40 points, center is NaN"


# k-means on images


def test_the_wall_shows_the_centers_with_counts_and_what_most_show():
    x = np.array([[0.0] * 9, [0.0] * 9, [0.0] * 9, [9.0] * 8 + [5.0]])
    run = record(lloyd(x, 2, start=x[[0, 3]]))
    picture = picture_of(run, x, [7, 7, 3, 4])
    picture.show(0, "assign")
    np.testing.assert_array_equal(picture.images[1].get_array(), x[3].reshape(3, 3))
    assert [text.get_text() for text in picture.captions] == [
        "0: 3 images\nmostly 7 (67%)",
        "1: 1 image\nmostly 4 (100%)",
    ]
    picture.show(0, "start")
    assert [text.get_text() for text in picture.captions] == ["0", "1"]


def test_the_wall_after_the_update_shows_the_next_centers():
    run, x = wall()
    picture = picture_of(run, x)
    picture.show(0, "update")
    np.testing.assert_array_equal(picture.images[2].get_array().ravel(), run[0].next_centers[2])


def test_ten_digits_are_two_rows_of_five():
    run, x = wall(k=10)
    lefts = {image.get_extent()[0] for image in picture_of(run, x).images}
    assert len(lefts) == 5


# Gradient descent


@pytest.mark.parametrize(("regression", "threshold"), [(linear_regression, 0.5), (logistic_regression, 0.0)])
@pytest.mark.parametrize("alone", [False, True])
def test_the_line_parts_the_classes_as_the_model_does(regression, threshold, alone):
    run, x, y = line(regression, start=([[0.2, 0.1]], [0.0]), max_steps=2)
    picture = picture_of(run.last if alone else run, x, y)
    picture.show(0 if alone else 1)
    weight, bias = run.last.params["weight"][0].numpy(), run.last.params["bias"].item()
    np.testing.assert_allclose(np.column_stack(picture.line.get_data()) @ weight + bias, threshold, atol=1e-9)
    halves = [path.vertices[:-1] for path in picture.halves.get_paths()]
    assert sum(map(area, halves)) == pytest.approx(area(corners(picture.box)))
    for point in x:
        assert depth(halves[int(point @ weight + bias > threshold)], point) >= -1e-9


def test_without_weights_there_is_no_line():
    run, x, y = line(start=([[0, 0]], [0]), max_steps=1)
    picture = picture_of(run, x, y)
    picture.show(0)
    assert len(picture.line.get_xdata()) == 0
    assert [len(path.vertices) > 0 for path in picture.halves.get_paths()] == [True, False]


def test_the_path_and_the_curves_end_at_the_step_shown():
    x = cloud()
    y = (x[:, :1] > 0).astype(int)
    run = record(logistic_regression(x, y, seed=0, max_steps=5, test=(x[:9], y[:9])))
    picture = picture_of(run, x, y)
    picture.show(2)
    weights = torch.cat([step.params["weight"] for step in run[:3]])
    np.testing.assert_array_equal(np.column_stack(picture.trail.get_data()), weights)
    losses, accuracies = picture.curves
    assert [strong.get_label() for _, strong, _ in losses.drawn] == ["train", "test"]
    assert losses.drawn[0][1].get_ydata().tolist() == [step.loss for step in run[:3]]
    assert accuracies.drawn[1][1].get_ydata().tolist() == [step.metrics["test_accuracy"] for step in run[:3]]


def test_a_run_that_diverged_has_a_log_scale_and_gaps():
    run, x, y = line(lr=1e200, start=([[0, 0]], [0]))
    assert run.stop is Stop.DIVERGED
    picture = picture_of(run, x, y)
    picture.show(len(run) - 1)
    assert np.isnan(picture.curves[0].drawn[0][0]).tolist() == [False] + [True] * (len(run) - 1)
    run, x, y = line(lr=1e3)
    assert picture_of(run, x, y).figure.axes[2].get_yscale() == "log"


# Every kind


def nan_wall():
    x = np.random.default_rng(0).normal(size=(30, 9))
    return record(lloyd(x, 2, start=[[0.0] * 9, [50.0] * 9], empty="nan", max_steps=3)), x, np.arange(30)


KINDS = {
    "plane": lambda: plane(k=8),
    "many": lambda: plane(k=30),
    "more": lambda: plane(n=300, k=150),
    "a long run": lambda: plane(max_steps=9),
    "one center": lambda: plane(k=1),
    "one point": lambda: plane(n=1, k=1),
    "equal points": lambda: (record(lloyd(np.ones((5, 2)), 2)), np.ones((5, 2))),
    "offset": lambda: (record(lloyd(cloud() + 1e6, 3, seed=0)), cloud() + 1e6),
    "huge": lambda: (record(lloyd(cloud() * 1e140, 3, seed=0)), cloud() * 1e140),
    "nan": lambda: (record(lloyd(cloud(), 2, start=[[0, 0], [50, 0]], empty="nan", max_steps=3)), cloud()),
    "nan wall": nan_wall,
    "wall": wall,
    "wall of many": lambda: wall(k=25),
    "equal images": lambda: (record(lloyd(np.ones((5, 9)), 2)), np.ones((5, 9))),
    "linear": line,
    "logistic": lambda: line(logistic_regression, batch_size=7),
    "diverged": lambda: line(lr=50),
    "infinite": lambda: line(lr=1e300),
    "batches": lambda: (record(mini_batches(cloud(), 4, seed=0, batch_size=9, max_epochs=3)), cloud()),
    "classes": lambda: three_classes(),
    "many classes": lambda: three_classes(10),
    "curves": lambda: (record(linear_regression(X3, [0, 1, 1, 1], seed=0, test=(X3, [0, 1, 1, 0]))), X3),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alone", [False, True])
def test_no_word_is_cut_off_or_over_another(kind, alone, monkeypatch):
    run, x, *y = KINDS[kind]()
    picture = picture_of(run.last if alone else run, x, *y)
    picture.show(0 if alone else len(run) - 1)
    drawn = []
    monkeypatch.setattr(Text, "draw", lambda text, renderer: drawn.append(text))
    FigureCanvasAgg(picture.figure).draw()
    # The numbers of centers may lie over each other, and outside, as the centers do.
    numbers = getattr(picture, "numbers", [])
    words = [text for text in drawn if text.get_visible() and text.get_text() and text not in numbers]
    boxes = [text.get_window_extent() for text in words]
    left, bottom, right, top = picture.figure.bbox.extents
    for box, text in zip(boxes, words):
        assert left <= box.x0 <= box.x1 <= right, text
        assert bottom <= box.y0 <= box.y1 <= top, text
    for (one, text), (other, beside) in combinations(zip(boxes, words), 2):
        across = min(one.x1, other.x1) - max(one.x0, other.x0)
        down = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert across <= 0 or down < 4, (text, beside)
    assert picture.figure.texts[1] in drawn


@pytest.mark.parametrize("kind", ["plane", "wall", "linear"])
def test_no_global_setting_changes_a_picture_or_is_changed(kind):
    case = KINDS[kind]()
    before = dict(matplotlib.rcParams)
    usual = pixels(figure(*case))
    assert dict(matplotlib.rcParams) == before
    with matplotlib.rc_context({
        "font.family": "monospace", "font.size": 20, "text.color": "white", "axes.facecolor": "black",
        "axes.edgecolor": "white", "axes.grid": True, "axes.labelcolor": "white", "axes.titlesize": 30,
        "axes.titleweight": "bold", "axes.titlelocation": "right", "axes.spines.top": False, "xtick.color": "white",
        "xtick.direction": "in", "xtick.top": True, "ytick.labelsize": 20, "ytick.left": False, "grid.color": "red",
        "figure.facecolor": "black", "figure.figsize": (3, 3), "figure.dpi": 50, "lines.linewidth": 9,
        "lines.marker": "x", "lines.linestyle": ":", "lines.markersize": 20, "legend.frameon": True,
        "legend.facecolor": "red", "legend.fontsize": 30, "patch.linewidth": 5, "image.cmap": "jet",
        "image.interpolation": "bilinear", "image.origin": "lower", "scatter.marker": "x", "axes.xmargin": 0.4,
    }):  # fmt: skip
        np.testing.assert_array_equal(pixels(figure(*case)), usual)


@pytest.mark.parametrize("kind", ["plane", "wall", "linear"])
def test_the_input_is_not_changed(kind):
    run, x, *y = KINDS[kind]()
    kept = x.copy(), *(part.copy() for part in y)
    figure(run, x, *y)
    for now, then in zip((x, *y), kept):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8", "int64", "bfloat16"])
def test_points_of_any_type(dtype, tmp_path):
    x = torch.from_numpy(cloud() * 20 + 100).to(getattr(torch, dtype))
    run = record(lloyd(x, 3, seed=0))
    usual = pixels(figure(run, x))
    if dtype != "bfloat16":  # numpy has none
        np.save(tmp_path / "x.npy", x.numpy())
        np.testing.assert_array_equal(pixels(figure(run, tmp_path / "x.npy")), usual)
        np.testing.assert_array_equal(pixels(figure(run, x.tolist())), usual)


def test_a_recording_that_was_saved_is_drawn_the_same(tmp_path):
    run, x = plane()
    again = type(run).load(run.save(tmp_path / "run.npz"))
    np.testing.assert_array_equal(pixels(figure(again, x)), pixels(figure(run, x)))


def test_pyplot_is_never_loaded():
    program = (
        "import sys, stepfit; x = [[0.0, 1], [2, 3], [4, 9]]; run = stepfit.record(stepfit.lloyd(x, 2))\n"
        "stepfit.figure(run, x).savefig(sys.argv[1], format='png'); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program, "/dev/null"], check=True)


# Refusals

X3 = np.ones((4, 3)) * np.arange(4)[:, None]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (lambda: (record(lloyd(X3, 2)), X3), "x has 3 features; k-means can be drawn for 2 .* a square number above 4"),
        (lambda: (record(lloyd(X3[:, :1], 2)), X3[:, :1]), "x has 1 feature; "),
        (lambda: (record(lloyd(np.eye(4), 2)), np.eye(4)), "x has 4 features; "),
        (lambda: (plane()[0], cloud(41)), r"x has shape \(41, 2\), but the run was made from \(40, 2\)"),
        (lambda: (plane()[0], np.ones((40, 3))), r"x has shape \(40, 3\), but the run was made from \(40, 2\)"),
        (lambda: (plane()[0], np.ones(40)), r"x has shape \(40,\); it must be \(n, d\)"),
        (lambda: (*wall(), [1, 2]), "y has 2 values and x 30 rows; each row needs one"),
        (lambda: line()[:2], "y is missing; gradient descent is drawn with the class of each point"),
        (lambda: (line()[0], cloud(39), np.ones(39)), r"x has shape \(39, 2\), but the run was made from \(40, 2\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        figure(*arguments())


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("case", ["no threshold", "real targets", "three features", "no line"])
def test_a_run_without_a_line_or_classes_has_curves(case, alone):
    x, y = (X3, [0, 1, 1, 1]) if case == "three features" else (cloud(), np.ones(40))
    if case == "real targets":
        y = cloud()[:, 0]
    if case in ("no threshold", "no line"):
        model = torch.nn.Linear(2, 1) if case == "no threshold" else torch.nn.Sequential(torch.nn.Linear(2, 1))
        loss_fn = torch.nn.L1Loss() if case == "no threshold" else torch.nn.MSELoss()
        optimizer = torch.optim.Adam(model.parameters())
        run = record(descend(model, loss_fn, optimizer, x, y[:, None], max_steps=4))
    else:
        run = record(linear_regression(x, y, seed=0, max_steps=4))
    picture = picture_of(run.last if alone else run, x, y)
    assert type(picture).__name__ == "Curves"
    picture.show(0 if alone else 2)
    shown = run[3:] if alone else run[:3]
    assert picture.curves[0].drawn[0][1].get_ydata().tolist() == [step.loss for step in shown]
    assert picture.figure.texts[1].get_text().startswith("Loss ")


def test_what_is_no_step_is_refused():
    with pytest.raises(TypeError, match=r"a Steps cannot be drawn; give a step, or keep the run first: record\(lloyd"):
        figure(lloyd(cloud(), 2), cloud())


def test_the_mnist_wall_is_a_png_of_its_size():
    images, digits = datasets.mnist()
    images, digits = images[:500], digits[:500]
    run = record(lloyd(images, 10, seed=0, max_steps=3))
    file = io.BytesIO()
    figure(replace(run.last, stop=None), images, digits).savefig(file)
    from PIL import Image

    assert Image.open(file).size == (1200, 520)


# Choosing k


def choices(ks=range(1, 7), **options):
    return record(choose_k(cloud(60), ks, seed=0, **options))


def test_the_curves_of_choose_k_are_its_numbers_and_rings_are_where_the_criteria_point():
    run = choices()
    picture = picture_of(run, None)
    picture.show(len(run) - 1)
    found = verdict(run)
    for curve, name in zip(picture.curves, ("inertia", "silhouette", "stability")):
        values, strong, _ = curve.drawn[0]
        wanted = [getattr(step, name) for step in run]
        np.testing.assert_array_equal(values, np.array(wanted, dtype=float))
        assert strong.get_xdata().tolist() == [step.k for step in run]
    assert [ring.get_xdata()[0] for ring in picture.rings] == [found.elbow, found.silhouette, found.stability]
    assert all(ring.get_visible() for ring in picture.rings)
    assert found.sentences[0] in {text.get_text() for text in picture.figure.findobj(Text)}


def test_a_frame_of_choose_k_is_strong_up_to_its_k_and_has_no_ring_yet():
    run = choices()
    picture = picture_of(run, None)
    picture.show(2)
    assert [len(curve.drawn[0][1].get_xdata()) for curve in picture.curves] == [3, 3, 3]
    assert not any(ring.get_visible() for ring in picture.rings)
    assert picture.frames() == [(position, "") for position in range(len(run))]


def test_the_elbow_is_on_a_straight_scale():
    """The line it is measured from would be no line on a logarithmic one, which a fall by 1,000 would call for."""
    x = np.repeat([0.0, 1e4, 2e4], 20)[:, None] + np.random.default_rng(0).normal(size=(60, 1))
    picture = picture_of(record(choose_k(x, [1, 2, 3, 4], seed=0)), None)
    assert {axes.get_yscale() for axes in picture.figure.axes} == {"linear"}


def test_criteria_that_are_not_known_leave_a_panel_that_says_so():
    picture = picture_of(choices([1], seeds=1), None)
    picture.show(0)
    assert [text.get_text() for text in picture.figure.findobj(Text)].count("not known") == 2
    assert picture.rings == []


def test_the_picture_of_choose_k_stays_on_its_paper():
    drawn = figure(choices(range(2, 9)))
    edge = pixels(drawn)
    assert (edge[[0, -1]] == 255).all()
    assert (edge[:, [0, -1]] == 255).all()


def test_one_k_alone_is_refused_and_other_runs_need_their_points():
    run = choices()
    with pytest.raises(TypeError, match=r"one k is no curve; .* figure\(step.best, x\)"):
        figure(run[1])
    assert figure(run[1].best, cloud(60))
    with pytest.raises(TypeError, match="x is missing"):
        figure(plane()[0])


# Mini-batches, and more than two classes


def test_of_a_mini_batch_the_points_have_labels_and_the_others_are_pale():
    x = cloud()
    run = record(mini_batches(x, 3, seed=0, batch_size=6, max_epochs=2))
    picture = picture_of(run, x)
    picture.show(1)
    step = run[1]
    np.testing.assert_array_equal(np.column_stack(picture.unlabeled.get_data()), x)
    for j in range(3):
        np.testing.assert_array_equal(np.column_stack(picture.groups[j].get_data()), x[step.rows[step.labels == j]])
    assert picture.counts[0].get_text() == f"0: {int((step.labels == 0).sum())} points"
    assert picture.frames()[-1] == (len(run) - 1, "update")  # its answer is where the centers have moved
    with pytest.raises(ValueError, match="give that x"):
        figure(run.last, x[: int(run.last.rows.max())])


def test_the_wall_of_a_mini_batch_counts_its_images():
    x = np.random.default_rng(0).normal(size=(30, 9))
    y = np.arange(30) % 4
    run = record(mini_batches(x, 2, seed=0, batch_size=8, max_epochs=1))
    picture = picture_of(run, x, y)
    picture.show(0, "assign")
    step = run[0]
    votes = np.bincount(y[step.rows[step.labels == 0].numpy()])
    assert picture.captions[0].get_text() == (
        f"0: {votes.sum()} images\nmostly {votes.argmax()} ({votes.max() / votes.sum():.0%})"
    )


def three_classes(classes=3, names=None):
    x = cloud()
    y = np.arange(40) % classes
    model = torch.nn.Linear(2, classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    run = record(descend(model, torch.nn.CrossEntropyLoss(), optimizer, x, y, max_steps=5))
    return run, x, y if names is None else np.array(names)[y]


@pytest.mark.parametrize("alone", [False, True])
def test_each_class_has_the_region_where_its_logit_is_the_largest(alone):
    run, x, y = three_classes()
    picture = picture_of(run.last if alone else run, x, y)
    picture.show(0 if alone else 4)
    parts = [path.vertices[:-1] for path in picture.halves.get_paths()]
    assert sum(map(area, parts)) == pytest.approx(area(corners(picture.box)))
    logits = x @ run.last.params["weight"].double().numpy().T + run.last.params["bias"].double().numpy()
    for point, best in zip(x, logits.argmax(1)):
        assert depth(parts[best], point) >= -1e-9


def test_classes_by_other_names_are_numbered_in_order():
    run, x, y = three_classes(names=[2, 5, 9])
    np.testing.assert_array_equal(picture_of(run, x, y).classes, np.arange(40) % 3)
    assert type(picture_of(run, x, y + 0.5)).__name__ == "Curves"


@given(
    arrays("float64", (4, 2), elements=st.integers(-2, 2).map(float) | st.floats(-5, 5)),
    arrays("float64", 4, elements=st.integers(-2, 2).map(float)),
)
def test_the_regions_of_classes_cover_the_box_once(weight, bias):
    parts = class_regions(weight, bias, BOX)
    assert sum(map(area, parts)) == pytest.approx(48)
    for point in np.random.default_rng(0).uniform((-4, -3), (4, 3), (20, 2)):
        scores = weight @ point + bias
        best = int(scores.argmax())
        if np.sort(scores)[-1] - np.sort(scores)[-2] > 1e-6:
            assert depth(parts[best], point) >= -1e-6
