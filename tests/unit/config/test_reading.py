"""Reading: what wins, what is a mistake, and that all mistakes are told at once."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.config import Config, ConfigError, StorageConfig, UpstreamConfig, dump, find_path, load
from nora.config.document import MAX_FILE
from nora.config.keys import keys_of
from nora.config.values import sections

HUB = "https://registry-1.docker.io"
OTHER_HALF = {"NORA_TLS_CERTIFICATE": "NORA_TLS_KEY", "NORA_TLS_KEY": "NORA_TLS_CERTIFICATE"}


class ReadingCase(SynchronousTestCase):
    """What the tests of reading share."""

    def setUp(self) -> None:
        """Have a place for a file."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = f"{directory.name}/nora.toml"

    def load(self, text: str | bytes = "", environ: Mapping[str, str] | None = None) -> Config:
        """Load a file with this text."""
        Path(self.path).write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(self.path, environ or {})

    def mistakes(self, text: str | bytes = "", environ: Mapping[str, str] | None = None) -> list[str]:
        """Load a file with this text, and give the lines of its mistakes without the file's name."""
        with self.assertRaises(ConfigError) as caught:
            self.load(text, environ)
        return [line.replace(f"{self.path}: ", "") for line in caught.exception.lines]


class ValueTests(ReadingCase):
    """Values that are taken."""

    def test_nothing_configured(self) -> None:
        """Without a file and variables everything has its default, and the audit log is in the store."""
        config = load(None, {"PATH": "/bin"})
        self.assertEqual(config, Config())
        self.assertEqual((config.server.host, config.server.port), ("127.0.0.1", 4000))
        self.assertEqual(config.docker.upstreams, (UpstreamConfig(HUB, namespace="docker.io"),))
        self.assertEqual(config.docker.proxy_timeout, 60)
        self.assertEqual(config.storage.path, os.path.abspath("data"))
        self.assertEqual(config.audit.path, os.path.abspath("data/audit.jsonl"))

    def test_environment_over_file_over_default(self) -> None:
        """A variable wins over the file, and the file over the default, key by key."""
        text = "[server]\nport = 1\nhost = '::1'\n[docker]\nproxy_timeout = 5"
        config = self.load(text, {"NORA_PORT": "2", "NORA_DOCKER_METADATA_TTL": "never"})
        self.assertEqual((config.server.port, config.server.host), (2, "::1"))
        self.assertEqual((config.docker.proxy_timeout, config.docker.metadata_ttl), (5, math.inf))
        self.assertEqual(config.docker.read_timeout, 60)

    def test_every_key_from_file_and_variable(self) -> None:
        """Each key takes its documented example from the file, and from its variable."""
        for section, values in sections().items():
            for key in keys_of(values, section):
                if key.tables is not None:
                    continue
                expected = key.kind.read(key.example)
                text = f"[{section}]\n{key.name} = {_literal(key.example)}"
                beside = {OTHER_HALF[key.variable]: "/x"} if key.variable in OTHER_HALF else {}
                config = self.load(text, beside)
                self.assertEqual(getattr(getattr(config, section), key.name), expected, key.dotted)
                said = (
                    ",".join(key.example)
                    if isinstance(key.example, list)
                    else _literal(key.example).strip('"')
                )
                config = load(None, {key.variable: said, **beside})
                self.assertEqual(getattr(getattr(config, section), key.name), expected, key.variable)

    def test_variables_are_named_after_their_keys(self) -> None:
        """The names that people know by heart."""
        names = {key.variable for section, values in sections().items() for key in keys_of(values, section)}
        for name in (
            "NORA_HOST",
            "NORA_PORT",
            "NORA_PUBLIC_URL",
            "NORA_ALIASES",
            "NORA_STORAGE_PATH",
            "NORA_DOCKER_UPSTREAMS",
            "NORA_DOCKER_PROXY_TIMEOUT",
            "NORA_AUDIT_PATH",
            "NORA_LOG_LEVEL",
        ):
            self.assertIn(name, names)

    def test_audit_log_follows_the_store(self) -> None:
        """The audit log is under the store unless it has a path of its own."""
        self.assertEqual(load(None, {"NORA_STORAGE_PATH": "/s"}).audit.path, "/s/audit.jsonl")
        environ = {"NORA_STORAGE_PATH": "/s", "NORA_AUDIT_PATH": "a.jsonl"}
        self.assertEqual(load(None, environ).audit.path, os.path.abspath("a.jsonl"))
        self.assertEqual(Config(storage=StorageConfig("/s")).audit.path, "/s/audit.jsonl")

    def test_own_names(self) -> None:
        """Aliases and the public URL's host are the names of this server."""
        config = load(
            None, {"NORA_PUBLIC_URL": "https://Nora.internal:443/", "NORA_ALIASES": "nora:4000,A:80"}
        )
        self.assertEqual(config.server.public_url, "https://nora.internal")
        self.assertEqual(config.server.own_names, {"nora.internal", "nora:4000", "a"})
        self.assertEqual(Config().server.own_names, frozenset())

    def test_byte_order_mark(self) -> None:
        """An editor's byte order mark is no mistake."""
        self.assertEqual(self.load(b"\xef\xbb\xbf[server]\nport = 7\n").server.port, 7)

    def test_values_are_frozen_and_hashable(self) -> None:
        """A configuration can be compared, kept and not changed."""
        config = load(None, {})
        hash(config)
        with self.assertRaises(attrs.exceptions.FrozenInstanceError):
            config.server.port = 1  # type: ignore[misc]


