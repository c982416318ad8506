"""The nouns of the model (rows, lives, messages, requests) and small moves of them. The verbs are elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from store import states

Peer = tuple[str, int]  # slot, incarnation counted from 1
Work = tuple[Any, ...]  # stage, intent, epoch, what the stage needs
Message = tuple[Any, ...]  # kind, peer, intent, epoch, what the kind needs
Position = tuple[int, Peer]  # the intent and the incarnation whose request made it

PENDING, CLAIMED, READY, EXECUTING = "pending", "claimed", "ready_for_exec", "executing"
OPENED, REJECTED, FAILED, CANCELLED = "opened", "rejected", "failed", "cancelled"
EXECUTOR = "executor"
UNRESOLVED = ("reserved", "unknown")
WORK = ("execute", "analyse")  # what the store sends
ENDED = (OPENED, REJECTED, FAILED, CANCELLED)
ARROWS = frozenset((event, str(before), str(after)) for event, before, after in states.ARROWS)

ONE_POST = "at most one POST per intent"
LICENSED = "no POST without a durable reservation"
FRESH = "no POST with an old licence"
HELD = "a command changes something only for the holder of the lease"
ONE_ANSWER = "one command has one answer"
LEGAL = "only arrows of the table"
GROWS = "epochs only grow"
OWN_POSITION = "a position belongs to the intent whose order made it"
TRUE_FAILURE = "an order that failed is not at the broker and never will be"
NEVER_SENT = "what ended without an order was never sent"
KNOWN = "every position is known, or its order is unresolved"


class Row(NamedTuple):
    """What the database says of one intent."""

    status: str
    epoch: int = 0
    holder: Peer | None = None
    order: str = ""
    baseline: frozenset[Position] = frozenset()
    position: Position | None = None
    is_young: bool = True  # the figures that its order was passed with


class Life(NamedTuple):
    """One living process. `born_after` are the requests that had left when it was born."""

    peer: Peer
    work: Work | None
    born_after: frozenset[Position]


class World(NamedTuple):
    """Everything at one moment."""

    rows: tuple[Row, ...]
    lives: tuple[Life, ...]
    births: tuple[tuple[str, int], ...]  # slot, how many incarnations it has had
    known: tuple[Peer, ...]  # in the store's memory: whose beats count
    untold: frozenset[Peer]  # dead, and the supervisor's word has not arrived yet
    wire: frozenset[Message]
    answers: frozenset[tuple[Message, str]]  # given, not taken yet
    requests: tuple[tuple[int, Peer, str], ...]  # flying, hidden, visible or gone
    halted: bool
    crashes: int
    restarts: int
    copies: int
    cancels: int
    repeats: int = 0  # of orders, with their key

    def life_of(self, peer: Peer) -> Life | None:
        return next((life for life in self.lives if life.peer == peer), None)

    def left(self, number: int) -> frozenset[Position]:
        """Return the requests of an intent, whatever became of them."""
        return frozenset((intent, peer) for intent, peer, _ in self.requests if intent == number)

    def has_twin_before(self, number: int) -> bool:
        """Return whether an earlier intent is just the same: then it is enough to go on with that."""
        return self.rows[number].epoch == 0 and self.rows[number] in self.rows[:number]

    def with_row(self, number: int, row: Row) -> World:
        return self._replace(rows=(*self.rows[:number], row, *self.rows[number + 1 :]))

    def with_life(self, life: Life) -> World:
        others = tuple(one for one in self.lives if one.peer != life.peer)
        return self._replace(lives=tuple(sorted((*others, life), key=lambda one: one.peer)))

    def without_life(self, life: Life) -> World:
        """Return the world after a death: what was on its way to it is lost, what it sent may still arrive."""
        return self._replace(
            lives=tuple(one for one in self.lives if one != life),
            untold=self.untold | {life.peer},
            wire=frozenset(one for one in self.wire if one[0] not in WORK or one[1] != life.peer),
            answers=frozenset(one for one in self.answers if one[0][1] != life.peer),
            crashes=self.crashes - 1,
        )

    def asking(self, life: Life, command: Message, stage: str) -> World:
        """Return the world in which `life` has sent a command and waits for its answer in `stage`."""
        after = self.with_life(life._replace(work=(stage, command[2], command[3], command)))
        return after._replace(wire=after.wire | {command})

    def without_answers(self, message: Message) -> World:
        return self._replace(answers=frozenset(one for one in self.answers if one[0] != message))

    def restarted(self) -> World:
        """Return the world with a new life of the store, which knows nobody yet."""
        return self._replace(known=(), restarts=self.restarts - 1)


Event = tuple[str, World, tuple[str, ...]]  # what happened, the world after it, the promises it broke


@dataclass(frozen=True)
class Sizes:
    """What is bounded, and where the intents begin."""

    slots: tuple[str, ...]
    begin: str
    intents: int = 2
    epochs: int = 3  # as attempts_max: nobody gets an intent again after that
    crashes: int = 1  # of analysts and executor
    restarts: int = 1  # of the store
    copies: int = 1  # of work that was sent twice
    cancels: int = 1
    repeats: int = 0  # of an order with its key, on a broker that knows keys
    holds: bool = False  # analysts may decide HOLD, too: it ends as a cancel does


@dataclass(frozen=True)
class Bounded:
    """What both halves of the model know. `broken` names the safeguard that is switched off."""

    sizes: Sizes
    broken: str = ""

    def epochs(self, wanted: str) -> int:
        """Return the epoch from which on an intent in status `wanted` is given to nobody again."""
        whole_path = len(self.sizes.slots) > 1 and EXECUTOR in self.sizes.slots
        return 2 * self.sizes.epochs if whole_path and wanted == READY else self.sizes.epochs


def name(peer: Peer) -> str:
    return f"{peer[0]}/{peer[1]}"


def say(message: Message) -> str:
    return f"{message[0]} {message[2]} in epoch {message[3]} of {name(message[1])}"


def illegal(event: str, row: Row, then: str) -> tuple[str, ...]:
    return () if (event, row.status, then) in ARROWS else (LEGAL,)


def work_for(number: int, row: Row) -> Message:
    if row.status == EXECUTING:
        return "execute", row.holder, number, row.epoch, bool(row.order)
    return "analyse", row.holder, number, row.epoch


def settling(number: int, epoch: int, is_accepted: bool, covered: frozenset[Position], is_quiet: bool = False) -> Work:
    return "settling", number, epoch, is_accepted, is_quiet, covered
