"""Recording calls to a language model and reading them back: refusals and torn files first, then what comes back."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from loguru import logger

from actors.analysts import masking, recordings
from actors.analysts.chat import Reply, Rung, Usage
from actors.analysts.masking import Masker
from actors.analysts.recorder import Recorder
from actors.analysts.recordings import Call
from bus import failpoints
from bus.failpoints import FailpointError
from config import load
from config.load import ConfigError
from config.settings import Llm

KEY = "a-key-of-the-operator-1"


@pytest.fixture
def lines() -> Iterator[list[str]]:
    found: list[str] = []
    sink = logger.add(found.append, level="INFO", format="{level} {message}")
    yield found
    logger.remove(sink)


def a_reply(content: str = "{}", **changes: object) -> Reply:
    usual: dict[str, object] = {
        "content": content, "finish_reason": "stop", "refusal": "", "model": "m-1",
        "usage": Usage(prompt_tokens=300, completion_tokens=40), "rung": Rung.OBJECT, "requests": 2,
        "parameters": {"temperature": 0, "seed": 7}, "latency_ms": 1_234,
    }  # fmt: skip
    return Reply(**(usual | changes))  # type: ignore[arg-type]


def a_call(number: int = 1, **changes: object) -> Call:
    usual: dict[str, object] = {
        "at": f"2026-11-02T06:00:00.{number:03d}Z", "intent_id": "i1", "subject": "EURUSD:D1:2026-10-30:scanner",
        "epoch": 1, "attempt": 1, "endpoint": "llm", "host": "127.0.0.1:1", "model": "m", "role": "analyst",
        "prompt_sha256": "p" * 64, "prompt": [{"role": "user", "content": f"question {number}"}], "reply": a_reply(),
    }  # fmt: skip
    return Call(**(usual | changes))  # type: ignore[arg-type]


def a_recorder(folder: Path, **changes: object) -> Recorder:
    return Recorder(folder / "recordings", "llm.1", Llm(**changes), {KEY})  # type: ignore[arg-type]


def the_file(folder: Path) -> Path:
    return folder / "recordings" / "llm.1.jsonl"


# ── what must not be written ────────────────────────────────────────────────

SECRETS = [
    KEY,
    "Bearer abcdefghij0123456789",
    "authorization: bearer ABC.def-123_456~789/x",
    "sk-proj-AbC0123456789def",
    "sk_live_0123456789abcdef",
    "ghp_0123456789abcdefghij",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("where", ["content", "refusal", "model", "error", "prompt"])
def test_a_secret_is_masked_wherever_it_stands(tmp_path: Path, secret: str, where: str) -> None:
    said = f"before {secret} after"
    call = a_call()
    if where == "error":
        call = a_call(reply=None, error=said)
    elif where == "prompt":
        call = a_call(prompt=[{"role": "user", "content": said}])
    else:
        call = a_call(reply=a_reply(**{where: said}))
    recorder = a_recorder(tmp_path)
    recorder.write(call)
    text = the_file(tmp_path).read_text()
    assert secret.split()[-1] not in text
    assert "before" in text and masking.MASK in text and "after" in text


ORDINARY = [
    "risk-adjusted return of 1.5", "a bearer instrument", "bearer instruments2", "task-oriented-approach-2026",
    "ask-0123456789abcdef0", "a bearer of internationalization-of-markets", "sk-learn-is-no-key-of-anybody",
]  # fmt: skip


@pytest.mark.parametrize("said", ORDINARY)
def test_an_ordinary_text_is_left_alone(said: str) -> None:
    assert Masker([KEY])(said) == said


def test_the_longer_of_two_secrets_is_masked_first() -> None:
    assert Masker(["secret-1", "secret-1-and-more"])("x secret-1-and-more y") == "x *** y"


def test_secrets_are_known_by_the_names_of_their_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(load, "ROOT", tmp_path)
    monkeypatch.setenv("OTHER_API_KEY", "value-of-a-key")
    monkeypatch.setenv("CALLED_OTHERWISE", "value-of-another")
    monkeypatch.setenv("SHORT_TOKEN", "short")
    env = tmp_path / ".env"
    env.write_text("PILOT_BROKER_PASSWORD=value-in-a-file\nPILOT_PROFILE=not-a-secret\n")
    env.chmod(0o600)
    found = load.secret_values(["CALLED_OTHERWISE"])
    assert {"value-of-a-key", "value-of-another", "value-in-a-file"} <= found
    assert not {"short", "not-a-secret"} & found


def test_prompts_can_be_left_out(tmp_path: Path) -> None:
    a_recorder(tmp_path, record_prompts=False).write(a_call())
    assert "question" not in the_file(tmp_path).read_text()


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    a_recorder(tmp_path).write(a_call())
    assert stat.S_IMODE(the_file(tmp_path).stat().st_mode) == 0o600
    assert stat.S_IMODE(the_file(tmp_path).parent.stat().st_mode) == 0o700


def test_nothing_is_written_before_the_first_call(tmp_path: Path) -> None:
    a_recorder(tmp_path).close()
    assert list(tmp_path.iterdir()) == []


# ── trouble with the disk ───────────────────────────────────────────────────


def test_a_full_disk_is_said_once_and_recording_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    recorder = a_recorder(tmp_path)
    recorder.write(a_call(1))
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        write(descriptor, data[:10])  # a disk that fills up in the middle of a line
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for number in (2, 3, 4):
        recorder.write(a_call(number))
    monkeypatch.setattr(os, "write", write)
    recorder.write(a_call(5))
    recorder.write(a_call(6))
    assert [line.split(":")[0] for line in lines] == [
        "WARNING Calls are not recorded until the disk takes them again",
        "INFO Calls are recorded again; 3 are missing\n",
    ]
    kept = recordings.read(the_file(tmp_path))
    assert ([call.at[-4:-1] for call in kept.calls], kept.skipped) == (["001", "005", "006"], 0)


def test_a_short_write_is_cut_off_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = a_recorder(tmp_path)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:-5]))
    recorder.write(a_call(1))
    monkeypatch.setattr(os, "write", write)
    recorder.write(a_call(2))
    kept = recordings.read(the_file(tmp_path))
    assert ([call.at[-4:-1] for call in kept.calls], kept.skipped) == (["002"], 0)


@pytest.mark.parametrize("point", ["record", "repair_recording", "rotate_recording"])
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_fault_at_any_step_costs_at_most_its_own_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, side: str
) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    filler = msgspec.json.encode(a_call(1)) + b"\n"
    the_file(tmp_path).write_bytes(filler * (16_384 // len(filler)) + b'{"half')
    armed = [f"llm.{side}_{point}"]

    def reach(name: str) -> bool:
        if name in armed:
            armed.remove(name)
            raise FailpointError(name)
        return False

    monkeypatch.setattr(failpoints, "reach", reach)
    recorder = a_recorder(tmp_path, recording_bytes_max=16_384)
    for number in (2, 3, 4):
        recorder.write(a_call(number))
    assert armed == []
    kept = recordings.read(folder)
    numbers = {call.at[-4:-1] for call in kept.calls}
    assert {"001", "003", "004"} <= numbers
    assert kept.skipped == 0


def test_a_symbolic_link_in_its_place_is_not_followed(tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "recordings").mkdir()
    target = tmp_path / "target"
    target.write_text("mine")
    the_file(tmp_path).symlink_to(target)
    a_recorder(tmp_path).write(a_call())
    assert target.read_text() == "mine"
    assert "not recorded" in "".join(lines)


# ── size ────────────────────────────────────────────────────────────────────


def test_full_files_get_numbers_and_only_the_newest_are_kept(tmp_path: Path) -> None:
    recorder = a_recorder(tmp_path, recording_bytes_max=16_384, recordings_kept=2)
    for number in range(1, 200):
        recorder.write(a_call(number))
    files = sorted((tmp_path / "recordings").iterdir())
    assert len(files) == 3
    assert all(0 < file.stat().st_size <= 16_384 for file in files)
    assert files[-1].name == "llm.1.jsonl"
    first, second = (int(file.suffixes[-2][1:]) for file in files[:2])
    assert second == first + 1 > 2
    kept = recordings.read(tmp_path / "recordings")
    numbers = [int(call.at[-4:-1]) for call in kept.calls]
    assert numbers == list(range(numbers[0], 200))
    assert kept.skipped == 0


def test_files_of_other_workers_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    others = ["llm.11.000001.jsonl", "llm.11.jsonl", "llm.2.000009.jsonl", "mine.jsonl"]
    for name in others:
        (folder / name).write_text("{}\n")
    recorder = a_recorder(tmp_path, recording_bytes_max=16_384, recordings_kept=0)
    for number in range(1, 100):
        recorder.write(a_call(number))
    assert {file.name for file in folder.iterdir()} == {*others, "llm.1.jsonl"}


def test_a_call_too_large_for_a_file_is_left_out_and_said(tmp_path: Path, lines: list[str]) -> None:
    recorder = a_recorder(tmp_path, recording_bytes_max=16_384)
    recorder.write(a_call(1, reply=a_reply("x" * 20_000)))
    recorder.write(a_call(2))
    assert [call.at[-4:-1] for call in recordings.read(the_file(tmp_path)).calls] == ["002"]
    assert "was not recorded; allowed 16384" in "".join(lines)


# ── reading ─────────────────────────────────────────────────────────────────


def test_what_cannot_be_a_recording_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        recordings.read(tmp_path / "none.jsonl")
    with pytest.raises(ConfigError, match="holds no recording"):
        recordings.read(tmp_path)
    (tmp_path / "a.jsonl").write_bytes(b"x" * 100)
    with pytest.raises(ConfigError, match="holds 100 bytes; allowed 99"):
        recordings.read(tmp_path, bytes_max=99)


@pytest.mark.parametrize("torn", [b'{"at": "2026', b"\xff\xfe", b"[1]\n", b"\n", b"{}\n", b"[" * 100_000 + b"\n"])
def test_lines_that_are_no_calls_are_skipped_and_counted(tmp_path: Path, torn: bytes) -> None:
    recorder = a_recorder(tmp_path)
    recorder.write(a_call(1))
    recorder.write(a_call(2))
    first, second = the_file(tmp_path).read_bytes().splitlines(keepends=True)
    (tmp_path / "a.jsonl").write_bytes(first + (torn if torn.endswith(b"\n") else torn + b"\n") + second + torn)
    kept = recordings.read(tmp_path / "a.jsonl")
    assert len(kept.calls) == 2
    assert kept.skipped == 2


def test_what_was_written_comes_back_as_it_was_but_for_its_prompt(tmp_path: Path) -> None:
    call = a_call(reply=a_reply('{"reason": "ünïcode \\u0001 \\" \n"}', refusal="no"))
    failed = a_call(2, reply=None, error="HTTP 503", latency_ms=7)
    recorder = a_recorder(tmp_path)
    recorder.write(call)
    recorder.write(failed)
    assert "question 1" in the_file(tmp_path).read_text()
    kept = recordings.read(the_file(tmp_path)).calls
    assert kept == [msgspec.structs.replace(one, prompt=None) for one in (call, failed)]


def test_files_are_read_in_the_order_of_time_whatever_their_names(tmp_path: Path) -> None:
    for name, number in (("b.jsonl", 1), ("a.jsonl", 2), ("c.jsonl", 3)):
        (tmp_path / name).write_bytes(msgspec.json.encode(a_call(number)) + b"\n")
    assert [call.at[-4:-1] for call in recordings.read(tmp_path).calls] == ["001", "002", "003"]
