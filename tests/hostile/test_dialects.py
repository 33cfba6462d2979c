"""What real services say in their dialects, through the running gateway: SOAP, plain statuses, an AWS batch."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import requests
import waitress.server
import werkzeug.http
import zeep
from botocore.config import Config
from werkzeug.datastructures import Authorization

from policies.pacing import RUN
from tests.hostile.serving import Serving, emptied, process, until
from tests.hostile.soap_shop import faults_as_200, shop
from tests.hostile.test_batches import answers, free_port

# httpbin 0.10.0 is the newest that greenlet 3 lets in; it wants a name that werkzeug 3 has dropped.
werkzeug.http.parse_authorization_header = Authorization.from_header
httpbin = pytest.importorskip("httpbin")


@contextlib.contextmanager
def served(app) -> Iterator[str]:
    """Serve a WSGI app from a thread; yield its URL."""
    server = waitress.server.create_server(app, host="127.0.0.1", port=0, threads=8)
    threading.Thread(target=server.run, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}"
    finally:
        server.close()


@pytest.fixture(scope="module")
def reserved() -> list[tuple[str, int]]:
    """What took effect at the SOAP service."""
    return []


@pytest.fixture(scope="module")
def urls(reserved) -> Iterator[dict[str, str]]:
    bus = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port := free_port())]
    with (
        process(*bus, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL),
        served(shop(reserved)) as soap,
        served(faults_as_200(shop(reserved))) as dressed,
        served(httpbin.app) as bin,
    ):
        until(lambda: answers(f"http://127.0.0.1:{port}/moto-api/data.json"))
        yield {
            "soap": soap,
            "dressed": dressed,
            "bin": bin,
            "slow": bin,
            "busy": bin,
            "away": bin,
            "bus": f"http://127.0.0.1:{port}",
        }


@pytest.fixture(scope="module")
def gateway(urls, engine_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    place = tmp_path_factory.mktemp("dialects") / "data"
    config = f'[upstreams.slow]\nbase_url = "{urls["slow"]}"\ntimeout = 0.5\n'
    config += f'[upstreams.away]\nbase_url = "{urls["away"]}"\nattempts = 1\n'
    named = {name: url for name, url in urls.items() if name not in ("slow", "away")}
    with Serving(named, place, emptied(engine_url), config) as serving:
        yield serving


# SOAP


class Teller(zeep.Transport):
    """zeep's transport, calling through a gateway as a step of a workflow; it keeps the answers."""

    def __init__(self, service: str, through: str) -> None:
        session = requests.Session()
        session.trust_env = False
        super().__init__(session=session)
        self._places = (service, through)
        self.told: list[requests.Response] = []

    def post(self, address, message, headers):
        who = {"Workflow-Id": self._places[1], "Workflow-Step": f"call-{len(self.told)}"}
        self.told.append(super().post(address.replace(*self._places), message, {**headers, **who}))
        return self.told[-1]

    @property
    def outcomes(self) -> list[str]:
        return [told.headers["Gimbal-Outcome"] for told in self.told]


def called(urls: dict[str, str], name: str, gateway: Serving) -> tuple[zeep.proxy.ServiceProxy, Teller]:
    transport = Teller(urls[name], f"{gateway.url}/{name}")
    return zeep.Client(f"{urls[name]}/?wsdl", transport=transport).service, transport


def test_soap_success_is_success_and_happens_once(urls, reserved, gateway) -> None:
    service, transport = called(urls, "soap", gateway)

    assert service.reserve("apple", 3) == 1

    assert transport.outcomes == ["success;attempts=1"]
    assert reserved == [("apple", 3)]


@pytest.mark.parametrize("name", ["soap", "dressed"])
def test_a_soap_fault_is_no_success_whatever_its_status(name: str, urls, reserved, gateway) -> None:
    service, transport = called(urls, name, gateway)
    before = list(reserved)

    for sku, count in (("unknown", 1), ("apple", 0), ("broken", 1)):
        with pytest.raises(zeep.exceptions.Error):
            service.reserve(sku, count)

    assert transport.outcomes == ["refused;attempts=1", "validation;attempts=1", "in-doubt;attempts=1"]
    assert reserved == before


# Plain statuses, from httpbin


