"""Every secret is a marker, every peer sends back what it was sent, every process fails: nothing written holds one.

One pipeline. The broker, the language model, Telegram, the second channel and the ping are one server that refuses and
quotes: headers, address and body, as they came.
"""

from __future__ import annotations

import contextlib
import json
import signal
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from bus import masking
from tests.kit import pipeline
from tests.kit.pipeline import Pipeline, free_port

SECRETS = {
    "PILOT_BROKER_PASSWORD": 'brk"pw/Zq7+Vd2=&x9',
    "PILOT_LLM_API_KEY": "llmkeyRt5Wm1Kp8Xs3Zd",
    "PILOT_TELEGRAM_TOKEN": "7350912846:AAHq9TgTok3nXw5VbN2mKj7LpQ",
    "PILOT_TELEGRAM_CHAT": "-1009318274650",
    "PILOT_DASHBOARD_TOKEN": "dash/Tok+Ue4Hn6Yc0Bf",
    "PILOT_TWELVEDATA_KEY": "12dkeyPq3Vr9Lw7Nz1Te",
}
OWN = {
    "executor": {"PILOT_BROKER_PASSWORD"}, "monitor": {"PILOT_BROKER_PASSWORD"}, "llm": {"PILOT_LLM_API_KEY"},
    "alerts": {"PILOT_TELEGRAM_TOKEN", "PILOT_TELEGRAM_CHAT", "PILOT_ALERT_URLS", "PILOT_PING_URL"},
    "dashboard": {"PILOT_DASHBOARD_TOKEN"}, "store": set(), "scanner": {"PILOT_TWELVEDATA_KEY"},
}  # fmt: skip
READY_S = 60.0
BYTES_MIN = 20_000  # less than that was not written by a pipeline that worked and failed
asked: list[str] = []


class Echo(BaseHTTPRequestHandler):
    """Refuses everything and says what it was sent, in JSON."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode(errors="replace")
        asked.append(f"{self.path} {self.headers} {body}")
        is_list = self.path.endswith("/models")
        said = {
            "ok": False, "error_code": 401, "description": f"no {self.path}", "error": {"message": str(self.headers)},
            "errorMessage": f"{body} {self.path}", "you_sent": [body, str(self.headers)],
        }  # fmt: skip
        content = json.dumps({"data": [{"id": "m"}]} if is_list else said).encode()
        self.send_response(200 if is_list else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def echo() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def planted() -> Iterator[tuple[Pipeline, dict[str, str]]]:
    with (
        echo() as url,
        pipeline.running(
            broker={"kind": "platform"},
            llm={
                "analyst": "openai",
                "base_url": f"{url}/v1",
                "model": "m",
                "deadline_s": 3.0,
                "api_key_env": "PILOT_LLM_API_KEY",
            },
            alerts={
                "telegram_url": url,
                "coalesce_s": 0.0,
                "gap_s": 0.0,
                "poll_s": 0,
                "ping_s": 0.5,
                "escalate_s": 0.0,
            },
            dashboard={"port": free_port()},
            supervisor={"watchdog_s": 20.0, "restarts_max": 100},
            bus={"dead_s": 10.0},
        ) as run,
    ):
        port = url.rpartition(":")[2]
        run.profile.write_text(run.profile.read_text().replace(run.url, url))
        secrets = SECRETS | {
            "PILOT_ALERT_URLS": f"json://ann:urlpwXc8Mv2Jq6Gs@127.0.0.1:{port}/second",
            "PILOT_PING_URL": f"{url}/ping/pingidFw4Kz9Tb1Ry7",
        }
        run.env |= secrets | {"LOG_LEVEL": "DEBUG"}
        yield run, secrets


def markers(secrets: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Return every form of every secret, and of the parts that are secret on their own."""
    parts = secrets | {
        "token part": "AAHq9TgTok3nXw5VbN2mKj7LpQ",
        "url part": "urlpwXc8Mv2Jq6Gs",
        "ping part": "pingidFw4Kz9Tb1Ry7",
    }
    return {name: masking.forms((value,)) for name, value in parts.items()}


