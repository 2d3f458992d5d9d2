"""Files that survive: atomic writes, locks, checksums, room on the disk, and what finished stages made."""

from polyana.storage.artifact import Artifact, ArtifactStore, Making, Step, changes, fingerprint, fingerprints
from polyana.storage.digest import ContentDigests
from polyana.storage.disk import disk_used, free_bytes, is_disk_full, retry_when_full, show_bytes, wait_for_room
from polyana.storage.durable import building, flush_to_disk, link_or_copy, read_json, sha256_of, write_file, write_json
from polyana.storage.hashed import HashedFile
from polyana.storage.home import home_directory
from polyana.storage.lock import alone, is_held, locked, shared

__all__ = [
    "Artifact",
    "ArtifactStore",
    "ContentDigests",
    "HashedFile",
    "Making",
    "Step",
    "alone",
    "building",
    "changes",
    "disk_used",
    "fingerprint",
    "fingerprints",
    "flush_to_disk",
    "free_bytes",
    "home_directory",
    "is_disk_full",
    "is_held",
    "link_or_copy",
    "locked",
    "read_json",
    "retry_when_full",
    "sha256_of",
    "shared",
    "show_bytes",
    "wait_for_room",
    "write_file",
    "write_json",
]
