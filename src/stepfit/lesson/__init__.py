"""The lesson: page, live lab, notebooks and their checks, and the server that brings them all."""

from importlib import import_module
from typing import Any

_HOMES = {
    "check": "checks.commands",
    "hint": "checks.commands",
    "solution": "checks.commands",
    "reset": "checks.commands",
    "show": "compare",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    # Loaded on first use: the server must not load torch before anybody needs it.
    if name not in _HOMES:
        raise AttributeError(f"module 'stepfit.lesson' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"stepfit.lesson.{_HOMES[name]}"), name)
