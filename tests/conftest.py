"""Fixtures of the scenarios: see `worlds.py`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from convsync.sandbox import Sandbox, SandboxConfig
from convsync.sandbox.certificate import certificate_in
from worlds import StandingClock, World

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts the suite in the background has it ignore Ctrl-C, and so would every process that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def ads_certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One certificate for every `Sandbox(ads=True, ads_folder=ads_certificate.parent)`.

    gRPC reads the variable once, at the first TLS channel of the process: so it is set before any test.
    """
    certificate, _ = certificate_in(tmp_path_factory.mktemp("ads"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(certificate))
        yield certificate


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
