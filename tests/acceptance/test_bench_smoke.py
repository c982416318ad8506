"""The benches still run, and ours keeps a sane ratio to bare SQL in the same run. No absolute time fails anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from loguru import logger

from bus.clock import SystemClock
from store import decisions, verify
from store.queries import Reader
from tests.bench import filled, growth, life_raw, report, standings
from tests.bench.machine import Machine

# Quiet, the writer needs about twice the processor time of its statements alone: here only what is far off fails.
CPU_RATIO_MAX = 8.0
GROWTH_RATIO_MAX = 3.0


def test_the_writer_costs_no_multiple_of_its_sql(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "ORDERS_AT_ONCE", decisions.ORDERS_AT_ONCE)  # the bench lifts it
    found = life_raw.run(128, 64, SystemClock())
    assert found.cpu_ms_each < CPU_RATIO_MAX * found.sql_cpu_ms_each, found


def test_a_long_past_is_whole_and_costs_the_next_intent_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "ORDERS_AT_ONCE", decisions.ORDERS_AT_ONCE)
    monkeypatch.setattr(growth, "BLOCKS", 1)
    monkeypatch.setattr(growth, "SINGLES", 2)
    monkeypatch.setattr(filled.tempfile, "gettempdir", lambda: str(tmp_path))
    logger.remove()
    filled.copy(300, tmp_path / "past.db")
    reader = Reader(tmp_path / "past.db")
    assert verify.verify_chain(reader) + verify.verify_orders(reader) == []
    assert reader.status_counts() == {"closed": 300}
    reader.close()
    sizes = tuple(growth.size(count) for count in (0, 300))
    ratio = growth.Growth(sizes=sizes, analysts={}, batches={}).ratio()
    assert ratio < GROWTH_RATIO_MAX, sizes


def test_the_page_is_renewed_between_its_markers_only(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("before\n<!-- bench:standings -->\nold\n<!-- /bench:standings -->\nafter\n")
    row = standings.Row(
        name="x", title="a chain", survives="all", items_per_s=standings.Spread(median=2, low=1, high=3)
    )
    found = standings.Standings(laps=1, rows=(row,), ratios={"life/taskiq": 1.5})
    machine = Machine(
        at="2026-11-02T06:00:00+00:00", cpu="c", cores=2, kernel="k", python="p", sqlite="s", file_system="ext4",
        load_1min=0.0,
    )  # fmt: skip
    import msgspec

    report.write(tmp_path, machine, {"standings": msgspec.to_builtins(found)})
    text = page.read_text()
    assert text.startswith("before\n<!-- bench:standings -->\n2026-11-02: c, 2 cores")
    assert "| a chain | 2 (1-3) |" in text
    assert "old" not in text
    assert text.endswith("<!-- /bench:standings -->\nafter\n")
    with pytest.raises(ValueError, match="no markers"):
        report.between(text, "growth", "x")
