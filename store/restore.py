"""Put a backup in the place of the database, on a stopped pipeline. Run by `pilot restore`, which holds the locks.

A backup is older than the broker's truth, so that what it says is to be done must not be done again: intents that wait
are cancelled, and the keys of all that was proposed since are kept. Halts, days, marks, used requests and attestations
are taken over from the present database, if that can be read. The account is halted hard until the operator resumes.
Nothing is deleted: the present database is moved aside. While the swap is under way a mark keeps the store from
starting, and a swap that was cut off is finished by the next restore.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import apsw
import msgspec
from msgspec import Struct

from bus import clock
from bus.clock import Clock
from bus.failpoints import reach
from bus.messages import Peer
from bus.records import TradeIntent
from bus.vocabulary import Status
from store import archived, backup, connection, verify
from store.connection import DatabaseRefused
from store.decisions import DecisionStore
from store.owner import Owner
from store.queries import Reader

HALT_KEY = "restored"
WAITING = (Status.PENDING, Status.CLAIMED, Status.READY_FOR_EXEC, Status.EXECUTING)
UNUSED = 1  # no lease, attempt or backoff plays a part in what is done here


class RestoreRefused(Exception):
    """The backup is not good, or cannot be put in place. The database is as it was."""


class Prepared(Struct, frozen=True, kw_only=True):
    """A checked copy of a backup beside the database, and what differs between the two.

    `present` says why the present database cannot be read, "" when it can. `open_now` are the positions that intents
    own at present, `unresolved_now` the orders without an outcome, `forgotten` those of both that the backup does not
    know as such, `waiting` the intents of the backup that will be cancelled. Positions and intents by id. `archives`
    says which archives were not gone through and why, or what is wrong in them: the backup needs none of them.
    """

    source: Path
    copy: Path
    made_at: str  # of the newest arrow in it; "" without one
    present: str
    open_now: tuple[str, ...]
    unresolved_now: tuple[str, ...]
    forgotten: tuple[str, ...]
    waiting: tuple[str, ...]
    archives: tuple[str, ...]


def prepare(source: Path, path: Path, ours: Owner) -> Prepared:
    """Copy a backup beside the database at `path`, bring it to this version and prove it good.

    Raises:
        RestoreRefused: it cannot be read, is not ours, is newer than we are, damaged, its journal does not hold, or it
            is of another account than `ours` or than the present database.
    """
    copy = path.with_name(path.name + ".restored")
    try:
        discard(copy)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(copy, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        backup.copy(source, copy)
        connection.open_writer(copy).close()
        reader = Reader(copy)
    except (OSError, apsw.Error, DatabaseRefused, backup.Damaged) as error:
        discard(copy)
        raise RestoreRefused(f"{source}: {error}") from error
    try:
        archives = _prove(source, reader)
        if why := reader.foreign_to(ours):
            raise RestoreRefused(f"{source}: {why}")
        return _compare(source, copy, path, reader, archives)
    except BaseException:
        reader.close()
        discard(copy)
        raise
    finally:
        reader.close()


def discard(copy: Path) -> None:
    """Remove a copy that is not wanted."""
    for ending in ("", "-wal", "-shm", "-journal"):
        copy.with_name(copy.name + ending).unlink(missing_ok=True)


def finish(prepared: Prepared, path: Path, *, operator: str, reason: str, by: Peer, wall: Clock) -> Path:
    """Make the copy safe to go on with and swap it in; return the folder that the present database was moved to.

    Raises:
        RestoreRefused: the disk is full, or a file cannot be moved. Run it again: it goes on.
    """
    try:
        _make_safe(prepared, path, operator=operator, reason=reason, by=by, now=wall.now())
        reach("pilot.before_restore_mark")  # saying that a swap is under way: from here on the store does not start
        aside = path.parent / f"aside-{wall.now():%Y%m%dT%H%M%SZ}"
        connection.mark_of(path).write_text(aside.name, encoding="utf-8")
        connection.sync_folder(path.parent)
        reach("pilot.after_restore_mark")
        return _swap(path, aside)
    except (OSError, apsw.Error, DatabaseRefused) as error:
        raise RestoreRefused(f"{path}: {error}") from error


def is_cut_off(path: Path) -> bool:
    """Return whether a swap of this database was begun and not ended."""
    return connection.mark_of(path).exists()


def go_on(path: Path) -> Path:
    """End a swap that was cut off; return the folder that the former database was moved to. Raises RestoreRefused."""
    try:
        return _swap(path, path.parent / (connection.mark_of(path).read_text(encoding="utf-8").strip() or "aside"))
    except OSError as error:
        raise RestoreRefused(f"{path}: {error}") from error


# ── inside ──────────────────────────────────────────────────────────────────


def _prove(source: Path, reader: Reader) -> tuple[str, ...]:
    """Return what is wrong with the archives, which is no fault of the backup. Raise RestoreRefused if that has one."""
    archives = [f"{one}: not here" for one in archived.missing(reader)]
    found = verify.verify_chain(reader)
    if found and archived.anchors(reader):
        archives, found = archives or found, verify.verify_chain(reader, through_archives=False)
    if found := [*found, *verify.verify_orders(reader)]:
        raise RestoreRefused(f"{source}: {found[0]} ({len(found)} findings in all); choose another backup")
    return tuple(archives)


def _compare(source: Path, copy: Path, path: Path, reader: Reader, archives: tuple[str, ...]) -> Prepared:
    moves = reader.last_transition_at()
    waiting = tuple(one.id for one in reader.live_intents() if reader.order(one.id) is None)
    open_then = {str(one.position_id) for one in reader.active_positions()}
    unresolved_then = {one.intent_id for one in reader.unresolved_orders()}
    open_now, unresolved_now, problem = _present(path, reader.owner())
    return Prepared(
        source=source,
        copy=copy,
        made_at=moves,
        present=problem,
        open_now=open_now,
        unresolved_now=unresolved_now,
        forgotten=(
            *(one for one in open_now if one not in open_then),
            *(one for one in unresolved_now if one not in unresolved_then),
        ),
        waiting=waiting,
        archives=archives,
    )


def _present(path: Path, restored: Owner | None) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Return open positions and unresolved orders of the present database, and why it cannot be read, or nothing.

    Raises RestoreRefused when it is of another account than what is restored: nothing of it may be taken over.
    """
    try:
        db = connection.open_reader(path, older=True)
    except DatabaseRefused as error:
        return (), (), str(error)
    try:
        if (found := connection.version_of(db)) != connection.version():
            return (), (), f"{path}: of another version (schema {found}, here {connection.version()})"
        if (verdict := backup.integrity(path)) != "ok":
            return (), (), f"{path}: damaged: {verdict}"
        reader = Reader.over(db)
        if (owner := reader.owner()) is not None and restored is not None and owner.is_other_than(restored):
            raise RestoreRefused(
                f"{path}: this database belongs to account {owner}, the backup to {restored}: set PILOT_DATA to the "
                "folder of the backup's account, or move this database away"
            )
        positions = tuple(str(one.position_id) for one in reader.active_positions())
        return positions, tuple(one.intent_id for one in reader.unresolved_orders()), ""
    except (apsw.Error, msgspec.ValidationError) as error:
        return (), (), f"{path}: {error}"
    finally:
        db.close()


