"""`make demo`: an upstream, NORA before it, and the same image pulled twice, on a machine without a network.

Prints for each pull what the cache did, the bytes, the seconds and what the upstream was asked. The exit status
is 0 when the first pull was a miss, the second a hit that asked the upstream nothing, and every byte was right.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import attrs

from tests.support.daemon import Nora
from tests.support.engines import Skopeo, digests_in
from tests.support.images import MEBIBYTE, Image, image, layer_of_directory
from tests.support.programs import Missing, find, wait_for
from tests.support.registry import Registry

_NAME = "library/demo"
_PROGRAMS = {"docker-registry": "docker-registry", "skopeo": "skopeo"}
"""The programs, and the Debian packages that have them."""


@attrs.frozen
class Pull:
    """What is told about one pull."""

    cache: str
    bytes: int
    seconds: float
    upstream: tuple[str, ...]
    """The requests that the upstream's access log has for it."""


def main() -> int:
    """Run the demonstration; gives the exit status."""
    missing = [package for program, package in _PROGRAMS.items() if not _there(program)]
    if missing:
        _say(f"The demo needs programs that are not here: apt-get install {' '.join(missing)}")
        return 1
    directory = Path(tempfile.mkdtemp(prefix="nora-demo-"))
    try:
        with ExitStack() as ends:
            return _demonstrate(directory, ends)
    except AssertionError as error:
        _say(f"The demo failed: {error}")
        return 1
    except KeyboardInterrupt:
        _say("Stopped.")
        return 130
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _demonstrate(directory: Path, ends: ExitStack) -> int:
    _say("Making an image of files of this machine ...")
    made = _make_image()
    registry = Registry(directory / "upstream")
    ends.callback(registry.stop)
    registry.start()
    registry.push(_NAME, "1", made)
    nora = Nora(directory / "nora", [{"url": registry.url, "namespace": "docker.io"}])
    ends.callback(nora.stop)
    nora.start()
    _say(f"Upstream  docker-registry at {registry.url} with {_NAME}:1,")
    _say(f"          {len(made.layers)} layers, {_mebibytes(_transferred(made))} MiB compressed")
    _say(f"NORA      twistd -n nora at {nora.url}, with an empty store")
    _say("")
    client = Skopeo(directory / "skopeo")
    pulls = [_pull(number, client, directory, nora, registry, made) for number in (1, 2)]
    _tell(pulls, nora)
    first, second = pulls
    if (first.cache, second.cache, second.upstream) != ("miss", "hit", ()):
        _say("The demo failed: the first pull should be a miss, the second a hit without a request upstream.")
        return 1
    _say("Every byte of both pulls has the digest that it should have.")
    return 0


def _pull(number: int, client: Skopeo, directory: Path, nora: Nora, registry: Registry, made: Image) -> Pull:
    asked, answered = len(registry.requests()), len(nora.audit())
    target = directory / f"pulled-{number}"
    _say(f"$ skopeo copy docker://127.0.0.1:{nora.port}/{_NAME}:1 dir:pulled-{number}")
    began = time.monotonic()
    client.copy(f"docker://127.0.0.1:{nora.port}/{_NAME}:1", target)
    seconds = time.monotonic() - began
    wanted = {made.manifest.digest, *(blob.digest for blob in made.blobs)}
    if digests_in(target) != wanted:
        raise AssertionError("what skopeo got is not what the upstream has")
    # Both logs are written a moment after the answers.
    nora.wait_for_audit(answered + len(wanted), method="GET")
    lines = nora.audit()[answered:]
    if number == 1:
        wait_for(lambda: len(registry.requests()) - asked >= len(wanted), "the upstream's access log")
    requests = tuple(f"{one.method} {one.path}" for one in registry.requests()[asked:])
    hit = all(line["cache"] == "hit" for line in lines)
    return Pull("hit" if hit else "miss", sum(line["bytes"] for line in lines), seconds, requests)


def _make_image() -> Image:
    stdlib = Path(sysconfig.get_path("stdlib"))
    sources = [
        (stdlib, "usr/lib/python"),
        (Path("/usr/bin"), "usr/bin"),
        (Path("/usr/share/doc"), "usr/share/doc"),
    ]
    layers = [
        layer_of_directory(source, prefix, 16 * MEBIBYTE) for source, prefix in sources if source.is_dir()
    ]
    return image(layers)


def _tell(pulls: list[Pull], nora: Nora) -> None:
    _say("")
    _say("pull   cache         bytes   seconds   requests at the upstream")
    for number, pull in enumerate(pulls, 1):
        _say(f"{number:<7}{pull.cache:<6}{pull.bytes:>13,}{pull.seconds:>10.2f}   {len(pull.upstream)}")
    _say("")
    _say("What the upstream was asked in the first pull:")
    for request in pulls[0].upstream:
        _say(f"  {request}")
    _say("")
    for name in ("nora_docker_downloads_total", "nora_cache_hits_total", "nora_cache_misses_total"):
        _say(f"{name} {nora.metric(name):g}")
    _say("")


def _transferred(made: Image) -> int:
    return sum(blob.size for blob in made.blobs)


def _mebibytes(size: int) -> str:
    return f"{size / MEBIBYTE:.1f}"


def _there(program: str) -> bool:
    try:
        find(program)
    except Missing:
        return False
    return True


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
