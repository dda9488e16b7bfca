"""Kinds of texts: paths, hosts, URLs, names and secrets.

What Python's own types cannot tell apart, these do; all are `kinds.Text`: bounded, printable, of one line.
"""

from __future__ import annotations

import ipaddress
import os
import re

from nora.config import hosts, proxies
from nora.config.kinds import MAX_TEXT, Refused, Text
from nora.config.secret import MASK, Secret
from nora.oci import check_name
from nora.oci.errors import InvalidName
from nora.oci.reference import MAX_NAME_LENGTH

LOCAL = "local"
"""The namespace of what is pushed here."""
MAX_NAMESPACE_LENGTH = 255
"""A namespace is the name of a directory."""

_PATTERN = re.compile(r"[a-z0-9*][a-z0-9*._-]*(?:/[a-z0-9*][a-z0-9*._-]*)*\Z")
_TAG_PATTERN = re.compile(r"[A-Za-z0-9*?][A-Za-z0-9*?._:/-]{0,639}\Z")
_REPOSITORY_PATTERN = re.compile(r"[a-z0-9*.:_\[\]/-]{1,512}\Z")
MIN_TOKEN = 16
"""The shortest token that is taken, in characters."""
MAX_TOKEN = MAX_TEXT
_TOKEN = re.compile(rf"[\x21-\x7e]{{{MIN_TOKEN},{MAX_TOKEN}}}\Z")
MAX_LOGIN = 128
RESERVED_USERS = ("*", "anonymous", "everyone")
"""The words of rules that mean others than one user."""
_LABEL = re.compile(r"[A-Za-z0-9._:\[\]-]{1,260}\Z")


class Path(Text):
    """A path; a relative one counts from the directory that the daemon is started in."""

    @property
    def allows(self) -> str:
        """What is allowed."""
        return f"a path of 1 to {MAX_TEXT} printable characters"

    def check(self, text: str) -> str:
        """Make the path absolute."""
        return os.path.abspath(text)


class Host(Text):
    """An address to listen on."""

    @property
    def allows(self) -> str:
        """What is allowed."""
        return "an IP address or a host name"

    def check(self, text: str) -> str:
        """Take an IP address or a host name."""
        try:
            return hosts.parse_host(text)
        except hosts.Malformed as error:
            raise Refused(f"must {error}") from None


class HostName(Text):
    """The `host[:port]` under which a server is known, in its one spelling."""

    @property
    def allows(self) -> str:
        """What is allowed."""
        return "host or host:port"

    def check(self, text: str) -> str:
        """Take the name."""
        try:
            return hosts.parse_name(text)
        except hosts.Malformed as error:
            raise Refused(f"must {error}") from None


class Network(Text):
    """Where a proxy is: an address, a network, or the word for UNIX sockets."""

    @property
    def allows(self) -> str:
        """What is allowed."""
        return "an IP address, a network such as 10.0.0.0/8, or unix"

    def check(self, text: str) -> str:
        """Take it in its one spelling; bits past a network's prefix are a mistake."""
        if text == "unix":
            return text
        try:
            network = ipaddress.ip_network(text)
        except ValueError:
            raise Refused(f"must be {self.allows}") from None
        return str(network if "/" in text else network.network_address)


class Namespace(HostName):
    """A registry's name in image references; `local` is not a remote one's."""

    def check(self, text: str) -> str:
        """Take the name, whichever of Docker Hub's it is as `docker.io`."""
        namespace = hosts.canonical_namespace(super().check(text))
        if namespace == LOCAL:
            raise Refused(f"must not be {LOCAL}, which is the namespace of what is pushed here")
        if len(namespace) > MAX_NAMESPACE_LENGTH:
            raise Refused(f"must have at most {MAX_NAMESPACE_LENGTH} characters")
        return namespace


class Origin(Text):
    """The URL of a server: scheme, host and port, nothing else."""

    @property
    def allows(self) -> str:
        """What is allowed."""
        return "an http:// or https:// URL without a path"

    def check(self, text: str) -> str:
        """Take the URL."""
        try:
            return str(hosts.parse_origin(text))
        except hosts.Malformed as error:
            raise Refused(f"must {error}") from None


class Label(Text):
    """What an upstream is called in records, metrics and logs."""

    @property
    def allows(self) -> str:
        """What is allowed."""
        return "1 to 260 of a-z, A-Z, 0-9 and . _ : [ ] -"

    def check(self, text: str) -> str:
        """Take the label."""
        if not _LABEL.match(text):
            raise Refused(f"must be {self.allows}")
        return text


class Prefix(Text):
    """The first component of a repository name."""

    @property
    def allows(self) -> str:
        """What is allowed."""
        return "one component of a repository name, such as hub"

    def check(self, text: str) -> str:
        """Take the component."""
        try:
            check_name(text)
        except InvalidName:
            raise Refused(f"must be {self.allows}") from None
        if "/" in text:
            raise Refused(f"must be {self.allows}")
        if text == LOCAL:
            raise Refused(f"must not be {LOCAL}, which is the namespace of what is pushed here")
        return text


