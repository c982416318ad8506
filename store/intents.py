"""How an intent begins, whoever proposes it: its id and its rows. Part of the store; judges and commits nothing."""

from __future__ import annotations

import secrets
from datetime import datetime

import apsw
import msgspec

from bus.records import TradeIntent
from store.rows import columns

_COLUMNS = columns(TradeIntent)
_INSERT = f"INSERT INTO intents ({_COLUMNS}) VALUES ({', '.join('?' * len(TradeIntent.__struct_fields__))})"
_STATUS = TradeIntent.__struct_fields__.index("status")
_HOURS_MAX = 0xFFFF


def new_id(now: datetime) -> str:
    """Return 16 hexadecimal digits: the hour, then 48 random bits.

    So the indexes' pages that are written lie together, however many intents there are. Nothing reads the hour from it,
    and after seven years it begins anew.
    """
    return f"{int(now.timestamp() // 3_600) & _HOURS_MAX:04x}{secrets.token_hex(6)}"


def insert(db: apsw.Connection | apsw.Cursor, intent: TradeIntent) -> None:
    """Write an intent's row. The database refuses one that exists, by id, key or position."""
    values = list(msgspec.structs.astuple(intent))
    values[_STATUS] = str(intent.status)  # SQLite takes plain text, not an enumeration of it
    db.execute(_INSERT, values)


def insert_pending(db: apsw.Connection | apsw.Cursor, intent: TradeIntent) -> None:
    """Write a pending intent and the row of its decision."""
    insert(db, intent)
    db.execute(
        "INSERT INTO decisions (intent_id, created_at, status) VALUES (?, ?, 'pending')", (intent.id, intent.created_at)
    )


def is_known(db: apsw.Connection | apsw.Cursor, idempotency_key: str) -> bool:
    """Return whether there is or was an intent of this key."""
    found = db.execute(
        "SELECT 1 FROM intents WHERE idempotency_key = ?1 "
        "UNION ALL SELECT 1 FROM retired_keys WHERE idempotency_key = ?1",
        (idempotency_key,),
    ).get
    return found is not None
