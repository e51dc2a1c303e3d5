"""The tables of a journal, and how those of an older version become them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plait.durable._errors import JournalError
from plait.durable._postgres._database import rows

if TYPE_CHECKING:
    from plait.durable._postgres._database import Connection

VERSION = 2

NO_LINE, LINES_UP, IN_LINE = 0, 1, 2
"""A run's lane: it goes once it is due, has to pass its queue once it is, or is in line there."""

# Ids and paths are compared byte by byte: what lies below a path is a range of them. What is
# vacuumed by a share of a table's rows waits for millions of them: here it is some thousands.
_NEW = """
CREATE TABLE runners (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    host text NOT NULL,
    pid integer NOT NULL,
    lease timestamptz NOT NULL,
    lease_seconds double precision NOT NULL,
    is_gone boolean NOT NULL DEFAULT FALSE
) WITH (fillfactor = 50);

CREATE SEQUENCE epochs;

CREATE TABLE runs (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id text COLLATE "C" NOT NULL UNIQUE,
    workflow text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    created double precision NOT NULL,
    updated double precision NOT NULL,
    runner bigint,
    is_cancelled boolean NOT NULL DEFAULT FALSE,
    due double precision,
    wakes double precision,
    queue text COLLATE "C",
    priority bigint NOT NULL DEFAULT 0,
    lane smallint NOT NULL DEFAULT 0,
    turn bigint NOT NULL DEFAULT 0,
    began double precision,
    parent text COLLATE "C",
    metadata text NOT NULL DEFAULT '{}',
    digest bytea NOT NULL,
    input bytea NOT NULL,
    context bytea NOT NULL,
    failures text NOT NULL DEFAULT '[]',
    progress bytea,
    outcome bytea
) WITH (
    fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000
);
CREATE INDEX runs_of_workflow ON runs (workflow, status, key);
CREATE INDEX runs_running ON runs (runner) WHERE status = 'running';
CREATE INDEX runs_ended ON runs (updated) WHERE status IN ('completed', 'failed', 'cancelled');
CREATE INDEX runs_due ON runs (workflow, lane, wakes, key) WHERE wakes IS NOT NULL;
CREATE INDEX runs_in_line ON runs (workflow, queue, turn, key) WHERE lane = 2;
CREATE INDEX runs_of_queue ON runs (queue, key) WHERE queue IS NOT NULL;
CREATE INDEX runs_busy ON runs (queue) WHERE status = 'running' AND queue IS NOT NULL;
CREATE INDEX runs_begun ON runs (queue, began) WHERE began IS NOT NULL;
CREATE INDEX runs_of_parent ON runs (parent, key) WHERE parent IS NOT NULL;

CREATE TABLE records (
    run bigint NOT NULL,
    number bigint NOT NULL,
    path text COLLATE "C" NOT NULL,
    kind smallint NOT NULL,
    digest bytea NOT NULL,
    payload bytea NOT NULL,
    data bytea,
    at double precision NOT NULL DEFAULT extract(epoch FROM clock_timestamp()),
    seconds double precision,
    PRIMARY KEY (run, number)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 20000);

CREATE TABLE waits (
    run bigint NOT NULL,
    number integer NOT NULL,
    path text NOT NULL,
    topic text COLLATE "C" NOT NULL,
    until double precision,
    PRIMARY KEY (run, number)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000);
CREATE INDEX waits_topic ON waits (topic) WHERE topic <> '';

CREATE TABLE signals (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    signal_id text COLLATE "C",
    is_received boolean NOT NULL DEFAULT FALSE,
    payload bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000);
CREATE INDEX signals_kept ON signals (run, name, id) WHERE NOT is_received;
CREATE UNIQUE INDEX signals_once ON signals (run, signal_id) WHERE signal_id IS NOT NULL;
CREATE INDEX signals_of_run ON signals (run);

CREATE TABLE events (
    run bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (run, name)
);

CREATE TABLE entities (
    kind text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    holder bigint,
    state bytea,
    PRIMARY KEY (kind, key)
) WITH (fillfactor = 80);
CREATE INDEX entities_held ON entities (holder) WHERE holder IS NOT NULL;

CREATE TABLE ticks (
    schedule text PRIMARY KEY,
    at double precision NOT NULL
);

CREATE TABLE journal_version (version integer NOT NULL);
INSERT INTO journal_version VALUES (0);
"""

# A run stands in line for an entity once for each place where it waits for it.
_TURNS = """
ALTER TABLE entities ADD COLUMN path text;

CREATE TABLE turns (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    run bigint NOT NULL,
    path text COLLATE "C" NOT NULL,
    offered double precision,
    UNIQUE (run, kind, key, path)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000);
CREATE INDEX turns_of_entity ON turns (kind, key, number);
CREATE INDEX turns_offered ON turns (offered) WHERE offered IS NOT NULL;

INSERT INTO turns (kind, key, run, path)
SELECT entities.kind, entities.key, waits.run, waits.path
FROM waits JOIN runs ON runs.key = waits.run
JOIN entities ON topic = 'entity:' || entities.kind || ':' || entities.key
ORDER BY runs.updated, waits.run, waits.number;
"""

_MIGRATIONS = {0: _NEW, 1: _TURNS}
"""What is executed to get from each version to the next."""

# One number for all journals of a database, the letters of "plait": only openings wait for it.
_LOCK = 0x706C616974


async def prepare(connection: Connection, schema: str, name: str) -> None:
    """Make a journal, or migrate it where it is one of an older version.

    Args:
        connection: Where to.
        schema: The schema that its tables are in.
        name: What it is called in messages.

    Raises:
        JournalError: The schema is of something else, or of a newer version.
    """
    version = await version_of(connection, schema, name)
    if version == VERSION:
        return
    async with connection.transaction():
        await rows(connection, "SELECT pg_advisory_xact_lock(%s)", _LOCK)
        # Another process may have been here first, and this one have waited for it.
        version = await version_of(connection, schema, name)
        if version == 0:
            await rows(connection, f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        for step in range(version, VERSION):
            await connection.execute(_MIGRATIONS[step].encode())
        await rows(connection, "UPDATE journal_version SET version = %s", VERSION)


async def version_of(connection: Connection, schema: str, name: str) -> int:
    """Which version the journal is of; zero where there is none yet."""
    select = (
        "SELECT relname FROM pg_class JOIN pg_namespace ON relnamespace = pg_namespace.oid"
        " WHERE nspname = %s AND relname IN ('journal_version', 'runs')"
    )
    found = {table for (table,) in await rows(connection, select, schema)}
    is_journal, is_taken = "journal_version" in found, "runs" in found
    if not is_journal and is_taken:
        msg = (
            f"the schema {schema!r} of {name} has tables of another application: give the journal "
            "one of its own with schema="
        )
        raise JournalError(msg)
    if not is_journal:
        return 0
    ((version,),) = await rows(connection, f'SELECT version FROM "{schema}".journal_version')
    if version > VERSION:
        msg = (
            f"{name} is a journal of version {version}, written by a newer plait; this one knows "
            f"version {VERSION}: update plait, or use another schema"
        )
        raise JournalError(msg)
    return int(version)
