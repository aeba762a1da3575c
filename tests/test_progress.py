"""progress(): the same steps pass through, and each screen says what it should and is left clean."""

import io
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from stepfit import linear_regression, lloyd, progress, record
from stepfit.steps import Step, Steps, Stop
from stepfit.viewers import progress as module


class Terminal(io.StringIO):
    def isatty(self):
        return True


def made(count, stop=Stop.CONVERGED):
    steps = [Step(index=i, loss=100.0 / (i + 1), seconds=0.25) for i in range(count - 1)]
    return [*steps, Step(index=count - 1, loss=1.0, seconds=0.25, stop=stop)]


def steps_of(kept, max_steps=100):
    return Steps(iter(kept), {"max_steps": max_steps, "seed": 7})


@pytest.fixture
def terminal(monkeypatch):
    """Call it to make standard error a terminal (not before the test runs, or pytest's own would replace it)."""

    def begin():
        screen = Terminal()
        monkeypatch.setattr(sys, "stderr", screen)
        return screen

    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    return begin


@pytest.fixture
def still(monkeypatch):
    """No second passes."""
    monkeypatch.setattr(module, "perf_counter", lambda: 0.0)


@pytest.fixture
def page(monkeypatch):
    """A notebook: what is on its one line after each renewal."""
    lines = []
    display = SimpleNamespace(
        HTML=lambda text: text,
        display=lambda text, display_id: SimpleNamespace(update=lines.append),
    )
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1)))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return lines


def test_the_same_steps_pass_with_the_same_settings():
    kept = made(5)
    steps = progress(steps_of(kept))
    assert isinstance(steps, Steps)
    assert steps.settings == {"max_steps": 100, "seed": 7}
    assert all(after is before for after, before in zip(steps, kept))


def test_it_fits_between_a_run_and_its_recording():
    run = record(progress(lloyd([[0.0], [1.0], [5.0]], 2, seed=0)))
    assert run.settings["k"] == 2
    assert run.stop is Stop.CONVERGED


@pytest.mark.usefixtures("still")
def test_plain_lines_come_at_powers_of_two_and_at_the_end(capsys):
    list(progress(steps_of(made(12))))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == [f"step {i}" for i in (0, 1, 2, 4, 8, 11)]
    assert lines[0] == "step 0  loss 100  0.2 s"
    assert lines[-1] == "step 11  loss 1  3.0 s  converged"


def test_plain_lines_come_once_a_second_when_steps_are_slow(capsys, monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(module, "perf_counter", lambda: next(now) / 2)
    list(progress(steps_of(made(14))))
    numbers = [int(line.split()[1]) for line in capsys.readouterr().err.splitlines()]
    assert numbers == [0, 1, 2, 4, 6, 8, 10, 12, 13]


@pytest.mark.usefixtures("still")
def test_each_algorithm_says_how_it_gets_on(capsys):
    def first_line(steps):
        list(progress(steps))
        return re.sub(r"\d+\.\d s$", "0.0 s", capsys.readouterr().err.splitlines()[0])

    assert first_line(lloyd([[0.0], [1.0], [5.0]], 2, start=[[0.0], [1.0]])) == "step 0  loss 16  3 changed  0.0 s"
    x, options = [[0.0], [1.0]], {"start": ([[2.0]], [0.0]), "max_steps": 2}
    said = first_line(linear_regression(x, [0, 1], **options))
    assert said == "step 0  loss 0.5  train accuracy 100.0%  0.0 s"
    said = first_line(linear_regression(x, [0, 1], **options, test=(x, [1, 1])))
    assert said == "step 0  loss 0.5  test accuracy 50.0%  0.0 s"


def test_a_terminal_gets_a_bar_that_is_full_at_the_end(terminal, capsys):
    screen = terminal()
    list(progress(steps_of(made(5))))
    last = screen.getvalue().rpartition("\x1b[2K")[2]
    assert "step 4  loss 1  1.2 s  converged" in last
    assert "━" * 20 in last
    assert last.endswith("\x1b[?25h")  # the cursor is back
    assert capsys.readouterr().out == ""


def test_ctrl_c_passes_and_leaves_the_terminal_clean(terminal):
    def interrupted():
        yield made(5)[0]
        raise KeyboardInterrupt

    screen = terminal()
    with pytest.raises(KeyboardInterrupt):
        list(progress(Steps(interrupted(), {"max_steps": 5})))
    assert screen.getvalue().count("\x1b[?25l") == screen.getvalue().count("\x1b[?25h") == 1


def test_whoever_stops_early_gets_a_clean_terminal(terminal):
    screen = terminal()
    for _ in progress(steps_of(made(5))):
        break
    assert screen.getvalue().endswith("\x1b[?25h")


def test_what_is_printed_to_a_file_stays_in_it(terminal, capsys):
    screen = terminal()
    for step in progress(steps_of(made(2))):
        print("row", step.index)
    assert capsys.readouterr().out == "row 0\nrow 1\n"
    assert "row" not in screen.getvalue()


def test_a_notebook_renews_one_line(page, capsys, monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(module, "perf_counter", lambda: next(now) / 20)
    list(progress(steps_of(made(6), max_steps=10)))
    assert [line.rpartition("</progress> ")[2].split("  ")[0] for line in page] == [
        "step 0",
        "step 2",
        "step 4",
        "step 5",
    ]
    assert page[1] == '<progress value="0.300" aria-label="steps"></progress> step 2  loss 33.3333  0.8 s'
    assert 'value="1.000"' in page[-1]
    assert capsys.readouterr().err == ""


def test_steps_without_a_known_end(terminal):
    screen = terminal()
    list(progress(Steps(iter(made(3)), {})))
    assert "step 2  loss 1" in screen.getvalue()


def test_steps_without_a_known_end_in_a_notebook(page):
    list(progress(Steps(iter(made(3)), {})))
    assert 'value="0.000"' in page[0]


def test_what_are_no_steps_is_refused():
    with pytest.raises(TypeError, match=r"progress takes the steps of a run, such as lloyd\(...\); it got a list"):
        progress(made(3))


def test_a_log_file_needs_neither_rich_nor_ipython():
    program = (
        "import sys, stepfit; list(stepfit.progress(stepfit.lloyd([[0.0], [1.0]], 1)));"
        "assert not {'rich', 'IPython', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.startswith("step 0  loss ")
