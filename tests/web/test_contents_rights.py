"""What the pages of contents must not do: show what a client may not pull, or be harmed by what others wrote."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import json
import re
from pathlib import Path

from nora.access import Action
from nora.access.rules import Rule
from nora.content import contents
from nora.oci import Digest, Repository
from nora.oci.reference import LOCAL
from nora.web.doorkeeper import OpenDoor
from tests.support.contents import CONFIG, descriptor
from tests.support.contents_case import ContentsTestCase
from tests.support.doors import PASSWORD, TOKEN, House, basic
from tests.support.seen import Seen
from tests.support.ui_site import HOSTILE

NGINX = Repository("docker.io", "library/nginx")
APP = Repository(LOCAL, "team/app")
AT_NGINX = "/ui/contents/docker.io/library/nginx"


class HostileTests(ContentsTestCase):
    """What others wrote harms no page."""

    async def test_hostile_texts(self) -> None:
        """Labels, histories, annotations, platforms, types and commands of any kind are text, apart and cut."""
        for number, text in enumerate(HOSTILE):
            config = {
                "os": text,
                "architecture": text,
                "variant": text,
                "created": text,
                "author": text,
                "config": {
                    "Labels": {text: text},
                    "Entrypoint": [text],
                    "Cmd": [text],
                    "Env": [text],
                    "User": text,
                    "WorkingDir": text,
                    "Volumes": {text: {}},
                    "ExposedPorts": {text: {}},
                },
                "history": [{"created_by": text, "created": text, "comment": text}],
            }
            layer = descriptor(text, b"layer")
            more = {
                "annotations": {text: text},
                "artifactType": text,
                "layers": [layer],
                "subject": {"digest": text},
            }
            await self.stocked.image(APP, f"t{number}", config, document=more)
            reply = await self.page(f"/ui/contents/team/app:t{number}")
            seen = Seen(reply.text)
            self.assertEqual(reply.status, 200)
            self.assertEqual([tag for tag, _ in seen.tags].count("script"), 1)
            self.assertFalse([tag for tag, names in seen.tags if "onerror" in names])
            self.assertNotIn("x" * 1000, reply.text)
            self.assertIn(text[:100], "".join(seen.words))
            bare = re.sub(r"<bdi>[^<]*</bdi>", "", reply.text)
            self.assertNotIn(text[:100].replace("<", "&lt;").replace(">", "&gt;").replace('"', "&#34;"), bare)
            await self.tell(f"/repositories/image?repository=team/app&reference=t{number}")
        reply = await self.page("/ui/contents/team/app")
        self.assertEqual((reply.status, reply.text.count("<script")), (200, 1))

    async def test_damage(self) -> None:
        """A manifest or configuration that is no JSON, no object, too large or gone is shown with a sentence."""
        for number, body in enumerate((b"{", b"[]", b"\xff", b"[" * 100_000, b"null")):
            await self.stocked.put(APP, f"m{number}", body)
            await self.stocked.image(APP, f"c{number}", body)
            text = (await self.page(f"/ui/contents/team/app:m{number}")).text
            self.assertIn("cannot be looked into", text)
            self.assertIn(
                "The configuration cannot be shown",
                (await self.page(f"/ui/contents/team/app:c{number}")).text,
            )
        gone = await self.stocked.put(APP, "gone", b"{}")
        await self.stocked.store.blobs.remove(gone)
        self.assertIn("not here any more", (await self.page("/ui/contents/team/app:gone")).text)
        await self.stocked.image(APP, "big", b" " * (1024 * 1024 + 1))
        self.assertIn("larger than 1 MiB", (await self.page("/ui/contents/team/app:big")).text)
        self.assertEqual((await self.page("/ui/contents/team/app")).status, 200)

    async def test_wrong_forms(self) -> None:
        """Whatever is not of its form is left out."""
        odd = {"config": [], "history": {"a": 1}, "os": 7, "created": "2023-02-31T00:00:00Z", "rootfs": None}
        nested = {"config": {"Labels": [1], "Env": {"a": 1}, "Cmd": "x", "Entrypoint": [1, None], "User": 3}}
        await self.stocked.image(APP, "odd", odd, document={"annotations": [], "subject": 3})
        await self.stocked.image(APP, "nested", nested)
        document = {
            "config": 7,
            "layers": [1, {}, {"digest": "x", "size": 1}, {"digest": str(Digest.of(b"")), "size": True}],
        }
        await self.stocked.put(APP, "parts", json.dumps(document).encode())
        for tag in ("odd", "nested", "parts"):
            told = await self.tell(f"/repositories/image?repository=team/app&reference={tag}")
            self.assertEqual((await self.page(f"/ui/contents/team/app:{tag}")).status, 200)
        self.assertEqual((told["layers"], told["config"]), ([], None))

    async def test_many(self) -> None:
        """A thousand layers are shown, and the number of the others."""
        layers = [descriptor(CONFIG, b"%d" % number) for number in range(1200)]
        config = {"config": {"Labels": {f"l{number}": "x" for number in range(1000)}}}
        await self.stocked.image(APP, "many", config, document={"layers": layers})
        told = await self.tell("/repositories/image?repository=team/app&reference=many")
        self.assertEqual((len(told["layers"]), told["left_out"]), (1000, 200))
        self.assertEqual(len(told["configuration"]["labels"]), 250)


class RightsTests(ContentsTestCase):
    """Who may not pull a repository does not see it."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        folder = Path(self.mktemp())
        folder.mkdir()
        self.house = House(folder, self.clock, self.metrics)
        self.bob = f"Authorization: {basic('bob', PASSWORD)}"
        self.alice = f"Authorization: {basic('alice', PASSWORD)}"
        pull, everything = (Action.PULL,), tuple(Action)
        self.backend.doorkeeper = self.house.door(
            Rule("alice", "*", everything), Rule("bob", "team/*", pull), Rule("anonymous", "*", pull)
        )
        self.digest = await self.stocked.image(NGINX, "1")
        await self.stocked.image(APP, "1")
        await self.stocked.store.index.flush()

    async def names(self, who: str, query: str = "") -> list[str]:
        return [each["name"] for each in (await self.tell(f"/repositories{query}", who))["repositories"]]

    async def test_rules(self) -> None:
        """A user sees what the rules let it pull, in lists, by a search, by name; the rest is as if it were not."""
        self.assertEqual(await self.names(self.alice), ["docker.io/library/nginx", "team/app"])
        self.assertEqual(await self.names(self.bob), ["team/app"])
        self.assertEqual(await self.names(self.bob, "?q=nginx"), [])
        for end in ("", ":1", f"@{self.digest}"):
            hidden = await self.page(f"{AT_NGINX}{end}", self.bob)
            absent = await self.page(f"/ui/contents/docker.io/library/none{end}", self.bob)
            self.assertEqual((hidden.status, hidden.text), (404, absent.text))
            self.assertEqual((await self.page(f"{AT_NGINX}{end}", self.alice)).status, 200)
        for path in ("tags?repository={}", "image?repository={}&reference=1"):
            hidden = await self.tell(
                f"/repositories/{path.format('docker.io/library/nginx')}", self.bob, status=404
            )
            absent = await self.tell(
                f"/repositories/{path.format('docker.io/library/none')}", self.bob, status=404
            )
            self.assertEqual(hidden, absent)

    async def test_no_login(self) -> None:
        """Without a login nothing is shown, even where anonymous clients may pull."""
        for path in ("/ui/contents", AT_NGINX, f"{AT_NGINX}:1", "/ui/contents/none", "/api/v1/repositories"):
            self.assertEqual((await self.page(path)).status, 401, path)

    async def test_nothing_to_pull(self) -> None:
        """Who may pull nothing at all is told so."""
        self.backend.doorkeeper = self.house.door(Rule("alice", "*", (Action.PULL,)))
        await self.tell("/repositories", self.bob, status=403)

    async def test_narrow_token(self) -> None:
        """A token for one repository shows that one."""
        self.backend.doorkeeper = door = self.house.door(Rule("ci", "*", (Action.PULL,)))
        scopes = frozenset({("team/app", Action.PULL)})
        issued = door._tokens.issue("ci", "nora.example", scopes)
        self.assertEqual(await self.names(f"Authorization: Bearer {issued.text}"), ["team/app"])
        self.assertEqual(len(await self.names(f"Authorization: Bearer {TOKEN}")), 2)

    async def test_private(self) -> None:
        """What only a credential opened is for users; without a login it is not shown even where all else is."""
        self.backend.doorkeeper = OpenDoor()
        self.assertEqual(await self.names("Accept: */*"), ["docker.io/library/nginx", "team/app"])
        self.stocked.private = {NGINX}
        self.assertEqual(await self.names("Accept: */*"), ["team/app"])
        self.assertEqual((await self.page(f"{AT_NGINX}:1")).status, 404)

    async def test_few_of_many(self) -> None:
        """A page of a client that may see little ends after a bounded look, and leads on."""
        self.patch(contents, "_LOOKS", 20 + 3 * 50)
        self.patch(contents, "_STEP", 7)
        for number in range(30):
            self.stocked.store.index.appeared(Repository("docker.io", f"library/a{number:02d}"))
        self.backend.doorkeeper = self.house.door(Rule("bob", "*team/*", (Action.PULL,)))
        first = await self.tell("/repositories", self.bob)
        self.assertEqual((first["repositories"], first["next"]), ([], "docker.io/library/a19"))
        self.assertIn("Look further", (await self.page("/ui/contents", self.bob)).text)
        self.assertEqual(await self.names(self.bob, f"?after={first['next']}"), ["team/app"])

    async def test_rules_that_lead_there(self) -> None:
        """What no rule can allow, by how it begins, is passed over, and nothing that one allows is missed."""
        self.patch(contents, "_LOOKS", 1000)
        self.patch(contents, "_STEP", 2)
        for name in ("a", "team", "team/b/c", "teams/x", "x", "x/y", "xy", "z/1", "z/2", "z/3"):
            self.stocked.store.index.appeared(Repository(LOCAL, name))
        pull = (Action.PULL,)
        for patterns, expected in (
            (("team/*", "x", "z/*2"), ["team/app", "team/b/c", "x", "z/2"]),
            (("z/3",), ["z/3"]),
            (("none", "zz*"), []),
            (("x*", "x/*"), ["x", "x/y", "xy"]),
        ):
            self.backend.doorkeeper = self.house.door(*(Rule("bob", pattern, pull) for pattern in patterns))
            self.assertEqual(await self.names(self.bob), expected)
