"""check(), hint(), solution(), reset(), and the judges' answers to input that is no attempt at all."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient

from stepfit.lesson import check, checks, hint, reset, solution
from stepfit.lesson.checks import commands, progress, sandbox
from stepfit.lesson.checks.exercise import Learner, NotAttempted, Wrong, close, tensor
from stepfit.lesson.checks.verdict import Verdict

NUMBER = "2.3"  # nearest(distances): (n, k) -> (n,)


def right(distances):
    return distances.argmin(dim=1)


@pytest.fixture(autouse=True)
def desk_of_its_own(tmp_path, monkeypatch):
    """The progress file is in the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make(monkeypatch):
    """Set what this module calls `nearest`: check() looks at the names around its caller."""
    return lambda value: monkeypatch.setitem(globals(), "nearest", value)


def kept():
    return json.loads(Path("progress.json").read_text())


# ---- Bad input ------------------------------------------------------------------------------------------------------


def endless(distances):
    while True:
        pass


def stubborn(distances):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass


def raises(distances):
    return distances.no_such_method()


def loud(distances):
    for _ in range(10_000):
        print("x" * 1000)
    return right(distances)


def changes_x(distances):
    labels = right(distances)
    distances.zero_()
    return labels


BAD = {
    "not defined": ({}, "not attempted", "There is no `nearest` yet"),
    "blank": ({"nearest": ...}, "not attempted", "still `...`"),
    "blank inside": ({"nearest": lambda distances: ...}, "not attempted", "still `...`"),
    "uses a blank": ({"nearest": lambda distances: (...).argmin(1)}, "not attempted", "met a `...`"),
    "None": ({"nearest": None}, "wrong", "is None, but it must be a function"),
    "text": ({"nearest": "argmin"}, "wrong", "is a str, but it must be a function"),
    "gives None": ({"nearest": lambda distances: None}, "wrong", "`return`"),
    "gives text": ({"nearest": lambda distances: "0"}, "wrong", "is a str, but a tensor"),
    "wrong dtype": ({"nearest": lambda distances: right(distances).float()}, "wrong", "torch.float32"),
    "no argument": ({"nearest": lambda: 0}, "error", "TypeError"),
    "exception": ({"nearest": raises}, "error", "`return distances.no_such_method()`"),
    "endless": ({"nearest": endless}, "error", "still running"),
    "stubborn": ({"nearest": stubborn}, "error", "still running"),
    "memory": ({"nearest": lambda distances: torch.zeros(25_000_000_000)}, "error", "memory"),
    "loud": ({"nearest": loud}, "passed", ""),
    "changes x": ({"nearest": changes_x}, "wrong", "changed its argument"),
    "exit": ({"nearest": lambda distances: sys.exit()}, "error", "end Python"),
    "ends at once": ({"nearest": lambda distances: os._exit(3)}, "error", "exit code 3"),
    "crashes": ({"nearest": lambda distances: os.kill(os.getpid(), 11)}, "error", "signal 11"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_answered_in_words(case, monkeypatch, capfd):
    monkeypatch.setattr(sandbox.run_sandboxed, "__kwdefaults__", {"seconds": 0.5})  # a learner waits longer
    monkeypatch.setattr(sandbox, "GRACE", 0.5)
    namespace, status, words = BAD[case]
    before = torch.get_rng_state()
    verdict = checks.judge(NUMBER, namespace)
    assert (verdict.status, words in verdict.words) == (status, True), verdict
    assert verdict.words[0].isupper() or verdict.words[0] == "`" or status == "passed"
    assert torch.get_rng_state().equal(before)
    assert capfd.readouterr() == ("", "")


def test_an_answer_comes_within_ten_seconds():
    assert sandbox.SECONDS + sandbox.GRACE < 10


IN_A_KERNEL = """
import os, torch
from stepfit.lesson import check
x = torch.ones(3)
def spoils(distances):
    x.zero_()
    torch.manual_seed(5)
    torch.set_default_dtype(torch.float64)
    return distances.argmin(1)
torch.manual_seed(0)
expected = torch.get_rng_state()
for nearest in (None, "text", spoils, lambda d: exit(), lambda d: quit(), lambda d: torch.zeros(25_000_000_000),
                lambda d: print("x" * 10_000_000), lambda d: os._exit(1), lambda d: d.argmin(1)):
    check("2.3")
assert x.equal(torch.ones(3)) and torch.get_rng_state().equal(expected) and torch.get_default_dtype() == torch.float32
"""


def test_a_kernel_survives_it_all(tmp_path):
    cells = [nbformat.v4.new_code_cell(IN_A_KERNEL), nbformat.v4.new_code_cell("print('alive')")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": tmp_path}}).execute()
    said = [output.data["text/plain"] for output in notebook.cells[0].outputs]
    assert [text.split(": ")[1].split(".")[0] for text in said] == [
        *["not yet"] * 2, "passed", *["stopped by an error"] * 3, "not yet", "stopped by an error", "passed",
    ]  # fmt: skip
    assert "end Python" in said[3]
    assert notebook.cells[1].outputs[0].text == "alive\n"
    assert kept()["2.3"] == {"tries": 9, "hints": 0, "passed": True}


def test_a_judge_that_stumbles_says_so(monkeypatch):
    def judge(learner):
        return 1 / 0

    monkeypatch.setitem(checks.EXERCISES, NUMBER, replace(checks.EXERCISES[NUMBER], judge=judge))
    verdict = checks.judge(NUMBER, {"nearest": right})
    assert verdict.status == "error"
    assert "The check itself stumbled over what your code gave: a ZeroDivisionError, division by zero." in verdict.words


def test_where_no_fork_is_possible_it_warns_and_works(monkeypatch):
    monkeypatch.setattr(sandbox, "CAN_FORK", False)
    with pytest.warns(UserWarning, match="cannot run your code apart"):
        assert checks.judge(NUMBER, {"nearest": right}).status == "passed"


def test_what_the_child_raises_arrives_whole():
    def work():
        raise Wrong("words", mistake="known")

    with pytest.raises(Wrong) as caught:
        sandbox.run_sandboxed(work)
    assert (caught.value.words, caught.value.mistake, caught.value.status) == ("words", "known", "wrong")


def test_waiting_can_be_interrupted_and_leaves_no_child(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    fork, children = os.fork, []
    monkeypatch.setattr(os, "fork", lambda: children.append(fork()) or children[-1])
    monkeypatch.setattr(sandbox, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sandbox.run_sandboxed(lambda: endless(None))
    with pytest.raises(ChildProcessError):
        os.waitpid(children[0], os.WNOHANG)


# ---- What a judge works with ----------------------------------------------------------------------------------------


def test_a_function_gets_copies():
    x = torch.ones(3)
    learner = Learner({"f": lambda given: given.zero_()})
    with pytest.raises(Wrong, match="changed its argument number 1"):
        learner.call("f", x)
    assert learner.call("f", x, may_change=True).equal(torch.zeros(3))
    assert x.equal(torch.ones(3))


def test_a_blank_in_a_list_of_results_is_not_attempted():
    with pytest.raises(NotAttempted):
        Learner({"f": lambda: ([1.0, ...], [])}).call("f")


def test_better_words_for_an_exception():
    def explain(error):
        return Wrong("better") if "division" in str(error) else None

    with pytest.raises(Wrong, match="better"):
        Learner({"f": lambda: 1 / 0}).call("f", explain=explain)
    with pytest.raises(Wrong, match="stopped with a KeyError"):
        Learner({"f": lambda: {}[0]}).call("f", explain=explain)


@pytest.mark.parametrize(
    ("value", "wanted", "words"),
    [
        ([1], {}, "is a list, but a tensor is wanted"),
        (torch.ones(2), {"shape": (2, 1)}, r"has shape \(2,\), but \(2, 1\) is wanted"),
        (torch.ones(2, dtype=torch.uint8), {"kind": "float"}, "torch.uint8, but it needs room for fractions"),
        (torch.ones(2), {"kind": "whole"}, "torch.float32, but whole numbers"),
        (torch.ones(2, dtype=torch.bool), {"kind": "whole"}, "torch.bool, but whole numbers"),
    ],
)
def test_a_tensor_of_another_kind_is_refused(value, wanted, words):
    with pytest.raises(Wrong, match=words):
        tensor(value, "it", **wanted)


def test_close_knows_shapes_and_nan():
    assert close(torch.ones(2), torch.ones(2, dtype=torch.float64) + 9e-5)
    assert not close(torch.ones(2), torch.ones(2, 1))
    assert not close(torch.ones(2), torch.ones(2) + 2e-4)
    assert not close(torch.tensor([torch.nan]), torch.tensor([torch.nan]))


# ---- The commands ---------------------------------------------------------------------------------------------------


def test_a_check_prints_text_and_keeps_count(make, capsys):
    check(NUMBER)
    assert "not attempted" in capsys.readouterr().out
    assert not Path("progress.json").exists()
    make(lambda distances: distances.argmax(1))
    check(NUMBER)
    assert "not yet" in capsys.readouterr().out
    assert kept() == {NUMBER: {"tries": 1, "hints": 0, "passed": False}}
    make(right)
    check(NUMBER)
    assert f"{NUMBER} " in (said := capsys.readouterr().out)
    assert ": passed. " in said
    make(lambda distances: distances.argmax(1))
    check(NUMBER)
    assert kept() == {NUMBER: {"tries": 3, "hints": 0, "passed": True}}, "a pass is not taken away"


def test_check_alone_lists_all(make, capsys):
    make(right)
    check(NUMBER)
    capsys.readouterr()
    check()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"1 of {len(checks.EXERCISES)} exercises passed."
    assert len(lines) == 1 + len(checks.EXERCISES)
    assert [line for line in lines if line.endswith("passed")] == [line for line in lines if f" {NUMBER} " in line]


@pytest.mark.parametrize("call", [check, hint, solution, reset])
def test_a_number_that_is_none_is_refused(call):
    with pytest.raises(ValueError, match=r"there is no exercise '9.9'; the numbers are 1.1, "):
        call("9.9")
    with pytest.raises(TypeError, match=r'with quotes: check\("2.3"\)'):
        call(2.3)
    assert not Path("progress.json").exists()


def test_hints_come_one_after_the_other_and_the_last_stays(capsys):
    for turn in (1, 2, 3, 3):
        hint(NUMBER)
        said = capsys.readouterr().out
        assert f"hint {turn} of 3" in said
        assert checks.EXERCISES[NUMBER].hints[turn - 1] in said
    assert "solution(" in said


def test_the_solution_opens_after_a_pass_or_three_tries(make, capsys):
    solution(NUMBER)
    assert "no try yet of 3" in capsys.readouterr().out
    make(lambda distances: distances.argmax(1))
    for _ in range(3):
        check(NUMBER)
    capsys.readouterr()
    solution(NUMBER)
    assert "def nearest(distances)" in capsys.readouterr().out
    reset(NUMBER)
    make(right)
    check(NUMBER)
    capsys.readouterr()
    solution(NUMBER)
    assert "def nearest(distances)" in capsys.readouterr().out


@pytest.mark.parametrize("number", checks.EXERCISES)
def test_every_exercise_has_a_solution_to_show(number):
    assert f'check("{number}")' in commands.solution_cell(number)


def test_reset_forgets_one_or_all():
    hint("2.1")
    hint(NUMBER)
    reset(NUMBER)
    assert list(kept()) == ["2.1"]
    reset()
    assert kept() == {}


def test_a_damaged_file_is_put_aside(make):
    for damage in ('{"2.3": {"tries": 1', '{"2.3": 5}', "[1]"):
        Path("progress.json").write_text(damage)
        hint(NUMBER)
        assert kept() == {NUMBER: {"tries": 0, "hints": 1, "passed": False}}
        assert Path("progress.damaged.json").read_text() == damage


def test_a_check_answers_where_nothing_can_be_written(make, monkeypatch, capsys):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(progress.os, "replace", refuse)
    make(right)
    with pytest.warns(UserWarning, match="cannot be kept in .*progress.json: Permission denied"):
        check(NUMBER)
    assert "passed" in capsys.readouterr().out


def test_words_become_html_that_is_escaped():
    shown = Verdict("1.1", "a < b", "wrong", "is `x < y` & more?")._repr_html_()
    assert "<b>1.1 a &lt; b: not yet.</b> is <code>x &lt; y</code> &amp; more?" in shown
    assert str(Verdict("1.1", "T", "passed", "Right.")) == "1.1 T: passed. Right."
