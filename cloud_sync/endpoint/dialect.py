"""The two statements that SQLite and PostgreSQL share in meaning but not in SQLAlchemy's classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Row, Table
from sqlalchemy.dialects import postgresql, sqlite


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
