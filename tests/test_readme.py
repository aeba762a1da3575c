"""The README: its code runs, and its tree names what is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_code_runs(capsys):
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(block, {})
    printed = capsys.readouterr().out
    assert printed.count("\n") == 12
    assert "Stop.MAX_STEPS" in printed


def test_the_tree_names_every_room_of_the_package():
    tree = README.split("```\nsrc/stepfit/\n")[1].split("```")[0]
    named = set(re.findall(r"^  (\w+)(?:\.py|/)", tree, re.MULTILINE))
    rooms = {
        p.stem for p in (ROOT / "src/stepfit").iterdir() if p.suffix == ".py" or (p.is_dir() and "__" not in p.name)
    }
    assert rooms - named == {"__init__", "__main__"}


def test_links_lead_to_files():
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
