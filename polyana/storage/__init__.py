"""Files that survive: atomic writes, locks, checksums, room on the disk, and what finished stages made."""

from polyana.storage.artifact import Artifact, ArtifactStore, Making, Step, changes, fingerprint, fingerprints
from polyana.storage.checksum import Checksum, checksum_of, has_checksum, is_checksum, sha256_if_whole, sha256_of
from polyana.storage.digest import ContentDigests
from polyana.storage.disk import delete, disk_used, free_bytes, is_disk_full, retry_when_full, show_bytes, wait_for_room
from polyana.storage.durable import (
    append_lines,
    building,
    flush_to_disk,
    json_text,
    link_or_copy,
    read_json,
    write_file,
    write_files,
    write_json,
)
from polyana.storage.hashed import HashedFile
from polyana.storage.home import home_directory
from polyana.storage.lock import alone, is_held, locked, shared

__all__ = [
    "Artifact",
    "ArtifactStore",
    "Checksum",
    "ContentDigests",
    "HashedFile",
    "Making",
    "Step",
    "alone",
    "append_lines",
    "building",
    "changes",
    "checksum_of",
    "delete",
    "disk_used",
    "fingerprint",
    "fingerprints",
    "flush_to_disk",
    "free_bytes",
    "has_checksum",
    "home_directory",
    "is_checksum",
    "is_disk_full",
    "is_held",
    "json_text",
    "link_or_copy",
    "locked",
    "read_json",
    "retry_when_full",
    "sha256_if_whole",
    "sha256_of",
    "shared",
    "show_bytes",
    "wait_for_room",
    "write_file",
    "write_files",
    "write_json",
]
