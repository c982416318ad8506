"""High-impact news: exactly when an order may not be sent, and calendars that nobody may rely on."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from actors.compliance import news
from tests.kit.compliance import NOW

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
SEND = timedelta(seconds=news.SEND_S)
TICK = timedelta(milliseconds=1)


def a_calendar(*events: news.Event, **changes: Any) -> news.Calendar:
    return news.Calendar(**({"since": NOW - DAY, "until": NOW + DAY, "events": events} | changes))


def an_event(after: timedelta, currency: str = "USD", impact: Any = "high") -> news.Event:
    return news.Event(at=NOW + after, currency=currency, impact=impact, title="Non-Farm Payrolls")


@pytest.mark.parametrize(("after", "forbidden"), [
    (2 * MINUTE + SEND, True), (2 * MINUTE + SEND + TICK, False), (-2 * MINUTE, True), (-2 * MINUTE - TICK, False),
    (timedelta(0), True),
])  # fmt: skip
def test_window_counts_from_before_to_after_both_ends_included(after: timedelta, forbidden: bool) -> None:
    found = news.problem(a_calendar(an_event(after)), "EURUSD", NOW, 2)
    assert bool(found) is forbidden
    if forbidden:
        assert "Non-Farm Payrolls" in found and "USD" in found


@pytest.mark.parametrize(("symbol", "forbidden"), [("EURUSD", True), ("USDJPY", True), ("EURGBP", False)])
def test_news_of_either_currency_counts_and_of_no_other(symbol: str, forbidden: bool) -> None:
    assert bool(news.problem(a_calendar(an_event(MINUTE)), symbol, NOW, 2)) is forbidden


@pytest.mark.parametrize("impact", ["low", "medium"])
def test_news_of_less_impact_does_not_count(impact: str) -> None:
    assert news.problem(a_calendar(an_event(MINUTE, impact=impact)), "EURUSD", NOW, 2) == ""


def test_empty_list_is_fine() -> None:
    assert news.problem(a_calendar(), "EURUSD", NOW, 240) == ""


@pytest.mark.parametrize(("changes", "covers"), [
    ({"since": NOW - 2 * MINUTE}, True), ({"since": NOW - 2 * MINUTE + TICK}, False),
    ({"until": NOW + 2 * MINUTE + SEND}, True), ({"until": NOW + 2 * MINUTE + SEND - TICK}, False),
    ({"until": NOW - MINUTE}, False), ({"since": NOW + MINUTE}, False),
])  # fmt: skip
def test_calendar_must_hold_the_whole_window(changes: dict[str, Any], covers: bool) -> None:
    found = news.problem(a_calendar(**changes), "EURUSD", NOW, 2)
    assert (found == "") is covers
    assert covers or "calendar goes from" in found


HEAD = "from = 2026-02-16T00:00:00Z\nuntil = 2026-02-17T00:00:00Z\n"
EVENT = '[[events]]\nat = 2026-02-16T13:30:00Z\ncurrency = "USD"\nimpact = "high"\ntitle = "CPI"\n'


def test_calendar_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "news.toml"
    path.write_text(HEAD + EVENT)
    found = news.load(str(path))
    assert isinstance(found, news.Calendar)
    assert [event.title for event in found.events] == ["CPI"]
    path.write_text(HEAD)
    assert isinstance(news.load(str(path)), news.Calendar)


@pytest.mark.parametrize(("text", "said"), [
    ("", "from is missing"),
    ("from = ", "news.toml"),
    (HEAD.replace("Z", ""), "from was"),  # without a zone nobody knows when
    (HEAD + EVENT.replace("high", "enormous"), "impact was 'enormous'"),
    (HEAD + EVENT.replace("USD", "dollar"), "currency was 'dollar'"),
    (HEAD + EVENT + "actual = 3\n", "is not a setting"),
    (HEAD + EVENT.replace("02-16T13", "02-18T13"), "lies outside"),
    (HEAD.replace("02-17", "02-15"), "not before"),
])  # fmt: skip
def test_calendar_that_makes_no_sense_is_none(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "news.toml"
    path.write_text(text)
    found = news.load(str(path))
    assert isinstance(found, str) and said in found


def test_missing_calendar_is_none_and_says_what_is_missing(tmp_path: Path) -> None:
    found = news.load(str(tmp_path / "none.toml"))
    assert isinstance(found, str) and "none.toml" in found
    assert "compliance.news_calendar" in str(news.load(""))
