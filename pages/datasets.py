"""Browse, import, build, export and delete datasets of personas."""

from collections.abc import Callable
from functools import partial

import pandas as pd
import streamlit as st

from benchlib.domain.material.composition import Composition
from benchlib.domain.records import DatasetRecord
from benchlib.presentation.text import counted
from pages.shared import actions, dataset_designs, dataset_forms, filters, texts, words
from pages.shared.access import get_dataset_service

PAGE_SIZE = 50
TABS = ["Browse", "Import", "Build"]

service = get_dataset_service()


def show_table(known: list[DatasetRecord]) -> None:
    """The datasets as a table; a click on a row opens the dataset below."""
    ids = [dataset.id for dataset in known]
    frame = pd.DataFrame(
        {
            "id": ids,
            "name": [dataset.name for dataset in known],
            "kind": [dataset.kind for dataset in known],
            "personas": [dataset.n_personas for dataset in known],
            "created": pd.to_datetime([dataset.created_at for dataset in known], utc=True),
            "note": [dataset.note for dataset in known],
        }
    )
    st.dataframe(
        frame,
        key="datasets_table",
        hide_index=True,
        on_select=lambda: open_selected(ids),
        selection_mode="single-row",
        column_config={
            "id": st.column_config.NumberColumn("Dataset", width="small", pinned=True),
            "name": st.column_config.TextColumn("Name"),
            "kind": st.column_config.TextColumn("Kind"),
            "personas": st.column_config.NumberColumn("Personas", format="localized"),
            "created": st.column_config.DatetimeColumn(
                "Created", format="YYYY-MM-DD HH:mm", timezone=st.context.timezone
            ),
            "note": st.column_config.TextColumn("Note", width="large"),
        },
        alt="Datasets",
    )


def open_selected(ids: list[int]) -> None:
    """Show the clicked row's dataset."""
    rows = st.session_state["datasets_table"]["selection"]["rows"]
    if rows and rows[0] < len(ids):
        dataset_forms.remember_dataset(ids[rows[0]])


def show_composition(composition: Composition) -> None:
    """How many personas are in each category of one attribute."""
    by_name = {one["attribute"]: one for one in composition["attributes"]}
    attribute = st.selectbox(
        "Attribute",
        list(by_name),
        key="attribute",
        bind="query-params",
        help="Its categories are counted.",
    )
    counts = pd.DataFrame(by_name[attribute]["categories"])
    chart, table = st.columns(2)
    chart.bar_chart(
        counts.rename(columns={"category": "Category", "count": "Personas"}),
        x="Category",
        y="Personas",
        horizontal=True,
        sort=False,
        alt="Personas per category",
    )
    table.dataframe(
        counts,
        hide_index=True,
        key="datasets_composition",
        column_config={
            "category": st.column_config.TextColumn("Category"),
            "count": st.column_config.NumberColumn("Personas", format="localized"),
            "share": st.column_config.NumberColumn("Share", format="percent"),
        },
        alt="Personas per category",
    )


def to_first_page() -> None:
    """Back to page 1: with other filters, the list is another one."""
    st.session_state["page"] = 1


def show_personas(dataset: DatasetRecord, composition: Composition) -> None:
    """The personas that match a filter, page by page."""
    where = filters.pick_persona_values(composition, to_first_page)
    search = st.text_input(
        "Search",
        key="q",
        bind="query-params",
        on_change=to_first_page,
        type="search",
        placeholder="Name, identifier or text",
        help="Part of an identifier, name, appearance or biography.",
    )
    total = service.list_personas(dataset.id, where=where, search=search, limit=1).total
    _, personas = filters.paged(
        "page",
        total,
        PAGE_SIZE,
        lambda limit, offset: (
            service.list_personas(
                dataset.id, where=where, search=search, limit=limit, offset=offset
            ).personas
        ),
    )
    st.dataframe(
        words.persona_frame(personas),
        hide_index=True,
        key="datasets_personas",
        alt="Personas of this page",
    )
    st.caption(f"{total:,} of {counted(dataset.n_personas, 'persona')}")


def show_downloads(dataset: DatasetRecord) -> None:
    """The dataset as a file, made when its button is clicked."""
    for ending, label in words.MATERIAL_FORMATS.items():
        st.download_button(
            f"Download {label}",
            partial(service.export_personas, dataset.id, ending),
            file_name=f"{words.file_stem(dataset.name)}.{ending}",
            key=f"datasets_download_{ending}",
            on_click="ignore",
            icon=":material/download:",
            help="Contains all personas; importing it gives the same dataset again.",
        )


def show_delete(dataset: DatasetRecord) -> None:
    """Ask before deleting, which cannot be undone."""
    with st.popover("Delete dataset", icon=":material/delete:", key="datasets_delete"):
        st.text(dataset.name)
        st.write(
            f"This deletes the dataset, and those of its "
            f"{counted(dataset.n_personas, 'persona')} that are in no other dataset. It "
            "cannot be undone."
        )
        if st.button("Delete permanently", key="datasets_delete_yes", type="primary"):
            actions.act(lambda: delete(dataset.id))


def delete(dataset_id: int) -> None:
    """Delete a dataset; the next one in the list takes its place."""
    service.delete_dataset(dataset_id)
    dataset_forms.forget_dataset(dataset_id)


def browse(known: list[DatasetRecord]) -> None:
    """All datasets, and one of them in full."""
    show_table(known)
    dataset = dataset_forms.pick_dataset(known)
    composition = service.get_composition(dataset.id)
    texts.numbers(
        {
            "Personas": (f"{composition['n_personas']:,}", "All personas of this dataset."),
            "Counterfactuals": (
                f"{composition['n_counterfactuals']:,}",
                "Of these, copies of another persona with one attribute changed.",
            ),
            "Attributes": (f"{len(composition['attributes'])}", "Personas are compared by them."),
            "Ages": (
                words.span(composition["youngest"], composition["oldest"]),
                "In years.",
            ),
        }
    )
    if dataset.note:
        st.text(dataset.note)
    with st.container(horizontal=True):
        show_downloads(dataset)
        if service.may(service.delete_dataset):
            show_delete(dataset)
    st.subheader("Composition")
    show_composition(composition)
    st.subheader("Personas")
    show_personas(dataset, composition)
    with st.expander("How it was made", icon=":material/build:"):
        st.json({"content_hash": dataset.content_hash, **dataset.parameters})


st.title("Datasets")
dataset_forms.go_where_asked()
known = service.list_datasets()
if not service.may(service.import_personas):
    browse(known)
else:
    tabs = st.tabs(TABS, key="datasets_tab", on_change="rerun", bind="query-params")
    bodies: tuple[Callable[[], None], ...] = (
        lambda: browse(known),
        lambda: dataset_forms.import_form(service),
        lambda: dataset_designs.build_form(service, known),
    )
    for tab, body in zip(tabs, bodies, strict=True):
        if tab.open:
            with tab:
                body()
