"""Judges of the exercises 1.1 and on: PyTorch basics."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from stepfit.lesson.checks.exercise import Learner, Wrong, a, close, exercise, tensor

POINTS = (torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0]))  # x and y of the step on paper


@exercise(
    "1.1",
    "Predict: three minus five",
    hints=(
        "A `uint8` is one byte. It holds the whole numbers from 0 to 255, and no sign.",
        "Only the name `guess_difference` is asked for. Nothing is refused here: a number comes out.",
        "Count down from 3, five times: 2, 1, 0, and then the dial goes around to its largest number.",
    ),
)
def _difference(learner: Learner) -> str:
    once_more = "You know that it goes around. Count again, one by one: from 3 to 2, 1, 0, and what are counts 4 and 5?"
    answers = {
        -2: (
            "uint8-has-a-sign",
            "-2 needs a minus sign, and a `uint8` has none: it holds 0 to 255. Where does counting down go on below 0?",
        ),
        2: (
            "uint8-drops-the-sign",
            "2 is 5 - 3. Nobody swaps the two: PyTorch counts down from 3, five times. What comes below 0 without a "
            "sign?",
        ),
        0: (
            "uint8-stops-at-zero",
            "Some programs for pictures do stop at 0. PyTorch goes on. What comes below 0 on a dial from 0 to 255?",
        ),
        "error": (
            "uint8-difference-raises",
            "`mean()` is refused, because its answer would not fit. A difference of two `uint8` is computed without a "
            "word. Which number from 0 to 255 comes out?",
        ),
        253: ("uint8-off-by-one", once_more),
        255: ("uint8-off-by-one", once_more),
    }
    otherwise = 'Count down from 3, five times, on a dial from 0 to 255. Where do you arrive? Or is it `"error"`?'
    _refuse_wrong_guess(learner, "guess_difference", 254, answers, otherwise)
    return (
        "From 3 it goes 2, 1, 0, 255, 254. A `uint8` goes around like a dial and says nothing: make floats of pixels "
        "before you subtract."
    )


@exercise(
    "1.2",
    "Make numbers to compute with",
    hints=(
        "First change the kind of number, then compute with it.",
        "It is one line, `floats = ...`. Every tensor has a method that gives the same numbers as float32.",
        "`pixels.float()` are the same numbers with room for fractions. Divide them by 255.",
    ),
)
def _to_floats(learner: Learner) -> str:
    for n, d, top in ((5, 7, 255), (3, 3, 100)):
        pixels = torch.randint(1, top, (n, d), generator=learner.random, dtype=torch.uint8)
        pixels[0, :2] = torch.tensor([37, top])
        found = tensor(learner.call("to_floats", pixels, explain=_in_place), "`to_floats(pixels)`", shape=(n, d))
        if not found.is_floating_point():
            raise Wrong(
                f"`to_floats(pixels)` has dtype {found.dtype}: whole numbers. Most pixels are to lie between 0 and 1. "
                "Which dtype has room for 0.145?",
                mistake="integer-dtype",
            )
        right = pixels / 255
        if close(found, right):
            continue
        evidence = f"The pixel 37 became {found[0, 0]:.4g}."
        known = (
            (
                "not-divided",
                pixels,
                "The numbers still go up to 255. By what are they to be divided, so that ink is 1?",
            ),
            (
                "divided-by-256",
                pixels / 256,
                "Ink, 255, should become 1. There are 256 numbers from 0 to 255; which is the largest?",
            ),
            ("whole-division", right.floor(), "`//` throws the fractions away. Which sign keeps them?"),
            (
                "divided-by-own-maximum",
                pixels / top,
                f"Here the darkest pixel is {top}, and you made 1 of it. So the same ink has another number in each "
                "picture. Which number is ink always?",
            ),
        )
        _refuse_known(found, evidence, known)
        raise Wrong(f"{evidence} 37 of 255 is {37 / 255:.4g}. What happened to it on the way?", mistake="value")
    return "Paper is 0, ink is 1, and there is room for everything between."


@exercise(
    "1.3",
    "The axis that goes away",
    hints=(
        "`dim=` names the axis that is squashed. What is left over is the other one.",
        "There are two lines, `mean_row = ...` and `row_means = ...`. For x of shape (n, d) the first has d entries, "
        "the second n. So they differ in one number.",
        "The mean row is `x.mean(dim=0)`: the rows go away. For the other one the columns must go away.",
    ),
)
def _means(learner: Learner) -> str:
    for n, d in ((7, 3), (4, 4)):
        x = torch.rand(n, d, generator=learner.random)
        found = learner.call("means", x)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise Wrong(f"`means` is to give `mean_row, row_means`, and gives {_parts(found)}.", mistake="type")
        for what, mean, dim, gone in (("mean_row", found[0], 0, "rows"), ("row_means", found[1], 1, "columns")):
            _refuse_wrong_mean(tensor(mean, f"`{what}`"), f"`{what}`", x, dim, gone)
    return "Right for 7 x 3 and for 4 x 4. Which of the two is the mean picture?"


def _refuse_wrong_mean(found: Tensor, what: str, x: Tensor, dim: int, gone: str) -> None:
    right = x.mean(dim=dim)
    if close(found, right):
        return
    evidence = f"For x of shape {tuple(x.shape)}, {what} has shape {tuple(found.shape)}."
    known = (
        ("mean-of-everything", x.mean(), "Without `dim=` everything is squashed into one number. Which axis shall go?"),
        (
            "mean-over-wrong-axis",
            x.mean(dim=1 - dim),
            f"The wrong axis went away. The {gone} are to go. Which axis of (n, d) counts the {gone}?",
        ),
        (
            "axis-kept",
            x.mean(dim=dim, keepdim=True),
            "The numbers are right, but the axis is still there, with size 1. Here it is to go away. Who kept it?",
        ),
    )
    _refuse_known(found, evidence, known)
    tensor(found, f"For x of shape {tuple(x.shape)}, {what}", shape=tuple(right.shape))
    begins = f"The shape of {what} is right, but it begins with {found[0]:.4g}, and the mean there is {right[0]:.4g}."
    added = "All numbers in x lie between 0 and 1: you added them up. What turns a sum into a mean?"
    _refuse_known(found, begins, [("sum-for-mean", x.sum(dim=dim), added)])
    raise Wrong(f"{begins} Is it a mean?", mistake="value")


@exercise(
    "1.4",
    "From a row to a picture",
    hints=(
        "`reshape` reads row by row and writes row by row. If each row is to stay together, the first axis must stay.",
        "It is one line, `pictures = ...`. The new shape has three sizes: how many, how high, how wide.",
        "`rows.reshape(len(rows), ..., ...)`, or -1 for how many: then PyTorch counts for you.",
    ),
)
def _as_pictures(learner: Learner) -> str:
    for m in (5, 28):
        rows = torch.rand(m, 784, generator=learner.random)
        found = tensor(learner.call("as_pictures", rows, explain=_no_room), "`as_pictures(rows)`")
        right = rows.reshape(m, 28, 28)
        if close(found, right):
            continue
        if tuple(found.shape) == (28, 28, m) != right.shape:
            raise Wrong(
                f"{m} rows became a tensor of shape {tuple(found.shape)}: 28 pictures, each 28 high and {m} wide, with "
                "pixels of several rows. Which axis says how many pictures there are?",
                mistake="reshape-mixes-rows",
            )
        tensor(found, f"For rows of shape {tuple(rows.shape)}, the result", shape=(m, 28, 28))
        turned = (
            "picture-turned",
            right.transpose(1, 2),
            "Every picture lies on its side: its lines have become its columns. `reshape` alone does not turn. What "
            "did?",
        )
        _refuse_known(found, "The shape is right.", [turned])
        if close(found.flatten().sort().values, rows.flatten().sort().values):
            row, pixel = (rows == found[0, 0, 1]).nonzero()[0].tolist()
            raise Wrong(
                "The shape is right and all pixels are there, but the rows are mixed. Where pixel 1 of row 0 belongs, "
                f"there is pixel {pixel} of row {row}. In which order does `reshape` read?",
                mistake="reshape-mixes-rows",
            )
        first = f"The first pixel is {found[0, 0, 0]:.4g}, and in rows it is {rows[0, 0]:.4g}."
        raise Wrong(f"The shape is right, the numbers are not. {first} What changed it?", mistake="value")
    return "Right for 5 and for 28 pictures. The numbers are the same, only their shape is new."


@exercise(
    "1.5",
    "Rows by their numbers",
    hints=(
        "A tensor between the brackets is a list of row numbers. The result has one row for each of them.",
        "It is one line, `own = ...`. Which tensor holds the rows, and which the numbers?",
        "As in `letters[which]`: the centers, and between the brackets the labels.",
    ),
)
def _own_centers(learner: Learner) -> str:
    for n, k, d in ((7, 3, 5), (4, 4, 4)):
        centers = torch.rand(k, d, generator=learner.random)
        labels = torch.randint(1, k, (n,), generator=learner.random)
        labels[:3] = torch.tensor([k - 1, 1, k - 1])  # out of order, with a repeat; center 0 has no point
        found = tensor(learner.call("own_centers", centers, labels), "`own_centers(centers, labels)`")
        right = centers[labels]
        if close(found, right):
            continue
        known = (
            (
                "columns-for-rows",
                centers[:, labels],
                "Those are columns of the centers. A label is the number of a row. What comes first between the "
                "brackets?",
            ),
            (
                "each-center-once",
                centers[labels.unique()],
                "Each center in use is there once. Points that share one need a row each. May a row be named twice?",
            ),
            (
                "counts-from-one",
                centers[labels - 1],
                f"Point 0 has the label {labels[0]} and got row {labels[0] - 1}. Which number has the first row?",
            ),
        )
        _refuse_known(found, f"For {k} centers and {n} labels the result has shape {tuple(found.shape)}.", known)
        tensor(found, f"For {k} centers and {n} labels, the result", shape=(n, d))
        point = _first_difference(found, right)[0]
        raise Wrong(
            f"Point {point} has the label {labels[point]}, and that row of the centers begins with "
            f"{right[point, 0]:.4g}. Your row {point} begins with {found[point, 0]:.4g}. Which row did it get?",
            mistake="value",
        )
    return "Right for 7 points of 3 centers, repeats too. A label is a row number, so k-means needs no loop here."


@exercise(
    "1.6",
    "A view shares memory",
    hints=(
        "A slice is a window onto the memory of x. You want the same numbers in memory of their own.",
        "It is one line, `start = ...`. First the rows, and then one more method.",
        "`x[:k]` are the first k rows. The method is named in the text above the cell; it needs no arguments.",
    ),
)
def _first_rows(learner: Learner) -> str:
    for n, d, k in ((7, 3, 4), (5, 5, 2)):
        x = torch.rand(n, d, generator=learner.random)
        found = tensor(learner.call("first_rows", x, k), f"`first_rows(x, {k})`")
        one = "That is one row. What stands for the first k of them?"
        known = (
            (
                "columns-for-rows",
                x[:, :k],
                f"Those are all rows and the first {k} columns. What does the colon choose?",
            ),
            ("one-row", x[k], one),
            ("one-row", x[k - 1], one),
        )
        _refuse_known(found, f"For x of shape {(n, d)} and k = {k} you give shape {tuple(found.shape)}.", known)
        tensor(found, f"For x of shape {(n, d)} and k = {k}, the result", shape=(k, d))
        if not close(found, x[:k]):
            row = _first_difference(found, x[:k])[0]
            raise Wrong(
                f"Row {row} of x begins with {x[row, 0]:.4g}, and yours with {found[row, 0]:.4g}. Which rows are "
                "these?",
                mistake="other-rows",
            )
        mine = x.clone()
        learner.value("first_rows")(mine, k).detach().zero_()  # call() would hand over a copy
        if not mine.equal(x):
            raise Wrong(
                "The rows are right. But when we write 0 into them, x[0, 0] goes from "
                f"{x[0, 0]:.4g} to 0: they share the memory of x. What gives them their own?",
                mistake="view-for-clone",
            )
    return "The right rows, and x stays as it is when they change. In k-means they will change in every step."


@exercise(
    "1.7",
    "Predict: a silent trap",
    hints=(
        "Write (600,) and (600, 1) one below the other, from the right. A missing axis counts as 1.",
        "Only the name `guess_shape` is asked for. Compare (1, 600) with (600, 1), axis by axis.",
        "Where a 1 meets a 600, it is stretched to 600. That happens on both axes.",
    ),
)
def _shape(learner: Learner) -> str:
    flat = (
        "broadcast-expected-flat",
        "(600,) is what you want, and not what you get. From the right, the last sizes are 600 and 1. What does the 1 "
        "become, and which size is left for the axis before?",
    )
    answers = {
        (600,): flat,
        600: flat,
        (600, 1): (
            "broadcast-expected-column",
            "For (600, 1), y would have to stand as a column. But shapes are compared from the right: its 600 meets "
            "the "
            "1, not the 600. What becomes of the 1?",
        ),
        (1, 600): (
            "broadcast-expected-row",
            "y counts as (1, 600), that is right. The prediction is (600, 1). What comes out where 1 meets 600?",
        ),
        "error": (
            "broadcast-expected-error",
            "An error would be kind. But on each axis one of the sizes may be 1, and a missing axis counts as 1. So it "
            "fits. What comes out?",
        ),
    }
    otherwise = 'Write a shape, such as `(600,)`, or `"error"`. On each axis, from the right: which two sizes meet?'
    _refuse_wrong_guess(learner, "guess_shape", (600, 600), answers, otherwise)
    return (
        "Every answer minus every prediction: 360,000 numbers and no error. Their mean square looks like a loss, and "
        "is "
        "none. In regression, keep y as a column."
    )


@exercise(
    "1.8",
    "Take the mean away",
    hints=(
        "The means must stand as a column, (n, 1), so that each row meets its own mean.",
        "There are two lines, `row_mean = ...` and `zero_mean = ...`. The first needs an axis, and a word to keep it.",
        "`x.mean(dim=1, keepdim=...)` has shape (n, 1). Then `x - row_mean`.",
    ),
)
def _rows_to_mean_zero(learner: Learner) -> str:
    for n, d in ((4, 4), (7, 3)):  # the square first: there it fits without keepdim
        x = torch.rand(n, d, generator=learner.random)
        found = learner.call("rows_to_mean_zero", x)
        tensor(found, f"For x of shape {(n, d)}, the result", shape=(n, d))
        column = x.mean(dim=1, keepdim=True)
        right = x - column
        if close(found, right):
            continue
        evidence = f"Row 0 had the mean {column[0, 0]:.4g}, and now it has {found[0].double().mean():.4g}."
        if n == d:
            keepdim = (
                "keepdim-missing",
                x - x.mean(dim=1),
                f"The means lie as a row, ({n},), so each column lost one of them. With {n} x {n} that fits, silently; "
                "with 7 x 3 it would not. What makes them stand as a column?",
            )
            _refuse_known(found, evidence, [keepdim])
        known = (
            (
                "columns-for-rows",
                x - x.mean(dim=0),
                "Each column lost its mean. Here each row is to lose its own. Which axis goes away in the mean of a "
                "row?",
            ),
            (
                "mean-of-everything",
                x - x.mean(),
                f"All rows lost the same number, {x.mean():.4g}. Which axis shall go away, so that each row has its "
                "own?",
            ),
            ("added", x + column, "The means are right, but they were added. Which sign takes away?"),
        )
        _refuse_known(found, evidence, known)
        raise Wrong(
            f"{evidence} The first number of the row was {x[0, 0]:.4g}, without the mean it is {right[0, 0]:.4g}, "
            "and you "
            f"give {found[0, 0]:.4g}. What else happened to it?",
            mistake="value",
        )
    return "Right for 7 x 3, and for 4 x 4, where a missing `keepdim` would have been silent."


@exercise(
    "1.9",
    "Every pair",
    hints=(
        "Give each tensor an axis of size 1 where the other has its rows. Then every point meets every center.",
        "There are two lines. `differences` has shape (n, k, d), as in the example above. In `distances` the last of "
        "its "
        "axes has gone away.",
        "`points.unsqueeze(1) - centers.unsqueeze(0)`, then `.square()`, then `.sum(dim=...)` over the features.",
    ),
)
def _squared_distances(learner: Learner) -> str:
    for n, k, d in ((5, 3, 4), (2, 2, 2)):
        # Whole numbers: so the way over matrix products is as exact as the others.
        points, centers = (torch.randint(-9, 10, (rows, d), generator=learner.random).float() for rows in (n, k))
        found = learner.call("squared_distances", points, centers, explain=_no_unsqueeze)
        differences = points.unsqueeze(1) - centers.unsqueeze(0)
        right = differences.square().sum(dim=2)
        if close(tensor(found, "`squared_distances(points, centers)`"), right):
            continue
        _refuse_wrong_pairs(found, n, k, d)
        point, center = _first_difference(found, right)
        evidence = (
            f"Point {point} is {_row(points[point])} and center {center} is {_row(centers[center])}. By hand it is "
            f"{right[point, center]:g}, and you give {found[point, center]:.4g}."
        )
        cancels = "The differences were added as they are. What becomes of 2 and -2?"
        sums = points.unsqueeze(1) + centers.unsqueeze(0)
        known = (
            ("no-square", differences.sum(dim=2), cancels),
            ("no-square", -differences.sum(dim=2), cancels),
            ("absolute-for-square", differences.abs().sum(dim=2), "The signs are gone, but what was to be squared?"),
            ("square-after-sum", differences.sum(dim=2).square(), "You squared the sum. Which of the two comes first?"),
            ("mean-for-sum", right / d, f"That is {d} times too small. Is it the mean over the features that we want?"),
            ("root-taken", right.sqrt(), "You took the root. Where does the squared distance stop?"),
            ("added", sums.square().sum(dim=2), "You added point and center. What says how far apart they are?"),
        )
        _refuse_known(found, evidence, known)
        raise Wrong(f"{evidence} Difference, square, sum: where do you part?", mistake="value")
    return "Right for 5 points and 3 centers, and for 2 and 2. How many numbers has (n, k, d) for 10,000 digits?"


def _refuse_wrong_pairs(found: Tensor, n: int, k: int, d: int) -> None:
    sizes = f"For {n} points and {k} centers with {d} features"
    for mistake, shape, words in (
        (
            "sum-over-wrong-axis",
            (n, d),
            "The axis of the centers went away. Which axis of (n, k, d) holds the features?",
        ),
        (
            "sum-over-wrong-axis",
            (k, d),
            "The axis of the points went away. Which axis of (n, k, d) holds the features?",
        ),
        ("not-summed", (n, k, d), "Each pair still has a number for each feature. What makes one number of them?"),
        ("sum-of-everything", (), "Everything went into one number. Which axis alone shall go away?"),
        ("pairs-turned", (k, n), "Each row is a center, and should be a point. Which of them needs `unsqueeze(1)`?"),
    ):
        if tuple(found.shape) == shape != (n, k):
            raise Wrong(f"{sizes} the result has shape {shape}. {words}", mistake=mistake)
    tensor(found, f"{sizes}, the result", shape=(n, k))


@exercise(
    "1.10",
    "Where is the smallest?",
    hints=(
        "`dim=` is the axis that goes away. One answer for each shop: the fruits go away.",
        "It is one line, `fruit = ...`. In the example above, `dim=0` gave one answer for each fruit.",
        "`prices.argmin(dim=...)` with the axis of the columns.",
    ),
)
def _cheapest_fruit(learner: Learner) -> str:
    for shops, fruits in ((5, 3), (4, 4)):
        prices = torch.randperm(shops * fruits, generator=learner.random).reshape(shops, fruits) + 10.5
        found = learner.call("cheapest_fruit", prices)
        if isinstance(found, torch.return_types.min):
            raise Wrong(
                "`min(dim=...)` gives two things, `.values` and `.indices`. Which of them is asked for?",
                mistake="value-for-place",
            )
        right = prices.argmin(dim=1)
        if close(tensor(found, "`cheapest_fruit(prices)`"), right):
            tensor(found, "`cheapest_fruit(prices)`", kind="whole")
            continue
        known = (
            ("argmin-of-everything", prices.argmin(), "One number for all shops. Which axis shall go away?"),
            (
                "argmin-over-wrong-axis",
                prices.argmin(dim=0),
                "For each fruit you give the cheapest shop. For each shop the fruit is asked. Which axis goes away "
                "then?",
            ),
            (
                "argmax-for-argmin",
                prices.argmax(dim=1),
                f"Shop 0 takes {_row(prices[0])}, and you send us to the dearest. Which word finds the smallest?",
            ),
            (
                "value-for-place",
                prices.min(dim=1).values,
                f"Shop 0 takes {_row(prices[0])}, and you give the price. Where in the row does it stand?",
            ),
        )
        sizes = f"For {shops} shops and {fruits} fruits"
        _refuse_known(found, f"{sizes} the result has shape {tuple(found.shape)}.", known)
        tensor(found, f"{sizes}, the result", shape=(shops,), kind="whole")
        shop = _first_difference(found, right)[0]
        raise Wrong(
            f"Shop {shop} takes {_row(prices[shop])}, and you send us to fruit {found[shop]}. Where is the smallest?",
            mistake="value",
        )
    return "One fruit for each shop, for 5 x 3 and for 4 x 4. In the same way k-means finds the nearest center."


@exercise(
    "1.11",
    "Autograd: the slope of anything",
    hints=(
        "The three lines of the example do it: mark the tensor, compute, go backward. Then look into `.grad`.",
        "All of it stands in the place of `return ...`. The place is a plain number: make a tensor of floats from it.",
        "`t = torch.tensor(float(place), requires_grad=True)`, then `function(t).backward()`, then `return t.grad`.",
    ),
)
def _slope(learner: Learner) -> str:
    for text, function, place, right in (
        ("t**3 - 2 * t", lambda t: t**3 - 2 * t, 3.0, 25.0),
        ("1 / (1 + t * t)", lambda t: 1 / (1 + t * t), 2.0, -4 / 25),
        ("5 * t", lambda t: 5 * t, -1, 5.0),
    ):
        try:
            found = learner.call("slope", function, place, explain=_no_record)
        except Wrong as wrong:
            if wrong.mistake != "returns-nothing":
                raise
            raise Wrong(
                "`slope` gives None. Either there is no `return`, or it returns a `.grad` that is still empty. What "
                "fills it?",
                mistake="backward-missing",
            ) from None
        slope = torch.tensor(_number(found, "`slope(function, place)`"))
        if close(slope, torch.tensor(right)):
            continue
        known = (
            (
                "value-for-slope",
                function(place),
                "That is the value of the function. Where does `backward` put the slope?",
            ),
            ("place-for-slope", place, "That is the place. In which attribute of it is the slope?"),
            ("gradient-adds-up", 2 * right, "Twice as much: gradients add up. How often do you go backward?"),
        )
        evidence = f"The slope of `{text}` at {place:g} is {right:g}, and you give {slope:.4g}."
        _refuse_known(slope, evidence, [(mistake, torch.tensor(float(v)), words) for mistake, v, words in known])
        raise Wrong(f"{evidence} Is it the given function that you differentiate, at the given place?", mistake="value")
    return "Right for three functions, and nobody wrote down a derivative."


@exercise(
    "1.12",
    "Predict: backward twice",
    hints=(
        "What does `backward` do with a gradient that is already there?",
        "Only the name `guess_grad` is asked for. Each of the two calls finds the slope 6.",
        "It neither replaces the old gradient nor multiplies it. It adds: 6, and once more 6.",
    ),
)
def _grad(learner: Learner) -> str:
    value = (
        "value-for-slope",
        "That comes from the value, 3² = 9. `.grad` holds the slope, 2 · 3 = 6, and it came twice. What becomes of "
        "both?",
    )
    answers = {
        6: (
            "gradient-is-replaced",
            "6 is right if the second `backward` replaces the first gradient. It does something else with it. What?",
        ),
        36: (
            "gradient-multiplies",
            "36 is 6 times 6. Think of two losses: the slope of their sum is not the product of their slopes. What "
            "is it?",
        ),
        0: (
            "gradient-is-cleared",
            "Nobody clears the gradient between the two calls, and nobody subtracts. What remains when 6 comes to 6?",
        ),
        9: value,
        18: value,
        2: (
            "second-derivative",
            "2 is the slope of the slope. Both calls start from `t**2`, so both find 6. What becomes of the two?",
        ),
        "error": (
            "second-backward-raises",
            "Going back twice through the same result is an error. Here `t**2` is computed again, so it is a new one, "
            "and "
            "a number comes out. Which?",
        ),
    }
    otherwise = 'Each call finds the slope 6. What becomes of the two? Write a number, or `"error"`.'
    _refuse_wrong_guess(learner, "guess_grad", 12, answers, otherwise)
    return "6 + 6: gradients add up until you clear them. A training loop that forgets it takes ever wilder steps."


@exercise(
    "1.13",
    "One step, on paper",
    hints=(
        "Make the same table as in the text, with w = 1 and b = 0: predictions, errors, slopes, step.",
        "The predictions are 1 and 2, so the errors are 1 - 3 = -2 and 2 - 5 = -3.",
        "Slope for w: (2/2) · (-2 · 1 + -3 · 2) = -8. For b: -2 + -3 = -5. Now w - 0.1 · (-8), and the same for b.",
    ),
)
def _paper(learner: Learner) -> str:
    found = torch.tensor([_number(learner.value(name), f"`{name}`") for name in ("paper_w", "paper_b")])
    example = (
        "worked-example",
        torch.tensor([1.3, 0.8]),
        "That is where the example ends, which began at w = 0. What are the errors at w = 1, b = 0?",
    )
    _refuse_known(found, "w = 1.3, b = 0.8:", [example])
    _refuse_wrong_step(found, torch.tensor([1.0, 0.0]), *POINTS, lr=0.1)
    return "w = 1.8 and b = 0.5. The loss was 6.5; what is it now?"


@exercise(
    "1.14",
    "One step, in code",
    hints=(
        "Each To Do is a line of the table on paper. Only the slopes need no formula: `backward` finds them.",
        "Four lines: the loss, backward, `new_w`, `new_b`. After backward the slopes are in `w.grad` and `b.grad`.",
        "`(w * x + b - y).square().mean()`, then `loss.backward()`, then `w - lr * w.grad`, and the same for b.",
    ),
)
def _one_step(learner: Learner) -> str:
    paper = (torch.tensor([1.0, 0.0]), *POINTS, 0.1)
    for start, x, y, lr in (paper, (torch.rand(2, generator=learner.random), *_five_points(learner), 0.05)):
        found = learner.call("one_step", *start, x, y, lr, explain=_no_step)
        _refuse_wrong_step(_w_and_b(found, "one_step", "`new_w, new_b`"), start, x, y, lr=lr)
    return "The same numbers as on paper, and right for five other points. Autograd took the slopes."


@exercise(
    "1.15",
    "Many steps",
    hints=(
        "It is `one_step` in a loop. Before each step, look at the loss and keep it.",
        "All of it stands in the place of `return ...`: w and b at 0, an empty list, the loop, and then the return.",
        "In the loop: `losses.append((w * x + b - y).square().mean().item())`, then `w, b = one_step(w, b, x, y, lr)`.",
    ),
)
def _fit_line(learner: Learner) -> str:
    x, y = _five_points(learner)
    for steps in (1, 7, 3):  # one step first: what is wrong there has words of its own
        found = learner.call("fit_line", x, y, 0.1, steps, explain=_no_step)
        line = _w_and_b(found, "fit_line", "`w, b, losses`")
        if steps == 1:
            _refuse_wrong_step(line, torch.zeros(2), x, y, lr=0.1)
        losses = _losses(found[2])
        right, right_losses = _fit(x, y, 0.1, steps)
        if not close(line, right):
            if close(line, _fit(x, y, 0.1, steps, clear=False)[0]):
                raise Wrong(
                    f"The first step is right. After {steps} steps w is {line[0]:.4g} and should be {right[0]:.4g}: "
                    "the "
                    "gradients have added up. What must happen to them before the next `backward`?",
                    mistake="gradient-not-cleared",
                )
            raise Wrong(
                f"The first step is right. After {steps} steps w is {line[0]:.4g} and b is {line[1]:.4g}; w = "
                f"{right[0]:.4g} and b = {right[1]:.4g} is right. What is different in the later steps?",
                mistake="later-steps",
            )
        if len(losses) != steps:
            raise Wrong(
                f"w and b are right. With steps = {steps} you give {len(losses)} losses. Each step has one, from "
                "before it. Where in the loop is it kept?",
                mistake="number-of-losses",
            )
        after = torch.tensor(_fit(x, y, 0.1, steps + 1)[1][1:])
        evidence = (
            f"w and b are right. The first loss, at w = b = 0, is {right_losses[0]:.4g}; you give {losses[0]:.4g}."
        )
        _refuse_known(losses, evidence, [("loss-after-step", after, "Do you look before the step or after it?")])
        if not close(losses, torch.tensor(right_losses)):
            raise Wrong(f"{evidence} Is it the mean of the squared errors?", mistake="loss-value")
    fall = " to ".join(f"{loss:.3g}" for loss in right_losses)
    return f"Right for 1, 3 and 7 steps. Here, in three of them, the loss went from {fall}."


def _losses(found: Any) -> Tensor:
    if not isinstance(found, (list, tuple, Tensor)):
        raise Wrong(f"`losses` is {a(found)}, but a list with one number for each step is wanted.", mistake="type")
    if any(isinstance(loss, Tensor) and loss.requires_grad for loss in found):
        raise Wrong(
            "Each loss in the list is a tensor that holds the record of its whole step, and all of them stay in "
            "memory. "
            "What makes a plain number of a tensor?",
            mistake="loss-kept-as-tensor",
        )
    return torch.tensor([_number(loss, "a loss") for loss in found])


def _fit(x: Tensor, y: Tensor, lr: float, steps: int, clear: bool = True) -> tuple[Tensor, list[float]]:
    """Fit the line as it should be, or with gradients that add up."""
    line, gradient, losses = torch.zeros(2), torch.zeros(2), []
    for _ in range(steps):
        losses.append((line[0] * x + line[1] - y).square().mean().item())
        gradient = _slopes(line, x, y) + (0 if clear else gradient)
        line = line - lr * gradient
    return line, losses


def _slopes(line: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the slopes of the loss for w and b, as on paper."""
    error = line[0] * x + line[1] - y
    return 2 * torch.stack([(error * x).mean(), error.mean()])


