"""Lists of mixtures for evaluation. The list is the benchmark: rendered twice, on any machine, it gives the same bits.

A mixture names clips, where each is cut and placed, and a gain; all randomness is spent when the list is drawn.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sourceprior.datasets import SPEECH, BadClip, Clip, read_clip, read_manifest
from sourceprior.errors import UserError, alternatives

TASKS = {
    "speech_sound": (1, 1),
    "speech_two_sounds": (1, 2),
    "two_sounds": (0, 2),
    "three_sounds": (0, 3),
    "two_speech": (2, 0),
}
"""Name of a task -> number of speakers and of sounds, all different from one another."""

LEVELS = (-25.0, -20.0)
"""Range of a source's RMS over the whole mixture's length, dB full scale."""
LEVEL_OF = ("whole", "active")
"""What a level is the RMS of: the whole mixture's length, silence included (the paper), or a source's active part."""
SPEECH_AS = ("single", "joined")
"""How a speaker fills a mixture: with one utterance, cropped or placed at random like a sound (as we read the paper),
or with utterances joined until it is full."""

_FULL_SCALE = 32768.0
_BLOCK = 160
_TRIES = 200
_ROUNDING_DB = 0.01
"""How far a source may be from its stated level; what is drawn here is within a ten-millionth."""


HELD = 2**30
"""Bytes of decoded clips that are kept while mixtures are drawn."""


@dataclass(frozen=True)
class Piece:
    """Samples start to stop of a clip, placed at a sample of the mixture."""

    clip: str
    start: int
    stop: int
    at: int


@dataclass(frozen=True)
class PlacedSource:
    """One source: pieces that do not overlap, times a gain that brings their RMS to level_db, see LEVEL_OF."""

    label: str
    pieces: tuple[Piece, ...]
    gain: float
    level_db: float


@dataclass(frozen=True)
class MixtureSpec:
    """One mixture of a list: all that is needed to render it from the clips."""

    task: str
    seed: int
    index: int
    samples: int
    sample_rate: int
    sources: tuple[PlacedSource, ...]
    level_of: str = "whole"

    @property
    def labels(self) -> list[str]:
        """The label of every source."""
        return [source.label for source in self.sources]


def usable_labels(clips: Sequence[Clip], minimum: int, known: Collection[str] | None = None) -> list[str]:
    """Sound classes with at least `minimum` clips, of those in `known` if given, sorted."""
    counts: dict[str, int] = {}
    for clip in clips:
        if clip.label != SPEECH:
            counts[clip.label] = counts.get(clip.label, 0) + 1
    return sorted(label for label, n in counts.items() if n >= minimum and (known is None or label in known))


class Labels(list[str]):
    """Sound classes to draw from, in their order; `left_out` has the reason of each that is not drawn from."""

    def __init__(self, labels: Iterable[str], left_out: Mapping[str, str]) -> None:
        super().__init__(labels)
        self.left_out = dict(left_out)


def labels_to_draw(
    root: str | Path,
    split: str,
    known: Collection[str] | None = None,
    licence: str = "commercial",
    minimum: int | None = None,
) -> Labels:
    """Sound classes of a split that a benchmark draws from: with enough clips, and known.

    Args:
        known: labels of the priors; None for those of the train split, which a baseline could have learned.
        minimum: clips a class must have; by default 4 in the split "test", 2 in others.
    """
    unknown = "unknown to the priors (name one that knows it with --prior, or teach it with `sourceprior learn`)"
    if known is None:
        known, unknown = {clip.label for clip in read_manifest(root, "train", licence)}, "without clips to train with"
    clips, fewest = read_manifest(root, split, licence), minimum or (4 if split == "test" else 2)
    labels = usable_labels(clips, fewest, known)
    left_out = {
        label: unknown if label not in known else f"of fewer than {fewest} clips (--min-clips)"
        for label in usable_labels(clips, 1)
        if label not in labels
    }
    return Labels(labels, left_out)


def draw(
    task: str,
    count: int,
    clips: Sequence[Clip],
    root: str | Path,
    *,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    seconds: float = 4.0,
    sample_rate: int = 16000,
    level_of: str = "whole",
    speech_as: str = "single",
) -> list[MixtureSpec]:
    """A list of `count` mixtures; mixture i depends on the seed and i only, so that longer lists begin alike.

    Every source's RMS is uniform in LEVELS. A sound longer than the mixture is cropped, a shorter one placed at random;
    speech is one utterance, treated alike, or a speaker's utterances joined in random order and cropped. Sources
    overlap for at least half of the shorter one, measured between the first and the last 10 ms within 40 dB of their
    loudest.

    Args:
        task: one of TASKS.
        clips: from one split; sounds are drawn by class first, then by clip.
        root: folder that the clips' paths are written relative to.
        labels: sound classes to draw from; None for all.
        level_of: one of LEVEL_OF; the same clips are drawn for both.
        speech_as: one of SPEECH_AS.

    Raises:
        UserError: an unknown task or option, or too few classes or speakers.
    """
    drawer = Drawer(task, clips, root, labels, seconds, sample_rate, level_of, speech_as)
    return [drawer.spec(seed, i) for i in range(count)]


def _left_out(labels: Sequence[str] | None) -> str:
    """A sentence on the classes that are not drawn from, by reason."""
    reasons: dict[str, list[str]] = {}
    for label, reason in labels.left_out.items() if isinstance(labels, Labels) else ():
        reasons.setdefault(reason, []).append(label)
    parts = [
        f"{', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}: {reason}"
        for reason, names in reasons.items()
    ]
    return f" Left out are {'; '.join(parts)}." if parts else ""


class Drawer:
    """Draws the mixtures of one task, as lists or, for training, as signals; arguments as for `draw`.

    A mixture with a clip that cannot be read is drawn again. `bad` has path and reason of such clips.

    Raises:
        UserError: an unknown task or option, or too few classes or speakers.
    """

    def __init__(
        self,
        task: str,
        clips: Sequence[Clip],
        root: str | Path,
        labels: Sequence[str] | None = None,
        seconds: float = 4.0,
        sample_rate: int = 16000,
        level_of: str = "whole",
        speech_as: str = "single",
    ) -> None:
        for what, name, known in [
            ("task", task, TASKS),
            ("level", level_of, LEVEL_OF),
            ("form of speech", speech_as, SPEECH_AS),
        ]:
            if name not in known:
                raise UserError(f"There is no {what} {name!r}; choose {alternatives(list(known))}.")
        self.task, self.sample_rate, self.level_of, self.speech_as = task, sample_rate, level_of, speech_as
        self.samples = round(seconds * sample_rate)
        self.shop = _Shop(clips, Path(root), labels, sample_rate)
        self.bad = self.shop.bad
        speakers, sounds = TASKS[task]
        if len(self.shop.speakers) < speakers or len(self.shop.sounds) < sounds:
            raise UserError(
                f"Task {task} needs {speakers} speakers and {sounds} sound classes; "
                f"the clips have {len(self.shop.speakers)} and {len(self.shop.sounds)}.{_left_out(labels)}"
            )

    def spec(self, seed: int, index: int) -> MixtureSpec:
        """Mixture `index` of the list of a seed."""
        placed = tuple(source for source, _ in self._draw(f"{self.task}/{seed}/{index}"))
        return MixtureSpec(self.task, seed, index, self.samples, self.sample_rate, placed, self.level_of)

    def sources(self, seed: int, index: int) -> NDArray[np.float32]:
        """What `render` makes of that mixture, `(K, N)`, from clips that are in memory."""
        return np.stack(
            [(wave * (source.gain / _FULL_SCALE)).astype(np.float32) for source, wave in self._draw(
                f"{self.task}/{seed}/{index}"
            )]
        )  # fmt: skip

    def _draw(self, key: str) -> list[tuple[PlacedSource, NDArray[np.int64]]]:
        # A generator seeded by text draws the same numbers in every version and on every machine.
        rng = random.Random(key)
        shop, (speakers, sounds) = self.shop, TASKS[self.task]
        voice = _speech if self.speech_as == "joined" else _sound
        for _ in range(_TRIES):
            try:
                drawn = [
                    (SPEECH, voice(shop, shop.speakers[name], self.samples, rng))
                    for name in _some(shop.speakers, speakers, rng)
                ]
                drawn += [
                    (label, _sound(shop, shop.sounds[label], self.samples, rng))
                    for label in _some(shop.sounds, sounds, rng)
                ]
            except BadClip:
                # Drawn again, not taken off the list: a mixture must not depend on those before it.
                continue
            waves = [wave for _, (_, wave) in drawn]
            if all(wave.any() for wave in waves) and _overlapping(waves):
                return [(_levelled(label, pieces, wave, self.level_of, rng), wave) for label, (pieces, wave) in drawn]
        reason = f": '{next(iter(shop.bad))}' is {next(iter(shop.bad.values()))}" if shop.bad else ""
        raise UserError(f"No overlapping sources were found: the clips are too short, silent or broken{reason}.")


def render(spec: MixtureSpec, root: str | Path) -> NDArray[np.float32]:
    """The sources of a mixture `(K, N)`; the mixture is `mix` of them.

    Integers times one stored gain, so that no rounding depends on the machine.

    Raises:
        UserError: a clip is missing or shorter than the list says, or the source has not the level that it says.
    """
    out = np.zeros((len(spec.sources), spec.samples), np.float32)
    for row, source in zip(out, spec.sources, strict=True):
        whole = np.zeros(spec.samples, np.int64)
        for piece in source.pieces:
            path = Path(root) / piece.clip
            if not path.is_file():
                raise UserError(f"The mixture list names '{piece.clip}', which is not in '{root}'.")
            wave = read_clip(path, spec.sample_rate)[piece.start : piece.stop]
            if len(wave) < piece.stop - piece.start:
                raise UserError(f"'{path}' is shorter than the mixture list says: another version of the data?")
            whole[piece.at : piece.at + len(wave)] = wave
        _check_level(source, whole, spec.level_of)
        row[:] = whole * (source.gain / _FULL_SCALE)
    return out


def _check_level(source: PlacedSource, wave: NDArray[np.int64], level_of: str) -> None:
    """Raise UserError for a source whose clips are not those that its gain was made for."""
    power = source.gain**2 * _power(_measured(wave, level_of))
    level = 10 * math.log10(power) if power > 0 else -math.inf
    if abs(level - source.level_db) > _ROUNDING_DB:
        raise UserError(
            f"'{source.pieces[0].clip}' makes a source of {level:.1f} dBFS where the mixture list says "
            f"{source.level_db:.1f}: give the data that the list was drawn from, or draw another one."
        )


def check_rate(given: int, wanted: int) -> None:
    """Raise UserError for mixtures at another rate, in Hz, than what is to separate them."""
    if given != wanted:
        raise UserError(f"The mixtures have {given} Hz, and what is to separate them {wanted} Hz: draw others.")


def mix(sources: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum of sources `(K, N)`, in their order."""
    total = np.zeros_like(sources[0])
    for source in sources:
        total = total + source
    return total


