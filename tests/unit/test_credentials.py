"""Secrets as files of one folder: which are read, which are refused, and what comes before what."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import credentials, load

NAME = "PILOT_BROKER_PASSWORD"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder of credentials and a root without `.env`."""
    found = tmp_path / "credentials"
    found.mkdir(mode=0o700)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(found))
    monkeypatch.setattr(load, "ROOT", tmp_path)
    monkeypatch.delenv(NAME, raising=False)
    monkeypatch.delenv(load.READ_ONLY, raising=False)
    return found


def put(folder: Path, name: str, value: str | bytes, mode: int = 0o400) -> Path:
    path = folder / name
    path.write_bytes(value if isinstance(value, bytes) else value.encode())
    path.chmod(mode)
    return path


# ── refusals ──


@pytest.mark.parametrize("mode", [0o404, 0o444, 0o420, 0o402, 0o410, 0o644, 0o666])
def test_file_that_others_may_read_or_anybody_else_may_change_is_refused(folder: Path, mode: int) -> None:
    put(folder, NAME, "swordfish", mode)
    with pytest.raises(load.ConfigError, match=rf"mode is {mode:04o}; allowed 0400, 0440, 0600") as refused:
        load.secret(NAME)
    assert "swordfish" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "why"), [(b"\xff\xfe", "no UTF-8 text"), (b"x" * (credentials.BYTES_MAX + 1), "larger than 65536")]
)
def test_file_that_is_no_secret_is_refused(folder: Path, content: bytes, why: str) -> None:
    put(folder, NAME, content)
    with pytest.raises(load.ConfigError, match=why):
        load.secret(NAME)


def test_folder_that_is_not_there_is_refused(folder: Path) -> None:
    folder.rmdir()
    with pytest.raises(load.ConfigError, match=r"CREDENTIALS_DIRECTORY: cannot read .*No such file"):
        load.secret(NAME)


def test_folder_with_too_much_in_it_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "FILES_MAX", 1)
    put(folder, "A", "1"), put(folder, "B", "2")
    with pytest.raises(load.ConfigError, match="has 2 entries; allowed: 1"):
        load.secret(NAME)


def test_empty_placeholder_is_no_secret(folder: Path) -> None:
    put(folder, NAME, "\n")
    with pytest.raises(load.ConfigError, match=f"secret {NAME} is not set"):
        load.secret(NAME)


# ── what is read ──


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640])
def test_secret_is_read_as_systemd_engines_and_kubernetes_mount_it(folder: Path, mode: int) -> None:
    put(folder, NAME, "sword\nfish \r\n", mode)
    assert load.secret(NAME) == "sword\nfish "


def test_links_of_a_kubernetes_volume_are_followed_and_its_folders_passed_over(folder: Path) -> None:
    version = folder / "..2026_11_28"
    version.mkdir()
    put(version, NAME, "swordfish", 0o440)
    (folder / "..data").symlink_to(version.name)
    (folder / NAME).symlink_to(f"..data/{NAME}")
    put(folder, "other.conf", "not ours", 0o644)
    assert load.credentials() == {NAME: "swordfish"}


def test_environment_comes_before_credentials_and_those_before_the_env_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = load.ROOT / ".env"
    env.write_text(f"{NAME}=from-the-env-file\nPILOT_PING_URL=only-there\n")
    env.chmod(0o600)
    put(folder, NAME, "from-the-credentials")
    assert load.secret(NAME) == "from-the-credentials"
    # Whoever starts processes puts this into their environment: it must not hide the credential.
    assert load.env_file() == {"PILOT_PING_URL": "only-there"}
    monkeypatch.setenv(NAME, "from-the-environment")
    assert load.secret(NAME) == "from-the-environment"
    monkeypatch.delenv(NAME)
    (folder / NAME).unlink()
    assert load.secret(NAME) == "from-the-env-file"


def test_credentials_are_masked_and_named_whatever_they_are_called(folder: Path) -> None:
    put(folder, "PILOT_TELEGRAM_CHAT", "1234567890")
    assert "1234567890" in load.secret_values()
    assert ("PILOT_TELEGRAM_CHAT", "***", "credentials") in load.variables()


@pytest.mark.parametrize(("said", "is_read_only"), [("1", True), ("0", False)])
def test_read_only_may_be_said_by_a_credential_and_hides_no_other(folder: Path, said: str, is_read_only: bool) -> None:
    put(folder, load.READ_ONLY, said)
    assert load.is_read_only() is is_read_only
    env = load.ROOT / ".env"
    env.write_text("PILOT_READONLY=1\n")
    env.chmod(0o600)
    assert load.is_read_only()
