"""Nothing heavy is loaded before it is used: each case looks at sys.modules in a process of its own."""

import subprocess
import sys

import pytest

HEAVY = ["matplotlib", "PIL", "streamlit", "starlette", "uvicorn", "sklearn", "anywidget", "pyarrow", "imageio_ffmpeg"]


def loaded(program):
    """The top-level names of all modules that a program has loaded by its end."""
    program += "\nimport sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_the_check_sees_what_is_loaded():
    assert "PIL" in loaded("import PIL")


@pytest.mark.parametrize(
    ("program", "unwanted"),
    [
        ("import stepfit", [*HEAVY, "torch", "numpy", "rich", "typer"]),
        # All names, so the estimators too: they are scikit-learn's, which loads pyarrow through pandas.
        ("from stepfit import *", ["streamlit", "anywidget", "starlette", "imageio_ffmpeg"]),
        ("from stepfit import clustering, descent, recording, datasets", [*HEAVY, "rich", "typer"]),
        ("import stepfit; stepfit.record(stepfit.lloyd([[0.0], [1.0]], 1))", [*HEAVY, "rich", "typer"]),
        ("import stepfit.cli", [*HEAVY, "torch", "numpy", "rich"]),
        ("from typer.testing import CliRunner; from stepfit.cli import app; "
         "print(CliRunner().invoke(app, ['kmeans', '--help']).output)", [*HEAVY, "torch", "numpy"]),
        ("from typer.testing import CliRunner; from stepfit.cli import app; "
         "print(CliRunner().invoke(app, ['kmeans', 'blobs', '-k', '2']).output)", HEAVY),
    ],
)  # fmt: skip
def test_nothing_heavy_is_loaded_for(program, unwanted):
    assert loaded(program).isdisjoint(unwanted)
