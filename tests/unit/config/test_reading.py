"""Reading: what wins, what is a mistake, and that all mistakes are told at once."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

import attrs
from hypothesis import given
from hypothesis import strategies as st

from nora.config import Config, ConfigError, StorageConfig, UpstreamConfig, find_path, load
from nora.config.document import MAX_FILE
from nora.config.keys import keys_of
from nora.config.values import sections
from tests.support.config_case import HUB, ReadingCase

OTHER_HALF = {"NORA_TLS_CERTIFICATE": "NORA_TLS_KEY", "NORA_TLS_KEY": "NORA_TLS_CERTIFICATE"}


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
