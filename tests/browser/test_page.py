"""The page in a real browser: from a file without network, at every width and color scheme, and turned to the lab."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import expect

from stepfit.lesson.server import PAGE

FILE = PAGE.as_uri()
PLAYERS = ["plane", "wall", "moons"]


@pytest.fixture
def from_file(page, quiet):
    """The page from a USB stick: no server, no network."""
    page.context.set_offline(True)
    page.goto(FILE)
    expect(page.locator(".stepfit canvas").first).to_be_visible()
    return page


def player(page, name):
    return page.locator(f'[data-stepfit-trace="{name}"]')


def colors(canvas):
    """Count the different colors on a canvas: a blank one has one."""
    return canvas.evaluate(
        """canvas => new Set(new Uint32Array(canvas.getContext("2d")
           .getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size"""
    )


def test_it_draws_all_players_without_network(from_file):
    for name in PLAYERS:
        player(from_file, name).scroll_into_view_if_needed()
        expect(player(from_file, name).get_by_role("button", name="Play")).to_be_visible()
        assert colors(player(from_file, name).locator("canvas").first) > 3, name


def test_every_player_plays_to_the_end(from_file):
    for name in PLAYERS:
        player(from_file, name).get_by_label("Speed").select_option("4×")
        player(from_file, name).get_by_role("button", name="Play").click()
    for name, last in zip(PLAYERS, ["Step 12", "Step 19", "Step 99"]):
        here = player(from_file, name)
        expect(here).to_contain_text(last)
        expect(here.get_by_role("button", name="Play")).to_be_visible()
        slider = here.get_by_role("slider")
        assert slider.input_value() == slider.get_attribute("max")
        assert colors(here.locator("canvas").first) > 3, name


def test_nothing_moves_by_itself(from_file):
    before = [player(from_file, name).get_by_role("slider").input_value() for name in PLAYERS]
    from_file.wait_for_timeout(700)
    assert [player(from_file, name).get_by_role("slider").input_value() for name in PLAYERS] == before == ["0"] * 3


@pytest.mark.parametrize("width", [1200, 320])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(from_file, axe, width, scheme):
    from_file.set_viewport_size({"width": width, "height": 900})
    from_file.emulate_media(color_scheme=scheme)
    axe(from_file, scheme)


@pytest.mark.parametrize("width", [320, 360, 768, 1024, 1200, 1600])
def test_no_side_scroll(from_file, width):
    from_file.set_viewport_size({"width": width, "height": 800})
    from_file.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    from_file.wait_for_timeout(200)
    assert from_file.evaluate("document.documentElement.scrollWidth") <= width


def test_what_is_too_wide_can_be_reached_by_keyboard(from_file):
    from_file.set_viewport_size({"width": 320, "height": 800})
    code = from_file.locator(".code > pre").first
    expect(code).to_have_attribute("tabindex", "0")
    code.focus()
    from_file.keyboard.press("ArrowRight")
    from_file.wait_for_function("document.activeElement.scrollLeft > 0")


def test_zoom_is_not_blocked(from_file):
    content = from_file.locator('meta[name="viewport"]').get_attribute("content")
    assert "maximum-scale" not in content
    assert "user-scalable" not in content


def test_from_a_file_the_lab_says_how_to_start_it(from_file):
    from_file.get_by_role("link", name="Streamlit").click()
    expect(from_file.get_by_text("The live lab is not running")).to_be_visible()
    expect(from_file.locator("#live")).to_contain_text("stepfit learn")
    assert from_file.locator("iframe").count() == 0
    from_file.get_by_role("link", name="Markdown").click()
    expect(from_file.get_by_role("heading", level=1)).to_be_visible()


def test_contents_lead_through_the_page(from_file):
    from_file.set_viewport_size({"width": 1200, "height": 900})
    contents = from_file.get_by_role("navigation", name="On this page")
    contents.get_by_role("link", name="The threshold trap").click()
    heading = from_file.get_by_role("heading", name="The threshold trap")
    expect(heading).to_be_in_viewport()
    expect(contents.get_by_role("link", name="The threshold trap")).to_have_attribute("aria-current", "location")
    header = from_file.locator("header").bounding_box()
    from_file.wait_for_function(
        "y => document.querySelector('#the-threshold-trap').getBoundingClientRect().top >= y", arg=header["height"]
    )


def test_contents_are_folded_on_a_phone(from_file):
    from_file.set_viewport_size({"width": 360, "height": 800})
    contents = from_file.get_by_role("navigation", name="On this page")
    expect(contents.get_by_role("link").first).to_be_hidden()
    contents.get_by_text("On this page").click()
    contents.get_by_role("link", name="Sources").click()
    expect(from_file.get_by_role("heading", name="Sources")).to_be_in_viewport()


def test_solutions_are_hidden_until_asked_for_and_printed_open(from_file):
    solution = from_file.locator("details.solution").first
    inside = solution.locator("div").first
    expect(inside).to_be_hidden()
    solution.locator("summary").press("Enter")
    expect(inside).to_be_visible()
    solution.locator("summary").press("Enter")
    from_file.emulate_media(media="print")
    from_file.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(inside).to_be_visible()
    expect(from_file.locator("header")).to_be_hidden()
    from_file.evaluate("dispatchEvent(new Event('afterprint'))")
    expect(inside).to_be_hidden()


def test_code_is_copied(from_file):
    from_file.context.grant_permissions(["clipboard-read", "clipboard-write"])
    block = from_file.locator(".code").first
    block.hover()
    block.get_by_role("button", name="Copy").click()
    expect(block.get_by_role("button", name="Copied")).to_be_visible()
    assert from_file.evaluate("navigator.clipboard.readText()").startswith(
        "import torch\nfrom stepfit import datasets\n"
    )


def test_without_script_the_text_is_all_there(browser):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(FILE)
    expect(page.locator("noscript p").first).to_be_visible()
    expect(page.get_by_role("heading", name="Logistic regression")).to_be_visible()
    expect(page.locator(".player noscript p").first).to_have_text(re.compile("k-means with 4 centers on 600 points"))
    page.locator("#contents summary").click()
    expect(page.locator("#contents").get_by_role("link", name="Sources")).to_be_visible()
    page.locator("details.solution summary").first.click()
    expect(page.locator("details.solution div").first).to_be_visible()
    page.get_by_role("link", name="Streamlit").click()
    assert page.url.endswith("?view=live")
    page.context.close()


# Served, with the lab behind the toggle


def settings(page):
    return {name: value[0] for name, value in parse_qs(urlsplit(page.url).query).items()}


def lab_is_drawn(page):
    expect(page.frame_locator("iframe").locator(".stepfit canvas").first).to_be_visible()


def test_the_toggle_opens_the_lab(page, quiet, lesson):
    asked = []
    page.on("request", lambda request: asked.append(urlsplit(request.url).path))
    page.goto(lesson)
    expect(page.locator(".stepfit canvas").first).to_be_visible()
    # Who only reads loads no lab; the page asks whether there is one, to lead to the notebooks.
    assert not [path for path in asked if path.startswith("/live") and path != "/live/_stcore/health"]
    assert page.locator("iframe").count() == 0

    page.get_by_role("link", name="Streamlit").press("Enter")
    lab_is_drawn(page)
    expect(page.get_by_role("link", name="Streamlit")).to_have_attribute("aria-current", "page")
    expect(page.get_by_role("link", name="Markdown")).not_to_have_attribute("aria-current", "page")
    expect(page.locator("iframe")).to_have_attribute("title", "Live lab")
    expect(page.locator("#read")).to_be_hidden()
    assert settings(page)["view"] == "live"

    page.go_back()
    expect(page.locator("#read")).to_be_visible()
    page.go_forward()
    expect(page.locator("iframe")).to_be_visible()
    page.get_by_role("link", name="Markdown").click()
    expect(page.locator("#read")).to_be_visible()
    assert settings(page) == {"view": "read"}


def test_a_link_reproduces_the_moment(page, quiet, lesson):
    page.goto(f"{lesson}/?view=live&topic=kmeans&k=6&seed=7&step=3")
    lab_is_drawn(page)
    lab = page.frame_locator("iframe")
    expect(lab.get_by_role("slider", name=re.compile("centers"))).to_have_value("6")
    expect(lab.locator(".stepfit")).to_contain_text("Step 3")
    page.wait_for_timeout(600)  # twice as long as the page takes to look at the lab's address
    kept = settings(page)
    assert kept["view"] == "live"
    assert (kept["k"], kept["seed"], kept["step"]) == ("6", "7", "3")


def test_what_is_set_in_the_lab_stands_in_the_address(page, quiet, lesson):
    page.goto(f"{lesson}/?view=live&topic=kmeans")
    lab_is_drawn(page)
    slider = page.frame_locator("iframe").get_by_role("slider", name=re.compile("centers"))
    before = int(slider.input_value())
    slider.press("ArrowRight")
    page.wait_for_url(re.compile(rf"[?&]k={before + 1}\b"))
    assert settings(page)["view"] == "live"


def test_the_lab_has_no_scroll_bar_of_its_own(page, quiet, lesson):
    page.set_viewport_size({"width": 1200, "height": 600})
    page.goto(f"{lesson}/?view=live")
    lab_is_drawn(page)
    page.wait_for_function(
        """() => {
          const frame = document.querySelector("iframe");
          const main = frame.contentDocument.querySelector('[data-testid="stMain"]');
          return frame.offsetHeight > 700 && main.scrollHeight <= main.clientHeight + 1;
        }"""
    )


def test_links_in_the_text_open_the_lab_at_their_topic(page, quiet, lesson):
    page.goto(lesson)
    page.get_by_role("link", name="Click a center in the live lab").click()
    lab_is_drawn(page)
    assert settings(page)["topic"] == "mnist"
    page.get_by_role("link", name="Markdown").click()
    page.get_by_role("link", name="try it live").dispatch_event("click")
    page.wait_for_url(re.compile("topic=descent"))
    expect(page.frame_locator("iframe").get_by_role("heading", name="Gradient descent").first).to_be_visible()


def test_a_page_without_a_lab_behind_it_says_so(page, quiet, lesson):
    page.route("**/live/_stcore/health", lambda route: route.fulfill(status=404))
    page.goto(f"{lesson}/?view=live")
    expect(page.get_by_text("The live lab is not running")).to_be_visible()
    assert [complaint for complaint in quiet if "404" not in complaint] == []
    quiet.clear()


def test_the_lab_fits_a_phone(page, quiet, lesson):
    page.set_viewport_size({"width": 320, "height": 700})
    page.goto(f"{lesson}/?view=live")
    lab_is_drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