def write_list(path: str | Path, specs: Iterable[MixtureSpec]) -> None:
    """Write a list as JSON lines, one mixture a line."""
    Path(path).write_text("".join(json.dumps(asdict(spec)) + "\n" for spec in specs))


def read_list(path: str | Path) -> list[MixtureSpec]:
    """Read a list of JSON lines.

    Raises UserError for a file that is missing or holds something else.
    """
    try:
        return [_from_json(json.loads(line)) for line in Path(path).read_text().splitlines() if line.strip()]
    except OSError:
        raise UserError(f"The mixture list '{path}' cannot be read.") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"'{path}' is not a mixture list.") from None


def _from_json(entry: dict) -> MixtureSpec:
    sources = tuple(
        PlacedSource(**{**source, "pieces": tuple(Piece(**piece) for piece in source["pieces"])})
        for source in entry["sources"]
    )
    spec = MixtureSpec(**{**entry, "sources": sources})
    pieces = [piece for source in sources for piece in source.pieces]
    counts = [spec.samples, spec.sample_rate, spec.index, *(n for p in pieces for n in (p.start, p.stop, p.at))]
    gains = [number for source in sources for number in (source.gain, source.level_db)]
    if not sources or not all(source.pieces for source in sources):
        raise ValueError("a mixture of nothing")
    if not all(isinstance(n, int) and n >= 0 for n in counts) or not all(isinstance(g, int | float) for g in gains):
        raise TypeError("not numbers")
    return spec