class Pattern(Text):
    """A repository name in which `*` stands for any run of characters."""

    @property
    def allows(self) -> str:
        """What is allowed."""
        return "a repository name in which * may stand for any characters, such as team/*"

    def check(self, text: str) -> str:
        """Take the pattern."""
        if len(text) > MAX_NAME_LENGTH or not _PATTERN.match(text):
            raise Refused(f"must be {self.allows}")
        return text


class RepositoryPattern(Text):
    """The full name of a repository, with its registry where it has one, in which `*` stands for any characters."""

    @property
    def allows(self) -> str:
        """What is allowed."""
        return (
            "a full name of repositories in which * may stand for any characters, such as docker.io/library/*"
        )

    def check(self, text: str) -> str:
        """Take the pattern."""
        if not _REPOSITORY_PATTERN.match(text):
            raise Refused(f"must be {self.allows}")
        return text


class TagPattern(Text):
    """An image with its tag, in which `*` stands for any run of characters and `?` for any one."""

    @property
    def allows(self) -> str:
        """What is allowed."""
        return "an image and tag in which * may stand for any characters and ? for one, such as *:latest"

    def check(self, text: str) -> str:
        """Take the pattern."""
        if not _TAG_PATTERN.match(text):
            raise Refused(f"must be {self.allows}")
        return text


class SecretText(Text):
    """A secret, kept as `Secret` and never written out."""

    @property
    def allows(self) -> str:
        """What is allowed."""
        return f"a secret of 1 to {MAX_TEXT} printable characters, not {MASK}"

    def read(self, value: object) -> Secret:
        """Take the secret; a refusal does not show it."""
        try:
            return Secret(super().read(value))
        except Refused as error:
            raise Refused(str(error), value=MASK) from None

    def check(self, text: str) -> str:
        """Refuse what stands for a secret in the output of `nora config show`."""
        if text == MASK:
            raise Refused(f"must be {self.allows}")
        return text


class TokenText(SecretText):
    """A bearer token that is also a password: long enough that nobody guesses it."""

    @property
    def allows(self) -> str:
        """What is allowed."""
        return f"a secret of {MIN_TOKEN} to {MAX_TEXT} printable ASCII characters without spaces, not {MASK}"

    def check(self, text: str) -> str:
        """Take the token."""
        if not is_token(super().check(text)):
            raise Refused(f"must be {self.allows}")
        return text


def is_token(text: str) -> bool:
    """Tell whether `text` can be a token: long enough, and without what a header could not hold."""
    return _TOKEN.match(text) is not None


class UserAndPassword(SecretText):
    """A user and a password, as one secret."""

    @property
    def allows(self) -> str:
        """What is allowed."""
        return f"user:password, of 3 to {MAX_TEXT} printable characters"

    def check(self, text: str) -> str:
        """Take it if both are there."""
        user, _, password = super().check(text).partition(":")
        if not user or not password:
            raise Refused(f"must be {self.allows}")
        return text


class ProxyURL(Text):
    """A proxy's URL, kept as `Secret` when a user is in it; or the word for none at all."""

    @property
    def allows(self) -> str:
        """What is allowed."""
        return proxies.ALLOWS

    def read(self, value: object) -> str | Secret:
        """Take the URL; a refusal does not show one with a user in it."""
        secret = isinstance(value, str) and "@" in value
        try:
            text: str = super().read(value)
        except Refused as error:
            raise Refused(str(error), value=MASK if secret else value) from None
        return Secret(text) if secret else text

    def check(self, text: str) -> str:
        """Take the URL or the word."""
        if text == proxies.NONE:
            return text
        if "://" not in text:
            raise Refused(f"must be {self.allows}")
        try:
            proxies.parse_proxy(text)
        except hosts.Malformed as error:
            raise Refused(f"must {error}") from None
        return text


class User(Text):
    """A user's name at an upstream."""

    @property
    def allows(self) -> str:
        """What is allowed."""
        return f"a printable text of 1 to {MAX_TEXT} characters without a colon"

    def check(self, text: str) -> str:
        """Take it; a colon ends a user's name in what is sent."""
        if ":" in text:
            raise Refused(f"must be {self.allows}")
        return text


class RuleUser(User):
    """A user in a rule, or one of the words for others."""

    @property
    def allows(self) -> str:
        """What is allowed."""
        return f"a user's name of 1 to {MAX_LOGIN} printable characters without a colon, or *, anonymous, everyone"

    def check(self, text: str) -> str:
        """Take it."""
        if len(text) > MAX_LOGIN or ":" in text:
            raise Refused(f"must be {self.allows}")
        return text


class Login(User):
    """The name of a user who logs in here."""

    @property
    def allows(self) -> str:
        """What is allowed."""
        return f"a user's name of 1 to {MAX_LOGIN} printable characters without a colon, not *, anonymous, everyone"

    def check(self, text: str) -> str:
        """Take it, unless rules mean others by it."""
        if len(text) > MAX_LOGIN or ":" in text or text in RESERVED_USERS:
            raise Refused(f"must be {self.allows}")
        return text
