"""The requests a process may still make: granted in blocks, refused, lent while the store is away, given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import time, timedelta
from zoneinfo import ZoneInfo

import pytest

from actors.broker.errors import BudgetSpent
from actors.compliance import day as days
from actors.compliance.day import FirmDay
from actors.desk.allowance import Allowance, Block
from bus import messages
from bus.errors import NoAnswer
from bus.vocabulary import Outcome
from tests.kit.clock import ManualClock

PER_DAY, RESERVE = 100, 10
ANSWER_S = 0.02
TODAY = "2026-11-02"


class Granting:
    """A store's account of one day and the next. `is_away`: what is asked waits, and is answered once, when it is back.

    `lost`: nobody is reached at all, as by a test's link that gives up at once.
    """

    def __init__(self) -> None:
        self.used: dict[str, int] = {}
        self.asked: list[messages.Command] = []
        self.back = asyncio.Event()
        self.back.set()
        self.lost = False

    async def ask(self, command: messages.Command, deadline_s: float | None = None) -> messages.Ack:
        self.asked.append(command)
        if self.lost:
            raise NoAnswer("nobody is there")
        await self.back.wait()
        assert isinstance(command, messages.GrantRequests | messages.CountRequests | messages.ReturnRequests)
        used, many = self.used.get(command.day, 0), command.reads + command.writes
        if isinstance(command, messages.ReturnRequests):
            self.used[command.day] = max(0, used - many)
        else:
            allowed = PER_DAY - (RESERVE if getattr(command, "purpose", "") == "work" else 0)
            if isinstance(command, messages.GrantRequests) and used + many > allowed:
                reason = f"{used} of {PER_DAY} used, {RESERVE} kept: {many} more are too many"
                return messages.Ack(id="1", outcome=Outcome.REFUSED, reason=reason)
            self.used[command.day] = used + many
        return messages.Ack(id="1", outcome=Outcome.APPLIED)

    def of(self, kind: type[messages.Message]) -> list[messages.Command]:
        return [one for one in self.asked if isinstance(one, kind)]


class Scene:
    """One store, its clock, and allowances of processes that share its budget."""

    def __init__(self) -> None:
        self.store = Granting()
        self.clock = ManualClock()
        self.made: list[Allowance] = []
        self.zones = ["Europe/Athens"]

    def today(self) -> tuple[FirmDay, ...]:
        return tuple(days.firm_day(self.clock.now(), time(0), ZoneInfo(zone)) for zone in self.zones)

    def allowance(self, reads: int = 4, writes: int = 1) -> Allowance:
        found = Allowance(
            self.store.ask, self.clock, self.today, block=Block(reads=reads, writes=writes), answer_s=ANSWER_S
        )
        self.made.append(found)
        return found

    def used(self, day: str = TODAY) -> int:
        return self.store.used.get(day, 0)

    def go_away(self) -> None:
        self.store.back.clear()

    async def come_back(self) -> None:
        self.store.back.set()
        await settled()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    found = Scene()
    yield found
    found.store.back.set()
    for one in found.made:
        await one.close()


async def settled() -> None:
    """Let everything that is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


# ── refusals first ──────────────────────────────────────────────────────────


async def test_an_order_is_refused_when_no_write_was_granted_before_and_nothing_is_asked(scene: Scene) -> None:
    allowance = scene.allowance()
    await allowance.ensure(3)
    asked = len(scene.store.asked)
    with pytest.raises(BudgetSpent, match="no write is granted"):
        allowance.pay_order()
    await settled()
    assert len(scene.store.asked) == asked


async def test_a_refused_grant_says_what_is_used_and_kept_and_how_long_it_lasts(scene: Scene) -> None:
    scene.store.used[TODAY] = PER_DAY - RESERVE
    with pytest.raises(BudgetSpent, match=r"no requests left for work: 90 of 100 used, 10 kept") as refused:
        await scene.allowance().ensure(1)
    assert refused.value.is_refused
    assert refused.value.retry_after_s == (scene.today()[0].ends_at - scene.clock.now()).total_seconds() > 0
    assert scene.used() == PER_DAY - RESERVE


async def test_work_stops_while_the_store_does_not_answer_and_waits_for_it_only_once(scene: Scene) -> None:
    scene.go_away()
    allowance = scene.allowance()
    loop = asyncio.get_running_loop()
    waits_s = []
    for _ in range(5):
        began = loop.time()
        with pytest.raises(BudgetSpent, match="does not answer") as spent:
            await allowance.pay_read()
        assert not spent.value.is_refused
        waits_s.append(loop.time() - began)
    assert waits_s[0] >= ANSWER_S * 0.9
    assert max(waits_s[1:]) < ANSWER_S / 2
    assert len(scene.store.asked) == 1  # asked again, it would be granted twice