def _five_points(learner: Learner) -> tuple[Tensor, Tensor]:
    x, y = torch.rand(2, 5, generator=learner.random)
    return x, y + 3  # far from the line at 0, so that every step is long


def _refuse_wrong_step(found: Tensor, start: Tensor, x: Tensor, y: Tensor, *, lr: float) -> None:
    """Raise Wrong, with words for the way in which it is wrong, unless found is (w, b) after one step."""
    m, slopes = len(x), _slopes(start, x, y)
    right = start - lr * slopes
    if close(found, right):
        return
    before, after = ((line[0] * x + line[1] - y).square().mean() for line in (start, found))
    evidence = (  # and not the right numbers: they are the answer of 1.13
        f"From w = {start[0]:.4g}, b = {start[1]:.4g} your step goes to w = {found[0]:.4g}, b = {found[1]:.4g}. The "
        f"loss was {before:.4g}, and there it is {after:.4g}."
    )
    w, b = right
    b_with_new_w = start[1] - lr * _slopes(torch.stack([w, start[1]]), x, y)[1]
    known = (
        ("step-uphill", start + lr * slopes, "You went up the slope. Which sign goes down?"),
        ("sum-for-mean", start - lr * m * slopes, f"Your step is {m} times too long, for {m} points. Sum or mean?"),
        ("two-missing", start - lr * slopes / 2, "Your step is half as long. What is the derivative of a square?"),
        ("no-learning-rate", start - slopes, f"Your step is {1 / lr:.3g} times too long. What makes it short?"),
        ("slope-for-place", slopes, "These are the slopes. How do they change w and b?"),
        ("change-for-place", -lr * slopes, "This is by how much they change. From where?"),
        ("x-forgotten", [start[0] - lr * slopes[1], b], "So b is right, and w moved as far as b. What is error times?"),
        (
            "slope-of-w-for-b",
            [w, start[1] - lr * slopes[0]],
            "So w is right, and b moved as far as w. Whose slope is it?",
        ),
        ("new-w-for-b", [w, b_with_new_w], "So w is right. For b you took the errors at the new w. Which w is meant?"),
        (
            "loss-not-squared",
            start - lr * torch.stack([x.mean(), x.new_ones(())]),
            "Nothing was squared. What is the loss?",
        ),
        ("did-not-move", start, "Nothing moved. Is it the result of the step that you give back?"),
    )
    _refuse_known(found, evidence, [(mistake, torch.as_tensor(line), words) for mistake, line, words in known])
    for letter, other, same in (("w", "b", found[0] - w), ("b", "w", found[1] - b)):
        if abs(same) < 1e-4:
            raise Wrong(
                f"{evidence} So {letter} is right. What is different for {other}?", mistake=f"only-{letter}-right"
            )
    raise Wrong(f"{evidence} Errors, slopes, step: where do you part from the table on paper?", mistake="value")


