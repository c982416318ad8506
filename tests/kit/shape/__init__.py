"""A module of the shape of the project TradingAgents, copied into an environment of its own by tests/kit/bridge.py."""
