"""`python -m store`: the store process."""

from bus import garbage  # noqa: F401 - first of all: what follows is loaded without a search for cycles
from store.actor import main

main()