def _w_and_b(found: Any, name: str, wanted: str) -> Tensor:
    """Take w and b out of what a step or a fit gave."""
    if not isinstance(found, (tuple, list)) or len(found) != wanted.count(",") + 1:
        raise Wrong(f"`{name}` is to give {wanted}, and gives {_parts(found)}.", mistake="type")
    for letter, part in zip("wb", found):
        if isinstance(part, Tensor) and part.requires_grad and not part.is_leaf:
            raise Wrong(
                f"The new {letter} hangs on the record of the step: it has a `grad_fn`. The next `backward` would "
                "leave its "
                "`.grad` empty. Where is the record to be switched off?",
                mistake="update-inside-graph",
            )
    return torch.tensor([_number(part, f"The {letter} of `{name}`") for letter, part in zip("wb", found)])


def _refuse_wrong_guess(
    learner: Learner, name: str, right: Any, answers: Mapping[Any, tuple[str, str]], otherwise: str
) -> None:
    """Raise Wrong unless the guess is right: each likely answer has its own mistake and words."""
    guess = learner.value(name)
    if isinstance(guess, Tensor):
        guess = guess.tolist()
    if isinstance(guess, str):
        guess = guess.strip().lower()
        with suppress(ValueError, SyntaxError):
            guess = ast.literal_eval(guess)
    if isinstance(guess, (list, tuple)):
        guess = tuple(guess)
    try:
        mistake, words = answers.get(guess, ("other-guess", otherwise))
    except TypeError:  # not hashable, so nothing that can be meant
        raise Wrong(f"`{name}` is {a(guess)}. {otherwise}", mistake="type") from None
    if guess != right:
        raise Wrong(words, mistake=mistake)


