"""The login beside the rest of a start: what it may ask for, and what becomes of one that fails."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import cast

import pytest

from actors.broker.account import Account
from actors.broker.errors import BudgetSpent, Transient
from actors.compliance.day import FirmDay
from actors.desk import entering
from actors.desk.allowance import Allowance, Block
from actors.executor import FIRST_LOOK_S, Executor
from bus import link, messages
from bus.vocabulary import Outcome
from store import queries
from tests.kit.clock import ManualClock


class Door:
    """A broker's login, paid for as the real one's is."""

    needs_login = True

    def __init__(self, allowance: Allowance, failure: Exception | None = None) -> None:
        self._allowance = allowance
        self._failure = failure
        self.tries = 0

    async def login(self) -> None:
        await self._allowance.pay_read()
        self.tries += 1
        if self._failure:
            raise self._failure


def an_allowance(outcome: Outcome = Outcome.APPLIED) -> tuple[Allowance, list[messages.Command]]:
    clock, asked = ManualClock(), list[messages.Command]()

    async def ask(command: messages.Command, deadline_s: float | None = None) -> messages.Ack:
        asked.append(command)
        return messages.Ack(id="1", outcome=outcome, reason="none left")

    now = clock.now()
    day = FirmDay(day=now.date().isoformat(), starts_at=now, ends_at=now + timedelta(days=1), reset="00:00 UTC")
    return Allowance(ask, clock, lambda: (day,), block=Block(reads=1)), asked


def entered(door: Door, allowance: Allowance, reads: int = 4) -> bool:
    return asyncio.run(entering.enter(cast("Account", door), allowance, reads))


def test_requests_that_are_refused_leave_the_door_alone() -> None:
    allowance, asked = an_allowance(Outcome.REFUSED)
    door = Door(allowance)
    assert entered(door, allowance) is False
    assert door.tries == 0
    assert {getattr(one, "purpose", "") for one in asked} == {"work"}  # the reserve is not for a login


def test_login_that_fails_is_told_to_whoever_looks() -> None:
    allowance, _ = an_allowance()
    door = Door(allowance, Transient("nobody listens"))
    with pytest.raises(Transient, match="nobody listens"):
        entered(door, allowance)
    assert door.tries == 1


def test_api_without_a_login_is_asked_nothing() -> None:
    allowance, asked = an_allowance()
    door = Door(allowance)
    door.needs_login = False
    assert entered(door, allowance) is False
    assert (door.tries, asked) == (0, [])


def test_login_is_paid_from_one_grant_that_is_enough_for_what_follows() -> None:
    allowance, asked = an_allowance()

    async def look() -> None:
        assert await entering.enter(cast("Account", Door(allowance)), allowance, 4)
        await allowance.ensure(3)

    asyncio.run(look())
    assert len(asked) == 1
    assert allowance.left == Block(reads=3)


def test_question_for_requests_has_left_when_the_rest_of_the_start_begins() -> None:
    allowance, asked = an_allowance()

    async def start() -> bool:
        entry = await entering.begin(cast("Account", Door(allowance)), allowance, 4)
        assert len(asked) == 1, "what comes now may take long, and nothing of it waits"
        return await entry

    assert asyncio.run(start())
    assert len(asked) == 1


def test_login_that_is_left_is_ended_and_its_failure_is_nobodys() -> None:
    async def leave(*, fails: bool) -> bool:
        async def wait() -> bool:
            if fails:
                raise BudgetSpent("refused")
            await asyncio.sleep(60)
            return True

        entry = asyncio.create_task(wait())
        await asyncio.sleep(0)
        await entering.leave(entry)
        return entry.done()

    assert asyncio.run(leave(fails=False))
    assert asyncio.run(leave(fails=True))


def test_login_that_failed_is_a_look_that_failed() -> None:
    asked: list[str] = []

    class Client:
        async def open_positions(self) -> tuple[()]:
            asked.append("positions")
            return ()

    class Link:
        async def sleep(self, seconds: float) -> bool:
            asked.append(f"waits {seconds:g} s")
            return True

    class Reader:
        def unresolved_orders(self) -> tuple[()]:
            return ()

    async def look() -> bool:
        async def fail() -> bool:
            raise Transient("nobody listens")

        one = Executor.__new__(Executor)
        one._allowance, _ = an_allowance()
        one.link = cast("link.Link", Link())
        return await one._first_look(
            cast("Account", Client()), cast("queries.Reader", Reader()), asyncio.create_task(fail())
        )

    assert asyncio.run(look()) is False
    assert asked == [f"waits {FIRST_LOOK_S:g} s"]
