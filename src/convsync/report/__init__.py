"""What a lead and a sale cost: `rows` divides what the ledger summed, `render` shows it."""
