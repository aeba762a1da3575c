"""Fixed-point sums: against exact fractions, and worked out by hand."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import problems

from stepfit import kernels
from stepfit.kernels import arrays, compiled, fixed
from stepfit.kernels.points import Points


def value_of(limbs: torch.Tensor, width: int) -> list[int]:
    return [sum(int(limb) << width * i for i, limb in enumerate(column)) for column in limbs.reshape(len(limbs), -1).T]


@given(st.lists(st.floats(-(2.0**80), 2.0**80), min_size=1, max_size=20))
def test_limbs_add_up_to_the_nearest_integer(values):
    limbs = fixed.split(torch.tensor(values, dtype=torch.float64), 27)
    total = [sum(int(limb[i]) for limb in limbs) for i in range(len(values))]
    assert total == [round(Fraction(v)) for v in values]  # half to even, both


def test_small_negative_values_keep_their_low_bits():
    # Cutting with floor would leave -3 as -2^27 + (2^27 - 3), whose low part a float32 product could lose.
    limbs = fixed.split(torch.tensor([-3.0, -(2.0**60) - 256], dtype=torch.float64), 27)
    assert [int(limb[0]) for limb in limbs] == [-3, 0, 0]
    assert sum(int(limb[1]) for limb in limbs) == -(2**60) - 256


@given(problems(weighted=None))
def test_sums_are_the_integers_of_the_definition(problem):
    points = Points(problem.x, problem.weight)
    centers = torch.from_numpy(problem.start[:1])
    totals = kernels.KERNELS["chunked"].assign_and_sum(points, centers)
    scale = points.scale
    weight = np.ones(points.n) if problem.weight is None else problem.weight

    def nearest(value: Fraction, exponent: int) -> int:
        return round(value * Fraction(2) ** exponent)

    for t in range(points.d):
        high = [float(w) * float(v) for w, v in zip(weight, problem.x[:, t])]
        low = [Fraction(float(w)) * Fraction(float(v)) - Fraction(h) for w, v, h in zip(weight, problem.x[:, t], high)]
        exponent = 80 - int(scale.product[t])
        want = sum(nearest(Fraction(h), exponent) + nearest(rest, exponent) for h, rest in zip(high, low))
        assert value_of(totals.sums[:, 0, t], 27) == [want]
    exact = sum(
        Fraction(float(w)) * Fraction(float(v)) ** 2 for w, row in zip(weight, problem.x) for v in row
    ) * Fraction(2) ** (96 - scale.widest - scale.heaviest)
    assert abs(value_of(totals.squares, 32)[0] - exact) <= 2 * problem.x.size  # each of up to three parts rounds once


@given(problems(weighted=None))
def test_inertia_is_the_exact_one(problem):
    """Within the resolution: a hair of what float64 would lose."""
    points = Points(problem.x, problem.weight)
    centers = torch.from_numpy(problem.start)
    totals = kernels.KERNELS["reference"].assign_and_sum(points, centers)
    weight = np.ones(points.n) if problem.weight is None else problem.weight
    exact = sum(
        Fraction(float(w)) * (Fraction(float(v)) - Fraction(float(c))) ** 2
        for w, row, label in zip(weight, problem.x, totals.labels.tolist())
        for v, c in zip(row, problem.start[label])
    )
    size = np.abs(problem.x.astype(float)).max() * (weight * np.abs(problem.x.astype(float)).max(1)).max()
    assert totals.inertia(centers, points.scale) == pytest.approx(float(exact), rel=1e-14, abs=size * 2.0**-68)


def test_rows_that_come_and_go_leave_nothing_behind():
    x = torch.from_numpy(np.random.RandomState(0).randn(200, 3)) * torch.tensor([1e9, 1.0, 1e-9])
    points = Points(x)
    label = torch.zeros(200, dtype=torch.int32)
    totals = fixed.Totals.zeros(label, 2, 3, weighted=False)
    totals.add(x, None, points.scale, to=label)
    before = totals.copy(label)
    for _ in range(5):
        totals.add(x[:77], None, points.scale, to=label[:77] + 1, out_of=label[:77])
        totals.add(x[:77], None, points.scale, to=label[:77], out_of=label[:77] + 1)
    assert totals.sums.equal(before.sums)
    assert totals.squares.equal(before.squares)
    assert totals.counts.equal(before.counts)


def test_carry_gives_one_form_for_one_value():
    limbs = fixed.carry(torch.tensor([[2**27 + 5, -1], [2**27 - 1, 0], [0, 7]]), 27)
    assert limbs.T.tolist() == [[5, 0, 1], [2**27 - 1, 2**27 - 1, 6]]


def test_points_on_their_center_have_inertia_0():
    # 0.1 squared has 106 bits, and three of them more than double-double holds.
    for value in (0.1, 1 / 3, 1e6 + 0.1):
        points = Points([[value, value / 7, 0.3]] * 3)
        totals = kernels.KERNELS["chunked"].assign_and_sum(points, points.x[:1])
        assert totals.inertia(points.x[:1], points.scale) == 0.0


def test_sum_of_squares_by_hand():
    assert arrays.sum_of_squares(np.array([[3.0, 4.0], [0.0, 12.0]])) == 169.0


@pytest.mark.parametrize(
    "dtype", [torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64]
)
@pytest.mark.parametrize("d", [1, 3, 33, 64, 65])
def test_the_largest_size_of_each_feature(d, dtype):
    x = (torch.randn(500, d, generator=torch.Generator().manual_seed(d)) * 50).to(dtype)
    for block in (x, x[:1], x[:63], x[::2], x.T.contiguous().T):
        largest = block.double().abs().amax(0)
        assert Points(block).scale.x.tolist() == torch.frexp(largest).exponent.tolist()
    assert Points(torch.tensor([[-(2**63)]])).scale.x.item() == 64


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8])
def test_of_bytes_the_type_says_how_large_they_are(dtype):
    assert Points(torch.zeros(3, 2, dtype=dtype)).scale.x.tolist() == [8, 8]


def test_the_largest_size_without_the_compiled_module_is_the_same(monkeypatch):
    x = torch.randn(500, 7, generator=torch.Generator().manual_seed(0))
    with_it = Points(x)._largest
    monkeypatch.setattr(compiled, "missing", "not built")
    assert Points(x)._largest.equal(with_it)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [float("nan"), -float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("layout", ["rows", "columns", "every other row"])
def test_one_bad_value_is_found_wherever_it_stands(dtype, bad, layout):
    x = torch.zeros(1100, 3, dtype=dtype)
    for row, column in ((0, 0), (1022, 1), (1098, 2)):
        y = x.clone()
        y[row, column] = bad
        seen = {"rows": y, "columns": y.T.contiguous().T, "every other row": y[::2]}[layout]
        at = row // 2 if layout == "every other row" else row
        with pytest.raises(ValueError, match=f"at row {at}, column {column}"):
            Points(seen)
