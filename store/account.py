"""What is kept of the account: days, marks, samples, requests, and the operator's word for them.

Part of the store process; called by the writer inside a savepoint. Believes nobody: what is written here is what every
floor is counted from, so that each day and mark must be one that the account can have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loguru import logger

from bus import clock, messages
from bus.messages import Peer
from bus.records import AccountDay, AccountMark
from bus.vocabulary import Outcome
from store import halts, owner
from store.decisions import Refused
from store.halts import Answer

if TYPE_CHECKING:
    from store.writer import Writer

# ── days and marks ──────────────────────────────────────────────────────────


def start_day(writer: Writer, sender: Peer, body: messages.StartDay) -> Answer:
    """Keep what days started with, and what the account reached meanwhile. The first start of a day stands."""
    is_new = [_keep_day(writer, day) for day in (*body.earlier, body.day)]
    _raise_marks(writer, body.marks)
    if not is_new[-1]:
        return Outcome.ALREADY, "that day was started before; the first start stands", None
    return Outcome.APPLIED, "", None


def declare_day(writer: Writer, sender: Peer, body: messages.DeclareDay) -> Answer:
    """Take the operator's word for a day that is not known, and for what the account reached at most."""
    reason, day = halts.reason_of(body.reason), body.day
    stands = writer.read.account_day(day.day, day.account_id, day.reset)
    figures = (day.start_balance_cents, day.reference_cents)
    if stands is not None and figures != (stands.start_balance_cents, stands.reference_cents):
        kept = f"{stands.start_balance_cents / 100:.2f}, reference {stands.reference_cents / 100:.2f}"
        raise Refused(f"day {day.day} ({day.reset}) stands with {kept}: {stands.note or 'as it was seen'}")
    is_new = _keep_day(writer, day)
    rose = _raise_marks(writer, body.marks)
    if not is_new and not rose:
        return Outcome.ALREADY, f"day {day.day} ({day.reset}) and its marks stand so", None
    said = f"day {day.day} ({day.reset}) started with {day.start_balance_cents / 100:.2f}" if is_new else "marks raised"
    said += "".join(f", {mark.kind} up to {mark.value_cents / 100:.2f}" for mark in rose)
    halts.alert(writer, sender, "warning", "day_declared", f"operator {body.operator}: {said}: {reason}")
    return Outcome.APPLIED, "", None


def _keep_day(writer: Writer, day: AccountDay) -> bool:
    """Return whether this is the first start of the day. Raises Refused for a day that cannot be the account's."""
    if wrong := writer.gate.implausible_day(day, writer.now):
        raise Refused(f"not a day of the account: {wrong}")
    owner.keep(writer.db, writer.gate.owner)
    if writer.read.account_day(day.day, day.account_id, day.reset) is not None:
        return False
    if other := writer.read.account_day_over(day.account_id, day.reset, day.starts_at, day.ends_at):
        raise Refused(f"day {day.day} ({day.reset}) overlaps day {other.day}, {other.starts_at} to {other.ends_at}")
    writer.insert("INSERT INTO account_days", day)
    logger.info(
        "Started day {} ({}) with a balance of {:.2f}, reference {:.2f}",
        day.day, day.reset, day.start_balance_cents / 100, day.reference_cents / 100,
    )  # fmt: skip
    return True


def raise_marks(writer: Writer, sender: Peer, body: messages.RaiseMarks) -> Answer:
    _raise_marks(writer, body.marks)
    return Outcome.APPLIED, "", None


def _raise_marks(writer: Writer, marks: tuple[AccountMark, ...]) -> list[AccountMark]:
    """Raise each mark to the higher of the two values, and return those that rose.

    A mark never falls and is never known for less long. Raises Refused for one that cannot be the account's.
    """
    rose = []
    for mark in marks:
        if wrong := writer.gate.implausible_mark(mark, writer.now):
            raise Refused(f"not a mark of the account: {wrong}")
        owner.keep(writer.db, writer.gate.owner)
        known = writer.read.account_mark(mark.account_id, mark.kind)
        if known is None:
            writer.insert("INSERT INTO account_marks", mark)
            rose.append(mark)
            continue
        if mark.value_cents > known.value_cents:
            rose.append(mark)
        higher = mark if mark.value_cents > known.value_cents else known
        writer.db.execute(
            "UPDATE account_marks SET value_cents = ?, at = ?, known_until = ? WHERE account_id = ? AND kind = ?",
            (higher.value_cents, higher.at, max(mark.known_until, known.known_until), mark.account_id, mark.kind),
        )
    return rose


def sample_equity(writer: Writer, sender: Peer, body: messages.SampleEquity) -> Answer:
    writer.insert("INSERT OR REPLACE INTO equity_samples", body.sample)
    return Outcome.APPLIED, "", None


# ── requests to the broker ──────────────────────────────────────────────────
# Counted under the date of every reading of the reset: whichever is the firm's, no more is granted than it allows.
# A row per incarnation: what a dead process was granted counts as used, and nobody else can give it back.


