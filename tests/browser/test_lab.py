"""The live lab in a real browser: what is done in the player reaches torch and comes back, at every width, quietly."""

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

import stepfit
from stepfit import datasets, lloyd, record

PLAYER = Path(stepfit.__file__).parent / "viewers/player.js"
TOPICS = ("kmeans", "mnist", "descent")

# Where the ring of center 0 is: the middle of all pixels of its color, which no point has before the first assignment.
RING = """(canvas) => {
  const { width, height } = canvas;
  const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, width, height);
  let count = 0, x = 0, y = 0;
  for (let p = 0; p < width * height; p++) {
    if (Math.hypot(data[4 * p], data[4 * p + 1] - 114, data[4 * p + 2] - 178) > 8) continue;
    count++, (x += p % width), (y += Math.floor(p / width));
  }
  return [(x / count) * (canvas.clientWidth / width), (y / count) * (canvas.clientHeight / height)];
}"""


@pytest.fixture
def lab(page, quiet, lesson):
    """Give `lab("topic=...")`: the page with that topic drawn; any complaint of the browser fails the test."""

    def opened(address="topic=kmeans"):
        page.goto(f"{lesson}/live/?embed=true&{address}")
        drawn(page)
        return page

    return opened


def drawn(page):
    expect(page.locator(".stepfit .says b")).to_be_visible()


def stage(page):
    return page.locator(".stepfit figure").first.locator("[tabindex]")


def field(page, name):
    return page.locator(".stepfit").get_by_label(name, exact=True)


def button(page, name):
    return page.get_by_role("button", name=name)


def choose(page, name):
    """Press one of the buttons of a segmented control."""
    page.get_by_role("radio", name=name, exact=True).click()


def link(page):
    button(page, "Link to this moment").click()
    text = page.get_by_test_id("stCode").locator("code").first.inner_text()
    page.keyboard.press("Escape")
    assert text.startswith(page.url.split("/live/")[0] + "/?view=live&topic=")
    return text


def to_the_start(page):
    stage(page).press("Home")
    expect(page.locator(".stepfit .says b")).to_have_text("Start")


def drag_center_0(page, by):
    to_the_start(page)
    stage(page).scroll_into_view_if_needed()
    box, (x, y) = stage(page).bounding_box(), stage(page).evaluate(RING)
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.mouse.down()
    page.mouse.move(box["x"] + x + by[0] / 2, box["y"] + y + by[1] / 2)
    page.mouse.move(box["x"] + x + by[0], box["y"] + y + by[1])
    page.mouse.up()


def test_the_toggle_opens_the_lab(page, quiet, lesson):
    page.goto(lesson)
    page.get_by_role("link", name="Streamlit").click()
    expect(page.frame_locator("iframe").locator(".stepfit .says b")).to_be_visible()


def test_an_address_opens_the_moment(page, quiet, lesson):
    page.goto(f"{lesson}/?view=live&topic=kmeans&k=6&seed=7&step=2")
    inside = page.frame_locator("iframe")
    expect(inside.locator(".stepfit .says b")).to_have_text("Step 2, assignment")
    expect(inside.get_by_role("slider", name="How many centers, k")).to_have_value("6")
    expect(inside.locator(".stepfit form select option")).to_have_count(6)
    inside.locator(".stepfit figure").first.locator("[tabindex]").press("End")
    expect(page).not_to_have_url(re.compile("step="))  # it would tell of a moment that has passed
    expect(page).to_have_url(re.compile("k=6"))


def test_a_dragged_center_changes_the_run_and_torch_answers(lab):
    page = lab("topic=kmeans&seed=3")
    inertia = page.locator(".stepfit .curve figcaption b")
    stage(page).press("End")
    expect(inertia).to_have_text(re.compile(r"\d"))  # the player draws with the next frame
    before = inertia.inner_text()
    drag_center_0(page, (-60, 30))
    expect(page.locator(".stepfit .says b")).to_have_text("Step 0, assignment")
    expect(button(page, "Undo what I moved")).to_be_visible()  # it comes with torch's answer
    asked = parse_qs(urlsplit(link(page)).query)
    assert asked["start"] == ["by hand"]
    centers = [[float(number) for number in place.split(",")] for place in asked["centers"][0].split(";")]
    x, _ = datasets.blobs(n=300, k=4, seed=51)
    mine = record(lloyd(x, 4, start=centers, seed=3, max_steps=100))
    stage(page).press("End")
    expect(page.locator(".stepfit .says b")).to_have_text(f"Step {mine.last.index}, assignment")
    expect(page.get_by_text(f"The run took {len(mine)} steps.")).to_be_visible()
    button(page, "Undo what I moved").click()
    expect(button(page, "Undo what I moved")).to_be_hidden()
    stage(page).press("End")
    expect(inertia).to_have_text(before)


def test_the_link_opens_what_was_dragged(lab, context):
    page = lab("topic=kmeans&seed=3")
    drag_center_0(page, (-80, -40))
    expect(button(page, "Undo what I moved")).to_be_visible()
    asked = parse_qs(urlsplit(link(page)).query)
    other = context.new_page()
    other.goto(page.url.split("?")[0] + "?embed=true&" + urlsplit(link(page)).query)
    drawn(other)
    to_the_start(other)
    x, y = (float(number) for number in asked["centers"][0].split(";")[0].split(","))
    assert float(field(other, "x").input_value()) == pytest.approx(x, rel=1e-3)
    assert float(field(other, "y").input_value()) == pytest.approx(y, rel=1e-3)


