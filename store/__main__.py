"""`python -m store`: the store process."""

from store.actor import main

main()
