"""Machine learning you can watch, one step at a time, and then run at full speed. The public names, nothing else."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Step": "steps",
    "Stop": "steps",
    "KMeansStep": "clustering.lloyd",
    "lloyd": "clustering.lloyd",
    "assign": "clustering.lloyd",
    "DescentStep": "descent.engine",
    "descend": "descent.module",
    "linear_regression": "descent.regression",
    "logistic_regression": "descent.regression",
    "ChoiceStep": "clustering.choose",
    "choose_k": "clustering.choose",
    "KMeans": "estimators.kmeans",
    "MiniBatchKMeans": "estimators.mini_batch",
    "LinearRegression": "estimators.linear",
    "LogisticRegression": "estimators.logistic",
    "Recording": "recording",
    "record": "recording",
    "explain": "explain",
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


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # Python binds each submodule to its package when it is imported: the module explain would hide the function.
        super().__setattr__(name, value.explain if name == "explain" and isinstance(value, ModuleType) else value)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted(__all__)