def _refuse_known(found: Tensor, evidence: str, known: Iterable[tuple[str, Tensor, str]]) -> None:
    """Raise Wrong when found is what one of the known mistakes gives."""
    for mistake, wrong, words in known:
        if close(found, wrong):
            raise Wrong(f"{evidence} {words}", mistake=mistake)


def _first_difference(found: Tensor, right: Tensor) -> list[int]:
    different = ~torch.isclose(found.double(), right.double(), rtol=1e-4, atol=1e-6)
    return [int(index) for index in different.nonzero()[0]]


def _number(value: Any, what: str) -> float:
    try:
        return float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"{what} is {a(value)}, but one number is wanted.", mistake="type") from None


def _parts(found: Any) -> str:
    return f"{a(found)} of {len(found)}" if isinstance(found, (tuple, list)) else a(found)


def _row(values: Tensor) -> str:
    return f"({', '.join(f'{value:g}' for value in values.tolist())})"


# Better words for exceptions that have one likely cause.


def _in_place(error: Exception) -> Wrong | None:
    if "can't be cast" in str(error):
        words = "You divide in place, so fractions would have to fit into the `uint8`. What must happen to it first?"
        return Wrong(words, mistake="integer-dtype")
    return None


def _no_room(error: Exception) -> Wrong | None:
    if "is invalid for input of size" in str(error):
        return Wrong(
            "5 rows of 784 pixels hold 3,920 numbers, and your shape does not have as many places. Which size of it "
            "depends on how many rows there are?",
            mistake="reshape-size",
        )
    return None


