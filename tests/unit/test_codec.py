"""Bytes in, messages out, and `NotUnderstood` for everything else. The bytes of every message are kept."""

from __future__ import annotations

import contextlib
import math
import random
import typing
from decimal import Decimal

import msgspec
import pytest

from bus import codec, messages
from bus.errors import NotUnderstood
from bus.messages import Envelope, Held, Peer
from bus.vocabulary import Role
from tests.kit import golden
from tests.kit.builders import a_beat, a_peer, a_plan, a_propose, a_reservation, an_envelope
from tests.kit.golden import FROM_STORE, INTENT, TO_STORE

COMMANDS = typing.get_args(messages.Command)


def tampered(envelope: Envelope, **changes: object) -> bytes:
    """Return the frame of an envelope with fields of its body replaced by anything."""
    raw = msgspec.msgpack.decode(codec.encode(envelope))
    raw["body"] |= changes
    return msgspec.msgpack.encode(raw)


# ── bytes that are no message ───────────────────────────────────────────────


@pytest.mark.parametrize(
    "frame",
    [
        b"", b"\xc1", b"hello", b"\xff" * 100, b"\x80", b"\x90", b"\xc0", b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x81\xa4body\xdd\xff\xff\xff\xff", b"\x91" * 100_000,
        b"\x81\xa4body" * 50_000, codec.encode(TO_STORE["Sweep"]) + b"\x00", codec.encode(TO_STORE["Sweep"])[:-1],
    ],
    ids=lambda frame: f"{len(frame)}-{frame[:6].hex()}",
)  # fmt: skip
def test_bytes_that_are_no_message_are_not_understood_in_either_direction(frame: bytes) -> None:
    for decode in (codec.decode_to_store, codec.decode_from_store):
        with pytest.raises(NotUnderstood):
            decode(frame)


def test_no_bytes_whatever_raise_anything_else_than_not_understood() -> None:
    seed = 20_261_102
    random_ = random.Random(seed)
    frames = [codec.encode(message) for message in (*TO_STORE.values(), *FROM_STORE.values())]
    for _ in range(4_000):
        frame = bytearray(random_.choice(frames))
        for _ in range(random_.randint(1, 4)):
            frame[random_.randrange(len(frame))] = random_.randrange(256)
        print(f"seed {seed}: {frame.hex()}")  # noqa: T201 - shown only when the test fails
        for decode in (codec.decode_to_store, codec.decode_from_store):
            with contextlib.suppress(NotUnderstood):
                decode(bytes(frame))


@pytest.mark.parametrize("deep", [50, 100_000])
def test_nesting_is_not_understood_however_deep(deep: int) -> None:
    nested = b"\x91" * deep + b"\xc0"
    frame = codec.encode(TO_STORE["ReserveOrder"]).replace(b"\x91\xa2p0", nested)
    with pytest.raises(NotUnderstood):
        codec.decode_to_store(frame)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_not_understood_wherever_it_stands(number: float) -> None:
    sender = a_peer(Role.SCANNER)
    for body in (a_propose(score=number), a_propose(features={"ret_5": number})):
        with pytest.raises(NotUnderstood, match="not finite"):
            codec.decode_to_store(codec.encode(an_envelope(sender, body)))
    with pytest.raises(NotUnderstood, match="not finite"):
        codec.decode_to_store(tampered(TO_STORE["Decide"], sl_pips=number))
    with pytest.raises(NotUnderstood, match="not finite"):
        codec.decode_from_store(codec.encode(messages.Analyse(intent=INTENT, epoch=1, lease_s=number)))


@pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_a_decimal_that_is_no_number_is_not_understood(text: str) -> None:
    body = a_reservation(INTENT, plan=a_plan(volume=Decimal(text)))
    with pytest.raises(NotUnderstood, match="not finite"):
        codec.decode_to_store(codec.encode(an_envelope(a_peer(Role.EXECUTOR), body)))


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, -(2**63)])
def test_a_number_that_the_database_cannot_hold_is_not_understood(number: int) -> None:
    with pytest.raises(NotUnderstood, match="too large"):
        codec.decode_to_store(tampered(TO_STORE["Beat"], progress=number))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("CountRequests", {"reads": -1}),
        ("CountRequests", {"reads": 1.5}),
        ("CountRequests", {"day": "2026-11-02\n"}),
        ("CountRequests", {"day": "yesterday"}),
        ("Decide", {"side": "LONG"}),
        ("Decide", {"epoch": "2"}),
        ("Decide", {"intent_id": ""}),
        ("Decide", {"intent_id": "x" * 65}),
        ("Decide", {"risk_report": "x" * 400_001}),
        ("Cancel", {"reason": "x" * 20_001}),
        ("Release", {"retry_after_s": -1.0}),
        ("Beat", {"capacity": -1}),
        ("Beat", {"capacity": 1_001}),
        ("Beat", {"state": "asleep"}),
        ("ReserveOrder", {"plan": None}),
        ("RaiseHalt", {"level": "medium"}),
        ("ChildExited", {"peer": ["llm", 0, "0000000000aa"]}),
        ("ChildExited", {"peer": ["llm", 1, "../../../etc"]}),
        ("ChildExited", {"peer": ["llm", 1, "0000000000aa\n"]}),
        ("ChildExited", {"peer": ["broker", 1, "0000000000aa"]}),
        ("Sweep", {"kind": "Nonsense"}),
    ],
)
def test_a_field_out_of_its_range_is_not_understood(name: str, changes: dict[str, object]) -> None:
    raw = msgspec.msgpack.decode(codec.encode(TO_STORE[name]))
    raw["body"] |= changes
    if "peer" in changes:
        raw["body"]["peer"] = dict(zip(("role", "slot", "incarnation"), changes["peer"], strict=True))  # type: ignore[call-overload]
    with pytest.raises(NotUnderstood):
        codec.decode_to_store(msgspec.msgpack.encode(raw))


