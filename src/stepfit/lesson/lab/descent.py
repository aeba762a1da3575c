"""The topic gradient descent: how large may a step be, and what does each mistake look like?"""

from __future__ import annotations

from typing import Any, NamedTuple

import streamlit as st

from stepfit.lesson.lab import parts
from stepfit.lesson.lab.address import Address, text_of
from stepfit.lesson.lab.code import run_of
from stepfit.recording import Recording
from stepfit.steps import Stop
from stepfit.viewers.trace import trace

TITLE = "Gradient descent"
PROMISE = (
    "A straight line is to part two classes. Each step moves its weights **downhill on the loss**, by the learning rate "
    "times the gradient. Find out how large a step may be, and what each beginner's mistake looks like."
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


class Mistake(NamedTuple):
    """A mistake: the line of the training loop that it changes, into what, and how to know it by its picture."""

    right: str
    wrong: str
    symptom: str


MISTAKES = {
    "none": None,
    "no zero_grad": Mistake(
        "    optimizer.zero_grad()",
        "    # optimizer.zero_grad() is missing",
        "`backward()` **adds** to the gradient that is there. Uncleared, each step goes along the sum of all gradients so "
        "far: it runs past the bottom and swings back, and the loss has waves.",
    ),
    "wrong threshold": Mistake(
        "",
        "",
        "Only the counting is wrong: the loss falls as ever, and the accuracy does not follow. A linear model on the "
        "targets 0 and 1 predicts 1 above **0.5**, half-way; a logit predicts 1 above **0**, where the sigmoid is 0.5.",
    ),
    "swapped arguments": Mistake(
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

    @property
    def threshold(self) -> float:
        """Above this output a point is of class 1."""
        return 0.5 if self.model == "linear" else 0.0


class Edit(NamedTuple):
    """Where the visitor wants to begin: the two weights."""

    start: list[float]
    nonce: int = 0


def show() -> None:
    """Draw the topic."""
    address = Address("descent")
    st.title(TITLE)
    st.write(PROMISE)
    left, right = st.columns(2)
    with left:
        model = address.choice("model", "Model", ["linear", "logistic"])
    with right:
        data = address.choice("data", "Points", list(DATA))
    lr = address.slider("lr", "Learning rate", LOW, HIGH, 0.1, step=0.01)
    _mark_limit(model, data)
    with st.expander("More settings"):
        momentum = address.slider("momentum", "Momentum", 0.0, 0.99, 0.0, step=0.01)
        steps = address.slider("steps", "Steps", 10, 500, 100, step=10)
    with st.expander("Make a mistake on purpose", expanded=st.session_state.get("mistake", "none") != "none"):
        mistake = address.choice("mistake", "Which", list(MISTAKES))
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


def _data_code(setup: Setup) -> str:
    needs = {"no zero_grad": "descend", "swapped arguments": "descend"}.get(setup.mistake, f"{setup.model}_regression")
    head = "import torch\n\n" if needs == "descend" else ""
    return f"{head}from stepfit import datasets, {needs}, record\n\n{DATA[setup.data]}\n"


def _fit_code(setup: Setup, start: list[float]) -> str:
    common = f"max_steps={setup.steps}, test=(data.x_test, data.y_test)"
    rate = f"lr={setup.lr:g}, momentum={setup.momentum:g}"
    if setup.mistake in ("none", "wrong threshold"):
        metrics, before = "", ""
        if setup.mistake == "wrong threshold":
            wrong = 0.5 - setup.threshold
            before = (
                "\ndef accuracy(prediction, target):\n"
                f"    predicted = prediction > {wrong:g}  # the mistake: > {setup.threshold:g} is right\n"
                "    return (predicted == (target > 0.5)).double().mean()\n\n\n"
            )
            metrics = ', metrics={"accuracy": accuracy}'
        return before + (
            f"steps = {setup.model}_regression(\n"
            f"    data.x_train, data.y_train, {rate}, start=([{start}], [0.0]),\n"
            f"    {common}{metrics},\n"
            ")\nrun = record(steps)"
        )
    loss = "MSELoss" if setup.model == "linear" else "BCEWithLogitsLoss"
    optimizer, loss_fn = "torch.optim.SGD", f"torch.nn.{loss}"
    if setup.mistake == "no zero_grad":
        optimizer = "Forgetful"
        before = (
            "\nclass Forgetful(torch.optim.SGD):\n"
            "    def zero_grad(self, set_to_none=True):\n"
            "        pass  # the mistake: the old gradient stays, and backward() adds to it\n\n\n"
        )
    else:
        loss_fn = "Swapped"
        before = (
            f"\nclass Swapped(torch.nn.{loss}):\n"
            "    def forward(self, prediction, target):\n"
            "        return super().forward(target, prediction)  # the mistake: the prediction comes first\n\n\n"
        )
    return before + (
        "model = torch.nn.Linear(2, 1, dtype=torch.float64)\n"
        f'model.load_state_dict({{"weight": torch.tensor([{start}]), "bias": torch.zeros(1)}})\n'
        f"optimizer = {optimizer}(model.parameters(), {rate})\n"
        "steps = descend(\n"
        f"    model, {loss_fn}(), optimizer, data.x_train, data.y_train,\n"
        f"    {common},\n"
        ")\nrun = record(steps)"
    )


def _names(setup: Setup) -> dict[str, Any]:
    """Run what is on show; gives data, run, play (the trace) and drawn (the run as the pictures take it)."""

    def drawn(names: dict[str, Any]) -> dict[str, Any]:
        # The right names of loss and optimizer: the path is drawn on the loss that was meant, also with a mistake.
        meant = {"loss": "MSELoss" if setup.model == "linear" else "BCEWithLogitsLoss", "optimizer": "SGD"}
        run, data = names["run"], names["data"]
        right = Recording(run, run.settings | meant, run.stop)
        play = trace(right, data.x_train, data.y_train, test=(data.x_test, data.y_test))
        return {"drawn": right, "play": _with_mistake(play, setup) | {"lr_limit": None}}  # the limit is to be guessed

    fit = _fit_code(setup, st.session_state["descent.edit"].start)
    return run_of(_data_code(setup), fit, None, drawn)


def _with_mistake(play: dict[str, Any], setup: Setup) -> dict[str, Any]:
    """Show the mistake in the code beside the picture, and a wrong threshold in the picture."""
    mistake = MISTAKES[setup.mistake]
    if mistake is None:
        return play
    right, wrong = mistake.right, mistake.wrong
    if setup.mistake == "wrong threshold":
        play["threshold"] = 0.5 - setup.threshold
        right, wrong = f"> {setup.threshold:g})", f"> {play['threshold']:g})"
    code = [[line.replace(right, wrong), *rest] for line, *rest in play["code"]]
    # The player's own gradient descent makes no mistakes, so it may not answer for this run.
    return play | {"code": code, "twin": False, "id": f"{play['id']}-{setup.mistake}"}


@st.fragment
def _experiment(setup: Setup, address: Address) -> None:
    """Predict, run, explain. A fragment, so that what is done in the player reruns no more than this."""
    names, edit = _names(setup), st.session_state["descent.edit"]
    run, data, play = names["run"], names["data"], names["play"]
    step = parts.shown_step("descent", play)
    st.subheader("1 · Predict")
    guess = _predict(run, play["id"], setup)
    st.subheader("2 · Run")
    st.caption("Click the loss surface to start from there.")
    parts.player("descent", play | {"nonce": edit.nonce}, _take_edit)
    parts.row(
        f"{setup.model}-regression",
        address.link(weights=text_of([edit.start]), step=step),
        _data_code(setup) + "\n" + _fit_code(setup, edit.start) + PRINTS,
        names["drawn"],
        data.x_train,
        data.y_train,
        _table(run),
    )
    st.subheader("3 · Explain")
    if step < len(run) - 1:
        st.write("Play to the end to see how it comes out." if guess else "Guess first, then play to the end.")
    else:
        _explain(run, setup, guess)


def _take_edit(new: dict[str, Any]) -> None:
    if new.get("start"):
        start = [float(f"{weight:.6g}") for weight in new["start"]]
        st.session_state["descent.edit"] = Edit(start, new["nonce"])


def _predict(run: Any, id_: str, setup: Setup) -> dict[str, Any] | None:
    """Ask for a guess about the loss, and about the limit where there is one; gives it once it is locked in."""
    guess = st.session_state.get("descent.guess")
    if guess and guess["id"] == id_:
        limit = f" And {guess['limit']:g} is the largest learning rate that works." if guess["limit"] else ""
        st.info(f"Your guess: the loss will **{guess['loss']}**.{limit} Now press Play.", icon=":material/lock:")
        return guess
    with st.form("descent.predict", border=False):
        left, right = st.columns(2)
        loss = left.radio(
            f"What will the loss do in {setup.steps} steps at lr = {setup.lr:g}?", ["fall", "explode"], horizontal=True
        )
        limit = None
        if run[0].lr_limit is not None:
            limit = right.number_input("From which learning rate on will it explode?", LOW, 100.0, 1.0, step=0.1)
        if st.form_submit_button("Lock in my guess", type="primary"):
            st.session_state["descent.guess"] = {"id": id_, "loss": loss, "limit": limit}
            st.rerun(scope="fragment")
    return None


def _explain(run: Any, setup: Setup, guess: dict[str, Any] | None) -> None:
    """Say how the guess went and what happened."""
    limit, last = run[0].lr_limit, run.last
    exploded = run.stop is Stop.DIVERGED
    if guess:
        verdict = "You were right" if (guess["loss"] == "explode") == exploded else "It came out the other way"
        st.write(f"{verdict}: the loss {'exploded' if exploded else 'did not explode'}.")
    if exploded:
        st.error(
            f"**Diverged after {len(run)} steps**: the loss went from {run[0].loss:.4g} to {last.loss:.4g}. Every step "
            "jumps across the valley and lands higher up on the other side, where the slope, and so the next step, is "
            "larger still. "
            f"Try a smaller learning rate{f', under {limit:.4f}' if limit else ''}.",
            icon=":material/trending_up:",
        )
    else:
        st.write(
            f"**In {len(run)} steps the loss went from {run[0].loss:.4f} to {last.loss:.4f}**, the test accuracy from "
            f"{run[0].metrics['test_accuracy']:.1%} to {last.metrics['test_accuracy']:.1%}."
        )
    if limit is not None:
        st.write(_about_limit(limit, setup, guess))
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


def _about_limit(limit: float, setup: Setup, guess: dict[str, Any] | None) -> str:
    said = f"You said {guess['limit']:g}. " if guess and guess["limit"] else ""
    where = "under" if setup.lr < limit else "over"
    return (
        f"**The limit is 2/λ = {limit:.4f}**, where λ is the largest curvature of the loss. {said}Your {setup.lr:g} is "
        f"{where} it. In the steepest direction each step multiplies the distance to the bottom by 1 − lr·λ, and over the "
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
            "The loss is **still falling**: the run was cut short. Compare two models only when both have come to rest. "
            "Try more steps, a larger learning rate, or momentum."
        )
    return "The loss has come to rest. Try the other model, or push the learning rate up until it breaks."


def _table(run: Any) -> list[dict[str, Any]]:
    """Give a row a step, for the CSV file."""
    return [
        {"step": step.index, "loss": step.loss}
        | dict(zip(("w1", "w2"), step.params["weight"][0].tolist()))
        | {"bias": step.params["bias"].item()}
        | dict(step.metrics)
        for step in run
    ]
