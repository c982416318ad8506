"""Two versions on one bus: what a newer one adds is passed over, what an older one leaves out has its default."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bus import codec
from tests.kit import golden

ALL = sorted(golden.TO_STORE | golden.FROM_STORE)


def decode(name: str, frame: bytes) -> Any:
    return codec.decode_to_store(frame) if name in golden.TO_STORE else codec.decode_from_store(frame)


def with_more(value: Any) -> Any:
    """Return plain values with a field that nobody knows in every message and record; tables of names stay."""
    if isinstance(value, dict):
        more = {name: with_more(one) for name, one in value.items()}
        return more if set(value) == {"ret_5"} else more | {"of_a_newer_version": [1, "x"]}
    return [with_more(one) for one in value] if isinstance(value, list) else value


def without_defaults(message: Any) -> dict[str, Any]:
    """Return a message as a version sends it that knows only the fields without a default."""
    fields = {one.encode_name for one in msgspec.structs.fields(type(message)) if one.required}
    plain = msgspec.to_builtins(message)
    tag = type(message).__struct_config__.tag_field
    return {name: value for name, value in plain.items() if name in fields or name == tag}


@pytest.mark.parametrize("name", ALL)
def test_fields_of_a_newer_version_are_passed_over_at_every_depth(name: str) -> None:
    kept = golden.golden(name)
    assert decode(name, msgspec.msgpack.encode(with_more(msgspec.msgpack.decode(kept)))) == decode(name, kept)


@pytest.mark.parametrize("name", ALL)
def test_message_with_only_the_fields_it_must_have_is_read(name: str) -> None:
    message = decode(name, golden.golden(name))
    if name in golden.TO_STORE:
        plain = msgspec.to_builtins(message) | {"body": without_defaults(message.body)}
        read, wanted = decode(name, msgspec.msgpack.encode(plain)).body, message.body
    else:
        read, wanted = decode(name, msgspec.msgpack.encode(without_defaults(message))), message
    for field in msgspec.structs.fields(type(wanted)):
        if field.required:
            assert getattr(read, field.name) == getattr(wanted, field.name)
