"""How manifests come in and are given out, by the distribution-spec ("Pushing Manifests", "Pulling manifests")."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest

from tests.support.conformance import Client, Repository, check_created, check_manifest
from tests.support.conformance_content import (
    ALGORITHMS,
    INDEX,
    MANIFEST,
    Content,
    digest_of,
    image,
    index,
)
from tests.support.conformance_kinds import KINDS
from tests.support.room import Room

either = pytest.mark.parametrize("algorithm", ALGORITHMS)
streamed_or_not = pytest.mark.parametrize("streamed", [False, True], ids=["length", "streamed"])


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(repository: Repository, kind: str) -> None:
    """Every form of a manifest is pushed by digest and by tag, and is given out as it came."""
    contents = KINDS[kind]()
    top = repository.push_whole(contents)
    for manifest in contents:
        if manifest.is_manifest:
            check_manifest(repository, manifest)
    if top.algorithm == "sha256":
        check_created(repository.client, repository.put_manifest(top, "a-tag"), top)
        check_manifest(repository, top, "a-tag")


class TestPut:
    """What PUT of a manifest answers."""

    @either
    @streamed_or_not
    def test_by_digest(self, repository: Repository, algorithm: str, streamed: bool) -> None:
        """By digest it is 201 with Location and the digest that was named, with a Content-Length or without."""
        *blobs, top = image(algorithm)
        repository.push(*blobs)
        answer = repository.put_manifest(top, streamed=streamed)
        check_created(repository.client, answer, top)
        assert answer.digest == top.digest

    @streamed_or_not
    def test_by_tag(self, repository: Repository, streamed: bool) -> None:
        """By tag it is 201 with Location and digest, and the digest works from then on."""
        *blobs, top = image()
        repository.push(*blobs)
        answer = repository.put_manifest(top, "latest", streamed=streamed)
        check_created(repository.client, answer, top)
        assert answer.digest == top.digest
        check_manifest(repository, top, "latest")
        check_manifest(repository, top)

    def test_again(self, repository: Repository) -> None:
        """The same again is 201 again."""
        top = repository.push_whole(image(), "one", "one", "two")
        repository.put_manifest(top).expect(201)
        assert repository.tags() == ["one", "two"]

    def test_tag_moves(self, repository: Repository) -> None:
        """A tag that is pushed again points at the new manifest; the old one stays, by its digest."""
        old = repository.push_whole(image(), "latest")
        new = repository.push_whole(image(), "latest")
        check_manifest(repository, new, "latest")
        check_manifest(repository, old)

    def test_kept_byte_for_byte(self, repository: Repository) -> None:
        """White space and the order of keys are kept."""
        *blobs, made = image()
        repository.push(*blobs)
        text = (
            json.dumps(json.loads(made.data), indent=3, sort_keys=True).replace("{", "{ \t").encode()
            + b"\n\n"
        )
        top = Content(text, MANIFEST)
        repository.put_manifest(top, "odd").expect(201)
        check_manifest(repository, top, "odd")

    @streamed_or_not
    @pytest.mark.parametrize("by_tag", [False, True], ids=["digest", "tag"])
    def test_large(self, repository: Repository, streamed: bool, by_tag: bool) -> None:
        """Manifests of nearly 4 MiB are taken and given out."""
        long = {f"org.example.long.{number}": "A" * 10_000 for number in range(400)}
        *blobs, top = image(annotations=long)
        assert 4_000_000 < len(top.data) < 4 * 1024 * 1024
        repository.push(*blobs)
        reference = "large" if by_tag else top.digest
        check_created(repository.client, repository.put_manifest(top, reference, streamed=streamed), top)
        check_manifest(repository, top, reference)

    @streamed_or_not
    def test_too_large(self, repository: Repository, streamed: bool) -> None:
        """Much larger ones are refused, 413."""
        *_, top = image(annotations={"org.example.long": "A" * 9_000_000})
        repository.put_manifest(top, "large", streamed=streamed).expect(413)
        repository.manifest("GET", "large").expect(404)

    def test_tag_of_128_characters(self, repository: Repository) -> None:
        """A tag may have 128 characters."""
        top = repository.push_whole(image(), "t" * 128)
        check_manifest(repository, top, "t" * 128)

    @pytest.mark.parametrize("tag", ["t" * 129, ".dot", "-dash", "a+b", "ü", "a b", "a\0b"])
    def test_bad_tag(self, repository: Repository, tag: str) -> None:
        """A tag is 128 characters of the grammar at most; others are 400 or 404."""
        *blobs, top = image()
        repository.push(*blobs)
        repository.put_manifest(top, tag).expect(400, 404)
        assert repository.list_tags().expect(200, 404).json.get("tags", []) == []


class TestRefused:
    """Manifests that are not taken."""

    @either
    def test_wrong_digest(self, repository: Repository, algorithm: str) -> None:
        """Other bytes than the digest's are 400, and nothing is stored."""
        *blobs, top = image(algorithm)
        repository.push(*blobs)
        more = Content(top.data + b"  ", MANIFEST, algorithm)
        repository.put_manifest(more, top.digest, streamed=True).expect(400)
        repository.manifest("GET", top.digest).expect(404)
        repository.manifest("GET", more.digest).expect(404)

    @pytest.mark.parametrize(
        "digest", ["sha256:baddigeststring", "sha256:" + "A" * 64, "md5:" + "0" * 32, "x:y"]
    )
    def test_bad_digest(self, repository: Repository, digest: str) -> None:
        """What has a colon and is no digest is 400 to PUT, 400 or 404 to others."""
        *blobs, top = image()
        repository.push(*blobs)
        assert repository.put_manifest(top, digest).expect(400).codes == ["DIGEST_INVALID"]
        for method in ("GET", "HEAD", "DELETE"):
            repository.manifest(method, digest).expect(400, 404)

    @pytest.mark.parametrize("data", [b"", b"nonsense", b"[]", b"{}", b'"x"', b"\xff\xfe", b"[" * 100_000])
    def test_no_manifest(self, repository: Repository, data: bytes) -> None:
        """What is not a manifest is 400."""
        answer = repository.put_manifest(Content(data, MANIFEST), "tag").expect(400)
        assert answer.codes == ["MANIFEST_INVALID"]

    def test_missing_blob(self, repository: Repository) -> None:
        """An image with a layer that nobody pushed is MANIFEST_BLOB_UNKNOWN."""
        missing, *blobs, top = image()
        repository.push(*blobs)
        assert repository.put_manifest(top).expect(400, 404).codes == ["MANIFEST_BLOB_UNKNOWN"]
        repository.push(missing)
        repository.put_manifest(top).expect(201)

    def test_missing_configuration(self, repository: Repository) -> None:
        """So is one without its configuration."""
        *layers, _, top = image()
        repository.push(*layers)
        assert "MANIFEST_BLOB_UNKNOWN" in repository.put_manifest(top, "tag").expect(400, 404).codes

    def test_missing_child(self, repository: Repository) -> None:
        """An index with an image that nobody pushed is MANIFEST_BLOB_UNKNOWN."""
        top = index(image())[-1]
        assert "MANIFEST_BLOB_UNKNOWN" in repository.put_manifest(top, "tag").expect(400, 404).codes

    def test_blobs_of_another_repository_do_not_count(
        self, repository: Repository, neighbour: Repository
    ) -> None:
        """A manifest wants its blobs in its own repository."""
        *blobs, top = image()
        neighbour.push(*blobs)
        assert "MANIFEST_BLOB_UNKNOWN" in repository.put_manifest(top).expect(400, 404).codes


