"""Blobs given out, and everything taken away, by the distribution-spec ("Pulling blobs", "Content Management")."""

from __future__ import annotations

import pytest

from tests.support.conformance import Client, Repository, check_blob, check_manifest
from tests.support.conformance_content import (
    ALGORITHMS,
    Content,
    blob,
    digest_of,
    image,
    index,
    manifest_of,
)
from tests.support.conformance_kinds import KINDS

either = pytest.mark.parametrize("algorithm", ALGORITHMS)
SIZE = 2048


class TestBlobs:
    """GET and HEAD of blobs."""

    @either
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_unknown(self, repository: Repository, algorithm: str, method: str) -> None:
        """A blob that is not there is 404, in a repository that is, and in one that nobody pushed to."""
        digest = digest_of(b"unknown", algorithm)
        repository.blob(method, digest).expect(404)
        repository.push(blob())
        answer = repository.blob(method, digest).expect(404)
        assert method == "HEAD" or answer.codes == ["BLOB_UNKNOWN"]

    @pytest.mark.parametrize("digest", ["sha256:bad", "latest", "md5:" + "0" * 32, "sha256:" + "A" * 64])
    def test_bad_digest(self, repository: Repository, digest: str) -> None:
        """What is no digest is 400 or 404."""
        repository.push(blob())
        for method in ("GET", "HEAD", "DELETE"):
            repository.blob(method, digest).expect(400, 404)

    def test_other_repository(self, repository: Repository, neighbour: Repository) -> None:
        """A blob is not there in another repository, until it is mounted there."""
        sent = blob()
        repository.push(sent)
        neighbour.push(blob())
        neighbour.blob("GET", sent.digest).expect(404)
        neighbour.blob("HEAD", sent.digest).expect(404)

    def test_never_compressed(self, repository: Repository) -> None:
        """A client that understands gzip gets the bytes nevertheless."""
        sent = Content(b"A" * 20_000)
        repository.push(sent)
        answer = repository.blob("GET", sent.digest, Accept_Encoding="gzip").expect(200)
        assert answer.headers["Content-Encoding"] is None
        assert answer.body == sent.data

    @either
    @pytest.mark.parametrize(
        ("asked", "first", "end"),
        [("500-1499", 500, 1500), ("500-", 500, SIZE), ("-500", SIZE - 500, SIZE), ("2000-5000", 2000, SIZE)],
    )
    def test_range(self, repository: Repository, algorithm: str, asked: str, first: int, end: int) -> None:
        """A range of bytes is 206, with its length, and its place in the whole."""
        sent = blob(SIZE, algorithm)
        repository.push(sent)
        answer = repository.blob("GET", sent.digest, Range=f"bytes={asked}").expect(206)
        assert answer.body == sent.data[first:end]
        assert answer.headers["Content-Length"] == str(end - first)
        assert answer.headers["Content-Range"] == f"bytes {first}-{end - 1}/{SIZE}"

    @pytest.mark.parametrize("asked", ["5000-10000", "2048-", "500-0"])
    def test_range_that_is_not_there(self, repository: Repository, asked: str) -> None:
        """A range outside the blob is 416, and so is one that ends before it begins."""
        sent = blob(SIZE)
        repository.push(sent)
        repository.blob("GET", sent.digest, Range=f"bytes={asked}").expect(416)


