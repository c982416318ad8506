"""What a start does not load or work out twice: it bounds how long a killed process is away."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

from actors.broker import transport
from actors.compliance import rulebook
from bus import actor, logs, runtime
from bus.errors import LockHeld
from config import load
from store import rules as rule_numbers

LOADS = """
import sys
from bus import actor
{before}
actor._without_trio()
import httpcore
print(*(name for name in ("trio", "attr", "importlib.metadata") if sys.modules.get(name)))
"""


def loaded(before: str = "") -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADS.format(before=before)], cwd=load.ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_actor_does_not_load_trio_where_it_is_installed() -> None:
    assert loaded() == []


def test_what_is_loaded_before_trio_is_hidden_does_not_bring_it() -> None:
    assert loaded("import actors.executor, actors.monitor; assert 'httpcore' not in sys.modules") == []


def test_trio_that_somebody_loaded_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trio", os)
    actor._without_trio()
    assert sys.modules["trio"] is os


def test_file_that_did_not_change_is_parsed_once_and_a_changed_one_again(tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    path.write_text("[llm]\nslots = 2\n")
    first = load.settings(str(path))
    assert load.settings(str(path)) is first
    path.write_text("[llm]\nslots = 3\n")
    assert (first.llm.slots, load.settings(str(path)).llm.slots) == (2, 3)
    path.write_text("[llm]\nslots = 0\n")
    with pytest.raises(load.ConfigError, match=r"llm\.slots was 0"):
        load.settings(str(path))


@pytest.mark.parametrize("read", [rulebook.load, rule_numbers.read])
def test_rules_that_changed_are_read_anew(tmp_path: Path, read: type) -> None:
    path = tmp_path / "e8-signature-50k.toml"
    text = (load.RULES / path.name).read_text()
    path.write_text(text)
    first = read(str(path))
    assert read(str(path)) is first
    path.write_text(text + "\n# another remark\n")
    assert read(str(path)).fingerprint != first.fingerprint
    path.write_text("no rules")
    with pytest.raises(load.ConfigError, match="e8-signature-50k"):
        read(str(path))


def test_version_that_the_broker_is_told_is_the_installed_one() -> None:
    assert transport._version() == metadata.version("prop-firm-pilot")


def test_without_tls_no_certificate_is_believed() -> None:
    plain, checked = transport._tls("http://127.0.0.1:1"), transport._tls("https://broker.example")
    assert plain.get_ca_certs() == []
    assert checked.get_ca_certs()
    assert {plain.check_hostname, checked.check_hostname} == {True}


def test_python_is_as_it_was_once_a_log_is_set_up(tmp_path: Path) -> None:
    before = sysconfig.get_path
    with logs._paths_remembered():
        assert sysconfig.get_path("stdlib") == before("stdlib")
    assert sysconfig.get_path is before


def test_lock_names_its_holder_in_a_file_that_keeps_its_length(tmp_path: Path) -> None:
    path = tmp_path / "executor.lock"
    path.write_text("an older program, with a very long name " * 5)
    lengths = set()
    for owner in ("executor.1", "supervisor.executor.12", "pilot"):
        lock = runtime.acquire_lock(path, owner)
        with pytest.raises(LockHeld, match=rf"held by {owner} \(pid {os.getpid()}\)$"):
            runtime.acquire_lock(path, "another")
        lengths.add(path.stat().st_size)
        lock.release()
    assert len(lengths) == 1
