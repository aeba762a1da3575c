"""The topic k-means on the plane: when do the centers find the groups, and when can they not?"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import altair
import streamlit as st
import torch

from stepfit.clustering.lloyd import lloyd
from stepfit.lesson.lab import parts
from stepfit.lesson.lab.address import Address, text_of, tidy
from stepfit.lesson.lab.snippet import UPLOAD, data_of, run_of
from stepfit.recording import record
from stepfit.viewers.trace import trace

TITLE = "k-means on the plane"
PROMISE = (
    "Two moves, again and again: every point joins its **nearest center**, then every center moves to the **mean** "
    "of its points. Find out when that finds the groups that you see, and when it cannot."
)
MAX_POINTS = 1000  # more would slow the player down on a phone
STARTS = 100
BARS = 30
PRINTS = """

for step in run:
    print(f"{step.index:3d}  inertia {step.inertia:10.1f}  changed {step.changed}")
print(run.stop.value)
"""
EMPTY_RULES = (
    "A center that no point is nearest to has no mean. **farthest** moves it to the point farthest from its own "
    "center, **keep** leaves it where it is, **nan** divides 0 by 0, as plain code does. To see it, drag a center "
    "far away."
)


class Source(NamedTuple):
    """A data set: the lines that make x and groups, how many groups a person sees, and what k-means makes of them."""

    code: str
    groups: int
    why: str


SOURCES = {
    "blobs": Source(
        "x, groups = datasets.blobs(n={n}, k=4, seed=51)",
        4,
        "These groups are round, alike and well apart: just what k-means looks for.",
    ),
    "moons": Source(
        "data = datasets.two_moons()\n"
        "x = torch.cat([data.x_train, data.x_test])[:{n}]\n"
        "groups = torch.cat([data.y_train, data.y_test])[:{n}, 0]",
        2,
        "The border between two centers is a straight line, and no straight line parts the moons. No start can help.",
    ),
    "circles": Source(
        "data = datasets.two_circles()\n"
        "x = torch.cat([data.x_train, data.x_test])[:{n}]\n"
        "groups = torch.cat([data.y_train, data.y_test])[:{n}, 0]",
        2,
        "Both rings have the same mean, and a center is a mean. So k-means cuts the disc into slices, like a cake.",
    ),
    "stripes": Source(
        "random = torch.Generator().manual_seed(0)\n"
        "groups = torch.arange({n}) % 3\n"
        "along, across = torch.rand({n}, generator=random), torch.randn({n}, generator=random)\n"
        "x = torch.stack([8 * along, groups + 0.15 * across], dim=1)",
        3,
        "The stripes are longer than the gaps between them, so cutting them across saves more squared distance than "
        "keeping them whole; and squared distance is all that k-means knows.",
    ),
    "csv": Source(
        f'rows = numpy.loadtxt("{UPLOAD}", delimiter=",", skiprows={{skip:d}}, usecols=(0, 1), ndmin=2)\n'
        f"x = torch.tensor(rows)[:{MAX_POINTS}]",
        0,
        "",
    ),
}


class Setup(NamedTuple):
    """What a run begins from. What a visitor moves by hand belongs to one setup and is forgotten with it."""

    data: str
    code: str
    upload: bytes | None
    k: int
    start: str
    seed: int


class Edit(NamedTuple):
    """What the visitor moved: centers (None: the start places them) and points added."""

    setup: Setup
    centers: list[list[float]] | None
    added: list[list[float]]
    nonce: int = 0
    of: str = ""  # the trace in which it was moved, with `kept` points added before
    kept: int = 0


def show() -> None:
    """Draw the topic."""
    address = Address("kmeans")
    st.title(TITLE, anchor=False)
    st.write(PROMISE)
    left, right = st.columns(2, vertical_alignment="bottom")
    with left:
        data = address.choice("data", "Points", list(SOURCES))
    with right:
        k = address.slider("k", "How many centers, k", 1, 8, 4)
    left, right = st.columns(2, vertical_alignment="bottom")
    with left:
        start = address.choice("start", "First centers", ["random", "k-means++", "farthest", "by hand"])
    with right.popover("More settings", icon=":material/tune:"):
        n = address.slider("n", "How many points, n", 20, MAX_POINTS, 300, disabled=data == "csv")
        seed = address.number("seed", "Seed: which random start", 0, 9999, 0)
        empty = address.choice("empty", "A center without points", ["farthest", "keep", "nan"], help=EMPTY_RULES)
    upload = _ask_for_file() if data == "csv" else None
    if data == "csv" and upload is None:
        address.say_misfits()
        return
    setup = Setup(data, _data_code(data, n, upload), upload, k, start, seed)
    if len(data_of(setup.code, upload)["x"]) < k:
        st.warning(
            f"The file has fewer points than the {k} centers asked for; each center begins at a point of its own."
        )
        address.say_misfits()
        return
    edit = st.session_state.get("kmeans.edit")
    if edit is None:  # the first run: an address may bring what somebody moved
        placed = address.rows("centers", k, 2) if start == "by hand" else None
        st.session_state["kmeans.edit"] = Edit(setup, placed, address.rows("added", None, 2) or [])
    elif edit.setup != setup:
        st.session_state["kmeans.edit"] = Edit(setup, None, [], edit.nonce)
    play = _names(empty)["play"]
    parts.begin_at("kmeans", play, address.step(len(play["index"])))
    address.say_misfits()
    _experiment(empty, address)
    if start in ("random", "k-means++"):
        _luck(setup, empty)


def _ask_for_file() -> bytes | None:
    """Ask for a CSV file; None until there is one that can be read."""
    file = st.file_uploader(
        f"A CSV file with numbers in its first two columns; the first {MAX_POINTS:,} rows are used", "csv", key="file"
    )
    if file is None:
        return None
    upload = file.getvalue()
    if not b"".join(upload.split(b"\n")[_names_columns(upload) :]).strip():
        st.warning(f"{file.name} has no rows; every point needs one with two numbers.")
        return None
    try:
        x = data_of(_data_code("csv", 0, upload), upload)["x"]
    except ValueError as error:
        st.warning(f"{file.name} cannot be read as numbers with commas between them: {error}")
        return None
    if not x.isfinite().all():
        row = (~x.isfinite()).any(1).nonzero()[0].item()
        st.warning(f"{file.name} has a value that is not finite in the row of point {row}; every value must be.")
        return None
    return upload


def _data_code(data: str, n: int, upload: bytes | None) -> str:
    numpy = "import numpy\n" if data == "csv" else ""
    lines = SOURCES[data].code.format(n=n, skip=0 if upload is None else _names_columns(upload))
    return f"{numpy}import torch\n\nfrom stepfit import datasets, lloyd, record\n\n{lines}\n"


def _names_columns(upload: bytes) -> bool:
    """Tell whether the first line of the file is words, not numbers."""
    try:
        float(upload.split(b"\n")[0].split(b",")[0])
    except ValueError:
        return True
    return False


def _fit_code(edit: Edit, empty: str) -> str:
    setup, lines, start = edit.setup, [], "start"
    if edit.added:
        lines.append(f"x = torch.cat([x, torch.tensor({edit.added})])  # put in by hand")
    if edit.centers is not None:
        lines.append(f"start = torch.tensor({edit.centers})  # put there by hand")
    elif setup.start == "by hand":
        lines.append("low, high = x.min(0).values, x.max(0).values")
        lines.append(f"start = low + torch.linspace(0, 1, {setup.k})[:, None] * (high - low)  # along the diagonal")
    else:
        start = f'"{setup.start}"'
    lines.append(
        f'run = record(lloyd(x, k={setup.k}, start={start}, seed={setup.seed}, max_steps=100, empty="{empty}"))'
    )
    return "\n".join(lines)


def _names(empty: str) -> dict[str, Any]:
    """Run what is on show; gives x, run and play (the trace), and groups where the data has them."""
    edit = st.session_state["kmeans.edit"]
    return run_of(
        edit.setup.code,
        _fit_code(edit, empty),
        edit.setup.upload,
        lambda names: {"play": trace(names["run"], names["x"])},
    )


@st.fragment
def _experiment(empty: str, address: Address) -> None:
    """Predict, run, explain. A fragment, so that what is done in the player reruns no more than this."""
    names, edit = _names(empty), st.session_state["kmeans.edit"]
    play, step = names["play"] | {"nonce": edit.nonce}, parts.shown_step("kmeans", names["play"])
    st.header("1 · Predict", anchor=False)
    guess = _predict(names, step)
    st.header("2 · Run", anchor=False)
    parts.player("kmeans", play, _take_edit)
    moved = {name: text_of(rows) for name, rows in (("centers", edit.centers), ("added", edit.added)) if rows}
    by_hand = {"start": "by hand"} if edit.centers else {}
    parts.row(
        "k-means",
        address.link(**by_hand, **moved, step=step),
        edit.setup.code + _fit_code(edit, empty) + PRINTS,
        names["run"],
        names["x"],
        None,
        steps_table(names["run"]),
    )
    if edit.centers or edit.added:
        st.button("Undo what I moved", icon=":material/undo:", on_click=_forget_edit)
    st.header("3 · Explain", anchor=False)
    _explain(names, step, guess)


def _take_edit(new: dict[str, Any]) -> None:
    st.session_state["kmeans.edit"] = edited(st.session_state["kmeans.edit"], new)


def edited(edit: Edit, new: dict[str, Any]) -> Edit:
    """Return what is moved after the player has sent one more edit."""
    centers, added = (tidy(new[name] or []) for name in ("centers", "added"))
    if centers and len(centers) != edit.setup.k:
        return edit._replace(nonce=new["nonce"])  # late, from a run that is gone
    # The player names all points added since its trace: in a second edit of the same trace, those of the first again.
    kept = edit.kept if new["id"] == edit.of else len(edit.added)
    return edit._replace(
        centers=centers or edit.centers, added=edit.added[:kept] + added, nonce=new["nonce"], of=new["id"], kept=kept
    )


def _forget_edit() -> None:
    parts.forget("centers", "added")
    edit = st.session_state["kmeans.edit"]
    st.session_state["kmeans.edit"] = Edit(edit.setup, None, [], edit.nonce)


def _predict(names: dict[str, Any], step: int) -> dict[str, Any] | None:
    """Ask for a guess about the next step and the end; gives it once it is locked in."""
    run, source = names["run"], SOURCES[st.session_state["kmeans.edit"].setup.data]
    if guess := parts.guess_of("kmeans", names["play"]):
        ends = {"yes": " And it will find the groups.", "no": " And it will not find the groups.", None: ""}[
            guess["find"]
        ]
        parts.say_guess(
            f"in step {guess['step']} **{guess['changed']} points** will change their center.{ends}",
            step >= guess["step"],
        )
        return guess
    if step + 1 >= len(run):
        st.write("This run has ended: nothing is left to guess. Go back in the player, or choose other settings above.")
        return None
    n = len(names["x"])
    with st.form("kmeans.predict", border=False):
        left, right = st.columns(2)
        left.number_input(
            f"How many of the {n} points will change their center in step {step + 1}?",
            0,
            n,
            n // 4,
            key="kmeans.changed",
        )
        if source.groups:
            right.radio(
                f"Will it end with the {source.groups} groups that you see?",
                ["yes", "no"],
                horizontal=True,
                key="kmeans.find",
            )
        st.form_submit_button("Lock in my guess", on_click=_lock_in, args=(names["play"]["id"], step + 1))
    return None


def _lock_in(id_: str, step: int) -> None:
    changed, find = st.session_state["kmeans.changed"], st.session_state.get("kmeans.find")
    st.session_state["kmeans.guess"] = {"id": id_, "step": step, "changed": changed, "find": find}


def _explain(names: dict[str, Any], step: int, guess: dict[str, Any] | None) -> None:
    """Say how the guess went and what happened, as far as the player has shown it."""
    run, setup = names["run"], st.session_state["kmeans.edit"].setup
    last = len(run) - 1
    if guess and step >= guess["step"]:
        changed = run[guess["step"]].changed
        off = abs(changed - guess["changed"])
        close = "Exactly right." if off == 0 else "Close!" if off <= 0.05 * len(names["x"]) else f"Off by {off}."
        st.write(
            f"**In step {guess['step']}, {changed} points changed their center.** You said {guess['changed']}. {close}"
        )
    if step < last:
        st.write("Play to the end to see how it comes out." if guess else "Guess first, then play to the end.")
        return
    st.write(_ending(run))
    if "groups" in names:
        found, words = _compare(run, names["groups"], setup)
        if guess and guess["find"]:
            words = ("You were right. " if (guess["find"] == "yes") == found else "It came out the other way. ") + words
        st.write(words)
    for at in run:
        for event in at.events:
            st.write(f"- Step {at.index}: {event}.")


def _ending(run: Any) -> str:
    first, final = run[0].inertia, run.last.inertia
    if math.isnan(final):
        return (
            "**The inertia is not a number any more.** A center without points became 0/0, and NaN counts as nearest "
            "to everything: it takes all points. Choose another rule for such a center, under More settings."
        )
    return (
        f"**The run took {len(run)} steps.** The inertia, the sum of squared distances, fell from {first:,.1f} to "
        f"{final:,.1f}. It can only fall, and there are finitely many ways to share out the points, so every run ends."
    )


def _compare(run: Any, groups: torch.Tensor, setup: Setup) -> tuple[bool, str]:
    """Tell whether each group has a center of its own, and in words why or why not."""
    source, k = SOURCES[setup.data], setup.k
    table = torch.zeros(k, source.groups, dtype=torch.int64)
    labels = run.last.labels[: len(groups)].long()
    table.index_put_((labels, groups), torch.ones(len(groups), dtype=torch.int64), accumulate=True)
    share = table.max(1).values.sum().item() / len(groups)
    if k != source.groups:
        return False, (
            f"You asked for {k} and see {source.groups} groups. k-means always makes exactly k clusters: the number "
            "is yours to choose, it does not come out of the data."
        )
    if share >= 0.97 and len(table.argmax(1).unique()) == k:
        return True, f"It found the groups: {share:.0%} of the points are with their own. {source.why}"
    if setup.data == "blobs":
        return False, (
            "It missed them: two centers share one group, and another one stands between two groups. Each is at the "
            "mean of its points, so none has a reason to leave: a **local minimum**. Only another start helps."
        )
    return False, f"It missed them. {source.why}"


def steps_table(run: Any) -> list[dict[str, Any]]:
    """Return a row a step, for the CSV file."""
    return [
        {"step": step.index, "inertia": step.inertia, "changed": step.changed}
        | {
            f"center_{j}_{axis}": float(step.centers[j, t])
            for j in range(len(step.centers))
            for t, axis in enumerate("xy")
        }
        for step in run
    ]


def _luck(setup: Setup, empty: str) -> None:
    """Re-roll the start 100 times: how much was luck?"""
    st.header("Was it luck?", anchor=False)
    st.write(f"The start is drawn at random. Draw it {STARTS} times on the same points and look at where the runs end.")
    of = (setup._replace(seed=0), empty)
    if st.button(f"Re-roll {STARTS} starts", icon=":material/casino:"):
        st.session_state["kmeans.luck"] = of
    if st.session_state.get("kmeans.luck") != of:
        return
    ends = _ends(setup.code, setup.k, setup.start, empty, setup.upload)
    if not ends:
        st.write("Every run ended with centers that are not numbers: choose another rule for a center without points.")
        return
    best, worst = min(ends, key=ends.get), max(ends, key=ends.get)
    near = sum(end <= 1.01 * ends[best] for end in ends.values())
    _bars(ends, f"Histogram of the final inertia of {STARTS} starts, from {ends[best]:,.0f} to {ends[worst]:,.0f}.")
    st.write(
        f"**{near} of {STARTS} starts end within 1% of the lowest inertia.** So run k-means several times and keep "
        "the best, or start with k-means++, which spreads the first centers. Click a bar to see a start in it, or:"
    )
    left, right = st.columns(2)
    left.button(f"See the best start (seed {best})", on_click=_see, args=(best,), width="stretch")
    right.button(f"See the worst start (seed {worst})", on_click=_see, args=(worst,), width="stretch")


def _see(seed: int) -> None:
    st.session_state["seed"] = seed


def _bars(ends: dict[int, float], alt: str) -> None:
    """Draw the histogram; a click on a bar shows the first start in it."""
    low, width = min(ends.values()), (max(ends.values()) - min(ends.values())) / BARS or 1.0
    bars: dict[int, list[int]] = {}
    for seed, end in ends.items():
        bars.setdefault(min(int((end - low) / width), BARS - 1), []).append(seed)
    rows = [
        {"from": low + i * width, "to": low + (i + 1) * width, "starts": len(seeds), "seed": seeds[0]}
        for i, seeds in bars.items()
    ]
    chosen = altair.selection_point("bar", fields=["seed"], on="click", clear=False)
    # The ranges are given, since the rows come to the browser after the chart, which would complain of having none.
    x_range = altair.Scale(domain=[low, low + BARS * width], nice=False)
    y_range = altair.Scale(domain=[0, max(row["starts"] for row in rows)])
    chart = (
        altair.Chart(altair.Data(values=rows), height=180)
        .mark_bar(cursor="pointer")
        .encode(
            altair.X("from:Q", bin="binned", title="inertia at the end", scale=x_range),
            altair.X2("to:Q"),
            altair.Y("starts:Q", title="starts", scale=y_range, stack=None),
            opacity=altair.condition(chosen, altair.value(1), altair.value(0.45)),
            tooltip=["starts:Q", altair.Tooltip("from:Q", title="inertia from", format=",.0f"), "seed:Q"],
        )
        .add_params(chosen)
    )

    def see() -> None:
        picked = st.session_state["kmeans.bars"]["selection"]["bar"]
        if picked:
            _see(int(picked[0]["seed"]))

    st.altair_chart(chart, key="kmeans.bars", on_select=see, selection_mode="bar", alt=alt)


@st.cache_data(max_entries=16, show_spinner=f"Running {STARTS} times …")
def _ends(code: str, k: int, start: str, empty: str, upload: bytes | None) -> dict[int, float]:
    """Return the final inertia by seed; one that is NaN is left out."""
    x = data_of(code, upload)["x"]
    ends = (
        record(lloyd(x, k, start=start, seed=seed, max_steps=100, empty=empty)).last.inertia for seed in range(STARTS)
    )
    return {seed: end for seed, end in enumerate(ends) if math.isfinite(end)}
