"""Charts as SVG: a curve with levels, and a gauge. Pure; only classes and presentation attributes, no style, no script.

Library of the dashboard. A chart is a picture for the eye; who hears the page gets its description, and the numbers
stand in a table or beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from markupsafe import Markup, escape
from msgspec import Struct

from actors.compliance.money import amount

WIDTH, HEIGHT = 720, 230
LEFT, TOP, BOTTOM = 8, 16, 30
SIGN = 10.8  # how wide a sign of a label is at most: at the font size of a phone, which is the larger one
GAP_SHARE = 0.15  # of the time shown: readings further apart are not joined
LABEL_APART = 19  # the larger font size
TICKS = 4
CLOSE_PART = 1_000  # of the account: what a picture shows above and below the curve at least


class Level(Struct, frozen=True, kw_only=True):
    """A horizontal line: a floor, a target, a start. `kind` is its class."""

    cents: int
    name: str
    kind: str


class Dot(Struct, frozen=True, kw_only=True):
    """The last value of one part of the time, and the lowest and highest in it."""

    at: datetime
    cents: int
    low_cents: int
    high_cents: int


def curve(
    name: str,
    dots: Sequence[Dot],
    levels: Sequence[Level],
    *,
    since: datetime,
    until: datetime,
    description: str,
    is_close: bool = False,
) -> Markup:
    """Return a curve over [since, until] with its levels. From close by, those far away stand at the edge.

    A stroke at each dot reaches from its lowest value to its highest.
    """
    if not dots:
        return Markup('<p class="empty">No reading of the account yet.</p>')
    low, high = _range(dots, levels, is_close=is_close)
    names = {level: _label(level, low, high) for level in levels}
    end = WIDTH - 12 - SIGN * max((len(name) for name in names.values()), default=0)

    def x_of(at: datetime) -> float:
        return LEFT + (end - LEFT) * ((at - since) / (until - since))

    def y_of(cents: int) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (cents - low) / (high - low))

    parts = [_opening(name, description, end)]
    parts += _ticks(since, until, x_of)
    labels = _labels([(min(max(y_of(level.cents), TOP), HEIGHT - BOTTOM), level) for level in levels])
    for y, label_y, level in labels:
        parts.append(
            f'<line class="level {level.kind}" x1="{LEFT}" x2="{end:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="label {level.kind}" x="{end + 6:.1f}" y="{label_y + 4:.1f}">{escape(names[level])}</text>'
        )
    spans = (f"M{x_of(dot.at):.1f} {y_of(dot.low_cents):.1f}V{y_of(dot.high_cents):.1f}" for dot in dots)
    parts.append(f'<path class="span" d="{"".join(spans)}"/>')
    for run in _runs(dots, (until - since) * GAP_SHARE):
        path = " ".join(f"{x_of(dot.at):.1f},{y_of(dot.cents):.1f}" for dot in run)
        parts.append(f'<polyline class="curve" points="{path}"/>')
    last = dots[-1]
    parts.append(f'<circle class="now" cx="{x_of(last.at):.1f}" cy="{y_of(last.cents):.1f}" r="3.5"/></svg>')
    # Numbers of ours, and names that were escaped.
    return Markup("".join(parts))  # nosec B704


def gauge(name: str, used: float, marks: Sequence[tuple[float, str]], *, description: str, tone: str) -> Markup:
    """Return a bar that is full at 1, with marks at parts of it. More than full is shown as full."""
    width, height = 300, 14
    filled = max(0.0, min(1.0, used)) * width
    lines = "".join(
        f'<line class="mark {kind}" x1="{part * width:.1f}" x2="{part * width:.1f}" y1="0" y2="{height}"/>'
        for part, kind in marks
    )
    # Numbers of ours, and names that were escaped.
    return Markup(  # nosec B704
        f'<svg class="gauge" viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(name)}: {escape(description)}">'
        f'<rect class="track" x="0" y="0" width="{width}" height="{height}"/>'
        f'<rect class="fill {escape(tone)}" x="0" y="0" width="{filled:.1f}" height="{height}"/>{lines}</svg>'
    )


def _range(dots: Sequence[Dot], levels: Sequence[Level], *, is_close: bool) -> tuple[int, int]:
    """Return the lowest and the highest value in the picture."""
    values = [cents for dot in dots for cents in (dot.low_cents, dot.high_cents)]
    values += [level.cents for level in levels if not is_close or level.kind == "start"]
    low, high = min(values), max(values)
    pad = max((high - low) // 8, high // CLOSE_PART)
    return low - pad, high + pad


def _opening(name: str, description: str, end: float) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}: '
        f'{escape(description)}"><rect class="frame" x="{LEFT}" y="{TOP}" width="{end - LEFT:.1f}" '
        f'height="{HEIGHT - TOP - BOTTOM}"/>'
    )


def _ticks(since: datetime, until: datetime, x_of: object) -> list[str]:
    assert callable(x_of)
    is_long = until - since > timedelta(days=2)
    found = []
    for number in range(TICKS + 1):
        at = since + (until - since) * (number / TICKS)
        anchor = "start" if number == 0 else "end" if number == TICKS else "middle"
        text = at.strftime("%d %b" if is_long else "%H:%M")
        found.append(f'<text class="tick" x="{x_of(at):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{text}</text>')
    return found


def _labels(levels: list[tuple[float, Level]]) -> list[tuple[float, float, Level]]:
    """Return each level with where its label stands: moved as far as its neighbours and the frame's bottom ask for."""
    found: list[tuple[float, float, Level]] = []
    last = float("-inf")
    ordered = sorted(levels, key=lambda one: one[0])
    for number, (y, level) in enumerate(ordered):
        lowest = HEIGHT - BOTTOM - LABEL_APART * (len(ordered) - 1 - number)  # leaves room for those below
        last = max(min(y, lowest), last + LABEL_APART)
        found.append((y, last, level))
    return found


def _label(level: Level, low: int, high: int) -> str:
    """Return a level's name and value, with an arrow when it is outside of the picture."""
    away = "↑ " if level.cents > high else "↓ " if level.cents < low else ""
    return f"{away}{level.name} {_short(level.cents)}"


def _runs(dots: Sequence[Dot], gap: timedelta) -> list[list[Dot]]:
    """Return the dots in pieces that are not joined: nobody looked at the account in between."""
    found: list[list[Dot]] = []
    for dot in dots:
        if found and dot.at - found[-1][-1].at <= gap:
            found[-1].append(dot)
        else:
            found.append([dot])
    return found


def _short(cents: int) -> str:
    return amount(cents).partition(".")[0]