class FileTests(ReadingCase):
    """Which file is read, and files that cannot be."""

    def test_option_before_variable(self) -> None:
        """The option names the file, else the variable does, else there is none."""
        self.assertEqual(find_path("a", {"NORA_CONFIG_PATH": "b"}), "a")
        self.assertEqual(find_path(None, {"NORA_CONFIG_PATH": "b"}), "b")
        self.assertIsNone(find_path(None, {"NORA_CONFIG_PATH": ""}))
        self.assertIsNone(find_path(None, {}))

    def test_file_that_the_variable_names(self) -> None:
        """`NORA_CONFIG_PATH` is followed, and is no unknown variable."""
        self.load("[server]\nport = 9")
        self.assertEqual(load(None, {"NORA_CONFIG_PATH": self.path}).server.port, 9)

    def test_missing_file(self) -> None:
        """A file that is named must be there; variables are checked all the same."""
        with self.assertRaises(ConfigError) as caught:
            load("/nonexistent/nora.toml", {"NORA_PORT": "x"})
        first, second = caught.exception.lines
        self.assertEqual(first, "/nonexistent/nora.toml: cannot be read: No such file or directory")
        self.assertTrue(second.startswith('NORA_PORT: "x": '))

    def test_no_path(self) -> None:
        """Neither an empty path nor one with a NUL ends in a traceback."""
        for path in ("", "a\0b"):
            with self.assertRaises(ConfigError) as caught:
                load(path, {})
            self.assertIn("cannot be read", caught.exception.lines[0])

    def test_position_of_an_error(self) -> None:
        """A file that does not parse is told with line and column."""
        for text, line in {
            "[server]\nport = = 1\n": "line 2, column 8: Invalid value",
            "[server\nport = 1": "line 1, column 8: Expected ']' at the end of a table declaration",
            "[server]\nport = ": "line 2, end of file: Invalid value",
            "a = 1\na = 1\n": "line 2, column 6: Cannot overwrite a value",
        }.items():
            self.assertEqual(self.mistakes(text), [line])
        self.assertEqual(self.mistakes(b"a = 1\nb = '\xff'"), ["line 2: is not UTF-8"])

    def test_hostile_files(self) -> None:
        """Depth, digits and length have bounds."""
        self.assertEqual(self.mistakes(f"a = {'[' * 100_000}"), ["is nested too deeply"])
        self.assertEqual(len(self.mistakes(f"a = {'1' * 5000}")), 1)
        self.assertEqual(self.mistakes("#" * (MAX_FILE + 1)), [f"must have at most {MAX_FILE} bytes"])
        [line] = self.mistakes(f"[server]\nport = 0x{'f' * 5000}")
        self.assertEqual(
            line, "server.port: a number of more than 30 digits: must be a whole number from 0 to 65535"
        )


