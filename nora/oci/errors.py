"""What can go wrong, in the domain's words.

One tree: every exception that a client may come to see is a `NoraError`. `nora.web` alone maps the classes
to HTTP statuses and OCI error codes, in one table. A message and its `detail` are shown to clients: neither
may hold a secret, a signed URL or a path of this machine.
"""

from __future__ import annotations


class NoraError(Exception):
    """The root of the tree.

    `detail` is any JSON value that helps the person at the client; it goes out in the error body.
    """

    def __init__(self, message: str, detail: object = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class InvalidRequest(NoraError):
    """The client asked for something that has no meaning."""


class InvalidName(InvalidRequest):
    """A repository name outside the grammar of the distribution-spec."""


class InvalidTag(InvalidRequest):
    """A reference that is neither a tag nor a digest."""


class InvalidDigest(InvalidRequest):
    """A digest outside the grammar, or of an algorithm other than sha256 and sha512."""


class InvalidRange(InvalidRequest):
    """A Range that no byte of the blob satisfies (RFC 9110 section 14.4). `size` is the blob's, in bytes."""

    def __init__(self, size: int) -> None:
        super().__init__("the range has no byte of the blob", {"size": size})
        self.size = size


class RequestTooLarge(InvalidRequest):
    """A request body past what its endpoint takes."""


class InvalidSize(InvalidRequest):
    """A body of another length than the request or the manifest says."""


class InvalidManifest(InvalidRequest):
    """A pushed manifest that is none: its form, its type, or what it lists."""


class MissingContent(InvalidManifest):
    """A pushed manifest lists what its repository does not have."""


class InvalidUpload(InvalidRequest):
    """A request to an upload session that it cannot take."""


class UploadOutOfOrder(InvalidUpload):
    """A chunk that does not begin where the upload ends (distribution-spec, "Pushing a blob in chunks").

    `size` is how many bytes the upload has.
    """

    def __init__(self, size: int) -> None:
        super().__init__("the chunk does not begin where the upload ends", {"size": size})
        self.size = size


class Unsupported(NoraError):
    """A method or an endpoint that this registry does not offer."""


class Unknown(NoraError):
    """What was asked for is definitely not there."""


class NameUnknown(Unknown):
    """No such repository, and no upstream that could have it."""


class ManifestUnknown(Unknown):
    """The repository has no such manifest."""


class BlobUnknown(Unknown):
    """The repository has no such blob."""


class UploadUnknown(Unknown):
    """The repository has no such upload session: it ended, expired, or belongs to another client."""


class Denied(NoraError):
    """The client may not do this here."""


class NotAllowed(Denied):
    """The client was not granted this; an anonymous one may come back with credentials."""


class Unauthorized(NoraError):
    """The client must say who it is, or said so wrongly.

    `challenge` is what `WWW-Authenticate` says (RFC 9110 section 11.6.1).
    """

    def __init__(self, message: str, challenge: str, detail: object = None) -> None:
        super().__init__(message, detail)
        self.challenge = challenge


class Overloaded(NoraError):
    """NORA is at a limit of its own. `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: int, detail: object = None) -> None:
        super().__init__(message, detail)
        self.retry_after = retry_after


class Limited(NoraError):
    """An upstream says: too many requests. `retry_after` is in seconds, None when it did not say."""

    def __init__(self, message: str, retry_after: int | None = None, detail: object = None) -> None:
        super().__init__(message, detail)
        self.retry_after = retry_after


class Unavailable(NoraError):
    """No upstream could answer, so whether the content exists is not known."""

    answered = True
    """False where not even the headers of an answer came."""


class TimedOut(Unavailable):
    """As `Unavailable`, and time is what ran out."""

    answered = False


class Unverified(Unavailable):
    """What an upstream sent is not what was asked for: digest, size, type or form."""


class Broken(Unavailable):
    """A transfer ended before its last byte."""


class TooSlow(NoraError):
    """A client's body of which next to nothing comes."""


class TooLarge(NoraError):
    """Content past a limit that this server's configuration sets."""


class NoSpace(NoraError):
    """The store's file system is full."""
