"""`pilot stats`, `journal` and `export` over a database that the real writer wrote: counted, told, written out."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.console import export
from bus import messages
from bus.clock import iso
from bus.messages import Decide
from bus.vocabulary import Role
from store import connection, dump
from store.queries import Reader
from tests.kit import failpoints
from tests.kit.builders import a_peer, a_result
from tests.kit.points import ROOT
from tests.kit.real_store import Ended, pilot
from tests.kit.store import StoreHarness

EXECUTOR = a_peer(Role.EXECUTOR)
LLM = a_peer(Role.LLM)
MONITOR = a_peer(Role.MONITOR)
DAY = "2026-11-02"  # the held clock begins at 06:00 UTC; the firm's day of the paper profile began at 22:00
FORMULA = '=HYPERLINK("http://evil","a | <b>b</b>")'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder: one trade won, one lost on the next day, one HOLD, one rejected, one waiting."""
    found = tmp_path_factory.mktemp("data")
    store = StoreHarness(connection.open_writer(found / "decisions.db"))
    won = store.opened(EXECUTOR, "p1")
    store.clock.advance(3_600)
    close(store, won.id, "p1", 9_350)
    hold = store.claimed(LLM, symbol="GBPUSD")
    store.tell(LLM, Decide(intent_id=hold.id, epoch=hold.epoch, side="HOLD", reason=FORMULA))
    store.beat(LLM, capacity=0)
    taken = store.executing(EXECUTOR, symbol="USDJPY")
    store.tell(
        EXECUTOR,
        messages.Reject(intent_id=taken.id, epoch=taken.epoch, reason="-spread too wide", compliance_snapshot="{}"),
    )
    lost = store.opened(EXECUTOR, "p2", symbol="EURUSD", bar_time="2026-11-02")
    store.tell(a_peer(Role.PILOT), messages.Close(intent_id=lost.id, operator="me", reason="payrolls | now"))
    store.tell(EXECUTOR, messages.GrantRequests(day=DAY, reads=20, writes=4))
    store.tell(a_peer(Role.PILOT), messages.Pause(operator="me", reason="a | b"))
    store.clock.advance(86_400)
    close(store, lost.id, "p2", -5_005)
    store.pending(symbol="AUDUSD")
    store.db.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PILOT_DATA", str(found))
        patch.setenv("PILOT_PROFILE", "paper")
        yield found


def close(store: StoreHarness, intent_id: str, position_id: str, cents: int) -> None:
    result = a_result(closed_at=iso(store.clock.now()), net_profit_cents=cents)
    ack = store.tell(MONITOR, messages.PositionClosed(intent_id=intent_id, position_id=position_id, result=result))
    assert ack.outcome == "applied", ack


@pytest.fixture
def reader(folder: Path) -> Iterator[Reader]:
    found = Reader(folder / "decisions.db")
    yield found
    found.close()


def rows_of(ended: Ended) -> dict[str, dict[str, str]]:
    """Return the lines of a CSV journal by symbol and status."""
    assert ended.returncode == 0, ended.stderr
    return {f"{row['symbol']} {row['status']}": row for row in csv.DictReader(io.StringIO(ended.stdout))}


