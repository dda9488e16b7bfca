"""Reading `WWW-Authenticate`."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.upstream.challenge import Challenge, bearer, parse_challenges

_names = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
_values = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20
)
_parameters = st.dictionaries(_names, _values, max_size=5)
_challenges = st.one_of(
    st.builds(Challenge, _names, _parameters),
    st.builds(
        Challenge, _names, st.just({}), st.from_regex(r"[A-Za-z0-9._~+/-]{1,20}={0,2}", fullmatch=True)
    ),
)


def write(challenge: Challenge, quote: bool = True) -> str:
    if challenge.token68 is not None:
        return f"{challenge.scheme} {challenge.token68}"
    pairs = []
    for name, value in challenge.parameters.items():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        pairs.append(f'{name}="{escaped}"')
    return f"{challenge.scheme} {', '.join(pairs)}".rstrip()


class ChallengeTests(SynchronousTestCase):
    """RFC 9110 section 11, and what registries make of it."""

    def one(self, line: str) -> Challenge:
        (challenge,) = parse_challenges([line])
        return challenge

    def test_docker_hub(self) -> None:
        """The usual form: three quoted parameters."""
        challenge = self.one(
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull"'
        )
        self.assertEqual(challenge.scheme, "bearer")
        self.assertEqual(
            challenge.parameters,
            {
                "realm": "https://auth.docker.io/token",
                "service": "registry.docker.io",
                "scope": "repository:library/x:pull",
            },
        )

    def test_quoted_commas(self) -> None:
        """A comma within quotes separates nothing."""
        challenge = self.one('Bearer scope="repository:a/b:pull,push",realm="https://h/t?a=b,c"')
        self.assertEqual(challenge.parameters["scope"], "repository:a/b:pull,push")
        self.assertEqual(challenge.parameters["realm"], "https://h/t?a=b,c")

    def test_escaped_quotes(self) -> None:
        """A backslash within quotes stands for the character after it."""
        self.assertEqual(self.one(r'Basic realm="a \"b\" \\ c"').parameters["realm"], r'a "b" \ c')

    def test_several_schemes_in_one_line(self) -> None:
        """Challenges follow each other in one line, with and without parameters."""
        found = parse_challenges(['Negotiate, Basic realm="x", charset=UTF-8, Bearer service=s , realm="y"'])
        self.assertEqual([each.scheme for each in found], ["negotiate", "basic", "bearer"])
        self.assertEqual(found[1].parameters, {"realm": "x", "charset": "UTF-8"})
        self.assertEqual(found[2].parameters, {"service": "s", "realm": "y"})

    def test_token68(self) -> None:
        """Data in place of parameters is kept apart from them, padding and all."""
        found = parse_challenges(["Negotiate YWJj==, NTLM TlRM, Bearer realm=r"])
        self.assertEqual([each.token68 for each in found], ["YWJj==", "TlRM", None])
        self.assertEqual(found[2].parameters, {"realm": "r"})

    def test_spaces_and_empty_elements(self) -> None:
        """Blanks around `=` and empty list elements are allowed."""
        self.assertEqual(
            self.one(' ,, BEARER  Realm = "r" ,, SERVICE=s,').parameters, {"realm": "r", "service": "s"}
        )

    def test_unquoted_scope(self) -> None:
        """A scope that someone forgot to quote is read all the same."""
        self.assertEqual(
            self.one("Bearer realm=https://h/t,scope=repository:a:pull").parameters["realm"], "https://h/t"
        )

    def test_first_of_a_parameter_counts(self) -> None:
        """A parameter sent twice keeps its first value."""
        self.assertEqual(self.one("Bearer realm=a,REALM=b").parameters, {"realm": "a"})

    def test_malformed_ends_the_line(self) -> None:
        """What is read before the grammar ends counts, what comes after it does not."""
        found = parse_challenges(['Basic realm="a", Bearer realm="unterminated', 'Bearer realm="b"'])
        self.assertEqual([each.scheme for each in found], ["basic", "bearer", "bearer"])
        self.assertEqual(found[1].parameters, {})

    def test_bounds(self) -> None:
        """Lines, challenges and parameters past their number, and lines past their length, are left out."""
        self.assertEqual(len(parse_challenges(["a"] * 100)), 16)
        self.assertEqual(len(parse_challenges([", ".join(f"s{n}" for n in range(100))])), 32)
        many = "Bearer " + ",".join(f"p{n}=1" for n in range(100))
        self.assertEqual(len(self.one(many).parameters), 32)
        self.assertEqual(parse_challenges(["Bearer realm=" + "x" * 20_000]), [])

    def test_costly(self) -> None:
        """Lines made to keep everybody waiting are not read to their ends."""
        for line in ('a="b",' * 2700, "a=b," * 4000, "a, " * 5000, 'a="' + "b" * 16000, "x " * 8000):
            began = time.process_time()
            parse_challenges([f"Bearer {line}"[:16384]] * 16)
            self.assertLess(time.process_time() - began, 0.15, line[:10])

    def test_bearer_needs_a_realm(self) -> None:
        """Of all challenges the first Bearer with a realm is picked."""
        lines = ["Basic realm=a, Bearer service=s", 'Bearer realm="", Bearer realm=b, Bearer realm=c']
        self.assertEqual(bearer(lines), Challenge("bearer", {"realm": "b"}))
        self.assertIsNone(bearer(["Basic realm=a"]))
        self.assertIsNone(bearer([]))

    @given(st.lists(st.text(max_size=200), max_size=5))
    def test_never_raises(self, lines: list[str]) -> None:
        """Any text gives a list."""
        self.assertIsInstance(parse_challenges(lines), list)

    @given(st.lists(st.text(alphabet='Bearl ="\\,\t=x', max_size=60), max_size=3))
    def test_never_raises_on_near_misses(self, lines: list[str]) -> None:
        """Text made of the grammar's own characters gives a list."""
        self.assertIsInstance(parse_challenges(lines), list)

    @given(st.lists(_challenges, max_size=6))
    def test_roundtrip(self, challenges: list[Challenge]) -> None:
        """What is written by the grammar is read as it was, in one line or in several."""
        self.assertEqual(parse_challenges([", ".join(write(each) for each in challenges)]), challenges)
        self.assertEqual(parse_challenges([write(each) for each in challenges]), challenges)
