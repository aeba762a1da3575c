"""Build the page: text, numbers, traces, player, styles and font become one index.html that needs nothing else.

python -m stepfit.lesson.page.build            write index.html
python -m stepfit.lesson.page.build --check    say whether the index.html that is there is up to date
"""

from __future__ import annotations

import base64
import io
import json
import re
import sys
import tempfile
import zlib
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stepfit import viewers
from stepfit.lesson.page import drawings, runs
from stepfit.lesson.page.facts import measure
from stepfit.lesson.page.markdown import to_html
from stepfit.viewers.trace import trace

HERE = Path(__file__).parent
PAGE = HERE / "index.html"
PLAYER = Path(viewers.__file__).with_name("player.js")
NUMBER = re.compile(r"\{\{ ([\w.]+)(?: \| (\S+))? \}\}")
PACKED = re.compile(r'(?<=atob\(")[\w+/=]*(?="\))')


def build() -> str:
    """Return the page as HTML."""
    text = (HERE / "lesson.md").read_text(encoding="utf-8")
    traces: dict[str, Any] = {}

    def player(name: str) -> str:
        picture = getattr(runs, name)()
        traces[name] = trace(picture.run, picture.x, picture.y, test=picture.test)
        return f'<div data-stepfit-trace="{name}"></div><noscript><p>{traces[name]["alt"]}</p></noscript>'

    def drawing(name: str) -> str:
        return str(getattr(drawings, name)())

    with tempfile.TemporaryDirectory() as folder, chdir(folder):  # the code of the page writes its data there
        figures = {"player": player, "drawing": drawing}
        body, headings = to_html(fill(text, measure()), run=runner(), figures=figures)
    font = base64.b64encode((HERE / "font" / "stix-two-math-cut.woff2").read_bytes()).decode()
    environment = Environment(loader=FileSystemLoader(HERE), undefined=StrictUndefined, autoescape=False)
    return environment.get_template("template.html").render(
        body=body,
        headings=headings,
        style=_tight((HERE / "page.css").read_text(encoding="utf-8")).replace("FONT", font),
        script=(HERE / "page.js").read_text(encoding="utf-8"),
        packed=pack({"player": PLAYER.read_text(encoding="utf-8"), "traces": traces}),
    )


def pack(value: Any) -> str:
    """Return JSON, compressed, in letters."""
    text = json.dumps(value, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def unpack(page: str) -> Any:
    """Return what a page has packed: the player's code and the traces by name."""
    found = PACKED.search(page)
    return json.loads(zlib.decompress(base64.b64decode(found[0]))) if found else {}


def _tight(style: str) -> str:
    """Return a style sheet without comments, indents and line ends."""
    return re.sub(r"\s*\n\s*", "", re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL))


def fill(text: str, numbers: dict[str, Any]) -> str:
    """Put the numbers in their places: {{ name | format }}."""
    used = set()

    def number(found: re.Match[str]) -> str:
        name, form = found.groups()
        if name not in numbers:
            raise ValueError(f"lesson.md asks for {name}, which facts.py does not measure")
        used.add(name)
        shown = format(numbers[name], form or "")
        return shown.replace("-", "−") if form else shown  # a true minus; words keep their hyphens

    filled = NUMBER.sub(number, text)
    if unused := numbers.keys() - used:
        raise ValueError(f"lesson.md does not use {', '.join(sorted(unused))}: take them out of facts.py")
    return filled


def runner() -> Any:
    """Return a function that runs the code blocks of the page one after the other, and says what each printed."""
    names: dict[str, Any] = {}

    def run(code: str) -> str:
        with redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, "lesson.md", "exec"), names)
        return printed.getvalue()

    return run


def same(built: str, kept: str) -> bool:
    """Compare two pages: the text exactly, the traces as numbers, as the last digit is the processor's own."""
    a, b = unpack(built), unpack(kept)
    return (
        PACKED.sub("", built) == PACKED.sub("", kept)
        and a["player"] == b["player"]
        and _close(*({name: _arrays(t) for name, t in page["traces"].items()} for page in (a, b)))
    )


def _arrays(shown: dict[str, Any]) -> dict[str, Any]:
    """Return a trace with its arrays as arrays, and without the hash of its content."""
    data = zlib.decompress(base64.b64decode(shown["data"]))
    at = 0
    for name, kind, shape, divisor in shown["arrays"]:
        values = np.frombuffer(data, f"<{kind}", count=int(np.prod(shape)), offset=at)
        at += values.nbytes
        values = values.reshape(shape)
        if kind[0] == "u" and len(shape) > 1:  # kept as differences of the rows, modulo 256 or more
            values = np.cumsum(values, axis=0, dtype=values.dtype)
        shown[name] = values / divisor
    return {name: value for name, value in shown.items() if name not in ("id", "data", "arrays")}


def _close(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_close(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_close, a, b))
    if isinstance(a, np.ndarray):
        # Whole numbers (grays, heights) may fall on the other side of a half.
        slack = 1 if np.array_equal(b, np.rint(b)) else 1e-6
        return a.shape == b.shape and np.allclose(a, b, rtol=1e-6, atol=slack, equal_nan=True)
    if isinstance(a, float):
        return bool(np.isclose(a, b, rtol=1e-6, atol=1e-9))
    return bool(a == b)


def main(arguments: list[str]) -> int:
    """Build, or check."""
    torch.set_num_threads(1)  # small problems: more threads would only wait for each other
    page = build()
    if arguments == ["--check"]:
        if PAGE.exists() and same(page, PAGE.read_text(encoding="utf-8")):
            return 0
        print(f"{PAGE} is stale: run python -m stepfit.lesson.page.build", file=sys.stderr)
        return 1
    PAGE.write_text(page, encoding="utf-8")
    print(f"wrote {PAGE}, {len(page.encode()):,} bytes", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
