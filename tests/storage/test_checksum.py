import hashlib

import pytest

from polyana.storage import checksum_of, has_checksum, is_checksum, sha256_if_whole, sha256_of
from polyana.storage.hashed import BUFFER, HashedFile

# BLAKE3's own test vectors: the first so many bytes of 0, 1, ... 250, 0, 1, ...; the first 32 bytes of the output.
# https://github.com/BLAKE3-team/BLAKE3/blob/master/test_vectors/test_vectors.json
VECTORS = {
    0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
    1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
    102400: "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085",
}


@pytest.mark.parametrize("length", VECTORS)
def test_checksums_are_those_of_the_standards(length, tmp_path):
    content = bytes(index % 251 for index in range(length))
    (tmp_path / "a").write_bytes(content)
    ours, theirs = f"blake3-{VECTORS[length]}", hashlib.sha256(content).hexdigest()
    assert (checksum_of(tmp_path / "a"), sha256_of(tmp_path / "a")) == (ours, theirs)
    for checksum in (ours, theirs):
        assert is_checksum(checksum)
        assert has_checksum(tmp_path / "a", checksum)
        assert sha256_if_whole(tmp_path / "a", checksum) == theirs
    (tmp_path / "a").write_bytes(content[:-1] + b"!")
    for checksum in (ours, theirs):
        assert not has_checksum(tmp_path / "a", checksum)
        assert sha256_if_whole(tmp_path / "a", checksum) is None


def test_what_is_no_checksum(tmp_path):
    for text in ("", "blake3-", "a" * 63, "g" * 64, f"blake3-{'a' * 65}", f"../{'a' * 61}", f"md5-{'a' * 64}"):
        assert not is_checksum(text)


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("more", [0, 1, 4096, 4097])
def test_a_file_is_hashed_as_it_is_written(more, direct, tmp_path, monkeypatch):
    """Of whole buffers and a rest; past the system's cache and through it."""
    if not direct:
        monkeypatch.setattr("polyana.storage.hashed._DIRECT", 0)
    pieces = [bytes([index]) * BUFFER for index in range(5)] + [b"x" * more]
    with HashedFile(tmp_path / "a") as file:
        for piece in pieces:
            file.buffer()[: len(piece)] = piece
            file.write(len(piece))
    assert (tmp_path / "a").read_bytes() == b"".join(pieces)
    assert file.checksum == checksum_of(tmp_path / "a")


def test_a_full_disk_is_told_while_or_after_it_is_written(small_disk):
    def fill():
        with HashedFile(small_disk / "a") as file:
            for _ in range(8):
                file.buffer()[:] = bytes(BUFFER)
                file.write(BUFFER)

    with pytest.raises(OSError, match="No space left"):
        fill()
