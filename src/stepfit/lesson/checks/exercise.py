"""What an exercise is, and what its judge works with: the learner's names, and the words for what is wrong."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from stepfit.lesson.checks.sandbox import Died, Overdue, run_sandboxed

T = TypeVar("T")

UNTOUCHED = "A line of `{name}` is still `...`; put your own code there."
# Of the standard library and of what pip installed.
LIBRARIES = tuple({linecache.__file__.removesuffix("linecache.py"), torch.__path__[0].removesuffix("torch")})


class Wrong(Exception):  # noqa: N818, a learner's work is no error of the program
    """What is wrong, in words for the learner; `mistake` names one of the known mistakes."""

    def __init__(self, words: str, mistake: str | None = None, status: str = "wrong"):
        super().__init__(words, mistake, status)  # all three, so that it can be sent from process to process
        self.words, self.mistake, self.status = words, mistake, status


class NotAttempted(Wrong):
    """Nothing to judge yet."""

    def __init__(self, words: str):
        super().__init__(words, None, "not attempted")

    def __reduce__(self) -> tuple[Any, ...]:
        return NotAttempted, (self.words,)


@dataclass(frozen=True)
class Exercise:
    """One To Do cell: `judge(learner)` raises Wrong, or says in half a sentence what it found right."""

    number: str
    title: str
    hints: tuple[str, str, str]  # the idea, the place, nearly the code
    judge: Callable[[Learner], str]


def exercise(number: str, title: str, *, hints: tuple[str, str, str]) -> Callable[[Callable[[Learner], str]], Exercise]:
    """Make a judge into an exercise."""
    return lambda judge: Exercise(number, title, hints, judge)


class Learner:
    """What the learner has made so far.

    Parameters
    ----------
    namespace : mapping
        The names of the learner's notebook.
    seed : int
        Of `random`, the generator that a judge draws its data from.
    """

    def __init__(self, namespace: Mapping[str, Any], seed: int = 0):
        self._namespace = namespace
        self.random = torch.Generator().manual_seed(seed)

    def value(self, name: str) -> Any:
        """Return what the learner calls so."""
        if name not in self._namespace:
            raise NotAttempted(f"There is no `{name}` yet; run the cell that makes it.")
        return _attempted(self._namespace[name], name)

    def call(
        self,
        name: str,
        *args: Any,
        may_change: bool = False,
        explain: Callable[[Exception], Wrong | None] | None = None,
    ) -> Any:
        """Call the learner's function on copies of the tensors among args, and give what it returns.

        `explain` may have better words for an exception of the learner's code. A function that changes its arguments
        is refused unless it may; `args` themselves never change, but models and optimizers are handed over as they are.
        """
        function = self.value(name)
        if not callable(function):
            raise Wrong(f"`{name}` is {a(function)}, but it must be a function. Has a later line reused its name?")
        given = [arg.clone() if _is_plain(arg) else arg for arg in args]
        try:
            result = function(*given)
        except Wrong:
            raise
        except BaseException as error:  # also what wants to end Python
            better = explain(error) if explain and isinstance(error, Exception) else None
            raise better or _of(error, name) from None
        for position, (before, after) in enumerate(zip(args, given), start=1):
            if not may_change and _is_plain(before) and not _same(before, after):
                raise Wrong(
                    f"`{name}` changed its argument number {position}: whoever calls it finds other numbers in the "
                    "tensor afterwards. Which of your lines writes into it?",
                    mistake="changes-its-arguments",
                )
        if result is None:
            raise Wrong(f"`{name}` gives nothing back. Does it end with a `return`?", mistake="returns-nothing")
        return _attempted(result, name)


def apart_in_words(work: Callable[[], T]) -> T:
    """Do work with a learner's code apart from this process; where that ends badly, Wrong says so."""
    try:
        return run_sandboxed(work)
    except Wrong:
        raise
    except Died as died:
        words = f"Your code stopped everything: {died}. A function should `return` instead."
        raise Wrong(words, mistake="exit", status="error") from None
    except Exception as error:
        words = f"The check itself stumbled over what your code gave: {a(error)}, {error}. Is it of the kind asked for?"
        raise Wrong(words, mistake="check-stumbled", status="error") from None
    except Overdue as overdue:
        words = f"Your code was still running after {overdue.seconds:g} seconds. Does its loop ever end?"
        raise Wrong(words, mistake="endless", status="error") from None


