"""The processes of the pipeline, one a file, and the libraries that they share, one a folder."""

import sys

from bus import garbage  # noqa: F401 - first of all: what follows is loaded without a search for cycles

# httpx offers a command line of its own whenever click, rich and pygments are installed, and imports all three for it:
# a third of the time that httpx takes. None says that there is no such module; httpx does without it.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