class MistakeTests(ReadingCase):
    """Values that are refused, and names that nobody knows."""

    def test_all_at_once(self) -> None:
        """Every mistake is told, in the file's sections and the variables, once each."""
        text = """
            [server]
            port = "4000"
            alias = []
            [docker]
            proxy_timeout = -5
            hosted = ["a", "A"]
            [audit]
            enabled = 1
        """
        self.assertEqual(
            self.mistakes(text, {"NORA_LOG_LEVEL": "loud", "NORA_DOCKER_UPSTREAM": "https://ghcr.io"}),
            [
                "server.alias: unknown key; did you mean aliases?",
                'server.port: "4000": must be a whole number from 0 to 65535',
                "docker.proxy_timeout: -5: must be a number of seconds from 1 to 86400",
                'docker.hosted[2]: "A": must be a repository name in which * may stand for any characters, '
                "such as team/*",
                "audit.enabled: 1: must be true or false",
                'NORA_LOG_LEVEL: "loud": must be "debug" or "info" or "warn" or "error" or "critical"',
                "NORA_DOCKER_UPSTREAM: unknown variable; did you mean NORA_DOCKER_UPSTREAMS?",
            ],
        )

    def test_mistakes_name_the_file(self) -> None:
        """A line begins with the file that the mistake is in."""
        with self.assertRaises(ConfigError) as caught:
            self.load("[server]\nport = -1")
        self.assertEqual(
            str(caught.exception), f"{self.path}: server.port: -1: must be a whole number from 0 to 65535"
        )

    def test_overridden_mistake(self) -> None:
        """A mistake in the file is told although a variable replaces the value."""
        self.assertEqual(len(self.mistakes("[server]\nport = -1", {"NORA_PORT": "1"})), 1)

    def test_unknown_names(self) -> None:
        """An unknown name comes with the nearest known one, or with its right place."""
        for text, line in {
            "[sever]": "sever: unknown section; did you mean server?",
            "[tls]": "tls: unknown section",
            "port = 1": "port: unknown key; did you mean server.port?",
            "[server]\nproxy_timeout = 1": "server.proxy_timeout: unknown key; did you mean docker.proxy_timeout?",
            "[docker]\nurl = 'a'": "docker.url: unknown key; did you mean docker.upstreams.url?",
            "[log]\nxyzzy = 1": "log.xyzzy: unknown key",
            f"[[docker.upstreams]]\nurl = '{HUB}'\nnamspace = 'a'": (
                "docker.upstreams[1].namspace: unknown key; did you mean namespace?"
            ),
        }.items():
            self.assertEqual(self.mistakes(text), [line])

    def test_unknown_variables(self) -> None:
        """A variable of ours that means nothing is a mistake; those of others are nobody's business."""
        for variable, line in {
            "NORA_PROT": "unknown variable; did you mean NORA_PORT?",
            "NORA_XYZZY": "unknown variable",
        }.items():
            self.assertEqual(self.mistakes("", {variable: "1"}), [f"{variable}: {line}"])
        self.assertEqual(self.load("", {"NORAX": "1", "nora_port": "x"}), Config())

    def test_service_links(self) -> None:
        """What Kubernetes sets for a Service called nora is told as that."""
        environ = {
            "NORA_PORT": "tcp://10.0.0.1:4000",
            "NORA_PORT_4000_TCP_ADDR": "10.0.0.1",
            "NORA_SERVICE_HOST": "10.0.0.1",
        }
        lines = self.mistakes("", environ)
        self.assertEqual([line.split(":")[0] for line in lines], sorted(environ))
        for line in lines:
            self.assertIn("enableServiceLinks: false", line)

    def test_half_a_pair(self) -> None:
        """A certificate without its key, or a key alone, is a mistake, wherever it was given; both are none."""
        text = "[server]\ntls_certificate = '/a'"
        self.assertEqual(
            self.mistakes(text), ["server.tls_key: must be given too: server.tls_certificate is"]
        )
        said = "server.tls_certificate: must be given too: server.tls_key is"
        self.assertEqual(self.mistakes("", {"NORA_TLS_KEY": "/a"}), [said])
        server = self.load(text, {"NORA_TLS_KEY": "/b"}).server
        self.assertEqual((server.tls_certificate, server.tls_key), ("/a", "/b"))

    def test_sections_that_are_none(self) -> None:
        """A section is a table."""
        self.assertEqual(self.mistakes("server = 1"), ["server: 1: must be a table, begun by [server]"])
        self.assertEqual(self.mistakes("[[server]]"), ["server: a list: must be a table, begun by [server]"])

    def test_secrets_of_urls(self) -> None:
        """A URL with a password is refused, and the line shows none of it, wherever the URL came from."""
        url = "https://bob:hunter2@ghcr.io/x?token=hunter2"
        environ = {"NORA_DOCKER_UPSTREAMS": f"{HUB},{url}", "NORA_PUBLIC_URL": url}
        lines = self.mistakes(f"[[docker.upstreams]]\nurl = '{url}'", environ)
        self.assertEqual(len(lines), 3)
        for line in lines:
            self.assertIn('"https://***@ghcr.io/x?***": must not carry a user name or a password', line)
            self.assertNotIn("hunter2", line)

    @given(
        st.dictionaries(
            st.sampled_from(
                [
                    *(
                        key.variable
                        for section, values in sections().items()
                        for key in keys_of(values, section)
                    ),
                    "NORA_DOCKER_UPSTREAMS_1_NAME",
                    "NORA_DOCKER_UPSTREAMS_2_URL",
                    "NORA_DOCKER_UPSTREAMS_0_",
                    "NORA_DOCKER_FRESHNESS_1_TTL",
                    "NORA_\n",
                ]
            ),
            st.text(st.characters(), max_size=30),
            max_size=4,
        )
    )
    def test_any_environment(self, environ: Mapping[str, str]) -> None:
        """Whatever the variables hold, a configuration comes out, or lines that are printable."""
        try:
            load(None, environ)
        except ConfigError as error:
            self.assertTrue(error.lines)
            for line in error.lines:
                self.assertTrue(line.isprintable(), line)


