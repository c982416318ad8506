"""Requests to broker and models are measured where they leave, over real sockets, and go into the beats."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.analysts.chat import Endpoint
from actors.broker.errors import BrokerError
from actors.broker.transport import Transport
from bus import actor, codec, messages, tallies
from bus.clock import SystemClock
from bus.link import Link
from bus.vocabulary import Role
from config import load
from config.settings import Bus, LlmEndpoint
from tests.kit import scripted
from tests.kit.builders import a_peer as a_sender
from tests.kit.paper import Counting
from tests.kit.peers import a_peer, a_request, reset


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> tallies.Tallies:
    found = tallies.Tallies()
    monkeypatch.setattr(tallies, "PROCESS", found)
    return found


def answering(status: str) -> Any:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await a_request(reader)
        if status == "reset":
            reset(writer)
            return
        body = b'{"status":"OK","orderId":"W1"}'
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()

    return serve


def counts(found: tallies.Tallies) -> dict[str, int]:
    return {one.name: sum(one.counts) for one in found.told()}


async def test_each_request_to_the_broker_counts_once_by_kind_and_outcome(counted: tallies.Tallies) -> None:
    for status in ("200 OK", "401 no", "503 away", "reset"):
        async with a_peer(answering(status)) as peer:
            broker = scripted.Server().settings(base_url=f"http://127.0.0.1:{peer.port}")
            line = Transport(broker, Counting())
            for act in (line.read("GET", "/x"), line.write("/y", b"{}", headers={})):
                try:
                    await act
                except BrokerError:
                    assert status != "200 OK"
            await line.close()
    assert counts(counted) == {
        "broker_read_ok": 1, "broker_read_refused": 2, "broker_read_none": 1,
        "broker_write_ok": 1, "broker_write_refused": 2, "broker_write_none": 1,
    }  # fmt: skip
    assert all(one.sum_us > 0 for one in counted.told())


async def test_what_never_left_is_no_request(counted: tallies.Tallies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(load.READ_ONLY, "1")
    line = Transport(scripted.Server().settings(base_url="http://127.0.0.1:9"), Counting())
    with pytest.raises(BrokerError):
        await line.write("/y", b"{}", headers={})
    await line.close()
    assert counts(counted) == {}


async def test_each_request_to_a_model_counts_once_by_outcome(counted: tallies.Tallies) -> None:
    for status in ("200 OK", "429 slow down", "reset"):
        async with a_peer(answering(status)) as peer:
            spec = LlmEndpoint(base_url=f"http://127.0.0.1:{peer.port}", model="m")
            endpoint = Endpoint(spec, section="llm", key=None, clock=SystemClock(), rng=random.Random(1))
            try:
                await endpoint.request("GET", "/models")
            except httpx.RequestError:
                assert status == "reset"
            await endpoint.close()
    assert counts(counted) == {"llm_ok": 1, "llm_refused": 1, "llm_none": 1}


async def test_a_beat_tells_the_totals_of_its_process(counted: tallies.Tallies, tmp_path: Path) -> None:
    link = Link(a_sender(Role.EXECUTOR), Bus(), tmp_path, SystemClock())
    one = actor.Actor(link, load.settings("paper"), SystemClock())
    assert actor._beat_of(one).tallies == ()
    counted.observe(tallies.Name.BROKER_READ_OK, 0.02)
    for _ in range(2):
        beat = actor._beat_of(one)
        assert beat.tallies == counted.told()
    frame = codec.encode(messages.Envelope(sender=link.peer, body=beat))
    assert codec.decode_to_store(frame).body == beat
