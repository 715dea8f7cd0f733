"""Find faults that MP3 decoders pass over in silence: missing frames, and guessed lengths.

libsndfile reads such files without an error and returns other sound than they hold:
``tests/datamodules/sound/test_mp3.py`` shows it (`test_the_decoder_alone_loses_sound_in_silence`).
`mp3_fault` finds them.

Conventions:
    A file is a row of layer III frames. Each has a header of four bytes that gives its length. Tags
    may come before and after. The first frame may give the number of frames (Xing, LAME and
    Fraunhofer write it). If it does not, libsndfile guesses the number from the size of the file
    and reads at most that much.
"""

_COMMON = 0xFFFE0C00  # bits of a header that all frames share: sync, version, layer, rate
_SAMPLE_RATES = (44_100, 48_000, 32_000)  # Hz, of MPEG 1
_BIT_RATES = (  # kbit/s, of MPEG 2 and 2.5, and of MPEG 1
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
_LENGTH_MARKS = (b"Xing", b"Info", b"VBRI")
_TRIMMED = 1152 + 2 * 4095  # samples at most: the first frame, and what is cut at both ends
_END_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN")


def mp3_fault(data: bytes, n_read: int, declared: int) -> str | None:
    """Return what is wrong with an MP3 file; None if nothing is.

    Args:
        data: bytes of the file.
        n_read: number of samples that were decoded.
        declared: number of samples that the decoder had announced.
    """
    at, last, common, n_samples, has_length = 0, 0, None, 0, False
    while data.startswith(b"ID3", at) and len(data) > at + 10:
        size = sum(digit << 7 * (3 - i) for i, digit in enumerate(data[at + 6 : at + 10]))
        at += 10 + size + 10 * (data[at + 5] >> 4 & 1)
    while at < len(data):
        head = int.from_bytes(data[at : at + 4], "big")
        length = _frame(head)
        if not length or (common is not None and head & _COMMON != common):
            if common is None or (any(data[at:]) and not data.startswith(_END_TAGS, at)):
                return f"damaged: no MP3 frame at byte {at}: get it again"
            break
        if common is None:
            has_length = any(mark in data[at : at + length] for mark in _LENGTH_MARKS)
        last, at, common = at, at + length, head & _COMMON
        n_samples += 1152 if head >> 19 & 1 else 576
    if has_length and n_read < declared:
        return f"truncated: {n_read} samples of {declared}: get it again"
    if at > len(data):
        return f"truncated in the frame at byte {last}: get it again"
    if n_samples - n_read > (_TRIMMED if has_length else 0):
        return (
            f"{n_read} samples of {n_samples} can be read, since its first frame does not tell"
            " of all: convert it to FLAC"
        )
    return None


def _frame(head: int) -> int:
    """Return the length in bytes of a layer III frame with this header; 0 if it is no header."""
    version, layer, bit_rate, rate = head >> 19 & 3, head >> 17 & 3, head >> 12 & 15, head >> 10 & 3
    if head >> 21 != 0x7FF or version == 1 or layer != 1 or bit_rate in (0, 15) or rate == 3:
        return 0
    per_second = _SAMPLE_RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]  # MPEG 1, 2 and 2.5
    bits = 1000 * _BIT_RATES[version == 3][bit_rate - 1]
    return (144 if version == 3 else 72) * bits // per_second + (head >> 9 & 1)
