"""The tables. Only storage imports them; everyone else gets frozen records.

Keys are integers, so that a result is small. Personas and trait versions never change once written:
editing a trait writes a new version, so an old run keeps its meaning.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

PPB = 1_000_000_000


class UtcTime(TypeDecorator[datetime]):
    """A time, stored as milliseconds since 1970 UTC; read back aware, in UTC."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Refuse naive times: they would mean another time on another machine."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("A stored time needs an offset.")
        return round(value.timestamp() * 1000)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Return the time, aware."""
        return None if value is None else datetime.fromtimestamp(value / 1000, UTC)


class Probability(TypeDecorator[float]):
    """A probability, stored as parts per billion: four bytes instead of eight, exact to 5e-10."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> int | None:
        """Round to parts per billion."""
        return None if value is None else round(value * PPB)

    def process_result_value(self, value: int | None, dialect: Dialect) -> float | None:
        """Return the probability, 0..1."""
        return None if value is None else value / PPB


def _time(*, nullable: bool = True) -> Any:
    return Field(default=None, sa_column=Column(UtcTime, nullable=nullable))


class Model(SQLModel, table=True):
    """A model, by the name its server uses."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)


class Trait(SQLModel, table=True):
    """One version of a trait; the catalogue holds the newest one that is not retired."""

    __table_args__ = (UniqueConstraint("case_id", "version"),)

    id: int | None = Field(default=None, primary_key=True)
    case_id: str = Field(index=True)
    version: int = 1
    adjective: dict[str, str] = Field(sa_column=Column(JSON, nullable=False))
    question: dict[str, str] = Field(sa_column=Column(JSON, nullable=False))
    category: str
    valence: int = Field(sa_column=Column(SmallInteger, nullable=False))
    active: bool = True
    retired: bool = False
    created_at: datetime = _time(nullable=False)


class Persona(SQLModel, table=True):
    """One persona; never changed once written."""

    id: int | None = Field(default=None, primary_key=True)
    uuid: str = Field(unique=True)
    attributes: dict[str, str] = Field(sa_column=Column(JSON, nullable=False))
    age: int | None = Field(default=None, sa_column=Column(SmallInteger))
    name: str | None = None
    appearance: str | None = None
    biography: str | None = None


class Dataset(SQLModel, table=True):
    """A fixed list of personas; to change it, build another."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    kind: str
    note: str = ""
    parameters: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    n_personas: int
    content_hash: str
    created_at: datetime = _time(nullable=False)


class DatasetMember(SQLModel, table=True):
    """A persona's place in a dataset; a counterfactual names its source and changed attribute."""

    __table_args__ = (UniqueConstraint("dataset_id", "persona_id"),)

    dataset_id: int = Field(foreign_key="dataset.id", primary_key=True)
    position: int = Field(primary_key=True)
    persona_id: int = Field(foreign_key="persona.id", index=True)
    role: str = "source"
    source_persona_id: int | None = Field(default=None, foreign_key="persona.id", index=True)
    changed_attribute: str | None = None


class BenchmarkRun(SQLModel, table=True):
    """A run: its configuration, what the engine reported, and its progress.

    Only the owner writes `done`, `failed`, `tally` and `heartbeat`, in the transaction that stores
    the answers they count. `data_version` grows with every change of the results. Ids are never
    reused, so a link or an export always means the same run.
    """

    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = Field(default=None, primary_key=True)
    model_id: int = Field(foreign_key="model.id", index=True)
    dataset_id: int = Field(foreign_key="dataset.id", index=True)
    status: str = Field(index=True)
    config: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    manifest: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    total: int = Field(sa_column=Column(BigInteger, nullable=False))
    done: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    failed: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    tally: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    data_version: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    owner: str | None = None
    heartbeat: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    cancel_requested: bool = False
    activity: str | None = None
    error: str | None = None
    note: str = ""
    tags: list[str] = Field(sa_column=Column(JSON, nullable=False))
    created_at: datetime = _time(nullable=False)
    started_at: datetime | None = _time()
    finished_at: datetime | None = _time()
    seconds_active: float = 0.0


class BenchmarkResult(SQLModel, table=True):
    """One answer. Its key is (run, persona, trait, scale order): nothing is stored twice.

    `scale_order` is 0 (in) or 1 (rev), `rating_raw` the digit the model gave; p1..p5 and
    `valid_mass` are stored in parts per billion. Long raw answers are in AnswerText. There is no
    foreign key to personas and traits: they never change, a dataset that a run uses cannot be
    deleted, and the check would scan all results for each persona deleted elsewhere.
    """

    __table_args__ = (
        CheckConstraint("rating_raw BETWEEN 1 AND 5", name="rating_on_scale"),
        {"sqlite_with_rowid": False},
    )

    run_id: int = Field(foreign_key="benchmarkrun.id", primary_key=True)
    persona_id: int = Field(primary_key=True)
    trait_id: int = Field(primary_key=True)
    scale_order: int = Field(sa_column=Column(SmallInteger, primary_key=True))
    rating_raw: int = Field(sa_column=Column(SmallInteger, nullable=False))
    p1: float | None = Field(default=None, sa_column=Column(Probability))
    p2: float | None = Field(default=None, sa_column=Column(Probability))
    p3: float | None = Field(default=None, sa_column=Column(Probability))
    p4: float | None = Field(default=None, sa_column=Column(Probability))
    p5: float | None = Field(default=None, sa_column=Column(Probability))
    valid_mass: float | None = Field(default=None, sa_column=Column(Probability))
    attempt: int = Field(sa_column=Column(SmallInteger, nullable=False))
    latency_ms: int
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    answered_at: datetime = _time(nullable=False)
    raw_answer: str | None = None


class AnswerText(SQLModel, table=True):
    """The raw answer of a result, where it is long; in a table of its own to keep results small."""

    __table_args__ = ({"sqlite_with_rowid": False},)

    run_id: int = Field(foreign_key="benchmarkrun.id", primary_key=True)
    persona_id: int = Field(primary_key=True)
    trait_id: int = Field(primary_key=True)
    scale_order: int = Field(sa_column=Column(SmallInteger, primary_key=True))
    text: str


class Failure(SQLModel, table=True):
    """One failed attempt. A fault of a whole request names no question, only how many it held.

    `final` marks the attempt after which the question was given up in this execution of the run.
    """

    __table_args__ = (Index("ix_failure_run_kind", "run_id", "kind"),)

    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(sa_column=Column(Integer, ForeignKey("benchmarkrun.id"), nullable=False))
    persona_id: int | None = None
    trait_id: int | None = None
    scale_order: int | None = Field(default=None, sa_column=Column(SmallInteger))
    attempt: int = Field(sa_column=Column(SmallInteger, nullable=False))
    n_items: int = 1
    kind: str
    final: bool = False
    message: str
    raw_snippet: str = ""
    prompt_snippet: str = ""
    created_at: datetime = _time(nullable=False)


class BenchCache(SQLModel, table=True):
    """A computed panel of a run; its key covers everything its content depends on."""

    key: str = Field(primary_key=True)
    run_id: int = Field(foreign_key="benchmarkrun.id", index=True)
    panel: str
    payload: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = _time(nullable=False)


class AuditEntry(SQLModel, table=True):
    """Who did what, when. Rows are only added; the object they are about may have been deleted."""

    __table_args__ = (Index("ix_auditentry_object", "kind", "object_id"),)

    id: int | None = Field(default=None, primary_key=True)
    at: datetime = _time(nullable=False)
    user_name: str
    action: str
    kind: str
    object_id: int | None = None
    detail: str
