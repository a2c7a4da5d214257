"""`python -m convsync`."""

from __future__ import annotations

from convsync.cli import main

if __name__ == "__main__":
    main()
