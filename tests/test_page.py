"""The page without a browser: fresh, whole, small, its code and numbers true, its parts in order."""

import base64
import io
import json
import math
import re
import zlib
from contextlib import chdir, redirect_stdout
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
import torch

pytest.importorskip("latex2mathml", reason="building the page needs `pip install 'stepfit[page]'`")

from stepfit.lesson.page import build, drawings, facts
from stepfit.lesson.page.build import PAGE, fill, pack, same, unpack
from stepfit.lesson.page.markdown import to_html

COURSE = "http://localhost:8888/notebooks/pytorch-tutorial/section2_pytorch_basics/notebooks/"
NOTEBOOKS = {
    "Tutorial1_Pytorch_Basics.ipynb",
    "Pytorch1_KMeans.ipynb",
    "Pytorch2_Linear_Logistic_Regression_For_Classification.ipynb",
}
TEXT = (Path(build.__file__).parent / "lesson.md").read_text(encoding="utf-8")


class Elements(HTMLParser):
    """The elements of a page, as (tag, attributes)."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


@pytest.fixture(scope="module")
def built():
    return PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def elements(built):
    return Elements(built).found


def test_the_page_is_one_small_file(built):
    assert len(built.encode()) < 200_000


def test_the_page_loads_nothing_from_outside(built, elements):
    loaded = [value for tag, at in elements for name, value in at.items() if name in ("src", "srcset", "data")]
    loaded += [at["href"] for tag, at in elements if tag == "link"]
    loaded += re.findall(r"url\((.*?)\)", built)
    assert loaded
    assert [address[:60] for address in loaded if not address.startswith("data:")] == []
    assert "@import" not in built


def test_links_lead_somewhere(elements):
    ids = [at["id"] for _, at in elements if at.get("id")]
    assert len(ids) == len(set(ids))
    for _, at in elements:
        link = at.get("href", "https://")
        if link.startswith(COURSE):
            assert link.removeprefix(COURSE) in NOTEBOOKS
            continue
        assert link.startswith(("https://", "data:", "#", "?view=live", "?view=read")), link
        if link.startswith("#"):
            assert link[1:] in ids
    links = {at["href"] for tag, at in elements if tag == "a"}
    assert {"?view=read", "?view=live"} | {COURSE + name for name in NOTEBOOKS} <= links
    assert any("sDv4f4s2SB8" in link for link in links)


def test_headings_skip_no_level(elements):
    levels = [int(tag[1]) for tag, _ in elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_picture_says_in_words_what_it_shows(elements):
    pictures = [at for tag, at in elements if tag == "svg"]
    assert len(pictures) >= 6
    assert all(at.get("role") == "img" and len(at.get("aria-label", "")) > 20 for at in pictures)


def test_no_placeholder_and_no_markdown_is_left_over(built):
    text = re.sub(r"<(script|style)\b.*?</\1>", "", built, flags=re.DOTALL)
    assert "{{" not in text
    assert ":::" not in text
    assert "**" not in re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL)


def test_the_three_players_have_their_traces(built, elements):
    packed = unpack(built)
    places = [at["data-stepfit-trace"] for _, at in elements if "data-stepfit-trace" in at]
    assert places == ["plane", "wall", "moons"] == list(packed["traces"])
    assert [packed["traces"][name]["kind"] for name in places] == ["kmeans", "wall", "descent"]
    assert packed["traces"]["wall"]["dims"] == {"n": 10_000, "k": 10, "d": 784}
    assert len(packed["traces"]["wall"]["losses"]) == 20
    assert "export function mountAll" in packed["player"]


def test_the_font_has_every_character_of_the_formulas(built):
    from fontTools.ttLib import TTFont

    from stepfit.lesson.page.cut_font import FONT, characters

    there = set(map(chr, TTFont(FONT).getBestCmap()))
    assert characters(built) - there == set()
    assert {"∑", "𝜃", "‖"} <= there


# The code on the page


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Each block of code with the names that there are after it."""
    names, done = {}, []
    with chdir(tmp_path_factory.mktemp("page")), redirect_stdout(io.StringIO()):
        for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
            exec(compile(block, "lesson.md", "exec"), names)
            done.append((block, dict(names)))
    return done


