"""The real store under everything that Hypothesis can think of, judged by the checker of the chaos runs at every step.

`MODEL_EXAMPLES=5000` runs more histories, `MODEL_SEED=7` others. A failing one is printed as the list of its steps.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from loguru import logger

from bus import messages
from bus.vocabulary import OrderStatus, Outcome
from store import adoption, commands
from store import writer as writer_module
from store.writer import Writer
from tests.model.machine import Armed, Broken, Killed, StoreMachine

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "80"))
SEED = int(os.environ.get("MODEL_SEED", "3"))
EXAMPLES_OF_A_MUTANT = 1_000
EVENTS = {"claim", "take", "reserve", "lose_answer", "hand_over", "open", "fail", "close", "lose_lease"}


@pytest.fixture(autouse=True)
def killable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(writer_module, "reach", Armed.reach)
    logger.disable("store")
    yield
    logger.enable("store")


def histories(examples: int, *phases: Phase) -> settings:
    return settings(
        max_examples=examples, stateful_step_count=30, deadline=None, database=None,
        phases=phases, suppress_health_check=list(HealthCheck), report_multiple_bugs=False, print_blob=True,
    )  # fmt: skip


def seeded() -> type[StoreMachine]:
    """Return the machine with this run's seed."""

    @seed(SEED)
    class Seeded(StoreMachine):
        pass

    sys.stdout.write(f"MODEL_SEED={SEED}\n")
    return Seeded


# ── mutants: the real code with one safeguard less ──────────────────────────


def no_fence(patch: pytest.MonkeyPatch) -> None:
    """Anybody's command counts, whoever holds the lease."""
    patch.setattr(commands, "held", lambda writer, sender, intent_id, epoch: commands._known(writer, intent_id))


def no_dedup(patch: pytest.MonkeyPatch) -> None:
    """A resend is applied like a new command."""

    def forget(writer: Writer, envelope: messages.Envelope) -> None:
        writer.db.execute("DELETE FROM commands WHERE id = ?", (envelope.id,))

    patch.setattr(Writer, "_recorded", forget)


def no_reservation(patch: pytest.MonkeyPatch) -> None:
    """The licence is given without the order's row."""

    def nod(writer: Writer, sender: messages.Peer, body: messages.ReserveOrder) -> commands.Answer:
        return Outcome.APPLIED, "", commands.held(writer, sender, body.intent_id, body.epoch).id

    patch.setitem(commands.HANDLERS, messages.ReserveOrder, nod)


def ack_before_commit(patch: pytest.MonkeyPatch) -> None:
    """The answers leave before they are on disk."""
    whole_step = Writer.step

    def hasty(writer: Writer, *batch: Any, **rest: Any) -> list[writer_module.Send]:
        try:
            return whole_step(writer, *batch, **rest)
        except Killed:
            return writer.sends

    patch.setattr(Writer, "step", hasty)


def forgets_the_order(patch: pytest.MonkeyPatch) -> None:
    """A new executor is given a dead one's order as if nothing had been reserved, and it may reserve again."""
    whole_read = Writer._send_work

    def blind(writer: Writer, peer: messages.Peer, intent: Any, order: Any) -> None:
        before = len(writer.sends)
        whole_read(writer, peer, intent, order)
        for at in range(before, len(writer.sends)):
            to, message = writer.sends[at]
            if isinstance(message, messages.Execute):
                writer.sends[at] = (to, messages.Execute(intent=message.intent, epoch=message.epoch))

    patch.setattr(Writer, "_send_work", blind)
    patch.setitem(commands.HANDLERS, messages.ReserveOrder, _reserve_again)


def _reserve_again(writer: Writer, sender: messages.Peer, body: messages.ReserveOrder) -> commands.Answer:
    intent = commands.held(writer, sender, body.intent_id, body.epoch)
    order = writer.read.order(intent.id)
    if order is not None and order.status in (OrderStatus.RESERVED, OrderStatus.UNKNOWN):
        return Outcome.APPLIED, "", intent.id
    return commands.reserve_order(writer, sender, body)


def adopts_what_an_order_may_be(patch: pytest.MonkeyPatch) -> None:
    """A position is adopted although an order is unresolved that may have made it."""

    def hasty(writer: Writer, sender: messages.Peer, body: messages.Adopt) -> commands.Answer:
        with pytest.MonkeyPatch.context() as blind:
            blind.setattr(writer.read, "unresolved_orders", list)
            return adoption.adopt(writer, sender, body)

    patch.setitem(commands.HANDLERS, messages.Adopt, hasty)


MUTANTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "no fence": (no_fence, "without the lease of"),
    "no dedup": (no_dedup, "answered twice, differently|acked|applied once"),
    "no reservation": (no_reservation, "ReserveOrder of intent .* was acked|is sent, but its order is None"),
    "ack before commit": (
        ack_before_commit,
        "is sent, but its order is|was acked .* and is gone|answered twice|given to two",
    ),
    "adopts what an order may be": (adopts_what_an_order_may_be, "owns a position, but was never sent"),
    "forgets the order": (forgets_the_order, "ReserveOrder of intent .* was acked 2 times|is sent a second time"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_without_a_safeguard_the_checker_finds_what_is_broken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate, finding = MUTANTS[name]
    mutate(monkeypatch)
    with pytest.raises(Broken, match=finding):
        run_state_machine_as_test(seeded(), settings=histories(EXAMPLES_OF_A_MUTANT, Phase.generate))


@pytest.mark.timeout(3_600 if EXAMPLES > 1_000 else 120)
def test_no_history_breaks_a_promise() -> None:
    seen: Counter[str] = Counter()

    @seed(SEED)
    class Counted(StoreMachine):
        def teardown(self) -> None:
            super().teardown()
            seen.update({move.event for move in self.read.journal()})

    run_state_machine_as_test(Counted, settings=histories(EXAMPLES, Phase.generate, Phase.shrink))
    sys.stdout.write(f"MODEL_SEED={SEED}, {EXAMPLES} histories; events by how many had them: {dict(seen)}\n")
    assert set(seen) >= EVENTS, f"the histories are too tame: {dict(seen)}"
