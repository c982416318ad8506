"""A long past of the pipeline, written fast: real tables, statuses and journal rows, without the triggers' work.

Only for readers: hashes are numbers and no chain, and who writes to it afterwards gets what he deserves.
"""

# ruff: noqa: S608 - every part of the statements stands in this file
from __future__ import annotations

from pathlib import Path

import msgspec

from store import connection
from tests.kit.builders import a_plan

SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "AUDUSD")
START = "2026-10-01T00:00:00.000Z"


def write(path: Path, intents: int) -> None:
    """Write `intents` intents, one each 25 s from `START` on: every fourth traded and closed, the others cancelled.

    Of the trades two in three won 100.00, the others lost 50.00; each risked 50.00 and was held for an hour.
    """
    connection.open_writer(path).close()
    db = connection.open_writer(path)
    db.pragma("synchronous", 0)
    triggers = [str(row[0]) for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {intents} - 1)"
    with db:
        for name in triggers:
            db.execute(f'DROP TRIGGER "{name}"')
        db.execute(
            f"{numbers}, r AS (SELECT i, printf('%016x', i) AS id, {_at('25 * i')} AS at, "
            f"{_symbol()} AS symbol, i % 4 = 0 AS traded FROM n) "
            "INSERT INTO intents (id, created_at, trade_date, symbol, suggested_side, suggested_sl_pips, "
            "suggested_tp_pips, status, idempotency_key, position_id) SELECT id, at, substr(at, 1, 10), symbol, 'BUY', "
            "50, 100, iif(traded, 'closed', 'cancelled'), 'k' || i, iif(traded, 'p' || i, NULL) FROM r"
        )
        db.execute(
            f"{numbers} INSERT INTO decisions (intent_id, created_at, decided_at, executed_at, closed_at, status, "
            "net_profit_cents, failure_reason, close_reason) "
            f"SELECT printf('%016x', i), {_at('25 * i')}, {_at('25 * i + 2')}, "
            f"iif(i % 4 = 0, {_at('25 * i + 3')}, NULL), "
            f"iif(i % 4 = 0, {_at('25 * i + 3603')}, NULL), iif(i % 4 = 0, 'closed', 'cancelled'), "
            "iif(i % 4 = 0, iif(i % 12 = 0, -5000, 10000), NULL), iif(i % 4 = 0, '', '=SUM(A1)'), '' FROM n"
        )
        plan = msgspec.json.encode(a_plan()).decode()
        db.execute(
            f"{numbers} INSERT INTO orders (intent_id, status, plan, baseline, reserved_at, deadline_at, position_id) "
            f"SELECT printf('%016x', i), 'opened', ?, '[]', {_at('25 * i + 3')}, {_at('25 * i + 63')}, 'p' || i "
            "FROM n WHERE i % 4 = 0",
            (plan,),
        )
        arrows = (  # event, from, to, seconds after the proposal, of whom
            ("propose", None, "pending", 0, "1"),
            ("claim", "pending", "claimed", 1, "1"),
            ("decide_hold", "claimed", "cancelled", 2, "i % 4"),
            ("decide_trade", "claimed", "ready_for_exec", 2, "i % 4 = 0"),
            ("take", "ready_for_exec", "executing", 3, "i % 4 = 0"),
            ("open", "executing", "opened", 3, "i % 4 = 0"),
            ("close", "opened", "closed", 3_603, "i % 4 = 0"),
        )
        rows = " UNION ALL ".join(
            f"SELECT 25 * i + {late} AS s, i, {number} AS number, '{event}' AS event, "
            f"{'NULL' if before is None else repr(before)} AS f, '{after}' AS t FROM n WHERE {who}"
            for number, (event, before, after, late, who) in enumerate(arrows)
        )
        db.execute(
            f"{numbers}, a AS ({rows}), b AS (SELECT *, row_number() OVER (ORDER BY s, i, number) AS seq FROM a) "
            f"INSERT INTO transitions SELECT seq, printf('%016x', i), {_at('s')}, event, f, t, 'llm.1', 'x', 1, '', "
            f"json_object('symbol', {_symbol()}), seq - 1, seq FROM b"
        )
    db.close()


def _at(seconds: str) -> str:
    """Return the SQL of an ISO time so many seconds after `START`."""
    return f"strftime('%Y-%m-%dT%H:%M:%fZ', '{START[:-1]}', ({seconds}) || ' seconds')"


def _symbol() -> str:
    return "CASE (i / 4) % 4 " + " ".join(f"WHEN {at} THEN '{name}'" for at, name in enumerate(SYMBOLS)) + " END"
