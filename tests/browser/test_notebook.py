"""The notebook in a real browser: opened from the page's link, two cells run, the player played, its keys kept."""

import os
import re
import signal
import subprocess
import sys

import pytest
from playwright.sync_api import expect

from stepfit.datasets import write_toy_data
from stepfit.lesson import workbook

# Notebook 7.6 itself says so much while it opens.
ITS_OWN = re.compile(
    r"page error: .*reading 'schema'|"
    r"console warning: (Menu entry for command .* is duplicated|\[yjs#509\]|Disabling terminals plugin)"
)
# What a key of the notebook would change: the kinds of the cells, which ones are selected, and the mode.
STATE = """() => {
  const notebook = document.querySelector(".jp-Notebook"), cells = [...notebook.querySelectorAll(".jp-Cell")];
  return cells.map((cell) => [...cell.classList].filter((name) => /Cell$|active|selected/.test(name)).join()).join(";")
    + notebook.classList.contains("jp-mod-editMode");
}"""
KEYS = ["ArrowLeft", "ArrowDown", *"2abddmy", "Shift+Enter", "Space"]
IMPORTS = re.compile(r"from stepfit\.lesson import .*show")
DIGEST = "(canvas) => canvas.toDataURL()"


@pytest.fixture
def lesson_with_jupyter(tmp_path):
    """Address of a running lesson that has notebooks."""
    write_toy_data(tmp_path / workbook.SECTION / "data")
    command = ["learn", "--no-browser", "--port", "0", "--jupyter-port", "0", "--dir", str(tmp_path)]
    server = subprocess.Popen(
        [sys.executable, "-m", "stepfit", *command],
        env=os.environ | {"JUPYTER_CONFIG_DIR": str(tmp_path / "config")},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = ""
        for line in server.stderr:
            said += line
            if found := re.search(r"The lesson is at (http://\S+)", line):
                yield found[1]
                break
        else:
            pytest.fail(f"the lesson ended: {said}")
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=20)


def test_the_page_s_link_opens_a_notebook_whose_player_keeps_its_keys(page, quiet, lesson_with_jupyter):
    page.goto(lesson_with_jupyter)
    with page.expect_websocket(lambda socket: "/channels" in socket.url) as kernel:
        page.locator("a[href='/nb/Pytorch1_KMeans.ipynb']").first.click()
    kernel.value.wait_for_event("framereceived")  # before the kernel speaks, a cell would not be run
    imports, watch = (page.locator(".jp-CodeCell").filter(has_text=text).first for text in (IMPORTS, "show(run, "))
    for i, cell in enumerate((imports, watch), start=1):
        cell.locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        expect(cell.locator(".jp-InputPrompt")).to_have_text(f"[{i}]:")
    player = watch.locator(".stepfit")
    shown, stage = player.locator(".says b"), player.locator("figure canvas").first
    expect(shown).to_have_text("Start")

    first = stage.evaluate(DIGEST)
    player.get_by_label("Speed").select_option("4")
    player.get_by_role("button", name="Play", exact=True).click()
    expect(player.get_by_role("button", name="End", exact=True)).to_be_visible()
    expect(shown).to_have_text(re.compile(r"^Step \d+, assignment$"))
    assert stage.evaluate(DIGEST) != first

    before = page.evaluate(STATE)
    assert "jp-mod-active" in before
    for part in (stage, player.get_by_label("Frame")):
        for key in KEYS:
            part.focus()
            page.keyboard.press(key)
        assert page.evaluate(STATE) == before
    # Without the mark on the focused part, Jupyter takes the key, and the test would see it.
    stage.evaluate("(canvas) => delete canvas.dataset.lmSuppressShortcuts")
    stage.press("m")
    page.wait_for_function(f"(before) => ({STATE})() !== before", arg=before)

    quiet[:] = [complaint for complaint in quiet if not ITS_OWN.match(complaint)]
