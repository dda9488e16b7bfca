"""A real browser looks at the pages while a real client pulls."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.axe import script, wrong
from tests.support.browser import Browser, browser
from tests.support.daemon import Nora
from tests.support.engines import Skopeo
from tests.support.images import image, layer_of_noise
from tests.support.openapi import Description
from tests.support.programs import wait_for
from tests.support.room import Room
from tests.support.ui_pages import PAGES

pytestmark = pytest.mark.needs("docker-registry", "skopeo", "chromium", "chromedriver")

_OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def nora(house: Room) -> Nora:
    """Start NORA before a registry with one image."""
    registry = house.registry()
    registry.push("library/thing", "1", image([layer_of_noise(300_000, 1)]))
    return house.nora(house.relay(registry))


@pytest.fixture(scope="module")
def window(house: Room) -> Iterator[Browser]:
    """Start the browser."""
    with browser(house.place("browser")) as started:
        yield started


def test_dashboard_follows_pulls(house: Room, nora: Nora, window: Browser) -> None:
    """The hit rate changes on the open page, pull by pull, and is there again after a restart."""
    window.open(nora.url)
    assert window.run("return location.pathname") == "/ui/"
    assert window.text("#hit-rate") == "\N{EN DASH}"
    client = Skopeo(house.place("skopeo"))
    for shown in ("0 %", "50 %"):
        client.copy(f"docker://127.0.0.1:{nora.port}/library/thing:1", house.place("pulled"))
        wait_for(lambda shown=shown: window.text("#hit-rate") == shown, f"a hit rate of {shown}")  # type: ignore[misc]
    assert "2" in window.text("#compare tbody tr:nth-child(2)")
    assert window.run("return document.querySelectorAll('#pulls .hit').length") >= 1
    nora.stop()
    wait_for(
        lambda: window.run("return !document.getElementById('connection').hidden"), "word of the lost server"
    )
    nora.start()
    wait_for(
        lambda: window.run("return document.getElementById('connection').hidden"), "word that it is back"
    )
    window.open(f"{nora.url}/ui/")
    assert window.text("#hit-rate") == "50 %"
    window.errors()


def test_copy_copies(nora: Nora, window: Browser) -> None:
    """Each button puts its file into the clipboard, says so, and the page tells of the machine's own pull."""
    window.open(f"{nora.url}/ui/client")
    assert window.is_seen(".copy")
    told = json.loads(nora.get("/api/v1/client").body)
    grant = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": nora.url}
    window.driver.execute_cdp_cmd("Browser.grantPermissions", grant)
    for snippet in told["snippets"]:
        name = snippet["name"]
        window.click(f"[data-copy={name}]")
        wait_for(lambda: window.text("#told") == "Copied", "word that it was copied")
        assert window.run("return navigator.clipboard.readText()") == snippet["text"]
        window.run("document.getElementById('told').textContent = ''")
    assert f"http://127.0.0.1:{nora.port}" in window.text("#docker")


def test_copy_without_the_clipboard_of_https(nora: Nora, window: Browser) -> None:
    """Where the browser has no clipboard for pages of HTTP, the old way copies the same."""
    window.open(f"{nora.url}/ui/client")
    window.run("Object.defineProperty(navigator, 'clipboard', {value: undefined, configurable: true})")
    window.run("addEventListener('copy', () => { window.copied = String(getSelection()); })")
    window.click("[data-copy=docker]")
    wait_for(lambda: window.text("#told") == "Copied", "word that it was copied")
    assert json.loads(window.run("return window.copied"))["registry-mirrors"] == [nora.url]


@pytest.mark.needs("npm")
def test_pages_are_in_order(nora: Nora, window: Browser) -> None:
    """axe-core finds nothing serious; no page breaks its own policy, lacks a file, or is wider than a phone."""
    axe = script()
    window.open(f"{nora.url}/ui/client")
    window.run("document.querySelector('.brand').replaceChildren(); document.querySelector('h1').id = 'told'")
    assert any(each.startswith("link-name") for each in wrong(window, axe)), "axe-core finds nothing at all"
    for dark in (False, True):
        for width in (1280, 360):
            window.look(width, dark=dark)
            for path in PAGES:
                window.open(nora.url + path)
                assert window.run(_OVERFLOW) <= 0, (path, width)
                assert window.run("return document.querySelectorAll('h1').length") == 1, path
                complaints = [
                    each
                    for each in window.errors()
                    if nora.url + path not in each or "status of 4" not in each
                ]
                assert complaints == [], (path, complaints)
                assert wrong(window, axe) == [], (path, width, dark)


def test_without_javascript(nora: Nora, window: Browser) -> None:
    """Without JavaScript the numbers and the files are there, and no button that would do nothing."""
    window.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        window.open(f"{nora.url}/ui/client")
        assert "registry-mirrors" in window.text("#docker")
        assert not window.is_seen(".copy")
        window.open(f"{nora.url}/ui/")
        assert "50 %" in window.text("#numbers")
    finally:
        window.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_api_is_as_described(nora: Nora) -> None:
    """What the running daemon tells is what its OpenAPI document says."""
    description = Description(json.loads(nora.get("/api/v1/openapi.json").body))
    for path in description.bare:
        reply = nora.get(f"/api/v1{path}")
        description.check(path, reply.status, reply.headers["Content-Type"], json.loads(reply.body))
    for period in ("hour", "day", "month"):
        history = json.loads(nora.get(f"/api/v1/history?period={period}").body)
        description.check("/history", 200, "application/json", history)
        assert sum(point["pulls"] for point in history["points"]) == 2
