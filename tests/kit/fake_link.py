"""A link that records what an actor asks and answers as the test says. No sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bus import messages
from bus.errors import NoAnswer
from bus.vocabulary import Outcome

Answer = Callable[[messages.Command], "messages.Ack | None"]


def applied(command: messages.Command) -> messages.Ack:
    """Answer like a store that takes everything."""
    return messages.Ack(id="1", outcome=Outcome.APPLIED, intent_id="intent-1")


class FakeLink:
    """Stands in for `bus.link.Link`. An answer of None is a store that is away: NoAnswer at the deadline or never."""

    def __init__(self, answer: Answer = applied) -> None:
        self.stopping = asyncio.Event()
        self.answer = answer
        self.asked: list[messages.Command] = []
        self.deadlines_s: list[float | None] = []
        self.slept_s: list[float] = []
        self.naps_left = 0  # how many sleeps end by themselves; the next one sets `stopping`
        self.waits_for_ever = False

    async def ask(self, command: messages.Command, deadline_s: float | None = None) -> messages.Ack:
        self.asked.append(command)
        self.deadlines_s.append(deadline_s)
        ack = self.answer(command)
        if ack is not None:
            return ack
        if self.waits_for_ever:
            await asyncio.Event().wait()
        raise NoAnswer(f"{type(command).__name__} was not answered within {deadline_s} s")

    async def sleep(self, seconds: float) -> bool:
        self.slept_s.append(seconds)
        if self.stopping.is_set():
            return True
        if self.naps_left == 0:
            self.stopping.set()
            return True
        self.naps_left -= 1
        return False

    def ready(self) -> None:
        """Nobody listens."""

    def beat_now(self) -> None:
        """Nobody listens."""

    def of(self, kind: type[messages.Message]) -> list[messages.Command]:
        """Return the commands of one kind, in order."""
        return [command for command in self.asked if isinstance(command, kind)]
