"""The sandbox in the foreground, for a terminal or a demo."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import TextIO

from convsync.sandbox.app import Sandbox
from convsync.sandbox.config import SandboxConfig


def serve(
    *,
    port: int = 0,
    config: SandboxConfig | None = None,
    quiet: bool = False,
    ads: bool = False,
    ads_port: int = 0,
) -> int:
    """Serve until SIGINT or SIGTERM; 0 when it ended so."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Sandbox(config, port=port, ads=ads, ads_port=ads_port) as box:
            _say(sys.stdout, f"convsync sandbox on {box.url}")
            if ads:
                _say(sys.stdout, f"Google Ads API on {box.ads_endpoint}, certificate {box.ads_certificate}")
            if not quiet:
                _say(sys.stderr, f"what it counted: {box.url}/_sandbox/")
            while not stop.wait(0.5):
                pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="convsync.sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=8765, help="0 = any free port")
    parser.add_argument("--config", type=Path, metavar="FILE", help="JSON: what differs from the default world")
    parser.add_argument("--seed", type=int, help="for everything that is left to chance")
    parser.add_argument("--processing-seconds", type=float, metavar="S", help="until Google's verdicts appear")
    parser.add_argument("--ads", action="store_true", help="serve the Google Ads API too: gRPC over TLS")
    parser.add_argument("--ads-port", type=int, default=0, help="of the Google Ads API; 0 = any free port")
    parser.add_argument("--quiet", action="store_true", help="only where it listens, on stdout")
    asked = parser.parse_args(argv)
    try:
        config = _config(asked)
        ads = asked.ads or bool(asked.ads_port)
        return serve(port=asked.port, config=config, quiet=asked.quiet, ads=ads, ads_port=asked.ads_port)
    except (OSError, ValueError, TypeError) as problem:
        _say(sys.stderr, f"convsync.sandbox: {problem}")
        return 2


def _say(stream: TextIO, line: str) -> None:
    stream.write(line + "\n")
    stream.flush()


def _config(asked: argparse.Namespace) -> SandboxConfig:
    settings = json.loads(asked.config.read_text("utf-8")) if asked.config else {}
    config = SandboxConfig.from_dict(settings)
    if asked.seed is not None:
        config.seed = asked.seed
    if asked.processing_seconds is not None:
        config.google.processing_seconds = config.yandex.processing_seconds = asked.processing_seconds
    return config
