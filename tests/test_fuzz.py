"""Any call of an estimator, with any settings and any data, gives what it promises or refuses in a sentence.

An estimator is an entry of `FUZZED`.
"""

import copy
import math
import pickle
import random
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepfit import KMeans, LinearRegression, LogisticRegression, MiniBatchKMeans, Stop

CALLS = 10_000  # of all estimators together; an example makes about five


@dataclass(frozen=True)
class Fuzzed:
    """An estimator: good values of each parameter, what y is (None for no y), and the methods that take X, or X and y.

    `always` are parameters that are always given: the number of rows is small, and runs are to be short.
    """

    kind: type
    values: Mapping[str, list[Any]]
    always: Mapping[str, list[Any]]
    y: str | None
    of_x: tuple[str, ...]
    learn: tuple[str, ...] = ("fit", "fit", "fit", "steps")

    def parameters(self) -> list[str]:
        return [*self.values, *self.always]


GRADIENT = {
    "lr": ["auto", 1e-3, 1, 1e300, 5e-324],
    "momentum": [0, 0.5, 0.999],
    "batch_size": [None, 1, 2, 5, np.int64(3)],
    "early_stopping": [True, False],
    "validation_fraction": [0.1, 0.5, 1e-9, 0.999],
    "n_iter_no_change": [1, 3],
    "standardize": [True, False],
    "random_state": [None, 0, 2**32 - 1, np.random.RandomState(0)],
    "fit_intercept": [True, False, np.False_],
    "tol": [0, 1e-4, 1e-300, 1.0, np.float32(0.1)],
}
FEW = [1, 2, 2, 3, 4, 8, np.int64(2)]
CLUSTERS = {
    "init": ["k-means++", "random", "farthest", lambda X, k, random_state: X[:k], [[0.0], [1.0]], np.eye(2)],
    "n_init": ["auto", 1, 3],
    "tol": [0, 1e-4, 1e-300, 1.0, np.float32(0.1)],
    "random_state": [None, 0, 2**32 - 1, np.random.RandomState(0)],
    "kernel": [None, "native", "chunked", "reference"],
}
FUZZED = [
    Fuzzed(
        LinearRegression,
        GRADIENT
        | {
            "solver": ["exact", "exact", "lbfgs", "sgd", "momentum", "nesterov", "adam"],
            "l1": [0, 1e-3, 1.0, 1e300],
            "l2": [0, 1e-3, 1.0, 1e300, 5e-324],
        },
        {"max_iter": [0, 1, 4, 30]},
        "numbers",
        ("predict",),
    ),
    Fuzzed(
        LogisticRegression,
        GRADIENT
        | {
            "solver": ["lbfgs", "sgd", "momentum", "nesterov", "adam"],
            "C": [1, 1e-3, 1e300, 5e-324, math.inf],
            "l1_ratio": [0, 0.5, 1],
            "class_weight": [None, "balanced", {0: 2.0}, {0: 0.0}, {0: 1e300, 1: 1e-300}, {"a": 1.0}, {}],
            "warm_start": [True, False],
        },
        {"max_iter": [0, 1, 4, 30]},
        "classes",
        ("predict", "predict_proba", "predict_log_proba", "decision_function"),
    ),
    Fuzzed(
        KMeans,
        CLUSTERS | {"empty": ["farthest", "keep"]},  # the third rule, "nan", is there to give NaN
        {"max_iter": [1, 2, 30], "n_clusters": FEW},
        None,
        ("predict", "transform"),
    ),
    Fuzzed(
        MiniBatchKMeans,
        CLUSTERS
        | {
            "batch_size": [1, 2, 5, 1024, 2**40],
            "max_no_improvement": [None, 1, 10],
            "reassignment_ratio": [0, 0.01, 0.5, 1],
            "exact": [True, False],
        },
        {"max_iter": [1, 2, 5], "n_clusters": FEW},
        None,
        ("predict", "transform"),
        ("fit", "partial_fit", "partial_fit", "steps"),
    ),
]

# For any parameter: some are good for some.
ODD = [None, "no", "", b"sgd", -1, 0, 1, 2, 1.5, -0.0, math.nan, math.inf, -math.inf, -(2**70), True, [], [1], (),
       {}, {1}, object(), int, len, 1j, np.float32(0.5), np.int8(-1), np.array(1), np.array([1, 2]),
       torch.tensor(1.0), pd.NA, np.datetime64("2026-01-01"), {"a": "b"}, {0: -1.0}, {0: math.nan},
       {0: None}]  # fmt: skip

