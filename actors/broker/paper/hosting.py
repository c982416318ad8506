"""One paper account served on one port until somebody asks it to stop: the loop of the process, whoever started it.

Run by the paper process under the supervisor, and alone. Never reads the environment, never ends the process.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from loguru import logger

from actors.broker.paper import routes
from actors.broker.paper.access import Access
from actors.broker.paper.faults import Faults
from actors.broker.paper.venue import Venue
from actors.serving import server
from bus import runtime
from config.load import ConfigError

CONTROLS = "Test controls are on: anybody on this machine can order misbehaviour under /paper"


def own(folder: Path) -> None:
    """Take the account's folder for the rest of this process's life.

    Raises:
        ConfigError: it cannot be made or written.
        LockHeld: another process serves this account; the message says which.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        runtime.acquire_lock(folder / "paper.lock", "paper")
    except OSError as error:
        raise ConfigError(f"{folder}: cannot keep an account here ({error.strerror})") from error


async def host(
    bound: socket.socket,
    venue: Venue,
    access: Access,
    faults: Faults | None,
    *,
    sleep: Callable[[float], Awaitable[bool]],
    ready: Callable[[], None],
    ticked: Callable[[], None],
) -> None:
    """Serve and let time pass. `sleep` waits for some seconds and says whether to stop; closes the venue at the end.

    Raises:
        OSError: the disk takes no more; what was not written was not answered.
    """
    application = routes.application(venue, access, faults)
    try:
        async with server.serving(application, bound, cuttable=faults is not None) as http:
            if faults is not None:
                logger.warning(CONTROLS)
            ready()
            while not await sleep(venue.settings.tick_s):
                venue.tick()
                ticked()
                if venue.failed:
                    raise OSError(f"{venue.folder}: the disk refused a line; see the error above")
                if http.done():
                    http.result()
                    raise RuntimeError("the web server ended by itself")
    finally:
        venue.close()
