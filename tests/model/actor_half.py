"""Analysts, executor and broker as a model. Part of `protocol`."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.world import (
    FRESH,
    LICENSED,
    READY,
    UNRESOLVED,
    WORK,
    Bounded,
    Event,
    Life,
    Position,
    Work,
    World,
    name,
    say,
    settling,
)


class ActorHalf(Bounded):
    """What everybody but the store does."""

    # ── analysts ──────────────────────────────────────────────────────────────

    def _analyst(self, world: World, life: Life) -> Iterator[Event]:
        if life.work is None:
            yield from self._take(world, life, "thinking")
        elif life.work[0] == "thinking":
            _, number, epoch = life.work
            for kind in (
                "decide",
                "analysis_failed",
                *["hold"] * self.sizes.holds,
            ):  # a release is the arrow of a failure, too
                command = (kind, life.peer, number, epoch)
                yield say(command), world.asking(life, command, "waiting"), ()
        else:
            yield from self._wait(world, life)

    def _take(self, world: World, life: Life, stage: str) -> Iterator[Event]:
        """Begin on work that has arrived. Nobody takes it before it is idle: that is a message that is late."""
        for message in world.wire:
            if message[0] not in WORK or message[1] != life.peer:
                continue
            _, peer, number, epoch = message[:4]
            work: Work = (stage, number, epoch)
            if message[0] == "execute" and message[4]:
                work = settling(number, epoch, False, life.born_after)
            after = world.with_life(life._replace(work=work))
            yield f"{name(peer)} takes {say(message)}", after._replace(wire=world.wire - {message}), ()
            if world.copies:
                yield f"{name(peer)} takes one copy of {say(message)}", after._replace(copies=world.copies - 1), ()

    def _wait(self, world: World, life: Life) -> Iterator[Event]:
        """Take the answer to the last command of a piece of work."""
        assert life.work is not None
        command = life.work[3]
        for message, outcome in world.answers:
            if message != command:
                continue
            after = world.without_answers(message)
            said = f"{name(life.peer)} is told {outcome} on {say(message)}"
            if life.work[0] == "fail_or_give_back" and outcome == "refused":
                release = ("release", life.peer, life.work[1], life.work[2])
                yield said, after.asking(life, release, "waiting"), ()
            else:
                yield said, after.with_life(life._replace(work=None)), ()

    # ── the executor ──────────────────────────────────────────────────────────

    def _executor(self, world: World, life: Life) -> Iterator[Event]:
        if life.work is None:
            yield from self._take(world, life, "fresh")
            return
        stage, number, epoch = life.work[:3]
        if stage == "fresh":
            yield from self._begin(world, life, number, epoch)
        elif stage == "asked":
            yield from self._licence(world, life)
        elif stage == "licensed":
            yield from self._post(world, life)
        elif stage == "posted":
            yield from self._hear_the_broker(world, life)
        elif stage == "repeated":
            yield from self._hear_again(world, life)
        elif stage in ("settling", "looked"):
            yield from self._repeat(world, life)
            yield from self._settle(world, life)
        elif stage != "stuck":
            yield from self._wait(world, life)

    def _begin(self, world: World, life: Life, number: int, epoch: int) -> Iterator[Event]:
        baseline = frozenset((intent, peer) for intent, peer, fate in world.requests if fate == "visible")
        # Another id when an earlier one, given up, is still on its way.
        is_second = any(one[:4] == ("reserve", life.peer, number, epoch) for one in world.wire)
        reserve = ("reserve", life.peer, number, epoch, is_second, baseline)
        asked = world.asking(life, reserve, "asked")
        if self.broken == "no_reservation":
            after, broken = self._sent(asked, asked.life_of(life.peer), number, is_old=False)
            yield f"{name(life.peer)} asks and sends {number} at once", after, broken
        else:
            yield say(reserve), asked, ()
        if epoch < self.epochs(READY):
            release = ("release", life.peer, number, epoch)
            yield say(release), world.asking(life, release, "waiting"), ()
        reject = ("reject", life.peer, number, epoch)
        yield say(reject), world.asking(life, reject, "waiting"), ()

    def _licence(self, world: World, life: Life) -> Iterator[Event]:
        assert life.work is not None
        _, number, epoch, command = life.work
        failed = ("failed", life.peer, number, epoch)
        # The reservation is no longer waited for; it may still arrive.
        late = world.without_answers(command).asking(life, failed, "fail_or_give_back")
        yield f"{name(life.peer)} has no licence in time", late, ()
        for message, outcome in world.answers:
            if message != command:
                continue
            after = world.without_answers(message)
            if outcome == "applied":
                work: Work | None = ("licensed", number, epoch, False)
                yield f"{name(life.peer)} has its licence for {number}", after.with_life(life._replace(work=work)), ()
            elif outcome == "refused":
                release = ("release", life.peer, number, epoch)
                yield f"{name(life.peer)} was refused {number}", after.asking(life, release, "waiting"), ()
            else:
                yield f"{name(life.peer)} is stale for {number}", after.with_life(life._replace(work=None)), ()

    def _post(self, world: World, life: Life) -> Iterator[Event]:
        assert life.work is not None
        _, number, epoch, is_old = life.work
        if not is_old:
            aged = life._replace(work=("licensed", number, epoch, True))
            yield f"the licence of {name(life.peer)} for {number} grows old", world.with_life(aged), ()
        if is_old and self.broken != "no_licence_check":
            failed = ("failed", life.peer, number, epoch)
            yield f"{name(life.peer)} does not send {number}", world.asking(life, failed, "waiting"), ()
        else:
            after, broken = self._sent(world, life, number, is_old=is_old)
            yield f"{name(life.peer)} sends {number}", after, broken

    def _sent(self, world: World, life: Life | None, number: int, *, is_old: bool) -> tuple[World, tuple[str, ...]]:
        assert life is not None and life.work is not None
        broken = (FRESH,) * is_old
        if world.rows[number].order not in UNRESOLVED:
            broken = (*broken, LICENSED)
        requests = tuple(sorted((*world.requests, (number, life.peer, "flying"))))
        work = ("posted", number, life.work[2])
        return world.with_life(life._replace(work=work))._replace(requests=requests), broken

    def _hear_the_broker(self, world: World, life: Life) -> Iterator[Event]:
        assert life.work is not None
        _, number, epoch = life.work
        fates = {fate for intent, peer, fate in world.requests if (intent, peer) == (number, life.peer)}
        if fates & {"hidden", "visible"}:
            work = settling(number, epoch, True, world.left(number))
            yield f"the broker accepted {number}", world.with_life(life._replace(work=work)), ()
        if "gone" in fates:
            failed = ("failed", life.peer, number, epoch)
            yield f"the broker refused {number}", world.asking(life, failed, "waiting"), ()
        # The store is told, but not waited for: `reserved` says the same.
        unknown = ("unknown", life.peer, number, epoch, False)
        after = world.with_life(life._replace(work=settling(number, epoch, False, world.left(number))))
        yield f"the answer on {number} is lost", after._replace(wire=after.wire | {unknown}), ()

    def _settle(self, world: World, life: Life) -> Iterator[Event]:
        assert life.work is not None
        stage, number, epoch, is_accepted, is_quiet, covered = life.work[:6]
        if not is_quiet and self._may_be_quiet(world, covered):
            work = (stage, number, epoch, is_accepted, True, *life.work[5:])
            yield f"the quiet period of {number} ends", world.with_life(life._replace(work=work)), ()
        if stage == "settling":
            seen = frozenset(self._candidates(world, number))
            if not seen and not is_quiet and self.broken != "look_timed_after":
                return  # it would look again
            looked = ("looked", *life.work[1:], seen, is_quiet)
            yield f"{name(life.peer)} looks for {number}", world.with_life(life._replace(work=looked)), ()
            return
        seen, was_quiet = life.work[6:]
        if self.broken == "look_timed_after":
            was_quiet = is_quiet
        if len(seen) == 1:
            opened = ("opened", life.peer, number, epoch, next(iter(seen)))
            yield say(opened), world.asking(life, opened, "waiting"), ()
        elif seen or (was_quiet and is_accepted):
            unclear = ("unknown", life.peer, number, epoch, True)
            yield f"{number} is unclear", world.asking(life, unclear, "stuck"), ()
        elif was_quiet:
            failed = ("failed", life.peer, number, epoch)
            yield f"{number} is absent", world.asking(life, failed, "waiting"), ()
        else:
            again = settling(number, epoch, is_accepted, covered, is_quiet)
            yield f"{number} is not there yet", world.with_life(life._replace(work=again)), ()

    # ── the same order again, with its key ────────────────────────────────────

    def _repeat(self, world: World, life: Life) -> Iterator[Event]:
        """Send an order whose outcome is not known again, while its figures are young. It may be opened by that."""
        assert life.work is not None
        stage, number, epoch, is_accepted = life.work[:4]
        row = world.rows[number]
        if stage != "settling" or is_accepted or not world.repeats:
            return
        if not row.is_young and self.broken != "no_figures_check":
            return
        # Read from the store's file right before: work that comes late may speak of an order that was settled since.
        is_current = row.order in UNRESOLVED and (row.epoch, row.holder) == (epoch, life.peer)
        if not is_current and self.broken != "repeats_blindly":
            return
        broken = (*(() if row.is_young else (FRESH,)), *(() if row.order in UNRESOLVED else (LICENSED,)))
        sent = [one for one in world.requests if one[0] == number]
        if sent and self.broken != "new_key":
            # One key, one order: what was placed stays, what came to nothing may come to something now.
            again = [(number, peer, "flying" if fate == "gone" else fate) for _, peer, fate in sent]
        else:
            again = [*sent, (number, life.peer, "flying")]
        others = [one for one in world.requests if one[0] != number]
        after = world._replace(requests=tuple(sorted([*others, *again])), repeats=world.repeats - 1)
        yield (
            f"{name(life.peer)} repeats {number}",
            after.with_life(life._replace(work=("repeated", number, epoch))),
            broken,
        )

    def _hear_again(self, world: World, life: Life) -> Iterator[Event]:
        """Only an id ends the search. Whatever else is said, or nothing: the quiet period begins anew."""
        assert life.work is not None
        _, number, epoch = life.work
        if any(intent == number and fate in ("hidden", "visible") for intent, _, fate in world.requests):
            work = settling(number, epoch, True, world.left(number))
            yield f"the broker names {number}", world.with_life(life._replace(work=work)), ()
        after = world.with_life(life._replace(work=settling(number, epoch, False, world.left(number))))
        yield f"the answer on the repeated {number} is lost", after, ()

    def _figures(self, world: World) -> Iterator[Event]:
        for number, row in enumerate(world.rows):
            if self.sizes.repeats and row.is_young and row.order in UNRESOLVED:
                yield f"the figures of {number} grow old", world.with_row(number, row._replace(is_young=False)), ()

    def _may_be_quiet(self, world: World, covered: frozenset[Position]) -> bool:
        """Return whether what had left before the quiet period is settled: the assumption about the broker."""
        if self.broken == "short_quiet":
            return True
        fates = {fate for intent, peer, fate in world.requests if (intent, peer) in covered}
        return not fates & {"flying", "hidden"}

    def _candidates(self, world: World, number: int) -> Iterator[Position]:
        """Yield the positions that look like this order. All intents look the same here: that is the worst case."""
        not_ours = world.rows[number].baseline | {row.position for row in world.rows}
        for intent, peer, fate in world.requests:
            if fate == "visible" and (intent, peer) not in not_ours:
                yield intent, peer

    # ── the broker ────────────────────────────────────────────────────────────

    def _broker(self, world: World) -> Iterator[Event]:
        """Every request is placed or not, whenever it likes; a position shows later than it is placed."""
        for at, (number, peer, fate) in enumerate(world.requests):
            for then in {"flying": ("hidden", "gone"), "hidden": ("visible",)}.get(fate, ()):
                requests = (*world.requests[:at], (number, peer, then), *world.requests[at + 1 :])
                yield f"request {number} of {name(peer)} is {then}", world._replace(requests=requests), ()
