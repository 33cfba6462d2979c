"""A shop's API as such APIs are: slow, busy, losing answers. It counts what really happened.

    python -m gateway.demo.shop

prints its base URL and serves until its standard input ends. `GET /effects` tells the truth.

- `POST /charges`      honours Idempotency-Key; the first time, it charges and then hangs up without an answer.
- `POST /reservations` is busy at first: 429 with Retry-After.
- `POST /mails`        takes its time, knows no keys, and sends what it is told to send.
- `GET /customers/7`   a customer, always the same; after `POST /release`, with a field under another name.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

SLOW = 1.5
"""Seconds a mail takes: long enough to be killed in."""


@dataclass
class Shop:
    """What the shop did, by kind: each entry is one real effect."""

    effects: dict[str, list[Any]] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    released: bool = False
    _answers: dict[str, bytes] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes] | None:
        """Return status, headers and body, or None: hang up."""
        if method == "GET" and path == "/effects":
            return 200, {}, json.dumps({"effects": self.effects, "requests": self.requests}).encode()
        if method == "POST" and path == "/release":
            self.released = True
            return 204, {}, b""
        if method == "GET" and path.startswith("/customers/"):
            return 200, {}, json.dumps(self.customer(int(path.rpartition("/")[2]))).encode()
        kind = path.strip("/")
        self.requests[kind] = self.requests.get(kind, 0) + 1
        if method != "POST" or kind not in ("charges", "reservations", "mails"):
            return 404, {}, b'{"error": {"message": "no such thing here"}}'
        key = headers.get("idempotency-key", "")
        if kind == "charges" and key in self._answers:
            return 200, {"Idempotent-Replayed": "true"}, self._answers[key]
        if kind == "reservations" and self.requests[kind] == 1:
            return 429, {"Retry-After": "1"}, b'{"error": {"code": "rate_limited", "message": "slow down"}}'
        if kind == "mails":
            await asyncio.sleep(SLOW)
        done = self.effects.setdefault(kind, [])
        made = {"id": f"{kind[:-1]}_{next(self._numbers)}", **json.loads(body or b"{}")}
        done.append(made)
        answer = json.dumps(made).encode()
        if kind == "charges":
            self._answers[key] = answer
            if len(done) == 1:
                return None
        return 201, {}, answer

    def customer(self, number: int) -> dict[str, Any]:
        """Return a customer in the shape of the latest release."""
        digest = blake2b(str(number).encode(), digest_size=3).hexdigest()
        email = "mail_address" if self.released else "email"
        return {
            "id": number,
            "name": f"Ada {digest}",
            email: f"{digest}@example.com",
            "city": f"City {digest[:4]}",
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                method, path, _ = line.decode().split(" ", 2)
                headers: dict[str, str] = {}
                while (header := (await reader.readline()).decode().strip()) != "":
                    name, _, value = header.partition(":")
                    headers[name.strip().lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                answer = await self.answer(method, path, headers, body)
                if answer is None:
                    return
                status, extra, content = answer
                head = [
                    f"HTTP/1.1 {status} .",
                    "Content-Type: application/json",
                    f"Content-Length: {len(content)}",
                ]
                head += [f"{name}: {value}" for name, value in extra.items()]
                writer.write("\r\n".join([*head, "", ""]).encode() + content)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def main() -> None:
    server = await asyncio.start_server(Shop().serve, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)  # noqa: T201
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
