"""show(): a recorded run in a notebook, in the same player as on the page; what is dragged there is run again here."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from stepfit.clustering.lloyd import lloyd
from stepfit.descent.regression import linear_regression, logistic_regression
from stepfit.kernels.points import as_tensor
from stepfit.recording import Recording, record
from stepfit.viewers.trace import trace

if TYPE_CHECKING:
    from anywidget import AnyWidget


def show(run: Recording[Any], x: Any, y: Any = None, *, test: tuple[Any, Any] | None = None) -> AnyWidget:
    """Play a recorded run in a notebook.

    Drag a center, click to add a point, or click the loss surface for a new start: the player answers at once, and
    then stepfit does, with the settings of the run.

    Parameters
    ----------
    run, x, y, test
        As for `trace`.

    Returns
    -------
    AnyWidget
        As the last line of a cell it is drawn. A host without widgets shows its text: what is to be seen.

    Raises
    ------
    ImportError
        When anywidget is not installed.
    TypeError, ValueError
        When there is no picture for this run and this x.

    Examples
    --------
    >>> import stepfit
    >>> x = [[0.0, 0.0], [0.0, 1.0], [4.0, 0.0], [4.0, 1.0]]
    >>> stepfit.show(stepfit.record(stepfit.lloyd(x, 2, start=x[:2])), x)
    k-means with 2 centers on 4 points. In 2 steps the inertia falls from 32 to 16; nothing changes any more: the run
    is complete.
    """
    first = trace(run, x, y, test=test)
    player = play(first)
    if not first["twin"]:  # these settings are not all that made the run, so nobody can answer for it
        return player
    # In the dtype of the centers, which loses nothing: among whole numbers there is no room for an added point.
    points = {first["id"]: as_tensor(x, "x").to(getattr(torch, first["dtype"]))}

    def answer(change: dict[str, Any]) -> None:
        edit = change["new"]
        rows = points[edit["id"]]
        if edit["added"]:
            rows = torch.cat([rows, rows.new_tensor(edit["added"])])
        undone = edit["centers"] is edit["start"] is None
        answered = first if undone else trace(_again(run, rows, y, test, edit), rows, y, test=test)
        points[answered["id"]] = rows
        player.trace = answered | {"nonce": edit["nonce"]}

    player.observe(answer, "edit")
    return player


def play(trace: dict[str, Any]) -> AnyWidget:
    """Return the widget that plays a trace and hears what is moved in it."""
    return _player_class()(trace=trace)


def _again(run: Recording[Any], x: Any, y: Any, test: tuple[Any, Any] | None, edit: dict[str, Any]) -> Recording[Any]:
    """Run once more with the same settings, from where the learner begins."""
    settings = run.settings
    if edit["centers"]:
        k, empty, max_steps = settings["k"], settings["empty"], settings["max_steps"]
        return record(lloyd(x, k, start=edit["centers"], empty=empty, max_steps=max_steps, seed=settings["seed"]))
    fit = linear_regression if settings["loss"] == "MSELoss" else logistic_regression
    start = [edit["start"]], run[0].params["bias"]
    given = {name: settings[name] for name in ("lr", "momentum", "max_steps", "seed")}
    return record(fit(x, y, start=start, test=test, **given))


@cache
def _player_class() -> type[AnyWidget]:
    try:
        from anywidget import AnyWidget
        from traitlets import Dict
    except ImportError as error:
        raise ImportError(
            "the player in a notebook needs anywidget: pip install 'stepfit[lesson]'; "
            "stepfit.figure and stepfit.animate work without"
        ) from error

    class Player(AnyWidget):
        _esm = Path(__file__).with_name("player.js")
        trace = Dict().tag(sync=True)
        edit = Dict().tag(sync=True)

        def __repr__(self) -> str:
            return str(self.trace["alt"])

    return Player
