"""One readable line an event on standard output, and the same, dated, in `logs/<name>.log` under the data folder.

Times are UTC, as everywhere: a console in local time could not be laid beside the files, the page and the broker.

Used by every process at start. Text from outside is always an argument, never the format. Never a
secret, never a prompt.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from loguru import logger

from bus import masking
from config import entitled, load

if TYPE_CHECKING:
    from loguru import Record

FILE_BYTES_MAX = 5_000_000  # a number: loguru would load a parser for a text
FILES_KEPT = 5
SECRET_CHARS_MIN = 8  # shorter ones could not be told from ordinary words

_secrets: set[str] = set()
_hidden: tuple[str, ...] = ()

_path_of: Callable[..., str] = functools.cache(sysconfig.get_path)


def configure(name: str, folder: Path | None = None, *, stream: TextIO | None = None) -> None:
    """Send this process's log to standard output, or `stream`, and, when given, to a file in `folder`.

    `LOG_FORMAT=json` makes the former JSON lines.
    `enqueue` stays off: a queue would lose its lines with a kill. `diagnose` stays off: it would print values.
    """
    level = os.environ.get("LOG_LEVEL", "INFO").upper()
    as_json = os.environ.get("LOG_FORMAT") == "json"
    target = stream or sys.stdout
    logger.remove()
    hide_known()
    sys.excepthook = _uncaught
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Masking())
    logger.configure(extra={"actor": name}, patcher=_mask)
    with _paths_remembered():
        logger.add(
            target, level=level, format=_line, serialize=as_json, backtrace=False, diagnose=False, enqueue=False
        )  # fmt: skip
    if folder is not None:
        _add_file(name, folder, level)


def hide(secrets: Iterable[str]) -> None:
    """Never write these down, in whatever form: not in a message, not in a traceback."""
    global _hidden
    _secrets.update(one.strip() for one in secrets if len(one.strip()) >= SECRET_CHARS_MIN)
    _hidden = masking.forms(_secrets)


def hide_known(names: Iterable[str] = ()) -> None:
    """Never write down the variables `names`, nor what is named like a secret, wherever `load.secret` would find it.

    What cannot be read is passed over: whoever needs it says so, and a log must not keep a process from starting.
    """
    wanted = entitled.USUAL.union(names)
    hide(value for key, value in os.environ.items() if key in wanted or key.upper().endswith(entitled.ENDINGS))
    with contextlib.suppress(load.ConfigError):
        hide(load.secret_values(wanted))


def rename(name: str, folder: Path) -> None:
    """Go on under another name and begin its file: a spare that was configured without one has had its turn."""
    logger.configure(extra={"actor": name})
    _add_file(name, folder, os.environ.get("LOG_LEVEL", "INFO").upper())


def _add_file(name: str, folder: Path, level: str) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _paths_remembered():
        logger.add(
            folder / f"{name}.log", level=level, format=_dated_line, backtrace=False, diagnose=False, enqueue=False,
            rotation=FILE_BYTES_MAX, retention=FILES_KEPT,
        )  # fmt: skip


@contextlib.contextmanager
def _paths_remembered() -> Iterator[None]:
    """Answer loguru's questions for Python's folders from memory: 36 for each sink, 5 ms of every start and turn."""
    before, sysconfig.get_path = sysconfig.get_path, _path_of
    try:
        yield
    finally:
        sysconfig.get_path = before


def _fields(record: Record) -> str:
    """Return the bound fields as ` key=value`, safe to stand in a format string."""
    found = "".join(f" {key}={value}" for key, value in record["extra"].items() if key not in ("actor", "fields"))
    record["extra"]["fields"] = found
    return "{extra[fields]}" if found else ""


def _line(record: Record) -> str:
    return "{time:HH:mm:ss.SSS!UTC}Z {level: <7} {extra[actor]: <11} {message}" + _fields(record) + "\n{exception}"


def _dated_line(record: Record) -> str:
    return (
        "{time:YYYY-MM-DD!UTC}T" + "{time:HH:mm:ss.SSS!UTC}Z {level: <7} {message}" + _fields(record) + "\n{exception}"
    )


# ── secrets ─────────────────────────────────────────────────────────────────


def _mask(record: Record) -> None:
    """Take secrets out of an event; a traceback that holds one becomes text of the message."""
    if not _hidden:
        return
    record["message"] = masking.over(record["message"], _hidden)
    for key, value in record["extra"].items():
        if isinstance(value, str):
            record["extra"][key] = masking.over(value, _hidden)
    found = record["exception"]
    if found is None or found.type is None or found.value is None:
        return
    text = "".join(traceback.format_exception(found.type, found.value, found.traceback))
    if (masked := masking.over(text, _hidden)) != text:
        record["exception"] = None
        record["message"] += "\n" + masked.rstrip()


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write the traceback that Python would write, without secrets."""
    text = "".join(traceback.format_exception(kind, error, trace))
    sys.stderr.write(masking.over(text, _hidden))


class _Masking(logging.Formatter):
    """For what libraries say through `logging`, which goes to standard error."""

    def format(self, record: logging.LogRecord) -> str:
        return masking.over(super().format(record), _hidden)
