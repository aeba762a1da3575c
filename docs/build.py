"""Write docs/api.md from the docstrings: python docs/build.py; with --check, only say whether it is fresh."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterator
from enum import Enum
from operator import attrgetter
from pathlib import Path
from typing import Any

import stepfit

PAGE = Path(__file__).parent / "api.md"
SOURCE = "../src"  # as seen from the page

# What belongs together, in the order of the page.
GROUPS = {
    "Estimators": ("KMeans", "MiniBatchKMeans", "LinearRegression", "LogisticRegression"),
    "k-means as steps": ("lloyd", "KMeansStep", "assign", "choose_k", "ChoiceStep"),
    "Gradient descent as steps": ("descend", "linear_regression", "logistic_regression", "DescentStep"),
    "Runs": ("Step", "Stop", "record", "Recording", "explain"),
    "Viewers": ("progress", "figure", "animate", "trace", "show"),
    "Data": tuple(f"datasets.{name}" for name in ("mnist", "two_moons", "two_circles", "toy_data", "blobs")),
}

_SECTION = re.compile(r"\n\n([A-Z][A-Za-z ]+)\n-{3,}\n")


def main() -> int:
    """Write the page, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    page = "\n".join(rendered()) + "\n"
    if parser.parse_args().check:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page:
            return 0
        print(f"{PAGE} is not what the docstrings say; run: python docs/build.py", file=sys.stderr)
        return 1
    PAGE.write_text(page, encoding="utf-8")
    return 0


def rendered() -> Iterator[str]:
    """Give the page line by line."""
    yield "# The public names\n"
    yield "From the docstrings, by `python docs/build.py`. How to use them: [the guide](guide.md).\n"
    for group, names in GROUPS.items():
        links = ", ".join(f"[{name}](#{name.lower().replace('.', '')})" for name in names)
        yield f"- {group}: {links}"
    for group, names in GROUPS.items():
        yield f"\n## {group}"
        for name in names:
            yield from entry(name, attrgetter(name)(stepfit))


def entry(name: str, value: Any) -> Iterator[str]:
    """Give what there is to say of one name, and of its methods."""
    path = Path(inspect.getsourcefile(value) or "").relative_to(Path(stepfit.__file__).parents[1])
    yield f"\n### {name}\n"
    if inspect.isclass(value) and issubclass(value, Enum):
        yield from described(value)
        yield ""
        yield from (f"- `{one.name}`: {one.value}" for one in value)
    else:
        yield from signature(f"stepfit.{name}", value)
        yield from described(value)
    for inner in vars(value) if inspect.isclass(value) else ():
        method = getattr(value, inner)
        if not inner.startswith("_") and inspect.isroutine(method) and method.__module__.startswith("stepfit"):
            yield f"\n#### {name}.{inner}\n"
            yield from signature(f"{name}.{inner}", method)
            yield from described(method)
    yield f"\n[Source]({SOURCE}/{path.as_posix()})"


def signature(name: str, value: Any) -> Iterator[str]:
    """Give the call, one line or a line a parameter, without types: the text below has them."""
    found = inspect.signature(value)
    kept = [p.replace(annotation=inspect.Parameter.empty) for p in found.parameters.values() if p.name != "self"]
    plain = str(found.replace(parameters=kept, return_annotation=inspect.Signature.empty))
    if len(name) + len(plain) > 100:
        # Cut at the commas that stand outside of all brackets.
        plain = "(\n    " + ",\n    ".join(re.split(r", (?![^(\[]*[)\]])", plain[1:-1])) + ",\n)"
    yield f"```python\n{name}{plain}\n```\n"


def described(value: Any) -> Iterator[str]:
    """Give a docstring as Markdown."""
    text, *sections = _SECTION.split(inspect.getdoc(value) or "")
    yield text
    for title, body in zip(sections[::2], sections[1::2]):
        yield f"\n**{title}**\n"
        if title == "Examples":
            yield f"```python\n{body}\n```"
        elif title == "References":
            yield body
        else:
            yield from items(body)


def items(body: str) -> Iterator[str]:
    """Give the entries of a section: a line `name : type` each, and its text, which is indented."""
    for line in re.sub(r"\n\n+", "\n", body).split("\n"):
        if line.startswith(" "):
            yield f"  {line.strip()}"
        else:
            name, _, kind = line.partition(" : ")
            yield f"- `{name}`" + (f": {kind}" if kind else "") + "  "


if __name__ == "__main__":
    sys.exit(main())
