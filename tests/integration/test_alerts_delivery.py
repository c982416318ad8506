"""Alerts leave the outbox in order and at least once, whatever the channel answers; recorded by the real store."""

from __future__ import annotations

import itertools
from pathlib import Path

import apsw
import pytest

from actors.outbox.telegram import TelegramError
from bus import messages
from tests.kit import bot_api
from tests.kit.bot_api import no
from tests.kit.telling import ALERTS, FakeSecond, a_desk


def delivered(desk_db: apsw.Connection) -> list[tuple[int, bool]]:
    rows = desk_db.execute("SELECT seq, delivered_at IS NOT NULL FROM alerts ORDER BY seq")
    return [(int(str(seq)), bool(was)) for seq, was in rows]


# ── what goes wrong ─────────────────────────────────────────────────────────


async def test_no_database_and_an_empty_outbox_send_nothing(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        await desk.rounds(3)
        assert desk.bot.calls == [] and desk.link.asked == []


async def test_away_means_waiting_then_probes_only_then_everything_in_order(tmp_path: Path) -> None:
    async with a_desk(tmp_path, breaker_wait_s=10.0, breaker_failures_max=2) as desk:
        desk.bot.is_down = True
        desk.report("error", "orphan_position", "the first")
        await desk.rounds(8)
        methods = [method for method, _ in desk.bot.calls]
        assert methods == ["sendMessage"] * 2, "open after two failures: nothing is asked"
        desk.report("error", "overfilled", "the second")
        await desk.rounds(5)
        assert [method for method, _ in desk.bot.calls][2:] == ["getMe"]
        assert delivered(desk.store.db) == [(1, False), (2, False)]
        desk.bot.is_down = False
        await desk.rounds(30)
        assert desk.cursor() == 2
        first, second = desk.bot.texts()
        assert "the first" in first and "Sent again" in first, "an answer of 502 tells nothing"
        assert "the second" in second and "Sent again" not in second


async def test_flood_answer_is_waited_for_and_is_no_failure(tmp_path: Path) -> None:
    async with a_desk(tmp_path, breaker_failures_max=1) as desk:
        desk.bot.faults["sendMessage"].append(no(429, "Too Many Requests", retry_after=7))
        desk.report("error", "clock")
        await desk.rounds(7)
        assert len(desk.bot.calls) == 1
        await desk.rounds(2)
        assert [method for method, _ in desk.bot.calls] == ["sendMessage"] * 2
        assert desk.cursor() == 1
        assert "again" not in desk.bot.texts()[0]


async def test_a_flood_answer_of_a_year_is_capped(tmp_path: Path) -> None:
    async with a_desk(tmp_path, retry_after_s_max=20.0) as desk:
        desk.bot.faults["sendMessage"].append(no(429, "Too Many Requests", retry_after=31_536_000))
        desk.report("error", "clock")
        await desk.rounds(22)
        assert desk.cursor() == 1


async def test_marks_that_are_not_understood_are_left_out(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        desk.bot.is_deaf_to_marks = True
        desk.report("error", "clock", "a < b")
        await desk.rounds(1)
        (sent,) = desk.bot.sent
        assert "parse_mode" not in sent and "a < b" in sent["text"]
        assert desk.cursor() == 1


async def test_a_text_that_is_never_taken_does_not_keep_the_next_one_from_going(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        desk.bot.faults["sendMessage"].extend([no(400, "Bad Request: message text is odd")] * 2)
        desk.report("error", "clock", "poison")
        await desk.rounds(1)
        assert desk.bot.texts() == [
            "Alerts 1 to 1 cannot be shown here; see the log of the alerts process, or pilot."
        ]  # fmt: skip
        desk.report("error", "clock", "good")
        await desk.rounds(2)
        assert "good" in desk.bot.texts()[1] and desk.cursor() == 2


@pytest.mark.parametrize("code", [400, 401, 403, 404])
async def test_a_bot_that_is_refused_loses_nothing(tmp_path: Path, code: int) -> None:
    async with a_desk(tmp_path, breaker_wait_s=5.0) as desk:
        desk.bot.faults["sendMessage"].extend([no(code, "no: chat not found")] * 9)
        desk.report("error", "clock", "keep me")
        await desk.rounds(4)
        assert desk.cursor() == 0
        desk.bot.faults["sendMessage"].clear()
        await desk.rounds(30)
        assert desk.cursor() == 1 and "keep me" in desk.bot.texts()[0]


async def test_an_answer_that_got_lost_means_sending_again_and_saying_so(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        desk.bot.faults["sendMessage"].append(bot_api.HANG_UP_AFTER)
        desk.report("error", "clock", "once or twice")
        await desk.rounds(3)
        assert ["once or twice" in text for text in desk.bot.texts()] == [True, True]
        assert ["Sent again" in text for text in desk.bot.texts()] == [False, True]
        assert desk.cursor() == 1


# ── killed between sending and recording ────────────────────────────────────


async def test_killed_before_the_record_sends_exactly_the_same_again_and_marks_it(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        desk.report("error", "clock", "the first")
        desk.link.is_away = True
        await desk.rounds(3)
        assert len(desk.bot.sent) == 1, "nothing more is sent before the first is recorded"
        desk.report("error", "overfilled", "the second")
        await desk.anew()
        await desk.rounds(3)
        texts = desk.bot.texts()
        assert len(texts) == 3
        assert "Sent again" in texts[1] and "the first" in texts[1] and "the second" not in texts[1]
        assert "Sent again" not in texts[2] and "the second" in texts[2]
        assert desk.cursor() == 2


async def test_killed_before_it_was_sent_sends_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_desk(tmp_path) as desk:
        desk.bot.faults["sendMessage"].append(bot_api.HANG_UP)
        desk.report("error", "clock", "the first")
        await desk.rounds(1)
        await desk.anew()
        await desk.rounds(2)
        assert len(desk.bot.sent) == 1 and desk.cursor() == 1


async def test_a_store_that_answers_again_is_told_what_was_taken_without_sending_anew(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        desk.report("error", "clock")
        desk.link.is_away = True
        await desk.rounds(2)
        desk.link.is_away = False
        await desk.rounds(2)
        assert len(desk.bot.sent) == 1 and desk.cursor() == 1


# ── how much, how fast ──────────────────────────────────────────────────────


async def test_many_of_one_event_become_one_message_that_says_how_many(tmp_path: Path) -> None:
    async with a_desk(tmp_path, coalesce_s=5.0) as desk:
        for number in range(40):
            desk.report("warning", "symbols_left_out", f"number {number}")
        await desk.rounds(4)
        assert desk.bot.sent == []
        await desk.rounds(3)
        (text,) = desk.bot.texts()
        assert "40 × Pairs left out of the scan" in text and "number 39" in text and "number 12" not in text
        assert desk.cursor() == 40


async def test_an_error_waits_for_nothing(tmp_path: Path) -> None:
    async with a_desk(tmp_path, coalesce_s=600.0) as desk:
        desk.report("info", "llm_back")
        await desk.rounds(1)
        assert desk.bot.sent == []
        desk.report("error", "clock")
        await desk.rounds(1)
        assert desk.cursor() == 2


async def test_never_more_than_one_a_second_nor_twenty_a_minute_to_a_group(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        at_s: list[float] = []
        for number in range(300):
            if number % 2:
                desk.report("error", "clock")
            before = len(desk.bot.sent)
            await desk.delivery.round()
            at_s += [desk.clock.monotonic()] * (len(desk.bot.sent) - before)
            desk.clock.advance(0.25)
        assert len(at_s) > 25
        assert min(b - a for a, b in itertools.pairwise(at_s)) >= 1.0
        assert all(later - first >= 60.0 for first, later in zip(at_s, at_s[20:], strict=False))
        assert desk.cursor() > 0


async def test_level_filter_passes_over_and_marks_only_what_was_told(tmp_path: Path) -> None:
    async with a_desk(tmp_path, level="warning") as desk:
        for level in ("info", "warning", "info", "info"):
            desk.report(level, "clock", f"one {level}")
        await desk.rounds(3)
        (text,) = desk.bot.texts()
        assert "one warning" in text and "one info" not in text
        assert delivered(desk.store.db) == [(1, False), (2, True), (3, False), (4, False)]
        assert desk.cursor() == 4


async def test_a_flood_of_different_long_texts_is_cut_into_messages_that_fit_and_lose_none(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        events = [f"event_{number}" for number in range(30)]
        for event in events:
            desk.report("error", event, "long < " * 60)
        await desk.rounds(40)
        assert desk.cursor() == 30
        assert all(len(one["text"]) <= 4_096 for one in desk.bot.sent) and len(desk.bot.sent) < 20
        everything = "\n".join(desk.bot.texts())
        places = [everything.index(event.replace("_", " ").capitalize() + "\n") for event in events]
        assert places == sorted(places)


async def test_secrets_are_masked_before_anything_is_cut(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        desk.report("error", "clock", "x" * 480 + bot_api.TOKEN)
        desk.report("error", "halt", "y", kind="hard", until=None, flatten=False, reason=f"at {bot_api.TOKEN}")
        await desk.rounds(1)
        (text,) = desk.bot.texts()
        assert "***" in text
        assert not any(bot_api.TOKEN[:20] in one["text"] for one in desk.bot.sent)


# ── the second channel ──────────────────────────────────────────────────────


async def test_the_second_channel_takes_over_only_after_the_time_that_was_set(tmp_path: Path) -> None:
    second = FakeSecond()
    async with a_desk(tmp_path, second=second, escalate_s=120.0) as desk:
        desk.bot.is_down = True
        desk.report("error", "clock", "help")
        await desk.rounds(118)
        assert second.sent == [] and desk.cursor() == 0
        await desk.rounds(5)
        ((title, body),) = second.sent
        assert "help" in title + body
        assert desk.cursor() == 1
        desk.report("error", "clock", "and again")
        await desk.rounds(3)
        assert len(second.sent) == 2, "the next one waited anew though the first channel was known to be away"
        desk.bot.is_down = False
        await desk.rounds(130)  # until a probe has found it
        desk.report("error", "clock", "for the first")
        await desk.rounds(5)
        assert len(second.sent) == 2 and "for the first" in desk.bot.texts()[-1]


async def test_a_second_channel_alone_is_the_first(tmp_path: Path) -> None:
    second = FakeSecond()
    async with a_desk(tmp_path, second=second, is_bot=False) as desk:
        second.problem = "none took it"
        desk.report("error", "clock")
        await desk.rounds(3)
        assert desk.cursor() == 0
        second.problem = ""
        await desk.rounds(40)
        assert desk.cursor() == 1 and desk.bot.calls == []
        channel = desk.store.db.execute("SELECT channel FROM alert_deliveries").get
        assert channel == "second"


async def test_a_backlog_is_told_once_an_outage(tmp_path: Path) -> None:
    async with a_desk(tmp_path, backlog_s=60.0) as desk:
        desk.bot.is_down = True
        desk.report("error", "clock")
        await desk.rounds(200)
        assert len(desk.link.of(messages.Report)) == 1
        desk.bot.is_down = False
        await desk.rounds(150)
        assert "Alerts could not be delivered" in desk.bot.texts()[-1]
        assert desk.cursor() == 2


# ── what the store refuses ──────────────────────────────────────────────────


async def test_a_delivery_of_what_is_not_there_is_refused_and_an_old_one_changes_nothing(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        for _ in range(3):
            desk.report("info", "clock")

        def tell(through_seq: int) -> str:
            body = messages.AlertsDelivered(through_seq=through_seq, channel="telegram", levels=("info",))
            return str(desk.store.tell(ALERTS, body).outcome)

        assert [tell(4), tell(2), tell(1), tell(2), tell(3)] == ["refused", "applied", "already", "already", "applied"]
        assert delivered(desk.store.db) == [(1, True), (2, True), (3, True)]
        for statement in (
            "UPDATE alerts SET text = 'x'", "UPDATE alerts SET delivered_at = NULL", "DELETE FROM alerts",
            "DELETE FROM alert_deliveries", "UPDATE alert_deliveries SET through_seq = 9",
            "INSERT INTO alert_deliveries VALUES (1, 'x', 'x', 0, 'x')",
            "INSERT OR REPLACE INTO alerts (seq, at, level, event, actor, text) VALUES (1, 'x', 'info', 'x', 'x', 'x')",
        ):  # fmt: skip
            with pytest.raises(apsw.ConstraintError):
                desk.store.db.execute(statement)


async def test_errors_of_the_client_show_no_token(tmp_path: Path) -> None:
    async with a_desk(tmp_path) as desk:
        for fault in (bot_api.HANG_UP, bot_api.HANG_UP_AFTER, (200, "nonsense"), no(404, "Not Found")):
            desk.bot.faults["sendMessage"].append(fault)
            with pytest.raises(TelegramError) as caught:
                await desk.telegram.write("x", as_html=False)
            assert bot_api.TOKEN not in repr(caught.value)
            assert caught.value.__cause__ is None, "what is chained is shown, too"
            assert caught.value.__suppress_context__ or caught.value.__context__ is None
