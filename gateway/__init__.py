"""Effects: doing what was decided. Doors, ledger, upstreams, console, command line."""
