"""A training set as tar files of some 100 MB, in the layout of webdataset, on a disk or in an object store.

A terabyte of small files is slow to list and to fetch; a few thousand tar files are not, and they can be read one
after the other without unpacking. Each clip is two members of a tar: its audio file as it was, and a JSON file with its
label, speaker, licence and path. ``shards.json`` beside them says what each split and shard holds; `train` reads it
first. ``clips.csv`` lists the clips, for the card of what was trained on them.
"""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from sourceprior.datasets import BadClip, Clip, ClipBank, decode, licence_filter
from sourceprior.errors import UserError
from sourceprior.packs import is_pack
from sourceprior.stem_files import make_folder

INDEX, LIST = "shards.json", "clips.csv"
TRIES = 3


@dataclass(frozen=True)
class Tally:
    """How many clips and seconds of a label have a licence."""

    label: str
    licence: str
    clips: int
    seconds: float


def write_shards(
    root: str | Path,
    folder: str | Path,
    splits: Sequence[str] = ("train", "valid"),
    licence: str = "commercial",
    megabytes: float = 100.0,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Write splits of a data folder as shards, clips in random order; returns the paths of bad clips, left out.

    Args:
        root: a folder with a manifest, a folder per class, or a pack or a data set as it was downloaded (of these the
            clips are written as FLAC at 16 kHz).
        megabytes: size of a shard; the last one of a split is smaller.
        progress: called with (clips written, clips).

    Raises:
        UserError: webdataset is not installed, there is no clip of a split, or the folder cannot be written to.
    """
    try:
        return _write(root, Path(folder), splits, licence, megabytes, progress)
    except OSError as error:
        raise UserError(f"The shards in '{folder}' cannot be written: {error.strerror or error}.") from error


def _write(
    root: str | Path, folder: Path, splits: Sequence[str], licence: str, megabytes: float,
    progress: Callable[[int, int], None] | None,
) -> list[str]:  # fmt: skip
    webdataset = _webdataset()
    from sourceprior.corpus import is_listed, is_plain, reader_of, some_of

    if not megabytes > 0:
        raise UserError(f"--megabytes is more than 0, not {megabytes:g}.")
    chosen = {split: some_of(root, split, licence) for split in splits}
    folder = make_folder(folder)
    if folder.samefile(root):
        raise UserError(f"The shards would lie among the clips of '{root}': choose another -o.")
    # Shards have their index last: an interrupted set is none.
    (folder / INDEX).unlink(missing_ok=True)
    index: dict[str, Any] = {"format": 1, "licence": licence, "own": is_plain(root), "splits": {}}
    table: list[tuple[str, str, str, float, str]] = []
    total, done, bad = sum(map(len, chosen.values())), 0, []
    for split, clips in chosen.items():
        as_they_are = is_plain(root) or (is_listed(root) and not is_pack(root))
        read = None if as_they_are else reader_of(root, split)
        clips = random.Random(0).sample(clips, len(clips))
        shards: list[dict[str, Any]] = []
        tally: dict[tuple[str, str], list[float]] = {}
        writer, size = None, 0
        for i, clip in enumerate(clips):
            try:
                ending, content, seconds = _content(clip, read)
            except BadClip:
                bad.append(str(clip.path))
                continue
            finally:
                done += 1
                if progress:
                    progress(done, total)
            if writer is None or size > 1e6 * megabytes:
                if writer is not None:
                    writer.close()
                name = f"{split}-{len(shards):05d}.tar"
                writer, size = webdataset.TarWriter(str(folder / name)), 0
                shards.append({"name": name, "clips": 0, "seconds": 0.0})
            facts = {
                "path": clip.path.relative_to(root).as_posix(), "label": clip.label, "speaker": clip.speaker,
                "licence": clip.licence, "voice": clip.voice, "seconds": seconds,
            }  # fmt: skip
            writer.write({"__key__": f"{i:08d}", ending: content, "json": json.dumps(facts).encode()})
            table.append((split, str(facts["path"]), clip.label, seconds, clip.licence))
            size += len(content) + 2048
            shards[-1]["clips"] += 1
            shards[-1]["seconds"] = round(shards[-1]["seconds"] + seconds, 3)
            row = tally.setdefault((clip.label, clip.licence), [0, 0.0])
            row[0], row[1] = row[0] + 1, row[1] + seconds
        if writer is None:
            raise UserError(f"No clip of split '{split}' in '{root}' can be read.")
        writer.close()
        rows = [asdict(Tally(*key, int(n), round(s, 3))) for key, (n, s) in sorted(tally.items())]
        index["splits"][split] = {"shards": shards, "tally": rows}
    for name in ("ATTRIBUTION.md", "CREDITS.md"):
        if (Path(root) / name).is_file():
            shutil.copyfile(Path(root) / name, folder / name)
    with (folder / LIST).open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([("split", "path", "label", "seconds", "licence"), *table])
    (folder / INDEX).write_text(json.dumps(index | {"list": LIST}, indent=1) + "\n")
    return bad


def _content(clip: Clip, read: Callable[[Path, int], np.ndarray] | None) -> tuple[str, bytes, float]:
    """Ending, bytes and length of a clip's audio file. Raises BadClip."""
    if read is not None:
        file = io.BytesIO()
        wave = read(clip.path, 16000)
        soundfile.write(file, wave, 16000, format="FLAC")
        return "flac", file.getvalue(), round(len(wave) / 16000, 3)
    try:
        content = clip.path.read_bytes()
        about = soundfile.info(io.BytesIO(content))
    except (OSError, soundfile.SoundFileError) as error:
        raise BadClip(clip.path, "broken") from error
    # A name need not have an ending; webdataset does.
    return clip.path.suffix[1:].lower() or about.format.lower(), content, round(about.duration, 3)


def is_shards(root: str | Path) -> bool:
    """Whether ``--data`` names shards: a folder with their index, or an address."""
    return is_address(root) or (Path(root) / INDEX).is_file()


def is_address(root: str | Path) -> bool:
    """Whether this is no folder: ``https://...``, or ``pipe:COMMAND {}``, a command that prints a file of that name."""
    return str(root).startswith(("http://", "https://", "pipe:"))


class Shards:
    """Shards of a data set.

    Args:
        root: their folder or address (`is_address`).
        licence: "commercial" leaves out clips whose licence forbids commercial use; "any" keeps all.

    Raises:
        UserError: the index cannot be fetched or is none.
    """

    def __init__(self, root: str | Path, licence: str = "commercial") -> None:
        self.root, self.filter = root, licence_filter(licence)
        try:
            self.index = json.loads(_fetch(self.address(INDEX)))
            if self.index["format"] != 1:
                raise UserError(f"'{root}' was written by another version of sourceprior: write the shards again.")
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"The index {INDEX} of '{root}' cannot be read: {error}.") from error

    def address(self, name: str) -> str:
        """Where a file of the set is, as webdataset opens it."""
        if str(self.root).startswith("pipe:"):
            return str(self.root).replace("{}", name)
        return f"{str(self.root).rstrip('/')}/{name}" if is_address(self.root) else str(Path(self.root) / name)

    def split(self, name: str) -> dict[str, Any]:
        """The index of a split. Raises UserError if there is none."""
        if name not in self.index["splits"]:
            raise UserError(f"'{self.root}' holds no split '{name}', only {', '.join(self.index['splits'])}.")
        return self.index["splits"][name]

    def tally(self, split: str) -> list[Tally]:
        """Clips and seconds per label and licence, of the licences that were asked for."""
        rows = [Tally(**row) for row in self.split(split)["tally"]]
        return [row for row in rows if self.wants(row.licence)]

    def clips(self, split: str) -> list[Clip]:
        """The clips of the licences that were asked for; none where only `tally` is known, as before there was a list.

        Raises UserError if the list cannot be fetched.
        """
        if "list" not in self.index:
            return []
        address = self.address(self.index["list"])
        try:
            rows = csv.DictReader(io.StringIO(_fetch(address).decode("utf-8", "surrogateescape")))
            found = [
                Clip(Path(row["path"]), split, row["label"], "", row["licence"], float(row["seconds"]))
                for row in rows if row["split"] == split and self.wants(row["licence"])
            ]  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"The list '{address}' cannot be read: {error}.") from error
        return sorted(found, key=lambda clip: clip.path)

    def wants(self, licence: str) -> bool:
        """Whether clips of a licence were asked for; those of a folder per class, which names none, always are."""
        return bool(self.index.get("own")) or self.filter(licence)

    def read(self, shard: str, split: str) -> Iterator[tuple[Clip, bytes]]:
        """Clips of a shard with the bytes of their audio files; a shard that is cut short ends early.

        Raises UserError if it cannot be opened.
        """
        webdataset = _webdataset()
        failed: list[Exception] = []

        def stop(error: Exception) -> bool:
            failed.append(error)
            return False

        samples = webdataset.WebDataset(
            self.address(shard), shardshuffle=False, handler=stop, empty_check=False,
            # Every process reads all shards: its batches must not depend on how many there are.
            nodesplitter=lambda urls: urls, workersplitter=lambda urls: urls,
        )  # fmt: skip
        count = 0
        for sample in samples:
            ending = next((key for key in sample if key != "json" and not key.startswith("__")), None)
            if ending is None or "json" not in sample:
                continue
            facts = json.loads(sample["json"])
            count += 1
            yield (
                Clip(Path(facts["path"]), split, facts["label"], facts["speaker"], facts["licence"], facts["seconds"],
                     facts["voice"]),
                sample[ending],
            )  # fmt: skip
        if failed and not count:
            raise UserError(f"The shard '{self.address(shard)}' cannot be read: {failed[0]}.") from failed[0]

    def bank(
        self,
        names: Sequence[str],
        split: str,
        labels: Sequence[str],
        sample_rate: int = 16000,
        change: Callable[[list[Clip]], list[Clip]] = lambda clips: clips,
        workers: int = 4,
    ) -> ClipBank:
        """The clips of some shards in memory; bad ones and what a cut shard lacks are in its `bad`."""
        clips: list[Clip] = []
        waves: dict[Path, np.ndarray | BadClip] = {}
        short: dict[str, str] = {}
        expected = {entry["name"]: entry["clips"] for entry in self.split(split)["shards"]}
        for name in names:
            found = self._tried(name, split)
            if len(found) < expected[name]:
                short[self.address(name)] = (
                    f"cut short: {expected[name] - len(found)} of {expected[name]} clips missing"
                )

            def get(item: tuple[Clip, bytes]) -> np.ndarray | BadClip:
                try:
                    return decode(io.BytesIO(item[1]), sample_rate, item[0].path)
                except BadClip as error:
                    return error

            kept = [item for item in found if self.wants(item[0].licence)]
            with ThreadPoolExecutor(workers) as pool:
                for (clip, _), wave in zip(kept, pool.map(get, kept), strict=True):
                    clips.append(clip)
                    waves[clip.path] = wave

        def read(path: Path, _rate: int) -> np.ndarray:
            wave = waves[path]
            if isinstance(wave, BadClip):
                raise wave
            return wave

        bank = ClipBank(sorted(change(clips), key=lambda clip: clip.path), labels, sample_rate, read=read)
        bank.bad |= short
        return bank

    def _tried(self, name: str, split: str) -> list[tuple[Clip, bytes]]:
        """A shard's clips; a store that does not answer is asked again."""
        for left in reversed(range(TRIES)):
            try:
                return list(self.read(name, split))
            except UserError:
                if not left:
                    raise
        raise AssertionError


def counted(clips: Sequence[Clip]) -> list[Tally]:
    """The tally of a list of clips."""
    number, seconds = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for clip in clips:
        number[clip.label, clip.licence] += 1
        seconds[clip.label, clip.licence] += clip.seconds  # type: ignore[assignment]
    return [Tally(*key, number[key], round(float(seconds[key]), 3)) for key in sorted(number)]


def _fetch(address: str) -> bytes:
    """A file's content, from wherever webdataset opens it; local files need no webdataset."""
    if Path(address).is_file():
        return Path(address).read_bytes()
    with _webdataset().gopen(address) as stream:
        return stream.read()


def _webdataset() -> Any:
    try:
        import webdataset
    except ImportError as error:
        raise UserError("Shards need webdataset: pip install 'sourceprior[train]'.") from error
    return webdataset