@pytest.mark.parametrize(
    ("status", "outcome", "told"),
    [
        (200, "success;attempts=1", 200),
        (400, "validation;attempts=1", 400),
        (401, "refused;attempts=1", 401),
        (404, "refused;attempts=1", 404),
        (409, "refused;attempts=1", 409),
        (500, "in-doubt;attempts=1", 502),
        (503, "in-doubt;attempts=1", 502),
    ],
)
def test_a_status_alone_is_told_as_what_it_means(status: int, outcome: str, told: int, gateway) -> None:
    who = {"Workflow-Id": f"status-{status}", "Workflow-Step": "post"}
    with gateway.client() as client:
        answer = client.post(f"/bin/status/{status}", json={"n": 1}, headers=who)

    assert (answer.headers["gimbal-outcome"], answer.status_code) == (outcome, told)


def test_a_limit_without_a_time_is_put_off_rather_than_tried_until_it_is_exhausted(gateway) -> None:
    with gateway.client() as client:
        who = {"Workflow-Id": "limit", "Workflow-Step": "post", "Prefer": "wait=0, respond-async"}
        answer = client.post("/busy/status/429", json={"n": 1}, headers=who)

    assert answer.json()["type"] == "/-/problems/deferred"
    assert answer.headers["gimbal-outcome"] == "rate-limited;attempts=1"


def test_an_answer_that_comes_too_late_leaves_an_unsafe_call_in_doubt_and_a_safe_one_free(gateway) -> None:
    with gateway.client() as client:
        who = {"Workflow-Id": "late", "Prefer": "wait=1"}
        unsafe = client.post("/slow/delay/1", json={"n": 1}, headers=who)
        safe = client.get("/slow/delay/1", headers=who)

    assert (unsafe.status_code, unsafe.json()["type"]) == (504, "/-/problems/in-doubt")
    assert safe.json()["type"] == "/-/problems/exhausted"


def test_an_upstream_that_is_down_is_left_alone_and_found_again(gateway) -> None:
    with gateway.client(headers={"Workflow-Id": "down", "Prefer": "wait=5"}) as client:
        outcomes = [client.get("/away/status/503").headers["gimbal-outcome"] for _ in range(RUN)]
        resting = client.get("/away/status/503", headers={"Prefer": "wait=0"})
        found = client.get("/away/status/200")

    assert outcomes == ["transient;attempts=1"] * RUN
    assert (resting.status_code, resting.headers["gimbal-outcome"]) == (503, "rate-limited;attempts=0")
    assert (found.status_code, found.headers["gimbal-outcome"]) == (200, "success;attempts=1")


def test_an_upstream_that_shows_it_keeps_keys_is_told_of_in_the_transcript(gateway) -> None:
    with gateway.client() as client:
        who = {"Workflow-Id": "hint", "Workflow-Step": "post"}
        answer = client.post("/bin/response-headers?Idempotent-Replayed=true", headers=who)

    steps = gateway.said("call", answer.headers["gimbal-call"])[0]["transcript"]
    assert [step["replay"] for step in steps if step["did"] == "hint"] == ["Idempotent-Replayed: true"]


# EventBridge: entries without ids, answered by position


def test_the_entry_that_was_refused_is_known_by_its_place(urls, gateway) -> None:
    client = boto3.client(
        "events",
        endpoint_url=f"{gateway.url}/bus",
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"max_attempts": 0}, proxies={}),
    )
    who = {"Workflow-Id": "bus", "Workflow-Step": "put"}
    client.meta.events.register("before-send.*", lambda request, **_: request.headers.update(who))
    good = {"Source": "shop", "DetailType": "sold", "Detail": "{}"}

    told = client.put_events(Entries=[good, {**good, "Detail": "not json"}, good])

    assert [entry.get("ErrorCode") for entry in told["Entries"]] == [None, "MalformedDetail", None]
    outcome = told["ResponseMetadata"]["HTTPHeaders"]["gimbal-outcome"]
    assert outcome.startswith("partial;attempts=1")
    call = gateway.said("call", told["ResponseMetadata"]["HTTPHeaders"]["gimbal-call"])[0]
    assert [item["state"] for item in call["items"]] == ["succeeded", "refused", "succeeded"]
