"""Who is looking at a page: the login, and services that act for that person."""

from typing import Any

import streamlit as st

from benchlib import bootstrap
from benchlib.application.benchmark_service import BenchmarkService
from benchlib.application.dataset_service import DatasetService
from benchlib.domain.users import NOBODY, OWNER, User, identify
from benchlib.settings import get_settings


def get_service() -> BenchmarkService:
    """The benchmark service, acting for the person who looks at this page.

    Raises:
        NotAllowed: Nobody is logged in, or the person has no role.
    """
    return bootstrap.get_service().acting_as(current_user())


def get_dataset_service() -> DatasetService:
    """The dataset service, acting for the person who looks at this page.

    Raises:
        NotAllowed: Nobody is logged in, or the person has no role.
    """
    return bootstrap.get_dataset_service().acting_as(current_user())


def current_user() -> User:
    """The person who looks at this page."""
    settings = get_settings()
    if settings.auth is None:
        return OWNER
    claims = _claims()
    return identify(claims, settings.role_rules) if claims.get("is_logged_in") is True else NOBODY


def is_admitted() -> bool:
    """Whether this person may see the dashboard."""
    return current_user().role is not None


def admit() -> None:
    """Say who is logged in; offer the login, and stop the page for anyone without a role."""
    if get_settings().auth is None:
        return
    if _claims().get("is_logged_in") is not True:
        st.title("benchlib")
        st.text("Log in to see this dashboard.")
        st.button(
            "Log in", key="log_in", type="primary", icon=":material/login:", on_click=st.login
        )
        st.stop()
    user = current_user()
    with st.sidebar:
        st.caption("Logged in as")
        st.text(user.name)
        if user.role is not None:
            st.badge(user.role.label, icon=":material/person:", color="gray")
        st.button("Log out", key="log_out", icon=":material/logout:", on_click=st.logout)
    if user.role is None:
        st.title("benchlib")
        st.error(
            "You are logged in, but have no role on this dashboard. Ask one of its admins to give "
            "you one, under this name:",
            icon=":material/lock:",
        )
        st.text(user.name)
        st.stop()


def _claims() -> dict[str, Any]:
    return st.user.to_dict()
