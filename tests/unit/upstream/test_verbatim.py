"""URLs that go out as they are."""

from __future__ import annotations

from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IAgent
from zope.interface import implementer

from nora.oci import Tag
from nora.oci.errors import Unverified
from nora.upstream.verbatim import VerbatimURL
from tests.support.names import NamedReactor
from tests.support.upstreams import IMAGE, REPOSITORY, UpstreamTestCase

ONE = Tag("1")


@implementer(IAgent)
class Agent:
    """Keeps the URLs that it is asked for."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def request(self, method: bytes, uri: bytes, *_: Any) -> Deferred[Any]:
        self.asked.append(uri)
        return Deferred()


class VerbatimTests(SynchronousTestCase):
    """What treq makes of them."""

    def test_stays(self) -> None:
        """Not a byte of a signed URL changes on its way through treq, and its repr does not show it."""
        agent = Agent()
        for text in (
            "https://cdn.example/a%2Fb//c%7E~?sig=a%2bB+c%20d==&e&f=[{|^`'\"<>}]\\",
            "http://[fd00::1]:5000/v2/",
            "https://r3---sn.example/x",
        ):
            HTTPClient(agent).request("GET", VerbatimURL(text))
            self.assertEqual(agent.asked.pop(), text.encode("ascii"))
            self.assertNotIn("sig", repr(VerbatimURL(text)))


class HostTests(UpstreamTestCase):
    """Hosts that are no ordinary names."""

    async def test_ipv6(self) -> None:
        """An upstream may be an IPv6 address."""
        upstream = await self.filled()
        names = NamedReactor({"fd00::1": ["fd00::1"]})
        client = self.registry(f"http://[fd00::1]:{upstream.port}", reactor=names)
        self.assertEqual((await client.manifest(REPOSITORY, ONE)).digest, IMAGE.digest)
        self.assertEqual(upstream.requests[0].headers["host"], f"[fd00::1]:{upstream.port}")
        self.assertEqual(names.dialled, ["fd00::1"])

    async def test_no_name(self) -> None:
        """What cannot be a host's name is told as such."""
        for host in ("my_registry", "a..b", "xn--"):
            error = await self.fails(self.registry(f"http://{host}x").manifest(REPOSITORY, ONE), Unverified)
            self.assertIn("not a host name", error.message)
