"""Pure rules of the OCI specifications: no I/O, no Twisted.

The grammar of names, tags and digests, what makes a manifest valid, and the tree of errors that every
other room raises.
"""

from nora.oci.digest import Digest, Hasher
from nora.oci.manifest import (
    ACCEPTED_MEDIA_TYPES,
    MAX_MANIFEST_SIZE,
    MAX_SIZE,
    Descriptor,
    Manifest,
)
from nora.oci.reference import Reference, Repository, Tag, check_name, parse_reference

__all__ = [
    "ACCEPTED_MEDIA_TYPES",
    "MAX_MANIFEST_SIZE",
    "MAX_SIZE",
    "Descriptor",
    "Digest",
    "Hasher",
    "Manifest",
    "Reference",
    "Repository",
    "Tag",
    "check_name",
    "parse_reference",
]
