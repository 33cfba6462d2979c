"""What workflows keep of an upstream, on its page and by its form."""

from __future__ import annotations

from urllib.parse import urlencode

from discovery.exchange import Json
from tests.gateway.console_world import BEARER, HOST, World

FORM = (b"content-type", b"application/x-www-form-urlencoded")


class Board:
    """A pin that waits for a word, and the words it was given."""

    def __init__(self) -> None:
        self.decided: list[tuple[str, str, str, str | None]] = []

    async def told(self, upstream: str) -> list[Json]:
        edit: Json = {"says": "/email comes as /mail", "stands": "waits", "why": "it may be <another>"}
        pin: Json = {
            "side": "answer",
            "type": "sync",
            "operation": "GET /customers/{int}",
            "status": 200,
            "answers": 10,
            "complete": True,
            "rung": "suggest",
            "halted": None,
            "waits": True,
            "edits": [edit],
        }
        return [pin]

    async def decide(self, upstream: str, operation: str, deed: str, type: str | None = None) -> None:
        self.decided.append((upstream, operation, deed, type))


def post(world: World, **form: str):
    return world.ask("POST", "/-/upstreams/billing/pins", urlencode(form).encode(), (HOST, BEARER, FORM))


def test_an_upstreams_page_shows_its_pins_and_what_can_be_said_of_them():
    world = World(pins=Board())

    page = world.get("/-/upstreams/billing", (b"accept", b"text/html")).body.decode()

    assert "/email comes as /mail" in page
    assert "it may be &lt;another&gt;" in page
    assert 'name="deed" value="adapt"' in page and 'name="deed" value="hold"' in page


def test_a_word_on_an_operation_reaches_the_board():
    board = Board()
    world = World(pins=board)

    answer = post(world, operation="GET /customers/{int}", deed="adapt", type="sync")

    assert answer.status == 200
    assert board.decided == [("billing", "GET /customers/{int}", "adapt", "sync")]


def test_a_word_nobody_knows_is_refused():
    board = Board()
    world = World(pins=board)

    assert post(world, operation="GET /customers/{int}", deed="destroy").status == 400
    assert post(world, deed="hold").status == 400
    assert board.decided == []
