"""Stands in for the project TradingAgents in contract tests: the same names, the same results, chosen misbehaviour."""
