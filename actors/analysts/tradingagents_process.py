"""One process of another interpreter for one analysis: started, talked to, read within bounds, killed with its group.

Used by the llm process for `llm.analyst = "tradingagents"`. The process gets an environment of its own and nothing of
ours. It ends with us, however we end: its standard input is the lifeline. Knows nothing of trading.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
from loguru import logger
from msgspec import Struct

from actors.analysts.analyst import AnalysisError
from actors.console import text
from bus import failpoints

CHILD = Path(__file__).with_name("tradingagents_child.py")
ANSWER_BYTES_MAX = 2_097_152
CHUNK_BYTES = 65_536
LINE_BYTES_MAX = 16_384  # of what it says on standard error; the rest of a longer line is dropped
LINES_MAX = 60  # of these in our log, for one analysis
LINE_CHARS_MAX = 300
TAIL_LINES = 3
REAP_S = 2.0
SECRET_CHARS_MIN = 4  # shorter ones would mask half of every text


class Answer(Struct, frozen=True, kw_only=True):
    """What the process answers: to a look `found`, to an analysis `signal` and `final_state`, or an error."""

    found: bool | None = None
    version: str = ""
    signal: str | None = None
    final_state: msgspec.Raw = msgspec.Raw(b"null")
    context: str = ""
    error: str = ""


class Masks:
    """Values that must be in no log and no record, as they are and as JSON writes them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        plain = {secret for secret in secrets if len(secret) >= SECRET_CHARS_MIN}
        escaped = {msgspec.json.encode(secret).decode()[1:-1] for secret in plain}
        self._hidden = sorted(plain | escaped, key=len, reverse=True)

    def over(self, said: str) -> str:
        """Return the text with `***` in place of every secret."""
        for secret in self._hidden:
            said = said.replace(secret, "***")
        return said


class Runner:
    """Starts these processes, and ends those that are left. Each has its own session, so that its group is killed."""

    def __init__(self, python: str, folder: Path, env: Mapping[str, str], masks: Masks) -> None:
        self._python = python
        self._folder = folder
        self._env = env
        self._masks = masks
        self._living: set[asyncio.subprocess.Process] = set()

    async def run(self, job: Mapping[str, object], folder: str, deadline_s: float) -> Answer:
        """Return the answer to a job. Whatever happens, the process and all it started are dead when this returns.

        `folder`, below ours, becomes its working folder, its home and its place for caches.

        Raises:
            OSError: the interpreter cannot be started.
            AnalysisError: it took longer than `deadline_s` seconds, died, or its answer is none.
        """
        own = self._folder / folder
        (own / "tmp").mkdir(mode=0o700, parents=True, exist_ok=True)
        process = await self._begin(own)
        complaints = _Complaints(self._masks)
        listening = asyncio.create_task(complaints.listen(process))
        try:
            async with asyncio.timeout(deadline_s):
                line = await _talk(process, msgspec.json.encode(job) + b"\n")
        except TimeoutError as error:
            raise AnalysisError(f"TradingAgents gave no answer within {deadline_s:.0f} s and was killed") from error
        finally:
            self._end(process)
            await self._reap(process, listening)
        return self._read(line, complaints)

    async def close(self) -> None:
        """Kill what still runs and wait for its end."""
        for process in tuple(self._living):
            self._end(process)
            await _gone(process)

    async def _begin(self, own: Path) -> asyncio.subprocess.Process:
        home = str(own)
        env = {
            "PATH": f"{Path(self._python).parent}:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8",
            "HOME": home, "TMPDIR": str(own / "tmp"), "XDG_CACHE_HOME": str(own / "cache"),
            "TRADINGAGENTS_RESULTS_DIR": str(own / "results"), "TRADINGAGENTS_CACHE_DIR": str(own / "cache"),
            "TRADINGAGENTS_MEMORY_LOG_PATH": str(own / "memory.md"), **self._env,
        }  # fmt: skip
        failpoints.reach("llm.before_spawn")  # starting the process of one analysis
        # -I: neither our folder nor PYTHONPATH may lend that interpreter a module; one of ours is called openai.
        process = await asyncio.create_subprocess_exec(
            self._python, "-I", str(CHILD),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            cwd=home, env=env, start_new_session=True,
        )  # fmt: skip
        failpoints.reach("llm.after_spawn")
        self._living.add(process)
        return process

    def _end(self, process: asyncio.subprocess.Process) -> None:
        """Kill the process and its group. Its first process never ends by itself, so the number is still its own."""
        failpoints.reach("llm.before_kill")  # ending the process of one analysis with all that it started
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        failpoints.reach("llm.after_kill")

    async def _reap(self, process: asyncio.subprocess.Process, listening: asyncio.Task[None]) -> None:
        """Wait until the killed process and its three pipes are gone, so that nothing of it is left in the loop."""
        if process.stdin is not None:
            process.stdin.close()
        await _gone(process)
        self._living.discard(process)
        # Somebody who left the group may still hold the other end of a pipe.
        draining = asyncio.create_task(_drain(process))
        await asyncio.wait((listening, draining), timeout=REAP_S)
        listening.cancel()
        draining.cancel()

    def _read(self, line: bytes, complaints: _Complaints) -> Answer:
        if len(line) > ANSWER_BYTES_MAX:
            raise AnalysisError(f"TradingAgents answered with more than {ANSWER_BYTES_MAX} bytes")
        try:
            answer = msgspec.json.decode(self._masks.over(line.decode()), type=Answer)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise AnalysisError(f"the answer of TradingAgents is none: {error}{complaints.tail()}") from error
        if answer.error:
            raise AnalysisError(f"TradingAgents failed: {text.line(answer.error, LINE_CHARS_MAX)}{complaints.tail()}")
        return answer


