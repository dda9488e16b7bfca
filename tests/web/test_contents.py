"""The pages of what is here, and the JSON behind them, over a real store."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import re
from urllib.parse import quote

from nora.oci import Digest, Repository
from nora.oci.listing import compose_referrers
from nora.oci.manifest import OCI_INDEX, OCI_MANIFEST
from nora.oci.reference import LOCAL
from nora.storage.interfaces import ListSource, OwnerRecord
from tests.support.contents import descriptor
from tests.support.contents_case import ContentsTestCase
from tests.support.ui_site import HOSTILE, NOW

NGINX = Repository("docker.io", "library/nginx")
APP = Repository(LOCAL, "team/app")
SBOM = "application/spdx+json"
AT_NGINX = "/ui/contents/docker.io/library/nginx"


class ListTests(ContentsTestCase):
    """The list of repositories."""

    async def names(self, query: str = "", *headers: str) -> list[str]:
        told = await self.tell(f"/repositories{query}", *headers)
        return [each["name"] for each in told["repositories"]]

    async def fill(self, *repositories: Repository) -> None:
        for repository in repositories:
            await self.stocked.image(repository, "1")
        await self.stocked.store.index.flush()

    async def test_empty(self) -> None:
        """An empty store says what to do."""
        self.assertIn("There is no image here yet", (await self.page("/ui/contents")).text)
        self.assertEqual((await self.page("/ui/contents/")).status, 200)

    async def test_rows(self) -> None:
        """A row tells kind, namespace, owner, tags and how much is here."""
        await self.fill(NGINX, APP)
        await self.stocked.store.repositories.put_owner("nginx", OwnerRecord("hub", "docker.io", True, NOW))
        nginx, app = (await self.tell("/repositories"))["repositories"]
        self.assertEqual((nginx["name"], nginx["namespace"]), ("docker.io/library/nginx", "docker.io"))
        self.assertEqual((nginx["owner"]["upstream"], nginx["owner"]["here"]), ("hub", True))
        self.assertEqual((nginx["tag_count"], nginx["stored_blobs"]), (1, 2))
        self.assertEqual(
            nginx["stored_bytes"], len(b"layer") + len(b'{"os": "linux", "architecture": "amd64"}')
        )
        self.assertEqual((app["name"], app["hosted"], app["owner"]), ("team/app", True, None))
        text = " ".join((await self.page("/ui/contents")).text.split())
        for word in ("hosted", "proxied", "<bdi>hub</bdi>", "provisional", "pushed here", "this server"):
            self.assertIn(word, text)

    async def test_owned_by_another(self) -> None:
        """A short name that means another upstream's repository is said to do so; a hub's name has two forms."""
        await self.fill(NGINX)
        await self.stocked.store.repositories.put_owner(
            "library/nginx", OwnerRecord("quay", "quay.io", False, NOW)
        )
        (row,) = (await self.tell("/repositories"))["repositories"]
        self.assertEqual((row["owner"]["upstream"], row["owner"]["here"]), ("quay", False))
        self.assertIn("its short name means <bdi>quay</bdi>", (await self.page("/ui/contents")).text)

    async def test_what_was_purged_does_not_count(self) -> None:
        """What a repository may not read any more is not its content."""
        await self.fill(APP)
        await self.stocked.store.repositories.unlink_blob(APP, Digest.of(b"layer"))
        await self.stocked.store.index.flush()
        (row,) = (await self.tell("/repositories"))["repositories"]
        self.assertEqual(row["stored_blobs"], 1)

    async def test_search(self) -> None:
        """A part of a name, in any case, finds it; what is in none finds nothing, and no pattern is believed."""
        await self.fill(NGINX, APP, Repository(LOCAL, "team/other"))
        self.assertEqual(await self.names("?q=team"), ["team/app", "team/other"])
        self.assertEqual(await self.names("?q=%20Y/NGI"), ["docker.io/library/nginx"])
        for query in (
            "zzz",
            "%25",
            "_",
            "*",
            "te_m",
            quote(HOSTILE[0]),
            quote(HOSTILE[2]),
            "%00",
            "%ff",
            "x" * 10_000,
        ):
            self.assertEqual(await self.names(f"?q={query}"), [], query)
            self.assertIn("No repository", (await self.page(f"/ui/contents?q={query}")).text)

    async def test_paging(self) -> None:
        """Each part goes on where the one before ended, with a search too, and the last has no next."""
        repositories = [Repository(LOCAL, f"team/app-{number:02d}") for number in range(7)]
        await self.fill(*repositories, NGINX)
        for query in ("n=3", "n=3&q=app"):
            found: list[str] = []
            after: str | None = ""
            parts = 0
            while after is not None:
                told = await self.tell(f"/repositories?{query}&after={after}")
                found += [each["name"] for each in told["repositories"]]
                after, parts = told["next"], parts + 1
            expected = [repository.name for repository in repositories]
            self.assertEqual(found, expected if "q" in query else ["docker.io/library/nginx", *expected])
            self.assertEqual(parts, 3)
        self.assertEqual(await self.names("?after=team/app-05"), ["team/app-06"])
        self.assertIn("No repository follows", (await self.page("/ui/contents?after=zzz")).text)

    async def test_links_between_parts(self) -> None:
        """A page leads to the next, and back to the beginning."""
        await self.fill(*(Repository(LOCAL, f"team/app-{number:03d}") for number in range(51)))
        first = (await self.page("/ui/contents?q=app")).text
        (link,) = re.findall(r'id="next" href="([^"]+)"', first)
        second = (await self.page(link.replace("&amp;", "&"))).text
        self.assertIn("team/app-050", second)
        self.assertIn('href="/ui/contents?q=app"', second)
        self.assertNotIn('id="next"', second)

    async def test_wrong_number(self) -> None:
        """A number of rows that is none is refused."""
        for number in ("0", "101", "-1", "x", "", "99999999999"):
            await self.tell(f"/repositories?n={number}", status=400)


class ImageTests(ContentsTestCase):
    """The pages of a repository, and of its tags."""

    async def test_tags(self) -> None:
        """A tag tells digest, size, platforms, pulls, upstream, age and next check."""
        digest = await self.stocked.image(NGINX, "1", checked_at=NOW - 600)
        await self.stocked.image(NGINX, "due", checked_at=NOW - 9000)
        await self.stocked.image(NGINX, "fixed", checked_at=NOW - 9000)
        index = self.stocked.store.index
        await index.flush()
        index.pulled({("docker.io", "library/nginx", str(digest)): 3, ("docker.io", "x", str(digest)): 5})
        await index.flush()
        due, fixed, first = sorted(
            (await self.tell("/repositories/tags?repository=docker.io/library/nginx"))["tags"],
            key=lambda each: str(each["name"]).replace("1", "z"),
        )
        self.assertEqual((first["digest"], first["pulls"], first["upstream"]), (str(digest), 3, "hub"))
        self.assertEqual((first["platforms"], first["size_bytes"]), (["linux/amd64"], 45))
        self.assertEqual(first["checked_at"], "2023-11-14T22:03:20Z")
        self.assertEqual((first["next_check"], first["check_is_due"]), ("2023-11-14T23:03:20Z", False))
        self.assertTrue(due["check_is_due"])
        self.assertIsNone(fixed["next_check"])
        text = (await self.page(AT_NGINX)).text
        for word in ("at the next pull", "in 50\u00a0min", "never", f'title="{digest}"', "linux/amd64"):
            self.assertIn(word, text)

    async def test_pages_of_tags(self) -> None:
        """Many tags come in parts."""
        for number in range(52):
            await self.stocked.image(APP, f"v{number:02d}")
        first = (await self.page("/ui/contents/team/app")).text
        self.assertIn("v49", first)
        (link,) = re.findall(r'id="next" href="([^"]+)"', first)
        second = (await self.page(link)).text
        self.assertIn("v51", second)
        self.assertNotIn(":v49", second)

    async def test_image(self) -> None:
        """An image tells its configuration, its history, and which of its layers are here."""
        config = {
            "os": "linux",
            "architecture": "arm64",
            "variant": "v8",
            "created": "2023-11-13T22:13:20.123Z",
            "config": {
                "Entrypoint": ["/bin/nginx"],
                "Cmd": ["-g"],
                "Env": ["A=1"],
                "Labels": {"who": "me"},
                "User": "www",
                "ExposedPorts": {"80/tcp": {}},
            },
            "history": [{"created_by": "COPY x"}, {"created_by": "CMD y", "empty_layer": True}],
        }
        await self.stocked.image(APP, "1", config, (b"one", b"two"))
        await self.stocked.store.blobs.remove(Digest.of(b"one"))
        await self.stocked.store.repositories.unlink_blob(APP, Digest.of(b"two"))
        await self.stocked.image(APP, "2", config, (b"three",))
        told = await self.tell("/repositories/image?repository=team/app&reference=1")
        self.assertEqual([each["stored"] for each in told["layers"]], [False, False])
        self.assertEqual((told["platforms"], told["tag"]), (["linux/arm64/v8"], "1"))
        self.assertEqual(told["configuration"]["labels"], [{"name": "who", "value": "me"}])
        self.assertEqual(told["configuration"]["created"], "2023-11-13T22:13:20Z")
        self.assertEqual([step["empty"] for step in told["configuration"]["history"]], [False, True])
        self.assertEqual(told["referrers"], {"known": True, "asked_at": None, "more": False, "list": []})
        other = await self.tell("/repositories/image?repository=team/app&reference=2")
        self.assertEqual([each["stored"] for each in other["layers"]], [True])
        text = " ".join((await self.page("/ui/contents/team/app:1")).text.split())
        for word in ("/bin/nginx", "80/tcp", "COPY x", "no layer", "not here", "Nothing refers to it"):
            self.assertIn(word, text)

    async def test_commands(self) -> None:
        """The commands name this server as it is reached, by tag and by digest."""
        digest = await self.stocked.image(APP, "1")
        path = f"/ui/contents/team/app@{digest}"
        self.assertIn(
            f"docker pull nora.lan:4000/team/app@{digest}",
            (await self.page(f"http://nora.lan:4000{path}")).text,
        )
        self.public_url = "https://nora"
        text = (await self.page("/ui/contents/team/app:1")).text
        self.assertIn('<code id="podman">podman pull nora:443/team/app:1</code>', text)
        self.assertIn("ctr images pull nora:443/team/app:1", text)

    async def test_index(self) -> None:
        """An index tells its platforms, those here and those not, and adds up what is here."""
        here = await self.stocked.image(NGINX, None)
        body = await self.stocked.store.blobs.read(here, 10_000)
        assert body is not None
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [
                descriptor(OCI_MANIFEST, body, platform={"os": "linux", "architecture": "amd64"}),
                descriptor(
                    OCI_MANIFEST,
                    b"elsewhere",
                    platform={"os": "linux", "architecture": "arm", "variant": "v7"},
                ),
                descriptor(
                    OCI_MANIFEST,
                    b"attests",
                    platform={"os": "unknown", "architecture": "unknown"},
                    annotations={"vnd.docker.reference.digest": str(here)},
                ),
            ],
        }
        await self.stocked.put(NGINX, "multi", document)
        told = await self.tell("/repositories/image?repository=docker.io/library/nginx&reference=multi")
        self.assertEqual([each["stored"] for each in told["variants"]], [True, False, False])
        self.assertEqual(told["platforms"], ["linux/amd64", "linux/arm/v7"])
        self.assertEqual((told["size_bytes"], told["variants"][1]["image_bytes"]), (45, None))
        (tag,) = (await self.tell("/repositories/tags?repository=docker.io/library/nginx"))["tags"]
        self.assertEqual((tag["platforms"], tag["size_bytes"]), (told["platforms"], 45))
        text = (await self.page(f"{AT_NGINX}:multi")).text
        self.assertIn("attestation", text)
        self.assertIn(f'href="{AT_NGINX}@{here}"', text)
        self.assertNotIn(str(Digest.of(b"elsewhere")) + '" title', text)

    async def test_referrers(self) -> None:
        """What refers to an image is told, as far as an upstream was asked."""
        digest = await self.stocked.image(NGINX, "1")
        self.assertIn("Nobody has asked for them", (await self.page(f"{AT_NGINX}:1")).text)
        listed = [descriptor(OCI_MANIFEST, b"%d" % number, artifactType=SBOM) for number in range(101)]
        source = ListSource("hub", NOW)
        await self.stocked.store.lists.put_referrers(NGINX, digest, compose_referrers(listed), source)
        told = await self.tell("/repositories/image?repository=docker.io/library/nginx&reference=1")
        self.assertEqual((len(told["referrers"]["list"]), told["referrers"]["more"]), (100, True))
        self.assertEqual(told["referrers"]["list"][0]["artifact_type"], SBOM)
        self.assertIn(SBOM, (await self.page(f"{AT_NGINX}:1")).text)

    async def test_artifact(self) -> None:
        """What is no image has no configuration to show, and its subject is told."""
        document = {
            "artifactType": SBOM,
            "subject": descriptor(OCI_MANIFEST, b"it"),
            "annotations": {"a": "b"},
        }
        await self.stocked.image(APP, "sbom", b"{}", document=document)
        told = await self.tell("/repositories/image?repository=team/app&reference=sbom")
        self.assertEqual((told["artifact_type"], told["subject"]), (SBOM, str(Digest.of(b"it"))))
        self.assertEqual(told["annotations"], [{"name": "a", "value": "b"}])
        self.assertEqual((await self.page("/ui/contents/team/app:sbom")).status, 200)

    async def test_nowhere(self) -> None:
        """What is not here is 404, on a page and in JSON, whatever it is called."""
        await self.stocked.image(APP, "1")
        none = Digest.of(b"none")
        for name in (
            "team/none",
            "team",
            "team/app/1",
            "local/team/app",
            "../app",
            "%2e%2e/x",
            "%00",
            "a%2fb",
            "é",
            "x" * 3000,
        ):
            self.assertEqual((await self.page(f"/ui/contents/{quote(name, safe='/%')}")).status, 404, name)
            await self.tell(f"/repositories/tags?repository={quote(name, safe='%')}", status=404)
        for end in (":2", f"@{none}", "@1", ":", "@", ":..", ":a:b", "@sha256:x", ":" + "x" * 200, "/"):
            self.assertEqual((await self.page(f"/ui/contents/team/app{end}")).status, 404, end)
        for reference in ("2", str(none), "", "..", "x" * 5000):
            await self.tell(f"/repositories/image?repository=team/app&reference={reference}", status=404)

    async def test_without_contents(self) -> None:
        """A server that shows none says so."""
        self.backend.contents = None
        self.assertEqual((await self.page("/ui/contents")).status, 404)
