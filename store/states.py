"""The state machine of an intent as one table. Pure: the writer asks it, the SQL triggers are generated from it.

Whoever writes to the database, a status change that is no arrow here is refused by the database itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from bus.vocabulary import Status
from bus.vocabulary import Status as S

# (event, from, to). None = the intent does not exist yet. A self-arrow is recorded without a change of status.
ARROWS: tuple[tuple[str, Status | None, Status], ...] = (
    ("propose", None, S.PENDING),
    ("claim", S.PENDING, S.CLAIMED),
    ("decide_trade", S.CLAIMED, S.READY_FOR_EXEC),
    ("decide_hold", S.CLAIMED, S.CANCELLED),
    ("retry", S.CLAIMED, S.PENDING),  # analysis error, attempts left
    ("release", S.CLAIMED, S.PENDING),  # orderly stop of the analyst: the attempt does not count
    ("exhaust", S.CLAIMED, S.FAILED),  # analysis error, attempts exhausted
    ("lose_lease", S.CLAIMED, S.TIMED_OUT),
    ("recycle", S.TIMED_OUT, S.PENDING),
    ("give_up", S.TIMED_OUT, S.CANCELLED),  # attempts or expires_at ran out
    ("expire", S.PENDING, S.CANCELLED),
    ("expire", S.READY_FOR_EXEC, S.CANCELLED),
    ("cancel", S.PENDING, S.CANCELLED),
    ("cancel", S.CLAIMED, S.CANCELLED),
    ("cancel", S.READY_FOR_EXEC, S.CANCELLED),
    ("take", S.READY_FOR_EXEC, S.EXECUTING),
    ("return", S.EXECUTING, S.READY_FOR_EXEC),  # nothing was reserved, so nothing was sent
    ("exhaust", S.EXECUTING, S.FAILED),  # nothing was reserved, attempts exhausted
    ("reject", S.EXECUTING, S.REJECTED),
    ("reserve", S.EXECUTING, S.EXECUTING),
    ("hand_over", S.EXECUTING, S.EXECUTING),  # a new executor reconciles what the dead one reserved
    ("lose_answer", S.EXECUTING, S.EXECUTING),
    ("fail", S.EXECUTING, S.FAILED),
    ("open", S.EXECUTING, S.OPENED),
    ("adopt", None, S.OPENED),  # a position that is there already and that nobody owned
    ("close", S.OPENED, S.CLOSED),
)

FINAL: frozenset[Status] = frozenset({S.REJECTED, S.FAILED, S.CANCELLED, S.CLOSED})
LIVE: frozenset[Status] = frozenset({S.PENDING, S.CLAIMED, S.READY_FOR_EXEC, S.EXECUTING})
NEVER_TRADED: frozenset[Status] = frozenset({S.REJECTED, S.CANCELLED})
ADOPTED = "adopted:"  # how the idempotency key of an adopted position begins; its id follows
# Columns that stand from the proposal on.
IDENTITY = ("id", "created_at", "trade_date", "symbol", "timeframe", "source", "idempotency_key", "signal_json")

_TARGETS = {(event, before): after for event, before, after in ARROWS}


def target(event: str, before: Status | None) -> Status | None:
    """Return the status after `event`, or None when that arrow does not exist."""
    return _TARGETS.get((event, before))


def allowed(before: Status | None) -> tuple[str, ...]:
    """Return the events that an intent in this status can take, in the table's order."""
    return tuple(dict.fromkeys(event for event, status, _ in ARROWS if status == before))