class _Shop:
    """Clips by class and by speaker, read when first asked for."""

    def __init__(self, clips: Sequence[Clip], root: Path, labels: Sequence[str] | None, sample_rate: int) -> None:
        self.root, self.sample_rate = root, sample_rate
        self.speakers: dict[str, list[Clip]] = {}
        self.sounds: dict[str, list[Clip]] = {}
        for clip in sorted(clips, key=lambda clip: clip.path.as_posix()):
            if clip.label == SPEECH:
                self.speakers.setdefault(clip.speaker, []).append(clip)
            elif labels is None or clip.label in labels:
                self.sounds.setdefault(clip.label, []).append(clip)
        self._waves: dict[Path, NDArray[np.int16]] = {}
        self._held = 0
        self.bad: dict[str, str] = {}

    def wave(self, clip: Clip) -> NDArray[np.int16]:
        """A clip's samples. Raises BadClip, and remembers why."""
        if str(clip.path) in self.bad:
            raise BadClip(clip.path, self.bad[str(clip.path)])
        wave = self._waves.pop(clip.path, None)
        if wave is None:
            try:
                wave = read_clip(clip.path, self.sample_rate)
            except BadClip as error:
                self.bad[str(clip.path)] = error.reason
                raise
            self._held += wave.nbytes
        # The last one asked for comes last; the first are let go of.
        self._waves[clip.path] = wave
        while self._held > HELD and len(self._waves) > 1:
            self._held -= self._waves.pop(next(iter(self._waves))).nbytes
        return wave

    def piece(self, clip: Clip, start: int, stop: int, at: int) -> Piece:
        return Piece(clip.path.relative_to(self.root).as_posix(), start, stop, at)


