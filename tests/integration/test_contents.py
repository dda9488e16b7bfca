"""A real browser looks at what a real client pulled and pushed."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest

from tests.support.browser import Browser, browser
from tests.support.daemon import Nora
from tests.support.doors import PASSWORD, write_users
from tests.support.engines import Skopeo
from tests.support.images import image, layer_of_noise
from tests.support.openapi import Description
from tests.support.programs import wait_for
from tests.support.room import Room

pytestmark = pytest.mark.needs("docker-registry", "skopeo", "chromium", "chromedriver")

_OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
_HOSTILE = "</td></script><script>window.harmed = 1</script>\"' onclick=x \u202egnp.live " + "x" * 10_240
_THING, _SECRET = "docker.io/library/thing", "docker.io/secret/thing"


@pytest.fixture(scope="module")
def nora(house: Room) -> Nora:
    """Start NORA with users before a registry with two images; alice pulls both through it, and pushes one."""
    told = {
        "config": {
            "Labels": {"a": _HOSTILE, _HOSTILE: "b"},
            "Entrypoint": ["/bin/thing", _HOSTILE],
            "Cmd": [_HOSTILE],
        },
        "history": [{"created_by": _HOSTILE}],
    }
    registry = house.registry()
    registry.push("library/thing", "1", image([layer_of_noise(200_000, 5)], told=told))
    registry.push("secret/thing", "1", image([layer_of_noise(100_000, 6)]))
    users = house.place("users")
    write_users(users, "alice", "bob")
    rules = [
        {"user": "alice", "repository": "*", "actions": ["pull", "push"]},
        {"user": "*", "repository": "docker.io/library/*", "actions": ["pull"]},
    ]
    upstreams = [{"url": registry.url, "namespace": "docker.io", "name": "hub"}]
    sections: dict[str, dict[str, object]] = {"auth": {"htpasswd": str(users)}, "access": {"rules": rules}}
    nora = house.start(Nora(house.place("nora"), upstreams, sections))
    client = Skopeo(house.place("skopeo"))
    here = f"docker://127.0.0.1:{nora.port}"
    pulled = house.place("pulled")
    for name in ("library/thing", "secret/thing", "library/thing"):
        client.copy(f"{here}/{name}:1", pulled, f"--src-creds=alice:{PASSWORD}")
    client.copy(f"dir:{pulled}", f"{here}/team/app:2", f"--dest-creds=alice:{PASSWORD}")
    wait_for(lambda: len(_names(nora, "alice", "?q=thing")) == 2, "the index")
    return nora


@pytest.fixture(scope="module")
def window(house: Room) -> Iterator[Browser]:
    """Start the browser."""
    with browser(house.place("browser")) as started:
        started.driver.execute_cdp_cmd("Network.enable", {})
        yield started


def _authorization(user: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{PASSWORD}".encode()).decode()}


def _names(nora: Nora, user: str, query: str = "") -> list[str]:
    reply = nora.get(f"/api/v1/repositories{query}", _authorization(user))
    return [each["name"] for each in json.loads(reply.body)["repositories"]]


def log_in(window: Browser, user: str) -> None:
    """Send what a browser sends that was told user and password."""
    window.driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": _authorization(user)})


def test_search_finds(nora: Nora, window: Browser) -> None:
    """What is typed into the search finds a repository, whose link leads to its tag, and that to what it is."""
    log_in(window, "alice")
    window.open(f"{nora.url}/ui/contents")
    rows = [window.text(f"#repositories tbody tr:nth-child({number}) th") for number in (1, 2, 3)]
    assert rows == [_THING, _SECRET, "team/app"]
    window.run("document.getElementById('q').value = 'SECRET'")
    window.click(".search button")
    window.arrives("#repositories tbody", _SECRET)
    assert window.text("#repositories tbody").startswith(_SECRET)
    assert window.run("return document.querySelectorAll('#repositories tbody tr').length") == 1
    window.open(f"{nora.url}/ui/contents?q=no-such-name")
    assert "No repository" in window.text("#nothing")
    window.open(f"{nora.url}/ui/contents?q=library")
    window.click("#repositories tbody a")
    window.arrives("h1", _THING)
    assert window.text("h1") == _THING
    assert "hub" in window.text("#tags tbody")
    window.click("#tags tbody a")
    window.arrives("h1", f"{_THING}:1")
    assert window.text("h1") == f"{_THING}:1"
    assert window.text("#layers tbody .pill") == "here"
    assert window.run("return document.querySelectorAll('[aria-current=page]').length") == 2


def test_pulls_are_counted(nora: Nora, window: Browser) -> None:
    """A tag tells how often it was pulled, and when."""
    log_in(window, "alice")

    def counted() -> bool:
        window.open(f"{nora.url}/ui/contents/{_THING}")
        return window.text("#tags td[data-label=Pulls]") == "2"

    wait_for(counted, "both pulls")
    assert "ago" in window.text("#tags td[data-label='Last pull']")


def test_hostile_words(nora: Nora, window: Browser) -> None:
    """Labels, history and commands of an image that skopeo pulled are read as texts, and stay where they are."""
    log_in(window, "alice")
    for width in (1280, 800, 360):
        window.look(width)
        for page in ("", f"/{_THING}", f"/{_THING}:1"):
            window.open(f"{nora.url}/ui/contents{page}")
            assert window.run(_OVERFLOW) <= 0, (page, width)
        window.open(f"{nora.url}/ui/contents/{_THING}:1")
        assert window.run("return window.harmed") is None
        assert window.run("return document.querySelectorAll('script').length") == 1
        assert window.run("return document.querySelectorAll('[onclick]').length") == 0
        assert _HOSTILE[:40] in window.run("return document.querySelector('.history').textContent")
        assert window.errors() == []


def test_copy_copies(nora: Nora, window: Browser) -> None:
    """The command that is copied is the one that pulls from here."""
    log_in(window, "alice")
    window.open(f"{nora.url}/ui/contents/team/app:2")
    grant = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": nora.url}
    window.driver.execute_cdp_cmd("Browser.grantPermissions", grant)
    window.click("[data-copy=podman]")
    wait_for(lambda: window.text("#told") == "Copied", "word that it was copied")
    expected = f"podman pull --tls-verify=false 127.0.0.1:{nora.port}/team/app:2"
    assert window.run("return navigator.clipboard.readText()") == expected


def test_unprivileged_user_sees_nothing_of_it(nora: Nora, window: Browser) -> None:
    """Who may not pull a repository finds it in no list and by no search, and is told that it is not there."""
    log_in(window, "bob")
    window.open(f"{nora.url}/ui/contents")
    assert window.run("return document.querySelectorAll('#repositories tbody tr').length") == 1
    assert _THING in window.text("#repositories")
    window.open(f"{nora.url}/ui/contents?q=secret")
    assert "No repository" in window.text("#nothing")
    pages = []
    for name in (_SECRET, f"{_SECRET}:1", "team/app", "docker.io/none/such"):
        window.open(f"{nora.url}/ui/contents/{name}")
        pages.append(window.run("return document.documentElement.outerHTML"))
    assert pages[0] == pages[2] == pages[3]
    assert "404" in pages[0]
    assert _names(nora, "bob") == [_THING]


def test_api_is_as_described(nora: Nora) -> None:
    """What the running daemon tells of its contents is what its OpenAPI document says."""
    description = Description(json.loads(nora.get("/api/v1/openapi.json").body))
    for path, query, user, status in (
        ("/repositories", "", "alice", 200),
        ("/repositories/tags", f"?repository={_THING}", "alice", 200),
        ("/repositories/image", f"?repository={_THING}&reference=1", "alice", 200),
        ("/repositories/image", "?repository=team/app&reference=2", "alice", 200),
        ("/repositories/image", f"?repository={_SECRET}&reference=1", "bob", 404),
        ("/repositories", "?n=0", "bob", 400),
    ):
        reply = nora.get(f"/api/v1{path}{query}", _authorization(user))
        assert reply.status == status
        description.check(path, status, reply.headers["Content-Type"], json.loads(reply.body))
