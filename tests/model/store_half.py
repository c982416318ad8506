"""The store as a model: beats, leases, assignments and commands. Part of `protocol`."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.world import (
    CANCELLED,
    CLAIMED,
    EXECUTING,
    EXECUTOR,
    FAILED,
    HELD,
    OPENED,
    PENDING,
    READY,
    REJECTED,
    UNRESOLVED,
    Bounded,
    Event,
    Life,
    Message,
    Peer,
    Row,
    World,
    illegal,
    name,
    work_for,
)


class StoreHalf(Bounded):
    """What the store does."""

    def _store(self, world: World) -> Iterator[Event]:
        for life in world.lives:
            yield from self._beat(world, life)
        for peer in world.known:
            yield from self._assign(world, peer)
        for number, row in enumerate(world.rows):
            if row.status == CLAIMED:
                yield self._lose(world, number, "no beat")
            if world.cancels and row.status in (PENDING, CLAIMED, READY) and not world.has_twin_before(number):
                after = world.with_row(number, row._replace(status=CANCELLED, holder=None))
                yield f"cancel {number}", after._replace(cancels=world.cancels - 1), illegal("cancel", row, CANCELLED)
            if self.broken == "executor_loses_by_time" and row.status == EXECUTING and not row.order:
                yield self._returned(world, number, "no beat")

    def _beat(self, world: World, life: Life) -> Iterator[Event]:
        peer = life.peer
        before = next((one for one in world.known if one[0] == peer[0]), None)
        if before is not None and before[1] > peer[1]:
            return  # a predecessor's beat
        if peer == ("llm.2", 1) and self._is_untouched(world):
            return  # the other analyst is just the same: begin with that
        if before != peer:
            known = tuple(sorted((*(one for one in world.known if one != before), peer)))
            after: World = world._replace(known=known)
            broken: tuple[str, ...] = ()
            for number, row in enumerate(world.rows):
                if before is not None and row.holder == before and row.status == CLAIMED:
                    _, after, broken = self._lose(after, number, "its holder was replaced")
            yield f"{name(peer)} beats first", self._hand_over(after, peer), broken
            return
        for number, row in enumerate(world.rows):
            again = work_for(number, row)
            if self.broken == "no_resend":
                continue
            if row.holder == peer and life.work is None and again not in world.wire:
                yield f"{again} again", world._replace(wire=world.wire | {again}), ()

    def _is_untouched(self, world: World) -> bool:
        """Return whether nothing has happened to either analyst yet."""
        fresh = all(Life((slot, 1), None, frozenset()) in world.lives for slot in ("llm.1", "llm.2"))
        return fresh and not world.known and not world.wire and all(row.holder is None for row in world.rows)

    def _hand_over(self, world: World, peer: Peer) -> World:
        """Give the orders of a dead executor to its successor; what was not reserved goes back."""
        if peer[0] != EXECUTOR:
            return world
        for number, row in enumerate(world.rows):
            if row.status != EXECUTING or row.holder == peer:
                continue
            if row.order:
                row = row._replace(epoch=row.epoch + 1, holder=peer)
                message = work_for(number, row._replace(order="") if self.broken == "forgets_the_order" else row)
                world = world.with_row(number, row)._replace(wire=world.wire | {message})
            else:
                world = self._returned(world, number, "replaced")[1]
        return world

    def _assign(self, world: World, peer: Peer) -> Iterator[Event]:
        if any(row.holder == peer for row in world.rows):
            return
        is_executor = peer[0] == EXECUTOR
        if is_executor and (world.halted or any(row.status == EXECUTING for row in world.rows)):
            return
        wanted, then, event = (READY, EXECUTING, "take") if is_executor else (PENDING, CLAIMED, "claim")
        for number, row in enumerate(world.rows):
            if row.status == wanted and row.epoch < self.epochs(wanted) and not world.has_twin_before(number):
                new = row._replace(status=then, epoch=row.epoch + 1, holder=peer)
                after = world.with_row(number, new)._replace(wire=world.wire | {work_for(number, new)})
                yield f"{event} {number} for {name(peer)}", after, illegal(event, row, then)

    def _lose(self, world: World, number: int, why: str) -> Event:
        row = world.rows[number]
        then = PENDING if row.epoch < self.sizes.epochs else CANCELLED
        event = "recycle" if then == PENDING else "give_up"
        lost = row._replace(status="timed_out")
        broken = (*illegal("lose_lease", row, "timed_out"), *illegal(event, lost, then))
        return f"{number} lost: {why}", world.with_row(number, row._replace(status=then, holder=None)), broken

    def _returned(self, world: World, number: int, why: str) -> Event:
        row = world.rows[number]
        then = READY if row.epoch < self.epochs(READY) else FAILED
        event = "return" if then == READY else "exhaust"
        after = world.with_row(number, row._replace(status=then, holder=None))
        return f"{number} goes back: {why}", after, illegal(event, row, then)

    # ── commands ────────────────────────────────────────────────────────────

    def _apply(self, world: World, message: Message) -> Event:
        kind, peer, number, epoch = message[:4]
        row = world.rows[number]
        is_held = (row.epoch, row.holder) == (epoch, peer)
        if not is_held and self.broken != "no_fence":
            return "stale", world, ()
        event, new = self._change(world, message, row)
        if new is None:
            return "refused", world, ()
        after = world.with_row(number, new)
        if kind == "unknown" and message[4]:
            after = after._replace(halted=True)
        return "applied", after, (*illegal(event, row, new.status), *(() if is_held else (HELD,)))

    def _change(self, world: World, message: Message, row: Row) -> tuple[str, Row | None]:
        """Return the event of a command and the row after it; None = refused."""
        kind = message[0]
        free = row._replace(holder=None)
        if row.status == CLAIMED:
            is_last = row.epoch >= self.sizes.epochs
            return {
                "decide": ("decide_trade", free._replace(status=READY)),
                "hold": ("decide_hold", free._replace(status=CANCELLED)),
                "analysis_failed": ("exhaust", free._replace(status=FAILED)) if is_last
                else ("retry", free._replace(status=PENDING)),
            }.get(kind, ("", None))  # fmt: skip
        if row.status != EXECUTING:
            return "", None
        if not row.order:
            if kind == "reserve" and self._may_reserve(world, row):
                return "reserve", row._replace(order="reserved", baseline=message[5])
            is_last = row.epoch >= self.epochs(READY)
            return {
                "release": ("return", None if is_last else free._replace(status=READY)),
                "reject": ("reject", free._replace(status=REJECTED)),
            }.get(kind, ("", None))  # fmt: skip
        if kind == "opened" and all(other.position != message[4] for other in world.rows):
            return "open", free._replace(status=OPENED, order="opened", position=message[4])
        return {
            "unknown": ("lose_answer", row._replace(order="unknown")),
            "failed": ("fail", free._replace(status=FAILED, order="failed")),
        }.get(kind, ("", None))  # fmt: skip

    def _may_reserve(self, world: World, row: Row) -> bool:
        return not world.halted and not any(one.order in UNRESOLVED for one in world.rows if one is not row)
