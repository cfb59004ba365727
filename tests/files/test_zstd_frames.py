"""Chunks that did not shrink are still zstd, byte for byte."""

import os

import pytest
import zstandard

from app.files.chunker import CODEC_PLAIN
from app.files.zstd_frames import frame_overhead, packed


@pytest.mark.parametrize("size", [1, 5, 128 * 1024 - 1, 128 * 1024, 128 * 1024 + 1, 256 * 1024, 300_000])
def test_a_plain_chunk_becomes_a_frame_of_the_size_that_was_told(size: int) -> None:
    data = os.urandom(size)

    frame = packed(CODEC_PLAIN, data)

    assert zstandard.ZstdDecompressor().decompress(frame) == data
    assert len(frame) == size + frame_overhead(size)


def test_a_codec_of_a_newer_version_is_said_to_be_one() -> None:
    with pytest.raises(ValueError, match="run the newer version"):
        packed(9, b"data")
