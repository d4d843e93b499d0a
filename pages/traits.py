"""Browse, edit, import and export the trait catalogue."""

from functools import partial

import streamlit as st

from benchlib.application.dataset_service import TraitPreview
from benchlib.domain.material.traits import DEFAULT_QUESTIONS, TraitDraft
from benchlib.domain.records import TraitRecord
from benchlib.domain.vocabulary import Language
from benchlib.presentation.text import counted
from pages.shared import actions, dataset_forms, words
from pages.shared.access import get_dataset_service

TABS = ["Catalogue", "Add", "Import"]

service = get_dataset_service()


def show_table(shown: list[TraitRecord]) -> list[TraitRecord]:
    """The traits as a table; returns the selected ones."""
    event = st.dataframe(
        words.trait_frame(shown),
        key="traits_table",
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        column_config={
            "trait": st.column_config.TextColumn("Trait", pinned=True),
            "category": st.column_config.TextColumn("Category"),
            "valence": st.column_config.TextColumn("Valence"),
            "english": st.column_config.TextColumn("English"),
            "german": st.column_config.TextColumn("German"),
            "question_en": st.column_config.TextColumn("Question, English"),
            "question_de": st.column_config.TextColumn("Question, German"),
            "active": st.column_config.CheckboxColumn("Active"),
            "version": st.column_config.NumberColumn("Version", width="small"),
        },
        alt="Traits",
    )
    return [shown[row] for row in event["selection"]["rows"] if row < len(shown)]


def switch(chosen: list[TraitRecord], active: bool) -> None:
    """Offer these traits for new runs, or no longer."""
    for trait in chosen:
        service.set_trait_active(trait.id, active)


