"""Put the figures of a bench into docs/performance.md, between markers, and its pictures beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from tests.bench import growth, idle, standings
from tests.bench.growth import Growth
from tests.bench.idle import Idle
from tests.bench.machine import Machine
from tests.bench.standings import Standings


def write(docs: Path, machine: Machine, found: dict[str, Any]) -> None:
    """Renew what was measured; what was not measured this time stays as it is."""
    page = docs / "performance.md"
    text = page.read_text()
    for name, table in tables(found).items():
        text = between(text, name, f"{machine.said()}.\n\n{table}")
    page.write_text(text)
    if "growth" in found:
        picture(msgspec.convert(found["growth"], Growth), docs / "pictures" / "growth.svg")


def tables(found: dict[str, Any]) -> dict[str, str]:
    """Return the text of each part that has one."""
    made = {}
    if "standings" in found:
        made["standings"] = standings.markdown(msgspec.convert(found["standings"], Standings))
    if "growth" in found:
        table = growth.markdown(msgspec.convert(found["growth"], Growth))
        made["growth"] = (
            f"{table}\n\n![Lives a second and latency over a past, by analysts, by batch](pictures/growth.svg)"
        )
    if "idle" in found:
        made["idle"] = idle.markdown(msgspec.convert(found["idle"], Idle))
    return made


def picture(found: Growth, path: Path) -> None:
    """Draw throughput and latency over what is finished, and how lives a second go with analysts and batches."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, (lives, waits, others) = pyplot.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
    for kind in growth.FULL:
        known = [(one.finished, one.lives[kind]) for one in found.sizes]
        full = [(count, one.per_s) for count, one in known if one.per_s]
        paced = [(count, one.p50_ms) for count, one in known if one.p50_ms]
        lives.plot(*zip(*((count, one.median) for count, one in full), strict=True), marker="o", label=kind)
        waits.plot(*zip(*((count, one.median) for count, one in paced), strict=True), marker="o", label=kind)
    for title, values in (("analysts", found.analysts), ("batch of the store", found.batches)):
        others.plot([int(name) for name in values], [one.median for one in values.values()], marker="o", label=title)
    lives.set(xlabel="finished intents", ylim=(0, None), title="Whole lives a second")
    waits.set(xlabel="finished intents", ylim=(0, None), title="Signal to POST at 20/s, p50 ms")
    others.set(xlabel="analysts, or batch", ylim=(0, None), title="Whole lives a second")
    for axes in (lives, waits):
        axes.set_xscale("symlog", linthresh=1_000)
    others.set_xscale("log", base=2)
    for axes in (lives, waits, others):
        axes.legend()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def between(text: str, name: str, new: str) -> str:
    """Return `text` with what stands between the markers of `name` replaced.

    Raises:
        ValueError: the page has no such markers.
    """
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"docs/performance.md has no markers {begin} ... {end}")
    return pattern.sub(lambda _: f"{begin}\n{new}\n{end}", text, count=1)
