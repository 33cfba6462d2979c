"""Effects: doing what was decided. Doors, ledger, upstreams, console, command line.

`AsyncTransport` and `Transport` are the door in process; everything else may be read, only these relied on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.transport import AsyncTransport, Transport

__all__ = ["AsyncTransport", "Transport"]


def __getattr__(name: str) -> Any:
    """Import the doors when they are asked for: `gimbal --help` needs neither httpx nor an event loop."""
    if name in __all__:
        from gateway import transport

        return getattr(transport, name)
    raise AttributeError(f"module 'gateway' has no attribute {name!r}")