def test_every_shape_beside_the_code_is_true(ran):
    """A comment that begins with a shape, or computes one, ends its shapes with the one of the name that is set."""
    seen = 0
    for block, names in ran:
        for line in block.splitlines():
            says = re.match(r"\s*([\w, ]+?) = .*?# (\(.*)", line)
            if not says or says[1].split(", ")[0] not in names:  # no shape, or a name inside of a function
                continue
            targets = says[1].split(", ")
            shapes = [tuple(map(int, re.findall(r"\d+", shape))) for shape in re.findall(r"\([\d, ]*\)", says[2])]
            for target, shape in zip(targets, shapes[-len(targets) :], strict=True):
                assert tuple(names[target].shape) == shape, line
                seen += 1
    assert seen > 25


def test_the_loops_of_the_page_do_what_stepfit_does(ran):
    from stepfit.lesson.page import runs

    _, names = ran[-1]
    run = runs.wall().run
    assert names["start"].equal(run[0].centers)
    assert (names["labels"] == run.last.labels).double().mean() > 0.999  # float32 may see a tie otherwise
    for (loss, accuracy), step in zip(names["log"], runs.moons().run, strict=True):
        assert loss == pytest.approx(step.loss, rel=1e-9)
        assert accuracy == step.metrics["test_accuracy"]


# The numbers


def test_the_example_by_hand():
    """A (0, 0), B (3, 0), C (0, 3), D (6, 7), E (8, 7), F (7, 10); worked on paper."""
    run = facts.six_run()
    assert [step.labels.tolist() for step in run] == [[0, 1, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1]]
    assert [step.centers.tolist() for step in run] == [
        [[0, 0], [3, 0]],
        [[0, 1.5], [6, 6]],
        [[1, 1], [7, 8]],
    ]
    assert [step.loss for step in run] == [
        0 + 0 + 9 + 58 + 74 + 116,
        2.25 + 11.25 + 2.25 + 1 + 5 + 17,
        2 + 5 + 5 + 2 + 2 + 4,
    ]


def test_the_two_points_by_hand():
    """Errors 0 and -1 at x = 0 and 2: the gradient is the mean of 2 r (x, 1)."""
    two = facts._two_points()
    assert (two["grad_w"], two["grad_b"]) == (-2, -1)
    assert two["loss_0"] == 0.5
    assert two["loss_1"] == pytest.approx((0.1**2 + 0.5**2) / 2)


def test_the_chance_of_a_repeated_row():
    """As many ordered draws of 10 different rows as there are, of all draws."""
    different = math.perm(10_000, 10) / 10_000**10
    assert facts._repeat()["one"] == pytest.approx(1 - different)


def test_a_repeated_start_ends_in_nan_with_plain_torch_too():
    """The story that the text tells, on the first 500 pictures and by the naive loop."""
    from stepfit import datasets

    images, _ = datasets.mnist()
    x = images[:500].double()
    centers = x[:10].clone()
    centers[1] = centers[0]
    lost = []
    for _ in range(3):
        labels = torch.cdist(x, centers).argmin(dim=1)
        centers = torch.stack([x[labels == j].mean(dim=0) for j in range(10)])
        lost.append(int(centers.isnan().any(dim=1).sum()))
    assert lost == [1, 9, 9]


def test_far_points_hurt_linear_regression_and_not_logistic():
    data = facts.with_outliers()
    assert len(data.x_train) == 620
    assert len(data.x_test) == 400
    linear, logistic = (
        [facts.trained(name, lr, 1000, outliers=far).last.metrics["test_accuracy"] for far in (False, True)]
        for name, lr in (("linear", 0.1), ("logistic", 1.0))
    )
    assert linear[1] < linear[0] - 0.05
    assert abs(logistic[1] - logistic[0]) < 0.01


def test_a_stuck_run_is_complete_and_worse():
    run = facts.stuck_run()
    assert run.stop.name == "CONVERGED"
    assert run.last.loss > 1.3 * 1857


# The builder


def html(text, **figures):
    return to_html(text, run=lambda code: "", figures=figures)[0]


def test_directives_become_boxes_and_details():
    shown = html(":::{exercise} Guess & tell\nWhat is $x^2$?\n:::\n\n:::{solution}\n**That.**\n:::\n")
    assert '<div class="box exercise"><p class="title">Guess &amp; tell</p>' in shown
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in shown
    assert '<details class="solution"><summary>Solution</summary><div><p><strong>That.</strong></p>' in shown


def test_a_player_has_its_caption():
    shown = html(":::{player} wall\nTen *centers*.\n:::", player=lambda name: f"[{name}]")
    assert shown == '<figure class="player">[wall]<figcaption><p>Ten <em>centers</em>.</p>\n</figcaption></figure>'


