"""Chunks as zstd frames (RFC 8878): those that did not shrink become frames of raw blocks, without any compressing."""

from app.files.chunker import CODEC_PLAIN, CODEC_ZSTD

_MAGIC = bytes.fromhex("28b52ffd")
# The frame says its size in four bytes, and needs no more window than that ("single segment").
_DESCRIPTOR = b"\xa0"
_BLOCK_BYTES = 128 * 1024
_HEADER_BYTES, _BLOCK_HEADER_BYTES = 9, 3


def packed(codec: int, data: bytes) -> bytes:
    """The stored bytes of a chunk as a zstd frame."""
    if codec == CODEC_ZSTD:
        return data
    if codec == CODEC_PLAIN:
        return _raw_frame(data)
    raise ValueError(f"chunk codec {codec} is not known to this version of Tallyhook: run the newer version")


def frame_overhead(size: int) -> int:
    """How many bytes longer than its `size` bytes a chunk that did not shrink is as a frame."""
    return _HEADER_BYTES + _BLOCK_HEADER_BYTES * -(-size // _BLOCK_BYTES)


def _raw_frame(data: bytes) -> bytes:
    parts = [_MAGIC, _DESCRIPTOR, len(data).to_bytes(4, "little")]
    for start in range(0, len(data), _BLOCK_BYTES):
        block = data[start : start + _BLOCK_BYTES]
        is_last = start + len(block) == len(data)
        parts += [(len(block) << 3 | is_last).to_bytes(_BLOCK_HEADER_BYTES, "little"), block]
    return b"".join(parts)
