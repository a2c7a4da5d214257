"""`python -m convsync.sandbox`."""

from convsync.sandbox.command import main

raise SystemExit(main())
