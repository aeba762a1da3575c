"""The script that Streamlit runs: choose a topic and show its experiment."""

import streamlit as st

from stepfit.lesson.lab import descent, kmeans, mnist

TOPICS = {"kmeans": kmeans, "mnist": mnist, "descent": descent}  # by their word in the address


def choose_topic() -> str:
    """Draw the row of topics. The address is kept here, as `bind` would write the label, not the word, into it."""
    asked = st.query_params.get("topic", "kmeans")
    if asked != st.session_state.get("asked_topic"):  # the first run, or the browser's Back button
        st.session_state["asked_topic"] = asked
        st.session_state["topic"] = asked if asked in TOPICS else "kmeans"

    def write_address() -> None:
        st.query_params["topic"] = st.session_state["asked_topic"] = st.session_state["topic"]

    return st.segmented_control(
        "Topic",
        TOPICS,
        format_func=lambda topic: TOPICS[topic].TITLE,
        required=True,
        wrap=True,
        key="topic",
        on_change=write_address,
        label_visibility="collapsed",
    )


def main() -> None:
    """Draw the page."""
    st.set_page_config(page_title="stepfit lab", layout="wide")
    TOPICS[choose_topic()].show()


if __name__ == "__main__":
    main()
