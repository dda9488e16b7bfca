"""The configuration of who may log in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from nora.config import kinds, texts
from nora.config.keys import key
from nora.config.secret import Secret


@attrs.frozen
class TokenConfig:
    """`[[auth.tokens]]`: a user whose password is a token that does not change."""

    user: str = attrs.field(
        metadata=key(
            texts.Login(),
            "The user that the token is for. One user may have several tokens, and a password in `htpasswd` beside.",
            example="ci",
            shown="none: it must be given",
        ),
    )
    token: Secret | None = attrs.field(
        default=None,
        metadata=key(
            kinds.Maybe(texts.TokenText()),
            "The token, which clients send as the password of `user`, or as a bearer token. A token has `token` or "
            "`token_file`, not both.",
            example="a-secret-of-many-random-letters",
        ),
    )
    token_file: str | None = attrs.field(
        default=None,
        metadata=key(
            kinds.Maybe(texts.Path()),
            "A file that has nothing but the token in it. It is read at the start and on SIGHUP.",
            example="/etc/nora/ci.token",
        ),
    )


def conflicts(tokens: Sequence[TokenConfig | None]) -> Iterator[tuple[int, str, str, str]]:
    """Tell which tokens have no secret, or two; see `keys.Conflicts`."""
    for position, token in enumerate(tokens, 1):
        if token is None:
            continue
        if token.token is None and token.token_file is None:
            yield position, "token", "", "must be given, or token_file"
        if token.token is not None and token.token_file is not None:
            yield position, "token_file", token.token_file, "must not be given beside token: one of them only"


@attrs.frozen
class AuthConfig:
    """`[auth]`: who may log in. It is on as soon as there is an `htpasswd` file or a token."""

    htpasswd: str | None = attrs.field(
        default=None,
        metadata=key(
            kinds.Maybe(texts.Path()),
            "A file of users and the bcrypt of their passwords, as `htpasswd -B` writes it. It is read again when it "
            "changes, and who is gone from it is gone with its tokens; a new one that cannot be used is told in the "
            "log, and the old users stay.",
            example="/etc/nora/users",
        ),
    )
    tokens: tuple[TokenConfig, ...] = attrs.field(
        default=(),
        metadata=key(
            kinds.Several(texts.Login()),
            "Tokens that do not change, for programs. In a file each is a table `[[auth.tokens]]` with the keys below; "
            "the variable is a comma-separated list of their users, which replaces the file's.",
            example="ci,scanner",
            tables=TokenConfig,
            conflicts=conflicts,
        ),
    )
    token_ttl: int = attrs.field(
        default=300,
        metadata=key(
            kinds.count(60, 86400),
            "For how many seconds a token of `/v2/token` is good. Clients fetch a new one by themselves.",
            example=900,
        ),
    )
    anonymous_pull: bool = attrs.field(
        default=True,
        metadata=key(
            kinds.Flag(),
            "Whether clients that have not logged in may pull, as far as the rules of `[[access]]` let them. With "
            "false nobody gets anything without a login.",
            example=False,
        ),
    )

    @property
    def enabled(self) -> bool:
        """Whether anybody can log in."""
        return self.htpasswd is not None or bool(self.tokens)