def grant_requests(writer: Writer, sender: Peer, body: messages.GrantRequests) -> Answer:
    """Grant a block of the day's requests, counted as used from now on; all of it or nothing."""
    rules = writer.gate.rules
    if body.day not in (days := rules.days_of(writer.now)):
        raise Refused(f"day {body.day} is not the firm's day at {clock.iso(writer.now)}; it is {' or '.join(days)}")
    limits, is_work = rules.requests, body.purpose == "work"
    allowed = limits.per_day - limits.reserve * is_work - body.kept
    allowed_writes = limits.writes_per_day - limits.writes_reserve * is_work
    for key in _keys(writer):
        reads, writes = writer.read.requests(key)
        used = reads + writes
        if used + body.reads + body.writes > allowed or writes + body.writes > allowed_writes:
            raise Refused(
                f"{body.reads} reads and {body.writes} writes were asked for {body.purpose}; of day {key} {used} "
                f"requests are used and {allowed} allowed, {writes} writes and {allowed_writes} allowed"
            )
    for key in _keys(writer):
        _count(writer, sender, key, body.reads, body.writes)
    return Outcome.APPLIED, "", None


def return_requests(writer: Writer, sender: Peer, body: messages.ReturnRequests) -> Answer:
    """Take back what was granted to this very process and not used."""
    reads, writes = _of(writer, sender, body.day)
    if body.reads > reads or body.writes > writes:
        found = f"{body.reads} reads and {body.writes} writes of day {body.day} were given back"
        raise Refused(f"{found}; {sender.name} was granted {reads} and {writes}")
    _count(writer, sender, body.day, -body.reads, -body.writes)
    first, *others = writer.gate.rules.readings
    for reading in others:
        # What was granted on that date is in this reading's present day only when that day began no later.
        day = reading.day_of(writer.now)
        if first.day_of(writer.now) == body.day and reading.span_of(day)[0] <= first.span_of(body.day)[0]:
            _count(writer, sender, f"{day} {reading.label}", -body.reads, -body.writes)
    return Outcome.APPLIED, "", None


def count_requests(writer: Writer, sender: Peer, body: messages.CountRequests) -> Answer:
    """Count requests that were made without a grant, whatever the limits say: they were made."""
    for key in {body.day, *_keys(writer)[1:]}:
        _count(writer, sender, key, body.reads, body.writes)
    return Outcome.APPLIED, "", None


def _keys(writer: Writer) -> list[str]:
    """Return what today's requests are counted under: the date of the usual reading, dates and labels of the others."""
    first, *others = writer.gate.rules.readings
    return [first.day_of(writer.now), *(f"{one.day_of(writer.now)} {one.label}" for one in others)]


def _name(sender: Peer) -> str:
    return f"{sender.name} {sender.incarnation}"


def _of(writer: Writer, sender: Peer, day: str) -> tuple[int, int]:
    query = "SELECT reads, writes FROM api_usage WHERE day = ? AND actor = ?"
    row = writer.db.execute(query, (day, _name(sender))).fetchone()
    return (int(str(row[0])), int(str(row[1]))) if row else (0, 0)


def _count(writer: Writer, sender: Peer, key: str, reads: int, writes: int) -> None:
    writer.db.execute(
        "INSERT INTO api_usage VALUES (?1, ?2, max(0, ?3), max(0, ?4)) "
        "ON CONFLICT (day, actor) DO UPDATE SET reads = max(0, reads + ?3), writes = max(0, writes + ?4)",
        (key, _name(sender), reads, writes),
    )


# ── the operator's word for the rules ───────────────────────────────────────


def attest(writer: Writer, sender: Peer, body: messages.Attest) -> Answer:
    """Record that the operator compared exactly these rules with the account's dashboard, and that the firm consents.

    Raises:
        Refused: another account or other rules than those that the store holds, or nothing was said.
    """
    gate = writer.gate
    text = halts.reason_of(body.text)
    held = (gate.account_id, gate.rules.name, gate.rules.fingerprint)
    if (body.account_id, body.rules, body.rules_hash) != held:
        raise Refused(
            f"attested was account {body.account_id} under {body.rules} {body.rules_hash[:12]}; the store holds "
            f"account {held[0]} under {held[1]} {held[2][:12]}: start it again after a change of rules or account"
        )
    writer.db.execute(
        "INSERT INTO attestations (account_id, rules, rules_hash, operator, at, text) VALUES (?, ?, ?, ?, ?, ?)",
        (body.account_id, body.rules, body.rules_hash, body.operator, clock.iso(writer.now), text),
    )
    what = f"account {body.account_id} under rules {body.rules} {body.rules_hash[:12]}"
    halts.alert(writer, sender, "info", "attested", f"operator {body.operator} attested {what}: {text}")
    return Outcome.APPLIED, "", None