def _no_unsqueeze(error: Exception) -> Wrong | None:
    if "must match the size" in str(error):
        return Wrong(
            f"{error}: rows meet rows, but every point is to meet every center. Where does each of the two need an "
            "axis of size 1?",
            mistake="no-unsqueeze",
        )
    return None


def _no_record(error: Exception) -> Wrong | None:
    if "can require gradients" in str(error):
        words = (
            "The place was -1, so your tensor holds whole numbers. A slope needs fractions. How do you make a float?"
        )
        return Wrong(words, mistake="integer-dtype")
    if "does not require grad" in str(error):
        words = "`backward` finds no record to go back through. What does the example say when it makes its tensor?"
        return Wrong(words, mistake="no-requires-grad")
    return None


def _no_step(error: Exception) -> Wrong | None:
    if "NoneType" in str(error):
        words = "There is a step, but `.grad` is still None when it is taken. What fills it, and for which tensor?"
        return Wrong(words, mistake="backward-missing")
    if "only for scalar outputs" in str(error):
        words = "The loss has a number for each point, and `backward` wants to start from one. What makes one of them?"
        return Wrong(words, mistake="loss-not-averaged")
    if "leaf Variable that requires grad" in str(error):
        words = "The step changes w or b while PyTorch keeps its record of them. Inside which `with` should it stand?"
        return Wrong(words, mistake="update-inside-graph")
    return None
