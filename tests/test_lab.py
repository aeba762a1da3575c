"""The lab's logic, run as Streamlit runs it, without a browser: topics, switches, addresses, the code it shows."""

import json
import tomllib
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import torch
from streamlit.testing.v1 import AppTest

from stepfit import Stop, datasets, lloyd, record
from stepfit.lesson.lab import descent, kmeans, mnist, parts

LAB = Path(kmeans.__file__).parent
TOPICS = {"kmeans": kmeans, "mnist": mnist, "descent": descent}


def lab(**address):
    """Open the lab at an address; an exception in it fails the test."""
    app = AppTest.from_file(LAB / "live.py", default_timeout=120)
    for name, value in address.items():
        app.query_params[name] = str(value)
    return rerun(app)


def rerun(app):
    app.run()
    assert not app.exception, app.exception[0].message
    return app


def play(app):
    """The data that the player gets."""
    return json.loads(app.get("bidi_component")[0].proto.json)


def words(app):
    """All that stands on the page, as one text."""
    kinds = (app.markdown, app.title, app.header, app.info, app.warning, app.error, app.caption)
    return "\n".join(element.value for kind in kinds for element in kind)


def link(app):
    assert app.code[0].value.startswith("/?view=live&topic=")  # the test has no host
    return app.code[0].value


def code(app):
    return app.code[1].value


def at_the_end(app, topic):
    """Play to the end."""
    trace = play(app)["trace"]
    app.session_state[f"{topic}.moment"] = {"id": trace["id"], "step": len(trace["index"]) - 1}
    return rerun(app)


# The address


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_opens_by_its_address(topic):
    app = lab(topic=topic)
    assert app.title[0].value == TOPICS[topic].TITLE
    assert not app.warning
    assert play(app)["step"] == 0


def test_without_an_address_the_lab_begins_with_the_plane():
    assert lab().title[0].value == kmeans.TITLE


def test_the_address_reproduces_the_moment():
    app = lab(topic="kmeans", k=6, n=100, seed=7, start="k-means++", data="moons", step=2)
    trace = play(app)["trace"]
    assert (trace["dims"]["k"], trace["dims"]["n"]) == (6, 100)
    assert trace["settings"]["seed"] == 7
    assert trace["settings"]["start"] == "k-means++"
    assert play(app)["step"] == 2
    assert not app.warning


@pytest.mark.parametrize(
    "address",
    [
        {
            "topic": "kmeans",
            "data": "stripes",
            "k": 3,
            "n": 60,
            "start": "farthest",
            "empty": "keep",
            "seed": 4,
            "step": 1,
        },
        {"topic": "kmeans", "start": "by hand", "k": 2, "centers": "1,2;-3.5,4e-3", "added": "9,9"},
        {"topic": "mnist", "k": 3, "start": "k-means++", "seed": 2, "steps": 4, "step": 3},
        {
            "topic": "descent",
            "model": "logistic",
            "data": "toy",
            "lr": 0.5,
            "momentum": 0.9,
            "steps": 30,
            "weights": "2,-1",
        },
        {"topic": "descent", "mistake": "no zero_grad", "step": 9},
    ],
    ids=str,
)
def test_the_link_brings_back_the_same_run_and_step(address):
    app = lab(**address)
    assert not app.warning
    asked = {name: values[0] for name, values in parse_qs(urlsplit(link(app)).query).items()}
    assert asked.pop("view") == "live"
    assert asked.items() >= {name: str(value) for name, value in address.items() if name not in ("centers",)}.items()
    again = lab(**asked)
    assert not again.warning
    assert play(again) == play(app)
    assert link(again) == link(app)


@pytest.mark.parametrize(
    ("name", "value", "used"),
    [
        ("topic", "zzz", "kmeans"),
        ("k", "99", "4"),
        ("k", "0", "4"),
        ("k", "nan", "4"),
        ("n", "abc", "300"),
        ("n", "19", "300"),
        ("seed", "-5", "0"),
        ("seed", "1e99", "0"),
        ("data", "moon", "blobs"),
        ("start", "by-hand", "random"),
        ("empty", "", "farthest"),
        ("step", "-1", "0"),
        ("step", "400", "0"),
        ("step", "1.5", "0"),
        ("centers", "1,2;3", "none"),
        ("added", "nan,1", "none"),
        ("added", "1e300,1", "none"),
        ("centers", "1,2;3,4;5,6;7,inf", "none"),
        ("k", "[x](https://example.org)", "4"),
    ],
)
def test_a_value_that_does_not_fit_falls_back_with_a_word(name, value, used):
    app = lab(**{"topic": "kmeans", "start": "by hand"} | {name: value})
    (warning,) = app.warning
    assert f"`{name}={value}`" in warning.value
    assert warning.value.endswith(f"Used here: {name} = {used}.")


