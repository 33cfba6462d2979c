"""A callback outlives the gateway that owes it: killed while the call waits, and while its receiver is away."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fixtures.upstreams.counting import Counting
from policies.notices import signature
from tests.hostile.serving import Serving, until

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CHARGE = {"Workflow-Id": "order-1138", "Workflow-Step": "charge", "X-Ref": "charge"}


@contextmanager
def receiver(told: list[tuple[dict[str, str], bytes]], answers: list[int]) -> Iterator[str]:
    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            told.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(answers.pop(0) if len(answers) > 1 else answers[0])
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hook"
        server.shutdown()


def test_the_end_of_a_call_is_told_though_its_gateway_was_killed_before_and_after_it(data: Path):
    told: list[tuple[dict[str, str], bytes]] = []
    with Counting() as upstream, receiver(told, [500, 204]) as url:
        config = f'[callbacks.default]\nurl = "{url}"\nsecret = "{SECRET}"\n'
        with Serving({"shop": upstream.url}, data, config=config) as gateway:
            with gateway.client(headers=CHARGE) as caller:
                deferred = caller.post("/shop/429:1,ok/charges", headers={"Prefer": "wait=0"})
                assert deferred.status_code == 503
            gateway.kill()
            gateway.start()
            until(lambda: told)
            gateway.kill()
            gateway.start()
            until(lambda: len(told) > 1)

    (first, body), (second, again) = told[:2]
    stamp = int(second["webhook-timestamp"])
    assert second["webhook-signature"] == signature(SECRET, second["webhook-id"], stamp, again)
    assert (first["webhook-id"], body) == (second["webhook-id"], again)
    assert json.loads(body)["data"]["call"]["state"] == "succeeded"
    assert (upstream.effects["charge"], upstream.sendings["charge"]) == (1, 2)
