"""A lull: nobody but one stream has anything to do.

A turn of the reactor costs a stream that is alone more than the `sendfile` it was for. So the stream waits in place for
its socket, as the reactor would and at the reactor's own epoll, for as long as nothing else happens there.
"""

from __future__ import annotations

import select

from twisted.internet.epollreactor import EPollReactor


def lasts(reactor: object, descriptor: int) -> bool:
    """Wait as the reactor would; tell whether all that then happened is that `descriptor` takes bytes again.

    The reactor must watch `descriptor` for writing. False at once where somebody waits to be called, or where the
    reactor is another one than Twisted's for Linux. Whatever happened is not used up: the descriptors are
    level-triggered (epoll(7)), so the reactor's next wait finds it as well.
    """
    # What threads ask to be called wakes the epoll, but what they asked before this turn has done that already.
    if not isinstance(reactor, EPollReactor) or reactor.threadCallQueue:
        return False
    delay = reactor.timeout()
    if delay == 0:
        return False
    events: list[tuple[int, int]] = reactor._poller.poll(delay, 2)
    return events == [(descriptor, select.EPOLLOUT)]
