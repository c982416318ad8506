"""A short model of the protocol between store, analysts, executor and broker, for `explore`. Its own words: no product
code but the table of arrows.

The network is the worst there is: a message that was sent may arrive at any later time, in any order, or never. A
command may arrive again, but the store knows it then and answers as before: no step here unless the dedup is broken. A
store that dies between commit and ack is the same as one whose ack is late. Time is a step, too: a licence grows old
and a quiet period ends whenever they like, the latter only when what left before it is settled at the broker. That is
the assumption which docs/guarantees.md names.

`broken` switches a single safeguard off; the tests show that each is missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.model.actor_half import ActorHalf
from tests.model.explore import Step
from tests.model.store_half import StoreHalf
from tests.model.world import (
    CLAIMED,
    ENDED,
    EXECUTOR,
    GROWS,
    KNOWN,
    NEVER_SENT,
    ONE_ANSWER,
    ONE_POST,
    OPENED,
    OWN_POSITION,
    READY,
    TRUE_FAILURE,
    UNRESOLVED,
    WORK,
    Event,
    Life,
    Message,
    Peer,
    Row,
    World,
    name,
    say,
)


class Protocol(StoreHalf, ActorHalf):
    """The model. Order of the steps does not matter; every one that is possible is tried."""

    def first(self) -> World:
        lives = tuple(Life((slot, 1), None, frozenset()) for slot in self.sizes.slots)
        return World(
            rows=(Row(self.sizes.begin),) * self.sizes.intents, lives=lives,
            births=tuple((slot, 1) for slot in self.sizes.slots), known=(), untold=frozenset(), wire=frozenset(),
            answers=frozenset(), requests=(), halted=False, crashes=self.sizes.crashes, restarts=self.sizes.restarts,
            copies=self.sizes.copies, cancels=self.sizes.cancels, repeats=self.sizes.repeats,
        )  # fmt: skip

    def is_done(self, state: Any) -> bool:
        world: World = state
        is_idle = all(life.work is None or life.work[0] == "stuck" for life in world.lives)
        return is_idle and (world.halted or all(row.status in self._ends() for row in world.rows))

    def _ends(self) -> tuple[str, ...]:
        return ENDED if EXECUTOR in self.sizes.slots else (*ENDED, READY)

    def broken_in(self, state: Any) -> Iterator[str]:
        world: World = state
        sent = [intent for intent, _, _ in world.requests]
        if len(sent) != len(set(sent)):
            yield ONE_POST
        for number, row in enumerate(world.rows):
            fates = {fate for intent, _, fate in world.requests if intent == number}
            if row.position is not None and row.position[0] != number:
                yield OWN_POSITION
            if row.order == "failed" and fates - {"gone"}:
                yield TRUE_FAILURE
            if row.order == "" and row.status in ENDED and fates:
                yield NEVER_SENT
            if fates & {"hidden", "visible"} and not (row.order in UNRESOLVED or row.status == OPENED):
                yield KNOWN

    def steps(self, state: Any) -> Iterator[Step]:
        world: World = state
        for label, after, broken in self._all_steps(world):
            if after.rows is not world.rows and any(
                new.epoch < old.epoch for new, old in zip(after.rows, world.rows, strict=True)
            ):
                broken = (*broken, GROWS)
            yield label, self._without_the_past(after), broken

    def _all_steps(self, world: World) -> Iterator[Event]:
        yield from self._store(world)
        yield from self._commands(world)
        yield from self._deaths(world)
        yield from self._broker(world)
        yield from self._figures(world)
        for life in world.lives:
            if life.peer[0] == EXECUTOR:
                yield from self._executor(world, life)
            else:
                yield from self._analyst(world, life)

    def _without_the_past(self, world: World) -> World:
        """Forget what can never matter again, so that histories that differ in nothing else meet in one state."""
        rows, wire, untold = world.rows, world.wire, world.untold
        if any(row.status in ENDED and row.epoch for row in rows):
            rows = tuple(
                Row(row.status, order=row.order, position=row.position) if row.status in ENDED else row for row in rows
            )
        if wire and self.broken not in ("no_fence", "no_dedup"):
            wire = frozenset([one for one in wire if self._may_matter(world, one)])
        if untold:
            held = {row.holder for row in rows}
            untold = frozenset(peer for peer in untold if peer in world.known or peer in held)
        if (rows, wire, untold) == (world.rows, world.wire, world.untold):
            return world
        return world._replace(rows=rows, wire=wire, untold=untold)

    def _may_matter(self, world: World, message: Message) -> bool:
        """Return False for a command that nobody waits for and that is stale: epochs grow, so it stays so for good."""
        kind, peer, number, epoch = message[:4]
        if kind in WORK or (world.rows[number].epoch, world.rows[number].holder) == (epoch, peer):
            return True
        life = world.life_of(peer)
        return life is not None and life.work is not None and message in life.work

    # ── commands arrive ─────────────────────────────────────────────────────

    def _commands(self, world: World) -> Iterator[Event]:
        for message in world.wire:
            if message[0] in WORK:
                continue
            outcome, after, broken = self._apply(world, message)
            yield f"{say(message)}: {outcome}", self._answered(after, message, outcome), (
                *broken, *self._contradicts(world, message, outcome),
            )  # fmt: skip
            if self.broken == "ack_before_commit" and world.restarts and outcome == "applied":
                yield f"{say(message)}: acked, not committed", self._answered(world, message, outcome).restarted(), ()

    def _answered(self, world: World, message: Message, outcome: str) -> World:
        """Take a command off the wire for good: a copy of it would be known. Its answer waits if somebody wants it."""
        wire = world.wire if self.broken == "no_dedup" else world.wire - {message}
        life = world.life_of(message[1])
        if life is None or life.work is None or message not in life.work:
            return world._replace(wire=wire)
        after = world._replace(wire=wire, answers=world.answers | {(message, outcome)})
        if message[0] == "reserve" or self.broken or life.work[0] == "stuck":
            return after
        # Whoever waits for another answer than a licence can do nothing before it comes: one step less.
        ((_, after, _),) = self._executor(after, life) if message[1][0] == EXECUTOR else self._wait(after, life)
        return after

    def _contradicts(self, world: World, message: Message, outcome: str) -> tuple[str, ...]:
        others = {said for other, said in world.answers if other == message} - {outcome}
        return (ONE_ANSWER,) if others else ()

    # ── deaths and births ───────────────────────────────────────────────────

    def _deaths(self, world: World) -> Iterator[Event]:
        if world.restarts:
            yield "the store dies", world.restarted(), ()
        for life in world.lives:
            if world.crashes:
                yield f"{name(life.peer)} dies", world.without_life(life), ()
        for peer in world.untold:
            yield self._told(world, peer)
        alive = {life.peer[0] for life in world.lives}
        for slot, count in world.births:
            # One life a slot: the next one gets the lock when the last one is dead.
            if slot not in alive or (self.broken == "no_lock" and slot == EXECUTOR and count == 1):
                left = frozenset((intent, peer) for intent, peer, _ in world.requests)
                born = Life((slot, count + 1), None, left)
                births = tuple((one, n + (one == slot)) for one, n in world.births)
                yield f"{name(born.peer)} is born", world.with_life(born)._replace(births=births), ()

    def _told(self, world: World, peer: Peer) -> Event:
        known = tuple(one for one in world.known if one != peer)
        after: World = world._replace(untold=world.untold - {peer}, known=known)
        broken: tuple[str, ...] = ()
        for number, row in enumerate(world.rows):
            if row.holder == peer and row.status == CLAIMED:
                _, after, broken = self._lose(after, number, "died")
            elif row.holder == peer and not row.order:
                _, after, broken = self._returned(after, number, "died")
        return f"the store is told that {name(peer)} died", after, broken
