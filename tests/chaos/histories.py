"""The three independent histories of one pipeline, read into values: the store's rows, the broker's files, the acks.

Used by the checker. Read in this order: acks, broker, store. What an ack or the broker claims must be in the store by
then; read the other way round, a pipeline that is still running would look guilty.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from msgspec import Struct

from actors.broker.paper import journal
from bus.records import DecisionRecord, Halt, Order, TradeIntent, Transition, Worker
from store import connection, verify
from store.queries import Reader

READS_MAX = 10  # a broker that puts a file aside while we read it is read again

Fingerprint = tuple[str, str, Decimal, Decimal, Decimal]  # broker symbol, side, volume, SL, TP
Ack = dict[str, Any]


class Command(Struct, frozen=True):
    """One row of the store's `commands`."""

    id: str
    sender: str
    kind: str
    outcome: str
    intent_id: str | None


class Placed(Struct, frozen=True):
    """One position that came to be at the broker. `sl_price` is where its stop stood last; 0 is none."""

    position_id: str
    sl_price: Decimal
    is_open: bool
    net_profit_cents: int  # of what has been closed


class Histories(Struct, frozen=True, kw_only=True):
    """Everything the checker looks at."""

    intents: tuple[TradeIntent, ...] = ()
    decisions: tuple[DecisionRecord, ...] = ()
    orders: tuple[Order, ...] = ()
    journal: tuple[Transition, ...] = ()
    chain: tuple[str, ...] = ()  # what store.verify found
    commands: tuple[Command, ...] = ()
    halts: tuple[Halt, ...] = ()  # standing
    alerts: tuple[str, ...] = ()  # events of the outbox
    rows: dict[str, int] = {}  # how many rows some tables have
    workers: tuple[Worker, ...] = ()
    writes_counted: int = 0  # by the store, as granted
    writes_received: int = 0  # by the broker: orders, edits and closes
    received: tuple[Fingerprint, ...] = ()  # one that came again with its key counts once
    keyed: tuple[tuple[str, Fingerprint], ...] = ()  # every order that came with a key, also again
    placed_keys: tuple[str, ...] = ()  # of every position that came of one
    asked: dict[str, Fingerprint] = {}  # by position id: the order that it came from
    placed: tuple[Placed, ...] = ()
    placements: tuple[dict[str, Any], ...] = ()  # the ledger's lines of what it placed
    acks: tuple[Ack, ...] = ()

    @property
    def placed_ids(self) -> tuple[str, ...]:
        """The positions that the ledger says came to be, one a line."""
        return tuple(line["position_id"] for line in self.placements)


READS_MAX = 5  # while the broker takes orders


def read(data: Path, acks: Path) -> Histories:
    """Read all three. `data` is the pipeline's data folder, `acks` that of the processes' own logs.

    Read again while the broker placed something meanwhile: else the store knew of a position that its file had not.
    """
    for _ in range(READS_MAX):
        found = _read(data, acks)
        if found.placed == tuple(_placed(with_parts(data / "paper" / "account.jsonl"))):
            break
    return found


def _read(data: Path, acks: Path) -> Histories:
    answered = tuple(line for path in sorted(acks.glob("*.jsonl")) for line in _lines(path))
    ledger = with_parts(data / "paper" / "ledger.jsonl")
    account = with_parts(data / "paper" / "account.jsonl")
    db = connection.open_reader(data / "decisions.db")
    try:
        return _with_store(Reader.over(db), db, answered, ledger, account)
    finally:
        db.close()


