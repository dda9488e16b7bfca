"""How blobs come in, by the distribution-spec ("Pushing blobs"): each check is one rule of it, in sha256 and sha512."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.support.conformance import (
    Answer,
    Client,
    Repository,
    check_blob,
    check_created,
    last_byte,
    other_algorithm,
    with_query,
)
from tests.support.conformance_content import ALGORITHMS, Content, blob, digest_of
from tests.support.programs import wait_for

CHUNK = 1024
either = pytest.mark.parametrize("algorithm", ALGORITHMS)


class TestSessions:
    """The life of an upload session."""

    def test_post_opens_a_session(self, repository: Repository) -> None:
        """A POST is 202 and has a Location, each its own."""
        first, second = repository.post().expect(202), repository.post().expect(202)
        assert first.location != second.location

    def test_new_session_is_empty(self, repository: Repository) -> None:
        """The status of a new session is 204 with a Range of the form that clients take apart: `0-` and a number."""
        assert repository.progress(repository.session()) <= 0

    def test_status_counts_the_bytes(self, repository: Repository) -> None:
        """The status of a session is 204 with Location, and Range up to the last byte."""
        answer = repository.patch(repository.session(), b"x" * 100).expect(202)
        assert repository.progress(answer.location) == 99

    def test_location_of_the_status_can_be_used(self, repository: Repository) -> None:
        """The Location that a status names takes what is missing."""
        sent = blob()
        begun = repository.patch(repository.session(), sent.data[:200]).expect(202).location
        status = repository.client.ask("GET", begun).expect(204)
        again = repository.patch(status.location, sent.data[200:], 200).expect(202)
        check_created(repository.client, repository.put(again.location, sent.digest), sent)

    def test_cancelled(self, repository: Repository) -> None:
        """DELETE of a session is 204, and then it is unknown, whatever is asked of it."""
        location = repository.patch(repository.session(), b"x").expect(202).location
        repository.client.ask("DELETE", location).expect(204)
        assert repository.client.ask("GET", location).expect(404).codes == ["BLOB_UPLOAD_UNKNOWN"]
        repository.patch(location, b"y").expect(404)
        repository.put(location, digest_of(b"x")).expect(404)
        repository.client.ask("DELETE", location).expect(404)

    def test_nothing_is_left_of_a_cancelled_one(self, repository: Repository) -> None:
        """What a cancelled session had is no blob."""
        sent = blob()
        location = repository.patch(repository.session(), sent.data).expect(202).location
        repository.client.ask("DELETE", location).expect(204)
        repository.blob("HEAD", sent.digest).expect(404)

    def test_closed(self, repository: Repository) -> None:
        """A session whose blob is there is unknown."""
        sent = blob()
        location = repository.session()
        repository.put(location, sent.digest, sent.data).expect(201)
        repository.client.ask("GET", location).expect(404)
        repository.put(location, sent.digest, sent.data).expect(404)

    def test_unfinished_one_is_no_blob(self, repository: Repository) -> None:
        """A blob is there when its session is closed, not before."""
        sent = blob()
        repository.patch(repository.session(), sent.data).expect(202)
        repository.blob("HEAD", sent.digest).expect(404)

    def test_belongs_to_its_repository(self, repository: Repository, neighbour: Repository) -> None:
        """A session cannot be reached through another repository."""
        location = repository.session().replace(repository.name, neighbour.name)
        assert repository.client.ask("GET", location).status == 404
        assert neighbour.patch(location, b"x").status == 404

    @pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
    def test_unknown(self, repository: Repository, method: str) -> None:
        """A session that never was is 404."""
        known = urlsplit(repository.session())
        path = f"/v2/{repository.name}/blobs/uploads/00000000-0000-4000-8000-000000000000"
        answer = repository.client.ask(method, known._replace(path=path).geturl())
        assert answer.expect(404).codes == ["BLOB_UPLOAD_UNKNOWN"]

    def test_hint_of_the_algorithm(self, repository: Repository) -> None:
        """POST may name the algorithm that is to come."""
        sent = blob(algorithm="sha512")
        location = repository.post({"digest-algorithm": "sha512"}).expect(202).location
        check_created(repository.client, repository.put(location, sent.digest, sent.data), sent)


class TestWays:
    """Every way in which a whole blob can come."""

    @either
    def test_post_and_put(self, repository: Repository, algorithm: str) -> None:
        """PUT with the whole blob is 201, and its Location gives the blob."""
        sent = blob(algorithm=algorithm)
        answer = repository.put(repository.session(), sent.digest, sent.data)
        check_created(repository.client, answer, sent)
        assert answer.digest == sent.digest
        check_blob(repository, sent)

    @either
    def test_post_and_streamed_put(self, repository: Repository, algorithm: str) -> None:
        """The whole blob may come without a Content-Length."""
        sent = blob(algorithm=algorithm)
        answer = repository.put(repository.session(), sent.digest, sent.data, streamed=True)
        check_created(repository.client, answer, sent)

    @either
    @pytest.mark.parametrize("streamed", [False, True], ids=["length", "streamed"])
    def test_single_post(self, repository: Repository, algorithm: str, streamed: bool) -> None:
        """POST with digest and the whole blob is 201."""
        sent = blob(algorithm=algorithm)
        answer = repository.post({"digest": sent.digest}, sent.data, streamed)
        check_created(repository.client, answer, sent)
        assert answer.digest == sent.digest
        check_blob(repository, sent)

    @either
    def test_stream(self, repository: Repository, algorithm: str) -> None:
        """One PATCH without a range or a length is 202 with Location and Range, and an empty PUT closes it."""
        sent = blob(3000, algorithm)
        patched = repository.patch(repository.session(), sent.data, streamed=True).expect(202)
        assert last_byte(patched) == 2999
        check_created(repository.client, repository.put(patched.location, sent.digest), sent)
        check_blob(repository, sent)

    @either
    def test_one_chunk(self, repository: Repository, algorithm: str) -> None:
        """A blob may be one chunk."""
        sent = blob(algorithm=algorithm)
        patched = repository.patch(repository.session(), sent.data, 0).expect(202)
        check_created(repository.client, repository.put(patched.location, sent.digest), sent)

    @either
    @pytest.mark.parametrize("put", [False, True], ids=["patch", "put"])
    def test_chunks(self, repository: Repository, algorithm: str, put: bool) -> None:
        """Each chunk is 202 with Location and Range; the last may come with the PUT."""
        sent = blob(3 * CHUNK - 5, algorithm)
        location = repository.session()
        for start in (0, CHUNK) if put else (0, CHUNK, 2 * CHUNK):
            chunk = sent.data[start : start + CHUNK]
            answer = repository.patch(location, chunk, start).expect(202)
            assert last_byte(answer) == start + len(chunk) - 1
            location = answer.location
        last = (sent.data[2 * CHUNK :], 2 * CHUNK) if put else (None, None)
        check_created(repository.client, repository.put(location, sent.digest, *last), sent)
        check_blob(repository, sent)

    @either
    @pytest.mark.parametrize("data", [b"", b"{}"], ids=["empty", "object"])
    @pytest.mark.parametrize("way", ["put", "streamed", "post", "patch"])
    def test_well_known(self, repository: Repository, algorithm: str, data: bytes, way: str) -> None:
        """The empty blob and the empty object are blobs like others, in whatever way they come."""
        sent = Content(data, algorithm=algorithm)
        if way == "post":
            answer = repository.post({"digest": sent.digest}, data)
        elif way == "patch":
            location = repository.patch(repository.session(), data, streamed=True).expect(202).location
            answer = repository.put(location, sent.digest)
        else:
            answer = repository.put(repository.session(), sent.digest, data, streamed=way == "streamed")
        check_created(repository.client, answer, sent)
        check_blob(repository, sent)

    @either
    def test_again(self, repository: Repository, algorithm: str) -> None:
        """A blob that is there already can be pushed again, and 201 it is again."""
        sent = blob(algorithm=algorithm)
        repository.push(sent, sent)
        repository.post({"digest": sent.digest}, sent.data).expect(201)
        check_blob(repository, sent)


class TestOrder:
    """Chunks come in order, or are refused without harm."""

    @pytest.mark.parametrize("start", [0, 1, CHUNK - 1, CHUNK + 1, 2 * CHUNK])
    def test_refused(self, repository: Repository, start: int) -> None:
        """A chunk that does not begin after the last byte is 416 with the Range as it is, and nothing of it counts."""
        sent = blob(3 * CHUNK)
        location = repository.patch(repository.session(), sent.data[:CHUNK], 0).expect(202).location
        answer = repository.patch(location, sent.data[start : start + CHUNK], start).expect(416)
        assert last_byte(answer) == CHUNK - 1
        assert repository.progress(answer.location) == CHUNK - 1
        done = repository.put(location, sent.digest, sent.data[CHUNK:], CHUNK)
        check_created(repository.client, done, sent)

    def test_first_begins_at_zero(self, repository: Repository) -> None:
        """The first chunk of all begins at 0, or is 416."""
        location = repository.session()
        repository.patch(location, b"x" * CHUNK, CHUNK).expect(416)
        assert repository.progress(location) <= 0

    def test_refused_at_length(self, repository: Repository) -> None:
        """A client that sends a refused chunk to its end, as many do, hears why, and can go on."""
        sent = blob(3_000_000)
        location = repository.session()
        repository.patch(location, sent.data[5:], 5).expect(416)
        check_created(repository.client, repository.put(location, sent.digest, sent.data, 0), sent)

    @either
    def test_last_chunk_with_the_put(self, repository: Repository, algorithm: str) -> None:
        """A PUT whose chunk is out of order is 416 and does not close the session, which is asked by the same URL."""
        sent = blob(3 * CHUNK, algorithm)
        location = repository.patch(repository.session(), sent.data[:CHUNK], 0).expect(202).location
        repository.put(location, sent.digest, sent.data[2 * CHUNK :], 2 * CHUNK).expect(416)
        assert repository.progress(with_query(location, digest=sent.digest)) == CHUNK - 1
        repository.patch(location, sent.data[CHUNK : 2 * CHUNK], CHUNK).expect(202)
        done = repository.put(location, sent.digest, sent.data[2 * CHUNK :], 2 * CHUNK)
        check_created(repository.client, done, sent)

    @either
    @pytest.mark.parametrize("put", [False, True], ids=["patch", "put"])
    def test_wrong_before_each_right_one(self, repository: Repository, algorithm: str, put: bool) -> None:
        """A client that always errs first, and asks where it is, gets its blob through."""
        sent = blob(3 * CHUNK - 5, algorithm)
        location = repository.session()
        for start, wrong in ((0, CHUNK), (CHUNK, 2 * CHUNK), (2 * CHUNK, 0)):
            chunk = sent.data[wrong : wrong + CHUNK]
            if put and len(chunk) < CHUNK:
                repository.put(location, sent.digest, chunk, wrong).expect(416)
            else:
                repository.patch(location, chunk, wrong).expect(416)
            status = repository.client.ask("GET", location).expect(204)
            assert start == 0 or last_byte(status) == start - 1
            chunk = sent.data[start : start + CHUNK]
            if put and len(chunk) < CHUNK:
                done = repository.put(status.location, sent.digest, chunk, start)
            else:
                location = repository.patch(status.location, chunk, start).expect(202).location
        check_created(repository.client, done if put else repository.put(location, sent.digest), sent)

    @pytest.mark.parametrize(
        "span", ["9-0", "-9", "0-", "x", "0 9", "0-9,0-9", "0-99999999999999999999", "0x0-0x9"]
    )
    def test_malformed_range(self, repository: Repository, span: str) -> None:
        """A Content-Range is two numbers and a dash; another is 400 or 416, and nothing counts."""
        location = repository.session()
        answer = repository.client.ask("PATCH", location, b"0123456789", [("Content-Range", span)])
        answer.expect(400, 416)
        assert repository.progress(location) <= 0

    @pytest.mark.parametrize("span", ["0-8", "0-10"])
    def test_range_and_length_disagree(self, repository: Repository, span: str) -> None:
        """A chunk whose range is not as long as its body is 400 or 416."""
        location = repository.session()
        repository.client.ask("PATCH", location, b"0123456789", [("Content-Range", span)]).expect(400, 416)
        assert repository.progress(location) <= 0


class TestDigests:
    """What is stored is what its digest says."""

    @either
    @pytest.mark.parametrize("way", ["put", "post", "stream", "chunks", "last"])
    def test_wrong(self, repository: Repository, algorithm: str, way: str) -> None:
        """Content that does not match the digest is 400, by each way, and there is no blob of it."""
        said, sent = blob(3 * CHUNK, algorithm), blob(3 * CHUNK, algorithm)
        if way == "post":
            answer = repository.post({"digest": said.digest}, sent.data)
        elif way == "put":
            answer = repository.put(repository.session(), said.digest, sent.data)
        elif way == "stream":
            location = repository.patch(repository.session(), sent.data, streamed=True).expect(202).location
            answer = repository.put(location, said.digest)
        else:
            location = repository.patch(repository.session(), sent.data[:CHUNK], 0).expect(202).location
            if way == "last":
                answer = repository.put(location, said.digest, sent.data[CHUNK:], CHUNK)
            else:
                location = repository.patch(location, sent.data[CHUNK:], CHUNK).expect(202).location
                answer = repository.put(location, said.digest)
        assert answer.expect(400).codes == ["DIGEST_INVALID"]
        repository.blob("HEAD", said.digest).expect(404)
        repository.blob("HEAD", sent.digest).expect(404)

    def test_put_without_one(self, repository: Repository) -> None:
        """A PUT must name the digest."""
        repository.client.ask("PUT", repository.session(), b"x").expect(400)

    @pytest.mark.parametrize("digest", ["sha256:bad", "md5:" + "0" * 32, "sha256", "sha256:" + "A" * 64])
    def test_malformed(self, repository: Repository, digest: str) -> None:
        """A digest of another form or of an unknown algorithm is 400."""
        assert repository.put(repository.session(), digest, b"x").expect(400).codes == ["DIGEST_INVALID"]
        repository.post({"digest": digest}, b"x").expect(400)

    @either
    def test_only_by_the_one_that_was_named(self, repository: Repository, algorithm: str) -> None:
        """A blob is there under the digest it was pushed by; under another algorithm's it may be missing, not wrong."""
        sent = blob(algorithm=algorithm)
        repository.push(sent)
        answer = repository.blob("GET", other_algorithm(sent)).expect(404, 200)
        assert answer.status == 404 or answer.body == sent.data


