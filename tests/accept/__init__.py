"""Decisions with servers that others wrote: a real small model, and a faulty stand-in. Run by `make accept` only."""
