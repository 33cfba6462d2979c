"""Time and chance, taken from the machine. Nothing else in the gateway asks for them."""

from __future__ import annotations

import asyncio
import random
import time


class SystemClock:
    """The `Clock` port."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)  # what event loops on this platform call time
    chance = staticmethod(random.random)
    sleep = staticmethod(asyncio.sleep)
