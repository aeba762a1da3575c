"""The topic gradient descent: how large may a step be, and what does each mistake look like?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import streamlit as st

from stepfit.descent.linear import THRESHOLDS
from stepfit.lesson.lab import parts
from stepfit.lesson.lab.address import Address, text_of, tidy
from stepfit.lesson.lab.snippet import run_of
from stepfit.recording import Recording
from stepfit.steps import Stop
from stepfit.viewers.trace import trace

TITLE = "Gradient descent"
PROMISE = (
    "A straight line is to part two classes. Each step moves its weights **downhill on the loss**, by the learning "
    "rate times the gradient. Find out how large a step may be, and what each beginner's mistake looks like."
)
DATA = {
    "two moons": "data = datasets.two_moons()",
    "two circles": "data = datasets.two_circles()",
    "toy": "data = datasets.toy_data()",
}
LOW, HIGH = 0.01, 3.0  # of the learning rate
START = [-1.0, 1.0]  # the two weights: a line that looks the wrong way, so that it has to turn
PRINTS = """
for step in run:
    print(f"{step.index:3d}  loss {step.loss:.4f}  test accuracy {step.metrics['test_accuracy']:.3f}")
print(run.stop.value)
"""


RIGHT = """
steps = {model}_regression(
    data.x_train, data.y_train, lr={lr:g}, momentum={momentum:g}, start=([{start}], [0.0]),
    max_steps={steps}, test=(data.x_test, data.y_test),
)
run = record(steps)
"""


class Mistake(NamedTuple):
    """A mistake: the code that makes it, the line of the training loop that it changes, and how to know it."""

    code: str
    line: str
    becomes: str
    symptom: str


MISTAKES = {
    "none": None,
    "no zero_grad": Mistake(
        """
class Forgetful(torch.optim.SGD):
    def zero_grad(self, set_to_none=True):
        pass  # the mistake: the old gradient stays, and backward() adds to it


model = torch.nn.Linear(2, 1, dtype=torch.float64)
model.load_state_dict({{"weight": torch.tensor([{start}]), "bias": torch.zeros(1)}})
optimizer = Forgetful(model.parameters(), lr={lr:g}, momentum={momentum:g})
steps = descend(
    model, torch.nn.{loss}(), optimizer, data.x_train, data.y_train,
    max_steps={steps}, test=(data.x_test, data.y_test),
)
run = record(steps)
""",
        "    optimizer.zero_grad()",
        "    # optimizer.zero_grad() is missing",
        "`backward()` **adds** to the gradient that is there. Uncleared, each step goes along the sum of all gradients "
        "so far: it runs past the bottom and swings back, and the loss has waves.",
    ),
    "wrong threshold": Mistake(
        """
def accuracy(prediction, target):
    predicted = prediction > {wrong:g}  # the mistake: > {right:g} is right
    return (predicted == (target > 0.5)).double().mean()


steps = {model}_regression(
    data.x_train, data.y_train, lr={lr:g}, momentum={momentum:g}, start=([{start}], [0.0]),
    max_steps={steps}, test=(data.x_test, data.y_test), metrics={{"accuracy": accuracy}},
)
run = record(steps)
""",
        "> {right:g})",
        "> {wrong:g})",
        "Only the counting is wrong: the loss falls as ever, and the accuracy does not follow. A linear model on the "
        "targets 0 and 1 predicts 1 above **0.5**, half-way; a logit predicts 1 above **0**, where the sigmoid is 0.5.",
    ),
    "swapped arguments": Mistake(
        """
class Swapped(torch.nn.{loss}):
    def forward(self, prediction, target):
        return super().forward(target, prediction)  # the mistake: the prediction comes first


def accuracy(prediction, target):
    return ((prediction > {right:g}) == (target > 0.5)).double().mean()