async def test_the_reserve_is_for_flattening_alone_and_it_ends_too(scene: Scene) -> None:
    scene.store.used[TODAY] = PER_DAY - RESERVE
    allowance = scene.allowance(1, 1)
    await allowance.ensure(RESERVE - 1, 1, "flatten")
    assert scene.used() == PER_DAY
    allowance.pay_order()
    with pytest.raises(BudgetSpent, match="no requests left for flatten: 100 of 100"):
        await allowance.pay_write()


async def test_a_day_that_turned_takes_the_write_that_was_kept_for_an_order(scene: Scene) -> None:
    allowance = scene.allowance()
    await allowance.ensure(2, 2)
    scene.clock.advance(86_400)
    with pytest.raises(BudgetSpent):
        allowance.pay_order()


# ── what is granted ─────────────────────────────────────────────────────────


async def test_what_was_ensured_is_paid_without_asking_and_counted_from_the_grant_on(scene: Scene) -> None:
    allowance = scene.allowance()
    await allowance.ensure(5, 2)
    assert (scene.used(), allowance.left) == (7, Block(reads=5, writes=2))
    for _ in range(5):
        await allowance.pay_read()
    await allowance.pay_write()
    allowance.pay_order()
    assert (scene.used(), allowance.left, len(scene.store.asked)) == (7, Block(), 1)


async def test_only_what_is_missing_is_asked_for_but_never_less_than_a_block(scene: Scene) -> None:
    allowance = scene.allowance(4, 1)
    await allowance.ensure(10, 2)
    await allowance.pay_read()
    await allowance.ensure(10, 2)
    assert allowance.left == Block(reads=13, writes=2)
    for _ in range(9):
        await allowance.pay_read()
    await allowance.ensure(10, 2)
    grants = scene.store.of(messages.GrantRequests)
    assert [(one.reads, one.writes) for one in grants] == [(10, 2), (4, 0), (6, 0)]  # type: ignore[union-attr]


async def test_reads_are_not_paid_with_writes(scene: Scene) -> None:
    allowance = scene.allowance(1, 1)
    await allowance.ensure(0, 3)
    scene.store.used[TODAY] = PER_DAY
    with pytest.raises(BudgetSpent):
        await allowance.pay_read()
    assert allowance.left == Block(writes=3)


async def test_a_block_that_does_not_fit_any_more_is_asked_for_as_small_as_needed(scene: Scene) -> None:
    scene.store.used[TODAY] = PER_DAY - RESERVE - 2
    allowance = scene.allowance(4)
    await allowance.pay_read()
    await allowance.pay_read()
    assert scene.used() == PER_DAY - RESERVE
    with pytest.raises(BudgetSpent):
        await allowance.pay_read()


async def test_two_processes_that_want_the_last_block_do_not_both_get_it(scene: Scene) -> None:
    scene.store.used[TODAY] = PER_DAY - RESERVE - 6
    executor, monitor = scene.allowance(), scene.allowance()
    ends = await asyncio.gather(executor.ensure(5, 1), monitor.ensure(6), return_exceptions=True)
    assert [type(end) for end in ends].count(BudgetSpent) == 1
    assert scene.used() == PER_DAY - RESERVE


async def test_many_at_once_share_one_question_and_nothing_is_paid_twice(scene: Scene) -> None:
    allowance = scene.allowance(3)
    await asyncio.gather(*(allowance.pay_read() for _ in range(10)))
    assert scene.used() - allowance.left.reads == 10
    assert len(scene.store.asked) == 4


# ── the store is away ───────────────────────────────────────────────────────


async def test_a_late_answer_is_not_wasted(scene: Scene) -> None:
    scene.go_away()
    allowance = scene.allowance(4)
    for _ in range(3):
        with pytest.raises(BudgetSpent):
            await allowance.pay_read()
    await scene.come_back()
    assert (scene.used(), allowance.left) == (4, Block(reads=4))
    await allowance.pay_read()
    assert len(scene.store.asked) == 1


