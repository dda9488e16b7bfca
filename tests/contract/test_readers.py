"""What every `Content` and its `Reader` promise, told to the real ones in each of their states, and to the fakes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from nora.access import ANONYMOUS
from nora.oci.errors import Broken, Unverified
from nora.pull.contents import FollowedContent, StoredContent
from nora.pull.interfaces import Content
from nora.pull.readers import FileReader, FollowingReader, MemoryReader
from tests.support.pull_fakes import FakeContent, FakeReader
from tests.support.pulling import NAME, Pulling, qualified
from tests.support.readers_contract import (
    DATA,
    SMALL,
    GrowingContract,
    WholeContract,
)
from tests.support.scripted import ScriptedUpstream
from tests.support.storage_fakes import ImmediateDisk


class FakeWholeTests(WholeContract, SynchronousTestCase):
    """The fake, with a file."""

    kind = FakeReader
    on_disk = True

    def make(self) -> Content:
        return FakeContent(self.data, on_disk=self.on_disk)


class FakeRemoteTests(FakeWholeTests):
    """The fake, without a file."""

    on_disk = False


class FakeGrowingTests(GrowingContract, SynchronousTestCase):
    """The fake while it grows."""

    def make(self, *, corrupt: bool = False) -> Content:
        self.content = FakeContent(DATA, available=0)
        self.corrupt = corrupt
        return self.content

    def grow(self, offset: int) -> None:
        self.content.grow(offset - self.content.available)

    def finish(self) -> None:
        if self.corrupt:
            self.content.break_off(Unverified("wrong"))
        else:
            self.content.verify()

    def break_off(self) -> None:
        self.content.break_off(Broken("gone"))


class _FullDisk(ImmediateDisk):
    """Has no space for new parts."""

    def run(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        if work.__name__ == "_open_growing":
            return fail(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        return super().run(work, *arguments)


class _PullingCase(SynchronousTestCase):
    """Contents as a pull-through gives them, from an upstream that is played by hand."""

    full = False

    def setUp(self) -> None:
        """Have a store and an upstream."""
        self.hub = ScriptedUpstream()
        self.hub.held = True
        self.pulling = Pulling(self.mktemp(), disk=_FullDisk() if self.full else ImmediateDisk())
        self.addCleanup(self.pulling.close)

    def get(self, data: bytes) -> Content:
        """Ask for a blob."""
        digest = self.hub.add_blob(NAME, data)
        route = qualified([self.hub])
        getting = Deferred.fromCoroutine(self.pulling.pull.blob(route, digest, ANONYMOUS))
        content: Content = self.successResultOf(getting).content
        self.addCleanup(content.close)
        return content

    def release(self) -> None:
        """Let all transfers come to their end, and those that come later."""
        self.hub.held = False
        for transfer in list(self.hub.transfers):
            if not transfer.ended and not transfer.aborted:
                transfer.release()


class StoredTests(WholeContract, _PullingCase):
    """A blob that is in the store."""

    kind = FileReader

    def make(self) -> Content:
        self.hub.held = False
        self.get(self.data).close()
        content = self.get(self.data)
        self.assertIsInstance(content, StoredContent)
        return content


class FollowedToItsEndTests(WholeContract, _PullingCase):
    """A fill that was followed, and has ended."""

    kind = FileReader

    def make(self) -> Content:
        content = self.get(self.data)
        self.release()
        self.assertIsInstance(content, FollowedContent)
        self.assertEqual(len(self.pulling.fills), 0)
        return content


class SmallWithoutSpaceTests(WholeContract, _PullingCase):
    """A small blob that could not be stored."""

    data = SMALL
    kind = MemoryReader
    full = True

    def make(self) -> Content:
        self.hub.held = False
        content = self.get(self.data)
        self.successResultOf(content.verified())
        return content


class FollowedTests(GrowingContract, _PullingCase):
    """A fill that is followed while it grows."""

    def make(self, *, corrupt: bool = False) -> Content:
        if corrupt:
            self.hub.corrupt = lambda data: data[:-1] + b"!"
        content = self.get(DATA)
        self.assertIsInstance(self.reader(content), FollowingReader)
        return content

    def grow(self, offset: int) -> None:
        for transfer in self.hub.transfers:
            if not transfer.ended and not transfer.aborted and offset > transfer._at:
                transfer.send(offset - transfer._at)

    def finish(self) -> None:
        self.release()

    def break_off(self) -> None:
        self.hub.error = Broken("gone")
        for transfer in self.hub.transfers:
            transfer.cut()
        self.pulling.turn(20, 0.1)


class WithoutSpaceTests(FollowedTests):
    """A blob that is not stored: each reader has a transfer of its own."""

    full = True
    waits_for_verification = False

    def make(self, *, corrupt: bool = False) -> Content:
        content = super().make(corrupt=corrupt)
        self.assertEqual(list(Path(self.pulling.layout.fills).iterdir()), [])
        return content