class TestMounts:
    """Blobs of other repositories."""

    @either
    def test_mounted(self, repository: Repository, neighbour: Repository, algorithm: str) -> None:
        """A blob of another repository is mounted, 201; it stays when the other loses it."""
        sent = blob(algorithm=algorithm)
        neighbour.push(sent)
        answer = repository.post({"mount": sent.digest, "from": neighbour.name})
        check_mounted(repository, answer, sent, neighbour)

    @either
    def test_mounted_from_anywhere(
        self, repository: Repository, neighbour: Repository, algorithm: str
    ) -> None:
        """Without `from` it is mounted as well, unless the client's token is for other names alone."""
        sent = blob(algorithm=algorithm)
        neighbour.push(sent)

        def mounted() -> Answer | None:
            answer = repository.post({"mount": sent.digest}).expect(201, 202)
            return answer if answer.status == 201 else None

        if repository.client.shows_tokens:
            assert mounted() is None
        else:  # another worker than the one that took the blob hears of it a moment later
            check_mounted(repository, wait_for(mounted, "a mount", every=0.25), sent, neighbour)

    @either
    @pytest.mark.parametrize("named", [True, False], ids=["from", "anonymous"])
    def test_missing(
        self, repository: Repository, neighbour: Repository, algorithm: str, named: bool
    ) -> None:
        """What cannot be mounted is an upload session, 202, that takes the blob."""
        sent = blob(algorithm=algorithm)
        source = {"from": neighbour.name} if named else {}
        location = repository.post({"mount": sent.digest} | source).expect(202).location
        check_created(repository.client, repository.put(location, sent.digest, sent.data), sent)

    def test_from_a_repository_that_lacks_it(self, repository: Repository, neighbour: Repository) -> None:
        """A blob that is here only under another name than `from` says is mounted or sent, never lost."""
        sent, present = blob(), blob()
        neighbour.push(present)
        repository.post({"mount": sent.digest, "from": neighbour.name}).expect(202)

    def test_already_there(self, repository: Repository) -> None:
        """A blob can be mounted from its own repository."""
        sent = blob()
        repository.push(sent)
        check_created(
            repository.client, repository.post({"mount": sent.digest, "from": repository.name}), sent
        )

    def test_malformed_digest(self, repository: Repository) -> None:
        """A mount of no digest is 400, or a session."""
        repository.post({"mount": "sha256:bad", "from": repository.name}).expect(400, 202)


def check_mounted(repository: Repository, answer: Answer, sent: Content, neighbour: Repository) -> None:
    """See that a blob was mounted, and that it stays when the neighbour it came from loses it."""
    check_created(repository.client, answer, sent)
    check_blob(repository, sent)
    neighbour.blob("DELETE", sent.digest).expect(202)
    neighbour.blob("HEAD", sent.digest).expect(404)
    check_blob(repository, sent)


@pytest.mark.parametrize(
    "name", ["Upper/case", "a/-b", "a_", "a/.b", "a" * 300, "%C3%BC", "a%2fb%2f..", "a%00"]
)
def test_bad_names(spoken_to: Client, name: str) -> None:
    """A name that the grammar does not know has no uploads: 400 or 404."""
    spoken_to.ask("POST", f"/v2/{name}/blobs/uploads/").expect(400, 404)
