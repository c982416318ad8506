"""Start and stop the servers that `make accept` has fetched, on free loopback ports. A missing one skips the test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.accept import install
from tests.kit.eventually import eventually
from tests.kit.pipeline import free_port

START_S = 180.0
CONTEXT_TOKENS = 2_048
MODEL = "smollm2"


def needs(*names: str) -> None:
    """Skip the test, with one line that says what is missing."""
    for name in names:
        if reason := install.why_missing(name):
            pytest.skip(f"not on this machine: {reason}")


@contextlib.contextmanager
def llama(folder: Path) -> Iterator[str]:
    """Serve the real small model, on the processor alone; yield its base URL."""
    needs("model", "llama")
    port = free_port()
    command = (
        str(install.LLAMA), "--model", str(install.MODEL), "--alias", MODEL, "--host", "127.0.0.1",
        "--port", str(port), "-ngl", "0", "--device", "none", "-c", str(CONTEXT_TOKENS), "--parallel", "1",
    )  # fmt: skip
    with _serving(command, folder / "llama.log", f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}/v1"


class Aimock:
    """A stand-in for a model that answers from fixtures and hurts as it is told."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self.base_url = f"{self._url}/v1"

    def hurt(self, **chaos: float) -> None:
        """Let every request meet this: rates from 0 to 1, or `latencyMs`. Nothing given: none any more."""
        answer = httpx.request("POST", f"{self._url}/__aimock/chaos", json=chaos, trust_env=False)
        assert answer.status_code == 200, answer.text

    def asked(self) -> int:
        """Return how many questions it has been asked so far."""
        found: list[dict[str, Any]] = httpx.get(f"{self._url}/v1/_requests", trust_env=False).json()
        return sum(str(one.get("path", "")).endswith("/chat/completions") for one in found)


@contextlib.contextmanager
def aimock(folder: Path, fixtures: str) -> Iterator[Aimock]:
    """Serve these fixtures."""
    needs("aimock")
    path = folder / "fixtures.json"
    path.write_text(fixtures)
    port = free_port()
    command = ("node", str(install.AIMOCK), "--port", str(port), "--fixtures", str(path), "--log-level", "warn")
    with _serving(command, folder / "aimock.log", f"http://127.0.0.1:{port}/v1/_requests"):
        yield Aimock(port)


@contextlib.contextmanager
def _serving(command: tuple[str, ...], log: Path, ready: str) -> Iterator[None]:
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        eventually(lambda: _answers(ready) or _has_ended(process, log), START_S)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=5.0).status_code == 200
    except httpx.TransportError:
        return False


def _has_ended(process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, f"the server ended with {process.returncode}: {log.read_text()[-2_000:]}"
    return False
