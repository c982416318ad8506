"""The monitor's parts: drawdown ladder, closed positions and orphans, the poll of the account, the janitor."""
