"""trace(): a recorded run as JSON, all that player.js needs to draw any step of it and to answer a drag."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepfit.explain import check_points
from stepfit.formats import short_number
from stepfit.kernels.points import as_tensor
from stepfit.recording import Recording
from stepfit.steps import Stop
from stepfit.viewers.drawable import class_scores, layout
from stepfit.viewers.palette import COLORS, MARKERS
from stepfit.viewers.surface import SURFACES, loss_surface, path

Array = NDArray[Any]
Body = tuple[dict[str, Any], dict[str, Array]]  # the plain values of a trace, and its arrays before they are packed

GRAYS = 64  # of an image on the wall: the eye sees no more in 28 x 28 pixels, and 256 take nearly twice the bytes
SURFACE_SIZE = 64
STARTS = {"random": "x[torch.randperm(n)[:k]]"}  # the others are not one line


def trace(run: Recording[Any], x: Any, y: Any = None, *, test: tuple[Any, Any] | None = None) -> dict[str, Any]:
    """Turn a recorded run of any algorithm into the JSON-ready dict that the player draws.

    k-means is drawn as a plane or as images, gradient descent on two features and two classes as a line and its loss
    surface, and everything else as curves over the steps.

    Parameters
    ----------
    run : Recording
        What to play.
    x : array-like of shape (n, d)
        The points of the run. k-means: two features are drawn as a plane, a square number of them as images.
    y : array-like of shape (n,) or (n, 1), optional
        k-means on images: what each image shows (0, 1, 2, ...), for the majority in each cluster.
        Gradient descent on two features: the classes, 0 or 1; needed. Other targets lead to curves.
    test : (x_test, y_test), optional
        Gradient descent: the test data, so that the player can measure a run of its own on it.

    Returns
    -------
    dict
        `kind` is "kmeans", "wall", "descent" or "curve"; `id` is a hash of the content; `alt` says in sentences what is
        to be seen. `arrays` lists what lies one after the other in `data`: (name, type, shape, divisor), little-endian,
        unsigned integers as differences from the row before, all deflated and in base64.

    Raises
    ------
    TypeError
        When run is not a recording.
    ValueError
        When x or y does not fit the run, or k-means has no picture for the number of features.

    Examples
    --------
    >>> import stepfit
    >>> x = [[0.0, 0.0], [0.0, 1.0], [4.0, 0.0], [4.0, 1.0]]
    >>> run = stepfit.record(stepfit.lloyd(x, 2, start=x[:2]))
    >>> stepfit.trace(run, x)["alt"].split(". ")
    ['k-means with 2 centers on 4 points',
     'In 2 steps the inertia falls from 32 to 16; nothing changes any more: the run is complete.']
    """
    if not isinstance(run, Recording):
        raise TypeError(f"run is a {type(run).__name__}; a recording is needed: run = stepfit.record(steps)")
    points = as_tensor(x, "x")
    if points.ndim != 2:
        raise ValueError(f"x has shape {tuple(points.shape)}; it must be (n, d): a row a point")
    check_points(run, *points.shape)
    body, arrays = _BODIES.get(run.last.kind, _curve)(run, points, y, test)
    whole = body | {
        # Without the kernel: all give the same run, and so the same trace.
        "settings": {name: value for name, value in run.settings.items() if name != "kernel"},
        "stop": run.stop.name,
        "stops": {stop.name: stop.value for stop in Stop},
        "index": [step.index for step in run],
        "losses": _finite([step.loss for step in run]),
        "events": [step.events for step in run],
        "colors": COLORS,
        "markers": MARKERS,
        **_packed(arrays),
    }
    text = json.dumps(whole, sort_keys=True, allow_nan=False)
    plain: dict[str, Any] = json.loads(text)
    return plain | {"id": hashlib.sha256(text.encode()).hexdigest()[:16]}


def _clusters(run: Recording[Any], x: Tensor, y: Any, test: Any) -> Body:
    return _plane(run, x) if layout(x.shape[1]) == "plane" else _wall(run, x, y)


def _plane(run: Recording[Any], x: Tensor) -> Body:
    points = x.double().cpu().numpy()
    centers = _stacked(run, "centers")
    n, k = len(x), centers.shape[1]
    body = _kmeans(run, x, f"with {k} centers on {n:,} points.") | {
        "kind": "kmeans",
        "dtype": str(run.last.centers.dtype).removeprefix("torch."),
        "box": _box(np.concatenate([points, centers.reshape(-1, 2)])),
        # The player's own k-means knows neither weights, nor batches, nor a tolerance.
        "twin": run.last.kind == "kmeans"
        and run.settings["tol"] == 0
        and all(step.mass.equal(step.counts.double()) for step in run),
    }
    labels = np.full((len(run), n), k)  # k stands for no label: a row that is not in the batch
    for row, step in zip(labels, run):
        row[step.rows] = step.labels.cpu().numpy()
    last_move = run.last.next_centers[None].cpu().numpy()
    kind = np.uint8 if k < 256 else np.uint16
    return body, {"x": points, "centers": np.concatenate([centers, last_move]), "labels": labels.astype(kind)}


def _wall(run: Recording[Any], x: Tensor, y: Any) -> Body:
    n, side = len(x), math.isqrt(x.shape[1])
    centers = _stacked(run, "centers").astype(np.float64)
    steps, k, _ = centers.shape
    low, high = float(x.min()), float(x.max())
    grays = np.nan_to_num((centers - low) / ((high - low) or 1.0) * (GRAYS - 1), nan=255)  # 255 marks a lost center
    counts = _stacked(run, "counts").astype(np.uint32)
    body = _kmeans(run, x, f"with {k} centers on {n:,} images of {side} by {side} pixels.")
    body |= {"kind": "wall", "side": side, "grays": GRAYS, "twin": False}  # the images do not travel
    arrays: dict[str, Array] = {"centers": np.rint(grays).astype(np.uint8).reshape(steps, -1), "counts": counts}
    if y is not None:
        shown = as_tensor(y, "y").reshape(-1).long().cpu().numpy()
        if len(shown) != n or shown.min() < 0:
            raise ValueError(
                f"y has {len(shown)} values; it must say what each of the {n} images shows, as 0, 1, 2, ..."
            )
        kinds = int(shown.max()) + 1
        pairs = [step.labels.cpu().numpy().astype(np.int64) * kinds + shown[step.rows] for step in run]
        table = np.stack([np.bincount(pair, minlength=k * kinds).reshape(k, kinds) for pair in pairs])
        arrays |= {"majority": table.argmax(2).astype(np.uint16), "agree": table.max(2).astype(np.uint32)}
        share = table[-1].max(1).sum() / len(pairs[-1])
        body["alt"] += f" {share:.0%} of the images show what most images of their cluster show."
    return body, arrays


def _kmeans(run: Recording[Any], x: Tensor, what: str) -> dict[str, Any]:
    (n, d), settings = x.shape, run.settings
    dims = {"n": n, "k": len(run.last.centers), "d": d}
    if run.last.kind == "mini_batches":
        return {
            "alt": f"k-means by mini-batches {what} {_story(run)}",
            "dims": dims | {"b": len(run.last.labels)},
            "code": [],  # its few lines are not all that moves the centers
        }
    means = "sums / counts[:, None]"
    code = [
        _line(f"centers = {STARTS.get(settings['start'], 'start')}", ["k", "d"], "start"),
        _line(f"for step in range({settings['max_steps']}):"),
        _line("    distances = torch.cdist(x, centers)", ["n", "k"], "assign"),
        _line("    labels = distances.argmin(1)", ["n"], "assign"),
        _line("    counts = labels.bincount(minlength=k)", ["k"], "update"),
        _line("    sums = torch.zeros(k, d).index_add(0, labels, x)", ["k", "d"], "update"),
        *{
            "nan": [_line(f"    centers = {means}", ["k", "d"], "update")],
            "keep": [
                _line(f"    means = {means}", ["k", "d"], "update"),
                _line("    centers = torch.where(counts[:, None] > 0, means, centers)", ["k", "d"], "update"),
            ],
            "farthest": [
                _line(f"    centers = {means}", ["k", "d"], "update"),
                _line("    # an empty cluster takes the point farthest from its center", None, "update"),
            ],
        }[settings["empty"]],
    ]
    return {
        "alt": f"k-means {what} {_story(run)}",
        "dims": dims,
        "changed": [step.changed for step in run],
        "code": code,
    }


def _descent(run: Recording[Any], x: Tensor, y: Any, test: tuple[Any, Any] | None) -> Body:
    settings, scores = run.settings, class_scores(run.last, 2)
    if scores is None or len(scores[0]) > 2 or settings["loss"] not in SURFACES:
        return _curve(run, x, y, test)
    if y is None:
        raise ValueError("a run of gradient descent is drawn with its classes: trace(run, x, y)")
    if settings["loss"] == "MSELoss" and not np.isin(as_tensor(y, "y").cpu().numpy(), (0, 1)).all():
        return _curve(run, x, y, test)  # targets that are no classes
    classes = _classes(y, "y")
    surface = loss_surface(run, x, classes, SURFACE_SIZE)
    loss = np.nan_to_num(surface.loss, nan=np.finfo(np.float64).max)
    height = np.sqrt(loss - loss.min())  # the root spreads the contours of a bowl evenly
    arrays = {
        "x": x.double().cpu().numpy(),
        "y": classes,
        "params": path(run),
        "heights": np.rint(height / (height.max() or 1.0) * 255).astype(np.uint8),
    }
    dims = {"n": len(x), "d": 2}
    if test is not None:
        x_test, y_test = as_tensor(test[0], "x_test"), _classes(test[1], "y_test")
        if x_test.shape != (len(y_test), 2):
            raise ValueError(
                f"x_test has shape {tuple(x_test.shape)} and y_test {len(y_test)} values; (m, 2) and m are needed"
            )
        dims["m"] = len(x_test)
        arrays |= {"x_test": x_test.double().cpu().numpy(), "y_test": y_test}
    curves, threshold = _measures(run, "test_accuracy", "train_accuracy"), run.last.threshold
    which = "Linear" if settings["loss"] == "MSELoss" else "Logistic"
    by = "L-BFGS" if settings["optimizer"] == "LBFGS" else "gradient descent"
    alt = f"{which} regression by {by} on {len(x):,} points. {_story(run)}"
    for name in [*curves][:1]:
        first, last = (100 * step.metrics[name] for step in (run[0], run.last))
        alt += f" The {name.replace('_', ' ')} goes from {first:.4g}% to {last:.4g}%."
    # What the four lines of torch's training loop do, and the player's own descent, which takes all rows at each step.
    plain = settings["optimizer"] == "SGD" and not any(settings.get(name) for name in ("l1", "l2", "nesterov"))
    body = {
        "kind": "descent",
        "alt": alt,
        "dims": dims,
        "dtype": settings["dtype"],
        "box": _box(arrays["x"]),
        "threshold": threshold,
        "lr_limit": run[0].lr_limit,
        "metrics": curves,
        "surface": [surface.w1[0], surface.w2[0], surface.w1[-1], surface.w2[-1]],
        "code": _descent_code(settings, threshold, test is not None) if plain else [],
        "twin": plain and settings["batch_size"] is None and settings.get("intercept", True),
    }
    return body, arrays


def _curve(run: Recording[Any], x: Tensor, y: Any, test: Any) -> Body:
    names = ("silhouette", "stability") if run.last.kind == "choice" else run.last.metrics
    what = {"choice": "k-means for several numbers of clusters", "descent": "Gradient descent"}[run.last.kind]
    return {
        "kind": "curve",
        "alt": f"{what} on {len(x):,} points. {_story(run)}",
        "dims": {"n": len(x), "d": x.shape[1]},
        "loss_name": run.last.loss_name,
        "metrics": _measures(run, *sorted(names, reverse=True)),
        "code": [],
        "twin": False,
    }, {}


def _measures(run: Recording[Any], *names: str) -> dict[str, list[float | None]]:
    """Return what was measured at every step, by name."""
    steps = [getattr(step, "metrics", None) or vars(step) for step in run]
    return {name: _finite([step[name] for step in steps]) for name in names if all(name in step for step in steps)}


def _finite(values: list[float | None]) -> list[float | None]:
    """Return None for what is not finite, which JSON has no word for."""
    return [value if value is not None and math.isfinite(value) else None for value in values]


def _descent_code(settings: Mapping[str, Any], threshold: float, test: bool) -> list[list[Any]]:
    momentum = f", momentum={settings['momentum']:g}" if settings["momentum"] else ""
    x, y = ("x_test", "y_test") if test else ("x", "y")
    return [
        _line("model = nn.Linear(2, 1)", [1, 2], "start"),
        _line(f"loss_fn = nn.{settings['loss']}()", None, "start"),
        _line(
            f"optimizer = torch.optim.{settings['optimizer']}(model.parameters(), lr={settings['lr']:g}{momentum})",
            None,
            "start",
        ),
        _line(f"for step in range({settings['max_steps']}):"),
        _line("    output = model(x)", ["n", 1], "start", "step"),
        _line("    loss = loss_fn(output, y)", [], "start", "step"),
        _line(f"    accuracy = ((model({x}) > {threshold:g}) == {y}).float().mean()", [], "start", "step"),
        _line("    optimizer.zero_grad()", None, "step"),
        _line("    loss.backward()", [1, 2], "step"),
        _line("    optimizer.step()", [1, 2], "step"),
    ]


def _line(text: str, shape: list[str | int] | None = None, *frames: str) -> list[Any]:
    """Return a line of code, the shape of what it makes (letters are in `dims`), and its kinds of frame."""
    return [text, shape, frames]


def _classes(y: Any, name: str) -> Array:
    classes = as_tensor(y, name).reshape(-1).cpu().numpy()
    if not np.isin(classes, (0, 1)).all():
        raise ValueError(f"{name} holds {classes[~np.isin(classes, (0, 1))][0]}; the player draws two classes, 0 and 1")
    return classes.astype(np.uint8)


def _box(points: Array) -> list[float]:
    """Return x and y of the lower left and the upper right corner, with a margin; NaN counts for nothing."""
    low, high = np.nanmin(points, 0), np.nanmax(points, 0)
    margin = 0.06 * float((high - low).max()) or 1.0
    return [*(low - margin), *(high + margin)]


def _story(run: Recording[Any]) -> str:
    """Say in a sentence how the loss went and why the run ended."""
    first, last = run[0].loss, run.last.loss
    steps = f"In {len(run)} steps" if len(run) > 1 else "In 1 step"
    if short_number(first) == short_number(last):
        went = f"stays at {short_number(last)}"
    else:
        way = "falls" if last < first else "rises" if last > first else "goes"  # to NaN
        went = f"{way} from {short_number(first)} to {short_number(last)}"
    return f"{steps} the {run.last.loss_name} {went}; {run.stop.value}."


def _stacked(run: Recording[Any], name: str) -> Array:
    return torch.stack([getattr(step, name) for step in run]).cpu().numpy()


# By the kind of step; any other kind has curves.
_BODIES: dict[str, Callable[[Recording[Any], Tensor, Any, Any], Body]] = {
    "kmeans": _clusters,
    "mini_batches": _clusters,
    "descent": _descent,
}


def _packed(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Put arrays into one compressed text. Rows change little from step to step: their differences compress."""
    heads, parts = [], []
    for name, values in arrays.items():
        divisor = 1
        if values.dtype.kind == "f":
            values, divisor = _narrowed(values)
        if values.dtype.kind == "u" and values.ndim > 1:
            values = np.concatenate([values[:1], values[1:] - values[:-1]])  # modulo 256, 65,536 or 2^32
        heads.append([name, f"{values.dtype.kind}{values.dtype.itemsize}", values.shape, divisor])
        parts.append(values.astype(values.dtype.newbyteorder("<")).tobytes())
    return {"arrays": heads, "data": base64.b64encode(zlib.compress(b"".join(parts), 9)).decode()}


def _narrowed(values: Array) -> tuple[Array, int]:
    """Return the same numbers in four bytes each where that loses nothing: float32, or whole millionths."""
    with np.errstate(over="ignore", invalid="ignore"):
        single = values.astype(np.float32)
        if np.array_equal(single, values, equal_nan=True):
            return single, 1
        million = np.rint(values * 1e6)
        if np.array_equal(million / 1e6, values) and np.abs(million).max() < 2**31:
            return million.astype(np.int32), 10**6
    return values, 1
