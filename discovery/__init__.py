"""Facts: what an upstream is, and how it changed. Plain values; no I/O, no clock, no dice."""