# Numbers for X, from a generator and a shape.
NUMBERS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "normal": lambda draw, shape: draw.normal(size=shape),
    "ties": lambda draw, shape: draw.integers(-2, 3, shape).astype(float),
    "bytes": lambda draw, shape: draw.integers(0, 256, shape).astype(float),
    "constant": lambda draw, shape: np.full(shape, 0.1),
    "nought": lambda draw, shape: np.zeros(shape),
    "collinear": lambda draw, shape: draw.normal(size=(*shape[:1], *[1] * (len(shape) - 1))) * np.ones(shape),
    "apart": lambda draw, shape: draw.normal(size=shape) * 10.0 ** draw.integers(-9, 9, shape[-1:]),
    "offset": lambda draw, shape: draw.normal(size=shape) + 1e9,
    "large": lambda draw, shape: draw.normal(size=shape) * 1e150,
    "wild": lambda draw, shape: draw.normal(size=shape) * 10.0 ** draw.integers(-300, 300, shape),
    "huge": lambda draw, shape: draw.normal(size=shape) * 1e300,
    "tiny": lambda draw, shape: draw.normal(size=shape) * 1e-160,
    "denormal": lambda draw, shape: draw.integers(-3, 4, shape) * 5e-324,
    "nan": lambda draw, shape: np.where(draw.uniform(size=shape) < 0.3, math.nan, 1.0),
    "infinite": lambda draw, shape: np.where(draw.uniform(size=shape) < 0.3, math.inf, 1.0),
}
FINITE = [*NUMBERS][:13]


def read_only(array):
    array.flags.writeable = False
    return array


# What numbers come in.
KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "float64": lambda a: a,
    "float32": lambda a: a.astype("float32"),
    "list": lambda a: a.tolist(),
    "frame": lambda a: pd.DataFrame(a) if a.ndim == 2 else pd.Series(a) if a.ndim == 1 else a,
    "polars": lambda a: pl.DataFrame(a, schema=[f"x{j}" for j in range(a.shape[1])]) if a.ndim == 2 else a,
    "tensor": torch.tensor,
    "float32 tensor": lambda a: torch.tensor(a, dtype=torch.float32),
    "read-only": read_only,
    "backwards": lambda a: a[::-1].copy()[::-1],
    "every other": lambda a: np.repeat(a, 2, 0)[::2],
    "fortran": np.asfortranarray,
    "transposed": lambda a: torch.tensor(a.T.copy()).T if a.ndim == 2 else torch.tensor(a),
    "float16": lambda a: a.astype("float16"),
    "uint8": lambda a: np.nan_to_num(a).clip(0, 255).astype("uint8"),
    "int64": lambda a: np.nan_to_num(a).clip(-1e18, 1e18).astype("int64"),
    "bool": lambda a: a > 0,
    "bfloat16 tensor": lambda a: torch.tensor(a, dtype=torch.bfloat16),
    "uint8 tensor": lambda a: torch.tensor(np.nan_to_num(a).clip(0, 255).astype("uint8")),
    "graph": lambda a: torch.tensor(a, requires_grad=True),
    "big-endian": lambda a: a.astype(">f8"),
    "longdouble": lambda a: a.astype("longdouble"),
    "object": lambda a: a.astype(object),
    "strings": lambda a: a.astype(str),
    "complex": lambda a: a.astype(complex),
    "complex tensor": lambda a: torch.tensor(a.astype(complex)),
    "masked": lambda a: np.ma.masked_array(a, a > 0),
    "sparse": lambda a: scipy.sparse.csr_array(np.atleast_2d(a)),
    "sparse tensor": lambda a: torch.tensor(a).to_sparse(),
    "quantized": lambda a: torch.quantize_per_tensor(torch.zeros(a.shape), 0.1, 0, torch.quint8),
    "meta": lambda a: torch.empty(a.shape, device="meta"),
    "dates": lambda a: np.full(a.shape, np.datetime64("2026-01-01")),
}
GOOD_KINDS = [*KINDS][:12]

# No arrays at all, or none of numbers.
NO_TABLE = [None, 3, 1.5, "no", "no.npy", b"no", [], [[]], [[1], [1, 2]], [None], {}, {"a": [1]}, object(), [["a"]],
            [[1j]], int, np.float64(1), np.empty((0, 2)), np.empty((2, 0)), np.zeros((2, 2, 2)),
            np.array([None], dtype=object), torch.tensor(1.0), torch.empty(0, 2), torch.zeros(2, 2, 2), pd.DataFrame(),
            pd.DataFrame({"a": ["x", "y"]}), pd.DataFrame({"a": [1.0, None]}), pd.DataFrame({0: [1.0], "a": [1]}),
            pl.DataFrame({"a": ["x", None]}), iter([[1.0]]), range(3)]  # fmt: skip