def test_sparse(room: Room) -> None:
    """Where the operator allows it, a manifest may list what is not here, blobs and manifests alike."""
    repository = Repository(Client(room.nora(push_sparse=True).url), "conformance/sparse")
    _, *rest, top = image()
    repository.push(*rest)
    check_created(repository.client, repository.put_manifest(top, "image"), top)
    partial = index([*rest, top], image())[-1]
    check_created(repository.client, repository.put_manifest(partial, "index"), partial)
    check_manifest(repository, partial, "index")
    repository.client.close()


class TestGet:
    """What GET and HEAD of a manifest answer beyond what `check_manifest` looks at."""

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_unknown(self, repository: Repository, method: str) -> None:
        """An unknown tag or digest of a repository is 404."""
        repository.push_whole(image(), "known")
        for reference in ("unknown", digest_of(b"unknown"), digest_of(b"unknown", "sha512")):
            answer = repository.manifest(method, reference).expect(404)
            assert method == "HEAD" or answer.codes == ["MANIFEST_UNKNOWN"]

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_unknown_repository(self, repository: Repository, method: str) -> None:
        """A repository that nobody pushed to has no manifests."""
        repository.manifest(method, "latest").expect(404)
        repository.manifest(method, digest_of(b"unknown")).expect(404)

    def test_other_repository(self, repository: Repository, neighbour: Repository) -> None:
        """A manifest is not there in another repository."""
        top = repository.push_whole(image(), "tag")
        neighbour.push_whole(image(), "other")
        neighbour.manifest("GET", top.digest).expect(404)
        neighbour.manifest("GET", "tag").expect(404)

    def test_never_compressed(self, repository: Repository) -> None:
        """A client that understands gzip gets the bytes nevertheless, whose length it was told."""
        top = repository.push_whole(image(annotations={"long": "A" * 20_000}))
        answer = repository.client.ask(
            "GET",
            f"/v2/{repository.name}/manifests/{top.digest}",
            headers=[("Accept", MANIFEST), ("Accept-Encoding", "gzip")],
        )
        assert answer.headers["Content-Encoding"] is None
        assert answer.body == top.data

    def test_types_in_one_line(self, repository: Repository) -> None:
        """Accept may be one line with commas."""
        top = repository.push_whole(index(image()), "tag")
        answer = repository.client.ask(
            "GET", f"/v2/{repository.name}/manifests/tag", headers=[("Accept", f"{MANIFEST}, {INDEX};q=0.5")]
        )
        assert answer.expect(200).body == top.data


