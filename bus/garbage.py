"""Python's search for reference cycles, kept away from the way back to work after a kill.

Used at the start of every process of the pipeline. What is loaded lives as long as the process: searching it while it
is loaded finds nothing and takes a tenth of a start, and searching it later would stop the work for as long as an order
takes. Never leaves the search switched off: `settle` ends what `rest_while_loading` began.
"""

from __future__ import annotations

import gc
import sys

PROCESSES = frozenset(
    {"store", *(f"actors.{name}" for name in ("scanner", "llm", "executor", "monitor", "alerts", "dashboard", "paper"))}
)
"""What calls `settle` once it is loaded. Other programs that import us keep what Python does by itself."""


def rest_while_loading(command: list[str]) -> None:
    """Search for nothing until `settle`, when `command`, as in `sys.orig_argv`, starts one of these processes."""
    if command[1:2] == ["-m"] and PROCESSES & set(command[2:3]):
        gc.disable()


def settle(*, thoroughly: bool = False) -> None:
    """Leave what exists by now out of every search to come, and search again. `thoroughly`: after one over all of it.

    That one takes tens of milliseconds: for whoever waits anyway.
    """
    if thoroughly:
        gc.collect()
    gc.freeze()
    gc.enable()


rest_while_loading(sys.orig_argv)