class TestDeletingBlobs:
    """DELETE of blobs."""

    @either
    def test_deleted(self, repository: Repository, algorithm: str) -> None:
        """202, and then it is 404 at once; another blob stays."""
        gone, kept = blob(algorithm=algorithm), blob(algorithm=algorithm)
        repository.push(gone, kept)
        repository.blob("DELETE", gone.digest).expect(202)
        repository.blob("HEAD", gone.digest).expect(404)
        repository.blob("GET", gone.digest).expect(404)
        check_blob(repository, kept)

    def test_unknown(self, repository: Repository) -> None:
        """A blob that is not there, or not any more, is 404."""
        repository.blob("DELETE", digest_of(b"unknown")).expect(404)
        sent = blob()
        repository.push(sent)
        repository.blob("DELETE", sent.digest).expect(202)
        assert repository.blob("DELETE", sent.digest).expect(404).codes == ["BLOB_UNKNOWN"]

    @either
    def test_pushed_again(self, repository: Repository, algorithm: str) -> None:
        """What was deleted can be pushed again."""
        sent = blob(algorithm=algorithm)
        repository.push(sent)
        repository.blob("DELETE", sent.digest).expect(202)
        repository.push(sent)
        check_blob(repository, sent)

    def test_other_repository(self, repository: Repository, neighbour: Repository) -> None:
        """The same blob in another repository stays, whether mounted or pushed."""
        sent = blob()
        for one in (repository, neighbour):
            one.push(sent)
        repository.blob("DELETE", sent.digest).expect(202)
        check_blob(neighbour, sent)

    def test_listed(self, repository: Repository) -> None:
        """A blob that a manifest lists is removed or kept, as the answer says, and removed once the manifest is."""
        layer, *_, top = contents = image()
        repository.push_whole(contents)
        answer = repository.blob("DELETE", layer.digest).expect(202, 403, 405)
        repository.blob("HEAD", layer.digest).expect(404 if answer.status == 202 else 200)
        repository.manifest("DELETE", top.digest).expect(202)
        repository.blob("DELETE", layer.digest).expect(404 if answer.status == 202 else 202)
        repository.blob("HEAD", layer.digest).expect(404)

    @pytest.mark.parametrize("data", [b"", b"{}"], ids=["empty", "object"])
    def test_well_known(self, repository: Repository, data: bytes) -> None:
        """The empty blob and the empty object are deleted like others."""
        sent = Content(data)
        repository.push(sent)
        repository.blob("DELETE", sent.digest).expect(202)
        repository.blob("HEAD", sent.digest).expect(404)


class TestDeletingTags:
    """DELETE of manifests by tag."""

    def test_deleted(self, repository: Repository) -> None:
        """202; then the tag is 404 and not in the list, while the manifest and its other tags stay."""
        top = repository.push_whole(image(), "gone", "kept")
        repository.manifest("DELETE", "gone").expect(202)
        repository.manifest("HEAD", "gone").expect(404)
        assert repository.manifest("GET", "gone").expect(404).codes == ["MANIFEST_UNKNOWN"]
        assert repository.tags() == ["kept"]
        check_manifest(repository, top, "kept")
        check_manifest(repository, top)

    def test_last_tag(self, repository: Repository) -> None:
        """A manifest stays without any tag."""
        top = repository.push_whole(image(), "only")
        repository.manifest("DELETE", "only").expect(202)
        check_manifest(repository, top)
        assert repository.list_tags().expect(200, 404).json.get("tags", []) == []

    def test_pushed_again(self, repository: Repository) -> None:
        """A tag that was deleted can be pushed again."""
        top = repository.push_whole(image(), "tag")
        repository.manifest("DELETE", "tag").expect(202)
        repository.put_manifest(top, "tag").expect(201)
        check_manifest(repository, top, "tag")

    def test_unknown(self, repository: Repository) -> None:
        """A tag that is not there is 404."""
        repository.manifest("DELETE", "tag").expect(404)
        repository.push_whole(image(), "tag")
        repository.manifest("DELETE", "other").expect(404)
        repository.manifest("DELETE", "tag").expect(202)
        repository.manifest("DELETE", "tag").expect(404)


