"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dataset",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("n_personas", sa.Integer(), nullable=False),
        sa.Column("content_hash", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "model",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "persona",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(), nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.Column("age", sa.SmallInteger(), nullable=True),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("appearance", sa.String(), nullable=True),
        sa.Column("biography", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("uuid"),
    )
    op.create_table(
        "trait",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("case_id", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("adjective", sa.JSON(), nullable=False),
        sa.Column("question", sa.JSON(), nullable=False),
        sa.Column("category", sa.String(), nullable=False),
        sa.Column("valence", sa.SmallInteger(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("retired", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("case_id", "version"),
    )
    op.create_index(op.f("ix_trait_case_id"), "trait", ["case_id"], unique=False)
    op.create_table(
        "benchmarkrun",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("tally", sa.JSON(), nullable=False),
        sa.Column("data_version", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(), nullable=True),
        sa.Column("heartbeat", sa.BigInteger(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("activity", sa.String(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("seconds_active", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["dataset.id"],
        ),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["model.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_benchmarkrun_dataset_id"), "benchmarkrun", ["dataset_id"], unique=False
    )
    op.create_index(op.f("ix_benchmarkrun_model_id"), "benchmarkrun", ["model_id"], unique=False)
    op.create_index(op.f("ix_benchmarkrun_status"), "benchmarkrun", ["status"], unique=False)
    op.create_table(
        "datasetmember",
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("persona_id", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("source_persona_id", sa.Integer(), nullable=True),
        sa.Column("changed_attribute", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["dataset.id"],
        ),
        sa.ForeignKeyConstraint(
            ["persona_id"],
            ["persona.id"],
        ),
        sa.ForeignKeyConstraint(
            ["source_persona_id"],
            ["persona.id"],
        ),
        sa.PrimaryKeyConstraint("dataset_id", "position"),
        sa.UniqueConstraint("dataset_id", "persona_id"),
    )
    op.create_index(
        op.f("ix_datasetmember_persona_id"), "datasetmember", ["persona_id"], unique=False
    )
    op.create_index(
        op.f("ix_datasetmember_source_persona_id"),
        "datasetmember",
        ["source_persona_id"],
        unique=False,
    )
    op.create_table(
        "answertext",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("persona_id", sa.Integer(), nullable=False),
        sa.Column("trait_id", sa.Integer(), nullable=False),
        sa.Column("scale_order", sa.SmallInteger(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["benchmarkrun.id"],
        ),
        sa.PrimaryKeyConstraint("run_id", "persona_id", "trait_id", "scale_order"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "benchcache",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("panel", sa.String(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["benchmarkrun.id"],
        ),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index(op.f("ix_benchcache_run_id"), "benchcache", ["run_id"], unique=False)
    op.create_table(
        "benchmarkresult",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("persona_id", sa.Integer(), nullable=False),
        sa.Column("trait_id", sa.Integer(), nullable=False),
        sa.Column("scale_order", sa.SmallInteger(), nullable=False),
        sa.Column("rating_raw", sa.SmallInteger(), nullable=False),
        sa.Column("p1", sa.Integer(), nullable=True),
        sa.Column("p2", sa.Integer(), nullable=True),
        sa.Column("p3", sa.Integer(), nullable=True),
        sa.Column("p4", sa.Integer(), nullable=True),
        sa.Column("p5", sa.Integer(), nullable=True),
        sa.Column("valid_mass", sa.Integer(), nullable=True),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("latency_ms", sa.Integer(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("answered_at", sa.BigInteger(), nullable=False),
        sa.Column("raw_answer", sa.String(), nullable=True),
        sa.CheckConstraint("rating_raw BETWEEN 1 AND 5", name="rating_on_scale"),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["benchmarkrun.id"],
        ),
        sa.PrimaryKeyConstraint("run_id", "persona_id", "trait_id", "scale_order"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "failure",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("persona_id", sa.Integer(), nullable=True),
        sa.Column("trait_id", sa.Integer(), nullable=True),
        sa.Column("scale_order", sa.SmallInteger(), nullable=True),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("n_items", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("raw_snippet", sa.String(), nullable=False),
        sa.Column("prompt_snippet", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["benchmarkrun.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_failure_run_kind", "failure", ["run_id", "kind"], unique=False)
    # Ratings changed by hand must never meet a stale panel: every edit makes a new data version.
    # Inserts of the run's owner count themselves; others only come where nobody owns the run.
    if op.get_bind().dialect.name == "sqlite":
        for action, row, condition in (
            (
                "INSERT",
                "NEW",
                "WHEN (SELECT owner FROM benchmarkrun WHERE id = NEW.run_id) IS NULL",
            ),
            ("UPDATE", "OLD", ""),
            ("DELETE", "OLD", ""),
        ):
            op.execute(
                f"CREATE TRIGGER result_{action.lower()} AFTER {action} ON benchmarkresult "
                f"{condition} BEGIN UPDATE benchmarkrun SET data_version = data_version + 1 "
                f"WHERE id = {row}.run_id; END"
            )
    else:
        op.execute(
            "CREATE FUNCTION result_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "UPDATE benchmarkrun SET data_version = data_version + 1 "
            "WHERE id IN (SELECT DISTINCT run_id FROM changed) "
            "AND (TG_OP <> 'INSERT' OR owner IS NULL); RETURN NULL; END $$"
        )
        for action, table in (("INSERT", "NEW"), ("UPDATE", "OLD"), ("DELETE", "OLD")):
            op.execute(
                f"CREATE TRIGGER result_{action.lower()} AFTER {action} ON benchmarkresult "
                f"REFERENCING {table} TABLE AS changed FOR EACH STATEMENT "
                "EXECUTE FUNCTION result_changed()"
            )


def downgrade() -> None:
    raise RuntimeError("Restore a backup to go back to an older schema.")