def triggers() -> dict[str, str]:
    """Return the SQL triggers that hold the table for every writer, by name."""
    moves: dict[Status, list[Status]] = {}
    for _, before, after in ARROWS:
        if before is not None and after not in moves.setdefault(before, []):
            moves[before].append(after)
    legal = " OR ".join(
        f"(OLD.status = '{before}' AND ({_any_of('NEW.status', afters)}))" for before, afters in moves.items()
    )
    never_traded = ", ".join(repr(str(status)) for status in sorted(NEVER_TRADED))
    final = ", ".join(repr(str(status)) for status in sorted(FINAL))
    unresolved = "EXISTS (SELECT 1 FROM orders WHERE intent_id = OLD.id AND status IN ('reserved', 'unknown'))"
    return _identity() | {
        "intents_arrows": _refuse(
            "UPDATE OF status",
            f"NEW.status <> OLD.status AND NOT ({legal})",
            "illegal transition: no such arrow in store/states.py",
        ),
        "intents_order_first": _refuse(
            "UPDATE OF status",
            "NEW.status = 'opened' AND OLD.status <> 'opened' AND NOT EXISTS "
            "(SELECT 1 FROM orders WHERE intent_id = OLD.id AND status = 'opened' AND position_id = NEW.position_id)",
            "illegal transition: opened needs an opened order with the same position",
        ),
        "intents_keep_unresolved": _refuse(
            "UPDATE OF status",
            f"OLD.status = 'executing' AND NEW.status <> 'executing' AND {unresolved}",
            "illegal transition: an order of this intent is unresolved",
        ),
        "intents_reserved_is_not_given_back": _refuse(
            "UPDATE OF status",
            "OLD.status = 'executing' AND NEW.status IN ('ready_for_exec', 'rejected') AND EXISTS "
            "(SELECT 1 FROM orders WHERE intent_id = OLD.id)",
            "illegal transition: this intent has had its one order",
        ),
        "intents_epoch_grows": _refuse("UPDATE OF epoch", "NEW.epoch < OLD.epoch", "illegal: an epoch never falls"),
        "intents_keep_what_traded": _refuse(
            "DELETE",
            f"OLD.status NOT IN ({final}) OR EXISTS (SELECT 1 FROM orders WHERE intent_id = OLD.id) "
            f"OR OLD.status NOT IN ({never_traded}) AND EXISTS (SELECT 1 FROM transitions WHERE intent_id = OLD.id)",
            "illegal: only an intent that ended without an order, or whose journal was archived, may be deleted",
        ),
    }


def _identity() -> dict[str, str]:
    """Return the triggers that keep an intent itself. OR REPLACE fires no delete trigger, so its victims are sought."""
    return {
        "intents_born_pending": _refuse(
            "INSERT",
            f"NEW.status <> 'pending' AND NOT (NEW.status = 'opened' AND NEW.source = 'manual' "
            f"AND NEW.position_id IS NOT NULL AND NEW.idempotency_key = '{ADOPTED}' || NEW.position_id)",
            "illegal transition: an intent begins as pending, or as opened with the position that it is named after",
        ),
        "intents_born_once": _refuse(
            "INSERT",
            "EXISTS (SELECT 1 FROM intents WHERE id = NEW.id OR idempotency_key = NEW.idempotency_key "
            "OR position_id = NEW.position_id OR rowid = NEW.rowid)",
            "illegal: there is such an intent already",
        ),
        "intents_identity_stands": _refuse(
            f"UPDATE OF {', '.join(IDENTITY)}",  # so that an arrow, which names none of them, is not looked at
            " OR ".join(f"NEW.{name} IS NOT OLD.{name}" for name in IDENTITY),
            "illegal: what was proposed never changes",
        ),
        "intents_row_stands": _refuse("UPDATE", "NEW.rowid <> OLD.rowid", "illegal: what was proposed never changes"),
        "intents_position_stands": _refuse(
            "UPDATE OF position_id",
            "NEW.position_id IS NOT OLD.position_id AND (OLD.position_id IS NOT NULL "
            "OR EXISTS (SELECT 1 FROM intents WHERE position_id = NEW.position_id))",
            "illegal: a position belongs to one intent, for good",
        ),
    }


def _any_of(name: str, values: Iterable[Status]) -> str:
    """Return a comparison value by value: for an IN of more than two, SQLite builds a table at each arrow."""
    return " OR ".join(f"{name} = '{value}'" for value in values)


def _refuse(when: str, condition: str, message: str) -> str:
    return f"BEFORE {when} ON intents WHEN {condition}\nBEGIN SELECT RAISE(ABORT, '{message}'); END"