async def test_flattening_goes_on_without_the_store_and_is_counted_when_it_is_back(scene: Scene) -> None:
    scene.go_away()
    allowance = scene.allowance(4, 1)
    await allowance.ensure(2, 3, "flatten")
    for _ in range(3):
        await allowance.pay_write()
    for _ in range(7):
        await allowance.pay_read()
    assert scene.used() == 0
    await scene.come_back()
    told = scene.store.of(messages.CountRequests)
    assert sum(one.reads + one.writes for one in told) == 10  # type: ignore[union-attr, misc]
    # The question that was under way is granted beside it.
    assert scene.used() - allowance.left.reads - allowance.left.writes == 10


async def test_a_store_that_nobody_reaches_is_told_later(scene: Scene) -> None:
    scene.store.lost = True
    allowance = scene.allowance(4, 1)
    await allowance.ensure(2, 1, "flatten")
    await settled()
    assert scene.used() == 0
    scene.store.lost = False
    await allowance.pay_read()
    await settled()
    assert scene.used() == 3
    await allowance.ensure(5)  # work is granted again
    assert scene.used() == 7


async def test_work_after_flattening_does_not_go_on_without_the_store(scene: Scene) -> None:
    scene.go_away()
    allowance = scene.allowance()
    await allowance.ensure(1, 1, "flatten")
    with pytest.raises(BudgetSpent):
        await allowance.ensure(5, 5)
    with pytest.raises(BudgetSpent):
        for _ in range(2):
            await allowance.pay_read()


# ── the end of a day, of a process ──────────────────────────────────────────


async def test_a_new_day_gives_the_old_block_back_to_its_own_day_and_asks_for_a_new_one(scene: Scene) -> None:
    allowance = scene.allowance(4, 1)
    await allowance.ensure(6, 2)
    await allowance.pay_read()
    scene.clock.advance(86_400)
    await allowance.pay_read()
    await settled()
    assert (scene.used(TODAY), scene.used("2026-11-03")) == (1, 4)
    assert allowance.left == Block(reads=3)


async def test_a_grant_that_is_answered_on_the_next_day_is_given_back_to_its_own(scene: Scene) -> None:
    scene.go_away()
    allowance = scene.allowance(4)
    with pytest.raises(BudgetSpent):
        await allowance.pay_read()
    scene.clock.advance(86_400)
    assert allowance.left == Block()
    await scene.come_back()
    await allowance.pay_read()
    await settled()
    assert (scene.used(TODAY), scene.used("2026-11-03")) == (0, 4)


async def test_a_refusal_that_came_because_the_day_turned_is_asked_again_for_the_new_day(scene: Scene) -> None:
    allowance = scene.allowance(4)
    scene.store.used[TODAY] = PER_DAY
    scene.go_away()
    paying = asyncio.create_task(allowance.pay_read())
    await settled()
    scene.clock.advance(86_400)
    await scene.come_back()
    await paying
    assert (scene.used(TODAY), scene.used("2026-11-03")) == (PER_DAY, 4)


async def test_an_orderly_stop_gives_back_what_is_left(scene: Scene) -> None:
    allowance = scene.allowance()
    await allowance.ensure(6, 2)
    await allowance.pay_read()
    allowance.pay_order()
    await allowance.close()
    assert (scene.used(), allowance.left) == (2, Block())


async def test_a_stop_while_the_store_is_away_does_not_wait_for_it(scene: Scene) -> None:
    allowance = scene.allowance()
    await allowance.ensure(6, 2)
    scene.go_away()
    began = asyncio.get_running_loop().time()
    await allowance.close(wait_s=0.05)
    assert asyncio.get_running_loop().time() - began < 1.0
    await settled()
    assert scene.used() == 8  # what was not given back counts as used


async def test_a_clock_set_back_over_the_reset_leaves_no_block_in_the_wrong_day(scene: Scene) -> None:
    allowance = scene.allowance(4)
    scene.clock.jump(86_400)
    await allowance.pay_read()
    scene.clock.jump(-timedelta(days=1).total_seconds())
    await allowance.pay_read()
    await settled()
    assert (scene.used("2026-11-03"), scene.used(TODAY)) == (1, 4)


async def test_a_block_ends_at_the_reset_of_whichever_reading_turns_first(scene: Scene) -> None:
    scene.zones = ["UTC", "Europe/Athens"]
    allowance = scene.allowance()
    await allowance.ensure(6, 2)
    scene.clock.advance(16 * 3_600 - 1)  # 21:59:59 UTC: one second to midnight in Athens
    assert allowance.left == Block(reads=6, writes=2)
    scene.clock.advance(1)
    assert allowance.left == Block()
    await allowance.pay_read()
    await settled()
    assert scene.used() == 4
