import os

import pytest


@pytest.fixture(autouse=True)
def own_settings(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("BENCHLIB_", "VLLM_", "STREAMLIT_")):
            monkeypatch.delenv(name)
