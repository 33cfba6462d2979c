"""What a soak did and found, and the proof as a table for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from tests.hostile.soak.crashes import Tally


@dataclass
class Report:
    """What a soak did and found. Zero `doubled`, `lost` and `forgotten` is what is promised."""

    seed: int
    fsync: str
    seconds: float = 0.0
    kills: int = 0
    kills_at_instants: int = 0
    kills_at_boundaries: int = 0
    kills_of_engine: int = 0
    stops: int = 0
    boundaries: int = 0  # different ones at which a gateway died
    workflows: int = 0
    steps: int = 0
    calls: int = 0
    replays: int = 0
    sendings: int = 0
    effects: int = 0
    doubts: dict[str, int] = field(default_factory=dict)
    entrusted: int = 0  # steps whose callers left for good
    doubts_under_keys: int = 0
    doubled: int = 0
    lost: int = 0
    forgotten: int = 0
    changed: int = 0
    early: int = 0
    repeated: int = 0
    unexpected: int = 0
    told: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    @property
    def held(self) -> bool:
        return not self.violations

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def table(tally: Tally, scenarios: dict[str, str], report: Report) -> str:
    lines = []
    if scenarios:
        lines += ["Deaths at boundaries", *(f"  {name}: {what}" for name, what in scenarios.items())]
        lines += [f"  kills {tally.kills}, effects {tally.effects}, never reached {tally.missed}"]
        lines += [f"  doubts {_counts(tally.doubts)}"]
        lines += [f"  violations {len(tally.violations)}", *(f"    {text}" for text in tally.violations[:20])]
    lines += [f"Soak of {report.seconds:.0f} s (seed {report.seed}, appendfsync {report.fsync})"]
    lines += [
        f"  kills {report.kills}: {report.kills_at_instants} of gateways at random instants, "
        f"{report.kills_at_boundaries} at {report.boundaries} kinds of boundary, "
        f"{report.kills_of_engine} of the engine",
        f"  stops past a lease {report.stops}",
        f"  workflows {report.workflows}, steps {report.steps}, calls {report.calls}, replays {report.replays}",
        f"  sendings {report.sendings}, effects {report.effects}",
        f"  doubts {_counts(report.doubts)}; under a key {report.doubts_under_keys}",
        f"  told {_counts(report.told)}",
        f"  finished without their callers {report.entrusted}",
        f"  doubled {report.doubled}, lost {report.lost}, forgotten {report.forgotten}, changed {report.changed}, "
        f"early {report.early}, repeated {report.repeated}, unexpected {report.unexpected}",
    ]
    lines += [f"    {text}" for text in report.violations[:20]]
    verdict = "every invariant held" if report.held and not tally.violations else "INVARIANTS WERE BROKEN"
    lines += [f"{tally.kills + report.kills} kills: {verdict}"]
    return "\n".join(lines)


def _counts(counts: dict[str, int]) -> str:
    return f"{sum(counts.values())} ({', '.join(f'{name} {count}' for name, count in counts.items())})"