def _make_safe(prepared: Prepared, path: Path, *, operator: str, reason: str, by: Peer, now: datetime) -> None:
    db = connection.open_writer(prepared.copy)
    try:
        reach("pilot.before_restore_safe")  # cancelling what waits, taking over what must not be forgotten, halting
        with db:
            _cancel_waiting(db, f"operator {operator} restored a backup: {reason}", by, now)
            if not prepared.present:
                _take_over(db, path)
            _halt(db, prepared, operator, reason, by, now)
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        db.close()
    with prepared.copy.open("rb") as file:
        os.fsync(file.fileno())
    reach("pilot.after_restore_safe")


def _cancel_waiting(db: apsw.Connection, why: str, by: Peer, now: datetime) -> None:
    """Cancel every intent without an order: whether it was traded since, the backup does not know."""
    decisions = DecisionStore(db, claim_ttl_minutes=UNUSED, attempts_max=UNUSED, backoff_s=UNUSED)
    for intent in decisions.read.live_intents():
        if intent.status not in WAITING or decisions.read.order(intent.id) is not None:
            continue  # an order that is reserved is looked for at the broker, and never sent anew
        waiting: TradeIntent = intent
        if intent.status == Status.EXECUTING:
            waiting = msgspec.structs.replace(intent, status=decisions.release(intent, why, 0.0, by, now))
        decisions.mark_cancelled(waiting, why, by, now)