@pytest.mark.parametrize(
    ("topic", "name", "value"),
    [("mnist", "k", "1"), ("mnist", "steps", "0"), ("mnist", "start", "by hand"), ("descent", "lr", "0"),
     ("descent", "lr", "7"), ("descent", "momentum", "1"), ("descent", "steps", "5"), ("descent", "model", "cubic"),
     ("descent", "data", "moons"), ("descent", "mistake", "all"),
     ("descent", "weights", "1"), ("descent", "step", "100")],
)  # fmt: skip
def test_other_topics_say_it_too(topic, name, value):
    (warning,) = lab(topic=topic, **{name: value}).warning
    assert f"`{name}={value}`" in warning.value


def test_the_word_stays_until_a_setting_changes():
    app = lab(k=99)
    assert rerun(app).warning
    app.slider(key="k").set_value(5)
    assert not rerun(app).warning


def test_going_through_the_topics_and_back():
    app = lab(topic="kmeans", k=6)
    for topic in ("mnist", "descent", "kmeans"):
        app.get("button_group")[0].set_value(topic)
        assert rerun(app).title[0].value == TOPICS[topic].TITLE
        assert app.query_params["topic"] == topic
        assert not app.warning


# Every switch


@pytest.mark.parametrize("data", ["blobs", "moons", "circles", "stripes"])
@pytest.mark.parametrize("start", ["random", "k-means++", "farthest", "by hand"])
def test_every_kind_of_points_and_start_runs(data, start):
    app = lab(topic="kmeans", data=data, start=start, n=20, k=8)
    assert play(app)["trace"]["dims"]["k"] == 8
    assert play(app)["trace"]["stop"] == "CONVERGED"


@pytest.mark.parametrize("model", ["linear", "logistic"])
@pytest.mark.parametrize("mistake", descent.MISTAKES)
@pytest.mark.parametrize("lr", [0.01, 3.0])
def test_every_model_and_mistake_runs(model, mistake, lr):
    app = lab(topic="descent", model=model, mistake=mistake, lr=lr, momentum=0.9, data="two circles")
    assert rerun(at_the_end(app, "descent"))


# The code that is shown


def run_of(app):
    names = {}
    exec(code(app), names)
    return names["run"]


@pytest.mark.parametrize("data", ["blobs", "moons", "circles", "stripes"])
@pytest.mark.parametrize("start", ["farthest", "by hand"])
def test_the_code_of_the_plane_gives_the_run_on_show(data, start, capsys):
    app = lab(topic="kmeans", data=data, start=start, n=50, k=3, added="3,4")
    assert [step.loss for step in run_of(app)] == play(app)["trace"]["losses"]
    assert Stop.CONVERGED.value in capsys.readouterr().out


def test_the_code_of_mnist_gives_the_run_on_show(capsys):
    app = lab(topic="mnist", k=4, steps=3)
    assert [step.loss for step in run_of(app)] == play(app)["trace"]["losses"]
    assert Stop.MAX_STEPS.value in capsys.readouterr().out


@pytest.mark.parametrize("model", ["linear", "logistic"])
@pytest.mark.parametrize("mistake", descent.MISTAKES)
def test_the_code_of_descent_gives_the_run_on_show(model, mistake, capsys):
    app = lab(topic="descent", model=model, mistake=mistake, steps=20, lr=0.3)
    assert [step.loss for step in run_of(app)] == play(app)["trace"]["losses"]
    assert capsys.readouterr().out.count("loss") == len(play(app)["trace"]["losses"])


def test_the_code_of_an_own_file_runs_beside_that_file(tmp_path, monkeypatch, capsys):
    app = own_file(b"x,y\n0,0\n0,1\n5,5\n6,5\n", k=2)
    monkeypatch.chdir(tmp_path)
    Path("points.csv").write_bytes(b"x,y\n0,0\n0,1\n5,5\n6,5\n")
    assert [step.loss for step in run_of(app)] == play(app)["trace"]["losses"]
    assert "points.csv" in code(app)
    assert capsys.readouterr().out