def mostly(usual, *others):
    """A strategy that is the first of several most of the time."""
    return st.sampled_from([usual] * 10 + list(others)).flatmap(lambda strategy: strategy)


@st.composite
def tables(draw, n, d):
    """X, mostly (n, d) and numbers that are fine."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.sampled_from(NO_TABLE))
    odd = draw(st.integers(0, 9))
    shape = {0: (n,), 1: (n + 1, d), 2: (n, d + 1)}.get(odd, (n, d)) if draw(st.integers(0, 3)) == 0 else (n, d)
    return made(draw, shape)


def made(draw, shape):
    numbers = NUMBERS[
        draw(mostly(st.sampled_from(FINITE[:8]), *[st.sampled_from(FINITE)] * 4, st.sampled_from([*NUMBERS])))
    ]
    kind = KINDS[draw(mostly(st.sampled_from(GOOD_KINDS), st.sampled_from([*KINDS])))]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of casts that overflow
        return kind(numbers(np.random.default_rng(draw(st.integers(0, 99))), shape))


CLASSES = [[0, 1], [0, 1, 2], ["a", "b"], ["a", "b", "c"], [True, False], [-1.0, 1.0], [0], ["a"], [0, 2**62], [1, "a"],
           [None, 1], [0.5, 1.5], [0.0, math.nan], [b"a", b"b"], [1j, 2j], [(0,), (1,)], [0, 1e300]]  # fmt: skip
LABEL_KINDS = [list, np.array, pd.Series, lambda y: np.array(y, dtype=object), torch.tensor, tuple,
               lambda y: np.array(y)[:, None], lambda y: read_only(np.array(y)), pl.Series, pd.Categorical]  # fmt: skip


@st.composite
def targets(draw, n, kind):
    """The y of n rows, mostly of the right length and kind."""
    odd = draw(st.integers(0, 29))
    if odd == 0:
        return draw(st.sampled_from(NO_TABLE))
    n = {1: n + 1, 2: 1}.get(odd, n)
    if (kind == "classes") == (odd == 3):
        return made(draw, (n, 2) if draw(st.integers(0, 5)) == 0 else (n,))
    few = draw(mostly(st.sampled_from(CLASSES[:6]), st.sampled_from(CLASSES)))
    picks = np.random.default_rng(draw(st.integers(0, 99))).integers(0, len(few), n)
    try:
        return draw(mostly(*map(st.just, LABEL_KINDS)))([few[i] for i in picks])
    except (TypeError, ValueError, RuntimeError, pl.exceptions.PolarsError):  # such a y there cannot be
        return [few[i] for i in picks]


@st.composite
def sample_weights(draw, n):
    """None or n weights, mostly good ones."""
    kinds = {
        "ones": np.ones(n),
        "some": np.arange(n) % 3.0,
        "list": [0.5] * n,
        "tensor": torch.full((n,), 2.0),
        "float32": np.full(n, 0.1, "float32"),
        "large": np.full(n, 1e300),
        "too large": np.full(n, 1e308),
        "small": np.full(n, 1e-300),
        "wild": 10.0 ** (np.arange(n) * 97 % 601 - 300),
        "denormal": np.full(n, 5e-324),
        "nought": np.zeros(n),
        "negative": -np.ones(n),
        "nan": np.full(n, math.nan),
        "infinite": np.full(n, math.inf),
        "long": np.ones(n + 1),
        "flat": np.ones((n, 1)),
        "number": 2.0,
        "strings": ["a"] * n,
        "object": object(),
        "complex": np.full(n, 1j),
    }
    names = [*kinds]
    return draw(mostly(st.none(), st.sampled_from(names[:5]), st.sampled_from(names).filter(bool)).map(kinds.get))


@dataclass
class Case:
    """An estimator, and calls to make one after another: a method, and what it is given."""

    model: Any
    calls: list[tuple[str, tuple, dict]]


@st.composite
def cases(draw, fuzzed):
    chosen = {name: draw(st.sampled_from(values)) for name, values in fuzzed.always.items()}
    for name in draw(st.lists(st.sampled_from(fuzzed.parameters()), max_size=4, unique=True)):
        good = {**fuzzed.values, **fuzzed.always}[name]
        odd = ODD if name in fuzzed.always else [*ODD, 2**70, 10**400]
        chosen[name] = copy.deepcopy(draw(mostly(st.sampled_from(good), st.sampled_from(odd))))
    calls, sizes = [], mostly(st.integers(4, 10), st.integers(1, 10))
    n, d = draw(sizes), draw(st.integers(1, 3))
    for again in range(2):
        if again and draw(st.booleans()):
            n, d = draw(sizes), draw(st.integers(1, 3))
        X, y, weight = draw(tables(n, d)), draw(targets(n, fuzzed.y)) if fuzzed.y else None, draw(sample_weights(n))
        data = (X,) if fuzzed.y is None else (X, y)
        named = {} if weight is None else {"sample_weight": weight}
        calls.append((draw(st.sampled_from(fuzzed.learn)), data, named))
        others = st.just(X) | tables(n, d)
        calls += [(method, (draw(others),), {}) for method in draw(st.lists(st.sampled_from(fuzzed.of_x), max_size=3))]
        if draw(st.booleans()):
            calls.append(("score", data, named))
    return Case(fuzzed.kind(**chosen), calls)


def snapshot(value):
    """Bytes that change when a value does."""
    try:
        if isinstance(value, torch.Tensor):
            return value.detach().clone().view(torch.uint8).numpy().tobytes(), value.requires_grad, value._version
        return pickle.dumps(value)
    except Exception:  # not everything can be pickled
        return repr(value)


def generators():
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return name, keys.tobytes(), rest, torch.get_rng_state().numpy().tobytes(), random.getstate()


def finite(value):
    """Whether all numbers in a result are; what is no number passes."""
    if isinstance(value, torch.Tensor):
        return bool(value.isfinite().all())
    array = np.asarray(value)
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())


def check_answer(model, method, given, answer):
    X = given[0]
    if method in ("fit", "partial_fit"):
        assert answer is model
        learned = {name: value for name, value in vars(model).items() if name.endswith("_") and name[0] != "_"}
        assert all(map(finite, learned.values())), learned
        if method == "fit":
            assert {"n_features_in_", "n_iter_", "stop_", "events_"} <= set(learned)
            assert model.stop_ in Stop
        if hasattr(model, "labels_"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of names that only some pieces have
                assert np.array_equal(model.labels_, model.predict(X))
        return
    if method == "steps":
        assert answer[-1].stop is not None
        assert all(step.stop is None for step in answer[:-1])
        assert all(math.isfinite(step.loss) for step in answer if step.stop is not Stop.DIVERGED)
        return
    assert finite(answer), answer
    if method == "score":
        assert type(answer) is float
        return
    assert len(answer) == len(X)
    if method == "predict" and hasattr(model, "classes_"):
        known = model.classes_.tolist()
        assert all(one in known for one in answer.tolist())
        return
    assert isinstance(answer, torch.Tensor if isinstance(X, torch.Tensor) else np.ndarray)
    if method == "predict_proba":
        assert tuple(answer.shape) == (len(X), len(model.classes_))
        assert (answer >= 0).all()
        assert abs(answer.sum(1) - 1).max() < 1e-3


def judge(case):
    """Make the calls of a case, and give how many were answered and how many refused."""
    tally = Counter()
    model = case.model
    for method, given_, named in case.calls:
        before = snapshot(given_), snapshot(named), generators(), repr(model.get_params())
        state = dict(vars(model))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                answer = getattr(model, method)(*given_, **named)
                if method == "steps":
                    answer = list(answer)
        except (ValueError, TypeError) as refusal:
            said = str(refusal)
            assert len(said) > 20, said
            assert len(said.split()) > 3, said
            tally["refused"] += 1
            kept = True
        else:
            check_answer(model, method, given_, answer)
            tally["answered"] += 1
            kept = method not in ("fit", "partial_fit")
        if kept:
            assert vars(model).keys() == state.keys()
            assert all(vars(model)[name] is value for name, value in state.items())
        assert before == (snapshot(given_), snapshot(named), generators(), repr(model.get_params()))
    return tally


@pytest.mark.parametrize("fuzzed", FUZZED, ids=lambda fuzzed: fuzzed.kind.__name__)
def test_any_call_keeps_its_promises_or_is_refused_in_a_sentence(fuzzed):
    tally = Counter()

    @settings(
        max_examples=CALLS // 4 // len(FUZZED),
        deadline=timedelta(seconds=10),
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(cases(fuzzed))
    def calls(case):
        tally.update(judge(case))

    calls()
    assert min(tally["answered"], tally["refused"]) > tally.total() / 4
    assert tally.total() >= CALLS / len(FUZZED)