# ── refusals ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "arguments",
    [
        ("stats", "--days", "0"),
        ("stats", "--days", "3661"),
        ("journal", "02.11.2026"),
        ("journal", "--csv", "--markdown"),
        ("export", "x"),
        ("export", "x", "--csv", "--parquet"),
        ("export", "--csv"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(folder: Path, arguments: tuple[str, ...]) -> None:
    ended = pilot(*arguments)
    assert (ended.returncode, ended.stdout) == (64, "")
    assert ended.stderr


def test_without_a_database_every_command_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOT_DATA", str(tmp_path))
    for command in (("stats",), ("journal",), ("export", str(tmp_path / "x"), "--csv")):
        ended = pilot(*command)
        assert (ended.returncode, ended.stdout) == (3, ""), command
    assert not (tmp_path / "x").exists()


def test_what_is_there_is_never_written_over(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("mine")
    ended = pilot("journal", DAY, "--out", str(kept))
    assert ended.returncode == 1
    assert "choose a new file" in ended.stderr
    (tmp_path / "empty").mkdir()
    for there in ("kept", "empty"):
        ended = pilot("export", str(tmp_path / there), "--csv")
        assert ended.returncode == 1
        assert "choose a new folder" in ended.stderr
    assert pilot("export", str(tmp_path / "no" / "way"), "--csv").returncode == 1
    assert kept.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "kept"]
    assert not list((tmp_path / "empty").iterdir())


# ── stats ───────────────────────────────────────────────────────────────────


def test_stats_count_by_symbol_with_wins_profit_r_and_holding_time(folder: Path) -> None:
    found = json.loads(pilot("stats", "--days", "3660", "--json").stdout)
    lines = {line["symbol"]: line for line in found["symbols"]}
    euro = lines["EURUSD"]
    assert (euro["intents"], euro["trades"], euro["closed"], euro["net_profit_cents"]) == (2, 2, 2, 4_345)
    assert (euro["won"]["hits"], euro["won"]["n"]) == (1, 2)
    assert euro["r"]["value"] == pytest.approx((1.87 - 1.001) / 2)
    assert euro["held_s"] == pytest.approx((3_600 + 86_400) / 2, abs=5)
    assert (lines["GBPUSD"]["trades"], lines["GBPUSD"]["won"]["value"]) == (0, None)
    assert found["period"]["by_status"] == {"cancelled": 1, "closed": 2, "pending": 1, "rejected": 1}
    assert (found["period"]["succeeded"]["hits"], found["period"]["succeeded"]["n"]) == (2, 4)
    assert found["total"]["intents"] == 5
    (used,) = found["requests"]  # by the usual reading of the reset; the others count the same requests again
    assert (used["day"], used["actor"], used["reads"], used["writes"]) == (DAY, "executor.1", 20, 4)


def test_stats_of_one_symbol_leave_the_others_out(folder: Path) -> None:
    found = json.loads(pilot("stats", "--days", "3660", "--symbol", "gbpusd", "--json").stdout)
    assert [line["symbol"] for line in found["symbols"]] == ["GBPUSD"]
    assert found["total"]["intents"] == 1


def test_stats_for_people_hold_the_same_figures(folder: Path) -> None:
    shown = " ".join(pilot("stats", "--days", "3660").stdout.split())
    assert "5 intents cancelled 1 closed 2 pending 1 rejected 1; 50 % of the settled" in shown
    assert [word for word in ("EURUSD", "43.45", "50 %", "+0.43", "12h 30m", "executor.1") if word not in shown] == []


# ── journal ─────────────────────────────────────────────────────────────────


def test_a_day_of_the_firm_holds_what_happened_between_its_resets(folder: Path) -> None:
    first, second = rows_of(pilot("journal", DAY, "--csv")), rows_of(pilot("journal", "2026-11-03", "--csv"))
    assert set(first) == {"EURUSD closed", "GBPUSD cancelled", "USDJPY rejected"}
    assert set(second) == {"EURUSD closed", "AUDUSD pending"}
    assert rows_of(pilot("journal", "2026-11-01", "--csv")) == {}
    won, lost = pilot("journal", DAY, "--csv").stdout, second["EURUSD closed"]
    assert "93.50,1.87,tp" in won
    assert (lost["net_profit"], lost["r"], lost["worst_loss"]) == ("-50.05", "-1.00", "50.00")
    assert lost["begun_at"].endswith("+02:00"), "times carry the zone of the reset"
    assert lost["closed_at"].startswith("2026-11-03T09:00")


def test_a_csv_journal_is_harmless_for_a_spreadsheet(folder: Path) -> None:
    found = rows_of(pilot("journal", DAY, "--csv"))
    assert found["USDJPY rejected"]["end_reason"] == "'-spread too wide"
    values = [value for row in found.values() for value in row.values()]
    assert not [one for one in values if one[:1] in ("=", "+", "@") or (one[:1] == "-" and not one[1:2].isdigit())]
    assert FORMULA in found["GBPUSD cancelled"]["decision_reason"]
    lost = found["EURUSD closed"]
    assert (lost["close_ordered_by"], lost["close_order_reason"]) == ("me", "payrolls | now")


def test_a_markdown_journal_tells_each_intent_and_obeys_no_reason(folder: Path) -> None:
    shown = pilot("journal", DAY).stdout
    assert shown.startswith(f"# Journal of {DAY}\n\nFrom 2026-11-02T00:00:00+02:00 to 2026-11-03T00:00:00+02:00")
    assert "- Requests to the broker: 24, of these 4 writes" in shown
    assert "Closed in this day: 1, net 93.50." in shown
    assert r"me: a \| b" in shown
    assert "<b>" not in shown
    assert r"a \| &lt;b&gt;b" in shown
    assert "executing to opened" in shown
    assert r"Operator me ordered it closed 2026-11-02T09:00:00+02:00: payrolls \| now." in shown
    quiet = pilot("journal", "2026-01-01").stdout
    assert "No intent has a record of this day." in quiet


def test_a_journal_goes_into_a_new_file_whole(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "day.md"
    assert pilot("journal", DAY, "--out", str(out)).stdout == f"written: {out}\n"
    assert out.read_text() == pilot("journal", DAY, "--markdown").stdout
    assert [path.name for path in tmp_path.iterdir()] == ["day.md"]


# ── export ──────────────────────────────────────────────────────────────────


def test_csv_and_parquet_hold_every_row_with_its_exact_type(folder: Path, tmp_path: Path, reader: Reader) -> None:
    import pyarrow
    from pyarrow import parquet

    for kind in ("csv", "parquet"):
        ended = pilot("export", str(tmp_path / kind), f"--{kind}")
        assert ended.returncode == 0, ended.stderr
        assert {path.name for path in (tmp_path / kind).iterdir()} == {f"{table}.{kind}" for table in dump.TABLES}
    for table in dump.TABLES:
        wanted = list(dump.rows(reader, table))
        found = parquet.read_table(tmp_path / "parquet" / f"{table}.parquet")
        assert [tuple(row.values()) for row in found.to_pylist()] == wanted, table
        with (tmp_path / "csv" / f"{table}.csv").open(newline="") as file:
            lines = list(csv.reader(file))
        assert lines[0] == found.column_names
        assert len(lines) - 1 == len(wanted), table
    decisions = parquet.read_schema(tmp_path / "parquet" / "decisions.parquet")
    assert decisions.field("net_profit_cents").type == pyarrow.int64()
    orders = parquet.read_table(tmp_path / "parquet" / "orders.parquet")
    assert {json.loads(plan)["sl_price"] for plan in orders.column("plan").to_pylist()} == {"1.08010"}
    assert "'-spread too wide" in (tmp_path / "csv" / "intents.csv").read_text()


def test_what_the_operator_and_the_limits_did_is_exported(folder: Path, tmp_path: Path) -> None:
    ended = pilot("export", str(tmp_path / "out"), "--csv")
    assert ended.returncode == 0, ended.stderr
    assert "  closings 1\n" in ended.stdout and "  halts 1\n" in ended.stdout
    with (tmp_path / "out" / "closings.csv").open(newline="") as file:
        assert [(row["operator"], row["reason"]) for row in csv.DictReader(file)] == [("me", "payrolls | now")]
    with (tmp_path / "out" / "halts.csv").open(newline="") as file:
        assert [row["reason"] for row in csv.DictReader(file)] == ["operator: me: a | b"]
    assert {"attestations", "account_marks", "alert_deliveries", "archive_anchors"} <= set(dump.TABLES)


def test_every_table_is_exported_or_left_out_by_name_and_the_page_says_which(reader: Reader) -> None:
    found = {str(row[0]) for row in reader._db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert found - {name for name in found if name.startswith("sqlite_")} == {*dump.TABLES, *dump.LEFT_OUT}
    assert not set(dump.TABLES) & set(dump.LEFT_OUT)
    page = (ROOT / "docs" / "journal.md").read_text()
    written, _, left_out = page[page.index("## pilot export") :].partition("Left out")
    assert [table for table in dump.TABLES if f"`{table}`" not in written] == []
    assert [table for table in dump.LEFT_OUT if f"`{table}`" not in left_out] == []


def test_a_table_is_never_held_as_a_whole() -> None:
    endless = ((number, "x" * 100) for number in itertools.count())
    assert len(next(export._batches(endless))) == export.ROWS_A_BATCH
    papers = ((number, "x" * 1_000_000) for number in itertools.count())
    assert len(next(export._batches(papers))) == 8, "long papers make short batches"


@pytest.mark.parametrize("point", ["pilot.before_export_table", "pilot.after_export_table", "pilot.before_keep_export"])
def test_a_killed_export_leaves_nothing_half_and_the_next_one_works(folder: Path, tmp_path: Path, point: str) -> None:
    points = tmp_path / "points"
    points.mkdir()
    failpoints.arm(points, point, "kill")
    wanted = tmp_path / "out"
    command = [sys.executable, "-m", "actors.pilot", "export", str(wanted), "--csv"]
    killed = subprocess.run(
        command, env={**os.environ, "PILOT_FAILPOINTS": str(points)}, capture_output=True, timeout=60, check=False
    )
    assert killed.returncode == -9, killed.stderr
    assert not wanted.exists()
    assert (tmp_path / ".out.part").is_dir(), "it died in the middle"
    (tmp_path / ".out.part" / "left.csv").write_text("half")
    assert pilot("export", str(wanted), "--csv").returncode == 0
    assert {path.name for path in wanted.iterdir()} == {f"{table}.csv" for table in dump.TABLES}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "points"]


def test_a_killed_journal_leaves_no_file(folder: Path, tmp_path: Path) -> None:
    failpoints.arm(tmp_path, "pilot.before_keep_journal", "kill")
    command = [sys.executable, "-m", "actors.pilot", "journal", DAY, "--out", str(tmp_path / "day.md")]
    killed = subprocess.run(
        command, env={**os.environ, "PILOT_FAILPOINTS": str(tmp_path)}, capture_output=True, timeout=60, check=False
    )
    assert killed.returncode == -9, killed.stderr
    assert not (tmp_path / "day.md").exists()


def test_an_export_is_one_moment_whatever_is_written_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = StoreHarness(connection.open_writer(tmp_path / "decisions.db"))
    store.pending()
    symbols = iter(
        (
            "GBPUSD",
            "USDJPY",
            "AUDUSD",
            "USDCAD",
            "USDCHF",
            "NZDUSD",
            "EURJPY",
            "GBPJPY",
            "EURGBP",
            "EURCHF",
            "EURAUD",
            "EURCAD",
            "EURNZD",
            "GBPAUD",
            "GBPCHF",
        )
    )

    def between_tables(point: str) -> None:
        if point == "pilot.after_export_table":
            store.pending(symbol=next(symbols))

    monkeypatch.setattr(export.failpoints, "reach", between_tables)
    reader = Reader(tmp_path / "decisions.db")
    counts = export.export(reader, tmp_path / "out", "csv")
    reader.close()
    assert store.read.status_counts() == {"pending": 1 + len(dump.TABLES)}
    assert counts["intents"] == counts["decisions"] == counts["transitions"] == 1
    store.db.close()


def test_two_exports_do_not_write_into_one_folder(reader: Reader, tmp_path: Path) -> None:
    with export._held(tmp_path / ".out.part"):
        with pytest.raises(export.ExportRefused, match="another export"):
            export.export(reader, tmp_path / "out", "csv")


def test_the_command_line_starts_without_loading_what_only_an_export_needs() -> None:
    code = "import sys, actors.pilot; print(sorted({'pyarrow', 'actors.console.statistics'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == "[]"
