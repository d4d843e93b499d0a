"""Buttons that change something, and what is shown when that is refused."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.application.commands import StartBenchmark
from benchlib.application.payloads import RunDetail
from benchlib.domain.errors import BenchlibError
from pages.shared import texts


def act(action: Callable[[], object]) -> None:
    """Do something that may be refused; then run the page again, or say why not."""
    try:
        action()
    except BenchlibError as error:
        texts.show_error(error)
    else:
        st.rerun()


def resume_button(service: BenchmarkService, run: RunDetail) -> None:
    """Resume a run; for a run on a server, its address may change and a key be given."""
    fields: dict[str, Any] = {"resume_run_id": run["id"]}
    clicked = st.button(
        "Resume run",
        key=f"resume_{run['id']}",
        type="primary",
        icon=":material/replay:",
        help="Asks only the questions that are missing.",
    )
    if run["config"]["llm"] == "vllm":
        with st.popover("Address and key", icon=":material/key:"):
            fields["vllm_base_url"] = st.text_input(
                "Address",
                key=f"resume_address_{run['id']}",
                placeholder=run["config"]["vllm_base_url"] or "as before",
                help="Only if the server has moved; it must serve the same model.",
            )
            fields["vllm_api_key"] = st.text_input(
                "API key",
                key=f"resume_key_{run['id']}",
                type="password",
                autocomplete="off",
                help="Used for this run only; held in memory, never stored.",
            )
    if clicked:
        given = {name: value for name, value in fields.items() if value}
        act(lambda: service.start_benchmark(StartBenchmark.of(**given)))
