"""Kill anything at any moment: the checker, the sweep, the storm and the disasters. Run: `make chaos`."""
