"""Messages between a running supervisor and whoever asks it something, its mailbox, and the way to ask.

Used by every supervisor (the mailbox) and by its command line (`ask`). PUSH and PULL only: the asker binds a mailbox
of its own for the answer. Bytes that do not decode are counted and dropped. No request waits inside the supervisor:
whoever wants to know when a formation is reached asks again.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from pathlib import Path
from typing import Annotated

import msgspec
from loguru import logger
from msgspec import Meta, Struct

from bus import failpoints, sockets
from bus.vocabulary import Role

BYTES_MAX = 65_536
ANSWERS_OPEN_MAX = 16
CONNECT_S = 2.0
SPARE = "spare"
"""Name and state of a spare in `status`: `llm.spare`."""

ReplyTo = Annotated[str, Meta(pattern=r"^control\.[0-9a-f]{12}\.in$")]
ShortText = Annotated[str, Meta(max_length=200)]
Count = Annotated[int, Meta(ge=0, le=99)]


class Request(Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    """Base of all requests. `reply_to` is the name of the asker's mailbox inside the run folder."""

    reply_to: ReplyTo


class Status(Request, frozen=True, tag=True):
    """How do you do?"""


class Scale(Request, frozen=True, tag=True):
    """Run this many of these names; other names stay as they are."""

    changes: dict[Role, Count]


class Restart(Request, frozen=True, tag=True):
    """Stop this slot, or all slots of this name, in order and start them again."""

    name: ShortText


class Stop(Request, frozen=True, tag=True):
    """Stop everything in order and exit with 0."""


class ChildStatus(Struct, frozen=True, kw_only=True):
    """One process. None: there is no process, or it has not beaten yet."""

    name: str
    pid: int | None
    state: str
    restarts: int
    uptime_s: float | None
    last_beat_age_s: float | None


class Answer(Struct, frozen=True, kw_only=True, tag_field="kind"):
    """Base of all answers."""


class Report(Answer, frozen=True, tag=True):
    """It is done, or begun; this is the state after it."""

    scope: str
    pid: int
    profile: str
    stopping: bool
    children: tuple[ChildStatus, ...]


class Refused(Answer, frozen=True, tag=True):
    """It is not done; `code` is the exit code that says so."""

    code: int
    reason: str


_requests = msgspec.msgpack.Decoder(Status | Scale | Restart | Stop)
_answers = msgspec.msgpack.Decoder(Report | Refused)


class Mailbox:
    """Where a running supervisor is asked."""

    def __init__(self, run_folder: Path, scope: str) -> None:
        self.path = mailbox_path(run_folder, scope)
        self.socket = sockets.bind_pull(self.path, BYTES_MAX)
        self.not_understood = 0
        self._run_folder = run_folder
        self._answers: deque[tuple[Path, sockets.Socket]] = deque()

    def receive(self) -> Request | None:
        """Return the next request, or None when there is none. Never waits."""
        self._forget_the_gone()
        while (frame := self.socket.receive()) is not None:
            try:
                request: Request = _requests.decode(frame)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
                self.not_understood += 1
                logger.warning("Dropped a request of {} bytes that was not understood: {}", len(frame), error)
                continue
            return request
        return None

    def answer(self, request: Request, answer: Report | Refused) -> None:
        """Send the answer without waiting for the asker."""
        asker = self._run_folder / request.reply_to
        push = sockets.connect_push(asker, immediate=False, bytes_max=BYTES_MAX)
        if not failpoints.reach("supervisor.before_answer"):  # to a command line that asked; droppable
            push.send(msgspec.msgpack.encode(answer))
        failpoints.reach("supervisor.after_answer")
        # Closing now would drop what is still being connected for; the oldest one is surely done.
        self._answers.append((asker, push))
        if len(self._answers) > ANSWERS_OPEN_MAX:
            self._answers.popleft()[1].close()

    def _forget_the_gone(self) -> None:
        """Close towards whoever has taken its mailbox away: its socket would try again a hundred times a second."""
        for asker, push in [one for one in self._answers if not one[0].exists()]:
            self._answers.remove((asker, push))
            push.close()

    def close(self) -> None:
        for _, push in self._answers:
            push.close()
        self.socket.close()
        self.path.unlink(missing_ok=True)


def mailbox_path(run_folder: Path, scope: str) -> Path:
    """Return the path of a supervisor's mailbox."""
    return run_folder / f"supervisor.{scope}.in"


def new_reply_name() -> str:
    """Return the name of a mailbox for answers."""
    return f"control.{secrets.token_hex(6)}.in"


def ask(run_folder: Path, scope: str, request: Request, timeout_s: float) -> Report | Refused | None:
    """Return the answer of the supervisor of `scope`; None when it did not answer within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    reply_path = run_folder / request.reply_to
    inbox = sockets.bind_pull(reply_path, BYTES_MAX)
    push = sockets.connect_push(mailbox_path(run_folder, scope), immediate=True, bytes_max=BYTES_MAX)
    poller = sockets.Poller()
    poller.register(inbox)
    try:
        lost = failpoints.reach("supervisor.before_request")  # of a command line to the running one; droppable
        if not lost and not push.send(msgspec.msgpack.encode(request), min(timeout_s, CONNECT_S)):
            return None
        failpoints.reach("supervisor.after_request")
        while (left_s := deadline - time.monotonic()) > 0:
            poller.poll(max(1, int(left_s * 1_000)))
            frame = inbox.receive()
            if frame is not None:
                found: Report | Refused = _answers.decode(frame)
                return found
        return None
    except msgspec.DecodeError as error:
        logger.warning("The answer of the supervisor was not understood: {}", error)
        return None
    finally:
        push.close()
        inbox.close()
        reply_path.unlink(missing_ok=True)
