"""Files of scalars for TensorBoard, written without it and without TensorFlow.

A file is a row of records: the length of the bytes of an event, uint64, and these, each
with its masked CRC-32C behind it (TensorFlow, core/lib/io/record_writer.h). An event is
a message of protocol buffers, of which a few fields are needed (core/util/event.proto,
core/framework/summary.proto).
"""

import itertools
import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from keras_en import files

_VERSION = b"brain.Event:2"
_NUMBER = itertools.count()
# Types of fields on the wire: an integer of variable length, 8 bytes, bytes, 4 bytes.
_VARINT, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5


class EventFile:
    """A new file in a folder, which is there from the first scalars on.

    Args:
        folder: Where TensorBoard looks; the files of a resumed run stand side by side.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self._path: Path | None = None

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Adds numbers by their tags."""
        now = _field(1, _DOUBLE, struct.pack("<d", time.time()))
        values = b"".join(
            _message(
                1, _message(1, tag.encode()) + _field(2, _FLOAT, struct.pack("<f", v))
            )
            for tag, v in scalars.items()
        )
        event = now + _field(2, _VARINT, _varint(step)) + _message(5, values)
        records, path = [event], self._path
        if path is None:
            path = self._new_path()
            records = [now + _message(3, _VERSION), event]
        files.append(path, b"".join(map(_record, records)))
        self._path = path

    def _new_path(self):
        self._folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads them in the order of their names.
        parts = (f"{int(time.time()):010d}", socket.gethostname(), str(os.getpid()))
        name = ".".join(["events.out.tfevents", *parts, str(next(_NUMBER))])
        return self._folder / name


def _record(data):
    length = struct.pack("<Q", len(data))
    return b"".join((length, _masked(length), data, _masked(data)))


def _masked(data):
    crc = _crc32c(data)
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + 0xA282EAD8) & 0xFFFFFFFF)


def _crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _entry(value):
    # Castagnoli's polynomial, its bits turned around.
    for _ in range(8):
        value = value >> 1 ^ 0x82F63B78 * (value & 1)
    return value


_TABLE = [_entry(value) for value in range(256)]


def _message(number, data):
    return _field(number, _BYTES, _varint(len(data)) + data)


def _field(number, kind, data):
    return _varint(number << 3 | kind) + data


def _varint(value):
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
