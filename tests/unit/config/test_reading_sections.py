"""How the tables of the configuration are read: upstreams, freshness, logins and rules."""

from __future__ import annotations

import os

from nora.config import Config, UpstreamConfig, dump, load
from tests.support.config_case import HUB, ReadingCase


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
