"""What the tests of the executor's desk check and hook into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bus import messages
from bus.clock import parse
from tests.kit.execution import Bench

over_both_apis = pytest.mark.usefixtures("an_api")


def assert_nothing_sent(bench: Bench) -> None:
    assert bench.client.opens == []
    assert bench.placed() == []


def assert_one(bench: Bench, work: messages.Execute, status: str) -> None:
    """Check that one order was sent, how it ended, and that store and broker agree on its position."""
    assert len(bench.client.opens) == 1
    assert bench.status(work) == status
    intent = bench.reader.intent(work.intent.id)
    assert intent is not None
    owned = [str(row["position_id"]) for row in bench.placed()]
    assert owned == ([intent.position_id] if intent.position_id else [])


def once(act: Callable[[], Any]) -> Callable[..., None]:
    """Return a hook that acts the first time only."""
    left = [act]

    def hook(*_: Any) -> None:
        if left:
            left.pop()()

    return hook


def on(kind: type, act: Callable[[], Any]) -> Callable[[messages.Command], None]:
    """Return a hook that acts at every command of one kind."""
    return lambda command: act() if isinstance(command, kind) else None


def held_for_s(bench: Bench, work: messages.Execute) -> float:
    """Return how long the intent that was given back is held back."""
    intent = bench.reader.intent(work.intent.id)
    assert intent is not None and intent.not_before is not None
    return (parse(intent.not_before) - bench.clock.now()).total_seconds()
