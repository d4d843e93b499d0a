"""Figures of a page, and their downloads."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any

import orjson
import plotly.graph_objects as go
import streamlit as st

from benchlib.presentation.exports import files, pictures
from benchlib.presentation.exports.formats import FIGURE_FORMATS, TABLE_FORMATS
from benchlib.presentation.figures.notes import mark_simulated
from benchlib.presentation.figures.theme import leave_room
from benchlib.presentation.provenance import Provenance


def draw(
    build: Callable[..., go.Figure], provenance: Provenance, *data: Any, **options: Any
) -> go.Figure:
    """A figure, built once for everyone who sees the same numbers; it must not be changed.

    Args:
        build: Builds it from `data` and `options`, which hold only numbers and words.
        provenance: Says whether the data are simulated.
    """
    plain = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    content = orjson.dumps((data, options, provenance.simulated), option=plain)
    return _drawn(
        build.__qualname__,
        sha256(content).digest(),
        lambda: mark_simulated(build(*data, **options), provenance.simulated),
    )


@st.cache_resource(max_entries=64, show_spinner=False)
def _drawn(name: str, content: bytes, _build: Callable[[], go.Figure]) -> go.Figure:
    return leave_room(_build())


def show_figure(
    figure: go.Figure,
    key: str,
    alt: str,
    provenance: Provenance,
    rows: Sequence[Mapping[str, Any]] = (),
) -> None:
    """A figure with its downloads."""
    mark_simulated(figure, provenance.simulated)
    st.plotly_chart(figure, key=key, alt=alt)
    downloads(key, provenance, figure=figure, rows=rows, title=alt)


@st.fragment
def downloads(
    key: str,
    provenance: Provenance,
    *,
    figure: go.Figure | None = None,
    rows: Sequence[Mapping[str, Any]] = (),
    title: str = "",
    width: int = 1100,
) -> None:
    """Files of a figure and of the numbers behind it.

    Buttons are made when the list is opened, a file when its button is clicked.
    """
    offer = st.popover(
        "Download", icon=":material/download:", key=f"{key}_download", on_change="rerun"
    )
    if not offer.open:
        return
    with offer:
        if figure is not None:
            dark = st.toggle(
                "Dark background", key=f"{key}_dark", help="For figures; white by default."
            )
            theme: files.Theme = "dark" if dark else "light"
            drawn = pictures.pictures_work()
            if not drawn:
                st.caption(str(pictures.NoPictures()))
            with st.container(horizontal=True):
                for one in FIGURE_FORMATS.values():
                    st.download_button(
                        one.label,
                        data=partial(
                            files.export_figure,
                            figure,
                            one.name,
                            provenance,
                            theme=theme,
                            width=width,
                        ),
                        file_name=files.file_name(provenance, key, one.extension),
                        mime=one.media_type,
                        key=f"{key}_{one.name}",
                        on_click="ignore",
                        disabled=one.needs_browser and not drawn,
                    )
        if rows:
            with st.container(horizontal=True):
                for table in TABLE_FORMATS.values():
                    st.download_button(
                        table.label,
                        data=partial(files.export_table, rows, table.name, provenance, title=title),
                        file_name=files.file_name(provenance, key, table.extension),
                        mime=table.media_type,
                        key=f"{key}_{table.name}",
                        on_click="ignore",
                    )
