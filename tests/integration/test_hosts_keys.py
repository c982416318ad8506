"""`supervisor keys` and the settings of other hosts: what is refused, what is kept, what is never shown, a kill."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from bus import keys
from bus.keys import KeyRefused
from bus.vocabulary import ExitCode, Role
from config import load
from supervisor import cli
from tests.kit import failpoints, pipeline

PUBLIC = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"  # of the examples of RFC 32 and CurveZMQ
OTHER = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"


def said(capsys: pytest.CaptureFixture[str], *arguments: str, keys_folder: Path) -> tuple[int, str, str]:
    code = cli.main(["keys", *arguments, "--keys", str(keys_folder)])
    out, err = capsys.readouterr()
    return code, out, err


def test_keys_are_made_allowed_listed_and_revoked_and_no_secret_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, far = tmp_path / "home", tmp_path / "far"
    texts = []
    for arguments, folder in (
        (("new", "store"), home),
        (("new", "llm"), far),
        (("list",), home),
    ):
        code, out, err = said(capsys, *arguments, keys_folder=folder)
        assert code == ExitCode.OK, err
        texts.append(out + err)
    mine, other = keys.pair(home, Role.STORE), keys.pair(far, Role.LLM)
    assert mine.public in texts[0] and other.public in texts[1] and "allowed: nobody" in texts[2]
    for arguments, folder in (
        (("trust", mine.public), far),
        (("allow", "llm", "gpu1", other.public), home),
        (("list",), home),
        (("list",), far),
    ):
        code, out, err = said(capsys, *arguments, keys_folder=folder)
        assert code == ExitCode.OK, err
        texts.append(out + err)
    assert keys.store_key(far) == mine.public
    assert f"allowed: llm gpu1, fingerprint {keys.fingerprint(other.public)}" in texts[5]
    assert f"trusts: the store with fingerprint {keys.fingerprint(mine.public)}" in texts[6]
    assert said(capsys, "revoke", "llm", "gpu1", keys_folder=home)[0] == ExitCode.OK
    assert keys.allowed(home) == []
    for secret in (mine.secret, other.secret):
        assert secret not in "".join(texts) and secret not in f"{mine!r}{other!r}"
    for path in (*home.rglob("*"), home, *far.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_no_public_key_looks_like_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = iter([b"-" + b"x" * 39, OTHER.encode()])
    monkeypatch.setattr("zmq.curve_keypair", lambda: (next(made), b"s" * 40))
    assert keys.new_pair(tmp_path / "keys", Role.LLM).public == OTHER


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("new", "executor"), ExitCode.USAGE, "known: store, llm"),
        (("allow", "store", "x", PUBLIC), ExitCode.USAGE, "known: llm"),
        (("allow", "llm", "../x", PUBLIC), ExitCode.CONFIG, "the name"),
        (("allow", "llm", "x", "too short"), ExitCode.CONFIG, "9 characters are no public key"),
        (("allow", "llm", "old", OTHER), ExitCode.CONFIG, "has another key"),
        (("allow", "llm", "new", PUBLIC), ExitCode.CONFIG, "is allowed as llm old already"),
        (("revoke", "llm", "nobody"), ExitCode.CONFIG, "is not allowed"),
        (("trust", PUBLIC), ExitCode.CONFIG, "it trusts itself"),
        (("new", "store"), ExitCode.CONFIG, "exists"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, why: str
) -> None:
    folder = tmp_path / "keys"
    keys.new_pair(folder, Role.STORE)
    keys.allow(folder, Role.LLM, "old", PUBLIC)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    ended = said(capsys, *arguments, keys_folder=folder)
    assert ended[0] == code and why in ended[2], ended
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_keys_that_others_can_read_or_that_are_none_are_refused_without_being_shown(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    secret = keys.new_pair(folder, Role.LLM).secret
    (folder / "llm.key").chmod(0o640)
    with pytest.raises(KeyRefused, match=r"mode is 0640; allowed 0600") as found:
        keys.pair(folder, Role.LLM)
    assert secret not in str(found.value)
    (folder / "llm.key").chmod(0o600)
    (folder / "llm.key").write_text(secret[:39])
    with pytest.raises(KeyRefused, match="does not hold a key") as found:
        keys.pair(folder, Role.LLM)
    assert secret[:39] not in str(found.value)
    folder.chmod(0o750)
    with pytest.raises(KeyRefused, match="0700"):
        keys.pair(folder, Role.LLM)
    with pytest.raises(KeyRefused, match="cannot use"):
        keys.pair(tmp_path / "none", Role.LLM)


@pytest.mark.parametrize(
    ("bus", "why"),
    [
        ({"listen": "tcp://127.0.0.1:5577"}, "plain tcp is refused"),
        ({"listen": "tcp://0.0.0.0:5577"}, "plain tcp is refused"),
        ({"store": "tcp://10.0.0.1:5577"}, "plain tcp is refused"),
        ({"store": "ipc:///tmp/x", "keys": "/k"}, "bus.store was 'ipc:///tmp/x'"),
        ({"listen": "tcp://10.0.0.1:70000", "keys": "/k"}, "a port from 1 to 65535"),
        ({"store": "tcp://*:5577", "keys": "/k"}, "the address of one host"),
        ({"store": "tcp://a:1", "listen": "tcp://b:1", "keys": "/k"}, "one of them"),
        ({"listen": "tcp://10.0.0.1:5577", "keys": "relative"}, "bus.keys was"),
    ],
)
def test_addresses_without_keys_and_that_cannot_be_are_refused_at_load(bus: dict[str, str], why: str) -> None:
    with pytest.raises(load.ConfigError, match=why.replace("*", r"\*")):
        load.checked({"bus": bus}, Path("x.toml"))


@pytest.mark.parametrize("arguments", [(), ("--only", "executor=1"), ("run", "monitor"), ("run", "store")])
def test_a_host_without_a_store_runs_analysts_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    profile = tmp_path / "far.toml"
    profile.write_text('[bus]\nstore = "tcp://127.0.0.1:9"\nkeys = "/nowhere"\n')
    monkeypatch.setenv("PILOT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PILOT_RUN", str(tmp_path))
    assert cli.main(["--profile", str(profile), *arguments]) == ExitCode.USAGE
    assert "only llm may run without it here" in capsys.readouterr().err


@pytest.mark.parametrize("point", ["before_write_key", "after_write_key", "before_revoke", "after_revoke"])
def test_a_kill_at_any_step_leaves_the_list_as_it_was_or_as_it_was_to_be(tmp_path: Path, point: str) -> None:
    folder, points = tmp_path / "keys", tmp_path / "points"
    points.mkdir()
    keys.allow(folder, Role.LLM, "old", PUBLIC)
    failpoints.arm(points, f"supervisor.{point}", "kill")
    arguments = ("revoke", "llm", "old") if "revoke" in point else ("allow", "llm", "new", OTHER)
    ended = subprocess.run(
        [str(pipeline.BIN / "supervisor"), "keys", *arguments, "--keys", str(folder)], check=False,
        env=os.environ | {"PILOT_FAILPOINTS": str(points)}, cwd=load.ROOT,
    )  # fmt: skip
    assert ended.returncode == -9
    names = [one.name for one in keys.allowed(folder)]
    done = ["old", "new"] if "write" in point else []
    assert sorted(names) == sorted(done if point.startswith("after") else ["old"])
