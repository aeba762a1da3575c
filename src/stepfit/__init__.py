"""Machine learning you can watch, one step at a time, and then run at full speed. The public names, nothing else."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Step": "steps",
    "Stop": "steps",
    "KMeansStep": "kmeans",
    "lloyd": "kmeans",
    "assign": "kmeans",
    "DescentStep": "descent",
    "descend": "descent",
    "linear_regression": "descent",
    "logistic_regression": "descent",
    "ChoiceStep": "choose",
    "choose_k": "choose",
    "KMeans": "estimators.kmeans",
    "MiniBatchKMeans": "estimators.mini_batch",
    "LinearRegression": "estimators.linear",
    "LogisticRegression": "estimators.logistic",
    "Recording": "recording",
    "record": "recording",
    "explain": "events",
    "datasets": "datasets",
    "progress": "viewers.progress",
    "figure": "viewers.figures",
    "animate": "viewers.animation",
    "trace": "viewers.trace",
    "show": "viewers.widget",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    # Loaded on first use: `stepfit --help` must not wait for torch.
    if name not in _HOMES:
        raise AttributeError(f"module 'stepfit' has no attribute {name!r}; it has {', '.join(__all__)}")
    module = import_module(f"stepfit.{_HOMES[name]}")
    return module if name == "datasets" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
