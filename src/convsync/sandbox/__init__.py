"""A local emulator of Google, Yandex and VK: it refuses, answers and counts as they would."""

from convsync.sandbox.app import Sandbox
from convsync.sandbox.clock import Clock
from convsync.sandbox.command import serve
from convsync.sandbox.config import SandboxConfig

__all__ = ["Clock", "Sandbox", "SandboxConfig", "serve"]
