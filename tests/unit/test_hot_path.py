"""What was made fast is the same as before: times, hashes, numbers, who gets work, and the order in the way."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from loguru import logger

from bus import clock, codec, messages
from bus.errors import NotUnderstood
from bus.vocabulary import Outcome, Role
from config import load
from store import journal, rules, writer
from store.certificate import Gate
from store.decisions import Refused
from store.owner import Owner
from store.recovery import Registry
from tests.kit.builders import a_beat, a_peer, a_propose, an_envelope
from tests.kit.golden import INTENT
from tests.kit.store import StoreHarness, a_verdict


def test_both_passes_of_an_hour_that_is_repeated_are_written_apart() -> None:
    zone = ZoneInfo("Europe/Athens")
    first, second = (datetime(2026, 10, 25, 3, 30, tzinfo=zone, fold=fold) for fold in (0, 1))
    assert first == second, "which is why a cache must not be asked for either"
    assert clock.iso(first) == "2026-10-25T00:30:00.000Z"
    assert clock.iso(second) == "2026-10-25T01:30:00.000Z"
    assert clock.iso(datetime(2026, 10, 25, 1, 30, tzinfo=UTC)) == "2026-10-25T01:30:00.000Z"


def test_a_row_is_hashed_as_rows_always_were() -> None:
    text = "".join(chr(code) for code in range(0x3000) if not 0xD800 <= code < 0xE000) + "\U0001f600"
    row = (7, text, None, '{"a": "\\u00e9"}', -3, "0" * 64)
    before = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()
    assert journal.chain_hash(row) == hashlib.sha256(before).hexdigest()


@pytest.mark.parametrize(
    "change",
    [{"score": float("nan")}, {"features": {"ret_5": float("inf")}}, {"net_usd": 2**63}, {"close": float("-inf")}],
)
def test_a_number_that_cannot_be_kept_is_found_wherever_it_stands(change: dict[str, object]) -> None:
    frame = codec.encode(an_envelope(a_peer(Role.SCANNER), a_propose(**change)))
    with pytest.raises(NotUnderstood):
        codec.decode_to_store(frame)


def test_every_field_that_is_not_text_is_looked_at_for_numbers() -> None:
    assert codec._names_of(messages.Release) == ("epoch", "retry_after_s")
    assert codec._names_of(messages.ReserveOrder) == ("epoch", "plan", "certificate")


def test_after_the_warm_up_no_message_waits_for_a_look_at_its_type() -> None:
    codec._names_of.cache_clear()
    codec.warm_up()
    known = codec._names_of.cache_info().misses
    codec.decode_to_store(codec.encode(an_envelope(a_peer(Role.SCANNER), a_propose())))
    codec.decode_from_store(codec.encode(messages.Execute(intent=INTENT, epoch=1)))
    assert codec._names_of.cache_info().misses == known


def test_work_goes_to_whoever_has_most_credit_until_all_is_used() -> None:
    registry = Registry(beat_s=1.0, dead_s=5.0, now_s=0.0)
    one, two = a_peer(Role.LLM, 1), a_peer(Role.LLM, 2)
    for peer, capacity in ((one, 1), (two, 3)):
        registry.beat(peer, a_beat(capacity=capacity), now_s=0.0, at="", store_epoch=1)
    assert list(registry.free_slots(Role.LLM, 0.0)) == [two, two, one, two]


def test_a_large_commit_is_told_in_one_line_and_kept_whole() -> None:
    store, said = StoreHarness(), list[str]()
    sink = logger.add(lambda line: said.append(str(line)), level="INFO", format="{message}")
    try:
        many = [a_propose(bar_time=f"b{number}") for number in range(writer.MOVES_TOLD_MAX + 1)]
        store.step(*(an_envelope(a_peer(Role.SCANNER), one) for one in many))
        store.writer.log_moves()
    finally:
        logger.remove(sink)
    count = len(many)
    told = f"{count} arrows, 1 to {count} of the journal: {count} propose"
    assert [line.strip() for line in said] == [told]
    assert len(list(store.read.journal())) == count


def test_a_line_about_an_arrow_carries_the_moment_of_the_arrow_however_late_it_is_told() -> None:
    store, times = StoreHarness(), list[str]()
    sink = logger.add(
        lambda line: times.append(str(line).strip()), format="{time:YYYY-MM-DD!UTC}T{time:HH:mm:ss.SSS!UTC}Z"
    )
    try:
        store.step(an_envelope(a_peer(Role.SCANNER), a_propose()))
        store.clock.advance(60)
        store.writer.log_moves()
    finally:
        logger.remove(sink)
    assert times == [move.at for move in store.read.journal()]


def test_whoever_is_given_work_hears_of_it_before_others_are_answered() -> None:
    store, scanner, llm, executor = StoreHarness(), a_peer(Role.SCANNER), a_peer(Role.LLM), a_peer(Role.EXECUTOR)
    store.beat(llm)
    store.beat(executor)
    sends = store.step(an_envelope(scanner, a_propose()))
    assert [(peer, type(message)) for peer, message in sends] == [(llm, messages.Analyse), (scanner, messages.Ack)]
    work = sends[0][1]
    assert isinstance(work, messages.Analyse)
    told = an_envelope(llm, a_verdict(work.intent))
    sends = store.step(an_envelope(scanner, a_propose(bar_time="another")), told)
    # The analyst's own messages keep their order: its verdict is answered before it is given the next intent.
    assert [(peer.role, type(message)) for peer, message in sends] == [
        (Role.LLM, messages.Ack), (Role.LLM, messages.Analyse), (Role.EXECUTOR, messages.Execute),
        (Role.SCANNER, messages.Ack),
    ]  # fmt: skip


def test_rules_that_become_no_rules_halt_as_edited_ones_do(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_bytes((load.RULES / "e8-signature-50k.toml").read_bytes())
    gate = Gate(rules.read(str(file)), owner=Owner("paper", "PAPER-1"), needs_attestation=False, source=str(file))
    gate._refuse_edited_rules()
    for text in ("no = [toml", file.read_text() + "\n# edited\n"):
        file.write_text(text)
        with pytest.raises(Refused) as refused:
            gate._refuse_edited_rules()
        assert refused.value.halt.startswith("rules: ")


def test_one_order_at_a_time_however_many_an_executor_offers() -> None:
    store, executor = StoreHarness(), a_peer(Role.EXECUTOR)
    ready = [store.ready(bar_time=f"b{number}") for number in range(3)]
    store.beat(executor, capacity=1_000)
    held = [store.intent(one.id) for one in ready if store.intent(one.id).status == "executing"]
    assert len(held) == 1
    assert store.tell(executor, store.reservation(held[0])).outcome is Outcome.APPLIED
    assert store.writer.decisions.order_in_the_way() == held[0].id
    store.beat(executor, held[0], capacity=1_000)
    assert store.read.status_counts() == {"executing": 1, "ready_for_exec": 2}
