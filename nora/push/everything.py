"""Everything that can be pushed, put together of its two halves."""

from __future__ import annotations

from nora.push.manifests import ManifestPush
from nora.push.sessions import Sessions


class EveryPush:
    """See `nora.push.interfaces.Push`: blobs go to `sessions`, manifests to `manifests`."""

    def __init__(self, sessions: Sessions, manifests: ManifestPush) -> None:
        self.begin = sessions.begin
        self.mount = sessions.mount
        self.upload = sessions.upload
        self.append = sessions.append
        self.finish = sessions.finish
        self.status = sessions.status
        self.cancel = sessions.cancel
        self.manifest = manifests.manifest
