"""What all topics share: the player, what is shown in it, and the row under it (link, code, files)."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import streamlit as st

from stepfit.recording import Recording


def begin_at(topic: str, play: dict[str, Any], step: int) -> None:
    """Show this step first, when the topic opens."""
    st.session_state.setdefault(f"{topic}.moment", {"id": play["id"], "step": step})


def shown_step(topic: str, play: dict[str, Any]) -> int:
    """Tell which step the player shows; a new trace is shown from its beginning."""
    moment = st.session_state[f"{topic}.moment"]
    return min(moment["step"], len(play["index"]) - 1) if moment["id"] == play["id"] else 0


def guess_of(topic: str, play: dict[str, Any]) -> dict[str, Any] | None:
    """Return the guess that was locked in about this trace, if there is one."""
    guess = st.session_state.get(f"{topic}.guess")
    return guess if guess and guess["id"] == play["id"] else None


def say_guess(words: str, answered: bool) -> None:
    """Repeat a guess that was locked in."""
    then = "The answer is below, under Explain." if answered else "Now press Play."
    st.info(f"Your guess: {words} {then}", icon=":material/lock:")


def player(topic: str, play: dict[str, Any], take_edit: Callable[[dict[str, Any]], None] | None = None) -> None:
    """Draw a trace. The player tells which step it rests at, and what the visitor moved in it."""
    key = f"{topic}.player"

    def moment() -> None:
        forget("step")
        st.session_state[f"{topic}.moment"] = st.session_state[key]["moment"]

    def edit() -> None:
        forget("centers", "added", "weights")
        if take_edit:
            take_edit(st.session_state[key]["edit"])

    draw = st.components.v2.component("stepfit.player", js="player.js")
    data = {"trace": play, "step": shown_step(topic, play), "editable": take_edit is not None}
    draw(key=key, data=data, on_moment_change=moment, on_edit_change=edit)


def forget(*names: str) -> None:
    """Take out of the address what it brought and what is no longer so; the link under the player has it all."""
    for name in names:
        if name in st.query_params:
            del st.query_params[name]


def row(name: str, link: str, code: str, run: Recording[Any], x: Any, y: Any, rows: list[dict[str, Any]]) -> None:
    """Draw the row under the player: the link to this moment, the code that ran, and the run as files."""
    left, middle, right = st.columns(3)
    with left.popover("Link to this moment", icon=":material/link:", width="stretch"):
        st.write(
            "This address brings back the data, the settings and the step on show; a file of your own has to be chosen "
            "again. The button in its corner copies it."
        )
        st.code(link, language=None, wrap_lines=True)
    with middle.popover("Show me this in code", icon=":material/code:", width="stretch"):
        st.write("These lines made the run above. They need `stepfit`, nothing else.")
        st.code(code, language="python")
    with right.popover("Download", icon=":material/download:", width="stretch"):
        st.write(f"The run as it is now, {len(run)} steps. A film takes some seconds to make.")
        _download(name, ".gif", "GIF, moving", "image/gif", lambda: film(name, ".gif", run, x, y))
        _download(name, ".mp4", "MP4, moving", "video/mp4", lambda: film(name, ".mp4", run, x, y))
        _download(name, ".png", "PNG, the last step", "image/png", lambda: picture(run, x, y))
        _download(name, ".csv", "CSV, a row a step", "text/csv", lambda: table(rows))


def _download(name: str, suffix: str, label: str, kind: str, make: Callable[[], bytes]) -> None:
    """Draw the button of one file, which is made when the button is pressed and not before."""
    lacking = suffix == ".mp4" and find_spec("imageio_ffmpeg") is None
    st.download_button(
        label,
        make,
        file_name=name + suffix,
        mime=kind,
        key=name + suffix,
        on_click="ignore",
        disabled=lacking,
        help="This needs one more package: `pip install 'stepfit[video]'`" if lacking else None,
        width="stretch",
    )


def film(name: str, suffix: str, run: Recording[Any], x: Any, y: Any) -> bytes:
    """Make a GIF or an MP4 file of a run."""
    from stepfit.viewers.animation import animate  # brings matplotlib, which few visits need

    with TemporaryDirectory() as folder:
        path = Path(folder, name + suffix)
        animate(run, x, path, y)
        return path.read_bytes()


def picture(run: Recording[Any], x: Any, y: Any) -> bytes:
    """Make a PNG file of the last step of a run."""
    from stepfit.viewers.figures import figure

    file = io.BytesIO()
    figure(run, x, y).savefig(file, format="png", dpi=150)
    return file.getvalue()


def table(rows: list[dict[str, Any]]) -> bytes:
    """Make a CSV file, with the names of the columns first."""
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()
