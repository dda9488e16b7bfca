"""Writing: what is written reads as what was written, but for secrets."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import attrs
import toml
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.config import (
    Config,
    RuleConfig,
    Secret,
    ServerConfig,
    TokenConfig,
    UpstreamConfig,
    dump,
    kinds,
    load,
    texts,
)
from nora.config.freshness import FreshnessConfig
from nora.config.keys import key, keys_of
from nora.config.kinds import Kind
from nora.config.values import sections
from nora.config.writing import encode, table_of

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,8}[a-z0-9])?", fullmatch=True)
NAMES = st.builds(lambda label, port: f"{label}.{port}x:{port}", LABELS, st.integers(1000, 65535))
PRINTABLE = st.text(st.characters().filter(str.isprintable), min_size=1, max_size=20)
BY_KIND: dict[type, st.SearchStrategy[Any]] = {
    kinds.Lifetime: st.one_of(st.just(float("inf")), st.integers(0, kinds.YEARS), st.floats(0, kinds.YEARS)),
    kinds.Size: st.one_of(st.integers(1, 1 << 50), st.integers(1, 1 << 20).map(lambda n: n << 30)),
    kinds.Flag: st.booleans(),
    texts.Path: st.one_of(PRINTABLE, st.text("\\\"x'u0", min_size=1)).map(texts.Path().read),
    texts.Host: st.one_of(LABELS.map("a".__add__), st.ip_addresses().map(str)),
    texts.HostName: NAMES,
    texts.Network: st.just("unix") | st.ip_addresses().map(str) | st.ip_addresses(v=4).map("{}/32".format),
    texts.Namespace: NAMES,
    texts.Label: st.from_regex(r"[A-Za-z0-9._:\[\]-]{1,20}", fullmatch=True),
    texts.Prefix: LABELS.map("p".__add__).map(lambda label: label.replace("_", "-")),
    texts.Pattern: LABELS.map(lambda label: f"{label}/*"),
    texts.RepositoryPattern: LABELS.map(lambda label: f"r:5/{label}/*"),
    texts.Login: LABELS,
    texts.RuleUser: st.sampled_from(["*", "everyone", "alice"]),
    texts.TokenText: st.nothing(),  # likewise
    texts.UserAndPassword: st.nothing(),  # what is written of it does not read back
    texts.ProxyURL: st.just("none") | NAMES.map("http://".__add__),  # one with a user does not read back
    texts.User: PRINTABLE.map(lambda text: text.replace(":", ";")),
    texts.TagPattern: st.from_regex(r"[A-Za-z0-9*?][A-Za-z0-9*?._:/-]{0,20}", fullmatch=True),
    texts.Origin: st.builds("{}://{}".format, st.sampled_from(["http", "https"]), NAMES),
}


def allowed(kind: Kind) -> st.SearchStrategy[Any]:
    """Make values that `kind` allows, as a configuration keeps them."""
    if isinstance(kind, kinds.Maybe):
        return st.none() | allowed(kind.kind)
    if isinstance(kind, kinds.Several):
        return st.lists(allowed(kind.kind), unique=True, max_size=3).map(tuple)
    if isinstance(kind, kinds.Choice):
        return st.sampled_from(kind.words)
    if isinstance(kind, kinds.Number):
        whole = st.integers(int(kind.low) + (kind.low % 1 > 0), int(kind.high))
        return whole if kind.whole else whole | st.floats(kind.low, kind.high)
    return BY_KIND[type(kind)]


APART: dict[type, tuple[Callable[[Any], object], ...]] = {
    UpstreamConfig: (lambda one: one.name, lambda one: one.prefix or one.name),
    FreshnessConfig: (lambda one: one.match,),
    TokenConfig: (lambda one: one.user,),
    RuleConfig: (lambda one: one.user,),
}


def tables(values: type, section: str) -> st.SearchStrategy[Any]:
    """Make instances of a value class."""
    made = {}
    for item in keys_of(values, section):
        if item.tables is None:
            made[item.name] = allowed(item.kind)
        else:
            # Tables that have nothing in common: what they may share is tested with the reading.
            made[item.name] = st.lists(
                tables(item.tables, item.dotted), max_size=3, unique_by=APART[item.tables]
            ).map(tuple)
    built = st.builds(values, **made)
    return built.map(WHOLE[values]) if values in WHOLE else built


def one_credential(upstream: UpstreamConfig) -> UpstreamConfig:
    """Leave an upstream one credential of those that it was given."""
    if upstream.username is None or upstream.password_file is None:
        upstream = attrs.evolve(upstream, username=None, password_file=None)
    else:
        upstream = attrs.evolve(upstream, token_file=None)
    only = upstream.username is None and upstream.token_file is None
    return upstream if only else attrs.evolve(upstream, docker_config=None)


def no_half_pair(server: ServerConfig) -> ServerConfig:
    """Leave a server certificate and key, or neither."""
    whole = server.tls_certificate is not None and server.tls_key is not None
    return server if whole else attrs.evolve(server, tls_certificate=None, tls_key=None)


def one_secret(token: TokenConfig) -> TokenConfig:
    """Have the secret of a token in a file."""
    return token if token.token_file else attrs.evolve(token, token_file="/etc/nora/token")


WHOLE: dict[type, Callable[[Any], Any]] = {
    UpstreamConfig: one_credential,
    ServerConfig: no_half_pair,
    TokenConfig: one_secret,
}
CONFIGS = st.builds(Config, **{name: tables(values, name) for name, values in sections().items()})


@attrs.frozen
class Keeper:
    """A table with a secret, as keys to come will have."""

    password: Secret = attrs.field(metadata=key(texts.SecretText(), "A secret.", example="x", shown="none"))


class WritingTests(SynchronousTestCase):
    """`dump` and what it is made of."""

    @given(CONFIGS)
    def test_round_trip(self, config: Config) -> None:
        """Any configuration that can be, written and read again, is the same."""
        with tempfile.NamedTemporaryFile("w", encoding="ascii") as file:
            file.write(dump(config))
            file.flush()
            self.assertEqual(load(file.name, {}), config)

    def test_every_key_is_written(self) -> None:
        """The output has every key, with those that are not set as empty texts."""
        document = toml.loads(dump(Config()))
        for section, values in sections().items():
            self.assertEqual(
                list(document[section]), [item.name for item in _tables_last(keys_of(values, section))]
            )
        [upstream] = document["docker"]["upstreams"]
        self.assertEqual(list(upstream), [field.name for field in attrs.fields(UpstreamConfig)])
        self.assertEqual((upstream["prefix"], document["server"]["public_url"]), ("", ""))

    def test_no_upstreams(self) -> None:
        """No upstreams at all is written as such, or reading would fall back to the default."""
        config = load(None, {"NORA_DOCKER_UPSTREAMS": ""})
        self.assertIn("upstreams = []", dump(config))

    def test_secrets(self) -> None:
        """A secret is written as its mask, wherever it is."""
        keeper = Keeper(Secret("hunter2"))
        self.assertEqual(encode({"keeper": table_of(keeper, "keeper")}), '[keeper]\npassword = "***"\n')
        self.assertNotIn("hunter2", repr(keeper))


def _tables_last(keys: Any) -> Any:
    return sorted(keys, key=lambda item: item.tables is not None and bool(item.default))
