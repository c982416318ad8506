"""What the web page shows, read from the decision store: lists in pages, boards, curves. Every read has a limit.

Used by the dashboard. Opened read-only; every call is a short read, and none grows with the number of intents kept.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import apsw
import msgspec

from bus import clock
from bus.records import OrderPlan, Record
from bus.vocabulary import OrderStatus, Status
from store import states
from store.queries import DatabaseRefused, Reader
from store.rows import record_of

PAGE_ROWS = 50
PAGES_MAX = 2_000
COLUMN_ROWS = 20
ARROWS_LOOKED_AT_MAX = 3_000  # how far back the decisions of a day are looked for
HOLDINGS_MAX = 100
VERDICTS = ("decide_trade", "decide_hold")
NOT_TRADED = (Status.REJECTED, Status.CANCELLED, Status.FAILED)


class Line(Record, frozen=True, kw_only=True):
    """One intent in a list, with its newest arrow."""

    id: str
    created_at: str
    trade_date: str
    symbol: str
    source: str
    status: Status
    suggested_side: str | None
    scanner_score: float
    position_id: str | None
    claim_worker_id: str | None
    moved_at: str
    event: str
    reason: str
    net_profit_cents: int | None


class Holding(Record, frozen=True, kw_only=True):
    """An open position, or an order that may have become one, with the plan it was made by."""

    intent_id: str
    order_status: OrderStatus
    plan: OrderPlan
    position_id: str | None
    since: str
    reason: str


class Verdict(Record, frozen=True, kw_only=True):
    """One analyst's decision and what has become of the intent since."""

    at: str
    intent_id: str
    event: str
    said: str
    line: Line


class Notice(Record, frozen=True, kw_only=True):
    """One alert."""

    seq: int
    at: str
    level: str
    event: str
    actor: str
    intent_id: str | None
    text: str


class Point(Record, frozen=True, kw_only=True):
    """One part of the time on a curve: its last reading of the equity, and the lowest and highest of all in it."""

    at: str
    equity_cents: int
    low_cents: int
    high_cents: int


_LINE = """
SELECT i.id, i.created_at, i.trade_date, i.symbol, i.source, i.status, i.suggested_side, i.scanner_score,
    i.position_id, i.claim_worker_id, coalesce(t.at, i.created_at), coalesce(t.event, ''), coalesce(t.reason, ''),
    d.net_profit_cents
FROM intents i
LEFT JOIN transitions t ON t.seq = (SELECT max(seq) FROM transitions WHERE intent_id = i.id)
LEFT JOIN decisions d ON d.intent_id = i.id
"""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Board]:
    """Open the database for a few reads of one moment. Raises NoDatabase or DatabaseRefused."""
    with trouble(path):
        board = Board(path)
        try:
            with board.snapshot():
                yield board
        finally:
            board.close()


@contextlib.contextmanager
def trouble(path: Path) -> Iterator[None]:
    """Raise DatabaseRefused for whatever SQLite has to say against reading."""
    try:
        yield
    except apsw.Error as error:
        raise DatabaseRefused(f"{path}: cannot be read: {error}") from error


