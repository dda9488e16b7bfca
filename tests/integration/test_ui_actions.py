"""A real browser, with and without JavaScript, by mouse and by keyboard: an administrator acts, and others cannot."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote, urlencode

import pytest
from selenium.webdriver.common.keys import Keys

from tests.support.browser import Browser, browser
from tests.support.daemon import Nora
from tests.support.doors import PASSWORD, TOKEN, basic, write_users
from tests.support.images import image, layer_of_noise, push
from tests.support.programs import wait_for
from tests.support.registry import Registry
from tests.support.room import Room
from tests.support.ui_pages import PAGES

pytestmark = pytest.mark.needs("docker-registry", "chromium", "chromedriver")

_THING = {"repository": "docker.io/library/thing", "tag": "1"}
_MANIFEST = "/v2/docker.io/library/thing/manifests/1"
_SEES = """
const one = document.activeElement, style = getComputedStyle(one), box = one.getBoundingClientRect();
return [one.tagName, one.className, style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0,
        box.width > 0 && box.bottom > 0 && box.right > 0];
"""
_STOPS = """
return [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, pre[tabindex="0"]')]
    .filter(one => one.offsetParent !== null && !one.classList.contains('skip')).length;
"""


@pytest.fixture(scope="module")
def registry(house: Room) -> Registry:
    """Start the upstream."""
    registry = house.registry()
    registry.push("library/thing", "1", image([layer_of_noise(20_000, 1)]))
    return registry


@pytest.fixture(scope="module")
def nora(house: Room, registry: Registry) -> Nora:
    """Start NORA in two processes, with one who administers and one who does not."""
    users = house.place("users")
    write_users(users, "alice", "bob")
    rules = [
        {"user": "alice", "repository": "*", "actions": ["admin"]},
        {"user": "ci", "repository": "team/*", "actions": ["push"]},
        {"user": "everyone", "repository": "*", "actions": ["pull"]},
    ]
    sections: dict[str, dict[str, object]] = {
        "server": {"workers": 2},
        "auth": {"htpasswd": str(users), "tokens": [{"user": "ci", "token": TOKEN}]},
        "access": {"rules": rules},
    }
    return house.start(Nora(house.place("nora"), [{"url": registry.url, "namespace": "docker.io"}], sections))


@pytest.fixture(scope="module")
def alice(house: Room, nora: Nora) -> Iterator[Browser]:
    """Log alice in, as browsers do: from then on they send the password by themselves."""
    with browser(house.place("alice")) as window:
        _log_in(window, nora, "alice")
        yield window


def _log_in(window: Browser, nora: Nora, user: str) -> None:
    window.open(f"http://{user}:{quote(PASSWORD)}@127.0.0.1:{nora.port}/ui/")
    window.open(f"{nora.url}/ui/")
    assert window.text("h1") == "Dashboard"


def _pulled(nora: Nora) -> str:
    """Pull the image, and tell where it came from."""
    pulls = {"action": "pull", "repository": _THING["repository"]}
    count = len(nora.audit(**pulls))
    assert nora.get(_MANIFEST).status == 200
    return str(nora.wait_for_audit(count + 1, **pulls)[-1]["cache"])


def test_purge_asks_and_purges(nora: Nora, alice: Browser) -> None:
    """Without JavaScript: nothing happens until it is confirmed, then it happens once, for every process."""
    for _ in range(4):
        _pulled(nora)
    assert _pulled(nora) == "hit"
    alice.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        asking = f"{nora.url}/ui/actions/purge?{urlencode(_THING)}"
        alice.open(asking)
        assert alice.text("h1") == "Purge this tag?"
        alice.click("form a.button")
        alice.arrives("h1", "docker.io/library/thing:1")
        assert alice.text("h1") == "docker.io/library/thing:1"
        assert _pulled(nora) == "hit"
        alice.open(asking)
        alice.click("form button")
        alice.arrives("h1", "Purged")
        assert alice.text("h1") == "Purged"
        assert "docker.io/library/thing" in alice.text("main")
        alice.driver.refresh()
        assert alice.text("h1") == "Purged"
        assert [_pulled(nora), _pulled(nora)][0] != "hit"
        (event,) = nora.wait_for_audit(1, action="purge")
        told = (event["user"], event["repository"], event["reference"], event["status"])
        assert told == ("alice", *_THING.values(), 303)
        alice.open(f"{nora.url}/ui/activity?repository=library/thing&client=alice")
        assert "303 answered purge docker.io/library/thing 1" in alice.text(".events li")
    finally:
        alice.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert alice.errors() == []


def test_refresh_by_keyboard(nora: Nora, alice: Browser, registry: Registry) -> None:
    """A tag that moved upstream is fetched when Enter is pressed on the button, long before its time is up."""
    _pulled(nora)
    moved = image([layer_of_noise(20_000, 2)])
    registry.push("library/thing", "1", moved)
    assert _pulled(nora) == "hit"
    alice.open(f"{nora.url}/ui/actions/refresh?{urlencode(_THING)}")
    alice.run("document.querySelector('form button').focus()")
    alice.press(Keys.ENTER)
    alice.arrives("h1", "Refreshed")
    reply = nora.get(_MANIFEST)
    assert reply.headers["Docker-Content-Digest"] in alice.text("main")
    assert _pulled(nora) == "hit"


def test_delete_of_what_was_pushed(nora: Nora, alice: Browser) -> None:
    """A pushed tag is deleted for every process; its image stays by its digest, and then goes by that."""
    pushed = image([layer_of_noise(20_000, 3)])
    push(nora.port, "team/app", "1", pushed, TOKEN)
    paths = [f"/v2/team/app/manifests/{reference}" for reference in ("1", pushed.manifest.digest)]
    assert [nora.get(path).status for path in (*paths, *paths)] == [200] * 4
    for reference, title in (("tag=1", "tag"), (f"digest={pushed.manifest.digest}", "image")):
        alice.open(f"{nora.url}/ui/actions/delete?repository=team/app&{reference}")
        assert alice.text("h1") == f"Delete this {title}?"
        alice.click("form button")
        alice.arrives("h1", "Deleted")
        left = 404 if title == "image" else 200
        assert [nora.get(path).status for path in (*paths, *paths)] == [404, left] * 2


def test_activity_follows(nora: Nora, alice: Browser) -> None:
    """The open page shows what happens by itself."""
    alice.open(f"{nora.url}/ui/activity?repository=never")
    assert alice.text("#activity") == "Nothing."
    nora.get("/v2/docker.io/never/one/manifests/1")
    wait_for(lambda: "never/one" in alice.text("#activity"), "the new line")
    assert "404 not found" in alice.text("#activity")
    alice.errors()


def test_other_sites_cannot(nora: Nora, alice: Browser) -> None:
    """A page from elsewhere makes alice's browser send the form, password included: nothing is done."""
    _pulled(nora)
    refused = len(nora.audit(action="purge", status=403))
    fields = "".join(f"<input name={name} value={value}>" for name, value in {**_THING, "csrf": "x"}.items())
    form = f"<form method=post action={nora.url}/ui/actions/purge>{fields}<button>Win</button></form>"
    alice.open(f"data:text/html,{quote(form)}")
    alice.click("button")
    alice.arrives("h1", "This is not allowed")
    assert "another site" in alice.text("main")
    event = nora.wait_for_audit(refused + 1, action="purge", status=403)[-1]
    assert event["user"] == "alice"
    assert _pulled(nora) == "hit"
    alice.errors()


def test_unprivileged(house: Room, nora: Nora) -> None:
    """Who administers nothing sees neither buttons nor the audit log, and is refused what it sends."""
    _pulled(nora)
    with browser(house.place("bob")) as window:
        _log_in(window, nora, "bob")
        assert "Activity" not in window.text("header")
        for path in (f"/ui/actions/purge?{urlencode(_THING)}", "/ui/activity"):
            window.open(nora.url + path)
            assert window.text("h1") == "This is not allowed"
            assert window.run("return document.querySelectorAll('form, main button').length") == 0
        sent = window.run(
            "return fetch('/ui/actions/purge', {method: 'POST', body: new URLSearchParams(arguments[0])})"
            ".then(answer => answer.status)",
            {**_THING, "csrf": "x"},
        )
        assert sent == 403
    headers = {"Authorization": basic("bob", PASSWORD), "Content-Type": "application/json"}
    for name in ("purge", "refresh", "delete"):
        assert nora.get(f"/api/v1/{name}", headers, method="POST").status in (400, 403)
    assert _pulled(nora) == "hit"


@pytest.mark.parametrize("path", [path for path in PAGES if "?" not in path or "actions" in path])
def test_keyboard(nora: Nora, alice: Browser, path: str) -> None:
    """Tab reaches everything in turn, the way past the navigation first, and it is seen where one is."""
    alice.look(1280)
    alice.open(nora.url + path.replace("=library/", "=docker.io/library/"))
    alice.press(Keys.TAB)
    assert alice.run(_SEES) == ["A", "skip", True, True]
    for _ in range(alice.run(_STOPS)):
        alice.press(Keys.TAB)
        name, kind, outlined, shown = alice.run(_SEES)
        assert name != "BODY"
        assert (outlined, shown) == (True, True), (name, kind)
    alice.press(Keys.TAB)
    assert alice.run("return document.activeElement.tagName") == "BODY"
    alice.open(nora.url + path.replace("=library/", "=docker.io/library/"))
    alice.press(Keys.TAB)
    alice.press(Keys.ENTER)
    assert alice.run("return document.activeElement.id") == "main"
    alice.errors()
