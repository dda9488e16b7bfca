"""The door while `[auth]` is on: who has logged in, with what token, and what a client is told that has not."""

# Twisted's HTTP classes have no annotations on their methods.
# mypy: disallow-untyped-calls=False
from __future__ import annotations

import attrs

from nora.access import Action, Rights
from nora.access.rules import RuleSet
from nora.access.scopes import Scopes
from nora.access.tokens import BadToken, Grant, Issued, Tokens
from nora.oci.errors import NoraError, NotAllowed, Unauthorized
from nora.web import challenges
from nora.web.logins import Basic, Bearer, Logins, Malformed, authorization, note_login
from nora.web.requests import RegistryRequest

_PULL = frozenset({Action.PULL})


@attrs.frozen
class Asked:
    """What the token service was asked for."""

    scopes: Scopes
    basic: Basic | None = None
    """User and password, unless `refresh` stands for them."""
    refresh: str | None = attrs.field(default=None, repr=False)
    """A token of the configuration in the place of a password."""


class GuardedDoor:
    """See `nora.web.doorkeeper.Doorkeeper`. It is also what `/v2/token` asks for tokens."""

    def __init__(
        self,
        logins: Logins,
        tokens: Tokens,
        rules: RuleSet,
        *,
        anonymous_pull: bool,
        public_url: str | None,
    ) -> None:
        self._logins = logins
        self._tokens = tokens
        self._rules = rules
        self._anonymous_pull = anonymous_pull
        self._public_url = public_url

    async def admit(self, request: RegistryRequest) -> Rights:
        """Tell the rights of who asks. Raises `Unauthorized`, and `Overloaded` for too many wrong passwords."""
        try:
            given = authorization(request)
        except Malformed as error:
            raise self._challenge(request, str(error)) from None
        if given is None:
            # `/v2/` is the only place where skopeo and podman look for the token service.
            if challenges.is_base(request) or not self._anonymous_pull:
                raise self._challenge(request, "log in, or fetch an anonymous token")
            return self._rights(None)
        if isinstance(given, Basic):
            if not await self._logins.check(request, given.user, given.password):
                raise self._challenge(request, "wrong user or password")
            return self._rights(given.user)
        # A token outlives its password: only the file tells that its user is gone.
        await self._logins.passwords.renew()
        return self._bearer(request, given)

    def at_once(self, request: RegistryRequest) -> Rights | None:
        """Tell the rights of an anonymous client, or of one with a token."""
        try:
            given = authorization(request)
            if given is None:
                return self._rights(None) if self._anonymous_pull else None
            if not isinstance(given, Bearer) or self._logins.passwords.due:
                return None
            return self._bearer(request, given)
        except (Malformed, NoraError):
            return None

    def answer(self, request: RegistryRequest, error: NoraError) -> NoraError:
        """Give the error that goes out: a challenge where a login, or a token for more, may help."""
        if not isinstance(error, NotAllowed):
            return error
        try:
            given = authorization(request)
        except Malformed:
            return error
        if given is None:
            return self._challenge(request, error.message)
        grant = self._granted(given)
        need = challenges.needed(request)
        if grant is None or (grant.user is not None and not self._would_help(grant, need)):
            return error
        return self._challenge(request, error.message, "insufficient_scope")

    async def issue(self, request: RegistryRequest, asked: Asked) -> tuple[Issued, Scopes]:
        """Make a token for what of the scopes the client may have at all, and tell which those are.

        Raises `Unauthorized` and `Overloaded` as `admit`.
        """
        user = await self._who(request, asked)
        if user is None and not self._anonymous_pull:
            raise challenges.basic("this server gives nothing to anonymous clients: log in")
        if user is not None:
            note_login(request, user)
        most = self._rights(user).actions
        scopes = frozenset((name, action) for name, action in asked.scopes if action in most)
        name = challenges.service(request, self._public_url).name
        return self._tokens.issue(user, name, scopes), scopes

    async def _who(self, request: RegistryRequest, asked: Asked) -> str | None:
        if asked.refresh is not None:
            owner = self._logins.passwords.bearer(asked.refresh)
            if not await self._logins.check(request, owner or "", asked.refresh):
                raise challenges.basic("the token is not known here")
            return owner
        if asked.basic is None:
            return None
        if not await self._logins.check(request, asked.basic.user, asked.basic.password):
            raise challenges.basic("wrong user or password")
        return asked.basic.user

    def _challenge(self, request: RegistryRequest, message: str, error: str = "") -> Unauthorized:
        at = challenges.service(request, self._public_url)
        return challenges.bearer(at, message, scope=challenges.scope(request), error=error)

    def _bearer(self, request: RegistryRequest, given: Bearer) -> Rights:
        owner = self._logins.passwords.bearer(given.token)
        if owner is not None:
            return self._rights(owner)
        try:
            grant = self._verify(given.token)
        except BadToken as error:
            raise self._challenge(request, str(error), "invalid_token") from None
        return attrs.evolve(self._rights(grant.user), scopes=grant.scopes)

    def _verify(self, token: str) -> Grant:
        grant = self._tokens.verify(token, self._audience)
        if grant.user is not None and not self._logins.passwords.knows(grant.user):
            raise BadToken("the user of the token is not known any more")
        if grant.user is None and not self._anonymous_pull:
            raise BadToken("anonymous clients may do nothing here any more")
        return grant

    @property
    def _audience(self) -> str | None:
        """Only with a name of its own does this server know which name tokens must be for."""
        return None if self._public_url is None else self._public_url.partition("://")[2]

    def _granted(self, given: Basic | Bearer) -> Grant | None:
        """Give what a token says that was let in before; None for what is no token of `/v2/token`."""
        if isinstance(given, Basic):
            return None
        try:
            return self._verify(given.token)
        except BadToken:
            return None

    def _would_help(self, grant: Grant, need: tuple[str, Action] | None) -> bool:
        """Tell whether another token of this user's could be for what the client needs."""
        return need is not None and need not in grant.scopes and need[1] in self._rights(grant.user).actions

    def _rights(self, user: str | None) -> Rights:
        most = self._rules.most(user)
        return Rights(user, most & _PULL if user is None else most, self._rules)
