"""One upstream registry: the distribution-spec's pull endpoints, asked as a careful client asks them.

What an upstream says is outside: a manifest is verified before it is given on, a descriptor is built only from what
parses, and a blob's framing is checked here while its digest is the reader's to check. Every way to fail is one outcome
(`nora.upstream.outcomes`), whose message never holds a URL.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

import attrs
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IAgent

from nora.concurrency import Background
from nora.oci import (
    ACCEPTED_MEDIA_TYPES,
    MAX_MANIFEST_SIZE,
    MAX_SIZE,
    Descriptor,
    Digest,
    Manifest,
    Reference,
)
from nora.oci.errors import Limited, NoraError, Unavailable, Unverified
from nora.oci.listing import TagList
from nora.upstream.budget import within
from nora.upstream.circuit import Circuit
from nora.upstream.client import Answer, Client, Leads, anywhere
from nora.upstream.credential import Credential
from nora.upstream.credentials import Credentials, Source, Trouble
from nora.upstream.described import check_digest, digest_of, length_of, media_type_of
from nora.upstream.exchange import Exchange, fetch_token, says_invalid_name
from nora.upstream.guard import Guard
from nora.upstream.incoming import Transfer
from nora.upstream.limits import Limits
from nora.upstream.lists import Lists, Offload, at_once
from nora.upstream.login import Login, log_in
from nora.upstream.observer import Observer, Unobserved
from nora.upstream.origin import Origin
from nora.upstream.outcomes import Absent, Attempt
from nora.upstream.quota import Quota
from nora.upstream.ranges import check_partial
from nora.upstream.tokens import Fetched, Service, Tokens
from nora.upstream.transport import BoundedPool

T = TypeVar("T")

HEAD, MANIFEST, BLOB, LIST = "head", "manifest", "blob", "list"
"""The kinds of request that upstreams limit apart."""
SERVICE = "token"
"""The kind of those to token services."""

_ACCEPT = ", ".join(ACCEPTED_MEDIA_TYPES)
_NOT_IMPLEMENTED = 501
"""What a healthy registry that lacks some API says of it."""
_NO_HEAD = frozenset({400, 405, _NOT_IMPLEMENTED})
"""Statuses of a HEAD after which a GET may tell more: 400 says only in its body which part was refused."""


@attrs.frozen
class State:
    """How one upstream has done lately; times are seconds since the epoch, None for never."""

    last_success: float | None = None
    """When it last answered for sure: that it has something, or that it has not."""
    last_error: str | None = None
    last_error_at: float | None = None


class Registry:
    """The `nora.upstream.interfaces.Upstream` of a real registry at `url`, a http or https URL.

    `proxy_timeout` bounds an exchange up to its response's headers, and then once more a manifest's body;
    `read_timeout` is the longest silence in a blob's; both in seconds. `source` is where our credential is kept, and
    `realms` the further hosts of token services that it may go to; `twin_of` is the same registry asked in another way,
    whose circuit counts for both; `offload` does long computations in a thread. Raises `ValueError` for a URL that
    cannot be one.
    """

    anonymous: Registry | None = None
    """The same registry asked without our credential; None where there is none."""

    def __init__(
        self,
        *,
        name: str,
        namespace: str,
        url: str,
        agent: IAgent,
        clock: IReactorTime,
        proxy_timeout: float,
        read_timeout: float,
        guard: Guard | None = None,
        pool: BoundedPool | None = None,
        observer: Observer | None = None,
        random: Callable[[], float] = random.random,
        offload: Offload = at_once,
        source: Source | None = None,
        realms: Iterable[str] = (),
        twin_of: Registry | None = None,
    ) -> None:
        origin = Origin.of(url)
        self.name = name
        self.namespace = namespace
        self.url = str(origin)
        self._base = url.partition("?")[0].partition("#")[0].rstrip("/").removesuffix("/v2")
        self._clock = clock
        self._proxy_timeout = proxy_timeout
        self._read_timeout = read_timeout
        self._pool = pool
        self._observer: Observer = Unobserved() if observer is None else observer
        self._background = Background()
        self._limits = Limits(clock)
        self._quota = Quota(clock)
        self._state = State()
        if twin_of is None:
            self._circuit = Circuit(clock, random, self._background, self._probe, self._circuit_changed)
            self._circuit_changed(False)
        else:
            self._circuit = twin_of.circuit
        self._client = Client(HTTPClient(agent, _NoCookies()), clock, guard)
        self._login: Login | None = None
        logging_in = None
        if source is not None:
            credentials = Credentials(source, name, clock, self._background, self._observer, random)
            self._login = Login(credentials, origin, realms)
            logging_in = partial(self._log_in, self._login)
        tokens = Tokens(self._fetch_token, clock, self._background, logging_in)
        self._exchange = Exchange(self._client, tokens, origin, clock, self._login)
        self._lists = Lists(
            self._ask, self._require, self._manifest, clock, proxy_timeout, self._received_bytes, offload
        )

    @property
    def circuit(self) -> Circuit:
        """As `Upstream.circuit`."""
        return self._circuit

    def state(self) -> State:
        """Tell how it has done lately."""
        return self._state

    def credential_trouble(self) -> Trouble | None:
        """Tell why our credential is of no use; None when there is none, or nothing is known to be wrong with it."""
        return None if self._login is None else self._login.credentials.trouble()

    def try_again(self) -> None:
        """Show a credential again that was refused: a person may have seen to it."""
        if self._login is not None:
            self._login.credentials.forgive()

    async def close(self) -> None:
        """Close what is idle, and keep no connection any more. Exchanges under way go on."""
        self._circuit.retire()
        if self._pool is not None:
            await self._pool.close()

    def pulls_left(self) -> int | None:
        """As `Upstream.pulls_left`."""
        return self._quota.left()

    def pulls_reset_at(self) -> float | None:
        """Tell until when that holds at most, in seconds since the epoch."""
        return self._quota.resets_at()

    async def describe(self, repository: str, reference: Reference) -> Descriptor:
        """As `Upstream.describe`."""
        described = await self._observed(HEAD, self._describe(repository, reference))
        return described if described is not None else (await self.manifest(repository, reference)).descriptor

    async def manifest(self, repository: str, reference: Reference) -> Manifest:
        """As `Upstream.manifest`."""
        return await self._observed(MANIFEST, self._manifest(repository, reference))

    async def describe_blob(self, repository: str, digest: Digest) -> int | None:
        """As `Upstream.describe_blob`."""
        return await self._observed(HEAD, self._describe_blob(repository, digest))

    async def blob(self, repository: str, digest: Digest, start: int = 0) -> Transfer:
        """As `Upstream.blob`."""
        return await self._observed(BLOB, self._blob(repository, digest, start))

    async def tags(self, repository: str) -> TagList:
        """As `Upstream.tags`."""
        return await self._observed(LIST, self._lists.tags(repository))

    async def referrers(self, repository: str, digest: Digest) -> bytes:
        """As `Upstream.referrers`."""
        return await self._observed(LIST, self._lists.referrers(repository, digest))

    async def _describe(self, repository: str, reference: Reference) -> Descriptor | None:
        """Ask by HEAD; None when the answer does not tell enough."""
        answer = await self._ask("HEAD", f"{repository}/manifests/{reference}", {"Accept": _ACCEPT})
        if answer.status in _NO_HEAD:
            await answer.drain()
            return None
        await self._require(answer)
        await answer.drain()
        digest: Digest | None = digest_of(answer)
        if isinstance(reference, Digest):
            check_digest(answer, reference)
            digest = reference
        kind, size = media_type_of(answer), length_of(answer)
        if digest is None or size is None or size > MAX_MANIFEST_SIZE or kind not in ACCEPTED_MEDIA_TYPES:
            return None
        return Descriptor(kind, digest, size)

    async def _manifest(self, repository: str, reference: Reference) -> Manifest:
        answer = await self._ask("GET", f"{repository}/manifests/{reference}", {"Accept": _ACCEPT})
        await self._require(answer)
        if answer.length is not None and answer.length > MAX_MANIFEST_SIZE:
            answer.abort()
            raise Unverified("the manifest is larger than 4 MiB")
        body = await within(self._clock, self._proxy_timeout, _whole(answer))
        self._observer.received(self.name, len(body))
        wanted = reference if isinstance(reference, Digest) else digest_of(answer)
        return Manifest.verify(body, answer.header("Content-Type") or "", wanted)

    async def _describe_blob(self, repository: str, digest: Digest) -> int | None:
        answer = await self._ask("HEAD", f"{repository}/blobs/{digest}", {"Accept": "*/*"})
        await self._require(answer)
        await answer.drain()
        check_digest(answer, digest)
        if media_type_of(answer) == "text/html":
            raise Unverified("it answered with a web page")
        return length_of(answer)

    async def _blob(self, repository: str, digest: Digest, start: int) -> Transfer:
        headers = {"Accept": "*/*"}
        if start:
            headers["Range"] = f"bytes={start}-"
        answer = await self._ask("GET", f"{repository}/blobs/{digest}", headers)
        if answer.status == 206 and start:
            try:
                size = check_partial(answer.header("Content-Range"), start, answer.length)
            except Unverified:
                answer.abort()
                raise
        else:
            await self._require(answer)
            size, start = answer.length, 0
        if size is not None and size > MAX_SIZE:
            answer.abort()
            raise Unverified("it tells a size that no blob has")
        return Transfer(
            answer.take(),
            size,
            start,
            clock=self._clock,
            read_timeout=self._read_timeout,
            received=self._received_bytes,
        )

    async def _ask(
        self, method: str, path: str, headers: Mapping[str, str], query: str = "", leads: Leads = anywhere
    ) -> Answer:
        """Put one question within the budget."""
        repository = path.rpartition("/")[0].rpartition("/")[0]
        url = f"{self._base}/v2/{path}?{query}" if query else f"{self._base}/v2/{path}"
        work = self._exchange.ask(method, url, repository, headers, leads)
        since = self._clock.seconds()
        timeout = self._circuit.patience(self._proxy_timeout)
        try:
            answer = await within(self._clock, timeout, work, late=Answer.abort)
        except NoraError as error:
            self._circuit.failed(error, since)
            raise
        if answer.status >= 500 and answer.status != _NOT_IMPLEMENTED:
            self._circuit.faulted(answer.status, repository, since)
        else:
            self._circuit.succeeded()
        return answer

    async def _probe(self) -> None:
        """Ask what any registry answers, in whatever way; raises when it does not, or with a 5xx."""
        asking = self._client.request("GET", f"{self._base}/v2/", {})
        timeout = self._circuit.patience(self._proxy_timeout)
        answer = await within(self._clock, timeout, asking, late=Answer.abort)
        await answer.drain()
        if answer.status >= 500:
            raise Unavailable(f"it answered {answer.status}")

    def _circuit_changed(self, opened: bool) -> None:
        self._observer.circuit(self.name, opened)

    async def _require(self, answer: Answer) -> None:
        """Raise what `answer` means unless it is a 200; then its body is ended too."""
        remaining = self._quota.hear(answer.header("ratelimit-remaining"))
        if remaining is not None:
            self._observer.quota(self.name, remaining)
        if answer.status == 200:
            return
        refusal = self._exchange.refusal(answer)
        if answer.status == 400 and await within(self._clock, self._proxy_timeout, says_invalid_name(answer)):
            refusal = Absent("such a name cannot exist there")
        await answer.drain()
        raise refusal

    async def _observed(self, kind: str, work: Coroutine[Any, Any, T]) -> T:
        """Do `work`, and tell the observer and the state how it went; while `kind` is limited, do nothing at all."""
        try:
            self._limits.check(kind)
        except Limited:
            work.close()
            raise
        since = self._clock.seconds()
        outcome = "unavailable"
        try:
            result = await work
            outcome = "found"
            self._succeeded()
            return result
        except CancelledError:
            outcome = "cancelled"
            raise
        except NoraError as error:
            outcome = Attempt(self.name, error).outcome
            if isinstance(error, Limited):
                self._limits.remember(kind, error.retry_after)
            if isinstance(error, Absent):
                self._succeeded()
            else:
                self._state = attrs.evolve(
                    self._state, last_error=error.message, last_error_at=self._clock.seconds()
                )
            raise
        finally:
            self._observer.answered(self.name, kind, outcome, self._clock.seconds() - since)

    def _received_bytes(self, count: int) -> None:
        self._observer.received(self.name, count)

    def _succeeded(self) -> None:
        self._state = attrs.evolve(self._state, last_success=self._clock.seconds())

    def _fetch_token(self, url: str) -> Deferred[Fetched]:
        return Deferred.fromCoroutine(self._observed_token(fetch_token(self._client, self._clock, url)))

    def _log_in(
        self, login: Login, service: Service, scope: str, credential: Credential
    ) -> Deferred[Fetched]:
        login.require_trusted(service)
        credentials = login.credentials

        def work() -> Coroutine[Any, Any, Fetched]:
            asking = log_in(self._client, self._clock, credentials, service, scope, credential)
            return self._observed_token(asking)

        return within(self._clock, self._proxy_timeout, credentials.show(credential, work))

    async def _observed_token(self, work: Coroutine[Any, Any, Fetched]) -> Fetched:
        """Ask a token service within the budget, and tell the observer how that went."""
        self._observer.token(self.name)
        since = self._clock.seconds()
        outcome = "unavailable"
        try:
            fetched = await within(self._clock, self._proxy_timeout, work)
            outcome = fetched.outcome
            return fetched
        except CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._observer.answered(self.name, SERVICE, outcome, self._clock.seconds() - since)


class _NoCookies(IndexableCookieJar):
    """A jar that keeps nothing: no registry needs cookies, and a jar has no bound."""

    def extract_cookies(self, response: object, request: object) -> None:
        """Leave them."""


async def _whole(answer: Answer) -> bytes:
    return await answer.read(MAX_MANIFEST_SIZE)
