"""`make audit`: known vulnerabilities of the pinned packages. Fails on one; says so when nobody could be asked.

Asks for one package first, for at most `PROBE_S`, so that a machine without the network for it loses no time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
LOCKS = ("requirements.lock", "requirements-bench.lock", "requirements-image.lock")
PROBE = "pip==24.0"  # known wherever vulnerabilities are
PROBE_S = 8.0
AUDIT_S = 180.0
SHOWN_MAX = 50


def problem() -> str:
    """Return why vulnerabilities cannot be asked for, or ""."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(PROBE)
        file.flush()
        try:
            _, audited = audit(file.name, "--no-deps", seconds=PROBE_S)
        except (subprocess.TimeoutExpired, ValueError) as error:
            return type(error).__name__
    return "" if audited else "whom we asked knows of no vulnerabilities"


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


def audit(lock: str, how: str = "--require-hashes", *, seconds: float = AUDIT_S) -> tuple[list[str], int]:
    """Return what pip-audit finds in a lock file, and how many packages it audited.

    Raises:
        TimeoutExpired: it took longer.
        ValueError: it had no report.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", "--disable-pip", how, "-r", lock, "-f", "json",
         "--progress-spinner", "off"],
        cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False,
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
