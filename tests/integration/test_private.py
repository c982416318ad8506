"""Folders, .env and addresses that are not private enough are refused with what mends it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from config import addresses, entitled, load, private
from config.load import ConfigError
from config.settings import Broker, Llm, LlmEndpoint, Settings


def live(url: str) -> Settings:
    return Settings(profile="x", broker=Broker(kind="platform", base_url=url))


@pytest.mark.parametrize("mode", [0o770, 0o777, 0o722, 0o702])
def test_data_folder_that_others_may_write_is_refused_with_the_command_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(mode)
    monkeypatch.setenv("PILOT_DATA", str(folder))
    with pytest.raises(ConfigError, match=rf"mode is {mode:04o}.*run: chmod [0-7]+ {folder}"):
        load.data_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == mode


def in_a_child_as(uid: int, said: Path, do: str) -> str:
    """Run `do` in a child under another user and return what it raised."""
    pid = os.fork()
    if pid == 0:  # pragma: no cover - another process
        os.setgid(uid)
        os.setuid(uid)
        try:
            exec(do, {"load": load, "Path": Path})  # noqa: S102 - a line of this file
            text = "nothing"
        except ConfigError as error:
            text = str(error)
        said.write_text(text)
        os._exit(0)
    os.waitpid(pid, 0)
    return said.read_text()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
def test_folders_and_env_of_somebody_else_are_refused_whoever_may_read_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # pytest's own folders let nobody else in
        folder = Path(name)
        folder.chmod(0o755)
        said = folder / "said"
        said.write_text("")
        said.chmod(0o666)
        monkeypatch.setenv("PILOT_DATA", str(folder))
        assert "belongs to user 0, and we run as 12345" in in_a_child_as(12_345, said, "load.data_folder()")
        env = folder / ".env"
        env.write_text("PILOT_BROKER_PASSWORD=x\n")
        env.chmod(0o600)
        monkeypatch.setattr(load, "ROOT", folder)
        assert "chown 12345" in in_a_child_as(12_345, said, "load.env_file()")
        own = folder / "own"
        own.mkdir()
        os.chown(own, 12_345, 12_345)
        monkeypatch.setenv("PILOT_DATA", str(own))
        assert in_a_child_as(12_345, said, "load.data_folder()") == "nothing"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_env_that_others_may_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    env = tmp_path / ".env"
    env.write_text("A=b\n")
    env.chmod(mode)
    monkeypatch.setattr(load, "ROOT", tmp_path)
    with pytest.raises(ConfigError, match=rf"mode is {mode:04o}; allowed 0600 \(run: chmod 600"):
        load.env_file()


def test_env_of_one_byte_too_many_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = tmp_path / ".env"
    monkeypatch.setattr(load, "ROOT", tmp_path)
    for size, is_read in ((load.ENV_BYTES_MAX, True), (load.ENV_BYTES_MAX + 1, False)):
        env.write_text("A=" + "b" * (size - 2))
        env.chmod(0o600)
        if is_read:
            assert len(load.env_file()["A"]) == size - 2
        else:
            with pytest.raises(ConfigError, match="larger than"):
                load.env_file()


def test_settings_of_one_byte_too_many_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("#" * load.TOML_BYTES_MAX)
    assert load.read_toml(path) == {}
    path.write_text("#" * (load.TOML_BYTES_MAX + 1))
    with pytest.raises(ConfigError, match="larger than"):
        load.read_toml(path)


@pytest.mark.parametrize(
    "url", ["http://broker.example", "ftp://broker.example", "https://ann:pw@broker.example", "http://[::1"]
)
def test_password_of_a_live_account_is_only_sent_encrypted_or_to_this_machine(url: str) -> None:
    assert "broker.base_url" in addresses.refusal(live(url))
    assert "pw" not in addresses.refusal(live(url))
    for good in ("https://broker.example", "http://127.0.0.1:8765", "http://localhost:1"):
        assert addresses.refusal(live(good)) == ""


def test_process_goes_without_secrets_that_are_not_its_own() -> None:
    llm = Llm(api_key_env="A_KEY", endpoints={"x": LlmEndpoint(api_key_env="X_KEY")}, tradingagents_env=("NEWS",))
    settings = Settings(profile="x", llm=llm)
    names = {*entitled.everything(settings), "AWS_SECRET", "GH_TOKEN", "PATH", "PILOT_DATA"}
    kept = {role: names - entitled.withheld(role, settings, names) for role in ("llm", "store", "executor", "alerts")}
    assert kept["store"] == {"PATH", "PILOT_DATA"}
    assert kept["llm"] == {"PATH", "PILOT_DATA", "A_KEY", "X_KEY", "NEWS"}
    assert kept["executor"] == {"PATH", "PILOT_DATA", "PILOT_BROKER_PASSWORD"}
    assert kept["alerts"] == {"PATH", "PILOT_DATA", *entitled.USUAL}


def test_private_says_nothing_about_what_is_ours() -> None:
    found = os.stat(sys.executable)
    assert private.refusal(Path("x"), found, found.st_uid, 0) == ""


# ── the log ──

PHRASE = "PILOT_ACCOUNT_PHRASE"  # not named like a secret: the settings name it
SPEAKS = """
import sys
from pathlib import Path
from bus import actor
from bus.vocabulary import Role
from config import load
from store import actor as store
from supervisor import start