model = torch.nn.Linear(2, 1, dtype=torch.float64)
model.load_state_dict({{"weight": torch.tensor([{start}]), "bias": torch.zeros(1)}})
optimizer = torch.optim.SGD(model.parameters(), lr={lr:g}, momentum={momentum:g})
steps = descend(
    model, Swapped(), optimizer, data.x_train, data.y_train,
    max_steps={steps}, test=(data.x_test, data.y_test), metrics={{"accuracy": accuracy}},
)
run = record(steps)
""",
        "loss_fn(output, y)",
        "loss_fn(y, output)",
        "The squared error does not mind which of the two comes first. The cross-entropy does: it takes the targets "
        "for predictions, so the loss goes **below zero** and falls without end. A negative loss gives it away.",
    ),
}


class Setup(NamedTuple):
    """What a run is made of."""

    model: str
    data: str
    lr: float
    momentum: float
    steps: int
    mistake: str


class Edit(NamedTuple):
    """Where the visitor wants to begin: the two weights."""

    start: list[float]
    nonce: int = 0


def show() -> None:
    """Draw the topic."""
    address = Address("descent")
    st.title(TITLE, anchor=False)
    st.write(PROMISE)
    left, right = st.columns(2)
    with left:
        data = address.choice("data", "Points", list(DATA))
        model = address.choice("model", "Model", ["linear", "logistic"])
    with right:
        lr = address.slider("lr", "Learning rate", LOW, HIGH, 0.1, step=0.01)
        _mark_limit(model, data)
        with st.popover("More settings", icon=":material/tune:"):
            momentum = address.slider("momentum", "Momentum", 0.0, 0.99, 0.0, step=0.01)
            steps = address.slider("steps", "Steps", 10, 500, 100, step=10)
    mistake = address.choice("mistake", "A mistake on purpose", list(MISTAKES))
    setup = Setup(model, data, lr, momentum, steps, mistake)
    if "descent.edit" not in st.session_state:
        asked = address.rows("weights", 1, 2)
        st.session_state["descent.edit"] = Edit(asked[0] if asked else START)
    play = _names(setup)["play"]
    parts.begin_at("descent", play, address.step(len(play["index"])))
    address.say_misfits()
    _experiment(setup, address)


def _mark_limit(model: str, data: str) -> None:
    """Mark the limit of the learning rate under the slider, once it was guessed."""
    limit = st.session_state.get("descent.limits", {}).get((model, data))
    if limit:
        place = 100 * (min(limit, HIGH) - LOW) / (HIGH - LOW)
        st.html(
            f'<div style="margin:-1.2rem 0.4rem 0;font-size:0.85rem"><span style="margin-left:{place:.1f}%">▲</span> '
            f"limit {limit:.4f}</div>"
        )


def _code(setup: Setup, start: list[float]) -> tuple[str, str]:
    """Return the lines that make the data, and those that fit."""
    mistake = MISTAKES[setup.mistake]
    fit = (mistake.code if mistake else RIGHT).format(start=start, **setup._asdict(), **_meant(setup))
    needs = "descend" if "descend(" in fit else f"{setup.model}_regression"
    torch = "import torch\n\n" if "torch." in fit else ""
    return f"{torch}from stepfit import datasets, {needs}, record\n\n{DATA[setup.data]}\n", fit


def _meant(setup: Setup) -> dict[str, Any]:
    """Return the loss of the model, the threshold that belongs to it, and the one that does not."""
    loss, other = ("MSELoss", "BCEWithLogitsLoss")[:: 1 if setup.model == "linear" else -1]
    return {"loss": loss, "right": THRESHOLDS[loss], "wrong": THRESHOLDS[other]}


def _names(setup: Setup) -> dict[str, Any]:
    """Run what is on show; gives data, run, play (the trace) and drawn (the run as the pictures take it)."""

    def drawn(names: dict[str, Any]) -> dict[str, Any]:
        # With a mistake too, the path is drawn on the loss that was meant.
        run, data, right = names["run"], names["data"], _meant(setup)
        steps = [replace(step, threshold=right["right"]) for step in run]
        meant = Recording(steps, run.settings | {"loss": right["loss"], "optimizer": "SGD"}, run.stop)
        play = trace(meant, data.x_train, data.y_train, test=(data.x_test, data.y_test))
        return {"drawn": meant, "play": _with_mistake(play, setup) | {"lr_limit": None}}  # the limit is to be guessed

    return run_of(*_code(setup, st.session_state["descent.edit"].start), None, drawn)


def _with_mistake(play: dict[str, Any], setup: Setup) -> dict[str, Any]:
    """Show the mistake in the code beside the picture, and a wrong threshold in the picture."""
    mistake, meant = MISTAKES[setup.mistake], _meant(setup)
    if mistake is None:
        return play
    line, becomes = mistake.line.format(**meant), mistake.becomes.format(**meant)
    return play | {
        "code": [[text.replace(line, becomes), *rest] for text, *rest in play["code"]],
        "threshold": meant["wrong"] if setup.mistake == "wrong threshold" else meant["right"],
        "twin": False,  # the player's own gradient descent makes no mistakes, so it may not answer for this run
        "id": f"{play['id']}-{setup.mistake}",
    }


@st.fragment
def _experiment(setup: Setup, address: Address) -> None:
    """Predict, run, explain. A fragment, so that what is done in the player reruns no more than this."""
    names, edit = _names(setup), st.session_state["descent.edit"]
    run, data, play = names["run"], names["data"], names["play"]
    step = parts.shown_step("descent", play)
    st.header("1 · Predict", anchor=False)
    guess = _predict(run, play, setup, step)
    st.header("2 · Run", anchor=False)
    parts.player("descent", play | {"nonce": edit.nonce}, _take_edit)
    parts.row(
        f"{setup.model}-regression",
        address.link(weights=text_of([edit.start]), step=step),
        "".join(_code(setup, edit.start)) + PRINTS,
        names["drawn"],
        data.x_train,
        data.y_train,
        _table(run),
    )
    st.header("3 · Explain", anchor=False)
    if step < len(run) - 1:
        st.write("Play to the end to see how it comes out." if guess else "Guess first, then play to the end.")
    else:
        _explain(run, setup, guess)


def _take_edit(new: dict[str, Any]) -> None:
    if new.get("start"):
        st.session_state["descent.edit"] = Edit(tidy([new["start"]])[0], new["nonce"])


def _predict(run: Any, play: dict[str, Any], setup: Setup, step: int) -> dict[str, Any] | None:
    """Ask for a guess about the loss, and about the limit where there is one; gives it once it is locked in."""
    if guess := parts.guess_of("descent", play):
        limit = f" From a learning rate of {guess['limit']:g} on it explodes." if guess["limit"] else ""
        parts.say_guess(f"the loss will **{guess['loss']}**.{limit}", step == len(run) - 1)
        return guess
    with st.form("descent.predict", border=False):
        left, right = st.columns(2)
        left.radio(
            f"What will the loss do in {setup.steps} steps at lr = {setup.lr:g}?",
            ["fall", "explode"],
            horizontal=True,
            key="descent.loss",
        )
        if run[0].lr_limit is not None:
            right.number_input(
                "From which learning rate on will it explode?", LOW, 100.0, 1.0, step=0.1, key="descent.limit"
            )
        st.form_submit_button("Lock in my guess", on_click=_lock_in, args=(play["id"],))
    return None


def _lock_in(id_: str) -> None:
    loss, limit = st.session_state["descent.loss"], st.session_state.get("descent.limit")
    st.session_state["descent.guess"] = {"id": id_, "loss": loss, "limit": limit}


def _explain(run: Any, setup: Setup, guess: dict[str, Any] | None) -> None:
    """Say how the guess went and what happened."""
    limit, last = run[0].lr_limit, run.last
    exploded = run.stop is Stop.DIVERGED
    if guess:
        verdict = "You were right" if (guess["loss"] == "explode") == exploded else "It came out the other way"
        st.write(f"{verdict}: the loss {'exploded' if exploded else 'did not explode'}.")
    if exploded:
        st.error(
            f"**Diverged after {len(run)} steps**: the loss went from {run[0].loss:.4g} to {last.loss:.4g}. Every "
            "step jumps across the valley and lands higher up on the other side, where the slope, and so the next "
            "step, is larger still. "
            f"Try a smaller learning rate{f', under {limit:.4f}' if limit else ''}.",
            icon=":material/trending_up:",
        )
    else:
        st.write(
            f"**In {len(run)} steps the loss went from {run[0].loss:.4f} to {last.loss:.4f}**, the test accuracy "
            f"from {run[0].metrics['test_accuracy']:.1%} to {last.metrics['test_accuracy']:.1%}."
        )
    if limit is not None:
        st.write(_about_limit(limit, setup, exploded, guess))
        seen = st.session_state.setdefault("descent.limits", {})
        if guess and (setup.model, setup.data) not in seen:
            seen[setup.model, setup.data] = limit
            st.rerun()  # the mark under the slider lies outside this fragment
    if MISTAKES[setup.mistake]:
        right = _names(setup._replace(mistake="none"))["run"].last
        st.write(
            f"**The mistake: {setup.mistake}.** {MISTAKES[setup.mistake].symptom} Without it this run ends at a test "
            f"accuracy of {right.metrics['test_accuracy']:.1%}."
        )
    elif not exploded:
        st.write(_what_to_try(run, setup))


def _about_limit(limit: float, setup: Setup, exploded: bool, guess: dict[str, Any] | None) -> str:
    said = f"You said {guess['limit']:g}. " if guess and guess["limit"] else ""
    where = "under it" if setup.lr < limit else "over it" if exploded else "over it, so more steps will make it explode"
    return (
        f"**The limit is 2/λ = {limit:.4f}**, where λ is the largest curvature of the loss. {said}Your {setup.lr:g} is "
        f"{where}. In the steepest direction each step multiplies the distance to the bottom by 1 − lr·λ, and over the "
        "limit that is more than 1 in size."
    )


def _what_to_try(run: Any, setup: Setup) -> str:
    still = run[-2].loss - run.last.loss > 1e-4 * run.last.loss
    if setup.data == "two circles":
        return (
            "No straight line parts a ring from the ring within: the model is too simple, and no learning rate helps."
        )
    if still:
        return (
            "The loss is **still falling**: the run was cut short. Compare two models only when both have come to "
            "rest. Try more steps, a larger learning rate, or momentum."
        )
    return "The loss has come to rest. Try the other model, or push the learning rate up until it breaks."


def _table(run: Any) -> list[dict[str, Any]]:
    """Return a row a step, for the CSV file."""
    return [
        {"step": step.index, "loss": step.loss}
        | dict(zip(("w1", "w2"), step.params["weight"][0].tolist()))
        | {"bias": step.params["bias"].item()}
        | dict(step.metrics)
        for step in run
    ]