class TestDeletingManifests:
    """DELETE of manifests by digest."""

    @either
    def test_deleted(self, repository: Repository, algorithm: str) -> None:
        """202, and then it is 404 at once."""
        gone, kept = repository.push_whole(image(algorithm)), repository.push_whole(image(algorithm))
        repository.manifest("DELETE", gone.digest).expect(202)
        repository.manifest("HEAD", gone.digest).expect(404)
        assert repository.manifest("GET", gone.digest).expect(404).codes == ["MANIFEST_UNKNOWN"]
        check_manifest(repository, kept)

    def test_its_tags(self, repository: Repository) -> None:
        """Every tag that points at it goes with it, and no other."""
        gone = repository.push_whole(image(), "one", "two")
        kept = repository.push_whole(image(), "three")
        repository.manifest("DELETE", gone.digest).expect(202)
        for tag in ("one", "two"):
            repository.manifest("HEAD", tag).expect(404)
        assert repository.tags() == ["three"]
        check_manifest(repository, kept, "three")

    def test_tag_that_moved_on(self, repository: Repository) -> None:
        """A tag that points elsewhere by now stays."""
        old = repository.push_whole(image(), "tag")
        new = repository.push_whole(image(), "tag")
        repository.manifest("DELETE", old.digest).expect(202)
        check_manifest(repository, new, "tag")

    def test_unknown(self, repository: Repository) -> None:
        """A digest that is not there is 404, in a repository that nobody pushed to as well."""
        repository.manifest("DELETE", digest_of(b"unknown")).expect(404)
        top = repository.push_whole(image())
        repository.manifest("DELETE", digest_of(b"unknown")).expect(404)
        repository.manifest("DELETE", top.digest).expect(202)
        repository.manifest("DELETE", top.digest).expect(404)

    def test_pushed_again(self, repository: Repository) -> None:
        """What was deleted can be pushed again, by the blobs that are there."""
        contents = image()
        top = repository.push_whole(contents, "tag")
        repository.manifest("DELETE", top.digest).expect(202)
        repository.push_whole(contents, "tag")
        check_manifest(repository, top, "tag")

    def test_index(self, repository: Repository) -> None:
        """The images of a deleted index stay."""
        contents = index(image(), image())
        repository.push_whole(contents, "tag")
        repository.manifest("DELETE", contents[-1].digest).expect(202)
        for one in contents[:-1]:
            if one.is_manifest:
                check_manifest(repository, one)
            else:
                check_blob(repository, one)

    def test_shared_blobs(self, repository: Repository) -> None:
        """Blobs that another image shares stay."""
        *layers, config, first = image()
        second = manifest_of(config, [layers[0].descriptor()])
        repository.push_whole([*layers, config, first])
        repository.put_manifest(second).expect(201)
        repository.manifest("DELETE", first.digest).expect(202)
        check_manifest(repository, second)
        for one in (layers[0], config):
            check_blob(repository, one)

    def test_other_repository(self, repository: Repository, neighbour: Repository) -> None:
        """The same image in another repository stays."""
        contents = image()
        for one in (repository, neighbour):
            one.push_whole(contents, "tag")
        repository.manifest("DELETE", contents[-1].digest).expect(202)
        check_manifest(neighbour, contents[-1], "tag")
        for part in contents[:-1]:
            check_blob(neighbour, part)


def push_and_delete(repository: Repository, contents: list[Content]) -> None:
    """Push something with two tags, and take away tags, manifests from the top, and blobs: each is gone at once."""
    top = repository.push_whole(contents)
    repository.put_manifest(top, tags=["one", "two"]).expect(201)
    for reference in ("one", "two", top.digest):
        check_manifest(repository, top, reference)
    assert repository.tags() == ["one", "two"]
    for tag in ("one", "two"):
        repository.manifest("DELETE", tag).expect(202)
        repository.manifest("HEAD", tag).expect(404)
    for one in reversed(contents):
        if one.is_manifest:
            repository.manifest("DELETE", one.digest).expect(202)
            repository.manifest("HEAD", one.digest).expect(404)
    for one in {one.digest: one for one in contents if not one.is_manifest}.values():
        repository.blob("DELETE", one.digest).expect(202)
        repository.blob("HEAD", one.digest).expect(404)
    for reference in ("one", top.digest):
        repository.manifest("GET", reference).expect(404)
    assert repository.list_tags().expect(200, 404).json.get("tags", []) == []
    assert repository.referrers(top.digest) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_everything_deleted(repository: Repository, kind: str) -> None:
    """What was deleted whole can be pushed again, as often as one likes, and be given out."""
    contents = KINDS[kind]()
    push_and_delete(repository, contents)
    push_and_delete(repository, contents)
    repository.push_whole(contents)
    check_manifest(repository, contents[-1])


def test_one_after_the_other(repository: Repository, neighbour: Repository) -> None:
    """One repository sees every form come and go under the same tags, while another keeps them all."""
    kept = []
    for make in KINDS.values():
        contents = make()
        kept += [neighbour.push_whole(contents)]
        push_and_delete(repository, contents)
    for top in kept:
        check_manifest(neighbour, top)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "manifests/latest"),
        ("GET", "blobs/sha256:" + "0" * 64),
        ("GET", "tags/list"),
        ("PUT", "manifests/latest"),
        ("DELETE", "manifests/latest"),
        ("POST", "blobs/uploads/"),
    ],
)
@pytest.mark.parametrize("name", ["Upper", "a/-b", "a" * 300])
def test_bad_names(spoken_to: Client, name: str, method: str, path: str) -> None:
    """A name that the grammar does not know is 400 or 404, whatever is asked of it, in the form of errors."""
    answer = spoken_to.ask(method, f"/v2/{name}/{path}", b"{}" if method == "PUT" else None).expect(400, 404)
    assert answer.codes == ["NAME_INVALID"]
