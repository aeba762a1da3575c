"""Build the notebooks: each master, a .py in percent format, becomes an exercise and a solution notebook.

What stands between `# BEGIN SOLUTION` and `# END SOLUTION` is one To Do. The exercise notebook has the last
statement of it, with `...` in the place of what the learner is to write.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
MASTERS = (
    HERE / "Tutorial1_Pytorch_Basics.py",
    HERE / "Pytorch1_KMeans.py",
    HERE / "Pytorch2_Linear_Logistic_Regression_For_Classification.py",
)
TO_DO = re.compile(r"^( *)# BEGIN SOLUTION\n(.*?)^ *# END SOLUTION\n", re.DOTALL | re.MULTILINE)
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def built() -> dict[Path, str]:
    """Give the path and the text of every notebook."""
    return {
        HERE / folder / f"{master.stem}.ipynb": notebook(master.read_text(encoding="utf-8"), change)
        for master in MASTERS
        for folder, change in (("exercises", exercise_code), ("solutions", solution_code))
    }


def notebook(master: str, change: Callable[[str], str]) -> str:
    """Turn a master into the text of a notebook, each code cell changed."""
    import jupytext
    import nbformat

    read = jupytext.reads(master, fmt="py:percent")
    cells = []
    for index, cell in enumerate(read.cells):
        make = nbformat.v4.new_code_cell if cell.cell_type == "code" else nbformat.v4.new_markdown_cell
        source = change(cell.source + "\n").rstrip("\n") if cell.cell_type == "code" else cell.source
        metadata = {key: value for key, value in cell.metadata.items() if key in ("exercise", "tags")}
        cells.append(make(source, id=f"cell-{index:02}", metadata=metadata))  # a random id would be new at every build
    return nbformat.writes(nbformat.v4.new_notebook(cells=cells, metadata=METADATA)) + "\n"


def exercise_code(code: str) -> str:
    """Put a `...` in the place of each solution.

    Examples
    --------
    >>> exercise_code("    # BEGIN SOLUTION\\n    a = 1\\n    b = a + x\\n    # END SOLUTION\\n    return b\\n")
    '    b = ...\\n    return b\\n'
    """
    return TO_DO.sub(lambda found: textwrap.indent(stub(textwrap.dedent(found[2])), found[1]), code)


def solution_code(code: str) -> str:
    """Take out the marks around each solution."""
    return re.sub(r"^ *# (BEGIN|END) SOLUTION\n", "", code, flags=re.MULTILINE)


def stub(solution: str) -> str:
    """Give the last statement of a solution with `...` for its value.

    Examples
    --------
    >>> stub("a = 1\\nb, c = a, 2")
    'b, c = ..., ...\\n'
    >>> stub("optimizer.step()"), stub("return x + 1")
    ('...\\n', 'return ...\\n')
    """
    last = ast.parse(solution).body[-1]
    if isinstance(last, ast.Assign):
        target = last.targets[0]
        values = ", ".join(["..."] * len(target.elts if isinstance(target, ast.Tuple) else [target]))
        return f"{ast.get_source_segment(solution, target)} = {values}\n"
    return "return ...\n" if isinstance(last, ast.Return) else "...\n"


def main() -> None:
    """Write the notebooks, or with --check tell whether they are fresh."""
    parser = argparse.ArgumentParser(prog="python -m stepfit.lesson.notebooks.build", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a notebook is stale")
    check = parser.parse_args().check
    notebooks = built()
    if check:
        stale = [
            path for path, text in notebooks.items() if not path.exists() or path.read_text(encoding="utf-8") != text
        ]
        names = ", ".join(f"{path.parent.name}/{path.name}" for path in stale)
        sys.exit(f"stale notebooks: {names}; run `make notebooks`" if stale else 0)
    for path, text in notebooks.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(HERE)}")


if __name__ == "__main__":
    main()
