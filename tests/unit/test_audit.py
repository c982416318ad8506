"""`make audit` fails on a known vulnerability, and only then."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tests.kit import audit

REPORT: dict[str, Any] = {
    "dependencies": [
        {"name": "good", "version": "1", "vulns": []},
        {"name": "bad", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]},
        {"name": "unknown", "skip_reason": "Dependency not found on PyPI and could not be audited"},
    ]
}


def test_vulnerability_is_named_with_the_version_that_mends_it() -> None:
    assert audit.verdict(REPORT) == (["bad 2: PYSEC-1, mended in 3"], 2)


@pytest.mark.parametrize(
    ("reachable", "report", "code", "said"),
    [
        (True, REPORT, 1, "VULNERABLE: bad 2"),
        (True, {"dependencies": REPORT["dependencies"][:1]}, 0, ""),
        (True, {"dependencies": REPORT["dependencies"][2:]}, 0, "not audited: none of them is known there"),
        (False, REPORT, 0, "not audited: ConnectTimeout"),
    ],
)
def test_build_fails_for_a_vulnerability_and_never_for_lack_of_a_network(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    reachable: bool,
    report: Any,
    code: int,
    said: str,
) -> None:
    monkeypatch.setattr(audit, "problem", lambda: "" if reachable else "ConnectTimeout")
    monkeypatch.setattr(audit, "audit", lambda _lock: audit.verdict(report))
    assert audit.main() == code
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (([], 1), ""),
        (([], 0), "whom we asked knows of no vulnerabilities"),
        (subprocess.TimeoutExpired("pip-audit", 1), "TimeoutExpired"),
        (ValueError("no report"), "ValueError"),
    ],
)
def test_mirror_without_vulnerabilities_is_not_taken_for_the_database(
    monkeypatch: pytest.MonkeyPatch, answer: Any, why: str
) -> None:
    def asked(*_: object, **__: object) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(audit, "audit", asked)
    assert audit.problem() == why
