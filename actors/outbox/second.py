"""The second channel: whatever apprise can reach, for when the first takes nothing. Library of the alerts process.

apprise is imported when it is needed first, and runs in a thread with a time limit: it blocks, and nothing of it may
hold up beats. Its addresses hold secrets, and so do its logs: neither is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading

from bus.failpoints import reach


class Second:
    """The addresses of the second channel. One delivery at a time."""

    def __init__(self, addresses: tuple[str, ...], *, limit_s: float) -> None:
        self._addresses = addresses
        self._limit_s = limit_s
        self._thread: threading.Thread | None = None

    async def tell(self, title: str, body: str) -> str:
        """Send to every address; return "" when at least one took it, else what went wrong."""
        if self._thread is not None and self._thread.is_alive():
            return "the delivery before has not ended yet"
        loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()
        # A thread of its own that nobody waits for: one that hangs must not hold up the end of the process.
        self._thread = threading.Thread(target=self._deliver, args=(loop, done, title, body), daemon=True)
        reach("alerts.before_second")  # one message to the second channel
        self._thread.start()
        try:
            async with asyncio.timeout(self._limit_s):
                taken = await done
        except TimeoutError:
            return f"no answer within {self._limit_s:g} s"
        reach("alerts.after_second")
        return "" if taken else f"none of {len(self._addresses)} addresses took it"

    def _deliver(self, loop: asyncio.AbstractEventLoop, done: asyncio.Future[int], title: str, body: str) -> None:
        """Run in the thread: count the addresses that took the message."""
        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
        taken = 0
        try:
            import apprise

            for address in self._addresses:
                one = apprise.Apprise()
                taken += bool(one.add(address) and one.notify(title=title, body=body))
        finally:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(_settle, done, taken)


def _settle(done: asyncio.Future[int], taken: int) -> None:
    if not done.done():
        done.set_result(taken)
