"""Private images stay private: from the store, from a running fill, by HEAD, after the credential is gone."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Awaitable
from typing import Any

from twisted.internet.defer import Deferred

from nora.access import ANONYMOUS, Action, Rights
from nora.oci import Digest, Repository, Tag
from nora.oci.errors import Denied, Limited, ManifestUnknown, NoraError, Unavailable, Unknown, Unverified
from nora.pull.privacy import DAY, Privacy, PrivatePull
from nora.storage.records import DiskRecords
from nora.upstream.interfaces import Candidate, Route
from nora.upstream.offline import Offline
from nora.upstream.outcomes import Absent
from nora.upstream.sources import make_source
from tests.support.fake_upstream import make_image
from tests.support.privacy_case import CONFIG, DENIED, KNOWN, ONE, SMALL, PrivacyTestCase
from tests.support.pulling import NAME, Pulling, qualified, read_all, unqualified
from tests.support.scripted import ScriptedUpstream
from tests.support.upstreams import IMAGE, LAYER, REACTOR, REPOSITORY, UpstreamTestCase


class PrivateTests(PrivacyTestCase):
    """A repository that only our credential opens."""

    async def test_first_pull(self) -> None:
        """The first anonymous pull, whichever it is, is denied by one anonymous HEAD, and the message helps."""
        for which in range(6):
            self.setUp()
            works = self.each(qualified([self.ours]))
            for number, work in enumerate(works):
                if number != which:
                    work.close()  # type: ignore[attr-defined]
            error = await self.raises(works[which], NoraError)
            if which < 5:  # a HEAD of a blob that no stored manifest lists asks nobody
                self.assertIsInstance(error, Denied)
                self.assertIn('share = "everyone"', error.message)
                self.assertEqual(len(self.theirs.asked), 1)

    async def test_stored(self) -> None:
        """What a client with rights had stored, one without does not get, in no way, and no upstream is asked."""
        await self.store()
        await self.denied(self.pull.manifest(qualified([self.ours]), ONE, ANONYMOUS))
        self.ours.asked.clear()
        self.theirs.asked.clear()
        await self.all_denied(qualified([self.ours]))
        await self.all_denied(unqualified([self.ours]))
        self.assertEqual((self.ours.asked, self.theirs.asked), ([], []))
        await self.all_given(qualified([self.ours]), KNOWN)

    async def test_running_fill(self) -> None:
        """A fill that runs for a client with rights is followed by nobody without."""
        self.ours.held = True
        first = Deferred.fromCoroutine(self.pull.blob(qualified([self.ours]), CONFIG, KNOWN))
        await self.denied(self.pull.blob(qualified([self.ours]), CONFIG, ANONYMOUS))
        self.assertEqual(len(self.pulling.fills), 1)
        self.ours.transfers[0].release()
        served = await first
        self.assertEqual(await read_all(served.content), SMALL.blobs[0])
        await self.denied(self.pull.blob(qualified([self.ours]), CONFIG, ANONYMOUS))

    async def test_after_a_restart(self) -> None:
        """The record is the store's: also when upstream is dead."""
        await self.store()
        await self.denied(self.pull.manifest(qualified([self.ours]), ONE, ANONYMOUS))
        self.reopen()
        self.ours.error = self.theirs.error = Unavailable("down")
        await self.all_denied(qualified([self.ours]))

    async def test_without_a_record(self) -> None:
        """What was stored before anybody asked without rights is private until an anonymous HEAD says otherwise."""
        await self.store()
        self.theirs.error = Unavailable("down")
        for work in self.each(qualified([self.ours])):
            await self.raises(work, Unavailable)
        self.theirs.error = Limited("wait", 3)
        await self.raises(self.pull.manifest(qualified([self.ours]), ONE, ANONYMOUS), Limited)

    async def test_credential_removed(self) -> None:
        """The record outlives the credential; an anonymous HEAD that succeeds ends it."""
        await self.store()
        await self.denied(self.pull.manifest(qualified([self.ours]), ONE, ANONYMOUS))
        self.reopen(anonymous={})
        self.ours.error = DENIED
        await self.all_denied(qualified([self.ours]))
        self.clock.advance(DAY + 1)
        await self.all_denied(qualified([self.ours]))
        self.ours.error = None
        self.clock.advance(DAY + 1)
        await self.denied(
            self.pull.manifest(qualified([self.ours]), ONE, ANONYMOUS)
        )  # asks behind the answer
        await self.all_given(qualified([self.ours]))

    async def test_credential_removed_before_anybody_asked(self) -> None:
        """The mark of the namespace has what was stored under the credential asked for, record or not."""
        await self.store()
        self.reopen(anonymous={})
        self.ours.error = DENIED
        await self.all_denied(qualified([self.ours]))

    async def test_offline(self) -> None:
        """Offline nobody is asked: what is not known to be public is not given, and nothing is recorded of it."""
        await self.store()
        place = Offline("hub", "docker.io")
        self.reopen(anonymous={"hub": place})
        candidate = Candidate(Repository("docker.io", NAME), place)
        for work in self.each(Route(f"docker.io/{NAME}", (candidate,), True)):
            await self.raises(work, Unknown)
        self.assertIsNone(await self.records.get(f"repositories/docker.io/{NAME}/_private"))
        self.reopen()
        self.theirs.error = None
        self.fill(self.theirs)
        await self.all_given(qualified([self.ours]))
        self.clock.advance(DAY + 1)
        self.reopen(anonymous={"hub": place})
        for _ in range(2):
            served = await self.pull.manifest(Route(f"docker.io/{NAME}", (candidate,), True), ONE, ANONYMOUS)
            self.assertEqual(served.content.body, SMALL.manifest)

    async def test_shared(self) -> None:
        """share = "everyone": no HEAD, no denial; without it again, the repository is asked for."""
        self.reopen(shared=["docker.io"])
        await self.pull.manifest(qualified([self.ours]), ONE, ANONYMOUS)
        await self.all_given(qualified([self.ours]))
        self.assertEqual(self.theirs.asked, [])
        self.reopen()
        await self.all_denied(qualified([self.ours]))

    async def test_broken_record(self) -> None:
        """A record that makes no sense is as good as private."""
        await self.store()
        for value in ({"private": "no", "checked_at": 1}, {"private": False, "checked_at": True}, {}):
            await self.records.put(f"repositories/docker.io/{NAME}/_private", value)
            self.theirs.error = Unavailable("down")
            await self.all_denied(qualified([self.ours]))
            self.privacy._attempts.clear()