def made_tags(answers: list[str]) -> set[str]:
    """Read the tags in lines of `OCI-Tag`, each of which may hold several."""
    return {tag for line in answers for tag in re.split(r"\s*,\s*", line.strip())}


class TestTagParameters:
    """A manifest pushed by digest, with its tags as parameters (`?tag=`)."""

    @either
    def test_pushed(self, repository: Repository, algorithm: str) -> None:
        """201 names each tag in `OCI-Tag`; each is there, with the digest the manifest was pushed by."""
        *blobs, top = image(algorithm)
        repository.push(*blobs)
        answer = repository.put_manifest(top, tags=["one", "two"])
        check_created(repository.client, answer, top)
        assert made_tags(answer.headers.get_all("OCI-Tag", [])) == {"one", "two"}
        assert repository.tags() == ["one", "two"]
        for tag in ("one", "two"):
            check_manifest(repository, top, tag)

    def test_ten(self, repository: Repository) -> None:
        """Ten tags at once are not too many."""
        tags = [f"tag-{number}" for number in range(10)]
        *blobs, top = image()
        repository.push(*blobs)
        answer = repository.put_manifest(top, tags=tags).expect(201)
        assert made_tags(answer.headers.get_all("OCI-Tag", [])) == set(tags)
        assert repository.tags() == tags

    @either
    def test_index(self, repository: Repository, algorithm: str) -> None:
        """An index and its images can have tags of their own."""
        contents = index(image(algorithm), image(algorithm), algorithm=algorithm)
        for number, content in enumerate(contents):
            if content.is_manifest:
                repository.put_manifest(content, tags=[f"tag-{number}"]).expect(201)
                check_manifest(repository, content, f"tag-{number}")
            else:
                repository.push(content)

    def test_deleted(self, repository: Repository) -> None:
        """A tag made so is deleted like any other."""
        *blobs, top = image()
        repository.push(*blobs)
        repository.put_manifest(top, tags=["one", "two"]).expect(201)
        repository.manifest("DELETE", "one").expect(202)
        assert repository.tags() == ["two"]

    def test_none_after_a_refusal(self, repository: Repository) -> None:
        """A manifest that is refused makes no tags."""
        *blobs, top = image()
        repository.push(*blobs)
        repository.put_manifest(top, digest_of(b"other"), tags=["one"]).expect(400)
        repository.put_manifest(top, tags=["one", "not a tag"]).expect(400)
        repository.manifest("GET", "one").expect(404)

    def test_not_without_parameters(self, repository: Repository) -> None:
        """Nobody is told of tags that nobody asked for."""
        *blobs, top = image()
        repository.push(*blobs)
        assert repository.put_manifest(top).expect(201).headers["OCI-Tag"] is None


def test_reference_is_decoded(repository: Repository) -> None:
    """A digest whose colon is escaped is the same digest."""
    top = repository.push_whole(image())
    check_manifest(repository, top, quote(top.digest, safe=""))
