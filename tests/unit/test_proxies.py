"""Which proxies the configuration and the environment mean."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from nora.config import ConfigError, UpstreamConfig, load
from nora.config.secret import Secret
from nora.config.writing import dump
from nora.process import CannotStart
from nora.proxies import proxies_of
from nora.upstream.proxy import Proxy

UPSTREAM = UpstreamConfig("https://registry.example")
VARIABLE = "NORA_DOCKER_UPSTREAMS_1_PROXY"


class ProxiesTests(SynchronousTestCase):
    """The key before the environment."""

    def test_environment(self) -> None:
        """The lower-case name counts first, an empty one as none; a scheme may be missing."""
        found = proxies_of(
            UPSTREAM,
            {
                "HTTPS_PROXY": "http://upper:1",
                "https_proxy": "lower:2",
                "http_proxy": "",
                "HTTP_PROXY": "http://[fd00::1]",
            },
        )
        self.assertEqual((found.https, found.http), (Proxy("lower", 2), Proxy("fd00::1", 80)))
        found = proxies_of(UPSTREAM, {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "registry.example"})
        self.assertIsNone(found.choose("https", "registry.example", 443))
        self.assertEqual(found.choose("https", "other.example", 443), Proxy("p", 1))
        self.assertIsNone(proxies_of(UPSTREAM, {}).choose("https", "registry.example", 443))

    def test_key(self) -> None:
        """An upstream's own proxy counts for both schemes and knows no exemptions; `none` forbids all."""
        environ = {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}
        own = attrs.evolve(UPSTREAM, proxy=Secret("http://us%40er:p%3Aw@own:3128/"))
        found = proxies_of(own, environ)
        for scheme in ("http", "https"):
            self.assertEqual(found.choose(scheme, "registry.example", 443), Proxy("own", 3128, "us@er:p:w"))
        none = proxies_of(attrs.evolve(UPSTREAM, proxy="none"), environ | {"NO_PROXY": ""})
        self.assertIsNone(none.choose("https", "registry.example", 443))

    def test_unusable_environment(self) -> None:
        """A proxy that cannot be used stops the start, without telling its password; a key makes it meaningless."""
        for text in (
            "socks5://u:s3cret@p:1",
            "https://p",
            "http://u:s3cret@",
            "http://:s3cret@p",
            "http://p:0",
            "u:s3%0Acret@p:1",
        ):
            with self.assertRaises(CannotStart) as caught:
                proxies_of(UPSTREAM, {"HTTPS_PROXY": text})
            self.assertIn("HTTPS_PROXY: must be http://", str(caught.exception))
            self.assertNotIn("s3cret", str(caught.exception))
            proxies_of(attrs.evolve(UPSTREAM, proxy="none"), {"HTTPS_PROXY": text})

    def test_shown(self) -> None:
        """A proxy with a user is a secret, one without is not."""
        for text, shown in (
            ("http://p:1", "http://p:1"),
            ("none", "none"),
            ("http://u:s3cret@p:1", "***"),
            ("", ""),
        ):
            config = load(None, {VARIABLE: text})
            self.assertIn(f'proxy = "{shown}"', dump(config))
            self.assertNotIn("s3cret", repr(config))

    def test_refused(self) -> None:
        """What is no proxy is refused without showing a password."""
        for text in ("p:3128", "https://u:s3cret@p:1", "http://u:s3cret@p:x", "***", "http://p/path"):
            with self.assertRaises(ConfigError) as caught:
                load(None, {VARIABLE: text})
            lines = "\n".join(caught.exception.lines)
            self.assertIn(VARIABLE, lines)
            self.assertNotIn("s3cret", lines)