class Board(Reader):
    """Read-only queries of the web page, beside those that everybody uses."""

    def data_version(self) -> int:
        """Return a number that changes with every commit of somebody else, compared on this one connection."""
        return int(str(self._db.pragma("data_version")))

    # ── intents ─────────────────────────────────────────────────────────────

    def page(
        self, *, status: str | None = None, symbol: str | None = None, date: str | None = None, page: int = 1
    ) -> list[Line]:
        """Return one page of intents, newest first. `page` begins with 1."""
        where, given, order = _filter(status, symbol, date)
        # The rows are found in an index first: an intent is wide, and what is skipped is never read.
        found = f"SELECT i.rowid FROM intents i WHERE {where} ORDER BY {order} LIMIT {PAGE_ROWS} OFFSET ?"
        tail = f"WHERE i.rowid IN ({found}) ORDER BY {order}"
        return self._lines(tail, *given, (page - 1) * PAGE_ROWS)

    def count(self, *, status: str | None = None, symbol: str | None = None, date: str | None = None) -> int:
        """Return how many intents there are, counted no further than the last page."""
        where, given, _ = _filter(status, symbol, date)
        found = f"SELECT count(*) FROM (SELECT 1 FROM intents i WHERE {where} LIMIT {PAGE_ROWS * PAGES_MAX})"
        return int(str(self._db.execute(found, given).get))

    def column(self, status: str) -> tuple[int, list[Line]]:
        """Return how many intents have this status, and the oldest of them."""
        tail = f"WHERE i.status = ? ORDER BY i.created_at, i.rowid LIMIT {COLUMN_ROWS}"
        return self.count(status=status), self._lines(tail, status)

    def ended_since(self, since: str) -> dict[str, int]:
        """Return how many intents that were made at `since` (ISO) or later have ended, by their status."""
        wanted = ", ".join(f"'{status}'" for status in sorted(states.FINAL))
        rows = self._db.execute(
            f"SELECT status, count(*) FROM intents WHERE status IN ({wanted}) AND created_at >= ? GROUP BY status",
            (since,),
        )
        return {str(status): int(str(count)) for status, count in rows}

    def newest(self) -> Line | None:
        """Return the newest intent."""
        found = self._lines("WHERE i.rowid = (SELECT max(rowid) FROM intents)")
        return found[0] if found else None

    def newest_not_traded(self) -> Line | None:
        """Return the newest intent that ended without a position."""
        found = []
        for status in NOT_TRADED:
            found += self._lines("WHERE i.status = ? ORDER BY i.created_at DESC, i.rowid DESC LIMIT 1", str(status))
        return max(found, key=lambda line: line.created_at, default=None)

    def line(self, intent_id: str) -> Line | None:
        found = self._lines("WHERE i.id = ?", intent_id)
        return found[0] if found else None

    def verdicts_since(self, since: str, limit: int) -> list[Verdict]:
        """Return the analysts' newest decisions since a moment (ISO), newest first, looking back a bounded way."""
        found: list[Verdict] = []
        rows = self._db.execute(
            f"SELECT at, intent_id, event, reason FROM transitions ORDER BY seq DESC LIMIT {ARROWS_LOOKED_AT_MAX}"
        )
        for at, intent_id, event, reason in rows:
            if str(at) < since or len(found) >= limit:
                break
            if event in VERDICTS and (line := self.line(str(intent_id))) is not None:
                found.append(
                    Verdict(at=str(at), intent_id=line.id, event=str(event), said=str(reason), line=line)
                )  # fmt: skip
        rows.close()
        return found

    def symbols(self) -> list[str]:
        """Return the pairs that have intents, each found by one step in the index."""
        found: list[str] = []
        last = ""
        while len(found) < 100 and (
            row := self._db.execute(
                "SELECT symbol FROM intents WHERE symbol > ? ORDER BY symbol LIMIT 1", (last,)
            ).fetchone()
        ):  # fmt: skip
            last = str(row[0])
            found.append(last)
        return found

    # ── positions, account, alerts ──────────────────────────────────────────

    def holdings(self) -> list[Holding]:
        """Return the open positions, and the orders that may have become some, oldest first."""
        rows = self._db.execute(
            "SELECT o.intent_id, o.status, o.plan, coalesce(i.position_id, o.position_id), "
            "coalesce(i.executed_at, o.reserved_at), o.reason FROM orders o JOIN intents i ON i.id = o.intent_id "
            "WHERE o.status IN ('reserved', 'unknown') OR o.intent_id IN (SELECT id FROM intents WHERE status = "
            f"'opened') ORDER BY o.reserved_at LIMIT {HOLDINGS_MAX}"
        )
        return [
            Holding(
                intent_id=str(intent_id), order_status=OrderStatus(str(status)),
                plan=msgspec.json.decode(str(plan), type=OrderPlan),
                position_id=str(position_id) if position_id else None, since=str(since), reason=str(reason),
            )
            for intent_id, status, plan, position_id, since, reason in rows
        ]  # fmt: skip

    def curve(self, since: datetime, until: datetime, points_max: int) -> list[Point]:
        """Return the readings of the account in [since, until), as at most so many points, evenly spaced.

        Every reading counts in its part's lowest and highest: what is left out between two points is the way, no low.
        """
        edges = [clock.iso(since + number * ((until - since) / points_max)) for number in range(points_max + 1)]
        found = []
        for part in itertools.pairwise(edges):
            where = "FROM equity_samples WHERE at >= ? AND at < ?"
            last = self._db.execute(f"SELECT at, equity_cents {where} ORDER BY at DESC LIMIT 1", part).fetchone()
            if last is not None:
                most = self._db.execute(f"SELECT min(equity_cents), max(equity_cents) {where}", part).fetchall()
                found.append(record_of(Point, (*last, *most[0])))
        return found

    def first_sample_at(self) -> str | None:
        """Return when the account was looked at first, as far as that is kept."""
        found = self._db.execute("SELECT at FROM equity_samples ORDER BY at LIMIT 1").get
        return str(found) if found is not None else None

    def notices(self, page: int = 1, limit: int = PAGE_ROWS) -> list[Notice]:
        """Return one page of alerts, newest first."""
        tail = "alerts ORDER BY seq DESC LIMIT ? OFFSET ?"
        return self._all(Notice, tail, limit, (page - 1) * PAGE_ROWS)

    def notices_count(self) -> int:
        return int(str(self._db.execute("SELECT coalesce(max(seq), 0) FROM alerts").get))

    # ── plumbing ────────────────────────────────────────────────────────────

    def _lines(self, tail: str, *given: object) -> list[Line]:
        rows = self._db.execute(_LINE + tail, given).fetchall()
        return [record_of(Line, row) for row in rows]


def _filter(status: str | None, symbol: str | None, date: str | None) -> tuple[str, tuple[str, ...], str]:
    """Return the condition, its values, and an order, newest first, that an index has already."""
    wanted = {"status": status, "symbol": symbol, "trade_date": date}
    given = {column: value for column, value in wanted.items() if value is not None}
    order = "i.created_at DESC, i.rowid DESC" if status is not None else "i.rowid DESC"
    if status is None and symbol is not None:
        order = "i.trade_date DESC, i.rowid DESC"
    return " AND ".join(f"i.{column} = ?" for column in given) or "1", tuple(given.values()), order
