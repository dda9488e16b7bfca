"""Response bodies: how the bytes of a `Reader` get to a client.

Two ways, chosen once a response. In cleartext, from a file: `sendfile`, up to 16 MiB a turn of the reactor for a stream
that is alone, 256 KiB for each of eight or more, so that no fast client can starve the rest (see `nora.web.turns`). The
socket is corked: else each turn would end in a packet that is not full, and there would be a third more of them.
Else: reads of 256 KiB that are written to the transport, which pauses us when it is full. A response that began with
`sendfile` goes on copying when its reader has no file any more.

A client that takes nothing for `stall_timeout` seconds while bytes are ready loses its connection. Taking is what
the peer's kernel acknowledged, so a slow reader is not mistaken for a stalled one.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime, IWriteDescriptor
from twisted.python.failure import Failure
from twisted.web.http import Request
from zope.interface import implementer

from nora.concurrency import Waiters
from nora.oci.errors import Broken
from nora.pull.interfaces import Reader
from nora.web.lull import lasts
from nora.web.stalls import StallWatch
from nora.web.turns import Turns

CHUNK = 256 * 1024
# What a file system answers that has no sendfile: reading may still work.
_NO_SENDFILE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EOVERFLOW})
_CLIENT_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED, errno.ETIMEDOUT, errno.ENOTCONN})


class ClientLost(Exception):
    """The client's connection ended, or was given up, before the body did."""


class Stalled(ClientLost):
    """The client took nothing for too long."""


def send(
    request: Request, reader: Reader, clock: IReactorTime, stall_timeout: float, turns: Turns
) -> Deferred[int]:
    """Send everything from the reader's position to its `stop`, headers first; tells how many bytes that were.

    `turns` are those of all bodies on this reactor. The caller closes the reader and finishes the request. Fails with
    `ClientLost`, or with what the reader fails with; then the answer is short, and the caller must abort the
    connection.
    """
    return Deferred.fromCoroutine(_send(request, reader, clock, stall_timeout, turns))


async def _send(
    request: Request, reader: Reader, clock: IReactorTime, stall_timeout: float, turns: Turns
) -> int:
    first = reader.position
    transport = _plain(request)
    if transport is not None and reader.descriptor is not None and reader.position < reader.stop:
        watch = StallWatch(clock, stall_timeout, transport)
        turns.begin()
        try:
            await SendfileBody(request, transport, reader, watch, turns).start()
        finally:
            turns.end()
    if reader.position < reader.stop:
        await CopyingBody(request, reader, StallWatch(clock, stall_timeout, request.transport)).run()
    elif not request.startedWriting:
        request.write(b"")
    return reader.position - first


def _plain(request: Request) -> tcp.Connection | None:
    """Give the transport when bytes may go to its socket past Twisted; on TLS that would never end."""
    transport: Any = request.transport
    if isinstance(transport, tcp.Connection) and not request.isSecure():
        return transport
    return None