class UpstreamTests(ReadingCase):
    """`[[docker.upstreams]]` and its variables."""

    def urls(self, config: Config) -> list[str]:
        """List the URLs of the upstreams."""
        return [upstream.url for upstream in config.docker.upstreams]

    def test_tables(self) -> None:
        """Each table is an upstream; name and namespace follow from its URL."""
        text = f"""
            [[docker.upstreams]]
            url = "{HUB}"
            prefix = "hub"
            [[docker.upstreams]]
            url = "http://Localhost:5000/"
            name = "mine"
            namespace = "docker.io"
            ca_file = "ca.pem"
        """
        hub, mine = self.load(text).docker.upstreams
        self.assertEqual(hub, UpstreamConfig(HUB, "registry-1.docker.io", "docker.io", "hub", None))
        ca_file = os.path.abspath("ca.pem")
        self.assertEqual(mine, UpstreamConfig("http://localhost:5000", "mine", "docker.io", None, ca_file))
        self.assertEqual(UpstreamConfig("http://localhost:5000").namespace, "localhost:5000")

    def test_none_at_all(self) -> None:
        """An empty variable, or an empty list in the file, means no upstreams."""
        self.assertEqual(self.load("[docker]\nupstreams = []").docker.upstreams, ())
        text = f"[[docker.upstreams]]\nurl = '{HUB}'"
        self.assertEqual(self.load(text, {"NORA_DOCKER_UPSTREAMS": ""}).docker.upstreams, ())

    def test_variable_replaces_the_list(self) -> None:
        """The variable's URLs are all that is left; the file's own keys go with its tables."""
        text = "[[docker.upstreams]]\nurl = 'https://quay.io'\nname = 'q'"
        config = self.load(text, {"NORA_DOCKER_UPSTREAMS": f"{HUB}, https://quay.io"})
        self.assertEqual(self.urls(config), [HUB, "https://quay.io"])
        self.assertEqual(config.docker.upstreams[1].name, "quay.io")

    def test_counted_variables(self) -> None:
        """A variable with a number sets one key of that upstream in force, whoever listed it."""
        environ = {
            "NORA_DOCKER_UPSTREAMS_1_NAMESPACE": "Hub.example:443",
            "NORA_DOCKER_UPSTREAMS_1_PREFIX": "h",
        }
        [default] = load(None, environ).docker.upstreams
        self.assertEqual((default.url, default.namespace, default.prefix), (HUB, "hub.example", "h"))
        [from_file] = self.load("[[docker.upstreams]]\nurl='https://a'\nprefix='b'", environ).docker.upstreams
        self.assertEqual((from_file.url, from_file.prefix), ("https://a", "h"))
        environ["NORA_DOCKER_UPSTREAMS"] = "https://c"
        environ["NORA_DOCKER_UPSTREAMS_1_URL"] = "https://d"
        [listed] = load(None, environ).docker.upstreams
        self.assertEqual((listed.url, listed.name, listed.namespace), ("https://d", "d", "hub.example"))

    def test_counted_variables_past_the_list(self) -> None:
        """A number that no upstream has, or a key that none has, is a mistake."""
        environ = {
            "NORA_DOCKER_UPSTREAMS_0_NAME": "a",
            "NORA_DOCKER_UPSTREAMS_01_NAME": "a",
            "NORA_DOCKER_UPSTREAMS_1_NAMESPCE": "a",
            "NORA_DOCKER_UPSTREAMS_1_XYZZY": "a",
            "NORA_DOCKER_UPSTREAMS_2_NAME": "a",
        }
        counts = "counts from 1 to the number of docker.upstreams, which is 1"
        self.assertEqual(
            self.mistakes("", environ),
            [
                f"NORA_DOCKER_UPSTREAMS_01_NAME: {counts}",
                f"NORA_DOCKER_UPSTREAMS_0_NAME: {counts}",
                "NORA_DOCKER_UPSTREAMS_1_NAMESPCE: unknown variable; did you mean NORA_DOCKER_UPSTREAMS_1_NAMESPACE?",
                "NORA_DOCKER_UPSTREAMS_1_XYZZY: unknown variable",
                f"NORA_DOCKER_UPSTREAMS_2_NAME: {counts}",
            ],
        )

    def test_refused_list(self) -> None:
        """Where the list itself is refused, only that is told, not what counts on it."""
        environ = {"NORA_DOCKER_UPSTREAMS": "ghcr.io", "NORA_DOCKER_UPSTREAMS_3_NAME": "a"}
        begins = "must be a URL that begins with http:// or https://"
        self.assertEqual(self.mistakes("", environ), [f'NORA_DOCKER_UPSTREAMS[1]: "ghcr.io": {begins}'])
        for upstreams in ("1", f"['{HUB}']", "[{}, 1]", f"[{'{},' * 257}]"):
            [line] = self.mistakes(f"[docker]\nupstreams = {upstreams}")
            self.assertIn("must be up to 256 tables, each begun by [[docker.upstreams]]", line)

    def test_refused_tables(self) -> None:
        """Each table is checked, also those that a variable replaces."""
        text = """
            [[docker.upstreams]]
            name = "a b"
            [[docker.upstreams]]
            url = 5
            [[docker.upstreams]]
            url = "https://a"
            namespace = "local"
        """
        expected = [
            'docker.upstreams[1].name: "a b": must be 1 to 260 of a-z, A-Z, 0-9 and . _ : [ ] -',
            "docker.upstreams[1].url: must be given: an http:// or https:// URL without a path",
            "docker.upstreams[2].url: 5: must be an http:// or https:// URL without a path",
            'docker.upstreams[3].namespace: "local": must not be local, which is the namespace of what is pushed here',
        ]
        self.assertEqual(self.mistakes(text), expected)
        self.assertEqual(self.mistakes(text, {"NORA_DOCKER_UPSTREAMS": ""}), expected)

    def test_names_are_unique(self) -> None:
        """No two upstreams may have one name, be it written or the URL's."""
        for text in (
            "[[docker.upstreams]]\nurl='https://a'\n[[docker.upstreams]]\nurl='http://a'",
            "[[docker.upstreams]]\nurl='https://a'\n[[docker.upstreams]]\nurl='https://b'\nname='a'",
        ):
            self.assertEqual(
                self.mistakes(text), ['docker.upstreams[2].name: "a": must not be that of upstream 1 too']
            )
        [line] = self.mistakes("", {"NORA_DOCKER_UPSTREAMS": f"{HUB},{HUB}/"})
        self.assertIn("must not be listed twice", line)

    def test_prefixes_are_clear(self) -> None:
        """A prefix is one upstream's, and no other's namespace; one's own namespace does no harm."""
        environ = {
            "NORA_DOCKER_UPSTREAMS": f"https://a,https://b,{HUB}",
            "NORA_DOCKER_UPSTREAMS_1_PREFIX": "x",
            "NORA_DOCKER_UPSTREAMS_2_PREFIX": "x",
        }
        place = "NORA_DOCKER_UPSTREAMS[2].prefix"
        self.assertEqual(self.mistakes("", environ), [f'{place}: "x": must not be that of upstream 1 too'])
        for prefix in ("a", "docker.io", "index.docker.io"):
            environ["NORA_DOCKER_UPSTREAMS_2_PREFIX"] = prefix
            other = f'{place}: "{prefix}": must not be the namespace of another upstream'
            self.assertEqual(self.mistakes("", environ), [other])
        environ["NORA_DOCKER_UPSTREAMS_2_PREFIX"] = "b"
        self.assertEqual(self.load("", environ).docker.upstreams[1].prefix, "b")

    def test_one_credential(self) -> None:
        """Two kinds of credential, or half of one, are mistakes, and no mistake shows a secret."""
        first = "[[docker.upstreams]]\nurl = 'https://a'\n"
        place = "docker.upstreams[1]"
        for text, expected in (
            ("auth = 'me:s3cret'\ntoken_file = '/t'", '.token_file: "/t": must not be given beside auth'),
            (
                "auth = 'me:s3cret'\nusername = 'me'\npassword_file = '/p'",
                '.username: "me": must not be given',
            ),
            ("username = 'me'", '.username: "me": must come with password_file'),
            ("password_file = '/p'", '.password_file: "/p": must come with username'),
            ("auth = 's3cret'", '.auth: "***": must be user:password'),
            ("auth = ':s3cret'", '.auth: "***": must be user:password'),
            ("auth = '***'", '.auth: "***": must be user:password'),
            ("username = 'a:b'\npassword_file = '/p'", '.username: "a:b": must be a printable text'),
        ):
            lines = self.mistakes(first + text)
            self.assertTrue(any(line.startswith(place + expected) for line in lines), (lines, expected))
            self.assertNotIn("s3cret", str(lines))
        config = self.load(first + "auth = 'me:s3cret'", {})
        self.assertNotIn("s3cret", f"{config!r} {dump(config)}")
        self.assertIn('auth = "***"', dump(config))

    def test_host_that_is_called_local(self) -> None:
        """The reserved namespace does not slip in as the name of a host."""
        [line] = self.mistakes("", {"NORA_DOCKER_UPSTREAMS": "http://local"})
        self.assertEqual(
            line, 'NORA_DOCKER_UPSTREAMS[1].namespace: "local": must be given, since local is reserved'
        )
        environ = {"NORA_DOCKER_UPSTREAMS": "http://local", "NORA_DOCKER_UPSTREAMS_1_NAMESPACE": "a"}
        self.assertEqual(self.load("", environ).docker.upstreams[0].namespace, "a")


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return (
        str(value).replace("'", '"')
        if isinstance(value, list)
        else f'"{value}"'
        if value == str(value)
        else str(value)
    )


