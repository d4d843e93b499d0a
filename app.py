"""Process entry: `streamlit run app.py`, or `uvicorn app:app`."""

import gc
import os

# What is loaded here stays, so looking through it for objects to free is in vain: it would take a
# tenth of the start, and later a quarter of a second at a time.
gc.disable()

# Before numpy is loaded: its matrices are small here, and BLAS threads that wait by spinning would
# take the cores from the engine and from other readers. (Not OMP_NUM_THREADS: a local vLLM server
# would inherit it.)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import streamlit as st
from starlette.routing import Mount

from benchlib.bootstrap import check_start, get_api_service, get_dataset_service, lifespan
from benchlib.presentation.api.guard import Guard
from benchlib.presentation.api.metrics_route import MonitorRoute
from benchlib.presentation.api.routes import create_api
from benchlib.settings import get_settings

check_start()  # a wrong setting or store ends the start with one sentence, not a traceback

settings = get_settings()
token = settings.api_token.get_secret_value() if settings.api_token else None
api = Guard(
    create_api(get_api_service, get_dataset_service), token, has_users=settings.auth is not None
)
routes = [MonitorRoute("/metrics", api), Mount("/api", app=api)]
app = st.App("pages/navigation.py", lifespan=lifespan, routes=routes)

gc.freeze()
gc.enable()
