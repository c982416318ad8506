"""The messages about what people are told. Parts of `bus.messages`, which every process imports."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from bus.frame import Id, Message, Text

Severity = Literal["info", "warning", "error"]
Data = dict[str, str | int | float | bool | None]  # figures of an event by name, unit last: `net_profit_cents`
Seq = Annotated[int, Meta(ge=1, le=2**62)]


class Report(Message, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """An event for the alert outbox. `text` is for logs and `pilot`; `data` are figures that messages are made of."""

    level: Severity
    event: Id
    text: Text
    intent_id: str | None = None
    data: Data = field(default_factory=dict)


class AlertsDelivered(Message, frozen=True, kw_only=True, tag=True):
    """A channel took the alerts up to this one. Those of another level than `levels` were passed over, not told."""

    through_seq: Seq
    channel: Id
    levels: Annotated[tuple[Severity, ...], Meta(min_length=1, max_length=3)]
