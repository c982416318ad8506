"""Queries of what happened in a span of time. Read-only; for `pilot`, the page, the figures and the alerts.

Spans are [since, until), ISO times in UTC. Each query has a limit of its own or that of its caller.
"""

from __future__ import annotations

from bus.records import DecisionRecord, Halt, Record, Transition
from store.queries import Reader

ROWS_MAX = 1_000


class Alert(Record, frozen=True, kw_only=True):
    """One event of the outbox."""

    seq: int
    at: str
    level: str
    event: str
    actor: str
    intent_id: str | None
    text: str
    delivered_at: str | None


class Proposed(Record, frozen=True, kw_only=True):
    """An intent without its papers, which are large."""

    id: str
    created_at: str
    symbol: str
    source: str
    status: str


def alerts(reader: Reader, *, since: str = "", level: str | None = None, limit: int = 50) -> list[Alert]:
    """Return the newest alerts, newest first; of one level, if it is given."""
    return reader.select(
        Alert, "alerts WHERE at >= ?1 AND (?2 IS NULL OR level = ?2) ORDER BY seq DESC LIMIT ?3", since, level, limit
    )


def alerts_of(reader: Reader, actor: str, since: str, limit: int = 5) -> list[Alert]:
    """Return the newest alerts of one kind of process, newest first: `scanner` for scanner.1."""
    return reader.select(
        Alert, "alerts WHERE at >= ? AND actor LIKE ? || '.%' ORDER BY seq DESC LIMIT ?", since, actor, limit
    )


def proposed_between(reader: Reader, since: str, until: str) -> list[Proposed]:
    """Return the intents that were made then, oldest first."""
    return reader.select(
        Proposed, f"intents WHERE created_at >= ? AND created_at < ? ORDER BY created_at LIMIT {ROWS_MAX}",
        since, until,
    )  # fmt: skip


def opened_between(reader: Reader, since: str, until: str) -> list[DecisionRecord]:
    """Return the decisions whose position was first seen open then, oldest first."""
    return reader.select(
        DecisionRecord, f"decisions WHERE executed_at >= ? AND executed_at < ? ORDER BY executed_at LIMIT {ROWS_MAX}",
        since, until,
    )  # fmt: skip


def closed_between(reader: Reader, since: str, until: str) -> list[DecisionRecord]:
    """Return the decisions whose position was closed then, oldest first."""
    return reader.select(
        DecisionRecord, f"decisions WHERE closed_at >= ? AND closed_at < ? ORDER BY closed_at LIMIT {ROWS_MAX}",
        since, until,
    )  # fmt: skip


def halts_between(reader: Reader, since: str, until: str) -> list[Halt]:
    """Return the halts that stood at any time then, lifted ones, too, oldest first."""
    return reader.select(
        Halt,
        "halts WHERE raised_at < ?2 AND (lifted_at IS NULL OR lifted_at > ?1) AND (until IS NULL OR until > ?1) "
        f"ORDER BY id LIMIT {ROWS_MAX}",
        since, until,
    )  # fmt: skip


def recent_halts(reader: Reader, limit: int = 20) -> list[Halt]:
    """Return the newest halts, newest first, whether they stand or not."""
    return reader.select(Halt, "halts ORDER BY id DESC LIMIT ?", limit)


def newest_transitions(reader: Reader, limit: int) -> list[Transition]:
    """Return the newest arrows of the journal, newest first."""
    return reader.select(Transition, "transitions ORDER BY seq DESC LIMIT ?", limit)