load.ROOT = Path(sys.argv[1])


def says(*_, **__):
    raise load.ConfigError("the peer said " + load.secret("PILOT_ACCOUNT_PHRASE"))


class Monitor(actor.Actor):
    role = Role.MONITOR
    warm_up = says
    __init__ = says


class Tree:
    def __init__(self, *_, **__):
        try:
            says()
        except load.ConfigError as error:
            start.logger.error("{}", error)

    def run(self):
        return 0


store.Gate.load = says
start.Tree = Tree
"""
SPEAKERS = {
    "actor": "actor.main(Monitor)",
    "spare": "import os; os.environ['PILOT_STANDBY_FD'] = '0'; actor.main(Monitor)",
    "store": "store.main()",
    "supervisor": "start.run_all({}, None, Path(sys.argv[2]))",
}


@pytest.mark.parametrize("where", ["environment", "credentials", ".env"])
@pytest.mark.parametrize("who", SPEAKERS)
def test_no_process_logs_a_secret_wherever_it_stands(who: str, where: str) -> None:
    secret = "Sw0rdfish-of-the-broker"
    with tempfile.TemporaryDirectory(prefix="pt", dir="/tmp") as name:
        folder = Path(name)
        (folder / "mine.toml").write_text(f"[broker]\npassword_env = '{PHRASE}'\n")
        environment = {
            **os.environ, "PILOT_DATA": str(folder / "data"), "PILOT_RUN": name, "PILOT_PROFILE": f"{name}/mine.toml",
        }  # fmt: skip
        (folder / "given").mkdir()
        if where == "environment":
            environment[PHRASE] = secret
        elif where == "credentials":
            environment["CREDENTIALS_DIRECTORY"] = f"{name}/given"
            (folder / "given" / PHRASE).write_text(secret)
            (folder / "given" / PHRASE).chmod(0o400)
        else:
            (folder / ".env").write_text(f"{PHRASE}={secret}\n")
            (folder / ".env").chmod(0o600)
        ended = subprocess.run(
            [sys.executable, "-c", SPEAKS + SPEAKERS[who], name, str(load.ROOT / "Procfile")],
            env=environment, cwd=load.ROOT, text=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
        )  # fmt: skip
        logs = "".join(path.read_text() for path in (folder / "data").rglob("*.log"))
    assert "the peer said ***" in ended.stdout, ended.stdout + ended.stderr
    assert secret not in ended.stdout + ended.stderr + logs
