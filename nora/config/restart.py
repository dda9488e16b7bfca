"""What a running daemon takes over when its configuration is read again, and what has to wait for a restart."""

from __future__ import annotations

import attrs

from nora.config.values import Config

_RELOADED = {
    "server": {"public_url", "aliases", "tls_certificate", "tls_key", "trusted_proxies"},
    "docker": {
        "upstreams",
        "proxy_timeout",
        "connect_timeout",
        "read_timeout",
        "revalidate_timeout",
        "metadata_ttl",
        "negative_ttl",
        "freshness",
        "max_stale",
        "quota_reserve",
        "offline",
        "on_upstream_delete",
        "on_upstream_denied",
        "list_ttl",
        "default_action",
        "fallback",
        "hosted",
        "max_upload_size",
        "upload_idle_timeout",
        "push_sparse",
        "immutable_tags",
        "push",
    },
    "auth": {"htpasswd", "tokens", "token_ttl", "anonymous_pull"},
    "access": {"rules"},
}
"""The keys that a running daemon takes over; the others need a restart."""


def taken_over(running: Config, new: Config) -> Config:
    """Give the configuration that a daemon with `running` has after it has read `new`."""
    sections = {
        section: attrs.evolve(
            getattr(running, section), **{key: getattr(getattr(new, section), key) for key in sorted(keys)}
        )
        for section, keys in _RELOADED.items()
    }
    return attrs.evolve(running, **sections)


def needs_restart(old: Config, new: Config) -> list[str]:
    """List the keys, as `section.key`, that differ and that a running daemon does not take over.

    TLS takes new files in its stride, but a listener does not begin or end to speak it.
    """
    changed = []
    if (old.server.tls_certificate is None) != (new.server.tls_certificate is None):
        changed.append("server.tls_certificate")
    for section in attrs.fields_dict(Config):
        before, after = getattr(old, section), getattr(new, section)
        for key in attrs.fields_dict(type(before)):
            if getattr(before, key) != getattr(after, key) and key not in _RELOADED.get(section, set()):
                changed.append(f"{section}.{key}")
    return changed
