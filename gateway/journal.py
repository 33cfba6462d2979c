"""What happened, for people and machines that watch: counters, and one log line a call.

Log lines hold ids, outcomes and times; never a header's value, a body or a query.
"""

from __future__ import annotations

import json
import sys
from bisect import bisect_left
from collections import Counter
from typing import TextIO

from discovery.exchange import Json
from policies.reply import Problem, Reply

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds; the upper bounds of the duration histogram (those of OpenTelemetry's HTTP conventions)."""


class Journal:
    """Counts calls and, where `log` is given, writes a JSON line for each."""

    def __init__(self, log: TextIO | None = None) -> None:
        self._log = log
        self._calls: Counter[tuple[str, str]] = Counter()
        self._replayed: Counter[str] = Counter()
        self._attempts: Counter[str] = Counter()
        self._problems: Counter[str] = Counter()
        self._seconds: Counter[str] = Counter()
        self._slow: dict[str, list[int]] = {}

    def called(self, upstream: str, method: str, call: str, reply: Reply, seconds: float) -> None:
        self._calls[upstream, reply.outcome.value] += 1
        self._attempts[upstream] += reply.attempts
        if reply.replayed:
            self._replayed[upstream] += 1
        if isinstance(reply.answer, Problem):
            self._problems[reply.answer.slug] += 1
        slots = self._slow.get(upstream)
        if slots is None:
            slots = self._slow[upstream] = [0] * (len(BUCKETS) + 1)
        self._seconds[upstream] += seconds  # type: ignore[assignment]
        slots[bisect_left(BUCKETS, seconds)] += 1
        if self._log is not None:
            self._write(
                {
                    "call": call,
                    "upstream": upstream,
                    "method": method,
                    "outcome": reply.outcome.value,
                    "status": reply.answer.status,
                    "problem": reply.answer.slug if isinstance(reply.answer, Problem) else None,
                    "attempts": reply.attempts,
                    "replayed": reply.replayed,
                    "seconds": round(seconds, 4),
                }
            )

    def metrics(self) -> str:
        """Return the counters in the Prometheus text format."""
        lines = ["# TYPE gimbal_calls_total counter"]
        for (upstream, outcome), count in sorted(self._calls.items()):
            lines.append(f'gimbal_calls_total{{upstream="{upstream}",outcome="{outcome}"}} {count}')
        for name, counter in (("attempts", self._attempts), ("replayed", self._replayed)):
            lines.append(f"# TYPE gimbal_{name}_total counter")
            lines += [f'gimbal_{name}_total{{upstream="{key}"}} {count}' for key, count in sorted(counter.items())]
        lines.append("# TYPE gimbal_problems_total counter")
        lines += [
            f'gimbal_problems_total{{type="{slug}"}} {count}' for slug, count in sorted(self._problems.items())
        ]
        lines.append("# TYPE gimbal_call_duration_seconds histogram")
        for upstream, slots in sorted(self._slow.items()):
            total = 0
            for bound, count in zip((*map(str, BUCKETS), "+Inf"), slots, strict=True):
                total += count
                lines.append(f'gimbal_call_duration_seconds_bucket{{upstream="{upstream}",le="{bound}"}} {total}')
            lines.append(
                f'gimbal_call_duration_seconds_sum{{upstream="{upstream}"}} {self._seconds[upstream]:.6f}'
            )
            lines.append(f'gimbal_call_duration_seconds_count{{upstream="{upstream}"}} {total}')
        return "\n".join(lines) + "\n"

    def _write(self, members: dict[str, Json]) -> None:
        try:
            print(json.dumps(members), file=self._log or sys.stderr, flush=True)
        except OSError:
            self._log = None  # a full disk or a closed pipe must not touch a call
