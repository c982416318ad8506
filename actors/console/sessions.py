"""The check of `pilot doctor` for sessions: which of our markets are open now, and whether their hours say the same.

Pure; used by pilot only. In which zone the broker means its hours is not documented: each zone that the firm's day may
begin in is tried, and UTC. Orders go by what the broker says of this moment, `sessionOpen`, never by the hours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from zoneinfo import ZoneInfo

from actors.broker.wire import Hours, Instrument
from actors.console import findings
from actors.console.findings import Finding


def check(
    wanted: Collection[str], listed: dict[str, Instrument], now: datetime, zones: Iterable[str], holidays: Iterable[str]
) -> list[Finding]:
    """Return what is open, in which zones the hours agree with that, and every symbol whose hours never do."""
    ours = [listed[symbol] for symbol in wanted if symbol in listed]
    if not ours:
        return []
    names = list(dict.fromkeys(("UTC", *zones)))
    found = [_open(ours)]
    told = [one for one in ours if one.hours is not None]
    for one in told:
        if not any(_agrees(one, now, name) for name in names):
            says, do = ("open", "closed") if one.session_open else ("closed", "open")
            said = f"{one.symbol} is {says}, and its hours say {do} in {', '.join(names)}"
            found.append(findings.warn("sessions", said, "a holiday, or hours of another zone? Ask the broker"))
    if agreeing := [name for name in names if told and all(_agrees(one, now, name) for one in told)]:
        found.append(findings.ok("sessions", f"the hours fit {', '.join(agreeing)}; {_week(told[0])}"))
    if unsaid := [one.symbol for one in ours if one.hours is None]:
        found.append(findings.warn("sessions", f"no hours of {', '.join(unsaid)}", "see them on the broker's page"))
    if coming := sorted(day for day in holidays if day >= now.date().isoformat()):
        found.append(findings.ok("sessions", f"no new orders on {', '.join(coming)} (compliance.holidays)"))
    return found


def _open(ours: list[Instrument]) -> Finding:
    if shut := [one.symbol for one in ours if not one.session_open]:
        return findings.warn("sessions", f"closed now: {', '.join(shut)}", "nothing on a weekend; else ask the broker")
    return findings.ok("sessions", "all are open")


def _agrees(one: Instrument, now: datetime, zone: str) -> bool:
    """Return whether the hours, meant in a zone, say of this moment what the broker says of it."""
    return _is_within(one.hours or (), now, zone) == one.session_open


def _is_within(hours: tuple[Hours, ...], now: datetime, zone: str) -> bool:
    """Return whether a moment lies in a session, by the clock of a zone. The closing second belongs to it."""
    local = now.astimezone(ZoneInfo(zone))
    second = 3_600 * local.hour + 60 * local.minute + local.second
    return any(one.weekday == local.isoweekday() % 7 and one.opens_s <= second <= one.closes_s for one in hours)


def _week(one: Instrument) -> str:
    """Return the week's hours of one symbol, days that are alike together."""
    days = ("Su", "Mo", "Tu", "We", "Th", "Fr", "Sa")
    spans: dict[str, list[str]] = {}
    for part in one.hours or ():
        spans.setdefault(f"{_time(part.opens_s)}-{_time(part.closes_s)}", []).append(days[part.weekday])
    return f"{one.symbol}: " + "; ".join(f"{' '.join(on)} {span}" for span, on in spans.items())


def _time(second: int) -> str:
    return f"{second // 3_600:02}:{second % 3_600 // 60:02}"
