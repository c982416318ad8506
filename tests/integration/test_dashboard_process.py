"""The dashboard as a process: refusals at start, open pages and the end, a page while no store runs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from bus.vocabulary import ExitCode
from config import load
from tests.kit import pipeline
from tests.kit.eventually import eventually
from tests.kit.pipeline import Pipeline


@pytest.fixture(scope="module")
def run() -> Iterator[Pipeline]:
    with pipeline.running(dashboard={"port": pipeline.free_port()}) as found:
        yield found


def start(run: Pipeline, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "actors.dashboard"],
        cwd=load.ROOT, env=run.env | env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=30)
    return process.returncode, said


def test_port_that_is_taken_ends_it_with_78_and_says_what_to_do(run: Pipeline) -> None:
    with socket.create_server(("127.0.0.1", run.dashboard_port)):
        code, said = ended(start(run))
    assert code == ExitCode.CONFIG
    assert f"dashboard.port {run.dashboard_port} on 127.0.0.1 cannot be used" in said
    assert "set dashboard.port to another one" in said


def test_short_token_ends_it_with_78_and_is_not_repeated(run: Pipeline) -> None:
    code, said = ended(start(run, PILOT_DASHBOARD_TOKEN="hunter2"))
    assert code == ExitCode.CONFIG
    assert "PILOT_DASHBOARD_TOKEN has 7 characters" in said and "hunter2" not in said


def test_it_serves_without_a_store_and_ends_at_once_with_a_page_open(run: Pipeline) -> None:
    process = start(run)
    url = f"http://127.0.0.1:{run.dashboard_port}"

    def front() -> str:
        try:
            return httpx.get(url, trust_env=False).text
        except httpx.TransportError:
            return ""

    try:
        assert "There is no database yet" in eventually(front, 30)
        idle = socket.create_connection(("127.0.0.1", run.dashboard_port))
        with idle, httpx.Client(trust_env=False) as client, client.stream("GET", f"{url}/events?page=/") as events:
            lines = events.iter_lines()
            assert next(lines) == "event: hello"
            os.kill(process.pid, signal.SIGTERM)
            list(lines)  # the stream has its end, and is not cut off
        code, said = ended(process)
        assert code == ExitCode.OK, said
        assert "leaving the rest to recovery" not in said and "Traceback" not in said
        assert f"Serves the dashboard on {url}; to act on it, set PILOT_DASHBOARD_TOKEN" in said
    finally:
        process.kill()
        process.wait()