def tensor(value: Any, what: str, *, shape: tuple[int, ...] | None = None, kind: str | None = None) -> Tensor:
    """Return the value if it is a tensor of this shape and kind ("float" or "whole"), and say what is wrong if not.

    Examples
    --------
    >>> tensor(torch.ones(2, 3), "`x`", shape=(3, 2))
    Traceback (most recent call last):
        ...
    stepfit.lesson.checks.exercise.Wrong: ('`x` has shape (2, 3), but (3, 2) is wanted.', 'shape', 'wrong')
    """
    if not isinstance(value, Tensor):
        raise Wrong(f"{what} is {a(value)}, but a tensor is wanted.", mistake="type")
    if value.layout != torch.strided or value.is_meta or value.is_complex():
        kind_of = "complex" if value.is_complex() else "meta" if value.is_meta else "sparse"
        raise Wrong(f"{what} is a {kind_of} tensor, but an ordinary one is wanted.", mistake="type")
    if shape is not None and tuple(value.shape) != shape:
        raise Wrong(f"{what} has shape {tuple(value.shape)}, but {shape} is wanted.", mistake="shape")
    if kind == "float" and not value.is_floating_point():
        raise Wrong(f"{what} has dtype {value.dtype}, but it needs room for fractions: float.", mistake="dtype")
    if kind == "whole" and (value.is_floating_point() or value.dtype == torch.bool):
        raise Wrong(f"{what} has dtype {value.dtype}, but whole numbers are wanted.", mistake="dtype")
    return value


def close(found: Tensor, right: Tensor) -> bool:
    """Say whether two tensors agree to 1e-4; any dtypes will do.

    Examples
    --------
    >>> close(torch.tensor([1.0, 2.0]), torch.tensor([1, 2]))
    True
    """
    return found.shape == right.shape and torch.allclose(found.double(), right.double(), rtol=1e-4, atol=1e-6)


def a(value: Any) -> str:
    """Name the kind of a value with its article: a list, an int."""
    kind = type(value).__name__
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}" if value is not None else "None"


def _attempted(value: Any, name: str) -> Any:
    """Return the value back unless it still holds a `...`."""
    inside = value if isinstance(value, (tuple, list)) else [value]
    if any(part is ... or (isinstance(part, (tuple, list)) and any(p is ... for p in part)) for part in inside):
        raise NotAttempted(UNTOUCHED.format(name=name))
    return value


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and not value.requires_grad


def _same(before: Tensor, after: Tensor) -> bool:
    return before.shape == after.shape and before.dtype == after.dtype and before.equal(after)


def _of(error: BaseException, name: str) -> Wrong:
    """Put an exception of the learner's code into words, with the line that it came from."""
    at = _line(error)
    if isinstance(error, Overdue):
        words = f"`{name}` was still running after {error.seconds:g} seconds{at}. Does its loop ever end?"
        return Wrong(words, mistake="endless", status="error")
    if isinstance(error, (SystemExit, KeyboardInterrupt)):
        words = f"`{name}` wants to end Python{at}; a function should `return` instead."
        return Wrong(words, mistake="exit", status="error")
    said = str(error).strip().partition("\n")[0]
    if "ellipsis" in said:
        return NotAttempted(f"`{name}` met a `...`{at}. Something that it needs is still to be written.")
    if isinstance(error, MemoryError) or "can't allocate memory" in said:
        words = f"`{name}` asked for more memory than a check may use (4 GB){at}. Which tensor there is so large?"
        return Wrong(words, mistake="memory", status="error")
    words = f"`{name}` stopped with {a(error)}{at}: {said}" if said else f"`{name}` stopped with {a(error)}{at}."
    return Wrong(words, mistake="exception", status="error")


def _line(error: BaseException) -> str:
    """Say where in the learner's own code an exception arose; the lines of libraries below it would not help."""
    found, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        module = str(trace.tb_frame.f_globals.get("__name__"))
        if not code.co_filename.startswith(LIBRARIES) and not module.startswith("stepfit."):
            text = linecache.getline(code.co_filename, trace.tb_lineno).strip()
            found = f" in line {trace.tb_lineno}" + (f", `{text}`" if text else "")
        trace = trace.tb_next
    return found