def _some(names: Iterable[str], count: int, rng: random.Random) -> list[str]:
    """`count` different names."""
    left = list(names)
    return [left.pop(_below(len(left), rng)) for _ in range(count)]


def _below(n: int, rng: random.Random) -> int:
    """An integer from 0 to n - 1. Of the generator's methods only random() is promised never to change."""
    return int(rng.random() * n)


def _sound(
    shop: _Shop, clips: Sequence[Clip], samples: int, rng: random.Random
) -> tuple[tuple[Piece, ...], NDArray[np.int64]]:
    """A clip cropped or placed at random: pieces, and the wave (samples,) they make."""
    clip = clips[_below(len(clips), rng)]
    whole = shop.wave(clip)
    length = len(whole)
    if length > samples:
        start = _below(length - samples + 1, rng)
        for _ in range(_TRIES):
            # A crop more than 10 dB below its clip is a pause, and the level would blow it up.
            if _power(whole[start : start + samples]) >= 0.1 * _power(whole):
                break
            start = _below(length - samples + 1, rng)
        return _assembled(shop, [(clip, start, start + samples, 0)], samples)
    return _assembled(shop, [(clip, 0, length, _below(samples - length + 1, rng))], samples)


def _speech(
    shop: _Shop, clips: Sequence[Clip], samples: int, rng: random.Random
) -> tuple[tuple[Piece, ...], NDArray[np.int64]]:
    """A speaker's utterances joined in random order until they fill the mixture, then cropped (or placed) at random."""
    left, chosen, total = list(clips), [], 0
    while left and total < samples:
        clip = left.pop(_below(len(left), rng))
        chosen.append((clip, total))
        total += len(shop.wave(clip))
    # Where the mixture begins in the joined speech: negative when there is too little of it.
    begin = _below(total - samples + 1, rng) if total >= samples else -_below(samples - total + 1, rng)
    cuts = []
    for clip, at in chosen:
        start, stop = max(0, begin - at), min(len(shop.wave(clip)), begin + samples - at)
        if stop > start:
            cuts.append((clip, start, stop, at + start - begin))
    return _assembled(shop, cuts, samples)


