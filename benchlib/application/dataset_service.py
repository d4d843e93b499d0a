"""Datasets, personas and traits: import, build, look at, export."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from benchlib.application.composition_cache import load_composition, remember_composition
from benchlib.application.dataset_designs import (
    Design,
    design_kind,
    design_parameters,
    design_personas,
)
from benchlib.application.permissions import ActingService, needs
from benchlib.application.sample_data import load_sample_data
from benchlib.domain.errors import InvalidInput
from benchlib.domain.material.composition import Composition as Composition
from benchlib.domain.material.composition import table_composition
from benchlib.domain.material.personas import (
    PersonaDraft,
    check_personas,
    persona_columns,
    persona_rows,
)
from benchlib.domain.material.text_tables import clean_text, shorten
from benchlib.domain.material.traits import (
    TRAIT_COLUMNS,
    TraitDraft,
    check_trait,
    check_traits,
    same_wording,
    trait_row,
)
from benchlib.domain.records import DatasetRecord, PersonaRecord, TraitRecord
from benchlib.domain.users import OWNER, Role, User
from benchlib.infrastructure.storage import datasets, traits
from benchlib.infrastructure.storage.database import Store
from benchlib.infrastructure.table_files import read_table, write_csv, write_parquet

FileFormat = Literal["csv", "parquet"]

_MAX_NAME: Final = 100
_MAX_NOTE: Final = 2_000
_MAX_PAGE: Final = 1_000
_PREVIEW_ROWS: Final = 20


@dataclass(frozen=True, slots=True)
class PersonaPage:
    """Some of the personas that fit a filter.

    Attributes:
        total: How many fit in all.
    """

    personas: tuple[PersonaRecord, ...]
    total: int


@dataclass(frozen=True, slots=True)
class PersonaPreview:
    """What importing a persona table would do.

    Attributes:
        form: The encoding and delimiter that were recognised.
        first: Its first personas as they will be stored.
        warnings: What is allowed but may be a mistake.
    """

    form: str
    composition: Composition
    first: tuple[PersonaDraft, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TraitPreview:
    """What importing a trait table will do, by case_id."""

    form: str
    new: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class DatasetService(ActingService):
    """Personas, datasets and traits for pages, API, CLI and notebooks.

    Every method that writes raises ReadOnly or NotAllowed where the user may not write, and records
    what it did.
    """

    def __init__(
        self,
        store: Store,
        read_only: bool = False,
        now: Callable[[], datetime] = _utc_now,
        user: User = OWNER,
    ) -> None:
        super().__init__(user, read_only)
        self._store = store
        self._now = now

    @needs(Role.ADMIN, "load sample data")
    def load_sample_data(self) -> None:
        """Fill an empty store with sample data; does nothing where there is data."""
        load_sample_data(self._store, self._now())

    def list_datasets(self) -> list[DatasetRecord]:
        """All datasets, newest first."""
        with self._store.read() as session:
            return datasets.list_datasets(session)

    def get_dataset(self, dataset_id: int) -> DatasetRecord:
        """One dataset.

        Raises:
            NotFound: There is none with this id.
        """
        with self._store.read() as session:
            return datasets.get_dataset(session, dataset_id)

    def get_composition(self, dataset_id: int) -> Composition:
        """How many personas a dataset has of each category; computed once per dataset.

        Raises:
            NotFound: There is no such dataset.
        """
        return load_composition(self._store, self.get_dataset(dataset_id))

    def list_personas(
        self,
        dataset_id: int,
        *,
        where: Mapping[str, str] | None = None,
        search: str = "",
        offset: int = 0,
        limit: int = 50,
    ) -> PersonaPage:
        """A page of a dataset's personas.

        Args:
            dataset_id: The dataset.
            where: Attribute -> category.
            search: Part of a uuid, name, appearance or biography.
            offset: Personas to skip.
            limit: Personas to give at most.

        Raises:
            NotFound: There is no such dataset.
            InvalidInput: The dataset has no such attribute, or the page is out of bounds.
        """
        if offset < 0 or not 1 <= limit <= _MAX_PAGE:
            raise InvalidInput(f"Ask for pages of 1 to {_MAX_PAGE} personas, from 0 on.")
        if where:
            known = [one["attribute"] for one in self.get_composition(dataset_id)["attributes"]]
            for attribute in where:
                if attribute not in known:
                    raise InvalidInput(
                        f"The dataset has no attribute {shorten(attribute)}; "
                        f"it has {', '.join(known)}."
                    )
        with self._store.read() as session:
            datasets.get_dataset(session, dataset_id)
            found, total = datasets.find_personas(
                session,
                dataset_id,
                where=where or {},
                search=search.strip().replace("\x00", ""),
                offset=offset,
                limit=limit,
            )
        return PersonaPage(tuple(found), total)

    def preview_personas(self, content: bytes, encoding: str | None = None) -> PersonaPreview:
        """What `import_personas` will do with this file.

        Raises:
            InvalidInput: The file cannot be imported; the text says why.
        """
        file = read_table(content, encoding)
        table = check_personas(file.frame)
        first = []
        for draft in table.drafts():
            first.append(draft)
            if len(first) == _PREVIEW_ROWS:
                break
        return PersonaPreview(file.form, table_composition(table), tuple(first), table.warnings)

    @needs(Role.RESEARCHER, "import datasets")
    def import_personas(
        self,
        content: bytes,
        filename: str,
        name: str,
        *,
        note: str = "",
        encoding: str | None = None,
    ) -> int:
        """Create a dataset from a CSV or Parquet file: all of it, or nothing.

        Args:
            content: The file.
            filename: Recorded only.
            name: Of the dataset; must be unused.
            note: Free text.
            encoding: Of a CSV file without a byte order mark; None = UTF-8.

        Returns:
            The id of the dataset.

        Raises:
            InvalidInput: The file breaks a rule; the text names rows, columns, what is allowed.
            WrongState: The name is taken.
        """
        name, note = _check_name(name), _check_note(note)
        file = read_table(content, encoding)
        table = check_personas(file.frame)
        parameters = {
            "file": shorten(filename, 200)[1:-1],
            "form": file.form,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        kind = "counterfactual" if table.has_links else "imported"
        dataset_id = self._add("imported", name, kind, table.drafts(), parameters, note)
        remember_composition(self._store, self.get_dataset(dataset_id), table_composition(table))
        return dataset_id

    @needs(Role.RESEARCHER, "build datasets")
    def build_dataset(self, design: Design, name: str, note: str = "") -> int:
        """Create a dataset by design and return its id.

        Raises:
            InvalidInput: The design is impossible; the message says what is possible.
            NotFound: One of its datasets does not exist.
            WrongState: The name is taken.
        """
        name, note = _check_name(name), _check_note(note)
        with self._store.read() as session:
            drafts = design_personas(session, design)
            parameters = design_parameters(session, design)
        return self._add("built", name, design_kind(design), drafts, parameters, note)

    def export_personas(self, dataset_id: int, file_format: FileFormat = "csv") -> bytes:
        """A dataset as a file that `import_personas` reads back to the same personas.

        Raises:
            NotFound: There is no such dataset.
        """
        self.get_dataset(dataset_id)
        columns = persona_columns(datasets.iter_drafts(self._store, dataset_id))
        drafts = datasets.iter_drafts(self._store, dataset_id)
        return _write(file_format, columns, persona_rows(drafts, columns))

    @needs(Role.ADMIN, "delete datasets")
    def delete_dataset(self, dataset_id: int) -> None:
        """Delete a dataset and the personas that are in no other one.

        Raises:
            NotFound: There is no such dataset.
            WrongState: Runs were made on it.
        """
        with self._store.write() as session:
            name = datasets.get_dataset(session, dataset_id).name
            datasets.delete_dataset(session, dataset_id)
            self._record(session, "deleted", "dataset", dataset_id, name, self._now())

    def list_traits(self, *, active_only: bool = False) -> list[TraitRecord]:
        """The catalogue, in the order in which traits were added."""
        with self._store.read() as session:
            return traits.list_traits(session, active_only=active_only)

    def trait_categories(self) -> list[str]:
        """The categories of the catalogue, in its order."""
        return list(dict.fromkeys(trait.category for trait in self.list_traits()))

    def preview_traits(self, content: bytes, encoding: str | None = None) -> TraitPreview:
        """What `import_traits` will do with this file.

        Raises:
            InvalidInput: The file cannot be imported; the text says why.
        """
        file = read_table(content, encoding)
        current = {trait.case_id: trait for trait in self.list_traits()}
        groups: dict[str, list[str]] = {"new": [], "changed": [], "unchanged": []}
        for draft in check_traits(file.frame):
            known = current.get(draft.case_id)
            if known is None:
                group = "new"
            else:
                group = "unchanged" if same_wording(known, draft) else "changed"
            groups[group].append(draft.case_id)
        return TraitPreview(
            file.form, tuple(groups["new"]), tuple(groups["changed"]), tuple(groups["unchanged"])
        )

    @needs(Role.RESEARCHER, "import traits")
    def import_traits(self, content: bytes, encoding: str | None = None) -> list[int]:
        """Add a CSV or Parquet file of traits to the catalogue: all of it, or nothing.

        A trait with a known case_id and a different wording becomes a new version of it.

        Returns:
            The ids of the traits, in the order of the file.

        Raises:
            InvalidInput: The file breaks a rule; the text names rows, columns, what is allowed.
        """
        drafts = check_traits(read_table(content, encoding).frame)
        with self._store.write() as session:
            ids = traits.add_traits(session, drafts, now=self._now())
            names = ", ".join(draft.case_id for draft in drafts)
            words = f"{len(drafts)} in a file: {names}"
            self._record(session, "imported", "trait", None, words, self._now())
            return ids

    @needs(Role.RESEARCHER, "add traits")
    def add_trait(self, draft: TraitDraft) -> int:
        """Add a trait to the catalogue and return its id.

        Raises:
            InvalidInput: The draft breaks a rule, or the catalogue has this case_id.
        """
        checked = check_trait(draft)
        with self._store.write() as session:
            if checked.case_id in {trait.case_id for trait in traits.list_traits(session)}:
                raise InvalidInput(
                    f"The catalogue already has a trait {shorten(checked.case_id)}; edit that one, "
                    "or choose another name."
                )
            (trait_id,) = traits.add_traits(session, [checked], now=self._now())
            self._record(session, "added", "trait", trait_id, checked.case_id, self._now())
            return trait_id

    @needs(Role.RESEARCHER, "edit traits")
    def edit_trait(self, trait_id: int, draft: TraitDraft) -> int:
        """Reword a trait; earlier runs keep the old wording. Returns the id of the new version.

        Raises:
            NotFound: There is no such trait.
            InvalidInput: The draft breaks a rule.
            WrongState: The trait was edited by someone else in the meantime.
        """
        checked = check_trait(draft)
        with self._store.write() as session:
            new_id = traits.edit_trait(session, trait_id, checked, now=self._now())
            self._record(session, "edited", "trait", new_id, checked.case_id, self._now())
            return new_id

    @needs(Role.RESEARCHER, "switch traits on and off")
    def set_trait_active(self, trait_id: int, active: bool) -> None:
        """Offer a trait for new runs, or stop offering it.

        Raises:
            NotFound: There is no such trait.
            WrongState: This version was replaced by a newer one.
        """
        with self._store.write() as session:
            traits.set_trait_active(session, trait_id, active)
            name = traits.get_traits(session, [trait_id])[0].case_id
            action = "activated" if active else "deactivated"
            self._record(session, action, "trait", trait_id, name, self._now())

    def export_traits(self, file_format: FileFormat = "csv") -> bytes:
        """The catalogue as a file that `import_traits` reads back."""
        return _write(file_format, TRAIT_COLUMNS, map(trait_row, self.list_traits()))

    def _add(
        self,
        action: str,
        name: str,
        kind: str,
        drafts: Iterable[PersonaDraft],
        parameters: Mapping[str, object],
        note: str,
    ) -> int:
        with self._store.write() as session:
            dataset_id = datasets.add_dataset(
                session, name, kind, drafts, parameters=parameters, note=note, now=self._now()
            )
            self._record(session, action, "dataset", dataset_id, name, self._now())
            return dataset_id


def _check_name(name: str) -> str:
    cleaned = clean_text(name)
    if not cleaned or len(cleaned) > _MAX_NAME or not cleaned.isprintable():
        raise InvalidInput(f"Give the dataset a name of 1 to {_MAX_NAME} characters on one line.")
    return cleaned


def _check_note(note: str) -> str:
    cleaned = clean_text(note)
    if len(cleaned) > _MAX_NOTE or not cleaned.replace("\n", "").replace("\t", "").isprintable():
        raise InvalidInput(
            f"A note has at most {_MAX_NOTE:,} characters and no control characters."
        )
    return cleaned


def _write(file_format: FileFormat, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    if file_format == "csv":
        return write_csv(columns, rows)
    if file_format == "parquet":
        return write_parquet(columns, rows)
    raise InvalidInput(f"{shorten(file_format)} is no format; choose csv or parquet.")
