"""The player in a real browser, on a page from file://: it draws, plays, is moved by mouse and keys, and is quiet."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

import stepfit
from stepfit import datasets

PLAYER = Path(stepfit.__file__).parent / "viewers/player.js"
HARNESS = Path(__file__).parents[1] / "player/harness.html"


@pytest.fixture(scope="session")
def traces():
    x, _ = datasets.blobs(300, 2, 4, seed=1)
    images, digits = (part[:1000] for part in datasets.mnist())
    moons = datasets.two_moons()
    train, test = (moons.x_train, moons.y_train), (moons.x_test, moons.y_test)
    logistic = stepfit.record(stepfit.logistic_regression(*train, seed=0, test=test, max_steps=60))
    diverged = stepfit.record(stepfit.linear_regression(*train, lr=0.9, seed=0, test=test))
    lost = stepfit.record(stepfit.lloyd(x, 4, start=x[[0, 0, 9, 9]], empty="nan", max_steps=6))
    many, _ = datasets.blobs(2500, 2, 9, seed=2)
    return {
        "plane": stepfit.trace(stepfit.record(stepfit.lloyd(x, 4, start="random", seed=0)), x),
        "wall": stepfit.trace(stepfit.record(stepfit.lloyd(images, 10, seed=0, max_steps=4)), images, digits),
        "descent": stepfit.trace(logistic, *train, test=test),
        "lost": stepfit.trace(lost, x),
        "diverged": stepfit.trace(diverged, *train, test=test),
        "many": stepfit.trace(stepfit.record(stepfit.lloyd(many, 9, seed=0)), many),
    }


@pytest.fixture
def open_players(page, quiet, traces, tmp_path):
    """Give `open_players("plane", ...)`: a page with these players; any complaint of the browser fails the test."""

    def opened(*names, context=None):
        target = page if context is None else context.new_page()
        html = HARNESS.read_text().replace("PLAYER", PLAYER.read_text())
        scripts = "".join(
            f'<div data-stepfit-trace="{name}"></div><script type="application/json" id="{name}">'
            f"{json.dumps(traces[name])}</script>"
            for name in names
        )
        path = tmp_path / "players.html"
        path.write_text(html.replace("TRACES", scripts))
        target.goto(path.as_uri())
        for name in names:
            expect(player(target, name).locator(".says b")).to_be_visible()
        target.wait_for_function("players.length && colors(document.querySelector('canvas')) > 20")
        return target

    return opened


def player(page, name):
    return page.locator(f'[data-stepfit-trace="{name}"]')


def stage(page, name):
    return player(page, name).locator("figure").first.locator("[tabindex]")


def shown(page, name):
    """Name of the frame on show, such as "Step 2, update"."""
    return player(page, name).locator(".says b")


def says(page, name):
    return player(page, name).locator(".says")


def button(page, name, text):
    return player(page, name).get_by_role("button", name=text, exact=True)


def drag(page, canvas, start, end):
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + start[0], box["y"] + start[1])
    page.mouse.down()
    page.mouse.move(box["x"] + (start[0] + end[0]) / 2, box["y"] + (start[1] + end[1]) / 2)
    page.mouse.move(box["x"] + end[0], box["y"] + end[1])
    page.mouse.up()


def place_of_center(page, j):
    """Where center j of the first player is on its canvas."""
    return page.evaluate(f"places(players[0], document.querySelector('canvas'))[{j}]")


def test_three_kinds_play_to_the_end(open_players):
    page = open_players("plane", "wall", "descent")
    assert page.evaluate("[...document.querySelectorAll('.live')].every((line) => !line.textContent)")
    for name in ("plane", "wall", "descent"):
        player(page, name).get_by_label("Speed").select_option("4")
        button(page, name, "Play").click()
        expect(button(page, name, "Pause")).to_be_visible()
    for name, end in (("plane", "complete"), ("wall", "max_steps"), ("descent", "max_steps")):
        expect(button(page, name, "End")).to_be_visible(timeout=20_000)
        expect(button(page, name, "Play")).to_be_visible()
        expect(says(page, name)).to_contain_text(end)
        expect(player(page, name).locator(".live")).to_contain_text(end)
        assert player(page, name).locator("canvas").evaluate_all("(all) => all.every((one) => colors(one) > 3)")
        assert stage(page, name).get_attribute("aria-label").endswith(says(page, name).text_content()[-40:])
    # Played again, it begins again; it is halted at once, since a busy browser could miss the first frames.
    button(page, "plane", "Play").evaluate("(play) => { play.click(); play.click(); }")
    expect(shown(page, "plane")).to_have_text("Start")


def test_steps_back_and_forth_name_what_comes_next(open_players):
    page = open_players("plane")
    frames = ["Start", "Step 0, assignment", "Step 0, update", "Step 1, assignment"]
    for text, following in zip(frames, ("Assign", "Update", "Assign", "Update")):
        expect(shown(page, "plane")).to_have_text(text)
        button(page, "plane", following).click()
    button(page, "plane", "Back").click()
    expect(shown(page, "plane")).to_have_text("Step 1, assignment")
    expect(player(page, "plane").locator(".live")).to_contain_text("Step 1, assignment.")
    current = player(page, "plane").locator("pre [aria-current]")
    expect(current).to_have_count(2)
    expect(current.last).to_have_text("    labels = distances.argmin(1)(300,)")
    player(page, "plane").get_by_label("Frame").fill("2")
    expect(shown(page, "plane")).to_have_text("Step 0, update")
    button(page, "plane", "To the start").click()
    expect(shown(page, "plane")).to_have_text("Start")


def test_the_live_line_is_silent_while_playing_and_scrubbing(open_players):
    page = open_players("plane")
    button(page, "plane", "Play").click()
    expect(shown(page, "plane")).not_to_have_text("Start")
    assert player(page, "plane").locator(".live").text_content() == ""
    button(page, "plane", "Pause").click()
    said = shown(page, "plane").text_content()
    expect(player(page, "plane").locator(".live")).to_contain_text(said)
    slider = player(page, "plane").get_by_label("Frame")
    slider.evaluate("(bar) => { bar.value = 5; bar.dispatchEvent(new Event('input')); }")
    expect(shown(page, "plane")).to_have_text("Step 2, assignment")
    expect(player(page, "plane").locator(".live")).to_contain_text(said)  # until the bar is let go
    slider.dispatch_event("change")
    expect(player(page, "plane").locator(".live")).to_contain_text("Step 2, assignment")


def test_all_by_keyboard(open_players):
    page = open_players("plane", "descent")
    stage(page, "plane").focus()
    for key, text in (
        ("ArrowRight", "Step 0, assignment"), ("ArrowRight", "Step 0, update"), ("ArrowLeft", "Step 0, assignment"),
        ("End", "Step 3, assignment"), ("Home", "Start"),
    ):  # fmt: skip
        page.keyboard.press(key)
        expect(shown(page, "plane")).to_have_text(text)
    page.keyboard.press("Space")
    expect(button(page, "plane", "Pause")).to_be_visible()
    page.keyboard.press("Space")
    expect(button(page, "plane", "Play")).to_be_visible()
    page.keyboard.press("Home")
    page.keyboard.press("2")
    expect(player(page, "plane").locator(".hint")).to_contain_text("Center 2: the arrow keys move it")
    before = float(player(page, "plane").get_by_label("x", exact=True).input_value())
    page.keyboard.press("ArrowRight")
    expect(shown(page, "plane")).to_have_text("Step 0, assignment")
    assert float(player(page, "plane").get_by_label("x", exact=True).input_value()) > before
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowRight")
    expect(shown(page, "plane")).to_have_text("Step 0, update")

    player(page, "descent").locator(".surface canvas").focus()
    w2 = player(page, "descent").get_by_label("w2", exact=True)
    before = w2.input_value()
    page.keyboard.press("ArrowUp")
    expect(w2).not_to_have_value(before)
    assert float(w2.input_value()) > float(before)


def test_every_focusable_part_keeps_its_keys_from_jupyter(open_players):
    page = open_players("plane", "wall", "descent")
    page.evaluate("document.querySelectorAll('details').forEach((part) => (part.open = true))")
    heard = page.evaluate("(window.heard = 0, document.addEventListener('keydown', () => heard++), heard)")
    for part in page.locator("button:enabled, select, input, summary, [tabindex]").all():
        if part.is_visible():
            assert part.get_attribute("data-lm-suppress-shortcuts") == "true"
    stage(page, "plane").focus()
    page.keyboard.press("2")
    player(page, "plane").get_by_label("x", exact=True).press("5")
    assert page.evaluate("heard") == heard


def test_a_dragged_center_changes_the_run_and_can_be_undone(open_players):
    page = open_players("plane")
    canvas = stage(page, "plane")
    expect(button(page, "plane", "Undo my changes")).to_be_hidden()
    before = page.evaluate("players[0].run.losses")
    start = place_of_center(page, 1)
    drag(page, canvas, start, (start[0] - 90, start[1] + 40))
    expect(shown(page, "plane")).to_have_text("Step 0, assignment")
    expect(player(page, "plane").locator(".hint")).to_contain_text("Center 1")
    after = page.evaluate("players[0].run.losses")
    assert after != before
    assert place_of_center(page, 1) == pytest.approx((start[0] - 90, start[1] + 40), abs=1.5)
    expect(player(page, "plane").locator(".live")).to_contain_text("assignment")
    button(page, "plane", "Undo my changes").click()
    assert page.evaluate("players[0].run.losses") == before


def test_a_click_on_an_empty_place_adds_a_point(open_players):
    page = open_players("plane")
    shapes = player(page, "plane").locator("pre")
    expect(shapes).to_contain_text("(300, 4)")
    stage(page, "plane").click(position={"x": 60, "y": 30})
    expect(shapes).to_contain_text("(301, 4)")
    player(page, "plane").get_by_label("x", exact=True).fill("1.5")
    player(page, "plane").get_by_label("y", exact=True).fill("-2")
    button(page, "plane", "Add point").click()
    expect(shapes).to_contain_text("(302, 4)")
    assert page.evaluate("[...players[0].run.x].slice(-2)") == [1.5, -2]


def test_numbers_do_what_a_drag_does(open_players):
    page = open_players("plane", "descent")
    player(page, "plane").locator("form select").select_option("3")
    player(page, "plane").get_by_label("x", exact=True).fill("0.25")
    player(page, "plane").get_by_label("y", exact=True).fill("-1")
    button(page, "plane", "Move center").click()
    assert page.evaluate("[...players[0].run.centers].slice(6, 8)") == [0.25, -1]
    player(page, "descent").get_by_label("Start at w1").fill("2")
    player(page, "descent").get_by_label("w2", exact=True).fill("-3")
    button(page, "descent", "Start here").click()
    assert page.evaluate("[...players[1].run.params].slice(0, 2)") == [2, -3]
    expect(says(page, "descent")).to_contain_text("w1 2, w2 −3")


def test_a_click_on_the_surface_is_a_new_start(open_players):
    page = open_players("descent")
    surface = player(page, "descent").locator(".surface canvas")
    before = page.evaluate("players[0].run.losses")
    page.evaluate("players[0].go(20)")
    surface.click(position={"x": 80, "y": 40})
    expect(shown(page, "descent")).to_have_text("Step 0")
    after = page.evaluate("players[0].run.losses")
    assert len(after) == len(before)
    assert after[0] != before[0]
    curve = player(page, "descent").locator(".curve canvas")
    curve.hover(position={"x": 150, "y": 60})
    expect(player(page, "descent").locator(".curve figcaption")).to_contain_text("at step")
    curve.click(position={"x": 150, "y": 60})
    expect(shown(page, "descent")).not_to_have_text("Step 0")
    assert 10 < int(shown(page, "descent").text_content().split()[1]) < 50


def test_reduced_motion_shows_whole_steps_only(open_players, page):
    pictures = """async () => {
      const canvas = document.querySelector("canvas"), slider = document.querySelector("[type=range]"), seen = {};
      const frame = () => new Promise(requestAnimationFrame);
      players[0].go(0);
      while (slider.value > 0) await frame();
      players[0].toggle();
      while (slider.value < 3) {
        await frame();
        await new Promise((done) => setTimeout(done));
        (seen[slider.value] ??= new Set()).add(canvas.toDataURL());
      }
      return Object.values(seen).map((all) => all.size);
    }"""
    page.emulate_media(reduced_motion="reduce")
    open_players("plane")
    assert max(page.evaluate(pictures)[1:]) == 1
    page.emulate_media(reduced_motion="no-preference")
    assert max(page.evaluate(pictures)[1:]) > 3  # or else the count above shows nothing


def test_an_edit_is_sent_and_a_late_answer_ignored(open_players, traces):
    page = open_players("plane")
    page.evaluate("""async (trace) => {
      window.edits = [];
      window.trace = trace;
      await players[0].update({ ...trace, id: "other" }, (edit) => edits.push(edit));
    }""", traces["plane"])  # fmt: skip
    start = place_of_center(page, 0)
    drag(page, stage(page, "plane"), start, (start[0] + 50, start[1] + 10))
    (edit,) = page.evaluate("edits")
    assert set(edit) == {"nonce", "id", "centers", "added", "start"}
    assert (edit["id"], edit["added"], edit["start"], len(edit["centers"])) == ("other", [], None, 4)
    preview = page.evaluate("players[0].run.losses")
    answer = """async ([nonce, id]) => {
      await players[0].update({ ...trace, nonce, id, losses: [7, 6, 5, 4] }, (edit) => edits.push(edit));
      return players[0].run.losses;
    }"""
    assert page.evaluate(answer, [edit["nonce"] - 1, "late"]) == preview
    assert page.evaluate(answer, [None, "other"]) == preview  # a rerun of the host, which has not heard of the edit
    assert page.evaluate(answer, [edit["nonce"], "answer"]) == [7, 6, 5, 4]
    expect(shown(page, "plane")).to_have_text("Step 0, assignment")  # where the drag had left it
    stage(page, "plane").click(position={"x": 60, "y": 30})
    second = page.evaluate("edits[1]")
    assert page.evaluate(answer, [None, "new"]) == [7, 6, 5, 4]  # other data: the edit is gone
    expect(shown(page, "plane")).to_have_text("Start")
    assert second["nonce"] > edit["nonce"]
    assert (second["id"], len(second["added"])) == ("answer", 1)


def test_undo_is_told_to_the_host_unless_it_has_its_own(open_players, traces):
    page = open_players("plane")
    page.evaluate("""(trace) => {
      window.edits = [];
      window.show = (more) => players[0].update({ ...trace, ...more }, (edit) => edits.push(edit), host);
      window.host = {};
      return show({ id: "first" });
    }""", traces["plane"])  # fmt: skip
    undo = button(page, "plane", "Undo my changes")
    expect(undo).to_be_hidden()
    before = page.evaluate("players[0].run.losses")
    stage(page, "plane").click(position={"x": 60, "y": 30})
    page.evaluate("show({ id: 'answer', nonce: edits[0].nonce, losses: [7, 6, 5, 4] })")
    expect(undo).to_be_visible()
    undo.click()
    expect(undo).to_be_hidden()
    assert page.evaluate("players[0].run.losses") == before
    told = page.evaluate("edits[1]")
    assert told["nonce"] > page.evaluate("edits[0].nonce")
    assert (told["id"], told["added"], told["centers"], told["start"]) == ("first", [], None, None)
    # An answer to what was undone comes too late.
    page.evaluate("show({ id: 'late', nonce: edits[0].nonce, losses: [7, 6, 5, 4] })")
    assert page.evaluate("players[0].run.losses") == before
    page.evaluate("(host = { moment: () => {} }, show({ id: 'other' }))")
    stage(page, "plane").click(position={"x": 60, "y": 30})
    expect(undo).to_be_hidden()


def test_a_mark_ends_the_run_and_says_what_differs(open_players, traces):
    page = open_players("plane")
    show = """async ([trace, mark]) => {
      await players[0].update({ ...trace, twin: false, id: Math.random(), mark });
      await new Promise((done) => setTimeout(done, 300));
      return document.querySelector("canvas").toDataURL();
    }"""
    mark = {"frame": 3, "words": "Point 7 is not right.", "points": [[7, 2]], "centers": []}
    marked = page.evaluate(show, [traces["plane"], mark])
    expect(shown(page, "plane")).to_have_text("Step 1, assignment")  # it is shown at once
    expect(says(page, "plane")).to_contain_text("Point 7 is not right.")
    expect(button(page, "plane", "End")).to_be_disabled()
    assert stage(page, "plane").get_attribute("aria-label").endswith("Point 7 is not right.")
    assert marked != page.evaluate(show, [traces["plane"], mark | {"points": []}])
    # The last update of a run has a frame too, where a mark shows it; a center that is far away waits at the rim.
    last = {"frame": 8, "words": "No.", "points": [], "centers": [[1, 0, 0], [2, 1e9, 0]]}
    marked = page.evaluate(show, [traces["plane"], last])
    expect(shown(page, "plane")).to_have_text("Step 3, update")
    assert marked != page.evaluate(show, [traces["plane"], last | {"centers": []}])
    button(page, "plane", "Back").click()
    expect(says(page, "plane")).to_contain_text("joins its nearest center")


def test_a_button_that_has_done_its_work_does_not_lose_the_focus(open_players):
    page = open_players("plane")
    page.evaluate("players[0].go(6)")
    button(page, "plane", "Assign").focus()
    page.keyboard.press("Enter")
    expect(button(page, "plane", "End")).to_be_disabled()
    expect(stage(page, "plane")).to_be_focused()


def test_one_file_serves_streamlit_and_anywidget(open_players, traces):
    page = open_players("plane")
    losses = page.evaluate("""async (trace) => {
      const shadow = document.body.appendChild(document.createElement("div")).attachShadow({ mode: "open" });
      window.told = [];
      const setTriggerValue = (name, value) => told.push([name, value]);
      const data = { trace: { ...trace, id: "one" }, step: 2 };
      const rerun = () => host({ data, parentElement: shadow, setTriggerValue });
      rerun();
      await new Promise((done) => setTimeout(done, 300));
      const text = shadow.querySelector(".says b").textContent, box = shadow.firstChild;
      const leave = rerun();
      if (shadow.children.length !== 1 || shadow.firstChild !== box) throw Error("a rerun must keep the player");
      shadow.querySelector(".next").click();
      shadow.querySelector(".next").click();
      leave();
      if (shadow.children.length) throw Error("the player must go when the component goes");
      return text;
    }""", traces["plane"])  # fmt: skip
    assert losses == "Step 2, assignment"
    assert page.evaluate("told") == [["moment", {"id": "one", "step": 3}]]

    edits = page.evaluate("""async (trace) => {
      const el = document.body.appendChild(document.createElement("div")), listeners = {}, saved = [];
      const model = {
        get: () => trace, on: (name, react) => (listeners[name] = react), off: (name) => delete listeners[name],
        set: (name, value) => saved.push([name, value]), save_changes: () => saved.push("saved"),
      };
      const leave = host().render({ model, el });
      await new Promise((done) => setTimeout(done, 300));
      const [x, y] = el.querySelectorAll("[type=number]");
      (x.value = 1), (y.value = 2);
      el.querySelector("form").requestSubmit();
      leave();
      return [...saved, Object.keys(listeners).length, el.children.length];
    }""", traces["plane"])  # fmt: skip
    assert edits[0][0] == "edit"
    assert edits[0][1]["centers"][0] == [1, 2]
    assert edits[1:] == ["saved", 0, 0]


def test_lost_centers_divergence_and_many_points_are_drawn(open_players):
    page = open_players("lost", "diverged", "many")
    for i, name in enumerate(("lost", "diverged", "many")):
        page.evaluate(f"players[{i}].go(Infinity)")
        expect(button(page, name, "End")).to_be_visible()
        assert player(page, name).locator("canvas").evaluate_all("(all) => all.every((one) => colors(one) > 3)")
    expect(says(page, "lost")).to_contain_text("Inertia not a number")
    expect(says(page, "diverged")).to_contain_text("above the limit 2/lambda_max")
    player(page, "lost").locator("summary").click()
    expect(player(page, "lost").locator(".scroll").last).to_contain_text("became NaN")


def test_a_table_says_the_same(open_players):
    page = open_players("plane", "wall", "descent")
    page.evaluate("document.querySelectorAll('details').forEach((part) => (part.open = true))")
    for i in range(3):
        page.evaluate(f"players[{i}].go(3)")
    expect(page.locator("tr[aria-current]")).to_have_count(3)
    now, steps = player(page, "plane").locator("table").all()
    assert now.locator("tbody tr").count() == 4
    counts = [int(cell.text_content()) for cell in now.locator("tbody td:last-child").all()]
    assert sum(counts) == 300
    assert steps.locator("tbody tr").count() == 4
    expect(steps.locator("[aria-current] th")).to_have_text("1")
    assert player(page, "wall").locator("table").first.locator("tbody tr").count() == 10
    (steps,) = player(page, "descent").locator("table").all()
    expect(steps.locator("thead th")).to_have_text(
        ["Step", "Loss", "Test accuracy", "Training accuracy", "W1", "W2", "Bias"]
    )


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (320, "light"), (320, "dark")])
def test_it_is_accessible_and_never_scrolls_sideways(open_players, page, axe, width, scheme):
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    open_players("plane", "wall", "descent")
    page.evaluate("players.forEach((one) => one.go(1))")
    expect(shown(page, "descent")).to_have_text("Step 1")
    axe(page, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for part in page.locator("button, select, input, summary").all():
        if part.is_visible():
            box = part.bounding_box()
            assert min(box["width"], box["height"]) >= 24


def test_a_broken_trace_is_told_in_words(open_players, traces):
    page = open_players("plane")
    page.evaluate("(trace) => players[0].update({ ...trace, id: 'broken', data: 'AAAA' })", traces["plane"])
    expect(player(page, "plane")).to_contain_text("This trace cannot be drawn:")


def test_the_player_draws_sharp_on_a_fine_screen(browser, open_players):
    context = browser.new_context(device_scale_factor=2)
    page = open_players("plane", context=context)
    assert (
        page.evaluate("(() => { const c = document.querySelector('canvas'); return c.width / c.clientWidth; })()") == 2
    )
    context.close()
