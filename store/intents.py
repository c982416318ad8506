"""How an intent begins, whoever proposes it, and those that were changed last. Part of the store; commits nothing."""

from __future__ import annotations

import secrets
from datetime import datetime

import apsw
import msgspec

from bus.records import TradeIntent
from store.queries import Reader
from store.rows import columns
from store.states import FINAL

_COLUMNS = columns(TradeIntent)
_INSERT = f"INSERT INTO intents ({_COLUMNS}) VALUES ({', '.join('?' * len(TradeIntent.__struct_fields__))})"
_STATUS = TradeIntent.__struct_fields__.index("status")
_HOURS_MAX = 0xFFFF


KEPT_MAX = 1_024
PAPER_CHARS_MAX = 8_192  # of an intent that is kept: together at most 8 MB


class AtHand:
    """The live intents that were changed last, as their rows are, so that the next arrow need not read them.

    The rows are the truth: an arrow changes its row only where status and epoch are those of the record it was judged
    by. Whatever else changes a row, or takes a change back, must call `forget`.
    """

    def __init__(self, read: Reader) -> None:
        self._read = read
        self._kept: dict[str, TradeIntent] = {}

    def get(self, intent_id: str) -> TradeIntent | None:
        """Return an intent as its row is in this transaction."""
        if (found := self._kept.get(intent_id)) is None and (found := self._read.intent(intent_id)) is not None:
            self.keep(found)
        return found

    def after(self, intent: TradeIntent) -> TradeIntent:
        """Return an intent as it is after the arrow that it was given to."""
        found = self.get(intent.id)
        assert found is not None
        return found

    def keep(self, intent: TradeIntent) -> None:
        """Remember what the row is now; an intent that has ended, or has long papers, is forgotten instead."""
        self._kept.pop(intent.id, None)
        papers = len(intent.signal_json) + len(intent.agent_risk_report) + len(intent.agent_state_json)
        if intent.status in FINAL or papers + len(intent.compliance_snapshot) > PAPER_CHARS_MAX:
            return
        self._kept[intent.id] = intent
        if len(self._kept) > KEPT_MAX:
            del self._kept[next(iter(self._kept))]

    def forget(self) -> None:
        """Read all of them anew: a savepoint or a transaction was rolled back, or rows were changed beside us."""
        self._kept.clear()


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
