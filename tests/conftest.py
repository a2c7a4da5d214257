"""Fixtures of the scenarios: see `worlds.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from convsync.sandbox import Sandbox, SandboxConfig
from worlds import StandingClock, World


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def box(clock: StandingClock) -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(), clock=clock, port=0) as sandbox:
        yield sandbox


@pytest.fixture
def world(tmp_path: Path, box: Sandbox, clock: StandingClock) -> Iterator[World]:
    one = World(tmp_path, box, clock)
    yield one
    one.is_sound()
    one.ledger.close()
