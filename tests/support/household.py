"""The whole daemon in the test's process, on an Internet of the test's own."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory

from nora.config import Config, UpstreamConfig
from nora.config.docker import DockerConfig
from nora.config.values import ServerConfig, StorageConfig
from nora.daemon import Daemon, build
from nora.process import Sockets
from tests.support.http_client import RawClient, Reply, connect
from tests.support.internet import InternetTestCase
from tests.support.names import REACTOR


class _Ports(Sockets):
    """Remembers where it listens."""

    port = 0

    def listen(
        self, factory: IProtocolFactory, host: str, port: int, tls: IProtocolFactory | None = None
    ) -> list[IListeningPort]:
        """Listen, and remember."""
        ports = super().listen(factory, host, port, tls)
        address: Any = ports[0].getHost()
        self.port = int(address.port)
        return ports


class HouseholdTestCase(InternetTestCase):
    """Starts daemons that pull from the test's Internet, and ends them."""

    async def daemon(self, *urls: str, **docker: Any) -> RawClient:
        """Start a daemon with these upstreams, on a store of its own; gives a connection to it."""
        upstreams = tuple(UpstreamConfig(url, ca_file=self.trusted) for url in urls)
        config = Config(
            server=ServerConfig(port=0),
            storage=StorageConfig(self.mktemp()),
            docker=DockerConfig(
                **{"upstreams": upstreams, "proxy_timeout": 10, "read_timeout": 10, **docker}
            ),
        )
        ports = _Ports(REACTOR)
        daemon: Daemon = build(config, self.internet, ports, lambda: config)
        await daemon.start()
        self.addCleanup(lambda: daemon.stop(1))
        client = await connect(REACTOR, ports.port)
        self.addCleanup(lambda: _left(client))
        return client

    async def fetched(self, client: RawClient, path: str) -> Reply:
        """GET a path that must be there."""
        reply = await client.ask("GET", path)
        self.assertEqual(reply.status, 200, reply.body)
        return reply

    async def refusal(self, client: RawClient, path: str) -> Reply:
        """GET a path that must not be there, and keep what is said."""
        reply = await client.ask("GET", path)
        self.assertGreaterEqual(reply.status, 400)
        self.errors.append(f"{reply.headers} {reply.body!r}")
        return reply


def _left(client: RawClient) -> Deferred[None]:
    async def leave() -> None:
        client.transport.loseConnection()
        await client.closed()

    return Deferred.fromCoroutine(leave())
