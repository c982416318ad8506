"""What was sent into the last moments of a store reaches its successor at once, not at the next resend."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import codec, messages, sockets
from bus.clock import SystemClock
from bus.link import Link
from bus.vocabulary import Role
from config.settings import Bus

NEVER_S = 600.0


@pytest.fixture
def run_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pl", dir="/tmp") as name:
        yield Path(name)


async def receive(inbox: sockets.Socket) -> messages.Envelope:
    async with asyncio.timeout(5):
        while (frame := inbox.receive()) is None:
            await asyncio.sleep(0.005)
    return codec.decode_to_store(frame)


async def test_command_that_died_with_the_store_is_sent_again_to_the_next_one(run_folder: Path) -> None:
    peer = messages.Peer(Role.PILOT, 1, "0123456789ab")
    link = Link(peer, Bus(resend_s=NEVER_S), run_folder, SystemClock())
    first_store = sockets.bind_pull(sockets.store_address(run_folder), 1_048_576)
    link.open()
    asking = asyncio.create_task(link.ask(messages.Cancel(intent_id="0" * 16, operator="me", reason="test"), NEVER_S))
    try:
        first = await receive(first_store)
        first_store.close()
        await asyncio.sleep(0.05)
        assert not asking.done()
        second_store = sockets.bind_pull(sockets.store_address(run_folder), 1_048_576)
        assert await receive(second_store) == first
        second_store.close()
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        link.close()
