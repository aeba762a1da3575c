"""Verdict: what a check found, as text for a terminal and as a little HTML for a notebook; text first."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

HEADS = {"passed": "passed", "wrong": "not yet", "error": "stopped by an error", "not attempted": "not attempted"}
EDGES = {"passed": "#009e73", "wrong": "#d55e00", "error": "#d55e00", "not attempted": "#7f7f7f"}


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Attributes
    ----------
    number, title : str
        Of the exercise.
    status : str
        "passed", "wrong", "error" or "not attempted".
    words : str
        A few sentences for the learner; code stands between backticks.
    mistake : str or None
        The name of a known mistake, for counting over a class.

    Examples
    --------
    >>> print(Verdict("2.3", "The nearest center", "wrong", "Every point went to its farthest center."))
    2.3 The nearest center: not yet. Every point went to its farthest center.
    """

    number: str
    title: str
    status: str
    words: str
    mistake: str | None = None

    @property
    def head(self) -> str:
        """The first few words: which exercise, and how it stands."""
        return f"{self.number} {self.title}: {HEADS[self.status]}."

    def __str__(self) -> str:
        return f"{self.head} {self.words}"

    def _repr_html_(self) -> str:
        return box(f"<b>{html.escape(self.head)}</b> {inline(self.words)}", EDGES[self.status])


def box(content: str, edge: str = EDGES["not attempted"]) -> str:
    """Put HTML into a box with a colored edge; the color says nothing that the text does not."""
    return f'<div style="border-left:4px solid {edge};padding:.2em 0 .2em .8em;max-width:46em">{content}</div>'


def inline(words: str) -> str:
    """Turn words into HTML: what stands between backticks is code, between asterisks it is stressed.

    Examples
    --------
    >>> inline("is `a * b * c < d` for *each* row?")
    'is <code>a * b * c &lt; d</code> for <em>each</em> row?'
    """
    pieces = html.escape(words, quote=False).split("`")
    pieces[::2] = [re.sub(r"\*(\w[^*]*)\*", r"<em>\1</em>", text) for text in pieces[::2]]
    pieces[1::2] = [f"<code>{code}</code>" for code in pieces[1::2]]
    return "".join(pieces)
