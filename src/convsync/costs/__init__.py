"""Where spend comes from. A reader yields `Spend`, or a `BadRow` that says why not; it knows no ledger."""
