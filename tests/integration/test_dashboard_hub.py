"""Open pages over a day: one look for all, only what changed, nothing that grows, slow ones dropped, a fast end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from actors.web import routes
from bus import messages
from bus.vocabulary import Role
from store import connection
from tests.kit.eventually import eventually_async
from tests.kit.gate import keep_days
from tests.kit.page import PEERS, Page, a_page
from tests.kit.store import StoreHarness


@pytest_asyncio.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Page]:
    async with a_page(tmp_path, monkeypatch, clients_max=3) as found:
        keep_days(found.store.db, found.store.gate, found.clock.now())
        found.beat()
        found.sample()
        yield found


class Reading:
    """One open page: its events as they came."""

    def __init__(self, here: Page, address: str = "/") -> None:
        self._events = here.hub.follow(address, "v1")

    async def next(self) -> tuple[str, dict[str, Any]]:
        found = await asyncio.wait_for(anext(self._events), 10)
        return found["event"], json.loads(found["data"])

    async def close(self) -> None:
        await self._events.aclose()  # type: ignore[attr-defined]


async def opened(here: Page, address: str = "/") -> tuple[Reading, dict[str, str]]:
    reading = Reading(here, address)
    assert (await reading.next())[1]["version"] == "v1"
    event, data = await reading.next()
    assert event == "parts"
    return reading, data["parts"]


async def test_page_gets_all_its_parts_first_and_then_only_what_changed(here: Page) -> None:
    reading, parts = await opened(here)
    assert {"answers", "banners", "limits", "board", "said"} <= parts.keys()
    await here.hub.look()
    await reading.next()  # what a first look finds new
    here.store.tell(PEERS[Role.PILOT], messages.Pause(operator="me", reason="holiday"))
    await here.hub.look()
    _, data = await reading.next()
    assert "holiday" in data["parts"]["banners"]
    assert "holdings" not in data["parts"] and "curves" not in data["parts"]
    await reading.close()


async def test_nothing_is_sent_when_nothing_changed(here: Page) -> None:
    reading, _ = await opened(here)
    await here.hub.look()
    await reading.next()
    client = next(iter(here.hub.clients))
    here.clock.advance(1.1)
    await here.hub.look()
    assert client._waiting == {}
    await reading.close()


async def test_page_that_nobody_has_open_costs_no_reading(here: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here.hub, "_render", lambda address: pytest.fail("rendered for nobody"))
    monkeypatch.setattr(here.hub, "_version", lambda: pytest.fail("looked for nobody"))
    for _ in range(5):
        here.clock.advance(1.1)
        await here.hub.look()
    assert here.hub.looks == 5


async def test_thousands_of_changes_leave_no_trace_in_a_page_that_does_not_read(here: Page) -> None:
    reading, _ = await opened(here)
    count = 0

    def render(address: str) -> dict[str, str]:
        nonlocal count
        count += 1
        return {"answers": "x" * 1_000 + str(count), "board": str(count)}

    here.hub._render = render
    for _ in range(2_000):
        here.clock.advance(1.1)
        await here.hub.look()
    client = next(iter(here.hub.clients))
    assert client._waiting.keys() <= {"answers", "board"}
    assert set(here.hub._shown) == {"/"}
    _, data = await reading.next()
    assert data["parts"]["board"] == str(count)
    await reading.close()
    assert here.hub.clients == set() and here.hub._shown == {}


async def test_no_more_pages_are_open_than_may_be(here: Page) -> None:
    readings = [(await opened(here))[0] for _ in range(3)]
    answer = await here.get("/events?page=/")
    assert answer.status_code == 503
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(anext(here.hub.follow("/", "v1")), 10)
    await readings[0].close()
    fourth, _ = await opened(here)
    for reading in (*readings[1:], fourth):
        await reading.close()


async def test_end_of_the_process_ends_every_page_at_once(here: Page) -> None:
    reading, _ = await opened(here)

    async def until_the_end() -> int:
        return len([event async for event in reading._events])

    waiting = asyncio.create_task(until_the_end())
    await asyncio.sleep(0)
    here.hub.close()
    assert await asyncio.wait_for(waiting, 2) <= 1


async def test_database_in_the_place_of_another_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_page(tmp_path, monkeypatch, has_database=False) as here:
        reading, parts = await opened(here)
        assert "There is no database yet" in parts["banners"]
        for reason in ("first", "second"):
            fresh = tmp_path / "fresh.db"
            db = connection.open_writer(fresh)
            store = StoreHarness(db, here.clock)
            store.tell(PEERS[Role.PILOT], messages.Pause(operator="me", reason=reason))
            db.close()
            for left in ("-wal", "-shm"):
                (tmp_path / f"decisions.db{left}").unlink(missing_ok=True)
            fresh.rename(tmp_path / "decisions.db")
            here.clock.advance(1.1)
            await here.hub.look()
            _, data = await reading.next()
            assert f"operator: me: {reason}" in data["parts"]["banners"]
            # The new one is watched from now on: its commits are seen by themselves, not by the time that passes.
            db = connection.open_writer(tmp_path / "decisions.db")
            store = StoreHarness(db, here.clock)
            await here.hub.look()
            await reading.next()
            store.tell(PEERS[Role.MONITOR], messages.RaiseHalt(level="hard", reason=f"later: {reason}"))
            await here.hub.look()
            _, data = await reading.next()
            assert f"later: {reason}" in data["parts"]["banners"]
            db.close()
        await reading.close()


async def test_change_is_told_by_the_look_itself(here: Page) -> None:
    reading, _ = await opened(here)
    stop = asyncio.Event()

    async def sleep(seconds: float) -> bool:
        await asyncio.sleep(seconds)
        return stop.is_set()

    watch = asyncio.create_task(here.hub.run(sleep))
    seen: list[str] = []

    async def listen() -> None:
        async for event in reading._events:
            seen.append(event["data"])

    listening = asyncio.create_task(listen())
    here.store.tell(PEERS[Role.PILOT], messages.Pause(operator="me", reason="at once"))
    await eventually_async(lambda: any("at once" in data for data in seen))
    stop.set()
    await asyncio.wait_for(asyncio.gather(watch, listening), 5)


async def test_page_of_no_such_address_is_refused(here: Page) -> None:
    for address in ("/nothing", "/sign-in", "/actions/pause", "x" * 5_000):
        assert (await here.client.get("/events", params={"page": address})).status_code == 404


async def test_intent_that_is_cleaned_up_while_its_page_is_open_ends_nothing(here: Page) -> None:
    intent = here.store.pending()
    reading, parts = await opened(here, f"/intents/{intent.id}")
    assert "Timeline" in parts["intent"]
    here.store.tell(PEERS[Role.PILOT], messages.Cancel(intent_id=intent.id, operator="me", reason="x"))
    here.store.db.execute("DELETE FROM decisions WHERE intent_id = ?", (intent.id,))
    here.store.db.execute("DELETE FROM intents WHERE id = ?", (intent.id,))
    await here.hub.look()
    assert len(here.hub.clients) == 1
    await reading.close()


class Transport:
    """A connection of which nobody reads the other end."""

    def __init__(self) -> None:
        self.is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True


async def test_page_that_takes_nothing_is_cut_off_and_forgotten(here: Page) -> None:
    transport = Transport()
    asked = {"type": "http", "method": "GET", "state": {"transport": transport}}
    never = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await never.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            await never.wait()

    answer = routes.Events(here.hub.follow("/", "v1"), send_timeout=0.05)
    await asyncio.wait_for(answer(asked, receive, send), 10)  # type: ignore[arg-type]
    assert transport.is_aborted
    assert here.hub.clients == set()
