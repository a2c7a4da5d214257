"""The whole of convsync on the local sandbox, with a made-up shop and clinic: no account needed."""
