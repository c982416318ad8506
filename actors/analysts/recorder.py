"""Writes every call to a language model down: one file a worker, beside the database, limited in size, secrets masked.

Used by the llm process. A kill cuts at most the last line. Trouble with the disk stops the recording and nothing else:
it is said once, and tried again with every call. Never records a replay.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec
from loguru import logger

from actors.analysts import calling, prompts
from actors.analysts.analyst import AnalysisError, Unavailable
from actors.analysts.answer import Schema
from actors.analysts.chat import Completer, Reply
from actors.analysts.masking import Masker
from actors.analysts.prompts import ChatMessage
from actors.analysts.recordings import Call
from bus import clock, failpoints
from bus.clock import Clock
from bus.failpoints import FailpointError
from config.settings import Llm

ERROR_CHARS_MAX = 1_000
TAIL_BYTES = 65_536  # read at a time when the end of the last whole line is looked for


class Recorder:
    """The file of one worker, `NAME.jsonl`, and the full ones before it, `NAME.000001.jsonl` and so on.

    Only the process that holds the lock of this name writes. Nothing is opened before the first call.
    """

    def __init__(self, folder: Path, name: str, settings: Llm, secrets: Collection[str]) -> None:
        self._folder = folder
        self._path = folder / f"{name}.jsonl"
        self._name = name
        self._bytes_max = settings.recording_bytes_max
        self._kept = settings.recordings_kept
        self._with_prompts = settings.record_prompts
        self._masked = Masker(secrets)
        self._file = -1
        self._size = 0
        self._missed = 0  # calls since the trouble began

    def write(self, call: Call) -> None:
        """Append one call. Raises nothing that a disk can do: without a record an analysis is as good as with one."""
        line = self._line(call)
        if len(line) > self._bytes_max:
            logger.warning("A call of {} bytes was not recorded; allowed {}", len(line), self._bytes_max)
            return
        try:
            self._append(line)
        # FailpointError: what a test makes of the disk.
        except (OSError, FailpointError) as error:
            self.close()  # the next call looks at the file anew, and cuts what was half written
            self._missed += 1
            if self._missed == 1:
                logger.warning("Calls are not recorded until the disk takes them again: {}", error)
            return
        if self._missed:
            logger.info("Calls are recorded again; {} are missing", self._missed)
            self._missed = 0

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _line(self, call: Call) -> bytes:
        masked = self._masked
        reply, prompt = call.reply, call.prompt if self._with_prompts else None
        if reply is not None:
            reply = msgspec.structs.replace(
                reply, content=masked(reply.content), refusal=masked(reply.refusal), model=masked(reply.model)
            )
        if prompt is not None:
            prompt = [{"role": one["role"], "content": masked(one["content"])} for one in prompt]
        kept = msgspec.structs.replace(call, reply=reply, prompt=prompt, error=masked(call.error)[:ERROR_CHARS_MAX])
        return msgspec.json.encode(kept) + b"\n"

    # ── the file ────────────────────────────────────────────────────────────

    def _append(self, line: bytes) -> None:
        if self._file < 0:
            self._open()
        if self._size and self._size + len(line) > self._bytes_max:
            self._rotate()
        failpoints.reach("llm.before_record")  # one line of the recording; not synced: it is no promise
        written = os.write(self._file, line)
        if written != len(line):
            raise OSError(f"{self._path}: only {written} of {len(line)} bytes were written")
        failpoints.reach("llm.after_record")
        self._size += written

    def _open(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._size = os.fstat(self._file).st_size
        whole = self._whole_lines()
        if whole != self._size:
            failpoints.reach("llm.before_repair_recording")  # cutting off half a line that a kill left
            os.ftruncate(self._file, whole)
            failpoints.reach("llm.after_repair_recording")
            self._size = whole

    def _whole_lines(self) -> int:
        """Return where the last whole line ends."""
        end = self._size
        while end:
            begin = max(0, end - TAIL_BYTES)
            if (at := os.pread(self._file, end - begin, begin).rfind(b"\n")) >= 0:
                return begin + at + 1
            end = begin
        return 0

    def _rotate(self) -> None:
        """Give the full file its number, begin a new one, and remove the oldest beyond `llm.recordings_kept`."""
        full = self._full()
        number = int(full[-1].suffixes[-2][1:]) + 1 if full else 1
        self.close()
        failpoints.reach("llm.before_rotate_recording")  # the full file gets its number
        self._path.rename(self._folder / f"{self._name}.{number:06d}.jsonl")
        failpoints.reach("llm.after_rotate_recording")
        full = self._full()
        for old in full[: max(0, len(full) - self._kept)]:
            old.unlink(missing_ok=True)
        self._open()

    def _full(self) -> list[Path]:
        return sorted(self._folder.glob(f"{self._name}.[0-9][0-9][0-9][0-9][0-9][0-9].jsonl"))


class RecordingCompleter:
    """A `chat.Completer` that writes down what another one is asked and answers. Changes neither."""

    def __init__(self, name: str, inner: Completer, recorder: Recorder, clock: Clock, *, model: str) -> None:
        """`name` is the endpoint's in the settings, `model` the one that it is asked for."""
        self.host = inner.host
        self.is_metered = inner.is_metered
        self._name = name
        self._model = model
        self._inner = inner
        self._recorder = recorder
        self._clock = clock

    async def start(self) -> None:
        """Do what the other does. Its look at the endpoint is no call of an analyst and is not written down."""
        await self._inner.start()

    def is_available(self) -> bool:
        """Return what the other says."""
        return self._inner.is_available()

    async def probe(self) -> None:
        """Do what the other does. A probe is no call of an analyst."""
        await self._inner.probe()

    async def close(self) -> None:
        """Close the connections and the file."""
        await self._inner.close()
        self._recorder.close()

    async def complete(self, asked: list[ChatMessage], schema: Schema, deadline_s: float) -> Reply:
        """Return the other's reply, or raise what it raises, once it is written down."""
        began = self._clock.monotonic()
        about = calling.analysis()
        role, prompt_sha256 = calling.role(), prompts.digest(asked)
        number = calling.count(about, role, prompt_sha256)

        call = Call(
            at="", intent_id=about.intent_id, subject=about.subject, epoch=about.epoch, attempt=about.attempt,
            endpoint=self._name, host=self.host, model=self._model, role=role, call=number,
            prompt_sha256=prompt_sha256, prompt=asked,
        )  # fmt: skip
        try:
            reply = await self._inner.complete(asked, schema, deadline_s)
        except Unavailable:
            raise  # nothing was asked
        except AnalysisError as error:
            self._record(call, began, error=str(error))
            raise
        except asyncio.CancelledError:
            self._record(call, began, error="cancelled: deadline, stop or withdrawn lease", is_cancelled=True)
            raise
        self._record(call, began, reply=reply, latency_ms=reply.latency_ms)
        return reply

    def _record(self, call: Call, began: float, **end: Any) -> None:
        took_ms = round(1_000 * (self._clock.monotonic() - began))
        ended = {"at": clock.iso(self._clock.now()), "latency_ms": took_ms} | end
        self._recorder.write(msgspec.structs.replace(call, **ended))