def test_an_unknown_directive_is_refused():
    with pytest.raises(ValueError, match=r":::\{exersise\} Guess' is no directive of this page"):
        html(":::{exersise} Guess\ntext\n:::\n")


def test_what_code_prints_stands_under_it():
    shown, _ = to_html("```python\nprint(1 < 2)\n```", run=lambda code: "a < b\n", figures={})
    assert "1 &lt; " not in shown  # the number is an element of its own
    assert '<span class="m">1</span> &lt; <span class="m">2</span>' in shown
    assert '<div class="output"><p>Output</p><pre><samp>a &lt; b</samp></pre></div>' in shown


def test_comments_beside_code_stand_in_a_column():
    shown, _ = to_html("```python\na = b  # (1,)\nabc = b  # (2,)\n# alone\n```", run=lambda code: "", figures={})
    assert re.sub("<.*?>", "", shown) == "a = b    # (1,)\nabc = b  # (2,)\n# alone"


def test_code_blocks_share_their_names():
    run = build.runner()
    assert run("a = 2\n") == ""
    assert run("print(a + 1)\n") == "3\n"


def test_numbers_are_put_in_with_their_format():
    assert fill("{{ a.b | .2f }} and {{ c }}", {"a.b": -1.005, "c": "x - y"}) == "−1.00 and x - y"


def test_a_number_that_is_not_measured_is_refused():
    with pytest.raises(ValueError, match=r"lesson\.md asks for a\.b, which facts\.py does not measure"):
        fill("{{ a.b }}", {})


def test_a_number_that_is_not_used_is_refused():
    with pytest.raises(ValueError, match=r"lesson\.md does not use a, b: take them out of facts\.py"):
        fill("text", {"a": 1, "b": 2})


def changed(page, change):
    """Give the page with its packed part changed."""
    packed = unpack(page)
    change(packed)
    return build.PACKED.sub(pack(packed), page)


def test_pages_are_the_same_when_the_last_digit_of_a_trace_differs(built):
    def last_digit(packed):
        losses = packed["traces"]["moons"]["losses"]
        losses[5] = math.nextafter(losses[5], 2)
        packed["traces"]["moons"]["id"] = "another hash"

    assert same(built, changed(built, last_digit))


def brighter(data):
    """Give the packed arrays of a wall with one pixel three grays brighter."""
    values = bytearray(zlib.decompress(base64.b64decode(data)))
    values[400] += 3
    return base64.b64encode(zlib.compress(bytes(values))).decode()


@pytest.mark.parametrize(
    "change",
    [
        lambda packed: packed["traces"]["moons"]["losses"].__setitem__(5, 0.3),
        lambda packed: packed["traces"]["plane"]["losses"].pop(),
        lambda packed: packed["traces"]["plane"].update(alt="k-means"),
        lambda packed: packed["traces"]["wall"].update(data=brighter(packed["traces"]["wall"]["data"])),
        lambda packed: packed.update(player="alert(1)"),
        lambda packed: packed["traces"].pop("wall"),
    ],
    ids=["loss", "fewer steps", "words", "arrays", "player", "no wall"],
)
def test_pages_differ_when_a_trace_does(built, change):
    assert not same(built, changed(built, change))


def test_pages_differ_when_a_word_does(built):
    assert not same(built, built.replace("Six points, by hand", "Six points", 1))


def test_a_panel_keeps_equal_units():
    panel = drawings.Panel((0, 0, 4, 2), 200)
    assert panel.height == 100
    assert panel.at((1, 2)) == (50, 0)
    assert panel.at((4, 0)) == (200, 100)


def test_a_group_is_one_path_of_short_ways():
    panel = drawings.Panel((0, 0, 10, 10), 10)
    panel.points(torch.tensor([[3.0, 9.0], [1.0, 10.0]]), 2, 4)
    assert panel.parts == ['<path class="s2" stroke-width="4" stroke-linecap="round" d="m1 0h0m2 1h0"/>']
    panel.points(torch.tensor([[3.0, 9.0], [1.0, 10.0]]), 2, 4, square=True)
    assert 'd="m1 0h4m-2 1h4"' in panel.parts[1]


def test_the_trace_of_the_page_is_plain_json(built):
    json.dumps(unpack(built)["traces"], allow_nan=False)
