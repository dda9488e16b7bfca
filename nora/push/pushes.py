"""Everything that can be pushed, put together: blobs by sessions, and manifests."""

from __future__ import annotations

from nora.push.manifests import ManifestPush
from nora.push.sessions import Sessions


class Pushes:
    """See `nora.push.interfaces.Push`."""

    def __init__(self, sessions: Sessions, manifests: ManifestPush) -> None:
        self.begin = sessions.begin
        self.mount = sessions.mount
        self.upload = sessions.upload
        self.append = sessions.append
        self.finish = sessions.finish
        self.status = sessions.status
        self.cancel = sessions.cancel
        self.manifest = manifests.manifest
