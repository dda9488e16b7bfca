"""A registry that means harm: what it says costs little, reaches nothing inside, and is an outcome like any other."""

from __future__ import annotations

import json

from nora.oci import Digest, Tag
from nora.oci.errors import Limited, NoraError, TimedOut, Unavailable, Unverified
from nora.upstream.outcomes import Absent
from tests.support.fake_upstream import MANIFEST_TYPE, FakeUpstream, Fault
from tests.support.internet import LAYER, InternetTestCase, has_image
from tests.support.upstreams import REPOSITORY, UpstreamTestCase, delivered

ONE = Tag("1")
DIGEST = Digest.of(LAYER)
HELLO = Digest.of(b"hello")
OUTCOMES = (Absent, Limited, TimedOut, Unavailable, Unverified)
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"


class InsideTests(InternetTestCase):
    """A host of the open Internet cannot make us ask the inside."""

    evil: FakeUpstream

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.evil = await self.host("evil.example")
        has_image(self.evil, REPOSITORY)
        table = self.internet.nameResolver.table
        self.inside = []
        for name, address in (
            ("metadata.example", "169.254.169.254"),
            ("localhost", "127.0.0.1"),
            ("db.example", "10.0.0.7"),
            ("v6.example", "::1"),
            ("mapped.example", "::ffff:10.0.0.7"),
        ):
            self.inside.append(await self.host(name, address=address))
        # What the system's resolver makes of addresses, in whatever form.
        table.update({"169.254.169.254": ["169.254.169.254"], "::1": ["::1"], "127.1": ["127.0.0.1"]})
        table.update({"2130706433": ["127.0.0.1"], "0x7f000001": ["127.0.0.1"], "10.0.0.7.": ["10.0.0.7"]})
        self.nora = self.client("https://evil.example")

    def targets(self) -> list[str]:
        hosts = [
            "metadata.example",
            "localhost",
            "db.example",
            "v6.example",
            "mapped.example",
            "169.254.169.254",
        ]
        return [*hosts, "[::1]", "127.1", "2130706433", "0x7f000001", "10.0.0.7."]

    async def test_redirects(self) -> None:
        """By no spelling of an address, and by no name for one, neither for manifests nor for blobs."""
        for target in self.targets():
            self.evil.fault("/v2/*", Fault(redirect=f"https://{target}{{path}}"))
            for work in (
                self.nora.manifest(REPOSITORY, ONE),
                self.nora.describe_blob(REPOSITORY, DIGEST),
                self.nora.blob(REPOSITORY, DIGEST),
            ):
                error = await self.refused(work, Unverified)
                self.assertIn("not public", error.message, target)
        self.assertEqual(set(self.internet.dialled), {"8.8.1.8"})
        self.assertEqual([host.connections for host in self.inside], [0] * len(self.inside))

    async def test_realms(self) -> None:
        """Nor does a challenge."""
        self.evil.auth = True
        for target in self.targets():
            self.evil.challenge = f'Bearer realm="https://{target}/token",service="x"'
            error = await self.refused(self.nora.manifest(REPOSITORY, ONE), Unverified)
            self.assertIn("not public", error.message, target)
        self.assertEqual(set(self.internet.dialled), {"8.8.1.8"})

    async def test_by_way_of_another(self) -> None:
        """Nor does a redirect of the token service, or the second step of a redirect."""
        self.evil.auth = True
        self.evil.challenge = 'Bearer realm="https://evil.example/token",service="x"'
        self.evil.fault("/token", Fault(redirect="https://localhost/token"))
        await self.refused(self.nora.manifest(REPOSITORY, ONE), Unverified)
        self.evil.auth = False
        self.evil.fault("/v2/*", Fault(redirect="/hop"))
        self.evil.fault("/hop", Fault(redirect="https://db.example/"))
        await self.refused(self.nora.blob(REPOSITORY, DIGEST), Unverified)
        self.assertEqual(set(self.internet.dialled), {"8.8.1.8"})

    async def test_by_its_own_name(self) -> None:
        """Nor does the upstream's own name, when it resolves to an address inside beside its public one."""
        self.internet.nameResolver.table["evil.example"] = ["8.8.1.8", "10.0.0.9"]
        await self.nora.manifest(REPOSITORY, ONE)
        self.evil.fault("/v2/*", Fault(redirect="https://db.example{path}"))
        await self.refused(self.nora.blob(REPOSITORY, DIGEST), Unverified)


