"""The topic k-means on MNIST: ten centers are not ten digits."""

from __future__ import annotations

from typing import Any

import streamlit as st
import torch

from stepfit.lesson.lab import parts
from stepfit.lesson.lab.address import Address
from stepfit.lesson.lab.snippet import run_of
from stepfit.viewers.trace import trace

TITLE = "k-means on MNIST"
PROMISE = (
    "The same two moves on **10,000 handwritten digits**, each a point with 784 numbers. A center is now a mean of "
    "images and can be looked at. Nobody tells k-means what a digit is: what will it find?"
)
DATA = """from stepfit import datasets, lloyd, record

x, digits = datasets.mnist()  # (10000, 784) uint8, (10000,)
"""
PRINTS = """

for step in run:
    print(f"{step.index:3d}  inertia {step.inertia:10.0f}  changed {step.changed}")
print(run.stop.value)
"""
SHOWN = 8  # images on each side of a center
DIGITS = 10


def show() -> None:
    """Draw the topic."""
    address = Address("mnist")
    st.title(TITLE, anchor=False)
    st.write(PROMISE)
    left, right = st.columns(2)
    with left:
        k = address.slider("k", "How many centers, k", 2, 30, 10)
    with right:
        steps = address.slider("steps", "At most this many steps", 1, 100, 20)
    left, right = st.columns(2, vertical_alignment="bottom")
    with left:
        start = address.choice("start", "First centers", ["random", "k-means++", "farthest"])
    with right.popover("More settings", icon=":material/tune:"):
        seed = address.number("seed", "Seed: which random start", 0, 9999, 0)
    fit = f'run = record(lloyd(x, k={k}, start="{start}", seed={seed}, max_steps={steps}))'
    play = _names(fit)["play"]
    parts.begin_at("mnist", play, address.step(len(play["index"])))
    address.say_misfits()
    _experiment(fit, address)


def _names(fit: str) -> dict[str, Any]:
    return run_of(DATA, fit, None, lambda names: {"play": trace(names["run"], names["x"], names["digits"])})


@st.fragment
def _experiment(fit: str, address: Address) -> None:
    """Predict, run, explain, look inside."""
    names = _names(fit)
    run, play = names["run"], names["play"]
    step = parts.shown_step("mnist", play)
    table = digits_by_center(run.last.labels, names["digits"], len(run.last.centers))
    st.header("1 · Predict", anchor=False)
    guess = _predict(play, len(table), step)
    st.header("2 · Run", anchor=False)
    parts.player("mnist", play)
    parts.row(
        "k-means-mnist",
        address.link(step=step),
        DATA + "\n" + fit + PRINTS,
        run,
        names["x"],
        names["digits"],
        _table(run),
    )
    st.header("3 · Explain", anchor=False)
    if step < len(run) - 1:
        st.write("Play to the end to see how it comes out." if guess else "Guess first, then play to the end.")
    else:
        _explain(run, table, guess)
    st.header("Look inside a center", anchor=False)
    _look_inside(names)


def _predict(play: dict[str, Any], k: int, step: int) -> int | None:
    """Ask how many digits will have a center; gives the guess once it is locked in."""
    if guess := parts.guess_of("mnist", play):
        parts.say_guess(f"**{guess['own']} of the ten digits** will have a center.", step == len(play["index"]) - 1)
        return guess["own"]
    with st.form("mnist.predict", border=False):
        st.slider(
            f"Name each of the {k} centers after the digit that most of its images show. How many of the ten digits "
            "will have a center?",
            1,
            DIGITS,
            DIGITS,
            key="mnist.own",
        )
        st.form_submit_button("Lock in my guess", on_click=_lock_in, args=(play["id"],))
    return None


def _lock_in(id_: str) -> None:
    st.session_state["mnist.guess"] = {"id": id_, "own": st.session_state["mnist.own"]}


def digits_by_center(labels: torch.Tensor, digits: torch.Tensor, k: int) -> torch.Tensor:
    """Count, for each center and digit, the images; (k, 10)."""
    return torch.bincount(labels.long() * DIGITS + digits, minlength=k * DIGITS).reshape(k, DIGITS)


def _explain(run: Any, table: torch.Tensor, guess: int | None) -> None:
    k, counts, named = len(table), table.sum(1), table.argmax(1)
    own = named[counts > 0].unique()
    lost = [digit for digit in range(DIGITS) if digit not in own]
    purity = table.max(1).values.sum().item() / table.sum().item()
    st.write(
        f"**{len(own)} of the ten digits have a center.** "
        + (f"You said {guess}. " if guess else "")
        + (f"None is named after {_listed(lost)}. " if lost else "")
        + f"**Purity {purity:.1%}**: so many images lie with a center of their own name. One center for all would "
        f"have {table.sum(0).max().item() / table.sum().item():.1%}."
    )
    mixed = int((table.max(1).values / counts.clamp(min=1) + (counts == 0)).argmin())
    first, second = table[mixed].topk(2).indices.tolist()
    st.write(
        f"Why does k = {k} not give the digits? k-means saw no label: it puts images together that have their ink in "
        f"the same places. Center {mixed} holds {table[mixed, first]:,} images of a {first} and "
        f"{table[mixed, second]:,} of a {second}; a digit that is written in two ways takes two centers. More "
        "centers are purer, up to 100% with a center for every image, which would teach nobody anything."
    )
    with st.expander("Every center as a table"):
        st.table(
            [
                {
                    "Center": str(j),
                    "Images": f"{counts[j]:,}",
                    "Mostly": str(int(named[j])),
                    "Share": f"{table[j].max() / counts[j].clamp(min=1):.0%}",
                    "Then": ", ".join(
                        f"{digit} ({table[j, digit]:,})" for digit in table[j].topk(3).indices.tolist()[1:]
                    ),
                }
                for j in range(k)
            ]
        )


def _listed(digits: list[int]) -> str:
    *most, last = [f"a {digit}" for digit in digits]
    return f"{', '.join(most)} or {last}" if most else last


def _look_inside(names: dict[str, Any]) -> None:
    """Show the images nearest to a center and those farthest from it among its own."""
    run, x, digits = names["run"], names["x"], names["digits"]
    k = len(run.last.centers)
    center = st.selectbox("Center, numbered as in the picture", range(k), key="mnist.center")
    mine = (run.last.labels == center).nonzero()[:, 0]
    if not len(mine):
        st.write("This center has no images.")
        return
    distances = (x[mine] - run.last.centers[center]).norm(dim=1)
    order = mine[distances.argsort(stable=True)]
    st.write(f"After the last step, of its {len(mine):,} images:")
    for words, rows in (("nearest", order[:SHOWN]), ("farthest", order[-SHOWN:].flip(0))):
        st.write(f"The **{words}**")
        with st.container(horizontal=True, gap="small"):
            for row in rows:
                away = (x[row] - run.last.centers[center]).norm()
                st.image(
                    x[row].reshape(28, 28).numpy(),
                    width=64,
                    alt=f"a {digits[row]}, {away:.1f} away from center {center}",
                )


def _table(run: Any) -> list[dict[str, Any]]:
    """Return a row a step, for the CSV file."""
    return [
        {"step": step.index, "inertia": step.inertia, "changed": step.changed}
        | {f"images_of_center_{j}": count for j, count in enumerate(step.counts.tolist())}
        for step in run
    ]
