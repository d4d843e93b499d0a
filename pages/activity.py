"""Who did what, newest first."""

import pandas as pd
import streamlit as st

from benchlib.presentation.text import counted
from pages.shared import filters
from pages.shared.access import get_service

PAGE_SIZE = 50

service = get_service()
st.title("Activity")
st.write(
    "Who launched, changed or deleted something. Actions stay listed after their object is deleted."
)
total = service.count_activity()
if not total:
    st.info("No action has been recorded yet.", icon=":material/info:")
    st.stop()
_, actions = filters.paged("page", total, PAGE_SIZE, service.list_activity)
st.dataframe(
    pd.DataFrame(
        {
            "at": pd.to_datetime([one.at for one in actions], utc=True),
            "user": [one.user_name for one in actions],
            "action": [one.action for one in actions],
            "kind": [one.kind for one in actions],
            "number": pd.array([one.object_id for one in actions], dtype="Int64"),
            "detail": [one.detail for one in actions],
        }
    ),
    key="activity_table",
    hide_index=True,
    column_config={
        "at": st.column_config.DatetimeColumn(
            "Time", format="YYYY-MM-DD HH:mm:ss", timezone=st.context.timezone
        ),
        "user": st.column_config.TextColumn("Who"),
        "action": st.column_config.TextColumn("Did"),
        "kind": st.column_config.TextColumn("To"),
        "number": st.column_config.NumberColumn("Number", width="small"),
        "detail": st.column_config.TextColumn("Detail", width="large"),
    },
    alt="Who did what",
)
st.caption(counted(total, "action"))
