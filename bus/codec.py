"""Bytes to messages and back: msgpack by msgspec, one union per direction, every number finite and storable.

Imported by every process. Bytes that are no message raise `NotUnderstood`; nothing else gets out.
"""

from __future__ import annotations

import functools
import math
import types
import typing
from typing import Any

import msgspec

from bus import messages
from bus.errors import NotUnderstood

INTEGER_MAX = 2**63 - 1  # of SQLite; msgpack goes to 2**64 - 1

_encoder = msgspec.msgpack.Encoder()
_to_store = msgspec.msgpack.Decoder(messages.Envelope)
_from_store = msgspec.msgpack.Decoder(messages.FromStore)


def encode(message: messages.Envelope | messages.FromStore) -> bytes:
    """Return the frame of a message."""
    return _encoder.encode(message)


def decode_to_store(frame: bytes) -> messages.Envelope:
    """Return the envelope in a frame.

    Raises:
        NotUnderstood: not msgpack, not one of ours, a number that cannot be kept, or a sender that may not send it.
    """
    envelope: messages.Envelope = _decode(_to_store, frame)
    allowed = messages.MAY_SEND[envelope.sender.role]
    if not isinstance(envelope.body, allowed):
        names = ", ".join(kind.__name__ for kind in allowed)
        raise NotUnderstood(
            f"{envelope.sender.name} sent {type(envelope.body).__name__}; allowed: {names or 'nothing'}"
        )
    if isinstance(envelope.body, messages.Beat) is bool(envelope.id):
        raise NotUnderstood(f"{envelope.sender.name}: a command needs an id and a beat has none")
    return envelope


def decode_from_store(frame: bytes) -> messages.FromStore:
    """Return the store's message in a frame. Raises NotUnderstood."""
    found: messages.FromStore = _decode(_from_store, frame)
    return found


def warm_up() -> None:
    """Find out where numbers stand in every message, as a spare does before its turn; else the first of each waits."""
    for kind in (messages.Envelope, *typing.get_args(messages.Command), *typing.get_args(messages.FromStore)):
        _names_of(kind)


def _decode(decoder: msgspec.msgpack.Decoder[Any], frame: bytes) -> Any:
    try:
        found = decoder.decode(frame)
    # RecursionError: nesting deeper than any message of ours; it is no DecodeError.
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise NotUnderstood(f"{len(frame)} bytes: {error}") from error
    require_finite(found)
    return found


def require_finite(value: Any) -> None:
    """Raise NotUnderstood when a number anywhere in a message is NaN, infinite or too large: msgpack carries them."""
    if value is None or isinstance(value, str):
        return
    if isinstance(value, int):
        if not -INTEGER_MAX <= value <= INTEGER_MAX:
            raise NotUnderstood(f"a number is too large: {value}")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise NotUnderstood(f"a number is not finite: {value}")
    elif isinstance(value, msgspec.Struct):
        for name in _names_of(type(value)):
            require_finite(getattr(value, name))
    elif isinstance(value, dict):
        for item in value.values():
            require_finite(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            require_finite(item)
    elif hasattr(value, "is_finite") and not value.is_finite():
        raise NotUnderstood(f"a number is not finite: {value}")


@functools.cache  # as many as there are kinds of message and record
def _names_of(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the fields that may hold a number without bounds: text, which most are, and bounded ones cannot."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return tuple(name for name in kind.__struct_fields__ if not _is_harmless(hints[name]))


def _is_harmless(hint: Any) -> bool:
    if typing.get_origin(hint) is typing.Annotated:
        base, *notes = typing.get_args(hint)
        return _is_harmless(base) or (base is int and any(_is_bounded(note) for note in notes))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return all(_is_harmless(one) for one in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return all(one is ... or _is_harmless(one) for one in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return all(isinstance(one, str) for one in typing.get_args(hint))
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return not _names_of(hint)
    return hint is type(None) or (isinstance(hint, type) and issubclass(hint, str))


def _is_bounded(note: Any) -> bool:
    """Return whether the decoder itself has refused what cannot be kept."""
    if not isinstance(note, msgspec.Meta) or note.ge is None or note.le is None:
        return False
    return note.ge >= -INTEGER_MAX and note.le <= INTEGER_MAX
