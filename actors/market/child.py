"""Run one scan in a child process, so that training never stops the scanner from beating.

Runs in the scanner. The child has a time limit, dies with the scanner (its standard input is the lifeline), is killed
when the scanner stops, and can answer only with a `ScanResult`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import msgspec

from actors.market.errors import ScanError
from actors.market.job import ScanJob, ScanResult
from bus import failpoints
from config import load

RESULT_BYTES_MAX = 1_000_000
ERROR_BYTES_MAX = 4_000  # the end of what the child said before it died
COMMAND = (sys.executable, "-m", "actors.market.scan")

_decoder: msgspec.json.Decoder[ScanResult] = msgspec.json.Decoder(ScanResult)


async def run(
    job: ScanJob, *, stopping: asyncio.Event, limit_s: float, command: Sequence[str] = COMMAND
) -> ScanResult | None:
    """Return the child's result, or None when `stopping` was set first. The child has ended when this returns.

    Raises:
        ScanError: it could not be started, ran longer than `limit_s`, died, or wrote no result. Transient.
    """
    failpoints.reach("scanner.before_spawn")  # starting the child process of the scan
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=load.ROOT,
        )
    except OSError as error:
        raise ScanError(f"the scan could not be started: {error}", transient=True) from error
    failpoints.reach("scanner.after_spawn")
    talk = asyncio.create_task(_talk(process, msgspec.json.encode(job) + b"\n"))
    stop = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait((talk, stop), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if stopping.is_set() and process.returncode != 0:
            return None  # also when the stop's signal went to the whole group and ended the child first
        if talk.done():
            return _result(process, *talk.result())
        raise ScanError(f"the scan took longer than {limit_s:g} s and was killed", transient=True)
    finally:
        if process.returncode is None:
            failpoints.reach("scanner.before_kill")  # ending a scan that takes too long, or at a stop
            process.kill()
            failpoints.reach("scanner.after_kill")
        stop.cancel()
        # Ends because the child has ended; waited for so that neither pipe nor process is left behind.
        await asyncio.wait((talk,))
        await process.wait()


async def _talk(process: asyncio.subprocess.Process, line: bytes) -> tuple[bytes, bytes]:
    """Hand over the job and read both streams to their end. Standard input stays open until then."""
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise ScanError("the scan has no pipes")
    answer = asyncio.create_task(_read(process.stdout, RESULT_BYTES_MAX))
    complaint = asyncio.create_task(_read(process.stderr, ERROR_BYTES_MAX))
    try:
        process.stdin.write(line)
        await process.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass  # it died already; its exit code and error stream say why
    found = await answer, await complaint
    await process.wait()
    process.stdin.close()
    return found


async def _read(stream: asyncio.StreamReader, keep: int) -> bytes:
    """Read to the end of the stream; return at most the last `keep` bytes and one."""
    kept = bytearray()
    while chunk := await stream.read(65_536):
        kept += chunk
        del kept[: -keep - 1]
    return bytes(kept)


def _result(process: asyncio.subprocess.Process, answer: bytes, complaint: bytes) -> ScanResult:
    code = process.returncode
    if code is None or code != 0:
        said = complaint.decode(errors="replace").strip()
        ended = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        raise ScanError(f"the scan ended with {ended}: {said[-1_000:] or 'it said nothing'}", transient=True)
    if len(answer) > RESULT_BYTES_MAX:
        raise ScanError(f"the scan answered with more than {RESULT_BYTES_MAX} bytes", transient=True)
    try:
        return _decoder.decode(answer)
    except msgspec.DecodeError as error:
        raise ScanError(f"the scan's answer is no result: {error}", transient=True) from error
