"""Which dataset a page shows, and the form that imports one."""

from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

import streamlit as st

from benchlib.application.dataset_service import DatasetService, PersonaPreview
from benchlib.domain.errors import BenchlibError
from benchlib.domain.records import DatasetRecord
from pages.shared import texts, words

_DATASET = "dataset"


def remember_dataset(dataset_id: int) -> None:
    """Make a dataset the one that is shown, and name it in the URL."""
    st.session_state["current_dataset"] = dataset_id
    if st.query_params.get(_DATASET) != str(dataset_id):
        st.query_params[_DATASET] = str(dataset_id)


def forget_dataset(dataset_id: int) -> None:
    """Forget a dataset that was deleted."""
    if st.session_state.get("current_dataset") == dataset_id:
        del st.session_state["current_dataset"]
    if st.query_params.get(_DATASET) == str(dataset_id):
        del st.query_params[_DATASET]


def pick_dataset(known: Sequence[DatasetRecord]) -> DatasetRecord:
    """One dataset, named in the URL by its number; if there is none, stops the page."""
    by_id = {dataset.id: dataset for dataset in known}
    if not by_id:
        st.info("There is no dataset; import or build one.", icon=":material/info:")
        st.stop()
    asked = st.query_params.get(_DATASET, "")
    dataset_id = int(asked) if asked.isascii() and asked.isdigit() else None
    if asked and dataset_id not in by_id:
        st.warning(
            "The dataset in this page's address does not exist; another one is shown.",
            icon=":material/link_off:",
        )
    if dataset_id not in by_id:
        dataset_id = st.session_state.get("current_dataset")
    if dataset_id not in by_id:
        dataset_id = next(iter(by_id))
    remember_dataset(dataset_id)
    st.session_state["datasets_picker"] = dataset_id
    return by_id[
        st.selectbox(
            "Dataset",
            list(by_id),
            format_func=lambda key: f"{key} · {by_id[key].name}",
            key="datasets_picker",
            on_change=lambda: remember_dataset(st.session_state["datasets_picker"]),
            help="Type to search. The address of this page leads back to this dataset.",
        )
    ]


def go_where_asked() -> None:
    """Show the dataset just made. Runs before the tabs: they cannot be switched afterwards."""
    made = st.session_state.pop("datasets_made", None)
    if made is not None:
        remember_dataset(made)
        st.session_state["datasets_tab"] = "Browse"
        st.toast("The dataset is stored.", icon=":material/check:")


def make(action: Callable[[], int]) -> None:
    """Store a dataset and show it, or say why not."""
    try:
        with st.spinner("Storing personas…"):
            st.session_state["datasets_made"] = action()
    except BenchlibError as error:
        texts.show_error(error)
    else:
        st.rerun()


def pick_encoding(prefix: str) -> str | None:
    """The encoding of a CSV file that does not declare it."""
    return words.ENCODINGS[
        st.selectbox(
            "Encoding",
            list(words.ENCODINGS),
            key=f"{prefix}_encoding",
            help="For CSV files without a byte order mark. Files saved by older spreadsheets are "
            "often Windows-1252.",
        )
    ]


def previewed(
    key: str, file: Any, encoding: str | None, look: Callable[[bytes, str | None], Any]
) -> Any:
    """What importing the file would do, computed once per file; None, with an error, if bad."""
    known = st.session_state.get(key)
    if known is None or known[0] != (file.file_id, encoding):
        try:
            with st.spinner("Reading the file…"):
                found = look(file.getvalue(), encoding)
        except BenchlibError as error:
            found = error
        known = st.session_state[key] = ((file.file_id, encoding), found)
    if isinstance(known[1], BenchlibError):
        texts.show_error(known[1])
        return None
    return known[1]


def import_form(service: DatasetService) -> None:
    """A file, a preview of what it contains, and the button that imports all of it."""
    st.write(
        "One row per persona. The columns `uuid`, `name`, `age`, `appearance` and `biography`, and "
        "for counterfactuals `source_uuid` and `changed_attribute`, have a meaning of their own; "
        "every other column is an attribute. The age group follows from the age."
    )
    file = st.file_uploader(
        "CSV or Parquet file",
        type=["csv", "tsv", "txt", "parquet"],
        key="datasets_file",
        help="CSV with commas, semicolons or tabs; at most a million rows.",
    )
    encoding = pick_encoding("datasets")
    if file is None:
        st.session_state.pop("datasets_preview", None)
        return
    preview = previewed("datasets_preview", file, encoding, service.preview_personas)
    if preview is None:
        return
    show_preview(preview)
    name = st.text_input(
        "Name of the new dataset",
        PurePath(file.name).stem[:100],
        max_chars=100,
        key=f"datasets_import_name_{file.file_id}",
        help="Runs and exports refer to it by this name.",
    )
    note = st.text_area("Note", key="datasets_import_note", help="Where the personas come from.")
    if st.button("Import", key="datasets_import", type="primary", icon=":material/upload:"):
        make(
            lambda: service.import_personas(
                file.getvalue(), file.name, name, note=note, encoding=encoding
            )
        )


def show_preview(preview: PersonaPreview) -> None:
    """What will be stored."""
    composition = preview.composition
    st.caption(f"Read as {preview.form}. Nothing is stored yet.")
    texts.numbers(
        {
            "Personas": (f"{composition['n_personas']:,}", "Rows that will be stored."),
            "Counterfactuals": (f"{composition['n_counterfactuals']:,}", "Personas with a source."),
            "Ages": (
                words.span(composition["youngest"], composition["oldest"]),
                "In years.",
            ),
        }
    )
    for warning in preview.warnings:
        st.warning(words.plain_markdown(warning), icon=":material/warning:")
    st.dataframe(
        words.attribute_frame(composition),
        hide_index=True,
        key="datasets_preview_summary",
        alt="Attributes found",
    )
    with st.expander("First personas"):
        st.dataframe(
            words.persona_frame(preview.first),
            hide_index=True,
            key="datasets_preview_first",
            alt="First personas of the file",
        )
