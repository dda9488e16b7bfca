"""Actions: what an administrator does from the pages and by their API: purge, refresh, delete.

A form asks first, on a page of its own, and is sent from there with a token (`nora.web.ui.seals`); what was done is
told on another page, so that loading it again does nothing again. The API takes JSON, which no site can make a browser
send without being asked whether it may (Fetch, "CORS protocol"), and nobody is told that it may. Both refuse what
another origin's page sent. Whether it was done or refused, the audit log tells who tried what.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import attrs

from nora.content.interfaces import Administration, Done
from nora.oci import Digest, Reference, Tag, check_name, parse_reference
from nora.oci.errors import Denied, InvalidRequest
from nora.push.interfaces import Target
from nora.web import asked, origins
from nora.web.patience import Patience
from nora.web.requests import RegistryRequest, Visit
from nora.web.ui.seals import Seals
from nora.web.uploads import Unbroken

NAMES = ("purge", "refresh", "delete")
_FIELDS = ("repository", "tag", "digest")
_MAX = 1024
_MAX_REGISTRY = 255
_FORM = b"application/x-www-form-urlencoded"
_JSON = b"application/json"


@attrs.frozen
class Wanted:
    """An action and what it is for. Without a reference it is for all that is cached of the repository."""

    name: str
    repository: str
    """Its full name, as the rules and the list of repositories have it."""
    target: Target
    reference: Reference | None

    @property
    def tag(self) -> str | None:
        """The tag, where it is for one."""
        return self.reference.name if isinstance(self.reference, Tag) else None

    @property
    def digest(self) -> str | None:
        """The digest, where it is for a manifest."""
        return str(self.reference) if isinstance(self.reference, Digest) else None

    @property
    def fields(self) -> dict[str, str]:
        """What a form says of it."""
        told = {"repository": self.repository, "tag": self.tag, "digest": self.digest}
        return {name: value for name, value in told.items() if value is not None}

    @classmethod
    def read(cls, name: str, told: Mapping[str, str]) -> Wanted:
        """Read what a form or the API says. Raises `InvalidRequest`."""
        repository, tag, digest = (told.get(field, "") for field in _FIELDS)
        if tag and digest:
            raise InvalidRequest("say a tag or a digest, not both")
        target = _target(repository)
        reference = parse_reference(tag or digest) if tag or digest else None
        if not isinstance(reference, Digest if digest else Tag if tag else type(None)):
            raise InvalidRequest("a tag has no colon, and a digest has one")
        if reference is None and name != "purge":
            raise InvalidRequest(f"say what of {repository} it is for")
        if name == "refresh" and not isinstance(reference, Tag):
            raise InvalidRequest("a tag is refreshed; what has a digest never changes")
        return cls(name, repository, target, reference)


class Actions:
    """Does them. `administration` gives what stands now: a reload may have exchanged it."""

    def __init__(
        self,
        administration: Callable[[], Administration],
        unbroken: Unbroken,
        patience: Patience,
        seals: Seals,
        public_url: Callable[[], str | None],
    ) -> None:
        self._administration = administration
        self._unbroken = unbroken
        self._patience = patience
        self._seals = seals
        self._public_url = public_url

    def asked(self, request: RegistryRequest, name: str) -> tuple[Wanted, dict[str, object]]:
        """Read what the page that asks first is for, and tell what it shows. Raises as `Administration.standing`."""
        told = {field: asked.argument(request, field.encode()) or b"" for field in _FIELDS}
        wanted = Wanted.read(name, {field: _text(value) for field, value in told.items()})
        standing = self._administration().standing(wanted.target, request.rights)
        if standing.hosted != (name == "delete"):
            here = "hosted here: it is deleted, neither purged nor refreshed"
            raise Denied(
                f"{wanted.repository} is {here if standing.hosted else 'cached: it is purged, not deleted'}"
            )
        return wanted, {"csrf": self._seals.token(request.rights.user), "fields": wanted.fields}

    async def sent(self, request: RegistryRequest, name: str) -> str:
        """Do what a form says, and tell the query of the page that tells of it."""
        self._begin(request, name)
        told = _form(request)
        self._note(request, name, told)
        self._check_origin(request)
        if not self._seals.is_token(told.get("csrf", ""), request.rights.user):
            raise Denied(
                "the form is too old, or somebody else's: go back, load the page again, and send it again"
            )
        wanted = Wanted.read(name, told)
        done = await self._do(request, wanted)
        query = urlencode({"action": name, **wanted.fields, **_told(done)})
        return f"{query}&{urlencode({'seal': self._seals.seal(query)})}"

    async def called(self, request: RegistryRequest, name: str) -> dict[str, object]:
        """Do what a call of the API says, and tell what became of it."""
        self._begin(request, name)
        told = _object(request)
        self._note(request, name, told)
        self._check_origin(request)
        wanted = Wanted.read(name, told)
        done = await self._do(request, wanted)
        fields = {field: getattr(wanted, field) for field in _FIELDS}
        return {"action": name, **fields, "before": None, "after": None, "upstream": None, **_told(done)}

    def done(self, request: RegistryRequest) -> dict[str, str | None]:
        """Read what the page that tells of an action is for: only what was told here. Raises `InvalidRequest`."""
        query = request.uri.partition(b"?")[2].decode("latin-1")
        told, _, seal = query[: 8 * _MAX].rpartition("&seal=")
        if not self._seals.is_sealed(told, seal):
            raise InvalidRequest("this page tells of what was done here; nothing was done by this link")
        names = ("action", *_FIELDS, "outcome", "before", "after", "upstream")
        return {**dict.fromkeys(names), **dict(parse_qsl(told))}

    def _begin(self, request: RegistryRequest, name: str) -> None:
        request.visit = Visit("", "", user=request.rights.user, action=name)

    def _note(self, request: RegistryRequest, name: str, told: Mapping[str, str]) -> None:
        """Have the audit log tell what was tried, whether or not it has a meaning."""
        reference = told.get("tag", "") or told.get("digest", "")
        user = request.rights.user
        request.visit = Visit(told.get("repository", "")[:_MAX], reference[:_MAX], user=user, action=name)

    def _check_origin(self, request: RegistryRequest) -> None:
        if origins.is_foreign(request, self._public_url()):
            raise Denied(
                "another site's page made your browser send this, so nothing was done; "
                "behind a proxy server.public_url tells which site this one is"
            )

    async def _do(self, request: RegistryRequest, wanted: Wanted) -> Done:
        """Do it to its end, whether or not the client waits for that."""
        administration, target, rights = self._administration(), wanted.target, request.rights
        standing = administration.standing(target, rights)
        if request.visit is not None and standing.places:
            request.visit.namespace = standing.places[0].namespace
            request.visit.digest = wanted.digest
        work: Coroutine[Any, Any, Done]
        if wanted.name == "refresh" and isinstance(wanted.reference, Tag):
            work = administration.refresh(target, wanted.reference, rights)
        elif wanted.name == "delete" and wanted.reference is not None:
            work = administration.delete(target, wanted.reference, rights)
        else:
            work = administration.purge(target, wanted.reference, rights)
        done = await self._patience.wait(request, self._unbroken.run(work))
        if request.visit is not None and done.after is not None:
            request.visit.digest, request.visit.upstream = str(done.after), done.upstream
        return done


def _told(done: Done) -> dict[str, str]:
    told = {"before": done.before, "after": done.after, "upstream": done.upstream}
    return {
        "outcome": done.outcome.value,
        **{name: str(value) for name, value in told.items() if value is not None},
    }


def _target(repository: str) -> Target:
    """Tell what a full name means for a request: a registry with a port is in no name. Raises `InvalidName`."""
    leading, slash, rest = repository.partition("/")
    if (
        slash
        and ":" in leading
        and len(leading) <= _MAX_REGISTRY
        and leading.isascii()
        and leading.isprintable()
    ):
        return Target(check_name(rest), leading)
    return Target(check_name(repository))


def _form(request: RegistryRequest) -> dict[str, str]:
    """Read the fields of a form. Raises `InvalidRequest`."""
    if _content_type(request) != _FORM:
        raise InvalidRequest("this takes the form of its page")
    try:
        pairs = parse_qsl(_body(request).decode("ascii"), keep_blank_values=True, max_num_fields=16)
    except ValueError:
        raise InvalidRequest("the form cannot be read") from None
    return {name: value[:_MAX] for name, value in pairs}


def _object(request: RegistryRequest) -> dict[str, str]:
    """Read the JSON of a call. Raises `InvalidRequest`."""
    if _content_type(request) != _JSON:
        raise InvalidRequest("this takes JSON, with Content-Type: application/json")
    try:
        told = json.loads(_body(request))
    except (ValueError, RecursionError):
        raise InvalidRequest("the body is no JSON") from None
    if not isinstance(told, dict) or not told.keys() <= set(_FIELDS):
        raise InvalidRequest(f"the body is an object of {', '.join(_FIELDS)}")
    fields = {name: value for name, value in told.items() if value is not None}
    if not all(isinstance(value, str) and len(value) <= _MAX for value in fields.values()):
        raise InvalidRequest(f"{', '.join(_FIELDS)} are texts of up to {_MAX} characters")
    return fields


def _content_type(request: RegistryRequest) -> bytes:
    return (request.getHeader(b"Content-Type") or b"").partition(b";")[0].strip().lower()


def _body(request: RegistryRequest) -> bytes:
    """Give the body, which is whole, and bounded by `nora.web.requests`."""
    content: Any = request.content
    content.seek(0)
    return bytes(content.read())


def _text(value: bytes) -> str:
    return value[:_MAX].decode("utf-8", "replace")
