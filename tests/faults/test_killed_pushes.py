"""Pushes that are killed in the middle, and disks that are full: nothing half-written is ever seen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import Digest, Repository
from nora.oci.errors import NoSpace
from nora.push.interfaces import Target
from tests.support.daemon import ROOT
from tests.support.pushing import PUSHER, PlayedBody, Pushing, WholeBody, started
from tests.support.storage_fakes import temporary_folder

DATA = bytes(range(256)) * 8192
DIGEST = Digest.of(DATA)
TARGET = Target("team/app")
HERE = Repository("local", "team/app")
PUSHER_PROGRAM = textwrap.dedent("""
    import os, signal, sys
    sys.path.insert(0, ".")
    from nora.storage import blobs, durable
    from tests.faults.test_killed_pushes import DATA, DIGEST, TARGET
    from tests.support.pushing import PUSHER, Pushing, WholeBody, started

    root, stage = sys.argv[1:]

    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    here = Pushing(root)
    id = started(here.push.begin(TARGET, PUSHER)).result.id
    if stage == "begun":
        die()
    if stage == "half":
        started(here.push.append(TARGET, id, None, WholeBody(DATA[: len(DATA) // 2]), PUSHER))
        die()
    started(here.push.append(TARGET, id, None, WholeBody(DATA), PUSHER))
    rename, put = os.rename, here.records.put
    if stage == "before the rename":
        os.rename = die
    if stage == "after the rename":
        durable.sync_directory = die
    if stage == "before it is hosted":
        here.names.mark = die
    if stage == "before the link":
        here.repositories.link_blob = die
    started(here.push.finish(TARGET, id, DIGEST, None, WholeBody(b""), PUSHER))
    print("it was not killed")
""")
STAGES = (
    "begun",
    "half",
    "before the rename",
    "after the rename",
    "before it is hosted",
    "before the link",
)


class KilledTests(SynchronousTestCase):
    """A process that pushes is killed at its worst moments."""

    def kill(self, root: str, stage: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", PUSHER_PROGRAM, root, stage],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            timeout=60,
            check=False,
        )
        self.assertEqual((done.returncode, done.stdout), (-signal.SIGKILL, b""), done.stderr.decode())

    def test_killed(self) -> None:
        """Whatever the moment: no link without whole bytes, and the same push again, or going on, succeeds."""
        for stage in STAGES:
            with self.subTest(stage=stage):
                root = temporary_folder(self)
                self.kill(root, stage)
                here = Pushing(root, clock=Clock())
                self.addCleanup(here.locks.close)
                self.assertIsNone(self.successResultOf(started(here.repositories.blob(HERE, DIGEST))))
                found = self.successResultOf(started(here.blobs.read(DIGEST, len(DATA))))
                self.assertIn(found, (None, DATA), "a blob is whole, or is not there")
                self.go_on(here)
                self.successResultOf(started(here.push.upload(TARGET, DIGEST, WholeBody(DATA), PUSHER)))
                self.assertEqual(
                    self.successResultOf(started(here.repositories.blob(HERE, DIGEST))), len(DATA)
                )
                here.later = 90_000
                self.successResultOf(started(here.uploads.sweep(86_400, 3600)))
                self.assertEqual(os.listdir(here.layout.uploads), [])

    def go_on(self, here: Pushing) -> None:
        """Finish the session that is left, if one is, from where it stands."""
        for id in os.listdir(here.layout.uploads):
            if not os.path.exists(f"{here.layout.upload(id)}/data"):
                continue
            session = self.successResultOf(started(here.push.status(TARGET, id, PUSHER)))
            rest = WholeBody(DATA[session.size :])
            finish = here.push.finish(TARGET, id, DIGEST, None, rest, PUSHER)
            self.assertEqual(self.successResultOf(started(finish)), len(DATA))


class FullDiskTests(SynchronousTestCase):
    """A push into a store of 1 MiB."""

    def setUp(self) -> None:
        if os.geteuid() != 0 and not os.environ.get("CI"):
            self.skipTest("needs root, to mount a tmpfs")
        folder = temporary_folder(self)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", folder], check=True)
        self.here = Pushing(f"{folder}/store", clock=Clock())
        self.addCleanup(self.here.locks.close)

    def used(self) -> int:
        found = os.statvfs(self.here.layout.root)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def test_larger_than_the_disk(self) -> None:
        """What does not fit is refused, takes no room afterwards, and the session can go on with what fits."""
        before = self.used()
        self.failureResultOf(started(self.here.push.upload(TARGET, DIGEST, WholeBody(DATA), PUSHER)), NoSpace)
        self.assertLessEqual(self.used(), before + 4096)
        id = self.successResultOf(started(self.here.push.begin(TARGET, PUSHER))).id
        first, rest = DATA[: 256 * 1024], DATA[256 * 1024 :]
        self.successResultOf(started(self.here.push.append(TARGET, id, None, WholeBody(first), PUSHER)))
        body = PlayedBody()
        appending = started(self.here.push.append(TARGET, id, None, body, PUSHER))
        for start in range(0, len(rest), 65_536):
            if body.aborted:
                break
            body.send(rest[start : start + 65_536])
        self.failureResultOf(appending, NoSpace)
        session = self.successResultOf(started(self.here.push.status(TARGET, id, PUSHER)))
        self.assertEqual(session.size, len(first))
        finish = self.here.push.finish(TARGET, id, Digest.of(first), None, WholeBody(b""), PUSHER)
        self.assertEqual(self.successResultOf(started(finish)), len(first))
        self.assertEqual(
            self.successResultOf(started(self.here.blobs.read(Digest.of(first), 1 << 20))), first
        )
