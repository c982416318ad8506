"""Alerts to one message: as many of the oldest as fit, many of one event as one paragraph, old news summed up. Pure.

Library of the alerts process. A message covers alerts without a gap, so that what was taken is one number; inside it
the events stand in the order in which they began.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from actors.outbox import wording
from actors.outbox.wording import Words
from bus import clock
from store.outbox import Alert

CHARS_MAX = 4_096  # of a message at Telegram, in UTF-16 units
NEVER_OLD = frozenset({"daily_summary"})


class Letter(Struct, frozen=True, kw_only=True):
    """One message. `html` is None when only plain text fits."""

    first_seq: int
    through_seq: int
    html: str | None
    plain: str


def compose(
    alerts: Sequence[Alert], *, now: datetime, old_s: float, currency: str, mask: Callable[[str], str],
    is_again: bool = False,
) -> Letter:  # fmt: skip
    """Return the message of as many of these alerts as fit, the oldest first. There must be one."""
    alerts = [_masked(one, mask) for one in alerts]  # before anything is cut: half a secret would pass
    count = len(alerts)
    while True:
        some = alerts[:count]
        words = paragraphs(some, now=now, old_s=old_s, currency=currency)
        head = f"{wording.AGAIN}\n\n" * is_again
        marked = head + "\n\n".join(as_html(one) for one in words)
        plain = head + "\n\n".join(as_plain(one) for one in words)
        is_fitting = units(marked) <= CHARS_MAX
        if is_fitting or count == 1:
            return Letter(
                first_seq=some[0].seq, through_seq=some[-1].seq, html=marked if is_fitting else None,
                plain=cut(plain),
            )  # fmt: skip
        count = count * 3 // 4


def paragraphs(alerts: Sequence[Alert], *, now: datetime, old_s: float, currency: str) -> list[Words]:
    """Return one paragraph for what is old, then one for each event."""
    old = [one for one in alerts if is_old(one, now, old_s)]
    if len(old) < 2:
        old = []
    groups: dict[tuple[str, str], list[Alert]] = {}
    told = {one.seq for one in old}
    for one in alerts:
        if one.seq not in told:
            groups.setdefault((one.event, one.level), []).append(one)
    found = [wording.of_old(old, currency)] if old else []
    for group in groups.values():
        found.append(wording.of(group[0], currency) if len(group) == 1 else wording.of_many(group, currency))
    return found


def is_old(alert: Alert, now: datetime, old_s: float) -> bool:
    """Return whether an alert is news no more: only the number of such is told."""
    age_s = (now - clock.parse(alert.at)).total_seconds()
    return alert.level == "info" and alert.event not in NEVER_OLD and age_s > old_s


def as_html(words: Words) -> str:
    """Return a paragraph with Telegram's marks; what stands in it is escaped."""
    return "\n".join((f"<b>{escaped(words.heading)}</b>", *(escaped(line) for line in words.lines)))


def as_plain(words: Words) -> str:
    return "\n".join((words.heading, *words.lines))


def escaped(given: str) -> str:
    """Return text in which `&`, `<` and `>` mean nothing."""
    return html.escape(given, quote=False)


def units(given: str) -> int:
    """Return the length as Telegram counts it: UTF-16 units."""
    return len(given.encode("utf-16-le", "surrogatepass")) // 2


def cut(given: str) -> str:
    """Return text that fits into a message."""
    while units(given) > CHARS_MAX:
        given = given[: CHARS_MAX - 1 if len(given) >= CHARS_MAX else len(given) - 50] + "…"
    return given


def _masked(alert: Alert, mask: Callable[[str], str]) -> Alert:
    data = {name: mask(value) if isinstance(value, str) else value for name, value in alert.data.items()}
    return msgspec.structs.replace(alert, text=mask(alert.text), data=data)