def unpacked(path: Path) -> bytes:
    """Return what a file holds, archives opened."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as found:
            return b"".join(found.read(name) for name in found.namelist())
    if path.name.endswith((".tar.gz", ".tgz")):
        with tarfile.open(path) as packed:
            return b"".join(one.read() for member in packed if (one := packed.extractfile(member)) is not None)
    return path.read_bytes()


def found_in(where: str, content: bytes, wanted: dict[str, tuple[str, ...]]) -> list[str]:
    return [f"{name} in {where}" for name, forms in wanted.items() if any(form.encode() in content for form in forms)]


def said_by_commands(run: Pipeline) -> Iterator[tuple[str, bytes]]:
    for command, *arguments in (
        ("supervisor", "status", "--json"), ("pilot", "config", "show", "--redacted"),
        ("pilot", "doctor", "--json"), ("pilot", "bundle", "--to", str(run.folder / "bundle.tar.gz")),
        ("pilot", "alerts"), ("pilot", "why", "EURUSD"),
    ):  # fmt: skip
        done = run.run(*arguments, command=command)
        yield f"{command} {' '.join(arguments[:2])}", (done.stdout + done.stderr).encode()


def said_by_pages(run: Pipeline) -> Iterator[tuple[str, bytes]]:
    for path in ("/", "/metrics", "/healthz", "/login", "/nothing-here"):
        answer = httpx.get(f"http://127.0.0.1:{run.dashboard_port}{path}", trust_env=False, timeout=10)
        yield f"GET {path}", answer.content + str(answer.headers).encode()


def environments(run: Pipeline) -> dict[str, set[str]]:
    """Return the names of planted secrets that each process has in its environment."""
    found = {}
    for pid, command in run.processes().items():
        entries = (Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0")
        names = {one.partition(b"=")[0].decode() for one in entries}
        title = (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        role = title.partition("pilot: ")[2].partition(".")[0] or command
        found[role] = names & {*SECRETS, "PILOT_ALERT_URLS", "PILOT_PING_URL"}
    return found


def test_no_secret_stands_in_anything_that_is_written_shown_or_handed_on() -> None:
    asked.clear()
    with planted() as (run, secrets):
        procfile = run.folder / "Procfile"
        procfile.write_text("".join(f"{name}: exec supervisor run {name}\n" for name in OWN))
        run.start("--procfile", str(procfile))
        wanted = markers(secrets)

        def was_sent(*names: str) -> bool:
            text = "\n".join(asked)
            return all(any(form in text for form in wanted[name]) for name in names)

        run.eventually(lambda: was_sent("PILOT_BROKER_PASSWORD"), READY_S)
        assert run.run("scale", "alerts=1", command="supervisor").returncode == 0
        run.eventually(lambda: was_sent("PILOT_LLM_API_KEY", "PILOT_TELEGRAM_TOKEN"), READY_S)
        leaks: list[str] = []
        for role, names in environments(run).items():
            if role in OWN:
                assert names <= OWN[role], f"{role} holds {names - OWN[role]}"
        assert {"store", "llm", "executor", "monitor"} <= environments(run).keys()
        for pid, _ in run.processes().items():
            leaks += found_in(f"cmdline of {pid}", (Path("/proc") / str(pid) / "cmdline").read_bytes(), wanted)
        for where, content in (*said_by_commands(run), *said_by_pages(run)):
            leaks += found_in(where, content, wanted)
        for point in ("broker.before_read", "llm.before_request", "alerts.before_message", "store.before_commit"):
            run.arm(point, "error")  # a traceback of each
        run.eventually(lambda: run.fired("broker.before_read") and run.fired("store.before_commit"), READY_S)
        run.eventually(lambda: "FailpointError" in run.console(), READY_S)
        run.stop(signal.SIGINT)
        written = [path for path in run.folder.rglob("*") if path.is_file() and path.name != "test.toml"]
        total = 0
        for path in written:
            content = unpacked(path)
            total += len(content)
            leaks += found_in(str(path.relative_to(run.folder)), content, wanted)
        assert leaks == []
        assert total > BYTES_MIN and any(path.name.startswith("bundle") for path in written)
        own = [path for path in written if path.is_relative_to(run.data)]
        open_to_others = [str(path) for path in own if path.stat().st_mode & 0o077]
        assert own and open_to_others == []