@implementer(IPushProducer, IWriteDescriptor)
class SendfileBody:
    """A body that the kernel copies from a file to the socket.

    The headers go out through the transport. It believes that it paused us (`producerPaused`), so it resumes us when
    its buffer is empty: from then on nobody but us writes to the socket. What is not sent at once goes out beside the
    transport, by a duplicate of the socket that the reactor watches for us alone: a turn is one `sendfile`. Through the
    transport each turn would cost an empty `send` and two `epoll_ctl` more.
    """

    def __init__(
        self, request: Request, transport: tcp.Connection, reader: Reader, watch: StallWatch, turns: Turns
    ) -> None:
        self._request = request
        self._transport = transport
        self._reactor: Any = transport.reactor
        self._reader = reader
        self._watch = watch
        self._turns = turns
        self._done: Deferred[None] = Deferred(lambda _: self._stop())
        self._more: Deferred[None] | None = None
        self._running = False
        self._begun = False
        self._socket = -1
        self._watched = False
        self._corked = False

    def start(self) -> Deferred[None]:
        """Send; fires at the end, and also when the rest must be copied instead."""
        self._running = True
        self._request.registerProducer(self, True)
        self._watch.start(lambda: self._fail(Stalled("the client stopped reading")))
        self._cork(True)
        self._request.write(b"")
        self._transport.producerPaused = True
        self._transport.startWriting()
        return self._done

    # What the transport calls.

    def resumeProducing(self) -> None:
        """Begin: the headers are out."""
        if self._running and not self._begun:
            self._begun = True
            self._step()

    def pauseProducing(self) -> None:
        """Do nothing: nothing is produced but in `doWrite`."""

    def stopProducing(self) -> None:
        """End it: the connection is lost."""
        self._fail(ClientLost("the client left"))

    # What the reactor calls.

    def doWrite(self) -> None:
        """Send one turn's worth, and more while nobody else has anything to do."""
        self._step()
        while self._watched and self._turns.alone and lasts(self._reactor, self._socket):
            self._step()

    def _step(self) -> None:
        if not self._running or self._more is not None:
            return
        size = self._turns.size
        ready = min(self._reader.ready(size), self._reader.stop - self._reader.position)
        if ready <= 0:
            self._wait()
        elif self._reader.descriptor is None:
            self._end()
        else:
            self._turn(self._reader.descriptor, min(ready, size))

    def fileno(self) -> int:
        """Tell the duplicate of the socket; -1 where there is none."""
        return self._socket

    def connectionLost(self, reason: Failure) -> None:
        """End it: the socket is broken."""
        self._fail(ClientLost("the client left"))

    def logPrefix(self) -> str:
        """Name this in Twisted's log."""
        return "body"

    def _turn(self, descriptor: int, count: int) -> None:
        self._cork(True)  # again, after a wait
        try:
            sent = os.sendfile(self._transport.fileno(), descriptor, self._reader.position, count)
        except BlockingIOError:
            self._arm()
            return
        except OSError as error:
            self._failed(error)
            return
        if sent == 0:
            self._fail(Broken("the file is shorter than it was promised to be"))
            return
        self._reader.advance(sent)
        self._request.sentLength += sent
        self._watch.moved(sent)
        if self._reader.position >= self._reader.stop:
            self._end()
        else:
            self._arm()

    def _failed(self, error: OSError) -> None:
        if error.errno in _NO_SENDFILE:
            self._end()
        elif error.errno in _CLIENT_GONE:
            self._fail(ClientLost("the client left"))
        else:
            self._fail(Broken("the store could not be read"))

    def _arm(self) -> None:
        """Have the reactor call when the socket takes bytes again."""
        if self._watched:
            return
        if self._socket < 0:
            try:
                self._socket = os.dup(self._transport.fileno())
            except OSError:  # no descriptors left
                self._fail(ClientLost("no descriptor is left to serve the client"))
                return
        self._watched = True
        self._reactor.addWriter(self)

    def _disarm(self) -> None:
        if self._watched:
            self._watched = False
            self._reactor.removeWriter(self)

    def _wait(self) -> None:
        self._disarm()
        # What is corked would reach the client up to 200 ms late.
        self._cork(False)
        self._watch.rest()
        self._more = self._reader.more()
        self._more.addCallbacks(self._again, self._broke)

    def _again(self, _: None) -> None:
        self._more = None
        if self._running:
            self._watch.go()
            # At once: the transport had nothing of its own to send when the waiting began, and nobody else writes.
            self._step()

    def _broke(self, failure: Failure) -> None:
        self._more = None
        self._fail(failure.value or ClientLost("the waiting was given up"))

    def _end(self) -> None:
        if self._running:
            self._stop()
            self._done.callback(None)

    def _fail(self, error: BaseException) -> None:
        if self._running:
            self._stop()
            self._done.errback(Failure(error))

    def _stop(self) -> None:
        self._running = False
        self._watch.stop()
        more, self._more = self._more, None
        if more is not None:
            more.cancel()
        self._cork(False)
        self._disarm()
        duplicate, self._socket = self._socket, -1
        if duplicate >= 0:
            os.close(duplicate)
        _unregister(self._request)

    def _cork(self, on: bool) -> None:
        if on is self._corked:
            return
        self._corked = on
        # A lost connection has no socket any more, and a UNIX socket no cork.
        with suppress(OSError, AttributeError):
            self._transport.getHandle().setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)


@implementer(IPushProducer)
class CopyingBody:
    """A body that is read and written, for TLS and for what is no file."""

    def __init__(self, request: Request, reader: Reader, watch: StallWatch) -> None:
        self._request = request
        self._reader = reader
        self._watch = watch
        self._paused = False
        self._resumed: Waiters[None] = Waiters()
        self._lost: ClientLost | None = None
        self._interrupt: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Send everything. Fails with `ClientLost`, or with what the reader fails with."""
        self._request.registerProducer(self, True)
        self._watch.start(lambda: self._lose(Stalled("the client stopped reading")))
        try:
            self._request.write(b"")
            while self._reader.position < self._reader.stop:
                if self._paused:
                    await self._resumed.wait()
                await self._step()
        finally:
            self._watch.stop()
            _unregister(self._request)

    async def _step(self) -> None:
        self._watch.rest()
        reading = Deferred.fromCoroutine(
            self._reader.read(min(CHUNK, self._reader.stop - self._reader.position))
        )
        self._interrupt = reading.cancel
        try:
            data = await reading
        except Exception:
            self._check()
            raise
        finally:
            self._interrupt = lambda: None
        self._check()
        if not data:
            raise Broken("the transfer ended before its last byte")
        self._watch.go()
        self._watch.moved(len(data))
        self._request.write(data)

    def _check(self) -> None:
        if self._lost is not None:
            raise self._lost

    def resumeProducing(self) -> None:
        """Go on: the transport's buffer is empty."""
        self._paused = False
        self._watch.moved(0)
        self._resumed.succeed(None)

    def pauseProducing(self) -> None:
        """Wait: the transport's buffer is full."""
        self._paused = True

    def stopProducing(self) -> None:
        """End it: the connection is lost."""
        self._lose(ClientLost("the client left"))

    def _lose(self, error: ClientLost) -> None:
        if self._lost is None:
            self._lost = error
            self._resumed.fail(error)
            self._interrupt()


def _unregister(request: Request) -> None:
    # After a loss the request has no channel any more.
    if getattr(request, "channel", None) is not None:
        request.unregisterProducer()
    else:
        request.producer = None