class _Complaints:
    """What the process says on standard error: bounded, masked, into our log."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self._count = 0
        self._last: list[str] = []

    async def listen(self, process: asyncio.subprocess.Process) -> None:
        """Read to the end of the stream, and keep no more than a line of it."""
        if process.stderr is None:
            raise AnalysisError("the process has no pipes")
        line, too_long = bytearray(), False
        while chunk := await process.stderr.read(CHUNK_BYTES):
            for part in chunk.splitlines(keepends=True):
                if not too_long:
                    line += part
                is_whole = part.endswith((b"\n", b"\r"))
                if not too_long and (is_whole or len(line) > LINE_BYTES_MAX):
                    self._say(bytes(line[:LINE_BYTES_MAX]))
                    line.clear()
                    too_long = not is_whole
                elif is_whole:
                    too_long = False
        self._say(bytes(line))

    def tail(self) -> str:
        """Return the last lines, for an error message."""
        return f"; it said last: {' | '.join(self._last)}" if self._last else ""

    def _say(self, raw: bytes) -> None:
        # Masked before it is cut: half a secret is a secret, too.
        line = text.line(self._masks.over(raw.decode(errors="replace")), LINE_CHARS_MAX)
        if not line:
            return
        self._last = [*self._last[1 - TAIL_LINES :], line]
        self._count += 1
        if self._count <= LINES_MAX:
            logger.info("TradingAgents: {}", line)
        elif self._count == LINES_MAX + 1:
            logger.info("TradingAgents says more; only its first {} lines are logged", LINES_MAX)


async def _talk(process: asyncio.subprocess.Process, job: bytes) -> bytes:
    """Hand over the job and return the first line of the answer, at most `ANSWER_BYTES_MAX` and one chunk."""
    if process.stdin is None or process.stdout is None:
        raise AnalysisError("the process has no pipes")
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died already; what it said tells why
        process.stdin.write(job)
        await process.stdin.drain()
    found = bytearray()
    while b"\n" not in found and len(found) <= ANSWER_BYTES_MAX:
        chunk = await process.stdout.read(CHUNK_BYTES)
        if not chunk:
            break
        found += chunk
    return bytes(found.partition(b"\n")[0])


async def _drain(process: asyncio.subprocess.Process) -> None:
    """Read and drop what is left of standard output."""
    while process.stdout is not None and await process.stdout.read(CHUNK_BYTES):
        pass


async def _gone(process: asyncio.subprocess.Process) -> None:
    """Wait for the end of a killed process; one that the kernel does not let go is left to it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REAP_S):
            await process.wait()
