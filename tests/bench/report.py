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
        made["growth"] = f"{table}\n\n![What a past costs, and lives a second](pictures/growth.svg)"
    if "idle" in found:
        made["idle"] = idle.markdown(msgspec.convert(found["idle"], Idle))
    return made


def picture(found: Growth, path: Path) -> None:
    """Draw what an intent costs over what is finished, and how lives a second go with analysts and batches."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, (cost, lives) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    past = [one.finished for one in found.sizes]
    cost.plot(past, [one.cpu_ms_each for one in found.sizes], marker="o", label="CPU ms of an intent's life")
    cost.plot(past, [one.p50_ms for one in found.sizes], marker="s", label="one life alone, p50 ms")
    cost.set(xlabel="finished intents", ylim=(0, None), title="What a past costs")
    cost.set_xscale("symlog", linthresh=1_000)
    cost.legend()
    for title, values in (("analysts", found.analysts), ("batch of the store", found.batches)):
        lives.plot([int(name) for name in values], list(values.values()), marker="o", label=f"by {title}")
    lives.set(xlabel="analysts, or batch", ylim=(0, None), title="Whole lives a second")
    lives.set_xscale("log", base=2)
    lives.legend()
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
