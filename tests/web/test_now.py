"""The page of what happens now, and its JSON: what is shown, and to whom."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import attrs

from nora.access import Action
from nora.access.rules import Rule
from nora.oci import Repository
from nora.oci.manifest import OCI_MANIFEST
from nora.oci.reference import LOCAL
from nora.pull.progress import Place, Progress
from nora.storage.interfaces import OpenUpload
from nora.telemetry.recent import Pull, pulls
from nora.web.doorkeeper import LoopbackDoor
from nora.web.happening import Happening
from nora.web.ui.now import PULLS
from tests.support.doors import PASSWORD, House, basic
from tests.support.openapi import Description
from tests.support.seen import Seen
from tests.support.ui_site import HOSTILE, NOW, UiTestCase

THING = Repository("docker.io", "library/thing")
SECRET = Repository("docker.io", "team/secret")
APP = Repository(LOCAL, "team/app")


def fill(*repositories: Repository, **told: Any) -> Progress:
    """Tell of a fill that is half done."""
    places = tuple(Place(each, f"at {each.name}") for each in repositories or (THING,))
    digest = "sha256:" + "ab" * 32
    return attrs.evolve(Progress(digest, places, True, 5 << 20, 10 << 20, 1048576.0, 2), **told)


def push(repository: Repository = APP, **told: Any) -> OpenUpload:
    """Tell of an upload."""
    return attrs.evolve(OpenUpload(repository, "bob", NOW - 60, NOW - 2, 7 << 20), **told)


def pull(repository: Repository = THING, **told: Any) -> Pull:
    """Tell of a pull."""
    return attrs.evolve(
        Pull(NOW - 30, 2.5, "10.0.0.5", "bob", repository, "1.27", True, 3 << 20, False), **told
    )


class NowTestCase(UiTestCase):
    """A site where things happen."""

    async def tell(self, *headers: str) -> Any:
        """Ask the API, and hold the answer to the description."""
        reply = await self.ask("GET", "/api/v1/now", *headers)
        self.assertEqual(reply.status, 200, reply.body)
        told = json.loads(reply.body)
        description = Description(json.loads((await self.ask("GET", "/api/v1/openapi.json")).body))
        description.check("/now", 200, "application/json", told)
        return told

    async def text(self, *headers: str) -> str:
        """Give the page with plain spaces."""
        reply = await self.page("/ui/now", *headers)
        self.assertEqual(reply.status, 200)
        return " ".join(reply.text.split())


class NowTests(NowTestCase):
    """What is shown."""

    async def test_everything(self) -> None:
        """Fills, pushes and pulls are told with all that is known of them."""
        self.happening = Happening((fill(),), (push(),), (pull(),))
        self.assertEqual(
            await self.tell(),
            {
                "now": "2023-11-14T22:13:20Z",
                "fills": [
                    {
                        "digest": "sha256:" + "ab" * 32,
                        "repositories": ["docker.io/library/thing"],
                        "upstream": "at library/thing",
                        "state": "fetching",
                        "stored_bytes": 5 << 20,
                        "total_bytes": 10 << 20,
                        "bytes_per_second": 1 << 20,
                        "seconds_left": 5.0,
                        "followers": 2,
                    }
                ],
                "pushes": [
                    {
                        "repository": "team/app",
                        "bytes": 7 << 20,
                        "began_at": "2023-11-14T22:12:20Z",
                        "written_at": "2023-11-14T22:13:18Z",
                        "user": "bob",
                    }
                ],
                "pulls": [
                    {
                        "at": "2023-11-14T22:12:50Z",
                        "client": "10.0.0.5",
                        "user": "bob",
                        "repository": "docker.io/library/thing",
                        "reference": "1.27",
                        "hit": True,
                        "bytes": 3 << 20,
                        "seconds": 2.5,
                        "aborted": False,
                    }
                ],
                "silent_workers": [],
            },
        )
        text = await self.text()
        for word in (
            'max="10485760" value="5242880">50 %</progress>',
            *("<li>5.0 MiB of 10.0 MiB</li>", "<li>1.0 MiB/s</li>", "<li>5 s left</li>"),
            *("<li>2 clients following</li>", "<bdi>at library/thing</bdi>", "sha256:abababababab\u2026"),
            *("<bdi>team/app</bdi>", "7.0 MiB", "22:13:18", "<bdi>10.0.0.5</bdi>", "2.50 s", "Store"),
        ):
            self.assertIn(word, text)

    async def test_nothing(self) -> None:
        """Where nothing happens the page says so."""
        text = await self.text()
        for word in ("Nothing is being fetched", "Nothing is being pushed", "Nobody has pulled"):
            self.assertIn(word, text)
        self.assertEqual((await self.tell())["fills"], [])

    async def test_fill_that_waits(self) -> None:
        """A fill whose upstream did not answer yet, and one of unknown size, have a bar without an end."""
        self.happening = Happening(
            (
                fill(confirmed=False, written=0, size=None, rate=None, followers=0),
                fill(SECRET, THING, digest="sha256:cd", size=None, rate=None),
                fill(digest="sha256:ef", size=0, written=0, rate=None),
            ),
            (),
            (),
        )
        states = [(each["state"], each["total_bytes"]) for each in (await self.tell())["fills"]]
        self.assertEqual(states, [("waiting", None), ("fetching", None), ("fetching", 0)])
        text = await self.text()
        self.assertEqual(len(re.findall(r'<progress aria-label="[^"]*"></progress>', text)), 2)
        for word in ("waiting for the upstream", "of unknown size", "and 1 more", "0 clients following"):
            self.assertIn(word, text)

    async def test_silent_worker(self) -> None:
        """A worker that does not answer is told of."""
        self.happening = Happening((), (), (), (2,))
        self.assertEqual((await self.tell())["silent_workers"], [2])
        self.assertIn("Worker 2 did not answer", await self.text())

    async def test_so_many(self) -> None:
        """So many pulls are shown, those that began last."""
        many = tuple(pull(at=NOW - number) for number in range(PULLS + 5))
        self.happening = Happening((), (), many)
        told = (await self.tell())["pulls"]
        self.assertEqual((len(told), told[0]["at"]), (PULLS, "2023-11-14T22:13:20Z"))

    async def test_hostile_texts(self) -> None:
        """Whatever somebody else wrote is text, apart from the text around it, and cut where it is long."""
        plain = len(Seen((await self.page("/ui/now")).text).tags)
        for text in HOSTILE:
            odd = Repository("docker.io", text)
            self.happening = Happening(
                (fill(odd, digest=f"sha256:{text}"),),
                (push(odd, user=text),),
                (pull(odd, client=text, user=text, reference=text),),
            )
            reply = await self.page("/ui/now")
            seen = Seen(reply.text)
            self.assertEqual([tag for tag, _ in seen.tags].count("script"), 2)
            self.assertFalse([tag for tag, names in seen.tags if "onerror" in names])
            self.assertLess(len(seen.tags) - plain, 80)
            self.assertIn(f"docker.io/{text}"[:400], "".join(seen.words))
            apart = Seen(re.sub(r"<bdi>[^<]*</bdi>", "", reply.text))
            self.assertNotIn(text[:100], "".join(apart.words))
            self.assertEqual((await self.tell())["pulls"][0]["user"], text)

    async def test_real_pull(self) -> None:
        """What the registry serves is among the recent pulls: by tag, with the blobs, a HEAD being none."""
        digest, _ = self.pull.add_blob(b"layer")
        self.pull.add_manifest(b"{}", OCI_MANIFEST, "latest")
        await self.ask("HEAD", f"/v2/library/nginx/blobs/{digest}")
        await self.ask("HEAD", "/v2/library/nginx/manifests/latest")
        await self.ask("GET", "/v2/library/nginx/manifests/none")
        self.assertEqual(pulls(self.metrics.recent), [])
        await self.ask("GET", "/v2/library/nginx/manifests/latest")
        await self.ask("GET", f"/v2/library/nginx/blobs/{digest}", "Range: bytes=1-2")
        await self.ask("GET", "/v2/library/nginx/tags/list")
        (found,) = pulls(self.metrics.recent)
        self.assertEqual((found.reference, found.sent, found.client), ("latest", 4, "127.0.0.1"))
        self.assertEqual(found.repository.name, "library/nginx")


class ViewerTests(NowTestCase):
    """Who sees what."""

    def setUp(self) -> None:
        super().setUp()
        folder = Path(self.mktemp())
        folder.mkdir()
        self.house = House(folder, self.clock, self.metrics)
        self.happening = Happening(
            (fill(SECRET, THING), fill(SECRET, digest="sha256:cd")),
            (push(), push(Repository(LOCAL, "team/other"), user=None)),
            (pull(SECRET), pull(), pull(user="alice"), pull(user=None, client="127.0.0.1")),
        )

    def login(self, *rules: Rule, user: str = "alice") -> str:
        """Have a door with these rules, and give the header of a user."""
        self.backend.doorkeeper = self.house.door(*rules)
        return f"Authorization: {basic(user, PASSWORD)}"

    async def test_rules(self) -> None:
        """Who may not pull a repository sees no fill, push or pull of it, nor its name beside another one's."""
        header = self.login(
            Rule("alice", "docker.io/library/*", [Action.PULL]), Rule("alice", "team/app", [Action.PUSH])
        )
        told = await self.tell(header)
        self.assertEqual([each["repositories"] for each in told["fills"]], [["docker.io/library/thing"]])
        self.assertEqual(told["fills"][0]["upstream"], "at library/thing")
        self.assertEqual([each["repository"] for each in told["pushes"]], ["team/app"])
        self.assertEqual(len(told["pulls"]), 3)
        for text in (json.dumps(told), await self.text(header)):
            self.assertNotIn("secret", text)
            self.assertNotIn("team/other", text)

    async def test_rules_without_logins(self) -> None:
        """The rules hold where nobody can log in, too."""
        rules = self.house.door(Rule("everyone", "team/*", [Action.PULL]))._rules
        self.backend.doorkeeper = LoopbackDoor("loopback", rules)
        told = await self.tell()
        self.assertEqual((told["fills"], told["pulls"]), ([], []))
        self.assertEqual(len(told["pushes"]), 2)

    async def test_private(self) -> None:
        """What is private is not there for who may not read it."""
        self.hidden = {SECRET, THING}
        told = await self.tell()
        self.assertEqual((told["fills"], told["pulls"]), ([], []))

    async def test_other_people(self) -> None:
        """Who others are, only an administrator sees; a person sees itself, and what came from its own address."""
        header = self.login()
        told = await self.tell(header)
        self.assertEqual(
            [(each["client"], each["user"]) for each in told["pulls"]],
            [(None, None), (None, None), ("10.0.0.5", "alice"), ("127.0.0.1", None)],
        )
        self.assertEqual([each["user"] for each in told["pushes"]], [None, None])
        self.assertNotIn("bob", await self.text(header))

    async def test_administrator(self) -> None:
        """An administrator sees who, of what is his to administer."""
        header = self.login(Rule("*", "team/*", [Action.ADMIN]), Rule("*", "*", [Action.PULL]))
        told = await self.tell(header)
        self.assertEqual({each["client"] for each in told["pulls"]}, {None, "10.0.0.5", "127.0.0.1"})
        self.assertEqual([each["user"] for each in told["pushes"]], ["bob", None])
        header = self.login(Rule("alice", "*", [Action.ADMIN]))
        told = await self.tell(header)
        self.assertEqual([each["user"] for each in told["pulls"]], ["bob", "bob", "alice", None])

    async def test_without_logins(self) -> None:
        """Where there are no logins everybody sees who."""
        told = await self.tell()
        self.assertEqual([each["user"] for each in told["pulls"]], ["bob", "bob", "alice", None])

    async def test_token_for_one_name(self) -> None:
        """A token that is for one name shows nothing of others."""
        header = self.login()
        scope = "repository:docker.io/library/thing:pull"
        reply = await self.ask("GET", f"/v2/token?service=nora.example&scope={scope}", header)
        told = await self.tell(f"Authorization: Bearer {json.loads(reply.body)['token']}")
        self.assertEqual([each["repositories"] for each in told["fills"]], [["docker.io/library/thing"]])
        self.assertEqual((len(told["pulls"]), told["pushes"]), (3, []))
