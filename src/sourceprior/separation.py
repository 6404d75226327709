"""The one pipeline: command line, demo, benchmarks and tests all call `separate` or `separate_file`.

file or array → (channels, samples) → mid signal at the prior's rate → sampling.solve_pieces → every channel, full band

A recording is gone through four times, piece by piece: what it is like, how loud the mid signal is, solving, and, in
step with that, handing out. Nothing of it is in memory but the block that is being solved; `separate` keeps the stems.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sourceprior import audio
from sourceprior.confidence import confidence
from sourceprior.errors import UserError, listed
from sourceprior.formats import FileFormat
from sourceprior.fullband import levelled, mid, spread
from sourceprior.labels import find
from sourceprior.library import PriorLike, load_priors
from sourceprior.local_level import between
from sourceprior.pieces import Pieces
from sourceprior.presence import HARDLY, heard
from sourceprior.priors import Source, with_precision
from sourceprior.sampling import (
    Overview,
    Progress,
    Settings,
    check_sources,
    find_device,
    overview,
    preset_of,
    settings_of,
    solve_pieces,
)
from sourceprior.stem_files import StemFiles, printable, whole_path
from sourceprior.stem_files import make_folder as make_folder
from sourceprior.survey import check_recording, oddities, survey
from sourceprior.version import __version__

FAINT = 1e-3
"""A stem with less than this share of the energy is not said to be like another: they are nothing, both of them."""
ALIKE = 0.95
"""Stems that correlate more are reported: on valid such pairs gained 0.2 dB on the mixture, see docs/experiments.md."""
UNEXPLAINED_DB = -20.0
"""Noise level of `residual="stem"` in dB of the mixture."""
LAST_SEED = 2**32 - 1


@dataclass(frozen=True)
class Separation:
    """What `separate` returns.

    Attributes:
        stems: name to array, in the order of the request; each has the mixture's shape, level and length, and the
            stems and the residual add up to the mixture.
        residual: what no stem explains, the mixture's shape.
        sample_rate: the mixture's, in Hz.
        report: what was done, as written to report.json.
        format: the sample type and container that `save` writes.
    """

    stems: Mapping[str, np.ndarray]
    residual: np.ndarray
    sample_rate: int
    report: dict[str, Any]
    format: FileFormat = field(default_factory=FileFormat)

    @property
    def mixture(self) -> np.ndarray:
        """Stems plus residual, which is the recording again, float64."""
        return np.asarray(np.sum([*self.stems.values(), self.residual], axis=0, dtype=np.float64))

    def save(self, folder: str | os.PathLike[str], picture: bool = True) -> Path:
        """Write the stems, residual, report.json and spectrograms.png into a folder, which is made if need be.

        Files of these names that lie there are replaced, whatever they are; the recording itself never. See
        `StemFiles`, also for errors.
        """
        mixture = audio.channels_first(self.mixture)[0]
        stems = np.stack([audio.channels_first(stem)[0] for stem in self.stems.values()])
        files = StemFiles(
            folder, list(self.stems), mixture.shape, self.sample_rate, self.format, picture,
            recording=self.report.get("mixture"),
        )  # fmt: skip
        with files:
            for start in range(0, mixture.shape[1], audio.PIECE):
                place = slice(start, start + audio.PIECE)
                files.add(mixture[:, place], stems[..., place])
        files.report(self.report)
        return files.folder


def separate(
    mixture: np.ndarray | torch.Tensor | str | os.PathLike[str],
    sample_rate: int | None = None,
    labels: Sequence[str] = (),
    *,
    prior: PriorLike | Iterable[PriorLike] | None = None,
    preset: str = "default",
    steps: int | None = None,
    candidates: int | None = None,
    seed: int = 0,
    solver: str | None = None,
    options: Mapping[str, Any] | None = None,
    residual: str | None = None,
    noise_db: float | None = None,
    device: str = "auto",
    callback: Progress | None = None,
    **settings: Any,
) -> Separation:
    """Take a recording apart into the sources named by `labels`; `separate_file` does it without holding the stems.

    Args:
        mixture: a path, or samples in full scale ±1 as `(samples,)`, `(channels, samples)` or `(samples, channels)`;
            of two dimensions the smaller one holds the channels. Up to 8 channels.
        sample_rate: of the samples, 8000 to 192000 Hz; None for a path.
        labels: one per source, such as `["speech", "dog_bark"]`; the same one may come again. Case, spaces, hyphens and
            underscores do not matter. `anything` stands for any sound.
        prior: a folder or hub name of a prior, a loaded `SourcePrior`, or several; None for the bundled ones.
        preset: fast, default, best or sample; msdm, paper or released for other people's solvers. `steps`,
            `candidates`, `solver`, `options` and any other field of `sampling.Settings` (`segment`, `overlap`, `batch`,
            `sigma_max`, `sigma_min`) change single things of it.
        seed: same seed, same stems; another seed, another sample.
        residual: "none": the sources share everything (the default); "stem": what none of them explains is left to the
            residual, with `noise_db` or -20.
        noise_db: level of what no source explains, in dB of the mixture's RMS; makes `residual` "stem".
        device: auto, cpu, cuda or mps.
        callback: called as callback(steps done, steps in all).

    Returns:
        Separation: its stems are NumPy arrays shaped like the input, at its rate, length and level.

    Raises:
        UserError: for a recording, a label or an option that cannot be used; the message is one sentence.
    """
    stream, restore = _stream(mixture, sample_rate)
    changes = dict(settings, steps=steps, candidates=candidates, solver=solver, options=options)
    job = Separating(
        stream, labels, prior, preset, seed, residual, noise_db, device, callback, changes, source_path=mixture
    )
    remainder = np.empty((stream.channels, job.seen.length), stream.dtype)
    stems = np.empty((len(job.sources), *remainder.shape), stream.dtype)
    position = 0
    for samples, parts in job.pieces():
        place = slice(position, position + samples.shape[1])
        stems[..., place], remainder[:, place] = parts, samples - parts.sum(0, dtype=np.float64)
        position = place.stop
    return Separation(
        stems={source.name: restore(stem) for source, stem in zip(job.sources, stems, strict=True)},
        residual=restore(remainder),
        sample_rate=stream.sample_rate,
        report=job.report(),
        format=stream.form,
    )


def separate_file(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    labels: Sequence[str],
    *,
    form: FileFormat | None = None,
    picture: bool = True,
    notes: Mapping[str, Any] | None = None,
    overwrite: bool = True,
    prior: PriorLike | Iterable[PriorLike] | None = None,
    preset: str = "default",
    seed: int = 0,
    residual: str | None = None,
    noise_db: float | None = None,
    device: str = "auto",
    callback: Progress | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """What `separate(path, ...).save(folder)` does, in memory that does not grow with the recording's length.

    Args:
        form: format of the files; None for the recording's own.
        picture: whether spectrograms.png is drawn.
        notes: further entries of report.json.
        overwrite: whether what is in the folder may be replaced if it is not of an earlier run on this recording. The
            recording itself never is.

    The other arguments are those of `separate`.

    Returns:
        What report.json holds.

    Raises:
        UserError: as `separate`, and where something cannot be written.
    """
    stream = audio.stream(path)
    job = Separating(stream, labels, prior, preset, seed, residual, noise_db, device, callback, settings, path)
    names, shape = [source.name for source in job.sources], (stream.channels, job.seen.length)
    digest = (notes or {}).get("request", {}).get("recording")
    files = StemFiles(
        folder, names, shape, stream.sample_rate, form or stream.form, picture, recording=path, digest=digest,
        careful=not overwrite,
    )  # fmt: skip
    with files:
        for samples, parts in job.pieces():
            files.add(samples, parts)
    return files.report({**job.report(), **(notes or {})})


class Separating:
    """One recording on its way: what was asked, looked at and counted. Raises UserError for what cannot be used."""

    def __init__(
        self,
        stream: audio.Stream,
        labels: Sequence[str],
        prior: PriorLike | Iterable[PriorLike] | None,
        preset: str,
        seed: int,
        residual: str | None,
        noise_db: float | None,
        device: str,
        callback: Progress | None,
        settings: Mapping[str, Any],
        source_path: Any = None,
    ) -> None:
        self.started = time.perf_counter()
        self.stream, self.seed, self.callback = stream, seed, callback
        self.preset = preset_of(preset, settings.get("solver"))
        self.path = source_path if isinstance(source_path, (str, os.PathLike)) else None
        self.settings: Settings = settings_of(preset, **settings, noise_db=noise_level(residual, noise_db))
        check_seed(seed)
        self.labels = [labels] if isinstance(labels, str) else list(labels)
        self.sources: list[Source] = find(self.labels, load_priors(prior))
        self.taken: Sequence[Source] = self.sources
        self.rate = self.sources[0].prior.sample_rate
        self.device = find_device(device)
        # The cheap questions come first: a long recording takes its time.
        check_sources(self.sources, self.settings, self.device)
        self.seen = survey(stream)
        check_recording(self.seen, stream.sample_rate)
        count = len(self.sources)
        self.length = max(1, round(self.seen.length * self.rate / stream.sample_rate))
        # Energies: what stems share at the priors' rate, which weighs a block's figures, and those of what is given.
        self.shared = torch.zeros(count, count, dtype=torch.float64)
        self.apart, self.sure = torch.zeros(2, count, dtype=torch.float64)
        self.energy, self.left = np.zeros(count), 0.0
        self.clear = np.full(count, -60.0)

    def heard(self) -> Iterator[np.ndarray]:
        """The mid signal at the priors' rate, pieces `(n,)`."""
        signal = mid(self._whole(), self.seen)
        for piece in audio.resampled(signal, self.stream.sample_rate, self.rate, self.length):
            yield piece[0].astype(np.float32)

    def pieces(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The recording's next samples `(channels, n)`, and its stems' `(K, channels, n)`, in its own precision."""
        stray = self.seen.stray
        whole = levelled(self._whole(), self.seen) if stray else self._whole()
        # As it is, to the last bit: what is handed out and what is left add up to that.
        as_it_is = Pieces(self._whole() if stray else [])
        for samples, stems in spread(self._stems(), self.rate, whole, self.stream.sample_rate, self.seen.length):
            if stray:
                samples = as_it_is.take(samples.shape[1])
            # Before the residual is taken, so that it holds what the samples' own precision rounds away.
            parts = stems[: len(self.sources)].astype(samples.dtype, copy=False)
            self.energy += np.square(parts, dtype=np.float64).sum((1, 2))
            self.left += float(np.square(samples - parts.sum(0, dtype=np.float64)).sum())
            yield samples, parts

    def _whole(self) -> Iterator[np.ndarray]:
        """The recording, of which no sample may be missing or new since it was looked at."""
        length = 0
        for piece in self.stream.pieces():
            length += piece.shape[1]
            if length > self.seen.length:
                break
            yield piece
        if length != self.seen.length:
            raise UserError(f"{self.stream.name} changed while it was read: separate it again.")

    def _stems(self) -> Iterator[np.ndarray]:
        """Stems at the priors' rate `(K, n)`, and what they leave unexplained as one more where it may be something."""
        whole: Overview = overview(self.heard(), self.rate)
        mixture = Pieces(self.heard())
        chosen, position = self.settings, 0
        for part in solve_pieces(
            self.heard(), whole, self.sources, chosen, seed=self.seed, device=self.device, callback=self.callback
        ):
            stems, self.taken = part.stems, part.sources
            length = stems.shape[1]
            # Without a noise level they add up to it, and it need not be read once more.
            y = stems.sum(0) if chosen.noise_db is None else torch.from_numpy(mixture.take(length))
            levels = between(whole.levels, whole.step, position, position + length)
            position += length
            sources = with_precision(self.sources, chosen.precision)
            same: Any = {name: getattr(chosen, name) for name in ("segment", "overlap", "batch")}
            sure = confidence(stems, sources, **same, device=self.device)
            self.clear = np.maximum(self.clear, heard(stems, y, levels, sources, **same, device=self.device))
            shared = stems.double() @ stems.double().T
            energy = shared.diagonal()
            self.shared += shared
            self.apart += energy * part.spread
            self.sure += energy * sure
            if chosen.noise_db is not None:
                # What is left takes its share of every channel and of the band above, as the sources do.
                stems = torch.cat([stems, (y - stems.sum(0))[None]])
            yield stems.numpy()

    def report(self) -> dict[str, Any]:
        """What was done, once all pieces are out."""
        names = [source.name for source in self.sources]
        weight = self.shared.diagonal().clamp_min(1e-30)
        samples = self.stream.channels * self.seen.length
        total = float(self.energy.sum()) or 1.0
        mixture_db = audio.decibel(self.seen.rms)
        level = {name: audio.decibel((e / samples) ** 0.5) for name, e in zip(names, self.energy, strict=True)}
        share = {name: float(e) / total for name, e in zip(names, self.energy, strict=True)}
        report: dict[str, Any] = {
            "sourceprior": __version__,
            "torch": torch.__version__,
            "mixture": printable(whole_path(self.path)),
            "sample_rate": self.stream.sample_rate,
            "channels": self.stream.channels,
            "samples": self.seen.length,
            "labels": self.labels,
            "priors": [
                {"label": s.prior.labels[s.index], "prior": s.prior.name, "licence": s.prior.licence}
                for s in self.taken
            ],
            "preset": self.preset,
            "settings": asdict(self.settings),
            "seed": self.seed,
            "device": str(self.device),
            "seconds": round(time.perf_counter() - self.started, 3),
            # Energy of the candidates' deviations from their mean, relative to the stem's: an uncertainty; 0 for one
            # run. Of several blocks the mean, by energy, as for confidence.
            "spread": {n: round(value, 4) for n, value in zip(names, (self.apart / weight).tolist(), strict=True)},
            # The part of a stem that its own prior restores from noise, 0 to 1, see `confidence`.
            "confidence": {n: round(value, 3) for n, value in zip(names, (self.sure / weight).tolist(), strict=True)},
            # What it hears of a stem in noise, where that is most, in dB of an equal share of the mixture, see `heard`.
            "heard_db": {n: round(value, 1) for n, value in zip(names, self.clear.tolist(), strict=True)},
            "alike": alike(names, self.shared.numpy()),
            "mixture_db": round(mixture_db, 2),
            "stems": {
                name: {"level_db": round(level[name], 2), "energy_share": round(share[name], 4)} for name in names
            },
            "residual_db_of_mixture": round(audio.decibel((self.left / samples) ** 0.5) - mixture_db, 1),
        }
        file = audio.broken(self.stream, self.seen.length)
        report["warnings"] = [*file, *oddities(self.seen, self.stream.sample_rate), *_doubts(report, share)]
        return report


def alike(names: Sequence[str], shared: np.ndarray) -> dict[str, dict[str, float]]:
    """Correlation of every stem with every other, from their products' sums `(K, K)`; 0 with one that is silent.

    An estimate of what is likely shares out evenly what its priors cannot tell apart: stems that are alike are parts of
    one signal, and not separated.
    """
    size = np.sqrt(shared.diagonal())
    found = shared / np.maximum(size[:, None] * size, 1e-30)
    return {
        one: {other: round(float(found[i, j]), 3) for j, other in enumerate(names) if j != i}
        for i, one in enumerate(names)
    }


def check_seed(seed: int) -> None:
    """Raise UserError for a seed below 0, or above what every generator takes."""
    if seed < 0:
        raise UserError(f"The seed must not be negative: {seed}.")
    if seed > LAST_SEED:
        raise UserError(f"The seed must be {LAST_SEED} at most, not {seed}.")


def noise_level(residual: str | None, noise_db: float | None) -> float | None:
    """The noise level that goes with a choice of residual. Raises UserError where the two contradict each other."""
    if residual not in (None, "none", "stem"):
        raise UserError(f"There is no residual {residual!r}; choose none or stem.")
    if residual == "none" and noise_db is not None:
        raise UserError("A noise level leaves something to the residual: choose residual stem, or no noise_db.")
    return UNEXPLAINED_DB if residual == "stem" and noise_db is None else noise_db


def _stream(mixture: Any, sample_rate: int | None) -> tuple[audio.Stream, Callable[[np.ndarray], np.ndarray]]:
    """Any input as a stream, and the way from `(channels, samples)` back to its shape."""
    if isinstance(mixture, (str, os.PathLike)):
        if isinstance(sample_rate, (str, list, tuple)):
            raise UserError("The sources are named with labels=, as in separate(path, labels=['speech', 'rain']).")
        stream = audio.stream(mixture)
        if sample_rate not in (None, stream.sample_rate):
            raise UserError(f"{mixture} has {stream.sample_rate} Hz, not {sample_rate} Hz: leave sample_rate out.")
        mono = stream.channels == 1
        return stream, (lambda array: array[0]) if mono else (lambda array: array)
    if sample_rate is None or isinstance(sample_rate, (str, list, tuple)):
        raise UserError("Say the sample rate of the samples in Hz, as in separate(samples, 44100, labels).")
    array = mixture.detach().cpu().numpy() if isinstance(mixture, torch.Tensor) else np.asarray(mixture)
    samples, restore = audio.channels_first(array)
    subtype = "DOUBLE" if samples.dtype == np.float64 else "FLOAT"
    return audio.Stream.of(samples, int(sample_rate), FileFormat("WAV", subtype)), restore


def _doubts(report: Mapping[str, Any], share: Mapping[str, float]) -> list[str]:
    """A sentence for every stem that is hardly there, or not what its prior knows, and for stems that are the same."""
    faint = [
        f"{name} is hardly heard ({value:.0f} dB of an equal share): it may not be in the recording, or is far below "
        "the others."
        for name, value in report["heard_db"].items()
        if value < HARDLY
    ]
    same: list[list[str]] = []
    for n, others in report["alike"].items():
        if share[n] >= FAINT and not any(n in group for group in same):
            group = [n, *(other for other, value in others.items() if value > ALIKE and share[other] >= FAINT)]
            same += [group] if len(group) > 1 else []
    mixed = [f"{listed(group)} were hardly told apart: their stems are much the same." for group in same]
    alone = "Only one source is named, so that the whole recording is given to it; add -s anything, or --residual stem."
    one = [alone] if len(share) == 1 and report["settings"]["noise_db"] is None else []
    return one + faint + mixed