# k-means on the plane


def own_file(content, **address):
    app = lab(topic="kmeans", data="csv", **address)
    app.file_uploader(key="file").upload("mine.csv", content, "text/csv")
    return rerun(app)


def test_an_own_file_with_and_without_a_head():
    for content in (
        b"0,0\n0,1\n5,5\n6,5\n",
        b"width,height\n0,0\n0,1\n5,5\n6,5\n",
        b"0,0,9\r\n0,1,9\r\n5,5,9\r\n6,5,9",
    ):
        assert play(own_file(content, k=2))["trace"]["dims"]["n"] == 4


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"0,0\n1,cat\n", "cannot be read"),
        (b"1;2\n3;4\n", "cannot be read"),
        (b"1\n2\n", "cannot be read"),
        (b"", "no rows"),
        (b"x,y\n", "no rows"),
        (b"1,nan\n1,2\n", "not finite"),
        (b"\xff\xfe\n\x00\x01\n", "cannot be read"),
        (b"1,2\n3,4\n", "fewer points than the 4 centers"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_words(content, said):
    app = own_file(content)
    assert said in app.warning[0].value
    assert not app.get("bidi_component")


def moved(app, **edit):
    """What the player sends, as Streamlit hands it on."""
    new = {"id": play(app)["trace"]["id"], "centers": None, "added": [], "start": None} | edit
    app.session_state["kmeans.edit"] = kmeans.edited(app.session_state["kmeans.edit"], new)
    return rerun(app)


def test_a_dragged_center_starts_the_run_from_there():
    app = lab(topic="kmeans", k=2, n=40)
    before = play(app)["trace"]
    app = moved(app, centers=[[0.123456789, 1], [2, 3]], nonce=7)
    after = play(app)["trace"]
    assert after["nonce"] == 7
    assert after["id"] != before["id"]
    x, _ = datasets.blobs(n=40, k=4, seed=51)
    mine = record(lloyd(x, 2, start=[[0.123457, 1], [2, 3]], seed=0, max_steps=100))
    assert after["losses"] == [step.loss for step in mine]
    assert "centers=0.123457,1;2,3" in link(app)
    assert "start=by+hand" in link(app)


def test_a_center_put_out_of_the_world_stays_in_it():
    app = moved(lab(topic="kmeans", k=2, n=40), centers=[[1e300, 0], [2, 3]], nonce=1)
    assert "centers=1e%2B06,0;2,3" in link(app)
    assert play(app)["trace"]["stop"] == "CONVERGED"


def test_points_that_are_added_add_up():
    app = lab(topic="kmeans", k=2, n=40)
    first = play(app)["trace"]["id"]
    app = moved(app, added=[[1, 1]], nonce=1)
    app = moved(app, id=first, added=[[1, 1], [2, 2]], nonce=2)  # made before the answer to the first came
    assert play(app)["trace"]["dims"]["n"] == 42
    app = moved(app, added=[[3, 3]], nonce=3)
    assert play(app)["trace"]["dims"]["n"] == 43
    assert play(app)["trace"]["nonce"] == 3


def test_what_was_moved_is_forgotten_with_its_start_and_kept_with_the_rule():
    app = lab(topic="kmeans", k=2, n=40)
    app = moved(app, centers=[[0, 0], [1000, 0]], nonce=1)
    assert "cluster 1 was empty; its center moved to point" in str(play(app)["trace"]["events"])
    app.get("button_group")[-1].set_value("keep")
    assert "cluster 1 was empty; its center stays" in str(play(rerun(app))["trace"]["events"])
    app.slider(key="k").set_value(3)
    assert play(rerun(app))["trace"]["settings"]["start"] == "random"


def test_an_edit_with_another_number_of_centers_changes_nothing():
    app = lab(topic="kmeans", k=2, n=40)
    before = play(app)["trace"]["id"]
    assert play(moved(app, centers=[[0, 0]], nonce=1))["trace"]["id"] == before


def test_a_guess_is_answered_when_the_player_gets_there():
    app = lab(topic="kmeans", n=100)
    changed = play(app)["trace"]["changed"][1]
    app.number_input[-1].set_value(changed)
    app.radio[0].set_value("yes")
    app.button[0].click()
    rerun(app)
    assert f"**{changed} points** will change" in words(app)
    assert "Exactly right" not in words(app)
    at_the_end(app, "kmeans")
    assert "Exactly right" in words(app)
    assert "It came out the other way." in words(app)  # seed 0 is an unlucky start
    assert "local minimum" in words(app)


def test_a_lucky_start_finds_the_groups_and_the_moons_are_never_found():
    assert "It found the groups: 100%" in words(at_the_end(lab(topic="kmeans", start="k-means++"), "kmeans"))
    assert "no straight line parts the moons" in words(at_the_end(lab(topic="kmeans", data="moons", k=2), "kmeans"))
    assert "asked for 3 and see 2" in words(at_the_end(lab(topic="kmeans", data="circles", k=3), "kmeans"))


def test_nan_is_told_in_words():
    app = lab(topic="kmeans", k=2, n=40, start="by hand", centers="0,0;1000,0", empty="nan")
    assert play(app)["trace"]["losses"][-1] is None
    assert "not a number any more" in words(at_the_end(app, "kmeans"))


def test_a_hundred_starts_and_the_worst_of_them():
    app = lab(topic="kmeans", n=60)
    (button,) = [button for button in app.button if button.label == "Re-roll 100 starts"]
    button.click()
    rerun(app)
    x, _ = datasets.blobs(n=60, k=4, seed=51)
    ends = [record(lloyd(x, 4, start="random", seed=seed)).last.inertia for seed in range(100)]
    assert f"{sum(end <= 1.01 * min(ends) for end in ends)} of 100 starts" in words(app)
    (worst,) = [button for button in app.button if "worst" in button.label]
    worst.click()
    rerun(app)
    assert ends[app.number_input(key="seed").value] == max(ends)
    assert play(app)["trace"]["losses"][-1] == max(ends)


# k-means on MNIST


def test_purity_and_the_lost_digits_are_counted_right():
    app = at_the_end(lab(topic="mnist", k=5, steps=6), "mnist")
    images, digits = datasets.mnist()
    labels = record(lloyd(images, 5, start="random", seed=0, max_steps=6)).last.labels
    named = [torch.bincount(digits[labels == j], minlength=10).argmax().item() for j in range(5)]
    pure = sum((digits[labels == j] == named[j]).sum().item() for j in range(5)) / 10_000
    assert f"Purity {pure:.1%}" in words(app)
    assert f"{len(set(named))} of the ten digits have a center" in words(app)


def test_the_images_of_a_center_say_what_they_show():
    app = lab(topic="mnist", k=3, steps=3)
    images, digits = datasets.mnist()
    x = images.float()
    run = record(lloyd(images, 3, start="random", seed=0, max_steps=3))
    app.selectbox(key="mnist.center").set_value(1)
    rerun(app)
    mine = (run.last.labels == 1).nonzero()[:, 0]
    away = (x[mine] - run.last.centers[1]).norm(dim=1)
    alts = [image.proto.imgs[0].alt for image in app.get("image")]
    near, far = alts[: mnist.SHOWN], alts[mnist.SHOWN :]
    assert near[0] == f"a {digits[mine[away.argmin()]]}, {away.min():.1f} away from center 1"
    assert far[0] == f"a {digits[mine[away.argmax()]]}, {away.max():.1f} away from center 1"
    assert len(near) == len(far) == mnist.SHOWN


# Gradient descent


def test_the_limit_is_shown_after_the_guess_and_not_before():
    app = lab(topic="descent", lr=0.64)
    x, y = datasets.two_moons()[0], datasets.two_moons()[2]
    ones = torch.cat([x, torch.ones(len(x), 1)], 1)
    limit = f"{2 / torch.linalg.eigvalsh(2 * ones.T @ ones / len(x)).max().item():.4f}"
    assert y.shape == (600, 1)
    assert play(app)["trace"]["lr_limit"] is None
    assert limit not in words(app)
    app.button[0].click()
    rerun(app)
    assert limit not in words(app)
    at_the_end(app, "descent")
    assert f"**The limit is 2/λ = {limit}**" in words(app)
    assert f"limit {limit}" in str(app.get("html")[0].proto)


def test_divergence_says_why_and_what_to_try():
    app = at_the_end(lab(topic="descent", lr=1.5), "descent")
    assert play(app)["trace"]["stop"] == "DIVERGED"
    assert "Diverged after" in app.error[0].value
    assert "Try a smaller learning rate, under 0." in app.error[0].value


def test_a_little_over_the_limit_takes_longer_to_explode():
    app = at_the_end(lab(topic="descent", data="two circles", lr=1.0), "descent")
    assert "Your 1 is over it, so more steps will make it explode." in words(app)
    app = at_the_end(lab(topic="descent", data="two circles", lr=0.99), "descent")
    assert "Your 0.99 is under it." in words(app)


def test_without_zero_grad_the_loss_has_waves():
    losses = play(lab(topic="descent", mistake="no zero_grad"))["trace"]["losses"]
    assert sum(after > before for before, after in pairwise(losses)) > 20
    right = play(lab(topic="descent"))["trace"]["losses"]
    assert all(after <= before for before, after in pairwise(right))


def test_a_wrong_threshold_spoils_the_accuracy_alone():
    wrong, right = (play(lab(topic="descent", mistake=mistake))["trace"] for mistake in ("wrong threshold", "none"))
    assert wrong["losses"] == right["losses"]
    assert (wrong["threshold"], right["threshold"]) == (0.0, 0.5)
    assert wrong["metrics"]["test_accuracy"][-1] < right["metrics"]["test_accuracy"][-1] - 0.1
    assert any("> 0)" in line for line, *_ in wrong["code"])


def test_swapped_arguments_send_the_cross_entropy_below_zero():
    wrong = play(lab(topic="descent", mistake="swapped arguments", model="logistic"))["trace"]
    assert wrong["losses"][-1] < 0
    assert any("loss_fn(y, output)" in line for line, *_ in wrong["code"])
    wrong, right = (play(lab(topic="descent", mistake=mistake))["trace"] for mistake in ("swapped arguments", "none"))
    assert wrong["losses"] == pytest.approx(right["losses"])


def test_the_browser_does_not_answer_for_a_run_with_a_mistake():
    for mistake in descent.MISTAKES:
        assert play(lab(topic="descent", mistake=mistake))["trace"]["twin"] == (mistake == "none")


def test_a_click_on_the_surface_starts_from_there():
    app = lab(topic="descent")
    app.session_state["descent.edit"] = descent.Edit([0.25, -2.0], 3)
    rerun(app)
    assert "start=([[0.25, -2.0]], [0.0])" in code(app)
    assert play(app)["trace"]["nonce"] == 3
    assert "weights=0.25,-2" in link(app)


# Files


@pytest.fixture(scope="module")
def small():
    x, _ = datasets.blobs(n=20, k=2)
    return record(lloyd(x, 2, seed=0, max_steps=3)), x


def test_the_downloads_are_what_they_are_called(small):
    run, x = small
    assert parts.film("k", ".gif", run, x, None).startswith(b"GIF89a")
    assert parts.picture(run, x, None).startswith(b"\x89PNG")
    head, *rows = parts.table(kmeans.steps_table(run)).decode().splitlines()
    assert head == "step,inertia,changed,center_0_x,center_0_y,center_1_x,center_1_y"
    assert len(rows) == len(run)
    assert float(rows[-1].split(",")[1]) == run.last.inertia


def test_the_film_is_an_mp4(small):
    pytest.importorskip("imageio_ffmpeg", reason="needs the extra: pip install 'stepfit[video]'")
    assert parts.film("k", ".mp4", *small, None)[4:8] == b"ftyp"


# How it is put together


def test_streamlit_finds_the_one_copy_of_the_player():
    from streamlit.components.v2.manifest_scanner import scan_component_manifests

    (found,) = [(manifest, root) for manifest, root in scan_component_manifests() if manifest.name == "stepfit"]
    (component,) = found[0].components
    assert (component.resolve_asset_root(found[1]) / "player.js").samefile(LAB.parents[1] / "viewers" / "player.js")


def test_the_module_does_not_travel_with_the_data():
    proto = lab().get("bidi_component")[0].proto
    assert proto.js_source_path
    assert not proto.js_content


def light(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts))


def contrast(a, b):
    high, low = sorted((light(a), light(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_can_be_read(scheme):
    config = tomllib.loads((LAB / ".streamlit" / "config.toml").read_text())
    theme = config["theme"][scheme]
    for text in ("textColor", "primaryColor", "linkColor"):
        for ground in ("backgroundColor", "secondaryBackgroundColor"):
            assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
    assert config["browser"]["gatherUsageStats"] is False
    assert config["runner"]["postScriptGC"] is False
