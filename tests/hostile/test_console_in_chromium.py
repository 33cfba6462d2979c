"""The console in a real browser: it can be used without script, holds no violation of its own policy, and what
an upstream's page tries from the same origin comes to nothing."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from discovery.exchange import Response
from gateway.tokens import capability
from policies.claims import State
from tests.gateway.console_world import ADMIN, SIGNING, World, live, served, with_a_past

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (dev dependencies)")
CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason="no /usr/bin/chromium; install Debian's package chromium to run these"
)

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS, timeout=60_000)
        yield running
        running.close()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def calls(world: World) -> dict[str, str]:
    return with_a_past(world)


@pytest.fixture
def console(world: World, calls: dict[str, str]) -> Iterator[str]:
    with served(world) as base:
        yield base


@pytest.fixture
def open_page(browser, console) -> Iterator[object]:
    """Open signed-in pages; each is told what the browser complained of."""
    contexts = []

    def opened(path: str, **how: object):
        context = browser.new_context(**how)
        contexts.append(context)
        page = context.new_page()
        page.complaints = []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("requestfailed", lambda request: page.complaints.append(f"failed: {request.url}"))
        page.goto(f"{console}/-/login?token={ADMIN}")
        page.goto(console + path)
        return page

    yield opened
    for context in contexts:
        context.close()


def paths(calls: dict[str, str]) -> list[str]:
    some = [f"/-/calls/{calls[name]}" for name in ("done", "doubt", "waiting")]
    return ["/-/", "/-/calls", "/-/workflows/sync-order/order-1138", "/-/upstreams/billing", "/-/patterns", *some]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_pages_fit_their_window_and_break_no_rule_of_theirs(open_page, console, calls, scheme, width):
    page = open_page(
        "/-/", color_scheme=scheme, viewport={"width": width, "height": 800}, java_script_enabled=True
    )

    for path in paths(calls):
        page.goto(console + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.evaluate("document.styleSheets.length") == 1
    assert page.complaints == []


def test_text_can_be_read_in_both_schemes(open_page):
    """WCAG 2.2, 1.4.3: 4.5 to 1 between what is written and what is under it."""
    for scheme in ("light", "dark"):
        page = open_page("/-/patterns", color_scheme=scheme)
        weak = page.evaluate(CONTRAST)
        assert weak == [], scheme


def test_a_doubt_is_settled_without_script(open_page, console, calls, world):
    page = open_page("/-/", java_script_enabled=False)

    page.get_by_role("link", name="Settle…").click()
    page.get_by_label("How do you know?").fill("it is in the outbox")
    page.get_by_role("button", name="It took effect").click()

    assert page.url == f"{console}/-/calls/{calls['doubt']}"
    assert page.locator(".stands .state").inner_text() == "succeeded"
    assert "it is in the outbox" in page.locator(".timeline").inner_text()


def test_a_waiting_call_is_given_up_from_the_overview_by_keyboard(open_page, calls, world):
    page = open_page("/-/", java_script_enabled=False)

    page.get_by_role("button", name="Give up").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/calls/{calls['waiting']}")

    assert page.locator(".stands .state").inner_text() == "cancelled"


def test_who_signed_out_sees_nothing(open_page, console):
    page = open_page("/-/calls")

    page.get_by_role("button", name="Sign out").click()
    page.goto(f"{console}/-/calls")

    assert page.get_by_label("Admin token").is_visible()
    assert "charge" not in page.content()


def test_an_upstreams_page_on_the_same_origin_can_neither_read_nor_act(open_page, console, calls, world):
    world.foreign = FOREIGN.replace("CALL", calls["waiting"])

    page = open_page("/upstream/page.html")
    page.wait_for_function("window.tried", timeout=10_000)
    tried = json.loads(page.evaluate("JSON.stringify(window.tried)"))

    assert tried["fetched"] == 401
    assert tried["posted"] in (401, 403)
    assert tried["framed"] in ("", "blocked")
    assert tried["opened"] == "blocked"
    state = json.loads(world.get(f"/-/calls/{calls['waiting']}.json").body)["state"]
    assert state == "waiting"


def test_a_recorded_page_of_an_upstream_runs_no_script_where_it_is_replayed(browser, console, world):
    body = b"<p id=it>kept</p><script>document.getElementById('it').textContent = 'ran'</script>"
    reply = Response(200, ((b"content-type", b"text/html"),), body)
    call = live(world.call("order-9", "page", State.SUCCEEDED, reply=reply))
    context = browser.new_context()
    page = context.new_page()

    page.goto(f"{console}/-/calls/{call}?token={capability(SIGNING, call)}")

    assert page.locator("#it").inner_text() == "kept"
    context.close()


FOREIGN = """
<script>
(async () => {
  const tried = {};
  tried.fetched = (await fetch('/-/calls.json')).status;
  const body = new URLSearchParams({form: ''});
  tried.posted = (await fetch('/-/calls/CALL/cancel', {method: 'POST', body})).status;
  const frame = document.createElement('iframe');
  frame.src = '/-/calls';
  document.body.append(frame);
  await new Promise(done => { frame.onload = done; });
  try { tried.framed = frame.contentDocument.body.innerText; } catch { tried.framed = 'blocked'; }
  const opened = window.open('/-/calls');
  const until = Date.now() + 2000;
  tried.opened = 'blocked';
  while (Date.now() < until && opened && !opened.closed) {
    try { tried.opened = opened.document.body.innerText || tried.opened; } catch { }
    await new Promise(done => setTimeout(done, 20));
  }
  window.tried = tried;
})();
</script>
"""
"""What a hostile upstream's page does in a browser whose owner is signed in to the console."""

CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [.2126, .7152, .0722][at], 0);
  const under = element => {
    for (let it = element; it; it = it.parentElement) {
      const colour = rgba(getComputedStyle(it).backgroundColor);
      if (colour[3] > 250) return colour;
    }
    return [255, 255, 255, 255];
  };
  const weak = new Set();
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(under(element))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) weak.add(`${element.className || element.tagName}: ${ratio.toFixed(2)}`);
  }
  return [...weak];
}"""