class RawTests(UpstreamTestCase):
    """Servers that say whatever they like, byte by byte."""

    async def outcome(self, words: bytes) -> list[object]:
        """Ask everything of a server that says `words`: each is answered, or ends in an outcome."""
        _, url = self.silent(words)
        found: list[object] = []
        for kind in ("describe", "manifest", "describe_blob", "blob"):
            client = self.registry(url, proxy_timeout=0.3, read_timeout=0.3)
            try:
                if kind == "blob":
                    transfer = await client.blob(REPOSITORY, HELLO)
                    self.assertTrue(transfer.size is None or 0 <= transfer.size <= 10**18, words)
                    found.append(await delivered(transfer))
                elif kind == "describe_blob":
                    found.append(await client.describe_blob(REPOSITORY, HELLO))
                else:
                    found.append(await getattr(client, kind)(REPOSITORY, ONE))
            except NoraError as error:
                self.assertIsInstance(error, OUTCOMES)
                self.assertLess(len(error.message), 200)
                found.append(type(error))
        return found

    async def test_lengths(self) -> None:
        """A length that is not one, or not the only one, is no length; and none is past what can be counted."""
        for length in (
            b"-1",
            b"+5",
            b"0_5",
            b"9" * 19,
            b"9" * 5000,
            b"\xd9\xa5",
            b"",
            b"5\r\nContent-Length: 6",
        ):
            answers = await self.outcome(_OK + b"Content-Length: " + length + b"\r\n\r\nhello")
            self.assertNotIn(b"hello", answers, length)
            self.assertIn(answers[2], (None, Unavailable), length)

    async def test_codings(self) -> None:
        """Only chunks are understood; in them neither sizes, extensions nor trailers can go astray."""
        for coding in (b"gzip, chunked", b"identity\r\nContent-Length: 5", b"xchunked\r\nContent-Length: 5"):
            answers = await self.outcome(_OK + b"Transfer-Encoding: " + coding + b"\r\n\r\nhello")
            self.assertNotIn(b"hello", answers, coding)
        chunked = _OK + b"Transfer-Encoding: chunked\r\n\r\n"
        good = b"5\r\nhello\r\n0\r\n"
        self.assertEqual((await self.outcome(chunked + good + b"Content-Length: 9\r\n\r\n"))[3], b"hello")
        for body in (
            b"-5\r\nhello\r\n0\r\n\r\n",
            b"f" * 30 + b"\r\nhello",
            b"5;" + b"x" * 100_000 + b"\r\nhello\r\n0\r\n\r\n",
            good + b"X: y\r\n" * 50_000 + b"\r\n",
            good + b"X: " + b"y" * 500_000 + b"\r\n\r\n",
        ):
            self.assertNotIn(b"hello", await self.outcome(chunked + body), body[:20])

    async def test_status_lines(self) -> None:
        """A status outside HTTP's is not passed on, and what is not HTTP at all is not waited for long."""
        for status in (b"99999999999999999999", b"-200", b"000", b"600", b"099"):
            answers = await self.outcome(b"HTTP/1.1 " + status + b" X\r\nContent-Length: 0\r\n\r\n")
            self.assertEqual(answers, [Unverified] * 4, status)
        for line in (b"HTTP/1.1 abc X", b"hello", b"HTTP/1.1 101 Switching Protocols", b"\x16\x03\x01"):
            answers = await self.outcome(line + b"\r\n\r\n")
            self.assertTrue({Unavailable, TimedOut}.issuperset(answers), answers)

    async def test_redirects(self) -> None:
        """A Location that no parser agrees on is refused, and so are two of them."""
        for location in (
            b"//[::1",
            b"//[x]/",
            b"http:x",
            b"http://\xff/",
            b"\x00",
            b"/a\r\nLocation: /b",
            b"/" + b"x" * 16_384,
        ):
            head = b"HTTP/1.1 307 X\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n"
            answers = await self.outcome(head)
            self.assertTrue({Unverified, Unavailable}.issuperset(answers), (location, answers))

    async def test_challenges(self) -> None:
        """A realm that no parser agrees on, or a megabyte of challenges, gets nothing."""
        for challenge in (
            b'Bearer realm="http://[::1"',
            b'Bearer realm="http://a\x01b/"',
            b'Bearer realm="//x/"',
        ):
            head = b"HTTP/1.1 401 X\r\nContent-Length: 0\r\nWWW-Authenticate: " + challenge + b"\r\n\r\n"
            self.assertEqual(await self.outcome(head), [Unavailable] * 4, challenge)
        line = b'WWW-Authenticate: Bearer realm="http://127.0.0.1/", scope="' + b"x" * 10_000 + b'"\r\n'
        head = b"HTTP/1.1 401 X\r\nContent-Length: 0\r\n" + line * 100 + b"\r\n"
        self.assertEqual(await self.outcome(head), [Unverified] * 4)


