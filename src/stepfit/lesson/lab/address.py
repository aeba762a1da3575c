"""The settings of a topic: widgets that read and write the address, so that a link reproduces the moment."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode, urljoin

import streamlit as st

FAR = 1e6  # no place lies farther out: it would be a point at infinity in float32, and a long number in the link
MOST_ROWS = 200  # an address has no room for more


class Address:
    """Draws the widgets of a topic, and says which values of the address did not fit.

    Streamlit drops a value that a widget cannot take without a word. So the address is read before the first widget
    is drawn, and what it asks for is compared with what the widget then has.

    Attributes
    ----------
    values : dict
        The settings by their name in the address.
    """

    def __init__(self, topic: str) -> None:
        self.values: dict[str, Any] = {"topic": topic}
        self._fresh = "misfits" not in st.session_state  # later on the address only follows the widgets
        self._asked = st.query_params.to_dict() if self._fresh else {}
        self._misfits: list[str] = []
        self._room = st.container()
        if self._asked.get("topic", topic) != topic:
            self._misfit("topic", "there is no such topic", topic)

    def slider(self, name: str, label: str, low: float, high: float, default: float, **more: Any) -> Any:
        """Draw a slider from low to high."""
        value = st.slider(label, low, high, default, key=name, bind="query-params", **more)
        return self._keep(name, value, f"it goes from {low} to {high}")

    def number(self, name: str, label: str, low: float, high: float, default: float, **more: Any) -> Any:
        """Draw a field for a number from low to high."""
        value = st.number_input(label, low, high, default, key=name, bind="query-params", **more)
        return self._keep(name, value, f"it goes from {low} to {high}")

    def choice(self, name: str, label: str, options: list[str], **more: Any) -> str:
        """Draw buttons of which one is down, at first the first one. An option is also its word in the address."""
        value = st.segmented_control(
            label, options, default=options[0], required=True, wrap=True, key=name, bind="query-params", **more
        )
        # An address with nothing after the name takes the choice away, whatever `required` says.
        return self._keep(name, value or options[0], f"there are {', '.join(options)}")

    def rows(self, name: str, count: int | None, width: int) -> list[list[float]] | None:
        """Read rows of `width` numbers from an address such as 1,2;3,4; as many as `count`, where that is given."""
        text = self._asked.get(name)
        if text is None:
            return None
        try:
            rows = [[float(number) for number in row.split(",")] for row in text.split(";")]
        except ValueError:
            rows = []
        if 0 < len(rows) == (count or min(len(rows), MOST_ROWS)) and all(
            len(row) == width and all(abs(number) <= FAR for number in row) for row in rows
        ):
            return rows
        self._misfit(name, f"it takes {count or 'some'} rows of {width} numbers within ±{FAR:,.0f}, as 1,2;3,4", "none")
        return None

    def step(self, steps: int) -> int:
        """Read the step to show first."""
        text = self._asked.get("step", "0")
        if text.isdecimal() and int(text) < steps:
            return int(text)
        self._misfit("step", f"this run has the steps 0 to {steps - 1}", 0)
        return 0

    def say_misfits(self) -> None:
        """Show the misfits above the widgets, for as long as the settings stay as they are."""
        settings = tuple(self.values.items())
        if self._fresh:
            st.session_state["misfits"] = (settings, self._misfits)
        of, misfits = st.session_state["misfits"]
        if misfits and of == settings:
            self._room.warning("  \n".join(misfits), icon=":material/link_off:")

    def link(self, **moment: Any) -> str:
        """Return the address of this moment: the settings, and what else it takes to reproduce it."""
        root = urljoin(st.context.url or "", "/")  # of the lesson: the page there opens the lab for view=live
        return f"{root}?{urlencode({'view': 'live', **self.values, **moment}, safe=',;')}"

    def _keep(self, name: str, value: Any, range_: str) -> Any:
        self.values[name] = value
        if name in self._asked and not _same(self._asked[name], value):
            self._misfit(name, range_, value)
        return value

    def _misfit(self, name: str, range_: str, used: Any) -> None:
        # As code, so that no address can bring a link or a picture of its own into the page.
        asked = self._asked[name][:40].replace("`", "'")
        self._misfits.append(f"The link asks for `{name}={asked}`, but {range_}. Used here: {name} = {used}.")


def tidy(rows: list[list[float]]) -> list[list[float]]:
    """Return rows as the player sends them with six digits, which is finer than a screen, and not too far out."""
    return [[float(f"{min(max(number, -FAR), FAR):.6g}") for number in row] for row in rows]


def text_of(rows: list[list[float]]) -> str:
    """Write rows of numbers as `Address.rows` reads them."""
    return ";".join(",".join(f"{number:g}" for number in row) for row in rows)


def _same(text: str, value: Any) -> bool:
    try:
        return float(text) == float(value)
    except ValueError:
        return text == str(value)
