"""Everything that is read from the decision store, as records. Opened read-only by whoever wants to know.

Used by the monitor, the executor, the supervisor and `pilot`. Every call is its own short read: no snapshot stays open,
because one idle reader would keep the write-ahead log growing.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec

from bus.records import (
    AccountDay,
    AccountMark,
    Attestation,
    Closing,
    DecisionRecord,
    EquitySample,
    Halt,
    LlmDay,
    Order,
    Record,
    TradeIntent,
    Transition,
    Worker,
)
from bus.vocabulary import Status
from store import connection, figures, states
from store import owner as owners
from store.connection import SQLITE_MIN, DatabaseRefused, NoDatabase, open_reader
from store.figures import Figures, Opinion
from store.rows import columns, order_of, record_of, selecting

__all__ = [
    "Analysed",
    "DatabaseRefused",
    "Figures",
    "NoDatabase",
    "Opinion",
    "OrderVerdict",
    "Reader",
    "schema_version",
    "sqlite_versions",
]

R = TypeVar("R", bound=Record)
ROWS_MAX = 10_000
UNREADABLE = (apsw.Error, msgspec.ValidationError, msgspec.DecodeError)  # what a damaged database may raise


def schema_version() -> int:
    """Return the schema version that this program works with."""
    return connection.version()


def sqlite_versions() -> tuple[str, str]:
    """Return the version of the SQLite library in use, and the oldest one that is allowed."""
    return apsw.sqlite_lib_version(), ".".join(map(str, SQLITE_MIN))


class Analysed(Record, frozen=True, kw_only=True):
    """One decision, as the journal has it, and how its trade ended, if there was one."""

    intent_id: str
    at: str
    event: str
    figures: Figures | None  # None: they are not in the journal
    loss_cents: int | None  # the order's worst loss at its stop; None without an order
    net_profit_cents: int | None  # None until its position is closed


class OrderVerdict(Record, frozen=True, kw_only=True):
    """What intent, order and decision say of each other; None where there is no such row."""

    intent_id: str
    status: str | None
    position_id: str | None
    order_status: str | None
    order_position_id: str | None
    decision_status: str | None


class Reader:
    """Read-only queries. Raises NoDatabase or DatabaseRefused when it cannot be opened."""

    def __init__(self, path: Path, *, older: bool = False) -> None:
        self._db = open_reader(path, older=older)
        self._cursor = self._db.cursor()  # a new one each time costs a tenth of a statement

    @classmethod
    def over(cls, db: apsw.Connection) -> Reader:
        """Return a reader over a connection that is open already (the store's own)."""
        reader = cls.__new__(cls)
        reader._db, reader._cursor = db, db.cursor()
        return reader

    def close(self) -> None:
        self._db.close()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read one and the same moment in several calls. Keep it short: the log grows meanwhile."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            if self._db.in_transaction:  # after some errors SQLite has rolled back itself
                self._db.execute("ROLLBACK")

    # ── intents ─────────────────────────────────────────────────────────────

    def intent(self, intent_id: str) -> TradeIntent | None:
        return self._one(TradeIntent, "intents WHERE id = ?", intent_id)

    def intents(
        self,
        *,
        status: str | None = None,
        date: str | None = None,
        symbol: str | None = None,
        limit: int = 50,
    ) -> list[TradeIntent]:
        """Return intents, newest first, filtered by whatever is given."""
        wanted = {"status": status, "trade_date": date, "symbol": symbol}
        given = {column: value for column, value in wanted.items() if value is not None}
        where = " AND ".join(f"{column} = ?" for column in given) or "1"
        return self._all(
            TradeIntent, f"intents WHERE {where} ORDER BY created_at DESC, rowid DESC LIMIT ?", *given.values(), limit
        )

    def pending_intents(self) -> list[TradeIntent]:
        return self._by_status(Status.PENDING)

    def ready_intents(self) -> list[TradeIntent]:
        return self._by_status(Status.READY_FOR_EXEC)

    def active_positions(self) -> list[TradeIntent]:
        """Return the intents whose position is open."""
        return self._by_status(Status.OPENED)

    def live_intents(self) -> list[TradeIntent]:
        """Return the intents that are neither final nor opened: work is still to be done."""
        return [intent for status in sorted(states.LIVE) for intent in self._by_status(status)]

    def intents_by_date(self, trade_date: str) -> list[TradeIntent]:
        return self._all(TradeIntent, "intents WHERE trade_date = ? ORDER BY created_at", trade_date)

    def intent_ids(self, prefix: str) -> list[str]:
        """Return the ids that begin with `prefix`, at most 20."""
        rows = self._db.execute(
            "SELECT id FROM intents WHERE id >= ?1 AND id < ?1 || char(1114111) LIMIT 20", (prefix,)
        )
        return [str(row[0]) for row in rows]

    def intent_exists(self, symbol: str, trade_date: str, source: str) -> bool:
        """Return whether this pair has an intent of this source on that date."""
        row = self._db.execute(
            "SELECT 1 FROM intents WHERE symbol = ? AND trade_date = ? AND source = ? LIMIT 1",
            (symbol, trade_date, source),
        ).get
        return row is not None

    def status_counts(self) -> dict[str, int]:
        """Return how many intents there are by status."""
        rows = self._db.execute("SELECT status, count(*) FROM intents GROUP BY status ORDER BY status")
        return {str(status): int(str(count)) for status, count in rows}

    def decision(self, intent_id: str) -> DecisionRecord | None:
        return self._one(DecisionRecord, "decisions WHERE intent_id = ?", intent_id)

    def transitions(self, intent_id: str) -> list[Transition]:
        return self._all(Transition, "transitions WHERE intent_id = ? ORDER BY seq", intent_id)

    def last_transition_at(self) -> str:
        """Return when the newest arrow was taken, "" without one."""
        return str(self._db.execute("SELECT coalesce(max(at), '') FROM transitions").get)

    def journal(self) -> Iterator[Transition]:
        """Yield every arrow of every intent, oldest first, read in pages."""
        seq = 0
        while page := self._all(Transition, "transitions WHERE seq > ? ORDER BY seq LIMIT ?", seq, ROWS_MAX):
            yield from page
            seq = page[-1].seq

    def analysed(self, since: str) -> Iterator[Analysed]:
        """Yield every analyst's decision of `since` (ISO) or later, oldest first. The journal forgets none."""
        seq = 0
        while page := self._db.execute(
            "SELECT t.seq, t.intent_id, t.at, t.event, t.payload, o.plan ->> '$.loss_cents', d.net_profit_cents "
            "FROM transitions t LEFT JOIN orders o USING (intent_id) LEFT JOIN decisions d USING (intent_id) "
            "WHERE t.seq > ? AND t.event IN ('decide_trade', 'decide_hold') AND t.at >= ? "
            "AND t.actor NOT LIKE 'pilot.%' "
            f"ORDER BY t.seq LIMIT {ROWS_MAX}",
            (seq, since),
        ).fetchall():
            for _, intent_id, at, event, payload, loss_cents, net_profit_cents in page:
                found = (intent_id, at, event, figures.read(str(payload)), loss_cents, net_profit_cents)
                yield msgspec.convert(dict(zip(Analysed.__struct_fields__, found, strict=True)), Analysed)
            seq = int(str(page[-1][0]))

    def statuses(self) -> list[tuple[str, str]]:
        """Return every intent's id and status."""
        rows = self._db.execute("SELECT id, status FROM intents").fetchall()
        return [(str(intent_id), str(status)) for intent_id, status in rows]

    def verdicts(self) -> list[OrderVerdict]:
        """Return every intent with its order and decision, and every order without an intent."""
        rows = self._db.execute(
            "SELECT coalesce(i.id, o.intent_id), i.status, i.position_id, o.status, o.position_id, d.status "
            "FROM intents i FULL JOIN orders o ON o.intent_id = i.id LEFT JOIN decisions d ON d.intent_id = i.id"
        ).fetchall()
        return [record_of(OrderVerdict, row) for row in rows]

    # ── orders and positions ────────────────────────────────────────────────

    def order(self, intent_id: str) -> Order | None:
        row = self._db.execute(f"SELECT {columns(Order)} FROM orders WHERE intent_id = ?", (intent_id,)).fetchone()
        return order_of(row) if row else None

    def orders(self) -> list[Order]:
        """Return all orders, newest first."""
        rows = self._db.execute(f"SELECT {columns(Order)} FROM orders ORDER BY reserved_at DESC LIMIT {ROWS_MAX}")
        return [order_of(row) for row in rows.fetchall()]

    def unresolved_orders(self) -> list[Order]:
        """Return the orders that may or may not exist at the broker."""
        rows = self._db.execute(
            f"SELECT {columns(Order)} FROM orders WHERE status IN ('reserved', 'unknown') ORDER BY reserved_at"
        )
        return [order_of(row) for row in rows.fetchall()]

    def owned_position_ids(self, among: Iterable[str] | None = None) -> frozenset[str]:
        """Return the positions that belong to an intent, open or closed; of `among`, if given: all orders are many."""
        query = "SELECT position_id FROM orders WHERE position_id IS NOT NULL"
        if among is not None:
            query += " AND position_id IN (SELECT value FROM json_each(?))"
            return frozenset(str(row[0]) for row in self._db.execute(query, (json.dumps(list(among)),)))
        return frozenset(str(row[0]) for row in self._db.execute(query))

    def closed_among(self, position_ids: Iterable[str]) -> dict[str, str]:
        """Return those of these positions whose intent is closed, each with that intent's id."""
        query = (
            "SELECT o.position_id, o.intent_id FROM orders o CROSS JOIN intents i ON i.id = o.intent_id "
            "WHERE o.position_id IN (SELECT value FROM json_each(?)) AND i.status = 'closed'"
        )
        return {str(row[0]): str(row[1]) for row in self._db.execute(query, (json.dumps(list(position_ids)),))}

    def has_key(self, idempotency_key: str) -> bool:
        """Return whether an order carries this key."""
        return bool(self._db.execute("SELECT 1 FROM orders WHERE idempotency_key = ?", (idempotency_key,)).fetchall())

    # ── account ─────────────────────────────────────────────────────────────

    def account_day(self, day: str, account_id: str, reset: str) -> AccountDay | None:
        """Return what a day of this reading of the reset started with, or None when that is not known."""
        return self._one(
            AccountDay, "account_days WHERE day = ? AND account_id = ? AND reset = ?", day, account_id, reset
        )

    def account_day_at(self, account_id: str, reset: str, at: str) -> AccountDay | None:
        """Return the day of one reading of the reset that holds a moment (ISO), or None when it is not known."""
        return self._one(
            AccountDay, "account_days WHERE account_id = ?1 AND reset = ?2 AND starts_at <= ?3 AND ends_at > ?3",
            account_id, reset, at,
        )  # fmt: skip

    def account_day_over(self, account_id: str, reset: str, starts_at: str, ends_at: str) -> AccountDay | None:
        """Return a day of one reading of the reset that shares time with [starts_at, ends_at), or None."""
        return self._one(
            AccountDay, "account_days WHERE account_id = ? AND reset = ? AND ends_at > ? AND starts_at < ? LIMIT 1",
            account_id, reset, starts_at, ends_at,
        )  # fmt: skip

    def account_days(self, account_id: str, limit: int = 30) -> list[AccountDay]:
        """Return the newest days, newest first."""
        return self._all(
            AccountDay, "account_days WHERE account_id = ? ORDER BY starts_at DESC LIMIT ?", account_id, limit
        )

    def account_mark(self, account_id: str, kind: str) -> AccountMark | None:
        return self._one(AccountMark, "account_marks WHERE account_id = ? AND kind = ?", account_id, kind)

    def account_marks(self, account_id: str) -> list[AccountMark]:
        return self._all(AccountMark, "account_marks WHERE account_id = ? ORDER BY kind", account_id)

    def account_version(self) -> int:
        """Return the number that grows with every halt, reservation, fill, close, day and mark."""
        return int(str(self._db.execute("SELECT value FROM meta WHERE key = 'account_version'").get))

    def owner(self) -> owners.Owner | None:
        """Return whose database this is; None: nobody's yet."""
        return owners.owner_of(self._db)

    def foreign_to(self, ours: owners.Owner) -> str:
        """Return why whoever speaks for this account must leave the database alone, or ""."""
        return owners.refusal(self.owner(), ours)

    def attestation(self, account_id: str, rules_hash: str) -> Attestation | None:
        """Return the newest attestation of this account under exactly this rule set."""
        return self._one(
            Attestation, "attestations WHERE account_id = ? AND rules_hash = ? ORDER BY id DESC LIMIT 1",
            account_id, rules_hash,
        )  # fmt: skip

    def halts(self, now: str | None = None) -> list[Halt]:
        """Return the halts that stand: not lifted, and `until`, if any, not passed at `now` (ISO; None = ignore it)."""
        return self._all(
            Halt,
            "halts WHERE lifted_at IS NULL AND (until IS NULL OR ?1 IS NULL OR until > ?1) ORDER BY id",
            now,
        )

    def closings(self) -> list[Closing]:
        """Return the orders to close one position that are not carried out: its intent is still opened."""
        return self._all(
            Closing, "closings WHERE intent_id IN (SELECT id FROM intents WHERE status = 'opened') ORDER BY asked_at"
        )

    def closing(self, intent_id: str) -> Closing | None:
        """Return the operator's order to close an intent's position, carried out or not."""
        return self._one(Closing, "closings WHERE intent_id = ?", intent_id)

    def halt(self, halt_id: int) -> Halt | None:
        """Return a halt, whether it stands or not."""
        return self._one(Halt, "halts WHERE id = ?", halt_id)

    def requests(self, day: str) -> tuple[int, int]:
        """Return the reads and writes granted or counted on the firm's `day`.

        Of another reading of the reset than the usual one: its date and label, `2026-11-02 17:00 America/New_York`.
        """
        row = self._db.execute(
            "SELECT coalesce(sum(reads), 0), coalesce(sum(writes), 0) FROM api_usage WHERE day = ?", (day,)
        ).fetchone()
        return (int(str(row[0])), int(str(row[1]))) if row else (0, 0)

    def llm_day(self, day: str) -> LlmDay:
        """Return what the analysts' calls of a UTC day cost, all endpoints and processes together."""
        names = LlmDay.__struct_fields__[1:]
        sums = ", ".join(f"coalesce(sum({name}), 0)" for name in names)
        row = self._db.execute(f"SELECT {sums} FROM llm_usage WHERE day = ?", (day,)).fetchone()
        return record_of(LlmDay, (day, *(row or ())))

    def last_equity(self) -> EquitySample | None:
        return self._one(EquitySample, "equity_samples ORDER BY at DESC LIMIT 1")

    # ── processes and events ────────────────────────────────────────────────

    def workers(self) -> list[Worker]:
        return self._all(Worker, "workers ORDER BY name")

    def alerts(self, limit: int = 50) -> list[tuple[str, str, str, str]]:
        """Return the newest alerts as (at, level, event, text), newest first."""
        rows = self._db.execute("SELECT at, level, event, text FROM alerts ORDER BY seq DESC LIMIT ?", (limit,))
        return [(str(at), str(level), str(event), str(text)) for at, level, event, text in rows]

    def was_told(self, event: str, beginning: str) -> bool:
        """Return whether there is an alert of this event whose text begins so."""
        row = self._db.execute(
            "SELECT 1 FROM alerts WHERE event = ?1 AND substr(text, 1, length(?2)) = ?2 LIMIT 1", (event, beginning)
        ).get
        return row is not None

    def store_epoch(self) -> int:
        row = self._db.execute("SELECT value FROM meta WHERE key = 'store_epoch'").get
        return int(str(row)) if row is not None else 0

    def schema(self) -> list[str]:
        """Return the statements that the tables, indexes and triggers are made of, by name."""
        rows = self._db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")
        return [f"PRAGMA user_version = {self._db.pragma('user_version')}", *(str(row[0]) for row in rows)]

    def select(self, kind: type[R], tail: str, *given: Any) -> list[R]:
        """Return rows as records: `tail` is what follows FROM. For the queries that have a file of their own here."""
        return self._all(kind, tail, *given)

    # ── plumbing ────────────────────────────────────────────────────────────

    def _by_status(self, status: Status) -> list[TradeIntent]:
        return self._all(
            TradeIntent, f"intents WHERE status = ? ORDER BY created_at, rowid LIMIT {ROWS_MAX}", str(status)
        )

    def _one(self, kind: type[R], tail: str, *given: Any) -> R | None:
        rows = self._all(kind, tail, *given)
        return rows[0] if rows else None

    def _all(self, kind: type[R], tail: str, *given: Any) -> list[R]:
        rows = self._cursor.execute(selecting(kind, tail), given).fetchall()
        return [record_of(kind, row) for row in rows]