class AnswerTests(UpstreamTestCase):
    """A server that speaks HTTP well and lies in what it says."""

    async def test_token_answers(self) -> None:
        """A token answer that trickles, never ends, is too large or nests too deep costs its time and no more."""
        upstream = await self.filled(auth=True)
        for fault, kind in (
            (Fault(stall=5), TimedOut),
            (Fault(rate=20), TimedOut),
            (Fault(stall=0), TimedOut),
            (Fault(hold=True), TimedOut),
            (Fault(status=200, body=b" " * 100_000), Unverified),
            (Fault(status=200, body=b"[" * 60_000), Unavailable),
            (Fault(status=200, body=b'{"token":"t","expires_in":' + b"9" * 5000 + b"}"), Unavailable),
            (Fault(status=200, body=b'{"token":"a b"}'), Unavailable),
            (Fault(status=200, body=b'{"token":"a\\r\\nX: y"}'), Unavailable),
        ):
            upstream.fault("/token", fault)
            client = self.registry(upstream.url, proxy_timeout=0.4)
            await self.fails(client.manifest(REPOSITORY, ONE), kind)

    async def test_lifetimes(self) -> None:
        """A lifetime that is no number, or no time, does not keep a token for ever, nor break anything."""
        for lifetime in ("1e999", "-1e999", "NaN", "-1", "0", "true", '"x"', "9" * 400, "{}"):
            upstream = await self.filled(auth=True)
            upstream.valid.add(("t", f"repository:{REPOSITORY}:pull"))
            body = f'{{"token":"t","expires_in":{lifetime}}}'.encode()
            upstream.fault("/token", Fault(status=200, body=body))
            client = self.registry(upstream.url)
            await client.describe(REPOSITORY, ONE)
            await client.describe(REPOSITORY, ONE)
            self.assertEqual(upstream.tokens, 1, lifetime)

    async def test_manifests(self) -> None:
        """A manifest with numbers or depths beyond all measure is no manifest, though its digest is right."""
        upstream = await self.fake()
        layer = {"mediaType": "x/y", "digest": str(HELLO), "size": 1}
        for number, body in enumerate(
            (
                b"[" * 200_000,
                b'{"a":' * 200_000,
                b'{"schemaVersion":2,"config":' + b"9" * 5000 + b"}",
                json.dumps({"schemaVersion": 2, "config": {**layer, "size": -1}, "layers": []}).encode(),
                json.dumps({"schemaVersion": 2, "config": {**layer, "size": 1e300}, "layers": []}).encode(),
                json.dumps(
                    {"schemaVersion": 2, "config": layer, "layers": [{**layer, "size": 10**30}]}
                ).encode(),
            )
        ):
            upstream.add_manifest(REPOSITORY, body, MANIFEST_TYPE, f"t{number}")
            client = self.registry(upstream.url)
            await self.fails(client.manifest(REPOSITORY, Tag(f"t{number}")), Unverified)

    async def test_ranges(self) -> None:
        """A partial answer that lies about where it begins, what it is of, or how long it is, brings nothing."""
        upstream = await self.fake()
        upstream.add_blob(REPOSITORY, LAYER)
        client = self.registry(upstream.url)
        size, last = len(LAYER), len(LAYER) - 1
        for told in (
            f"bytes 0-{last}/{size}",
            f"bytes 101-{last}/{size}",
            f"bytes 100-{last}/{last}",
            f"bytes 100-{last - 1}/{size}",
            f"bytes 100-{last}/" + "9" * 19,
            f"bytes 100-{last}/" + "9" * 40,
            f"bytes -100-{last}/{size}",
            f"bytes 100-{last}/{size}, 0-1/2",
            "bytes */100",
            "none",
        ):
            upstream.fault("*", Fault(content_range=told))
            await self.fails(client.blob(REPOSITORY, DIGEST, 100), Unverified)
        upstream.heal()
        self.assertEqual(await self.download(client, DIGEST, 100), LAYER[100:])
