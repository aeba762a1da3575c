"""All exercises in order, and judge(), which looks at one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from stepfit.lesson.checks import basics, kmeans, regression
from stepfit.lesson.checks.exercise import Exercise, Learner, Wrong, apart_in_words
from stepfit.lesson.checks.verdict import Verdict

EXERCISES: dict[str, Exercise] = {
    found.number: found
    for notebook in (basics, kmeans, regression)
    for found in vars(notebook).values()
    if isinstance(found, Exercise)
}


def find(number: Any) -> Exercise:
    """Return the exercise of this number, and say what would be right when there is none."""
    if not isinstance(number, str):
        raise TypeError(f'the number of an exercise is a text, with quotes: check("{number}")')
    if number not in EXERCISES:
        raise ValueError(f"there is no exercise {number!r}; the numbers are {', '.join(EXERCISES)}")
    return EXERCISES[number]


def judge(number: str, namespace: Mapping[str, Any], *, seed: int = 0) -> Verdict:
    """Judge one exercise, apart from this process.

    Parameters
    ----------
    number : str
        Of the exercise.
    namespace : mapping
        The learner's names.
    seed : int
        Of the data that the learner's functions are tried on, and of torch's global generator meanwhile.

    Examples
    --------
    >>> print(judge("2.3", {"nearest": lambda distances: ...}))
    2.3 The nearest center: not attempted. ...
    """
    exercise = find(number)

    def work() -> str:
        torch.manual_seed(seed)
        return exercise.judge(Learner(namespace, seed))

    try:
        right = apart_in_words(work)
        sentence = right[0].upper() + right[1:] + ("" if right[-1] in ".?" else ".")
        return Verdict(number, exercise.title, "passed", sentence)
    except Wrong as wrong:
        return Verdict(number, exercise.title, wrong.status, wrong.words, wrong.mistake)
