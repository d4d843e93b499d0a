"""Texts and numbers on a page: errors, untrusted text, prompts, explanations."""

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from benchlib.domain.errors import BenchlibError
from benchlib.domain.records import Question
from pages.shared import words


def show_error(error: BenchlibError | str) -> None:
    """Show the message of an error, literally."""
    st.error(words.plain_markdown(str(error)), icon=":material/error:")


def untrusted_text(text: str) -> None:
    """Show what a model, persona, trait or server says: copyable, wrapped, never interpreted."""
    st.code(text or " ", language=None, wrap_lines=True)


def show_question(question: Question) -> None:
    """A prompt exactly as it is sent."""
    st.caption("System prompt")
    untrusted_text(question.system)
    st.caption("User prompt")
    untrusted_text(question.user)


def numbers(values: Mapping[str, tuple[str, str]]) -> None:
    """A row of numbers that wraps: label -> (value, help)."""
    with st.container(horizontal=True):
        for label, (value, explanation) in values.items():
            st.metric(label, value, help=explanation or None, width="content", border=True)


def failures_table(failures: Mapping[str, int]) -> None:
    """Failed attempts by kind."""
    table = pd.DataFrame(
        {
            "Reason": [words.FAILURES.get(kind, kind) for kind in failures],
            "Attempts": list(failures.values()),
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        key="failures_by_kind",
        column_config={"Attempts": st.column_config.NumberColumn(format="localized")},
        alt="Failed attempts by reason",
    )


def explain(text: str) -> None:
    """How the numbers above are computed."""
    with st.expander("How is this computed?", icon=":material/help:"):
        st.markdown(text)
