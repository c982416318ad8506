"""`make audit`: known vulnerabilities of the pinned packages. Fails on one; says so when nobody could be asked.

Asks pypi.org for one package first, for at most `PROBE_S`, so that a machine without that network loses no time.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parent.parent.parent
LOCKS = ("requirements.lock", "requirements-bench.lock")
PROBE = "https://pypi.org/pypi/pip/json"
PROBE_S = 4.0
AUDIT_S = 180.0
SHOWN_MAX = 50


def problem(get: Any = httpx.get) -> str:
    """Return why the database of vulnerabilities cannot be asked, or ""."""
    try:
        answer = get(PROBE, timeout=PROBE_S)
        found = answer.json() if answer.status_code == 200 else {}
    except (httpx.HTTPError, ValueError) as error:
        return type(error).__name__
    return "" if "vulnerabilities" in found else f"{PROBE} answered {answer.status_code} without vulnerabilities"


def verdict(report: dict[str, Any]) -> tuple[list[str], int]:
    """Return what was found in a report of pip-audit, and how many packages were audited."""
    packages = report.get("dependencies", [])
    audited = [one for one in packages if "vulns" in one]
    found = [
        f"{one['name']} {one['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'no version yet'}"
        for one in audited
        for hole in one["vulns"]
    ]
    return found, len(audited)


def audit(lock: str) -> tuple[list[str], int]:
    """Return what pip-audit finds in a lock file, and how many packages it audited."""
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "-r", lock, "-f", "json",
         "--progress-spinner", "off"],
        cwd=ROOT, capture_output=True, text=True, timeout=AUDIT_S, check=False,
    )  # fmt: skip
    return verdict(json.loads(done.stdout))


def main() -> int:
    """Audit every lock file; return 1 for a known vulnerability, else 0."""
    why = problem()
    found: list[str] = []
    audited = 0
    for lock in () if why else LOCKS:
        try:
            more, count = audit(lock)
        except (subprocess.TimeoutExpired, ValueError) as error:
            why = f"{lock}: {type(error).__name__}"
            break
        found += more
        audited += count
    for one in sorted(set(found))[:SHOWN_MAX]:
        sys.stdout.write(f"VULNERABLE: {one}\n")
    if why or not audited:
        sys.stdout.write(f"The pinned packages were not audited: {why or 'none of them is known there'}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
