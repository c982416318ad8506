"""Fixtures of several integration tests."""

from __future__ import annotations

import pytest

from tests.kit import execution


@pytest.fixture(params=["platform", "trader"])
def an_api(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every bench of the test speak one API, and in a second run the other."""
    monkeypatch.setattr(execution, "API", request.param)
