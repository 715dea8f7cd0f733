"""What decoders of MP3 pass over in silence: frames that are missing, and lengths they guess.

Conventions:
    A file is a row of frames of layer III, each with a header of four bytes that says how long it
    is; tags may come before and after. The first frame may tell how many there are (the marks of
    Xing, LAME and Fraunhofer). If it does not, libsndfile guesses from the size of the file, and
    reads at most as much as it guessed.
"""

_KIND = 0xFFFE0C00  # of a header: sync, version, layer and rate, which all frames have in common
_RATES = (44_100, 48_000, 32_000)  # Hz, of MPEG 1
_BIT_RATES = (  # kbit/s, of MPEG 2 and 2.5, and of MPEG 1
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
_LENGTHS = (b"Xing", b"Info", b"VBRI")
_TRIMMED = 1152 + 2 * 4095  # samples at most, of the telling frame and what is cut at both ends
_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN")  # that come after the frames


def mp3_fault(data: bytes, n_read: int, declared: int) -> str | None:
    """What is wrong with an MP3 file, if anything.

    Args:
        data: The file.
        n_read: Samples that were decoded.
        declared: Samples that the decoder told before.
    """
    at, last, kind, n_samples, told = 0, 0, None, 0, False
    while data.startswith(b"ID3", at) and len(data) > at + 10:
        size = sum(digit << 7 * (3 - i) for i, digit in enumerate(data[at + 6 : at + 10]))
        at += 10 + size + 10 * (data[at + 5] >> 4 & 1)
    while at < len(data):
        head = int.from_bytes(data[at : at + 4], "big")
        length = _frame(head)
        if not length or (kind is not None and head & _KIND != kind):
            if kind is None or (any(data[at:]) and not data.startswith(_TAGS, at)):
                return f"damaged: no MP3 frame at byte {at}: get it again"
            break
        if kind is None:
            told = any(mark in data[at : at + length] for mark in _LENGTHS)
        last, at, kind = at, at + length, head & _KIND
        n_samples += 1152 if head >> 19 & 1 else 576
    if told and n_read < declared:
        return f"truncated: {n_read} samples of {declared}: get it again"
    if at > len(data):
        return f"truncated in the frame at byte {last}: get it again"
    if n_samples - n_read > (_TRIMMED if told else 0):
        return (
            f"{n_read} samples of {n_samples} can be read, since its first frame does not tell"
            " of all: convert it to FLAC"
        )
    return None


def _frame(head: int) -> int:
    """Bytes of a layer III frame by its header; 0 if that is none."""
    version, layer, bit_rate, rate = head >> 19 & 3, head >> 17 & 3, head >> 12 & 15, head >> 10 & 3
    if head >> 21 != 0x7FF or version == 1 or layer != 1 or bit_rate in (0, 15) or rate == 3:
        return 0
    per_second = _RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]  # MPEG 1, 2 and 2.5
    bits = 1000 * _BIT_RATES[version == 3][bit_rate - 1]
    return (144 if version == 3 else 72) * bits // per_second + (head >> 9 & 1)
