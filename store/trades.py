"""Queries of what was traded and how it went. Read-only; for `pilot`, the page, the figures and the alerts."""

from __future__ import annotations

from bus.records import DecisionRecord
from store.queries import Reader


def closed_between(reader: Reader, since: str, until: str) -> list[DecisionRecord]:
    """Return the decisions whose position was closed in [since, until) (ISO), oldest first."""
    return reader.select(
        DecisionRecord, "decisions WHERE closed_at >= ? AND closed_at < ? ORDER BY closed_at", since, until
    )


def opened_between(reader: Reader, since: str, until: str) -> list[DecisionRecord]:
    """Return the decisions whose position was seen open first in [since, until) (ISO), oldest first."""
    return reader.select(
        DecisionRecord, "decisions WHERE executed_at >= ? AND executed_at < ? ORDER BY executed_at", since, until
    )