class ShownTests(PrivacyTestCase):
    """What may be named in a list of everything that is stored."""

    async def test_shown(self) -> None:
        """Where no credential was ever used, and what is surely public: to everyone. The rest to those logged in."""
        repository = Repository("docker.io", NAME)
        user = Rights("carol", frozenset({Action.PULL}))
        self.assertTrue(await self.privacy.shows(repository, ANONYMOUS))
        await self.denied(self.pull.manifest(qualified([self.ours]), ONE, ANONYMOUS))
        self.assertFalse(await self.privacy.shows(repository, ANONYMOUS))
        self.assertFalse(await self.privacy.shows(Repository("docker.io", "nobody/asked"), ANONYMOUS))
        self.assertTrue(await self.privacy.shows(repository, user))
        await self.records.put(f"repositories/docker.io/{NAME}/_private", {"private": False, "checked_at": 1})
        self.assertTrue(await self.privacy.shows(repository, ANONYMOUS))
        self.reopen(shared=["docker.io"])
        self.assertTrue(await self.privacy.shows(Repository("docker.io", "nobody/asked"), ANONYMOUS))


class PublicTests(PrivacyTestCase):
    """A repository that everybody may read, at an upstream with a credential."""

    def setUp(self) -> None:
        super().setUp()
        self.theirs.error = None
        self.fill(self.theirs)

    async def test_once(self) -> None:
        """One anonymous HEAD for the repository, and no more for a day; then one behind the answer."""
        await self.pull.manifest(qualified([self.ours]), ONE, ANONYMOUS)
        await self.all_given(qualified([self.ours]))
        self.reopen()
        await self.all_given(qualified([self.ours]))
        self.assertEqual(len(self.theirs.asked), 1)
        self.clock.advance(DAY + 1)
        await self.all_given(qualified([self.ours]))
        self.assertEqual(len(self.theirs.asked), 2)

    async def test_becomes_private(self) -> None:
        """It is noticed within a day and a pull."""
        await self.pull.manifest(qualified([self.ours]), ONE, ANONYMOUS)
        self.theirs.error = DENIED
        self.clock.advance(DAY + 1)
        await self.pull.manifest(qualified([self.ours]), ONE, ANONYMOUS)
        await self.all_denied(qualified([self.ours]))

    async def test_outage(self) -> None:
        """What is known to be public stays so while nobody can be asked, with one attempt a minute."""
        await self.pull.manifest(qualified([self.ours]), ONE, ANONYMOUS)
        await self.all_given(qualified([self.ours]))
        self.theirs.error = self.ours.error = Unavailable("down")
        self.clock.advance(DAY + 1)
        self.theirs.asked.clear()
        await self.all_given(qualified([self.ours]))
        self.assertEqual(len(self.theirs.asked), 1)
        self.clock.advance(61)
        await self.all_given(qualified([self.ours]))
        self.assertEqual(len(self.theirs.asked), 2)

    async def test_gone_upstream(self) -> None:
        """An image that is gone for us too says nothing about privacy: the public copy is kept."""
        await self.pull.manifest(qualified([self.ours]), ONE, ANONYMOUS)
        await self.all_given(qualified([self.ours]))
        self.theirs.error = DENIED
        self.ours.error = Absent("gone")
        self.clock.advance(DAY + 1)
        for _ in range(2):
            await self.all_given(qualified([self.ours]))

    async def test_names_nobody_has(self) -> None:
        """Names that nobody has leave no records."""
        route = qualified([self.ours], "library/guess")
        await self.raises(self.pull.manifest(route, ONE, ANONYMOUS), ManifestUnknown)
        self.assertIsNone(await self.records.get("repositories/docker.io/library/guess/_private"))

    async def test_full_disk(self) -> None:
        """A record that cannot be written costs a HEAD the next time, not the answer."""

        async def put(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        self.patch(self.records, "put", put)
        for _ in range(2):
            await self.pull.manifest(qualified([self.ours]), ONE, ANONYMOUS)
        self.assertEqual(len(self.theirs.asked), 2)
        self.flushLoggedErrors()


class ChainTests(PrivacyTestCase):
    """Several upstreams."""

    async def test_nothing_without_a_credential(self) -> None:
        """Where no credential ever was, nothing is asked, recorded or read: a look tells that there is no mark."""
        looked: list[str] = []
        self.reopen(anonymous={})
        get = self.records.get

        async def counted(key: str) -> Any:
            looked.append(key)
            return await get(key)

        self.patch(self.records, "get", counted)
        await self.pull.manifest(qualified([self.ours]), ONE, ANONYMOUS)
        await self.all_given(qualified([self.ours]))
        self.assertEqual(looked, [])
        self.assertEqual(self.ours.asked_for("head"), 0)

    async def test_credential_of_another_process(self) -> None:
        """What a process stored that was told of a credential first is private in one that was not told yet."""
        self.reopen(anonymous={})
        empty = qualified([ScriptedUpstream()])
        await self.raises(self.pull.manifest(empty, ONE, ANONYMOUS), ManifestUnknown)
        told = Privacy(
            self.records,
            self.pulling.owners,
            {"hub": self.theirs},
            (),
            self.pulling.background,
            self.clock.seconds,
        )
        await PrivatePull(self.pulling.pull, told).manifest(qualified([self.ours]), ONE, KNOWN)
        await self.denied(
            PrivatePull(self.pulling.pull, told).manifest(qualified([self.ours]), ONE, ANONYMOUS)
        )
        for work in self.each(empty):
            await self.denied(work)

    async def test_private_name_is_not_another_ones(self) -> None:
        """Behind a private image of the name, another upstream's image of the same name is not served for it."""
        other = ScriptedUpstream("other", "other.example")
        other_image = make_image([b"another one's"])
        self.fill(other, other_image)
        route = unqualified([self.ours, other])
        await self.denied(self.pull.manifest(route, ONE, ANONYMOUS))
        await self.denied(self.pull.manifest(route, other_image.digest, ANONYMOUS))
        await self.denied(self.pull.manifest(route, ONE, ANONYMOUS))
        self.assertEqual(other.asked, [])

    async def test_public_owner_before_a_private_one(self) -> None:
        """A public owner is served whatever is private further down; what it lacks is denied, not unknown."""
        public = ScriptedUpstream("public", "public.example")
        self.fill(public)
        await self.denied(self.pull.manifest(qualified([self.ours]), ONE, ANONYMOUS))
        route = unqualified([public, self.ours])
        await self.all_given(route)
        await self.denied(self.pull.manifest(route, Tag("missing"), ANONYMOUS))

    async def test_a_gateway_that_says_yes(self) -> None:
        """A 200 to whoever is not logged in, but for something else than the blob, makes nothing public."""
        self.theirs.error = None

        async def anything(repository: str, digest: Digest) -> int | None:
            return self.told

        self.theirs.describe_blob = anything  # type: ignore[method-assign]
        route = qualified([self.ours])
        for self.told in (1234, None):
            for ask in (self.pull.blob, self.pull.describe_blob):
                await self.refused(ask(route, CONFIG, ANONYMOUS))
        self.theirs.error = DENIED
        await self.denied(self.pull.manifest(route, ONE, ANONYMOUS))

    async def refused(self, work: Awaitable[Any]) -> None:
        """Expect that it cannot be told now whether the client may read it."""
        try:
            await work
        except Unverified:
            return
        self.fail("it was given")

    async def test_several_of_one_namespace(self) -> None:
        """In a chain, an upstream without a credential that has it for everybody makes it public."""
        mirror = ScriptedUpstream("mirror")
        self.theirs.error = Absent("not here")
        self.ours.error = Absent("not here")
        self.fill(mirror)
        repository = Repository("docker.io", NAME)
        route = Route(NAME, (Candidate(repository, self.ours), Candidate(repository, mirror)), True)
        await self.all_given(route)


class RealTests(UpstreamTestCase):
    """With the real client on real sockets."""

    async def test_private_and_public(self) -> None:
        """One account, a private repository and a public one: each is what it is, and the HEAD has no credential."""
        upstream = await self.filled(auth=True)
        login = f"Basic {base64.b64encode(b'me:hunter2').decode()}"
        upstream.logins = {login}
        upstream.public = {"team/open"}
        upstream.add_image("team/open", "1", IMAGE)
        source = make_source(REACTOR, upstream.url, auth="me:hunter2")
        registry = self.registry(upstream.url, source=source, name="mine", namespace="mine.example")
        assert registry.anonymous is not None
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        pulling = Pulling(folder.name)
        self.addCleanup(pulling.close)
        records = DiskRecords(pulling.layout, pulling.disk)
        privacy = Privacy(
            records,
            pulling.owners,
            {"mine": registry.anonymous},
            (),
            pulling.background,
            pulling.clock.seconds,
        )
        pull = PrivatePull(pulling.pull, privacy)

        def route(name: str) -> Route:
            return Route(name, (Candidate(Repository("mine.example", name), registry),), True)

        for _ in range(2):
            await self.fails(pull.manifest(route(REPOSITORY), ONE, ANONYMOUS), Denied)
            await self.fails(pull.blob(route(REPOSITORY), Digest.of(LAYER), ANONYMOUS), Denied)
        served = await pull.manifest(route("team/open"), ONE, ANONYMOUS)
        self.assertEqual(served.content.body, IMAGE.manifest)
        blob = await pull.blob(route("team/open"), Digest.of(LAYER), ANONYMOUS)
        self.assertEqual(await read_all(blob.content), LAYER)
        with_login = [seen.path for seen in upstream.requests if seen.headers.get("authorization") == login]
        self.assertEqual(set(with_login), {"/token"})
        without = [seen for seen in upstream.seen("/token") if "authorization" not in seen.headers]
        self.assertEqual({seen.query["scope"][0] for seen in without},
                         {f"repository:{name}:pull" for name in ("team/open", REPOSITORY)})  # fmt: skip
        self.assertEqual(upstream.count("*/manifests/*", "HEAD"), 2 * 1 + 1)
