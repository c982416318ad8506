"""What is kept of a call to a language model, as one line of JSON, and how such lines are read back.

Used by the llm process: written by `recorder`, read by `replay`. Half a line, which a kill leaves, is no call and no
error. Never touches the network. The format: docs/recordings.md.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from actors.analysts.chat import Reply
from actors.analysts.prompts import ChatMessage
from config.load import ConfigError

FOLDER = "recordings"  # in the data folder
READ_BYTES_MAX = 536_870_912  # of all files of a replay together


class Call(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call: what was asked, and the reply, or why there was none. `at` is the end of it."""

    at: str
    intent_id: str = ""
    subject: str = ""  # the intent's idempotency key: the same in every run
    epoch: int = 0
    attempt: int = 0
    endpoint: str = ""  # its name in the settings
    host: str = ""
    model: str = ""  # the one that was asked for; the reply names the one that answered
    role: str = ""
    call: int = 1  # its number among those of this role and prompt in this analysis
    prompt_sha256: str
    prompt: list[ChatMessage] | None = None
    reply: Reply | None = None
    error: str = ""
    is_cancelled: bool = False  # we did not wait for the end of it
    latency_ms: int = 0


class Recording(Struct, frozen=True):
    """All calls of some files, oldest first, and how many lines were none."""

    calls: list[Call]
    skipped: int


def read(path: Path, *, bytes_max: int = READ_BYTES_MAX) -> Recording:
    """Return the calls in a file, or in every `*.jsonl` of a folder. Prompts are left out: nothing replays them.

    Raises:
        ConfigError: there is nothing at `path`, it cannot be read, or it is larger than `bytes_max`.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise ConfigError(f"llm.replay_path: the folder {path} holds no recording (*.jsonl)")
    calls: list[Call] = []
    skipped = 0
    decoder = msgspec.json.Decoder(Call)
    try:
        if (size := sum(one.stat().st_size for one in files)) > bytes_max:
            raise ConfigError(f"llm.replay_path: {path} holds {size} bytes; allowed {bytes_max}")
        for one in files:
            with one.open("rb") as file:
                for line in file:
                    try:
                        found = decoder.decode(line)
                    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                        skipped += 1
                        continue
                    calls.append(msgspec.structs.replace(found, prompt=None))
    except OSError as error:
        raise ConfigError(f"llm.replay_path: {path}: {error.strerror or error}") from error
    return Recording(sorted(calls, key=lambda call: call.at), skipped)
