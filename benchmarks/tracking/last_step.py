"""The newest step in a rival's files by its own reader: `python last_step.py tensorboard|wandb DIRECTORY`."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

BLOCK = 32_768


def tensorboard(directory: Path) -> int:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    return max(event.step for path in directory.rglob("events*") for event in EventFileLoader(str(path)).Load())


def wandb(directory: Path) -> int:
    from wandb.proto import wandb_internal_pb2

    (path,) = directory.rglob("*.wandb")
    last = 0
    for data in leveldb_records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.HasField("history"):
            last = max(last, record.history.step.num)
    return last


def leveldb_records(content: bytes) -> Iterator[bytes]:
    """The whole records of a LevelDB log: blocks of 32 KB, in them pieces with checksum (4 bytes), length (2) and kind
    (1: all of a record, 2: its beginning, 3: its middle, 4: its end). W&B puts 7 bytes of its own in front."""
    record, at = b"", 7
    while at + 7 <= len(content):
        left = BLOCK - at % BLOCK
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        piece = content[at + 7 : at + 7 + length]
        at += 7 + length
        record = piece if kind in (1, 2) else record + piece
        if kind in (1, 4) and len(piece) == length:
            yield record


if __name__ == "__main__":
    print({"tensorboard": tensorboard, "wandb": wandb}[sys.argv[1]](Path(sys.argv[2])))
