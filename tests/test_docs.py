"""The guide: its code prints what it says, and its links lead somewhere; the API page has every public name."""

import contextlib
import io
import re
import sys
import warnings
from pathlib import Path

import pytest

import stepfit

DOCS = Path(__file__).parents[1] / "docs"
GUIDE = (DOCS / "guide.md").read_text(encoding="utf-8")
CODE = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)
# Code, what it prints, and under which heading it stands.
SNIPPETS = [
    pytest.param(*found.groups(), id=GUIDE[: found.start()].split("\n## ")[-1].split("\n")[0])
    for found in CODE.finditer(GUIDE)
]


@pytest.mark.parametrize(("code", "printed"), SNIPPETS)
def test_the_code_of_the_guide_prints_what_it_says(code, printed):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), warnings.catch_warnings():
        exec(code, {})
    assert out.getvalue() == printed


def test_links_of_the_guide_lead_somewhere():
    headings = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)", GUIDE, re.M)
    }
    for target in re.findall(r"\]\((?!http)([^)]+)\)", GUIDE):
        path, _, anchor = target.partition("#")
        assert (DOCS / path).exists() if path else anchor in headings, target


def test_the_api_page_has_every_public_name():
    sys.path.insert(0, str(DOCS))
    try:
        from build import GROUPS
    finally:
        sys.path.remove(str(DOCS))
    named = {name.split(".")[0] for names in GROUPS.values() for name in names}
    assert named == set(stepfit.__all__) - {"__version__"}
