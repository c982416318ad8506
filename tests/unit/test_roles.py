"""The roles' files: what is refused, and that a role is told our figures and nothing else."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from actors.analysts import roles
from config.load import ConfigError
from config.settings import Llm
from tests.kit.analysis import a_signal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in roles.DELIVERED.glob("*.md"):
        shutil.copy(path, tmp_path)
    return tmp_path


FRONT = "---\nname: bull\nsees: signal\n---\n"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "must begin with a front part"),
        ("You are the bull.", "must begin with a front part"),
        (FRONT, "then the role's text"),
        ("---\nname: bull\nsees: signal\nYou are the bull.", "must begin with a front part"),
        ("---\nname: bear\nsees: signal\n---\nx", "must be 'bull'"),
        ("---\nsees: signal\n---\nx", "must be 'bull'"),
        ("---\nname: bull\nname: bull\nsees: signal\n---\nx", "once each"),
        ("---\nname: bull\nsees: signal\nmodel: gpt\n---\nx", "model: gpt"),
        ("---\nname: bull\nsees: signal, account\n---\nx", "sees was account"),
        ("---\nname: bull\nsees: signal, debate\n---\nx", "sees was debate"),
        ("---\nname: bull\nsees: views\n---\nx", "must hold signal"),
        (FRONT + "Risk {balance}.", "{balance} is no placeholder"),
        (FRONT + "{symbol.__class__}", "is no placeholder"),
        (FRONT + "{symbol!r}", "is no placeholder"),
        (FRONT + "{symbol:>99999999}", "is no placeholder"),
        (FRONT + "{}", "is no placeholder"),
        (FRONT + "{0}", "is no placeholder"),
        (FRONT + 'Answer {"stance": 1}', "is no placeholder"),
        (FRONT + "an open {", "write {{ and }}"),
        (FRONT + "x" * roles.BYTES_MAX, "larger than"),
    ],
)
def test_a_file_that_holds_what_is_unknown_is_refused_by_its_name(folder: Path, text: str, word: str) -> None:
    (folder / "bull.md").write_text(text)
    with pytest.raises(ConfigError) as found:
        roles.load(str(folder))
    assert str(folder / "bull.md") in str(found.value) and word in str(found.value)


@pytest.mark.parametrize("role", roles.MAY_SEE)
def test_a_missing_file_or_one_that_is_no_text_is_refused_by_its_name(folder: Path, role: str) -> None:
    path = folder / f"{role}.md"
    path.write_bytes(b"---\nname: \xff")
    with pytest.raises(ConfigError, match=str(path)):
        roles.load(str(folder))
    path.unlink()
    with pytest.raises(ConfigError, match=f"{path}.*roles_folder"):
        roles.load(str(folder))


def test_a_brace_that_stands_for_itself_is_allowed(folder: Path) -> None:
    (folder / "bull.md").write_text(FRONT + "Answer {{}} for {symbol}.")
    assert roles.load(str(folder))["bull"].told(a_signal(), Llm()) == "Answer {} for EURUSD."


@pytest.mark.parametrize("role", roles.MAY_SEE)
def test_the_delivered_roles_name_our_limits_and_nothing_of_the_account(role: roles.Role) -> None:
    found = roles.load()[role]
    told = found.told(a_signal(), Llm(rounds=3), 2)
    assert "{" not in told and "none of your business" in told
    assert not any(word in told.lower() for word in ("balance", "equity", "drawdown", "lots"))
    if role == "judge":
        assert "from 12.0 to 200.0" in told and "at most 600.0" in told and "at least 1 x" in told
    if role in ("bull", "bear"):
        assert "round 2 of 3" in told


@pytest.mark.parametrize("role", roles.MAY_SEE)
def test_the_delivered_roles_speak_of_the_signals_own_bars(role: roles.Role) -> None:
    found = roles.load()[role]
    told = {timeframe: found.told(a_signal(timeframe=timeframe), Llm()) for timeframe in ("D1", "H4", "H1")}
    assert not re.search(r"\b(daily|days?)\b", told["H4"] + told["H1"])
    if role == "judge":
        assert "the noise of a day (40.0 pips)" in told["D1"]
        assert "the noise of a 1-hour bar (40.0 pips)" in told["H1"]
    if role in ("technical", "macro"):
        assert "coming days" in re.sub(r"\s+", " ", told["D1"])
        assert "coming 4-hour bars" in re.sub(r"\s+", " ", told["H4"])
