"""What a registry tells of its content, by the distribution-spec ("Content Discovery"): tags and referrers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.conformance import Answer, Client, Repository, next_page
from tests.support.conformance_content import (
    ALGORITHMS,
    CONFIG,
    INDEX,
    Content,
    artifact,
    digest_of,
    document,
    image,
    index,
)

either = pytest.mark.parametrize("algorithm", ALGORITHMS)
TAGS = ["1.0", "10", "2", "A", "B", "_x", "a", "a.b", "ab"]
"""In the order of their bytes."""
BOM, SIGNATURE = "application/vnd.example.bom", "application/vnd.example.signature"


def test_base(spoken_to: Client) -> None:
    """`/v2/` is 200: the specification is spoken here."""
    spoken_to.ask("GET", "/v2/").expect(200)


class TestTags:
    """The list of tags."""

    @pytest.fixture
    def tagged(self, repository: Repository) -> Repository:
        """Give a repository with `TAGS`, pushed in another order."""
        top = repository.push_whole(image())
        for tag in sorted(TAGS, key=lambda tag: tag[::-1]):
            repository.put_manifest(top, tag).expect(201)
        return repository

    def test_whole(self, tagged: Repository) -> None:
        """Without parameters all tags are there, in the order of their bytes, as JSON with the repository's name."""
        answer = tagged.list_tags().expect(200)
        assert answer.headers.get_content_type() == "application/json"
        assert answer.json == {"name": tagged.name, "tags": TAGS}
        assert next_page(answer) is None

    def test_limited(self, tagged: Repository) -> None:
        """`n` gives that many, the first, and a Link when there are more."""
        answer = tagged.list_tags(n="3").expect(200)
        assert answer.json["tags"] == TAGS[:3]
        assert next_page(answer) is not None

    @pytest.mark.parametrize("number", [1, 2, 4, 8])
    def test_pages(self, tagged: Repository, number: int) -> None:
        """Who follows the Links gets every tag once, and the last page has no Link."""
        found: list[str] = []
        answer: Answer = tagged.list_tags(n=str(number))
        for _ in range(len(TAGS) + 1):
            found += answer.expect(200).json["tags"]
            following = next_page(answer)
            if following is None:
                break
            answer = tagged.client.ask("GET", following)
        assert found == TAGS

    def test_none(self, tagged: Repository) -> None:
        """`n=0` is an empty list without a Link."""
        answer = tagged.list_tags(n="0").expect(200)
        assert answer.json["tags"] == []
        assert answer.headers["Link"] is None

    def test_more_than_there_are(self, tagged: Repository) -> None:
        """A large `n` gives all there are, without a Link."""
        answer = tagged.list_tags(n="1000").expect(200)
        assert answer.json["tags"] == TAGS
        assert answer.headers["Link"] is None

    @pytest.mark.parametrize("last", TAGS)
    def test_last(self, tagged: Repository, last: str) -> None:
        """`last` gives those after it, and not itself, without `n` too."""
        assert tagged.tags(last=last) == [tag for tag in TAGS if tag > last]

    def test_last_and_n(self, tagged: Repository) -> None:
        """`n` counts from `last`."""
        assert tagged.tags(n="2", last="10") == ["2", "A"]

    @pytest.mark.parametrize("last", ["15", "Z", "zzz", "0"])
    def test_last_that_is_no_tag(self, tagged: Repository, last: str) -> None:
        """`last` may be a tag that is not there (any more)."""
        assert tagged.tags(last=last) == [tag for tag in TAGS if tag > last]

    @pytest.mark.parametrize("number", ["-1", "x", "1.5", ""])
    def test_bad_number(self, tagged: Repository, number: str) -> None:
        """An `n` that is no number is refused or passed over."""
        answer = tagged.list_tags(n=number).expect(200, 400)
        assert answer.status == 400 or answer.json["tags"] == TAGS

    def test_unknown_repository(self, repository: Repository) -> None:
        """A repository that nobody pushed to is 404, or has no tags."""
        answer = repository.list_tags().expect(200, 404)
        if answer.status == 404:
            assert answer.codes == ["NAME_UNKNOWN"]
        else:
            assert answer.json["tags"] == []

    def test_no_tags(self, repository: Repository) -> None:
        """A repository whose manifests have no tags has an empty list."""
        repository.push_whole(image())
        answer = repository.list_tags().expect(200, 404)
        assert answer.status == 404 or answer.json["tags"] == []


