"""Decisions: what to do about what happened. Plain functions over plain values; no I/O, no clock, no dice."""
