"""The guard against requests to the inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import (
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IResolutionReceiver,
)
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nora.upstream.guard import Guard, GuardedReactor, GuardedResolver, is_public
from tests.support.names import Names

_PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "2002:808:808::1", "64:ff9b::808:808"]
_INSIDE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "2002:7f00:1::1",
    "64:ff9b::a9fe:a9fe",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "192.0.0.8",
    "fec0::1",
    "64:ff9b:1::a00:1",
    "5f00::1",
    "localhost",
    "",
]


@implementer(IResolutionReceiver)
class Receiver:
    """Keeps what comes."""

    def __init__(self) -> None:
        self.began = False
        self.hosts: list[str] = []
        self.complete = False

    def resolutionBegan(self, resolutionInProgress: Any) -> None:
        self.began = True

    def addressResolved(self, address: Any) -> None:
        self.hosts.append(address.host)

    def resolutionComplete(self) -> None:
        self.complete = True


class AddressTests(SynchronousTestCase):
    """Which addresses are the open Internet's."""

    def test_public(self) -> None:
        """Addresses anyone may route to, in all the forms that carry them."""
        self.assertEqual([address for address in _PUBLIC if not is_public(address)], [])

    def test_inside(self) -> None:
        """Everything else, and IPv6 forms that hide it, and what is no address."""
        self.assertEqual([address for address in _INSIDE if is_public(address)], [])


class GuardTests(SynchronousTestCase):
    """What one upstream may be led to."""

    def resolve(self, guard: Guard, host: str, table: dict[str, list[Any]]) -> list[str]:
        receiver = Receiver()
        GuardedResolver(Names(table), guard).resolveHostName(receiver, host, 443)
        self.assertTrue(receiver.began)
        self.assertTrue(receiver.complete)
        return receiver.hosts

    def test_foreign_inside(self) -> None:
        """A public upstream cannot lead to an address inside; a name with both kinds keeps the public ones."""
        guard = Guard("registry.example")
        table: dict[str, list[Any]] = {
            "registry.example": ["8.8.8.8"],
            "evil.example": ["169.254.169.254", "::1"],
            "mixed.example": ["10.0.0.1", "1.1.1.1"],
        }
        self.assertEqual(self.resolve(guard, "registry.example", table), ["8.8.8.8"])
        self.assertEqual(self.resolve(guard, "evil.example", table), [])
        self.assertTrue(guard.refuses("evil.example"))
        self.assertEqual(self.resolve(guard, "mixed.example", table), ["1.1.1.1"])
        self.assertFalse(guard.refuses("mixed.example"))
        self.assertFalse(guard.private)

    def test_own_host_is_free(self) -> None:
        """The configured host may be inside, and then the upstream is private and may lead inside."""
        guard = Guard("Registry.Internal")
        table: dict[str, list[Any]] = {"registry.internal": ["10.0.0.1"], "storage.internal": ["10.0.0.2"]}
        self.assertEqual(self.resolve(guard, "storage.internal", table), [])
        self.assertEqual(self.resolve(guard, "registry.internal", table), ["10.0.0.1"])
        self.assertTrue(guard.private)
        self.assertEqual(self.resolve(guard, "storage.internal", table), ["10.0.0.2"])
        self.assertFalse(guard.refuses("storage.internal"))

    def test_last_resolution_counts(self) -> None:
        """An upstream that moved to the open Internet is private no more; one that vanished stays what it was."""
        guard = Guard("registry.example")
        guard.resolved(["192.168.0.1"])
        self.assertTrue(guard.private)
        guard.resolved([])
        self.assertTrue(guard.private)
        guard.resolved(["8.8.8.8"])
        self.assertFalse(guard.private)

    def test_mixed_is_public(self) -> None:
        """A public host does not become private by naming an address inside beside its own."""
        guard = Guard("registry.example")
        table: dict[str, list[Any]] = {
            "registry.example": ["10.0.0.1", "8.8.8.8", "fe80::1"],
            "inside.example": ["10.0.0.2"],
        }
        self.assertEqual(self.resolve(guard, "registry.example", table), table["registry.example"])
        self.assertFalse(guard.private)
        self.assertEqual(self.resolve(guard, "inside.example", table), [])

    def test_literal(self) -> None:
        """A URL with an address inside is a private upstream before anything is resolved."""
        self.assertTrue(Guard("127.0.0.1").private)
        self.assertTrue(Guard("::1").private)
        self.assertFalse(Guard("8.8.8.8").private)
        self.assertFalse(Guard("localhost").private)

    def test_unknown_kinds_of_address(self) -> None:
        """An address that is neither IPv4 nor IPv6 is never connected to; a name without any is not «refused»."""
        guard = Guard("registry.example")
        self.assertEqual(self.resolve(guard, "odd.example", {"odd.example": [UNIXAddress("/x")]}), [])
        self.assertTrue(guard.refuses("odd.example"))
        self.assertEqual(self.resolve(guard, "none.example", {}), [])
        self.assertFalse(guard.refuses("none.example"))

    def test_memory_is_bounded(self) -> None:
        """Any number of refused names leaves at most a thousand remembered."""
        guard = Guard("registry.example")
        for number in range(2500):
            guard.judged(f"h{number}", refused=True)
        self.assertTrue(guard.refuses("h2499"))
        self.assertEqual(sum(guard.refuses(f"h{number}") for number in range(2500)), 500)


class _Reactor(Clock):
    """What the guarded reactor needs of one."""

    nameResolver = Names({"x": ["10.0.0.1", "8.8.8.8"]})

    def __init__(self) -> None:
        super().__init__()
        self.connected: list[Sequence[Any]] = []

    def connectTCP(self, *arguments: Any) -> str:
        self.connected.append(arguments)
        return "connector"


class ReactorTests(SynchronousTestCase):
    """The reactor as an agent sees it."""

    def setUp(self) -> None:
        self.inner = _Reactor()
        self.reactor = GuardedReactor(self.inner, Guard("registry.example"))

    def test_provides(self) -> None:
        """It is what Twisted's endpoints ask for."""
        for interface in (IReactorTime, IReactorTCP, IReactorPluggableNameResolver):
            verifyObject(interface, self.reactor)

    def test_time_and_connections_pass_through(self) -> None:
        """Time and connections are the inner reactor's."""
        calls: list[str] = []
        self.reactor.callLater(2, calls.append, "called")
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        self.inner.advance(3)
        self.assertEqual((calls, self.reactor.seconds()), (["called"], 3.0))
        factory: Any = object()
        self.assertEqual(self.reactor.connectTCP("8.8.8.8", 1, factory, 5), "connector")
        self.assertEqual(self.inner.connected, [("8.8.8.8", 1, factory, 5, None)])

    def test_names_are_screened(self) -> None:
        """Its resolver is the guarded one, and stays so."""
        receiver = Receiver()
        self.reactor.nameResolver.resolveHostName(receiver, "x")
        self.assertEqual(receiver.hosts, ["8.8.8.8"])
        with self.assertRaises(NotImplementedError):
            self.reactor.installNameResolver(Names({}))

    def test_nothing_listens(self) -> None:
        """It is for connecting only."""
        with self.assertRaises(NotImplementedError):
            self.reactor.listenTCP(0, None)  # type: ignore[arg-type]