class TestReferrers:
    """Who refers to a manifest."""

    @pytest.fixture
    def subject(self, repository: Repository) -> Content:
        """Push an image to refer to."""
        return repository.push_whole(image(), "subject")

    @staticmethod
    def refer(repository: Repository, subject: Content, kind: str | None = BOM, **more: Any) -> Content:
        """Push an artifact that refers to `subject`."""
        return repository.push_whole(artifact(kind, subject=subject.descriptor(), **more))

    @either
    def test_unknown_repository(self, repository: Repository, algorithm: str) -> None:
        """A repository that nobody pushed to answers with an empty index, never with 404."""
        answer = repository.list_referrers(digest_of(b"unknown", algorithm)).expect(200)
        assert answer.headers["Content-Type"] == INDEX
        assert answer.json == {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}

    def test_none(self, repository: Repository, subject: Content) -> None:
        """What nobody refers to has an empty index, by whatever filter."""
        answer = repository.list_referrers(subject.digest).expect(200)
        assert answer.headers["Content-Type"] == INDEX
        assert answer.json == {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
        assert repository.referrers(subject.digest, artifactType=BOM) == {}

    @either
    def test_listed(self, repository: Repository, algorithm: str) -> None:
        """A referrer is listed with type, size, digest, artifactType and annotations."""
        subject = repository.push_whole(image(algorithm))
        referrer = repository.push_whole(
            artifact(BOM, algorithm, subject=subject.descriptor(), annotations={"org.example.a": "b"})
        )
        found = repository.referrers(subject.digest)
        assert list(found) == [referrer.digest]
        entry = found[referrer.digest]
        assert entry.items() >= referrer.descriptor(artifactType=BOM).items()
        assert entry["annotations"]["org.example.a"] == "b"
        assert len(entry["annotations"]) == 2

    @either
    def test_put_names_the_subject(self, repository: Repository, algorithm: str) -> None:
        """PUT of a manifest with a subject says so in `OCI-Subject`, by digest and by tag, each time."""
        subject = repository.push_whole(image(algorithm))
        *blobs, top = artifact(BOM, subject=subject.descriptor())
        repository.push(*blobs)
        for reference in ("", "", "tag", "tag"):
            answer = repository.put_manifest(top, reference).expect(201)
            assert answer.headers["OCI-Subject"] == subject.digest
        assert list(repository.referrers(subject.digest)) == [top.digest]

    def test_put_without_a_subject(self, repository: Repository) -> None:
        """PUT of a manifest without one has no `OCI-Subject`."""
        *blobs, top = image()
        repository.push(*blobs)
        assert repository.put_manifest(top).expect(201).headers["OCI-Subject"] is None

    def test_missing_subject(self, repository: Repository, neighbour: Repository) -> None:
        """The subject may come later, or never: its referrers are listed."""
        *blobs, subject = image()
        referrer = self.refer(repository, subject)
        assert list(repository.referrers(subject.digest)) == [referrer.digest]
        repository.push(*blobs)
        repository.put_manifest(subject).expect(201)
        assert list(repository.referrers(subject.digest)) == [referrer.digest]
        assert neighbour.referrers(subject.digest) == {}

    def test_type_of_the_configuration(self, repository: Repository, subject: Content) -> None:
        """A manifest without an artifactType has its configuration's type for one, for the filter too."""
        referrer = repository.push_whole(image(subject=subject.descriptor()))
        assert repository.referrers(subject.digest)[referrer.digest]["artifactType"] == CONFIG
        assert list(repository.referrers(subject.digest, artifactType=CONFIG)) == [referrer.digest]

    def test_index(self, repository: Repository, subject: Content) -> None:
        """An index can refer; its artifactType is its own, or is left out."""
        typed = repository.push_whole(
            index(artifact(BOM), artifactType=SIGNATURE, subject=subject.descriptor())
        )
        plain = repository.push_whole(index(image(), subject=subject.descriptor()))
        found = repository.referrers(subject.digest)
        assert set(found) == {typed.digest, plain.digest}
        assert found[typed.digest]["artifactType"] == SIGNATURE
        assert "artifactType" not in found[plain.digest]
        assert found[plain.digest]["mediaType"] == INDEX

    def test_filter(self, repository: Repository, subject: Content) -> None:
        """`artifactType` lets through its own, and the answer says that it was applied."""
        bom, signature = self.refer(repository, subject), self.refer(repository, subject, SIGNATURE)
        for kind, expected in ((BOM, {bom.digest}), (SIGNATURE, {signature.digest}), ("other", set())):
            answer = repository.list_referrers(subject.digest, artifactType=kind).expect(200)
            assert answer.headers["OCI-Filters-Applied"] == "artifactType"
            assert {one["digest"] for one in answer.json["manifests"]} == expected
        assert set(repository.referrers(subject.digest)) == {bom.digest, signature.digest}

    def test_no_filter(self, repository: Repository, subject: Content) -> None:
        """Without a filter nothing is said of one."""
        assert repository.list_referrers(subject.digest).expect(200).headers["OCI-Filters-Applied"] is None

    def test_many(self, repository: Repository, subject: Content) -> None:
        """However many refer, each is found by who follows the Links."""
        pushed = set()
        nothing = artifact(BOM, layers=0)[0]
        repository.push(nothing)
        for number in range(40):
            made = artifact(f"{BOM}.{number}", layers=0, subject=subject.descriptor())[-1]
            repository.put_manifest(made).expect(201)
            pushed.add(made.digest)
        found: set[str] = set()
        answer = repository.list_referrers(subject.digest)
        for _ in range(40):
            found |= {one["digest"] for one in answer.expect(200).json["manifests"]}
            following = next_page(answer)
            if following is None:
                break
            answer = repository.client.ask("GET", following)
        assert found == pushed

    def test_of_a_referrer(self, repository: Repository, subject: Content) -> None:
        """A referrer can have referrers."""
        first = self.refer(repository, subject)
        second = self.refer(repository, first, SIGNATURE)
        assert list(repository.referrers(subject.digest)) == [first.digest]
        assert list(repository.referrers(first.digest)) == [second.digest]

    def test_other_repository(self, repository: Repository, neighbour: Repository, subject: Content) -> None:
        """Referrers are those of the same repository."""
        self.refer(repository, subject)
        neighbour.push_whole(image())
        assert neighbour.referrers(subject.digest) == {}

    def test_deleted(self, repository: Repository, subject: Content) -> None:
        """A referrer that is deleted is not listed any more, and the others are."""
        gone, kept = self.refer(repository, subject), self.refer(repository, subject)
        repository.manifest("DELETE", gone.digest).expect(202)
        assert list(repository.referrers(subject.digest)) == [kept.digest]

    def test_subject_deleted(self, repository: Repository, subject: Content) -> None:
        """Referrers to a subject that was deleted are there until they are deleted themselves."""
        referrer = self.refer(repository, subject)
        repository.manifest("DELETE", subject.digest).expect(202)
        if repository.manifest("HEAD", referrer.digest).expect(200, 404).status == 200:
            assert list(repository.referrers(subject.digest)) == [referrer.digest]

    @pytest.mark.parametrize("digest", ["sha256:bad", "latest", "md5:" + "0" * 32])
    def test_bad_digest(self, repository: Repository, subject: Content, digest: str) -> None:
        """What is no digest is 400."""
        repository.list_referrers(digest).expect(400)

    @pytest.mark.parametrize(
        "wrong",
        ["x", 1, {}, {"digest": "sha256:bad"}, {"digest": 5, "size": 1, "mediaType": INDEX}],
        ids=repr,
    )
    def test_bad_subject(self, repository: Repository, wrong: object) -> None:
        """A manifest whose subject is no descriptor is 400."""
        *blobs, _ = artifact(BOM)
        repository.push(*blobs)
        made = document(INDEX, manifests=[], subject=wrong)
        assert repository.put_manifest(made).expect(400).codes == ["MANIFEST_INVALID"]
