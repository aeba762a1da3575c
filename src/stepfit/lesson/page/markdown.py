"""Markdown as MyST writes it (:::{exercise}, :::{solution}, :::{player}, $formula$) to HTML that needs no script."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from itertools import pairwise
from typing import Any

from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markdown_it.token import Token as Piece
from mdit_py_plugins.anchors import anchors_plugin
from mdit_py_plugins.container import container_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments.lexers import PythonLexer
from pygments.token import Comment, Keyword, Name, Number, Operator, String

# Only what gets a color becomes an element; page.css has one set of these colors a color scheme.
COLORED = {
    Comment: "c",
    Keyword: "k",
    Operator.Word: "k",
    String: "s",
    Number: "m",
    Name.Function: "f",
    Name.Builtin: "f",
}
SHAPE = re.compile(r"# (\(|.*\) = \()")  # a comment that begins with a shape, or computes one

Figure = Callable[[str], str]  # the name after {player} or {drawing} -> HTML


def to_html(
    text: str, *, run: Callable[[str], str], figures: Mapping[str, Figure]
) -> tuple[str, list[tuple[int, str, str]]]:
    """Render a text.

    Parameters
    ----------
    text : str
        MyST-flavored Markdown.
    run : callable
        Takes the code of each ```python block, in order, and gives what it printed.
    figures : mapping from directive to callable
        What stands for :::{player} NAME and :::{drawing} NAME; the text inside becomes the caption.

    Returns
    -------
    html : str
        The body.
    headings : list of (level, id, html)
        Those of level 2 and 3, in order.
    """
    markdown = MarkdownIt("commonmark").enable("table")
    markdown.use(anchors_plugin, min_level=2, max_level=3)
    markdown.use(dollarmath_plugin, allow_labels=False, allow_digits=False)
    _directive(markdown, "lead", lambda _: '<div class="lead">', "</div>")
    for box in ("exercise", "admonition"):
        _directive(markdown, box, partial(_box, box), "</div>")
    _directive(markdown, "solution", _solution, "</div></details>")
    for name, figure in figures.items():
        _directive(markdown, name, partial(_figure, name, figure), "</figcaption></figure>")
    rules = markdown.renderer.rules
    rules["math_inline"] = lambda pieces, i, *_: _formula(pieces[i].content, "inline")
    rules["math_block"] = lambda pieces, i, *_: f'<div class="formula">{_formula(pieces[i].content, "block")}</div>'
    rules["fence"] = lambda pieces, i, *_: _code(pieces[i], run)
    rules["table_open"] = lambda *_: '<div class="table"><table>'
    rules["table_close"] = lambda *_: "</table></div>"
    rules["th_open"] = lambda *_: '<th scope="col">'
    rules["td_open"] = lambda *_: "<td>"
    pieces = markdown.parse(text)
    headings = [
        (int(opening.tag[1]), str(opening.attrs["id"]), markdown.renderer.render([inline], markdown.options, {}))
        for opening, inline in pairwise(pieces)
        if opening.type == "heading_open" and opening.tag in ("h2", "h3")
    ]
    html = markdown.renderer.render(pieces, markdown.options, {})
    if unknown := re.search(":::.*", html):
        raise ValueError(f"{unknown[0]!r} is no directive of this page")
    return html, headings


def _directive(markdown: MarkdownIt, name: str, opened: Callable[[str], str], closed: str) -> None:
    mark = f"{{{name}}}"

    def render(_: Any, pieces: Sequence[Piece], i: int, *__: Any) -> str:
        return opened(escape(pieces[i].info.strip().removeprefix(mark).strip())) if pieces[i].nesting == 1 else closed

    container_plugin(markdown, name, validate=lambda info, _: info.strip().startswith(mark), render=render)


def _box(kind: str, title: str) -> str:
    return f'<div class="box {kind}"><p class="title">{title}</p>'


def _figure(kind: str, figure: Figure, which: str) -> str:
    return f'<figure class="{kind}">{figure(which)}<figcaption>'


def _solution(title: str) -> str:
    return f'<details class="solution"><summary>{title or "Solution"}</summary><div>'


def _formula(latex: str, display: str) -> str:
    mathml = convert(latex.strip(), display=display).replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")
    mathml = mathml.replace("<mo>&#x02016;</mo>", '<mo stretchy="false">‖</mo>')  # as high as what it stands beside
    # Letters for entities: shorter, and the font can be cut to what is really there.
    return re.sub(r"&#x(?!0*(?:26|3C|3E);)([0-9A-F]+);", lambda found: chr(int(found[1], 16)), mathml)


def _code(piece: Piece, run: Callable[[str], str]) -> str:
    python = piece.info == "python"
    code = _colored(_aligned(piece.content)) if python else escape(piece.content.rstrip(), quote=False)
    shown = f'<div class="code"><pre><code>{code}</code></pre></div>'
    printed = run(piece.content) if python else ""
    if printed:
        shown += f'<div class="output"><p>Output</p><pre><samp>{escape(printed.rstrip())}</samp></pre></div>'
    return shown


def _aligned(code: str) -> str:
    """Put the comments beside lines of code under each other: shapes are read as a column."""
    lines = [re.fullmatch(r"(.*\S)  (# .*)", line) or line for line in code.split("\n")]
    column = max((len(line[1]) for line in lines if isinstance(line, re.Match)), default=0) + 2
    return "\n".join(line if isinstance(line, str) else line[1].ljust(column) + line[2] for line in lines)


def _colored(code: str) -> str:
    html = []
    for kind, text in PythonLexer().get_tokens(code):
        name = next((name for colored, name in COLORED.items() if kind in colored), "")
        if name == "c" and SHAPE.match(text):
            name = "h"
        html.append(f'<span class="{name}">{escape(text, quote=False)}</span>' if name else escape(text, quote=False))
    return "".join(html).rstrip()