class FreshnessTests(ReadingCase):
    """`[[docker.freshness]]`: another list of tables, by the same rules."""

    def rules(self, config: Config) -> list[tuple[str, float]]:
        return [(rule.match, rule.ttl) for rule in config.docker.freshness]

    def test_tables(self) -> None:
        """Each table is a pattern and its time; without any there are none."""
        text = """
            [[docker.freshness]]
            match = "*:latest"
            ttl = 60
            [[docker.freshness]]
            match = "ghcr.io/team/App:v?"
            ttl = "never"
        """
        self.assertEqual(
            self.rules(self.load(text)), [("*:latest", 60), ("ghcr.io/team/App:v?", float("inf"))]
        )
        self.assertEqual(load(None, {}).docker.freshness, ())
        self.assertEqual(self.rules(self.load(text, {"NORA_DOCKER_FRESHNESS": ""})), [])

    def test_variables(self) -> None:
        """One variable lists the patterns, those with a number set their times, over the file's too."""
        environ = {
            "NORA_DOCKER_FRESHNESS": "*:latest,team/*",
            "NORA_DOCKER_FRESHNESS_1_TTL": "0",
            "NORA_DOCKER_FRESHNESS_2_TTL": "never",
        }
        self.assertEqual(self.rules(load(None, environ)), [("*:latest", 0), ("team/*", float("inf"))])
        text = "[[docker.freshness]]\nmatch = 'a:*'\nttl = 1"
        config = self.load(text, {"NORA_DOCKER_FRESHNESS_1_MATCH": "b:*"})
        self.assertEqual(self.rules(config), [("b:*", 1)])

    def test_mistakes(self) -> None:
        """Both keys must be given, a pattern counts once, and each is bounded."""
        missing = 'must be given: a number of seconds from 0 to 315360000, or "never"'
        self.assertEqual(
            self.mistakes("", {"NORA_DOCKER_FRESHNESS": "*"}), [f"NORA_DOCKER_FRESHNESS[1].ttl: {missing}"]
        )
        both = "match = '*'\nttl = 1"
        [line] = self.mistakes(f"[[docker.freshness]]\n{both}\n[[docker.freshness]]\n{both}")
        self.assertIn('docker.freshness[2].match: "*": must not be that of rule 1 too', line)
        self.assertEqual(len(self.mistakes("[[docker.freshness]]\nname = 'x'")), 3)
        counted = {"NORA_DOCKER_FRESHNESS_1_TTL": "1"}
        self.assertIn("the number of docker.freshness, which is 0", self.mistakes("", counted)[0])
        for pattern in ("", "a b", "x" * 641, "[a]*", "-a"):
            [line] = self.mistakes(f"[[docker.freshness]]\nmatch = '{pattern}'\nttl = 1")
            self.assertIn("must be an image and tag in which * may stand for", line)

    def test_forgets(self) -> None:
        """Each of the two keys says for its own outcome whether a tag is forgotten."""
        self.assertEqual(load(None, {}).docker.forgets, frozenset())
        denied = self.load('[docker]\non_upstream_denied = "forget"').docker
        self.assertEqual(denied.forgets, {"denied"})
        self.assertEqual(load(None, {"NORA_DOCKER_ON_UPSTREAM_DELETE": "forget"}).docker.forgets, {"absent"})


