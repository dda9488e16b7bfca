"""The configuration of who may do what."""

from __future__ import annotations

import attrs

from nora.config import kinds, texts
from nora.config.keys import key


@attrs.frozen
class RuleConfig:
    """`[[access]]`: what some users may do to some repositories."""

    user: str = attrs.field(
        metadata=key(
            texts.RuleUser(),
            "Whom the rule is for: the name of a user, `*` for everybody who has logged in, `anonymous` for who has "
            "not, or `everyone` for both.",
            example="alice",
            shown="none: it must be given",
        ),
    )
    repository: str = attrs.field(
        default="*",
        metadata=key(
            texts.RepositoryPattern(),
            "The repositories that the rule is for; `*` stands for any characters, slashes too. What was pushed here "
            "goes by its own name, what is pulled through by registry and name: `docker.io/library/nginx`.",
            example="team/*",
        ),
    )
    actions: tuple[str, ...] = attrs.field(
        metadata=key(
            kinds.Several(kinds.Choice(("pull", "push", "delete", "admin"))),
            "What they may do there. With `push` and `delete` comes `pull`, and with `admin` all the others. An empty "
            "list forbids everything.",
            example=["pull", "push"],
            shown="none: it must be given",
        ),
        kw_only=True,
    )


@attrs.frozen
class AccessConfig:
    """`[[access]]`: who may do what. The list itself is the section; `rules` is its name where one is needed."""

    rules: tuple[RuleConfig, ...] = attrs.field(
        default=(),
        metadata=key(
            kinds.Several(texts.RuleUser()),
            "Who may do what to which repositories: the first rule that fits user and repository decides, and when "
            "none does nothing is allowed. Without any rule everybody may pull, if `auth.anonymous_pull` is on, and "
            "who has logged in may push and delete too. In a file each is a table `[[access]]` with the keys below; "
            "the variable is a comma-separated list of their users, which replaces the file's.",
            example="alice,everyone",
            tables=RuleConfig,
        ),
    )
