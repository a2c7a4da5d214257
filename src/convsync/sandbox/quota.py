"""Counting requests in calendar windows of the sandbox's clock."""

from __future__ import annotations

import threading


class Windows:
    """One counter per name and window; windows of `seconds` begin at multiples of it plus `shift`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[int, int]] = {}

    def take(self, name: str, limit: int | None, seconds: int, now: float, shift: float = 0) -> bool:
        """Count one request; False when the window is already full (and then it is not counted)."""
        if limit is None:
            return True
        window = int((now - shift) // seconds)
        with self._lock:
            last, used = self._seen.get(name, (window, 0))
            used = used if last == window else 0
            if used >= limit:
                return False
            self._seen[name] = (window, used + 1)
            return True

    def left(self, name: str, limit: int, seconds: int, now: float, shift: float = 0) -> int:
        window = int((now - shift) // seconds)
        with self._lock:
            last, used = self._seen.get(name, (window, 0))
        return limit - (used if last == window else 0)

    def clear(self) -> None:
        with self._lock:
            self._seen.clear()
