"""What people read, to the letter; and that whatever is told fits into a message, in order, without a gap."""

from __future__ import annotations

import random
from datetime import timedelta

import msgspec
import pytest

from actors.outbox import digest, wording
from actors.outbox.codes import Asked, Codes
from actors.outbox.digest import Letter
from bus.clock import parse
from store import alerts as outbox
from store.outbox import Alert
from tests.kit import alert_examples
from tests.kit.alert_examples import ALERTS, AT, FOLDER
from tests.kit.clock import ManualClock

NOW = parse(AT) + timedelta(seconds=30)
TEXTS = alert_examples.texts()


def compose(alerts: list[Alert], **changes: object) -> Letter:
    usual = {"now": NOW, "old_s": 3_600.0, "currency": "USD", "mask": str}
    return digest.compose(alerts, **(usual | changes))  # type: ignore[arg-type]


def some(count: int, event: str = "clock", level: str = "info", text: str = "x") -> list[Alert]:
    return [
        msgspec.structs.replace(ALERTS["unknown_event"], seq=seq, event=event, level=level, text=text)
        for seq in range(1, count + 1)
    ]


@pytest.mark.parametrize("name", TEXTS)
def test_text_is_the_one_that_was_kept(name: str) -> None:
    assert TEXTS[name] == (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


def test_no_kept_text_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(TEXTS)


def test_every_arrow_that_is_told_has_words_of_its_own() -> None:
    worded = frozenset[str]().union(*(names for names, _ in wording.MADE))
    assert {event for _, event in outbox.TOLD.values()} <= worded
    assert worded >= {"halt", "recovered", "daily_summary"}


@pytest.mark.parametrize("name", [name for name, one in ALERTS.items() if one.data])
def test_figures_that_are_missing_or_odd_leave_the_text_as_it_was_told(name: str) -> None:
    for data in ({"reason": None}, dict.fromkeys(ALERTS[name].data, None), dict.fromkeys(ALERTS[name].data, "odd")):
        words = wording.of(msgspec.structs.replace(ALERTS[name], data=data), "USD")
        assert words.heading and "06:00:12 UTC" in words.lines[-1]


# ── messages ────────────────────────────────────────────────────────────────


def test_any_mix_becomes_messages_that_fit_and_cover_everything_in_order() -> None:
    seed = 20_261_102
    dice = random.Random(seed)
    for _ in range(40):
        left = [
            msgspec.structs.replace(
                dice.choice(list(ALERTS.values())), seq=seq, text=dice.choice("x&<é🙂") * dice.randrange(1_000)
            )
            for seq in range(1, dice.randrange(2, 120))
        ]
        while left:
            letter = compose(left)
            for text in filter(None, (letter.html, letter.plain)):
                assert 0 < digest.units(text) <= digest.CHARS_MAX, f"seed {seed}"
            assert letter.first_seq == left[0].seq <= letter.through_seq, f"seed {seed}"
            left = [one for one in left if one.seq > letter.through_seq]


def test_one_alert_that_cannot_fit_with_marks_goes_without() -> None:
    (alert,) = some(1, text="&" * 1_000)
    data = {"kind": "hard", "until": "&" * 900, "flatten": True, "reason": "&" * 900}
    huge = msgspec.structs.replace(alert, event="halt", data=data)
    letter = compose([huge])
    assert letter.html is None and digest.units(letter.plain) <= digest.CHARS_MAX


def test_what_is_old_is_summed_up_and_errors_and_summaries_never_are() -> None:
    later = {"now": NOW + timedelta(hours=2)}
    errors = [msgspec.structs.replace(one, seq=one.seq + 50) for one in some(2, "halt", "error", "still matters")]
    old = compose([*some(50), *errors], **later).plain
    assert old.startswith("ℹ Earlier, ") and "50 × wall clock was set back" in old and "still matters" in old
    summary = msgspec.structs.replace(ALERTS["daily_summary"], seq=99)
    assert "Net -1,541.05 USD" in compose([*some(50), summary], **later).plain
    assert "Earlier" not in compose(some(50)).plain


def test_marks_are_escaped_and_plain_text_is_not() -> None:
    letter = compose([ALERTS["orphan_position"]])
    assert letter.html is not None and "&lt;7&gt;" in letter.html and "<7>" in letter.plain


# ── codes ───────────────────────────────────────────────────────────────────


def a_desk_of_codes() -> tuple[Codes, ManualClock, str]:
    clock, names = ManualClock(), iter(f"c{number}" for number in range(100))
    codes = Codes(clock, lifetime_s=60.0, make=lambda: next(names))
    return codes, clock, codes.issue(Asked(change="flatten", chat=1, user=2, reason="r"))


def test_a_code_confirms_once_in_its_chat_by_whoever_asked() -> None:
    codes, _, code = a_desk_of_codes()
    assert codes.redeem("another", chat=1, user=2) is None
    assert codes.redeem(code, chat=9, user=2) is None
    assert codes.redeem(code, chat=1, user=9) is None
    asked = codes.redeem(code, chat=1, user=2)
    assert asked is not None and asked.change == "flatten"
    assert codes.redeem(code, chat=1, user=2) is None


def test_a_code_expires_and_only_the_newest_few_are_kept() -> None:
    codes, clock, code = a_desk_of_codes()
    clock.advance(60.5)
    assert codes.redeem(code, chat=1, user=2) is None
    first, *others = [codes.issue(Asked(change="pause", chat=1, user=2, reason="r")) for _ in range(21)]
    assert codes.redeem(first, chat=1, user=2) is None
    assert codes.redeem(others[0], chat=1, user=2) is not None