# ── who may send what ───────────────────────────────────────────────────────


@pytest.mark.parametrize("role", Role)
def test_every_role_may_send_exactly_what_its_list_says(role: Role) -> None:
    for name, envelope in TO_STORE.items():
        frame = codec.encode(msgspec.structs.replace(envelope, sender=Peer(role, 1, "0000000000aa")))
        if type(envelope.body) in messages.MAY_SEND[role]:
            assert codec.decode_to_store(frame).body == envelope.body
        else:
            with pytest.raises(NotUnderstood, match=f"{role}.1 sent {name}; allowed"):
                codec.decode_to_store(frame)


def test_only_the_executor_moves_orders_and_only_the_supervisor_tells_deaths() -> None:
    senders = {kind: {role for role, kinds in messages.MAY_SEND.items() if kind in kinds} for kind in COMMANDS}
    for kind in (messages.ReserveOrder, messages.OrderOpened, messages.OrderFailed, messages.OrderUnknown):
        assert senders[kind] == {Role.EXECUTOR}
    assert senders[messages.ChildExited] == {Role.SUPERVISOR}
    assert all(senders.values()), "a command that nobody may send"


def test_a_command_without_an_id_and_a_beat_with_one_are_not_understood() -> None:
    for name, command_id in (("Sweep", ""), ("Beat", golden.ID)):
        frame = codec.encode(msgspec.structs.replace(TO_STORE[name], id=command_id))
        with pytest.raises(NotUnderstood, match="a command needs an id"):
            codec.decode_to_store(frame)


def test_an_id_too_long_to_keep_is_not_understood() -> None:
    with pytest.raises(NotUnderstood):
        codec.decode_to_store(codec.encode(msgspec.structs.replace(TO_STORE["Sweep"], id="x" * 37)))


# ── bytes that are kept ─────────────────────────────────────────────────────


def test_every_message_has_its_golden_bytes() -> None:
    assert set(TO_STORE) == {kind.__name__ for kind in (messages.Beat, *COMMANDS)}
    assert set(FROM_STORE) == {kind.__name__ for kind in typing.get_args(messages.FromStore)}
    assert {path.stem for path in golden.FOLDER.glob("*.txt")} == set(TO_STORE) | set(FROM_STORE)


@pytest.mark.parametrize("name", TO_STORE)
def test_a_message_to_the_store_has_the_bytes_that_were_kept(name: str) -> None:
    assert codec.encode(TO_STORE[name]) == golden.golden(name)
    assert codec.decode_to_store(golden.golden(name)) == TO_STORE[name]


@pytest.mark.parametrize("name", FROM_STORE)
def test_a_message_from_the_store_has_the_bytes_that_were_kept(name: str) -> None:
    assert codec.encode(FROM_STORE[name]) == golden.golden(name)
    assert codec.decode_from_store(golden.golden(name)) == FROM_STORE[name]


def test_a_field_of_a_newer_version_is_passed_over() -> None:
    frame = tampered(TO_STORE["Decide"], sentiment=0.3, nested={"a": [1, {"b": 2}]})
    assert codec.decode_to_store(frame) == TO_STORE["Decide"]


def test_a_field_that_an_older_version_does_not_send_has_its_default() -> None:
    raw = msgspec.msgpack.decode(codec.encode(TO_STORE["Beat"]))
    for name in ("holding", "progress", "seen_store_epoch"):
        del raw["body"][name]
    found = codec.decode_to_store(msgspec.msgpack.encode(raw)).body
    assert isinstance(found, messages.Beat)
    assert (found.holding, found.progress, found.seen_store_epoch) == ((), 0, 0)


def test_a_reservation_without_a_key_is_one_of_a_broker_that_knows_no_keys() -> None:
    raw = msgspec.msgpack.decode(codec.encode(TO_STORE["ReserveOrder"]))
    for name in ("idempotency_key", "figures_mark"):
        del raw["body"][name]
    found = codec.decode_to_store(msgspec.msgpack.encode(raw)).body
    assert isinstance(found, messages.ReserveOrder)
    assert (found.idempotency_key, found.figures_mark) == ("", "")


def test_a_proposal_and_a_grant_of_an_older_version_have_no_last_moment_and_keep_nothing_for_others() -> None:
    for kind, name, default in (("Propose", "expires_at", None), ("GrantRequests", "kept", 0)):
        raw = msgspec.msgpack.decode(codec.encode(TO_STORE[kind]))
        del raw["body"][name]
        assert getattr(codec.decode_to_store(msgspec.msgpack.encode(raw)).body, name) == default


def test_a_beat_carries_its_leases() -> None:
    envelope = an_envelope(a_peer(), a_beat(Held("i1", 3)))
    found = codec.decode_to_store(codec.encode(envelope))
    assert found == envelope