def _take_over(db: apsw.Connection, path: Path) -> None:
    """Copy from the present database what must not be forgotten. Both have this program's schema."""
    source = connection.open_reader(path)
    try:
        for statement, table, columns in (
            ("INSERT OR IGNORE INTO retired_keys VALUES (?, ?, ?, ?)", "retired_keys",
             "idempotency_key, intent_id, status, retired_at"),
            ("INSERT OR IGNORE INTO retired_keys SELECT ?1, ?2, ?3, ?4 "
             "WHERE NOT EXISTS (SELECT 1 FROM intents WHERE idempotency_key = ?1)", "intents",
             "idempotency_key, id, status, created_at"),
            ("INSERT INTO halts (kind, reason, raised_by, raised_at, until, flatten) SELECT ?1, ?2, ?3, ?4, ?5, ?6 "
             "WHERE NOT EXISTS (SELECT 1 FROM halts WHERE reason = ?2 AND raised_at = ?4 AND lifted_at IS NULL)",
             "halts WHERE lifted_at IS NULL", "kind, reason, raised_by, raised_at, until, flatten"),
            ("INSERT INTO account_days SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10 WHERE NOT EXISTS "
             "(SELECT 1 FROM account_days WHERE account_id = ?1 AND day = ?2 AND reset = ?3)", "account_days",
             "account_id, day, reset, starts_at, ends_at, start_balance_cents, reference_cents, "
             "initial_balance_cents, created_at, note"),
            ("INSERT INTO attestations (account_id, rules, rules_hash, operator, at, text) SELECT ?1, ?2, ?3, ?4, ?5, "
             "?6 WHERE NOT EXISTS (SELECT 1 FROM attestations WHERE account_id = ?1 AND rules_hash = ?3 AND at = ?5)",
             "attestations", "account_id, rules, rules_hash, operator, at, text"),
            ("INSERT INTO api_usage VALUES (?1, ?2, ?3, ?4) ON CONFLICT (day, actor) DO UPDATE SET "
             "reads = max(reads, ?3), writes = max(writes, ?4)", "api_usage", "day, actor, reads, writes"),
            ("INSERT OR IGNORE INTO meta VALUES (?, ?)", "meta WHERE key = 'owner'", "key, value"),
            ("INSERT OR REPLACE INTO llm_usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", "llm_usage",
             "day, endpoint, actor, calls, refusals, tokens, cost_micros, reserved_tokens, reserved_micros"),
        ):  # fmt: skip
            for row in source.execute(f"SELECT {columns} FROM {table}"):
                db.execute(statement, row)
        for mark in source.execute("SELECT account_id, kind, value_cents, at, known_until FROM account_marks"):
            _raise_mark(db, mark)
    finally:
        source.close()


def _raise_mark(db: apsw.Connection, mark: tuple[object, ...]) -> None:
    account_id, kind, value_cents, at, known_until = mark
    db.execute(
        "INSERT INTO account_marks SELECT ?1, ?2, ?3, ?4, ?5 "
        "WHERE NOT EXISTS (SELECT 1 FROM account_marks WHERE account_id = ?1 AND kind = ?2)",
        (account_id, kind, value_cents, at, known_until),
    )
    db.execute(
        "UPDATE account_marks SET at = CASE WHEN ?3 > value_cents THEN ?4 ELSE at END, "
        "value_cents = max(value_cents, ?3), known_until = max(known_until, ?5) WHERE account_id = ?1 AND kind = ?2",
        (account_id, kind, value_cents, at, known_until),
    )


def _halt(db: apsw.Connection, prepared: Prepared, operator: str, reason: str, by: Peer, now: datetime) -> None:
    made = f"made after {prepared.made_at}" if prepared.made_at else "without a trade in it"
    text = f"{HALT_KEY}: operator {operator} restored {prepared.source.name}, {made}: {reason}"
    at = clock.iso(now)
    db.execute("INSERT INTO halts (kind, reason, raised_by, raised_at) VALUES ('hard', ?, ?, ?)", (text, by.name, at))
    lost = f"; positions or orders that it does not know: {', '.join(prepared.forgotten)}" if prepared.forgotten else ""
    db.execute(
        "INSERT INTO alerts (at, level, event, actor, text) VALUES (?, 'error', 'restored', ?, ?)",
        (at, by.name, f"hard halt: {text}{lost}"),
    )


def _swap(path: Path, aside: Path) -> Path:
    """Move the database aside and the copy into its place. Each step may have been done before."""
    copy = path.with_name(path.name + ".restored")
    if copy.exists():
        aside.mkdir(mode=0o700, exist_ok=True)
        for ending in ("", "-wal", "-shm", "-journal"):
            left = path.with_name(path.name + ending)
            if left.exists():
                reach("pilot.before_restore_aside")  # moving one file of the present database aside
                left.rename(aside / left.name)
                reach("pilot.after_restore_aside")
        reach("pilot.before_restore_place")  # the copy becomes the database
        connection.sync_folder(aside)
        copy.rename(path)
        connection.sync_folder(path.parent)
        reach("pilot.after_restore_place")
    reach("pilot.before_restore_end")  # from here on the store may start
    connection.mark_of(path).unlink(missing_ok=True)
    connection.sync_folder(path.parent)
    reach("pilot.after_restore_end")
    return aside
