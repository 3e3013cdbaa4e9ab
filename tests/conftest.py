"""What all tests share."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that need the real corpora, unless CARDIONER_DATA says where they are."""
    if os.environ.get("CARDIONER_DATA"):
        return
    without_data = [item for item in items if item.get_closest_marker("corpus")]
    if without_data:
        config.hook.pytest_deselected(items=without_data)
        items[:] = [item for item in items if item not in without_data]