def test_the_keyboard_does_what_the_mouse_does(lab):
    page = lab("topic=kmeans")
    stage(page).focus()
    page.keyboard.press("1")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(button(page, "Undo what I moved")).to_be_visible()
    assert "centers=" in link(page)


def test_an_added_point_is_computed_with(lab):
    page = lab("topic=kmeans&n=100")
    field(page, "x").fill("1.5")
    field(page, "y").fill("-2")
    page.locator(".stepfit").get_by_role("button", name="Add point").click()
    expect(button(page, "Undo what I moved")).to_be_visible()
    assert "added=1.5,-2" in link(page)
    expect(page.locator(".stepfit pre")).to_contain_text("(101, 4)")


def test_the_module_comes_once_and_drags_are_small(page, quiet, lesson):
    modules, frames = [], []
    page.on("request", lambda request: modules.append(request.url) if "player.js" in request.url else None)
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: frames.append(len(frame))))
    page.goto(f"{lesson}/live/?embed=true&topic=kmeans")
    drawn(page)
    del frames[:]
    for _ in range(3):
        drag_center_0(page, (-15, 10))
    expect(button(page, "Undo what I moved")).to_be_visible()
    assert len(modules) == 1
    assert max(frames) < PLAYER.stat().st_size / 2


def test_predict_run_explain(lab):
    page = lab("topic=kmeans")
    page.get_by_role("spinbutton", name=re.compile("How many of the 300 points")).fill("70")
    button(page, "Lock in my guess").click()
    expect(page.get_by_text("Now press Play.")).to_be_visible()
    field(page, "Speed").select_option("4")
    page.locator(".stepfit").get_by_role("button", name="Play").click()
    expect(page.get_by_text("You said 70.")).to_be_visible()
    expect(page.get_by_text("It came out the other way.")).to_be_visible()


def test_another_start_by_button(lab):
    page = lab("topic=kmeans&n=60")
    button(page, "Re-roll 100 starts").click()
    button(page, re.compile("See the worst start")).click()
    button(page, "More settings").click()
    expect(page.get_by_role("spinbutton", name="Seed: which random start")).not_to_have_value("0")
    page.keyboard.press("Escape")


def test_a_click_on_a_bar_shows_a_start_of_it(lab):
    page = lab("topic=kmeans&n=60")
    button(page, "Re-roll 100 starts").click()
    chart = page.get_by_test_id("stVegaLiteChart")
    expect(chart).to_have_attribute("aria-label", re.compile("Histogram of the final inertia"))
    worst = re.search(r"\d+", button(page, re.compile("See the worst start")).inner_text()).group()
    chart.locator(f"[aria-label$='seed: {worst}']").click()
    button(page, "More settings").click()
    expect(page.get_by_role("spinbutton", name="Seed: which random start")).to_have_value(worst)


def test_topics_change_and_the_address_with_them(lab):
    page = lab("topic=kmeans&k=6")
    choose(page, "Gradient descent")
    expect(page.locator(".stepfit .surface canvas")).to_be_visible()
    expect(page).to_have_url(re.compile("topic=descent"))
    expect(page).not_to_have_url(re.compile("k=6"))
    page.go_back()
    page.go_back()  # the settings of the first topic left the address in a step of their own
    expect(page.get_by_role("heading", level=1)).to_have_text("k-means on the plane")


def test_a_click_on_the_loss_surface_starts_there(lab):
    page = lab("topic=descent&lr=0.3")
    before = field(page, "Start at w1").input_value()
    page.locator(".stepfit .surface canvas").click(position={"x": 80, "y": 60})
    expect(field(page, "Start at w1")).not_to_have_value(before)
    start = field(page, "Start at w1").input_value()
    page.wait_for_timeout(500)
    assert float(parse_qs(urlsplit(link(page)).query)["weights"][0].split(",")[0]) == pytest.approx(
        float(start), rel=1e-3
    )


def test_files_are_made_on_click(lab):
    page = lab("topic=kmeans&n=20&k=2")
    button(page, "Download").click()
    for name, begins in (
        ("PNG, the last step", b"\x89PNG"),
        ("CSV, a row a step", b"step,inertia"),
        ("GIF, moving", b"GIF8"),
    ):
        with page.expect_download() as download:
            button(page, name).click()
        assert Path(download.value.path()).read_bytes().startswith(begins)


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (320, "light"), (320, "dark")])
def test_for_everyone(page, lab, axe, topic, width, scheme):
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    lab(f"topic={topic}&k=400&lr=1.5")
    button(page, "Lock in my guess").click()
    stage(page).press("End")
    expect(page.get_by_text("The answer is below")).to_be_visible()
    main = page.get_by_test_id("stMain")
    assert main.evaluate("(main) => [main.scrollWidth, document.documentElement.scrollWidth]") == [width, width]
    axe(page, scheme)
