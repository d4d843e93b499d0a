"""Engines on a page: address and key, result of a connection test, managed local server."""

from collections.abc import Sequence

import streamlit as st

from benchlib.application.benchmark_service import BenchmarkService
from benchlib.domain.asking.engine_reports import EngineConnection
from pages.shared import actions, texts, words


def address_and_key(prefix: str) -> tuple[str | None, str | None]:
    """Address and key of a server; the key is forgotten when the user leaves the page."""
    address = st.text_input(
        "Address",
        key=f"{prefix}_address",
        persist_state="session",
        placeholder="http://localhost:8000",
        help="One base URL or several, separated by commas. Empty: VLLM_BASE_URL, else "
        "http://localhost:8000.",
    )
    key = st.text_input(
        "API key",
        key=f"{prefix}_api_key",
        type="password",
        autocomplete="off",
        help="Only if the server needs one and VLLM_API_KEY is not set. Used for this run only; "
        "held in memory, never stored or shown.",
    )
    return address.strip() or None, key or None


def connections(found: Sequence[EngineConnection]) -> None:
    """The result of a connection test, address by address."""
    if not found:
        st.info("There is no address. Type one, or set VLLM_BASE_URL.", icon=":material/info:")
    for place in found:
        with st.container(border=True):
            with st.container(horizontal=True):
                if place["ok"]:
                    st.badge("answers", icon=":material/check_circle:", color="green")
                else:
                    st.badge("not usable", icon=":material/error:", color="red")
                st.text(place["address"])
            if place["error"]:
                st.text(place["error"])
            if place["engine_version"]:
                st.text(f"Version {place['engine_version']}")
            if place["models"]:
                st.text("Models: " + ", ".join(place["models"]))
            if place["supports"]:
                with st.container(horizontal=True):
                    for ability, shown in place["supports"].items():
                        st.badge(
                            words.ABILITIES.get(ability, "other"),
                            icon=":material/check:" if shown else ":material/close:",
                            color="green" if shown else "gray",
                        )
            for note in place["notes"]:
                st.text(f"• {note}")


def served_models(found: Sequence[EngineConnection]) -> list[str]:
    """The models of all servers tested, each once."""
    return list(dict.fromkeys(model for place in found for model in place["models"]))


def managed_server(service: BenchmarkService) -> None:
    """Start, watch and stop the local vLLM server that belongs to this dashboard."""
    state = service.engines.server_state()
    runs = state is not None and state["state"] in ("starting", "ready")
    model = st.text_input(
        "Model name or folder",
        key="server_model",
        disabled=runs,
        placeholder="HuggingFaceTB/SmolLM2-135M-Instruct",
        persist_state="session",
        help="A name that vLLM can load, or the path of a folder with the model's files on the "
        "machine that runs this dashboard.",
    )
    start, stop = st.columns(2)
    if start.button(
        "Start server",
        key="server_start",
        icon=":material/power:",
        disabled=runs or not model.strip() or not service.may(service.engines.start_server),
        width="stretch",
    ):
        actions.act(lambda: service.engines.start_server(model.strip()))
    if stop.button(
        "Stop server",
        key="server_stop",
        icon=":material/power_off:",
        disabled=not runs or not service.may(service.engines.stop_server),
        width="stretch",
    ):
        actions.act(service.engines.stop_server)
    if state is not None:
        st.fragment(_server_log, run_every=1.0 if runs else None)(service, state["state"])


def _server_log(service: BenchmarkService, known_state: str) -> None:
    state = service.engines.server_state()
    if state is None or state["state"] != known_state:
        st.rerun()
    looks: dict[str, tuple[str, str, words.Colour]] = {
        "starting": ("loading the model", ":material/hourglass_top:", "blue"),
        "ready": ("ready", ":material/check_circle:", "green"),
        "stopped": ("stopped", ":material/power_off:", "gray"),
        "failed": ("failed", ":material/error:", "red"),
    }
    label, icon, colour = looks[state["state"]]
    with st.container(horizontal=True):
        st.badge(label, icon=icon, color=colour)
        st.text(f"{state['model']} at {state['base_url']}")
    if state["error"]:
        texts.untrusted_text(state["error"])
    if state["log"]:
        st.caption("End of the server's log")
        with st.container(height=220, border=False, autoscroll=True):
            texts.untrusted_text(state["log"])
