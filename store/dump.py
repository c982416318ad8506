"""Whole tables as rows, for an export: the tables by name, their columns with their types, one row after the other.

Used by `pilot export`. Reads only, and holds one row at a time. Whoever wants all tables of one moment asks inside
`Reader.snapshot`.
"""

from __future__ import annotations

from collections.abc import Iterator

from store.queries import Reader

TABLES = {  # in which order their rows come
    "intents": "rowid", "decisions": "rowid", "orders": "rowid", "transitions": "seq", "equity_samples": "at",
    "account_days": "account_id, day, reset", "account_marks": "account_id, kind", "halts": "id",
    "closings": "intent_id", "attestations": "id", "alerts": "seq", "alert_deliveries": "through_seq",
    "api_usage": "day, actor", "llm_usage": "day, endpoint, actor", "archive_anchors": "file",
}  # fmt: skip
LEFT_OUT = ("meta", "commands", "retired_keys", "workers", "tallies", "exits")
"""What the processes keep for themselves: it tells nothing of an intent, an order or the account."""

Value = int | float | str | None


def columns(reader: Reader, table: str) -> list[tuple[str, str]]:
    """Return a table's columns with their types: INTEGER, REAL or TEXT. Raises KeyError for no table of `TABLES`."""
    order = TABLES[table]
    assert order
    rows = reader._db.execute(f"SELECT name, type FROM pragma_table_info('{table}') ORDER BY cid")
    return [(str(name), str(kind)) for name, kind in rows]


def rows(reader: Reader, table: str) -> Iterator[tuple[Value, ...]]:
    """Yield a table's rows in a fixed order, as they stand. Raises KeyError for no table of `TABLES`."""
    yield from reader._db.execute(f"SELECT * FROM {table} ORDER BY {TABLES[table]}")
