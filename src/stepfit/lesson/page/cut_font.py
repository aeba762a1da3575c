"""Cut STIX Two Math down to the characters of the page's formulas: 400 kB become a few.

npm pack @fontsource/stix-two-math     (in it: files/stix-two-math-latin-400-normal.woff2)
python -m stepfit.lesson.page.cut_font FILE.woff2
"""

from __future__ import annotations

import re
import sys
import unicodedata
from html import unescape
from pathlib import Path

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont

HERE = Path(__file__).parent
FONT = HERE / "font" / "stix-two-math-cut.woff2"


def characters(page: str) -> set[str]:
    """Return the characters that the formulas of a page show; a single letter in <mi> is shown in its math italic."""
    shown: set[str] = set()
    for formula in re.findall(r"<math.*?</math>", page, re.DOTALL):
        shown.update(unescape(re.sub(r"<[^>]*>|\s", "", formula)))
        shown.update(italic(letter) for letter in re.findall(r"<mi>(\w)</mi>", formula))
    return shown


def italic(letter: str) -> str:
    """Return the math italic of a letter (MathML Core, text-transform: math-auto)."""
    if letter == "h":
        return "ℎ"  # its place among the italics is empty: this older character is the one
    name = re.sub("LATIN |GREEK |LETTER ", "", unicodedata.name(letter))
    try:
        return unicodedata.lookup(f"MATHEMATICAL ITALIC {name}")
    except KeyError:
        return letter  # has no italic


def cut(whole: Path) -> int:
    """Write the cut font, and give its size."""
    page = (HERE / "index.html").read_text(encoding="utf-8")
    options = Options(flavor="woff2", hinting=False, layout_features=["ssty", "kern"], name_IDs=[0, 1, 2, 13, 14])
    font = TTFont(whole)
    subsetter = Subsetter(options)
    subsetter.populate(text="".join(characters(page)))
    subsetter.subset(font)
    font.flavor = "woff2"
    font.save(FONT)
    return FONT.stat().st_size


if __name__ == "__main__":
    print(f"wrote {FONT}, {cut(Path(sys.argv[1])):,} bytes")