def _with_store(reader: Reader, db: Any, acks: tuple[Ack, ...], ledger: list[Any], account: list[Any]) -> Histories:
    chain = tuple(verify.verify_chain(reader))
    with reader.snapshot():
        intents = tuple(reader.intents(limit=1_000_000))
        found = (reader.decision(intent.id) for intent in intents)
        return Histories(
            intents=intents,
            decisions=tuple(decision for decision in found if decision is not None),
            orders=tuple(reader.orders()),
            journal=tuple(reader.journal()),
            chain=chain,
            commands=tuple(
                Command(*row)
                for row in db.execute("SELECT id, sender, kind, outcome, intent_id FROM commands").fetchall()
            ),
            halts=tuple(reader.halts()),
            alerts=tuple(event for _, _, event, _ in reader.alerts(limit=1_000_000)),
            rows={
                table: db.execute(f"SELECT count(*) FROM {table}").get  # noqa: S608 - names from the line below
                for table in ("halts", "alerts", "account_days", "equity_samples")
            },
            workers=tuple(reader.workers()),
            writes_counted=db.execute("SELECT coalesce(sum(writes), 0) FROM api_usage WHERE length(day) = 10").get,
            writes_received=sum(line["kind"] == "received" for line in ledger),
            received=_once_a_key(ledger),
            keyed=tuple(
                (line["key"], fingerprint(line)) for line in ledger if line["kind"] == "received" and "key" in line
            ),
            placed_keys=_placed_keys(ledger),
            asked=_asked(ledger),
            placed=tuple(_placed(account)),
            placements=tuple(line for line in ledger if line["kind"] == "placed"),
            acks=acks,
        )


def fingerprint(fields: dict[str, Any]) -> Fingerprint:
    """Return what tells one order from another at the broker."""
    return (
        str(fields["symbol"]),
        str(fields["side"]),
        Decimal(str(fields["volume"])),
        Decimal(str(fields["sl_price"])),
        Decimal(str(fields["tp_price"])),
    )


def _asked(ledger: list[Any]) -> dict[str, Fingerprint]:
    """Return by position id which order of the ledger it came from."""
    orders = {line["receipt"]: line for line in ledger if line["kind"] == "received" and _opens(line)}
    return {
        line["position_id"]: fingerprint(orders[line["receipt"]])
        for line in ledger
        if line["kind"] == "placed" and line.get("receipt") in orders
    }


def _once_a_key(ledger: list[Any]) -> tuple[Fingerprint, ...]:
    """Return the orders that were received. A repetition with its key is the same order."""
    orders = [line for line in ledger if line["kind"] == "received" and _opens(line)]
    return tuple({line.get("key", f"receipt {line['receipt']}"): fingerprint(line) for line in orders}.values())


def _placed_keys(ledger: list[Any]) -> tuple[str, ...]:
    """Return the key of each position that came of an order with one."""
    keys = {line["receipt"]: line["key"] for line in ledger if line["kind"] == "received" and "key" in line}
    return tuple(keys[line["receipt"]] for line in ledger if line["kind"] == "placed" and line.get("receipt") in keys)


def _opens(line: dict[str, Any]) -> bool:
    return bool(line.get("call", "open") == "open")


def _placed(account: list[Any]) -> list[Placed]:
    """Replay the broker's own account: positions with their stops, and what was closed of them."""
    stops: dict[str, Decimal] = {}
    volumes: dict[str, Decimal] = {}
    profits: dict[str, int] = {}
    for event in account:
        if event["type"] == "Opened":
            held = event["holding"]
            stops[held["id"]], volumes[held["id"]] = Decimal(held["sl_price"]), Decimal(held["volume"])
            profits[held["id"]] = 0
        elif event["type"] == "Edited":
            stops[event["id"]] = Decimal(event["sl_price"])
        elif event["type"] == "Closed":
            done = event["operation"]
            volumes[done["id"]] -= Decimal(done["volume"])
            profits[done["id"]] += done["profit_cents"] + done["commission_cents"] + done["swap_cents"]
    return [
        Placed(identity, stop, is_open=volumes[identity] > 0, net_profit_cents=profits[identity])
        for identity, stop in stops.items()
    ]


def with_parts(path: Path) -> list[Any]:
    """Return the lines of a file and of all its parts that were put aside, oldest first; none may be missing."""
    for _ in range(READS_MAX):
        parts = journal.parts(path)
        found = [line for part in (*parts, path) for line in _lines(part)]
        if journal.parts(path) == parts:
            break
    if parts and not parts[0].name.endswith(".1.jsonl"):
        raise AssertionError(f"{path}: its first part is gone; a run that is checked must keep all (file_parts_kept)")
    return found


def _lines(path: Path) -> list[Any]:
    """Return a file's JSON lines; one that a kill cut in half was never answered for and does not count."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
