"""What the headers of an upstream's answer say of content: hints, each of them, until the content is verified."""

from __future__ import annotations

import re

from nora.oci import Digest
from nora.oci.errors import InvalidDigest, Unverified
from nora.upstream.client import Answer

_LENGTH = re.compile(r"[0-9]{1,18}\Z")


def digest_of(answer: Answer) -> Digest | None:
    """Read `Docker-Content-Digest`: a hint to verify, None where it is missing or not understood."""
    try:
        return Digest.parse((answer.header("Docker-Content-Digest") or "").strip())
    except InvalidDigest:
        return None


def check_digest(answer: Answer, wanted: Digest) -> None:
    """Raise `Unverified` when the answer says that it is about another digest than `wanted`."""
    told = digest_of(answer)
    if told is not None and told.algorithm == wanted.algorithm and told != wanted:
        raise Unverified("it answered with another digest than the one asked for")


def media_type_of(answer: Answer) -> str:
    """Read the `Content-Type` without its parameters; empty when there is none."""
    return (answer.header("Content-Type") or "").partition(";")[0].strip().lower()


def length_of(answer: Answer) -> int | None:
    """Read the `Content-Length` of an answer to HEAD."""
    told = (answer.header("Content-Length") or "").strip()
    return int(told) if _LENGTH.match(told) else None
