"""Routing: from a client's name to the upstreams that may have it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from nora.oci import check_name
from nora.oci.errors import InvalidName, NameUnknown, NoraError
from nora.upstream.interfaces import Route
from nora.upstream.routing import RoutedUpstream, Routing, canonical_host, namespace_of
from tests.support.scripted import ScriptedUpstream

HUB, MIRROR, GHCR, LAB = (
    ScriptedUpstream("hub", "docker.io"),
    ScriptedUpstream("mirror", "docker.io"),
    ScriptedUpstream("ghcr", "ghcr.io"),
    ScriptedUpstream("lab", "lab.internal:5000"),
)
OWN = ("nora.internal:4000", "mirror.example:443")


def routing(**options: object) -> Routing:
    upstreams = [
        RoutedUpstream(MIRROR),
        RoutedUpstream(HUB, "hub"),
        RoutedUpstream(GHCR, "gh"),
        RoutedUpstream(LAB, "lab"),
    ]
    return Routing(upstreams, own_hosts=OWN, **options)  # type: ignore[arg-type]


def places(route: Route) -> list[str]:
    return [f"{each.upstream.name}={each.repository}" for each in route.candidates]


class RoutingTests(SynchronousTestCase):
    """The first rule that fits."""

    def setUp(self) -> None:
        self.routing = routing()

    def test_unqualified(self) -> None:
        """Every upstream in order, each by its own namespace; records tell who owns it."""
        route = self.routing.route("team/app")
        self.assertEqual(
            places(route),
            [
                "mirror=docker.io/team/app",
                "hub=docker.io/team/app",
                "ghcr=ghcr.io/team/app",
                "lab=lab.internal:5000/team/app",
            ],
        )
        self.assertEqual((route.name, route.qualified, route.namespace), ("team/app", False, None))

    def test_one_component(self) -> None:
        """`nginx` means `library/nginx` at Docker Hub, and there alone."""
        self.assertEqual(
            places(self.routing.route("nginx")),
            [
                "mirror=docker.io/library/nginx",
                "hub=docker.io/library/nginx",
                "ghcr=ghcr.io/nginx",
                "lab=lab.internal:5000/nginx",
            ],
        )
        self.assertEqual(places(self.routing.route("ghcr.io/nginx")), ["ghcr=ghcr.io/nginx"])
        self.assertEqual(
            places(self.routing.route("nginx", "docker.io"))[0], "mirror=docker.io/library/nginx"
        )
        self.assertEqual(places(self.routing.route("hub/nginx"))[1], "hub=docker.io/library/nginx")

    def test_namespace_as_first_component(self) -> None:
        """It is stripped, and only its chain is left."""
        route = self.routing.route("ghcr.io/team/app")
        self.assertEqual(places(route), ["ghcr=ghcr.io/team/app"])
        self.assertEqual((route.name, route.qualified, route.namespace), ("ghcr.io/team/app", True, None))

    def test_prefix_as_first_component(self) -> None:
        """A prefix stands for its namespace's chain, also where the namespace cannot be part of a name."""
        self.assertEqual(places(self.routing.route("lab/team/app")), ["lab=lab.internal:5000/team/app"])
        self.assertEqual(
            places(self.routing.route("hub/team/app")),
            ["mirror=docker.io/team/app", "hub=docker.io/team/app"],
        )

    def test_prefix_alone_is_a_name(self) -> None:
        """One component is never a prefix or a registry, dots or not."""
        self.assertEqual(places(self.routing.route("lab"))[-1], "lab=lab.internal:5000/lab")
        self.assertEqual(places(self.routing.route("my.image"))[2], "ghcr=ghcr.io/my.image")
        self.assertEqual(places(self.routing.route("ghcr.io"))[2], "ghcr=ghcr.io/ghcr.io")

    def test_aliases_of_docker_hub(self) -> None:
        """All of Docker Hub's names mean the same chain."""
        for alias in ("docker.io", "index.docker.io", "registry-1.docker.io"):
            expected = ["mirror=docker.io/team/app", "hub=docker.io/team/app"]
            self.assertEqual(places(self.routing.route(f"{alias}/team/app")), expected)
            self.assertEqual(places(self.routing.route("team/app", alias)), expected)
        aliased = Routing([RoutedUpstream(ScriptedUpstream("x", "Registry-1.docker.io:443"))])
        self.assertEqual(places(aliased.route("docker.io/a")), ["x=docker.io/library/a"])

    def test_foreign_registry(self) -> None:
        """A first component with a dot that is none of ours is another registry, and the client is told so."""
        with self.assertRaises(NameUnknown) as caught:
            self.routing.route("quay.io/team/app")
        self.assertIn("quay.io", caught.exception.message)

    def test_ns(self) -> None:
        """`ns` names the chain, and is echoed as it was sent."""
        route = self.routing.route("team/app", "GHCR.IO:443")
        self.assertEqual(places(route), ["ghcr=ghcr.io/team/app"])
        self.assertEqual((route.qualified, route.namespace), (True, "GHCR.IO:443"))
        self.assertEqual(places(self.routing.route("a", "lab.internal:5000")), ["lab=lab.internal:5000/a"])

    def test_ns_strips_once(self) -> None:
        """Under `ns` its own name or prefix is stripped from the front, once; another's is part of the name."""
        for name, inner in (
            ("ghcr.io/team/app", "team/app"),
            ("gh/team/app", "team/app"),
            ("ghcr.io/ghcr.io/app", "ghcr.io/app"),
            ("docker.io/app", "docker.io/app"),
            ("lab/app", "lab/app"),
            ("ghcr.io", "ghcr.io"),
        ):
            route = self.routing.route(name, "ghcr.io")
            self.assertEqual((route.name, places(route)), (name, [f"ghcr=ghcr.io/{inner}"]))

    def test_ns_unknown(self) -> None:
        """An `ns` that no upstream has is refused; none is ever made up from it."""
        for ns in (
            "quay.io",
            "",
            "local",
            "127.0.0.1:80",
            "ghcr.io:5000",
            "lab.internal",
            "x" * 10_000,
            "a\r\nb",
        ):
            with self.assertRaises(NameUnknown):
                self.routing.route("team/app", ns)

    def test_own_host_is_no_ns(self) -> None:
        """NORA's own names, in any case and with default ports, mean that nothing was sent."""
        for ns in ("nora.internal:4000", "NORA.internal:4000", "mirror.example", "mirror.example:443"):
            self.assertEqual(self.routing.route("team/app", ns), self.routing.route("team/app"))
        with self.assertRaises(NameUnknown):
            self.routing.route("team/app", "nora.internal")

    def test_hosted(self) -> None:
        """What a pattern covers asks no upstream, unless the client names one."""
        hosted = routing(hosted=["team/*", "exact"])
        for name in ("team/app", "team/a/b", "exact"):
            self.assertEqual(hosted.route(name), Route(name, (), False, hosted=True))
        self.assertEqual(len(hosted.route("teams/app").candidates), 4)
        self.assertEqual(len(hosted.route("exactly").candidates), 4)
        self.assertEqual(places(hosted.route("ghcr.io/team/app")), ["ghcr=ghcr.io/team/app"])
        self.assertEqual(places(hosted.route("team/app", "ghcr.io")), ["ghcr=ghcr.io/team/app"])
        self.assertTrue(hosted.is_hosted("team/app"))
        self.assertFalse(hosted.is_hosted("app"))

    def test_deny(self) -> None:
        """With `deny` an unqualified name must be hosted; one with its registry passes."""
        denying = routing(default_action="deny", hosted=["team/*"])
        refused = denying.route("nginx")
        self.assertEqual((refused.candidates, refused.hosted), ((), False))
        self.assertIn("hosted", refused.refused or "")
        self.assertEqual(denying.route("team/app"), Route("team/app", (), False, hosted=True))
        self.assertEqual(len(denying.route("hub/nginx").candidates), 2)
        self.assertEqual(len(denying.route("nginx", "docker.io").candidates), 2)

    def test_exclude(self) -> None:
        """An upstream that excludes a name, as it is called there, is no candidate; the others still are."""
        hub = RoutedUpstream(HUB, "hub", exclude=("team/*", "library/secret"))
        routing = Routing([RoutedUpstream(MIRROR), hub, RoutedUpstream(GHCR, exclude=("secret",))])
        self.assertEqual(
            places(routing.route("team/app")), ["mirror=docker.io/team/app", "ghcr=ghcr.io/team/app"]
        )
        self.assertEqual(places(routing.route("hub/team/app")), ["mirror=docker.io/team/app"])
        self.assertEqual(places(routing.route("team/app", "docker.io")), ["mirror=docker.io/team/app"])
        self.assertEqual(places(routing.route("secret")), ["mirror=docker.io/library/secret"])
        self.assertEqual(len(routing.route("teams/app").candidates), 3)
        self.assertEqual(len(routing.route("library/secrets").candidates), 3)

    def test_include(self) -> None:
        """With `include` an upstream is asked for these names alone, and for none of them that `exclude` matches."""
        hub = RoutedUpstream(HUB, "hub", include=("library/*", "team/app"), exclude=("library/x*",))
        routing = Routing([hub, RoutedUpstream(GHCR)])
        asked = ["nginx", "team/app", "library/a/b"]
        for name in asked:
            self.assertEqual(len(routing.route(name).candidates), 2, name)
        for name in ("team/apps", "other/app", "xnginx", "library/x"):
            self.assertEqual(places(routing.route(name)), [f"ghcr=ghcr.io/{name}"])

    def test_all_exclude(self) -> None:
        """A name in a registry whose upstreams all exclude it is unknown, and that is said."""
        routing = Routing([RoutedUpstream(HUB, "hub", exclude=("team/*",))])
        for name, ns in (("team/app", "docker.io"), ("hub/team/app", None), ("docker.io/team/app", None)):
            with self.assertRaises(NameUnknown) as caught:
                routing.route(name, ns)
            self.assertIn("exclude", caught.exception.message)
            self.assertEqual(caught.exception.detail, {"namespace": "docker.io", "name": "team/app"})
        self.assertEqual(routing.route("team/app"), Route("team/app", (), False))

    def test_bad_names(self) -> None:
        """A name outside the grammar is refused before any rule sees it, and so is one that a rule makes too long."""
        for name in ("", "UPPER", "a//b", "/a", "a/", "../etc", "a" * 256, "lab.internal:5000/a"):
            with self.assertRaises(InvalidName):
                self.routing.route(name)
        long = "a" * 255
        with self.assertRaises(InvalidName):
            self.routing.route(long, "docker.io")
        self.assertEqual(
            [each.upstream.name for each in self.routing.route(long).candidates], ["ghcr", "lab"]
        )

    def test_bad_configuration(self) -> None:
        """A reserved namespace, an ambiguous or impossible prefix and an unknown action are mistakes."""
        for upstreams in (
            [RoutedUpstream(ScriptedUpstream("x", "local"))],
            [RoutedUpstream(HUB, "same"), RoutedUpstream(GHCR, "same")],
            [RoutedUpstream(HUB, "ghcr.io"), RoutedUpstream(GHCR)],
            [RoutedUpstream(HUB, "a/b")],
        ):
            with self.assertRaises(ValueError):
                Routing(upstreams)
        with self.assertRaises(InvalidName):
            Routing([RoutedUpstream(HUB, "Hub")])
        with self.assertRaises(ValueError):
            Routing([], default_action="maybe")

    def test_no_upstreams(self) -> None:
        """Without upstreams there is nobody to ask, and that is no mistake."""
        self.assertEqual(Routing([]).route("team/app"), Route("team/app", (), False))

    _parts = st.sampled_from(
        [
            "a",
            "library",
            "hub",
            "gh",
            "lab",
            "docker.io",
            "ghcr.io",
            "index.docker.io",
            "quay.io",
            "local",
            "A",
            "..",
            "",
        ]
    )
    _names = st.one_of(
        st.text(max_size=300), st.lists(_parts, max_size=6).map("/".join), st.text("ab/.", max_size=300)
    )
    _namespaces = st.one_of(
        st.none(),
        st.text(max_size=300),
        _parts,
        st.sampled_from(["docker.io:443", "LAB.internal:5000", *OWN]),
    )

    @given(_names, _namespaces, st.sampled_from(["allow", "deny"]))
    def test_any_name(self, name: str, ns: str | None, action: str) -> None:
        """Any name and `ns` give an error of the domain, or candidates with valid names in their own namespaces."""
        try:
            route = routing(default_action=action).route(name, ns)
        except NoraError:
            return
        for candidate in route.candidates:
            self.assertEqual(check_name(candidate.repository.name), candidate.repository.name)
            self.assertEqual(candidate.repository.namespace, candidate.upstream.namespace)
        if route.qualified:
            self.assertEqual(len({candidate.repository for candidate in route.candidates}), 1)


class HostTests(SynchronousTestCase):
    """How hosts compare."""

    def test_canonical(self) -> None:
        """Lower-case, without a default port, Docker Hub by one name."""
        self.assertEqual(canonical_host("GHCR.io:443"), "ghcr.io")
        self.assertEqual(canonical_host("h:80"), "h")
        self.assertEqual(canonical_host("h:8080"), "h:8080")
        self.assertEqual(canonical_host("Index.Docker.io:443"), "docker.io")

    def test_namespace_of(self) -> None:
        """An upstream's URL tells its namespace where none is configured."""
        self.assertEqual(namespace_of("https://registry-1.docker.io"), "docker.io")
        self.assertEqual(namespace_of("http://lab.internal:5000/"), "lab.internal:5000")
        with self.assertRaises(ValueError):
            namespace_of("lab.internal")
