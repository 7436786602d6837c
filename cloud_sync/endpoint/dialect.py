"""Where SQLite and PostgreSQL differ: how each is opened, and two statements that they share in meaning alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Engine, Row, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite


def make_engine(url: str) -> Engine:
    """Return the engine of a database; SQLite's syncs at each commit, and its writers lock as they begin."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def settings(connection: Any, _record: Any) -> None:
            # The driver's own transaction handling begins too late: BEGIN is ours.
            connection.isolation_level = None
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "foreign_keys=ON"):
                connection.execute(f"PRAGMA {pragma}").close()

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            # A writer locks at once: one that begins as a reader can't become a writer after somebody else wrote.
            early = connection.get_execution_options().get("amibox_write", False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if early else "BEGIN")

    return engine


def _insert(db: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    return sqlite.insert(table) if db.dialect.name == "sqlite" else postgresql.insert(table)


def insert_new(
    db: Connection, table: Table, values: Sequence[Mapping[str, Any]], *key: Column[Any]
) -> Sequence[Row[Any]]:
    """Insert rows; those whose ``key`` is there already stay as they are. Returns the rows that are new."""
    statement = _insert(db, table).on_conflict_do_nothing(index_elements=list(key)).returning(*table.c)
    # Rows as parameters: written into the statement, each number of them would be another one to compile.
    return db.execute(statement, [dict(row) for row in values]).all()


def upsert(db: Connection, table: Table, values: Mapping[str, Any], *key: Column[Any], unless: Any = None) -> bool:
    """Insert a row or change the columns given in ``values``. False if ``unless`` (a condition) kept it as it was."""
    names = {column.name for column in key}
    change = {name: value for name, value in values.items() if name not in names}
    statement = _insert(db, table).values(dict(values))
    where = None if unless is None else ~unless
    done = statement.on_conflict_do_update(index_elements=list(key), set_=change, where=where).returning(*key)
    return db.execute(done).first() is not None
