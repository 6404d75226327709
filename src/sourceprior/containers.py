"""What libsndfile would miss of a file: samples that its header, or its first part, does not tell of.

A file is read as other bytes where that helps, and nothing is written:

    WAV, RF64   whose recorder never wrote the length: as if it were in the header
    MP3         without a count of its frames, or joined from several: as if it began with a frame that counts them
    Ogg         several streams one after another, as an Internet radio sends them: each as a file of its own
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import soundfile as sf

KBPS = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
"""Bit rates of MPEG-1 and of MPEG-2 (and 2.5), layer III."""
RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Hz, by the two bits of the version."""
FIELD = (1 << 32) - 1
"""The greatest length that a WAV file's header holds."""
LOST = 1 << 17
"""Bytes that are searched for the next frame of an MP3 file where something else lies between two."""


Parts = list[bytes | tuple[int, int]]
"""Of a file: bytes, or ranges (start, stop) of another file."""


class Spliced(io.RawIOBase):
    """A file of parts of another one, and of other bytes.

    Args:
        parts: bytes, or ranges of the file at `path`.
    """

    def __init__(self, path: Path, parts: Parts) -> None:
        super().__init__()
        self.file, self.parts, self.place = path.open("rb"), parts, 0
        self.sizes = [len(part) if isinstance(part, bytes) else part[1] - part[0] for part in parts]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: sum(self.sizes)}[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def readinto(self, buffer: Any) -> int:
        wanted, done, start = memoryview(buffer).cast("B"), 0, 0
        for part, size in zip(self.parts, self.sizes, strict=True):
            inside = self.place - start
            if 0 <= inside < size and done < len(wanted):
                count = min(size - inside, len(wanted) - done)
                if isinstance(part, bytes):
                    wanted[done : done + count] = part[inside : inside + count]
                else:
                    self.file.seek(part[0] + inside)
                    count = self.file.readinto(wanted[done : done + count])
                self.place += count
                done += count
            start += size
        return done

    def close(self) -> None:
        self.file.close()
        super().close()


def others(path: Path, file: sf.SoundFile) -> tuple[list[Spliced], bool]:
    """The files to read one after another in place of one that is open already; none where that is right as it is.

    And whether the file is whole as far as it tells: an Ogg file that breaks off is simply a shorter one to libsndfile.
    """
    if file.format in ("WAV", "WAVEX", "RF64") and (not file.frames or path.stat().st_size > FIELD):
        parts = unfinished(path)
        return [Spliced(path, parts)] if parts else [], True
    if file.format == "MP3" and (parts := uncounted(path)):
        return [Spliced(path, parts)], True
    if file.format == "OGG":
        links, ended = chained(path)
        return [Spliced(path, [link]) for link in links] if len(links) > 1 else [], ended
    return [], True


def unfinished(path: Path) -> Parts | None:
    """Parts of a WAV file with the length of its samples in the header, if that has 0 though some follow.

    That is how a recorder leaves it that was cut off; others write on beyond the 4 GiB that the length's field holds.
    None where a file is right, or where what follows are chunks up to the end of the file: then it is empty indeed.
    """
    found: Parts | None = None
    place, size, long = 12, path.stat().st_size, 0
    with path.open("rb") as file:
        while place + 8 <= size:
            file.seek(place)
            chunk = file.read(24)
            name, length, rest = chunk[:4], int.from_bytes(chunk[4:8], "little"), size - place - 8
            if found and not all(32 <= letter < 127 for letter in name):
                return found
            if name == b"ds64" and not any(chunk[16:24]):
                # RF64: the length of the samples in 8 bytes, after that of the file.
                long = place + 16
            if not found and name == b"data":
                if long:
                    found, length = [(0, long), rest.to_bytes(8, "little"), (long + 8, size)], 0
                elif rest > FIELD and length in (0, rest % (FIELD + 1)):
                    lengths = (size + 28).to_bytes(8, "little") + rest.to_bytes(8, "little") + bytes(12)
                    head = b"RF64" + b"\xff" * 4 + b"WAVEds64" + len(lengths).to_bytes(4, "little") + lengths
                    return [head, (12, place + 4), b"\xff" * 4, (place + 8, size)]
                elif length:
                    return None
                else:
                    # libsndfile takes the greatest length for whatever is there.
                    found = [(0, place + 4), b"\xff" * 4, (place + 8, size)]
            # Chunks begin at even places.
            place += 8 + length + length % 2
    return found if place > size + 1 else None


def uncounted(path: Path) -> Parts | None:
    """Parts of an MP3 file with a count of its frames in front, if it has none, or more frames than it tells of.

    Without a count libsndfile guesses the length from the bit rate of the first frame, and reads no further. The count
    is that of a "Xing" header: a frame of silence, which a decoder leaves out.
    """
    with path.open("rb") as file:
        first, size, count, end = 0, 0, 0, 0
        for place, length in mp3_frames(file):
            if not count:
                first, size = place, length
            count, end = count + 1, place + length
        file.seek(first)
        told = file.read(200)
    if not count:
        return None
    mark = max(told.find(b"Xing"), told.find(b"Info"))
    if b"VBRI" in told or (mark >= 0 and not told[mark + 7] & 1):
        return None
    start = first
    if mark >= 0:
        counted = int.from_bytes(told[mark + 8 : mark + 12], "big")
        start, count = first + size, count - 1
        if count <= counted + 1:
            return None
    # 128 kbit/s or 80 of MPEG-2, which leaves room for the count; no checksum.
    header = bytes([told[0], told[1] | 1, 0x90 | (told[2] & 0x0C), told[3]])
    side = {(3, False): 32, (3, True): 17, (2, False): 17, (2, True): 9}
    version, mono = (header[1] >> 3) & 3, header[3] >> 6 == 3
    whole = mp3_frame(header)
    frame = header + bytes(side[3 if version == 3 else 2, mono]) + b"Xing"
    frame += struct.pack(">III", 3, count, end - start + whole)
    return [frame + bytes(whole - len(frame)), (start, end)]


def mp3_frames(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Places and sizes in bytes of an MPEG file's frames of layer III; none for other layers, or a free bit rate."""
    end, place, kind = file.seek(0, io.SEEK_END), 0, b""
    while place + 4 <= end:
        file.seek(place)
        head = file.read(10)
        if head[:3] == b"ID3" and len(head) == 10:
            # Its size is in 7 bits of each byte.
            place += 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
            continue
        size = mp3_frame(head)
        own = bytes([head[1] & 0xFE, head[2] & 0x0C])
        if size and place + size <= end:
            # All frames have one version, layer and rate; the first two agree, or it may be anything.
            if not kind:
                file.seek(place + size)
                following = file.read(4)
                if place + size == end or (mp3_frame(following) and following[1] & 0xFE == head[1] & 0xFE):
                    kind = own
            if own == kind:
                yield place, size
                place += size
                continue
        file.seek(place + 1)
        rest = file.read(LOST)
        place = min((place + 1 + at for at in (rest.find(b"\xff"), rest.find(b"ID3")) if at >= 0), default=end)


def mp3_frame(header: bytes) -> int:
    """Bytes of the frame with this header, of four bytes and more; 0 if it is none of layer III."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, rate, index = (header[1] >> 3) & 3, (header[2] >> 2) & 3, header[2] >> 4
    if version == 1 or rate == 3 or index in (0, 15):
        return 0
    kbps, samples = (KBPS[0][index], 144) if version == 3 else (KBPS[1][index], 72)
    return samples * 1000 * kbps // RATES[version][rate] + ((header[2] >> 1) & 1)


def chained(path: Path) -> tuple[list[tuple[int, int]], bool]:
    """Ranges of the streams of an Ogg file that follow one another, and whether the last one comes to its end.

    Streams side by side are one range.
    """
    starts, place, ended, size = [0], 0, False, path.stat().st_size
    with path.open("rb") as file:
        while place + 27 <= size:
            file.seek(place)
            page = file.read(27 + 255)
            if page[:4] != b"OggS":
                break
            begins, ends = page[5] & 2, page[5] & 4
            if begins and ended:
                starts.append(place)
            ended = bool(ends) or (ended and not begins)
            place += 27 + page[26] + sum(page[27 : 27 + page[26]])
    return list(zip(starts, [*starts[1:], size], strict=True)), ended and place <= size