def show_switches(chosen: list[TraitRecord]) -> None:
    """Buttons for the rows selected in the table."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Activate", key="traits_on", icon=":material/toggle_on:", disabled=not chosen):
            actions.act(lambda: switch(chosen, True))
        if st.button(
            "Deactivate", key="traits_off", icon=":material/toggle_off:", disabled=not chosen
        ):
            actions.act(lambda: switch(chosen, False))
        st.caption(
            f"{counted(len(chosen), 'row')} selected. New runs are offered active traits; "
            "old runs keep theirs."
        )


def pick_trait(shown: list[TraitRecord]) -> TraitRecord:
    """One trait, kept in the URL."""
    by_name = {trait.case_id: trait for trait in shown}
    return by_name[
        st.selectbox(
            "Trait",
            list(by_name),
            key="trait",
            bind="query-params",
            help="Type to search.",
        )
    ]


def trait_fields(prefix: str, trait: TraitRecord | None, case_id: str) -> TraitDraft:
    """The fields of a trait; their keys change with the version, so that they show it."""
    suffix = f"{prefix}_{trait.id}" if trait else prefix
    known = service.trait_categories()
    adjective: dict[Language, str] = {}
    question: dict[Language, str] = {}
    for place, (language, name) in zip(st.columns(2), words.LANGUAGES.items(), strict=True):
        adjective[language] = place.text_input(
            f"{name} adjective",
            trait.adjective.get(language, "") if trait else "",
            key=f"{suffix}_adjective_{language}",
            help="As it follows “is” or “ist”. At least one language is needed.",
        )
        question[language] = place.text_input(
            f"{name} question",
            trait.question.get(language, "") if trait else DEFAULT_QUESTIONS[language],
            key=f"{suffix}_question_{language}",
            help="Contains {adjective} once. Empty: the default question.",
        )
    category = st.selectbox(
        "Category",
        known,
        index=known.index(trait.category) if trait else None,
        accept_new_options=True,
        key=f"{suffix}_category",
        help="Traits are summarised by category; type a new one and press Enter.",
    )
    valence = st.selectbox(
        "Valence",
        list(words.VALENCES),
        index=list(words.VALENCES).index(trait.valence if trait else 1),
        format_func=words.VALENCES.__getitem__,
        key=f"{suffix}_valence",
        help="Ratings of unfavourable traits are reversed before they are averaged.",
    )
    active = trait.active if trait else True
    return TraitDraft(case_id, adjective, question, category or "", valence, active)


def edit_form(trait: TraitRecord) -> None:
    """A new wording for a trait; old runs keep the old one."""
    st.text(f"{trait.case_id}, version {trait.version}")
    draft = trait_fields("traits_edit", trait, trait.case_id)
    if st.button("Save as new version", key="traits_save", icon=":material/save:"):
        actions.act(lambda: service.edit_trait(trait.id, draft))


def add_form() -> None:
    """A trait that is not in the catalogue yet."""
    case_id = st.text_input(
        "Name", max_chars=64, key="traits_add_case_id", help="Stays the same in all versions."
    )
    draft = trait_fields("traits_add", None, case_id)
    if st.button("Add trait", key="traits_add", type="primary", icon=":material/add:"):
        actions.act(lambda: service.add_trait(draft))


def import_form() -> None:
    """A file, a preview of what it changes, and the button that imports all of it."""
    st.write(
        "One row per trait: `case_id`, `adjective_en`, `adjective_de`, `question_en`, "
        "`question_de`, `category`, `valence` (1, -1 or 0), `active`."
    )
    file = st.file_uploader(
        "CSV or Parquet file",
        type=["csv", "tsv", "txt", "parquet"],
        key="traits_file",
        help="CSV with commas, semicolons or tabs.",
    )
    encoding = dataset_forms.pick_encoding("traits")
    if file is None:
        return
    preview = dataset_forms.previewed("traits_preview", file, encoding, service.preview_traits)
    if preview is None:
        return
    show_preview(preview)
    if st.button("Import", key="traits_import", type="primary", icon=":material/upload:"):
        actions.act(lambda: import_traits(file.getvalue(), encoding))


def import_traits(content: bytes, encoding: str | None) -> None:
    """Import the file, and preview it again: nothing is left to do."""
    service.import_traits(content, encoding)
    del st.session_state["traits_preview"]


def show_preview(preview: TraitPreview) -> None:
    """What importing will change."""
    st.caption(f"Read as {preview.form}. This is what the import will do.")
    for title, names in (
        ("New", preview.new),
        ("New version", preview.changed),
        ("Unchanged", preview.unchanged),
    ):
        st.text(f"{title}: {', '.join(names) or 'none'}")


def show_downloads() -> None:
    """The catalogue as a file."""
    with st.container(horizontal=True):
        for ending, label in words.MATERIAL_FORMATS.items():
            st.download_button(
                f"Download {label}",
                partial(service.export_traits, ending),
                file_name=f"traits.{ending}",
                key=f"traits_download_{ending}",
                on_click="ignore",
                icon=":material/download:",
                help="Contains the current version of all traits.",
            )


def catalogue() -> None:
    """All traits, and one of them in full."""
    traits = service.list_traits()
    if not traits:
        st.info("There is no trait; add or import some.", icon=":material/info:")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        search = st.text_input(
            "Search",
            key="q",
            bind="query-params",
            type="search",
            placeholder="Name or wording",
            help="Shows traits that contain all the words typed.",
        )
        categories = st.multiselect(
            "Category",
            service.trait_categories(),
            key="category",
            bind="query-params",
            help="Nothing chosen shows all.",
        )
    shown = [
        trait
        for trait in traits
        if words.matches(search, [trait.case_id, *trait.adjective.values()])
        and (not categories or trait.category in categories)
    ]
    chosen = show_table(shown)
    st.caption(f"{len(shown)} of {counted(len(traits), 'trait')}")
    if service.may(service.set_trait_active):
        show_switches(chosen)
    show_downloads()
    if shown and service.may(service.edit_trait):
        st.subheader("Edit")
        edit_form(pick_trait(shown))


st.title("Traits")
if not service.may(service.import_traits):
    catalogue()
else:
    tabs = st.tabs(TABS, key="traits_tab", on_change="rerun", bind="query-params")
    for tab, body in zip(tabs, (catalogue, add_form, import_form), strict=True):
        if tab.open:
            with tab:
                body()
