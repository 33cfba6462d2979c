"""What `gimbal explain` tells a person: no secret, and nothing that moves the terminal."""

from __future__ import annotations

from discovery.exchange import Exchange, Request, Response
from gateway.commands.explain import _for_a_person
from policies.explain import explain

KEY = "sk_live_4f9a8b7c6d5e4f3a2b1c"


def test_secrets_are_hidden_and_control_characters_made_visible():
    asked = Request("GET", f"/charges?api_key={KEY}&page=2".encode())
    said = Response(401, ((b"content-type", b"text/plain"),), f"\x1b[2J bad key {KEY}".encode())
    exchange = Exchange("till", asked, said, base_url=f"https://ann:{KEY}@till.example")

    told = _for_a_person(exchange, explain(exchange, 0.0))

    assert KEY not in told
    assert "\x1b" not in told
    assert "page=2" in told and "-> 401" in told