def _assembled(
    shop: _Shop, cuts: Sequence[tuple[Clip, int, int, int]], samples: int
) -> tuple[tuple[Piece, ...], NDArray[np.int64]]:
    wave = np.zeros(samples, np.int64)
    for clip, start, stop, at in cuts:
        wave[at : at + stop - start] = shop.wave(clip)[start:stop]
    return tuple(shop.piece(*cut) for cut in cuts), wave


def _levelled(
    label: str, pieces: tuple[Piece, ...], wave: NDArray[np.int64], level_of: str, rng: random.Random
) -> PlacedSource:
    level = round(LEVELS[0] + (LEVELS[1] - LEVELS[0]) * rng.random(), 3)
    # Rounded, as the last bit of a power may differ between machines.
    gain = float(f"{10 ** (level / 20) / _power(_measured(wave, level_of)) ** 0.5:.9g}")
    return PlacedSource(label, pieces, gain, level)


def _measured(wave: NDArray[np.int64], level_of: str) -> NDArray[np.int64]:
    """What a level is the RMS of, see LEVEL_OF."""
    return wave if level_of == "whole" else active_part(wave)


def _power(wave: NDArray[np.integer]) -> float:
    """Mean square at full scale 1. The sum of squares of integers is exact, whatever the order of the additions."""
    return int((wave.astype(np.int64) ** 2).sum()) / len(wave) / _FULL_SCALE**2


def active_part(wave: NDArray) -> NDArray:
    """The 10 ms blocks (at 16 kHz) of a wave `(N,)` within 40 dB of the loudest, joined; all of a silent one."""
    blocks = np.pad(wave, (0, -len(wave) % _BLOCK)).reshape(-1, _BLOCK)
    return blocks[_active(wave)].ravel() if np.any(wave) else wave


def active_span(wave: NDArray) -> tuple[int, int]:
    """First and last + 1 sample of the 10 ms blocks (at 16 kHz) within 40 dB of the loudest; (0, 0) for silence."""
    active = np.flatnonzero(_active(wave))
    return (int(active[0]) * _BLOCK, min(len(wave), int(active[-1] + 1) * _BLOCK)) if len(active) else (0, 0)


def _active(wave: NDArray) -> NDArray[np.bool_]:
    """Which blocks are within 40 dB of the loudest."""
    energy = (np.pad(np.asarray(wave, np.float64), (0, -len(wave) % _BLOCK)).reshape(-1, _BLOCK) ** 2).sum(1)
    return (energy >= 1e-4 * energy.max()) & (energy > 0)


def _overlapping(waves: Sequence[NDArray]) -> bool:
    """Whether every two of the waves overlap for at least half of the shorter one's active span."""
    spans = [active_span(wave) for wave in waves]
    for i, (a, b) in enumerate(spans):
        for c, d in spans[:i]:
            if min(b, d) - max(a, c) < 0.5 * min(b - a, d - c):
                return False
    return True
