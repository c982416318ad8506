"""What all messages are made of: their base and the kinds of text in them. Imported by every process; no logic."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Text = Annotated[str, Meta(max_length=20_000)]
LongText = Annotated[str, Meta(max_length=400_000)]
Id = Annotated[str, Meta(min_length=1, max_length=64)]
Moment = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")]  # as clock.iso writes it
Day = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")]


class Message(Struct, frozen=True, kw_only=True, tag_field="kind"):
    """Base of all messages; the class name is the tag."""
