"""One analysis by the project TradingAgents: one line of JSON in, one line of JSON out.

Started by the llm process under the interpreter of another virtual environment, so it imports nothing but the standard
library and that project. Two processes: the first one never runs foreign code and kills the whole group when its
standard input ends, which it does when the llm process dies; the second one does the work. What the project prints goes
to standard error: standard output carries the answer and nothing else.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import inspect
import json
import math
import os
import select
import signal
import sys
import traceback
from types import TracebackType
from typing import Any

PROJECT = "tradingagents"
JOB_BYTES_MAX = 1_000_000
TEXT_CHARS_MAX = 4_000
ITEMS_MAX = 40
DEPTH_MAX = 4
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Take the job, let the second process do it, and guard it until standard input ends."""
    if os.getpgrp() != os.getpid():
        sys.exit("not the leader of a group of its own: at the end it kills its group")
    # From here on nothing that is printed can reach the answer.
    answers = os.dup(1)
    os.dup2(2, 1)
    job = _read_job()
    worker = os.fork()
    if worker == 0:
        _work(job, answers)
    try:
        # When the worker has answered, this second line is not read any more.
        _write(answers, {"error": f"it ended with {_wait(worker)} and without an answer"})
        os.read(0, 1)  # until we are killed, or the llm process is gone
    finally:
        _end_group()


def _read_job() -> dict[str, Any]:
    line = bytearray()
    while not line.endswith(b"\n"):
        found = os.read(0, 65_536)
        line += found
        if not found or len(line) > JOB_BYTES_MAX:
            sys.exit("no job on standard input")
    job = json.loads(line)
    if not isinstance(job, dict):
        sys.exit("the job is no JSON object")
    return job


def _wait(worker: int) -> str:
    """Return how the second process ended. Ends everything, ourselves included, when our input ends first."""
    pidfd = os.pidfd_open(worker)
    poller = select.poll()
    poller.register(0, select.POLLIN | select.POLLHUP)
    poller.register(pidfd, select.POLLIN)
    if any(descriptor == 0 for descriptor, _ in poller.poll()):
        _end_group()
    code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _end_group() -> None:
    """Kill everything that was started here, ourselves included: we lead the group."""
    os.killpg(0, signal.SIGKILL)


# ── the second process ──────────────────────────────────────────────────────


def _work(job: dict[str, Any], answers: int) -> None:
    guard = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != guard:
        os._exit(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        traceback.print_exception(kind, error, trace)
        _write(answers, {"error": f"{kind.__name__}: {error}"})
        sys.stderr.flush()
        os._exit(0)  # told: the exit code says only whether an answer was given

    sys.excepthook = tell
    found = _look() if job.get("look") else _analyse(job)
    sys.stdout.flush()
    _write(answers, found)
    os._exit(0)  # not sys.exit: threads of the project must not keep us


def _look() -> dict[str, Any]:
    """Say whether the project is installed here. Does not import it: that takes seconds."""
    return {"found": importlib.util.find_spec(PROJECT) is not None, "version": _version()}


def _version() -> str:
    try:
        return importlib.metadata.version(PROJECT)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _analyse(job: dict[str, Any]) -> dict[str, Any]:
    from tradingagents.default_config import DEFAULT_CONFIG
    from tradingagents.graph.trading_graph import TradingAgentsGraph

    # Older versions of the project know these folders only from the config.
    folders = {"results_dir": os.environ["TRADINGAGENTS_RESULTS_DIR"], "data_cache_dir": os.environ["XDG_CACHE_HOME"]}
    config = {**DEFAULT_CONFIG, **folders, **job["config"]}
    takes_figures = "qlib_data" in inspect.signature(TradingAgentsGraph.propagate).parameters
    if not takes_figures:
        config["qlib_data"] = job["qlib_data"]
    graph = TradingAgentsGraph(selected_analysts=list(job["analysts"]), config=config)
    given = {"qlib_data": job["qlib_data"]} if takes_figures else {}
    found = graph.propagate(job["ticker"], job["trade_date"], **given)
    if not isinstance(found, tuple) or len(found) != 2:
        raise TypeError(f"propagate returned {type(found).__name__}; expected (final_state, signal)")
    state, rating = found
    return {
        "signal": rating if isinstance(rating, str) else f"{type(rating).__name__}: {rating}"[:TEXT_CHARS_MAX],
        "final_state": plain(state),
        "version": _version(),
        "context": "argument" if takes_figures else "config",
    }


def plain(value: Any, depth: int = DEPTH_MAX) -> Any:
    """Return a value as JSON can hold it, cut to bounds: long texts, long lists and deep nesting become shorter."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict) and depth:
        items = list(value.items())[:ITEMS_MAX]
        return {str(key)[:100]: plain(one, depth - 1) for key, one in items}
    if isinstance(value, (list, tuple)) and depth:
        return [plain(one, depth - 1) for one in value[:ITEMS_MAX]]
    return str(value)[:TEXT_CHARS_MAX]


def _write(answers: int, found: dict[str, Any]) -> None:
    left = json.dumps(found, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    while left:
        left = left[os.write(answers, left) :]


if __name__ == "__main__":
    main()
