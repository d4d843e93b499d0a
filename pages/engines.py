"""Where models run: known addresses, a connection test, the managed local server."""

import streamlit as st

from pages.shared import engine_widgets, run_header
from pages.shared.access import get_service

service = get_service()
st.title("Engines")
known, managed = st.columns(2, gap="large")
with known:
    st.subheader("Servers")
    st.write(
        "Any vLLM server works, and so does any other server with an OpenAI-compatible interface, "
        "as far as its abilities go. Without an address, `VLLM_BASE_URL` is used, or else "
        "`http://localhost:8000`."
    )
    if service.may(service.engines.test_connection):
        address, key = engine_widgets.address_and_key("engines")
        if st.button("Test connection", key="engines_test", icon=":material/wifi_tethering:"):
            with st.spinner("Asking the server…"):
                st.session_state["engines_found"] = service.engines.test_connection(address, key)
    if "engines_found" in st.session_state:
        engine_widgets.connections(st.session_state["engines_found"])
with managed:
    st.subheader("Managed local server")
    st.write(
        "Starts `vllm serve` on the machine that runs this dashboard, shows its log while the "
        "model loads, and stops with the dashboard."
    )
    engine_widgets.managed_server(service)
st.subheader("Simulated rater")
run_header.simulated_badge()
st.write(
    "Always available. It answers like an engine, with group effects, order bias and faults that "
    "are known exactly: for learning the dashboard and for testing an analysis. Choose it in the "
    "form of a new run."
)
st.page_link("start_run.py", label="Start a run", icon=":material/rocket_launch:")
