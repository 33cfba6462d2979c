"""The wire over TLS: who is believed, and what a fault under it is called."""

from __future__ import annotations

from typing import Any

import pytest

from discovery.exchange import Phase, Response
from gateway.wire import Wire
from gateway.wire_dial import origin_of
from tests.gateway.wire_certificates import Authority, authority
from tests.gateway.wire_peer import FakeUpstream, Peer, answering, never
from tests.gateway.wire_world import GET, HUGE, OK, POST


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


async def _over_tls(ca: Authority, names: tuple[str, ...], verify: bool | str, host: str = "localhost") -> Any:
    async with FakeUpstream(answering(OK), tls=ca.server(*names)) as peer:
        client = Wire(origin_of(peer.url(host=host), verify))
        answers = [await client.send(POST, timeout=5) for _ in range(3)]
        await client.aclose()
        return answers[-1], peer.accepted


def test_tls_is_verified_against_the_given_ca_and_the_connection_kept(run, ca):
    assert run(_over_tls(ca, ("localhost",), ca.bundle)) == (
        Response(200, ((b"Content-Length", b"2"),), b"ok", b"OK"),
        1,
    )
    assert run(_over_tls(ca, ("127.0.0.1",), ca.bundle, "127.0.0.1"))[0].status == 200


def test_a_certificate_for_another_host_or_of_an_unknown_ca_is_a_fault_of_tls(run, ca):
    wrong_host, _ = run(_over_tls(ca, ("elsewhere.example",), ca.bundle))
    unknown_ca, _ = run(_over_tls(ca, ("localhost",), True))

    assert (wrong_host.phase, unknown_ca.phase) == (Phase.TLS, Phase.TLS)
    assert "localhost" in wrong_host.detail
    assert "self-signed" in unknown_ca.detail or "unable to get local issuer" in unknown_ca.detail


def test_verification_can_be_given_up(run, ca):
    answer, _ = run(_over_tls(ca, ("elsewhere.example",), False))

    assert answer.status == 200


def test_a_handshake_that_is_not_answered_is_a_fault_of_tls(run):
    async def main():
        async with FakeUpstream(never) as peer:
            url = peer.url().replace("http:", "https:")
            return await Wire(origin_of(url), connect_timeout=0.2).send(GET, timeout=5)

    answer = run(main())

    assert (answer.phase, answer.timed_out) == (Phase.TLS, True)


def test_a_reset_under_tls_after_writing_is_never_called_unsent(run, ca):
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.reset()

    async def main():
        async with FakeUpstream(script, tls=ca.server("localhost")) as peer:
            client = Wire(origin_of(peer.url(host="localhost"), ca.bundle))
            answer = await client.send(HUGE, timeout=5), await client.send(POST, timeout=5)
            await client.aclose()
            return answer

    huge, small = run(main())

    assert (huge.unsent, small.unsent) == (False, False)
    assert small.phase is Phase.WAIT