class AuthTests(ReadingCase):
    """`[auth]`, `[[auth.tokens]]` and `[[access]]`."""

    def test_tables(self) -> None:
        """Tokens and rules are read in their order; auth is on with a file or a token."""
        config = self.load("""
            [auth]
            htpasswd = "/etc/nora/users"
            [[auth.tokens]]
            user = "ci"
            token = "0123456789abcdef"
            [[auth.tokens]]
            user = "ci"
            token_file = "/etc/nora/ci"
            [[access]]
            user = "everyone"
            actions = []
            [[access]]
            user = "alice"
            repository = "127.0.0.1:5000/team/*"
            actions = ["pull", "push"]
        """)
        self.assertTrue(config.auth.enabled)
        self.assertEqual([(token.user, token.token_file) for token in config.auth.tokens],
                         [("ci", None), ("ci", "/etc/nora/ci")])  # fmt: skip
        self.assertNotIn("0123456789abcdef", repr(config))
        self.assertEqual(
            [(rule.user, rule.repository, rule.actions) for rule in config.access.rules],
            [("everyone", "*", ()), ("alice", "127.0.0.1:5000/team/*", ("pull", "push"))],
        )
        self.assertFalse(load(None, {}).auth.enabled)
        self.assertEqual(load(None, {}).access.rules, ())

    def test_other_spellings(self) -> None:
        """The list may be called by its name, and come from variables."""
        for config in (
            self.load("[[access.rules]]\nuser = '*'\nactions = ['admin']"),
            self.load("[access]\nrules = [{user = '*', actions = ['admin']}]"),
            load(None, {"NORA_ACCESS_RULES": "*", "NORA_ACCESS_RULES_1_ACTIONS": "admin"}),
        ):
            self.assertEqual([(rule.user, rule.actions) for rule in config.access.rules], [("*", ("admin",))])

    def test_mistakes(self) -> None:
        """What must be given is named; no secret is shown; the words of rules are no users."""
        for text, told in (
            ("[[auth.tokens]]\nuser = 'a'", "auth.tokens[1].token"),
            ("[[auth.tokens]]\nuser = 'a'\ntoken = 'short-secret'", "16 to 4096"),
            (
                "[[auth.tokens]]\nuser = 'a'\ntoken = '0123456789abcdef'\ntoken_file = '/x'",
                "auth.tokens[1].token_file",
            ),
            ("[[auth.tokens]]\nuser = 'anonymous'\ntoken_file = '/x'", "not *, anonymous, everyone"),
            ("[[auth.tokens]]\nuser = 'a:b'\ntoken_file = '/x'", "without a colon"),
            ("[[access]]\nuser = 'a'", "access.rules[1].actions: must be given"),
            ("[[access]]\nactions = []", "access.rules[1].user: must be given"),
            ("[[access]]\nuser = 'a'\nactions = ['fly']", '"pull" or "push" or "delete" or "admin"'),
            ("[[access]]\nuser = 'a:b'\nactions = []", "without a colon"),
            ("[[access]]\nuser = 'a'\nactions = []\nrepository = 'Team/*'", "full name of repositories"),
            ("[auth]\ntoken_ttl = 1", "from 60 to 86400"),
            ("[docker]\npush = 'maybe'", '"loopback" or "always" or "never"'),
        ):
            lines = self.mistakes(text)
            self.assertIn(told, "\n".join(lines), text)
            self.assertNotIn("short-secret", "\n".join(lines))
