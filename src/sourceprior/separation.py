"""The one pipeline: command line, demo, benchmarks and tests all call `separate`.

file or array → (channels, samples) → mid signal at the prior's rate → sampling.solve → every channel, full band
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sourceprior import audio
from sourceprior.confidence import DOUBTFUL, confidence
from sourceprior.errors import UserError
from sourceprior.fullband import downmix, spread
from sourceprior.labels import find
from sourceprior.library import PriorLike, load_priors
from sourceprior.sampling import Progress, find_device, settings_of, solve
from sourceprior.version import __version__

FAINT = 1e-3
"""A stem with less than this share of the energy is reported: its source may not be in the recording."""
UNEXPLAINED_DB = -30.0
"""Noise level of `residual="stem"` in dB of the mixture."""


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
    format: audio.FileFormat = field(default_factory=audio.FileFormat)

    @property
    def mixture(self) -> np.ndarray:
        """Stems plus residual, which is the recording again, float64."""
        return np.asarray(np.sum([*self.stems.values(), self.residual], axis=0, dtype=np.float64))

    def save(self, folder: str | os.PathLike[str], picture: bool = True) -> Path:
        """Write the stems, residual, report.json and spectrograms.png into a folder, which is made if need be.

        Stems are rounded to the file's sample type first and the residual is taken against the rounded ones, so that
        the files add up to the mixture as the arrays do. In integer files samples beyond full scale are limited; what
        that takes away is in the residual too, and `report["warnings"]` tells.

        Raises UserError where something cannot be written.
        """
        folder = make_folder(folder)
        # It is written last: where it lies, everything it tells of is whole.
        _remove(folder / "report.json")
        warnings = list(self.report["warnings"])
        names = [f"{_file_name(name)}.{self.format.extension}" for name in self.stems]
        residual_name = f"residual.{self.format.extension}"
        remainder = audio.channels_first(self.mixture)[0]
        for (name, stem), file in zip(self.stems.items(), names, strict=True):
            samples = audio.channels_first(stem)[0]
            remainder = remainder - audio.write(folder / file, samples, self.sample_rate, self.format)
            over = int(np.count_nonzero(np.abs(samples) > 1))
            if over:
                kept = "kept" if self.format.is_float else "limited, and the rest put into the residual"
                warnings.append(f"{name} has {over} samples beyond full scale; they were {kept}.")
        audio.write(folder / residual_name, remainder, self.sample_rate, self.format)
        files = [*names, residual_name]
        if picture:
            files.append("spectrograms.png")
            from sourceprior.plots import spectrograms

            spectrograms({"mixture": self.mixture, **self.stems}, self.sample_rate, folder / "spectrograms.png")
        report = {**self.report, "warnings": warnings, "files": files}
        with audio.replacing(folder / "report.json") as part:
            part.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return folder


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
    """Take a recording apart into the sources named by `labels`.

    Args:
        mixture: a path, or samples in full scale ±1 as `(samples,)`, `(channels, samples)` or `(samples, channels)`;
            of two dimensions the smaller one holds the channels. Up to 8 channels.
        sample_rate: of the samples, 8000 to 192000 Hz; None for a path.
        labels: one per source, such as `["speech", "dog_bark"]`; the same one may come again. Case, spaces, hyphens and
            underscores do not matter. `anything` stands for any sound.
        prior: a folder or hub name of a prior, a loaded `SourcePrior`, or several; None for the bundled ones.
        preset: fast, default or best; `steps`, `candidates`, `solver`, `options` and any other field of
            `sampling.Settings` (`segment`, `overlap`, `batch`, `sigma_max`, `sigma_min`) change single things of it.
        seed: same seed, same stems; another seed, another sample.
        residual: "none": the sources share everything (the default); "stem": what none of them explains is left to the
            residual, with `noise_db` or -30.
        noise_db: level of what no source explains, in dB of the mixture's RMS; makes `residual` "stem".
        device: auto, cpu, cuda or mps.
        callback: called as callback(steps done, steps in all).

    Returns:
        Separation: its stems are NumPy arrays shaped like the input, at its rate, length and level.

    Raises:
        UserError: for a recording, a label or an option that cannot be used; the message is one sentence.
    """
    started = time.perf_counter()
    samples, rate, restore, form, oddities = _samples(mixture, sample_rate)
    audio.check(samples, rate)
    oddities += audio.oddities(samples, rate)
    settings |= {"candidates": candidates, "noise_db": noise_level(residual, noise_db)}
    chosen = settings_of(preset, steps=steps, solver=solver, options=options, **settings)
    if seed < 0:
        raise UserError(f"The seed must not be negative: {seed}.")
    if isinstance(labels, str):
        labels = [labels]
    sources = find(labels, load_priors(prior))
    own_rate = sources[0].prior.sample_rate
    place = find_device(device)

    mid = downmix(samples)
    length = max(1, round(mid.shape[1] * own_rate / rate))
    y = torch.from_numpy(np.ascontiguousarray(audio.resample(mid, rate, own_rate, length)[0]))
    solved, apart = solve(y, sources, chosen, seed=seed, device=place, callback=callback)
    sure = confidence(
        solved, sources, segment=chosen.segment, overlap=chosen.overlap, batch=chosen.batch, device=place
    ).tolist()
    if chosen.noise_db is not None:
        # What is left takes its share of every channel and of the band above, as the sources do.
        solved = torch.cat([solved, (y - solved.sum(0))[None]])
    stems = spread(solved.numpy(), own_rate, samples, rate)[: len(sources)]
    # Before the residual is taken, so that it holds what the samples' own precision rounds away.
    stems = stems.astype(samples.dtype, copy=False)
    remainder = (samples - stems.sum(0, dtype=np.float64)).astype(samples.dtype)

    names = [source.name for source in sources]
    report = {
        "sourceprior": __version__,
        "torch": torch.__version__,
        "mixture": _printable(mixture) if isinstance(mixture, (str, os.PathLike)) else None,
        "sample_rate": rate,
        "channels": samples.shape[0],
        "samples": samples.shape[1],
        "labels": list(labels),
        "priors": [
            {"label": s.prior.labels[s.index], "prior": s.prior.name, "licence": s.prior.licence} for s in sources
        ],
        "preset": preset,
        "settings": asdict(chosen),
        "seed": seed,
        "device": str(place),
        "seconds": round(time.perf_counter() - started, 3),
        # Energy of the candidates' deviations from their mean, relative to the stem's: an uncertainty; 0 for one run.
        "spread": {name: round(value, 4) for name, value in zip(names, apart.tolist(), strict=True)},
        # The part of a stem that its own prior restores from noise, 0 to 1, see `confidence`.
        "confidence": {name: round(value, 3) for name, value in zip(names, sure, strict=True)},
        **_levels(samples, dict(zip(names, stems, strict=True)), remainder),
    }
    report["warnings"] = oddities + report["warnings"] + _doubts(report)
    return Separation(
        stems={name: restore(stem) for name, stem in zip(names, stems, strict=True)},
        residual=restore(remainder),
        sample_rate=rate,
        report=report,
        format=form,
    )


def noise_level(residual: str | None, noise_db: float | None) -> float | None:
    """The noise level that goes with a choice of residual. Raises UserError where the two contradict each other."""
    if residual not in (None, "none", "stem"):
        raise UserError(f"There is no residual {residual!r}; choose none or stem.")
    if residual == "none" and noise_db is not None:
        raise UserError("A noise level leaves something to the residual: choose residual stem, or no noise_db.")
    return UNEXPLAINED_DB if residual == "stem" and noise_db is None else noise_db


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder, made if need be. Raises UserError where it cannot be made or written to."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{folder} is or lies in a file, not a folder: choose another output folder.") from error
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"The folder {folder} may not be written to: permission denied.")
    return folder


def _samples(mixture: Any, sample_rate: int | None) -> tuple[np.ndarray, int, Any, audio.FileFormat, list[str]]:
    """Any input as `(channels, samples)`, its rate, the way back to its shape, the format to save in, and warnings."""
    if isinstance(mixture, (str, os.PathLike)):
        recording = audio.read(mixture)
        if sample_rate not in (None, recording.sample_rate):
            raise UserError(f"{mixture} has {recording.sample_rate} Hz, not {sample_rate} Hz: leave sample_rate out.")
        samples = recording.samples
        mono = samples.shape[0] == 1
        restore = (lambda array: array[0]) if mono else (lambda array: array)
        return samples, recording.sample_rate, restore, recording.format, list(recording.warnings)
    if sample_rate is None:
        raise UserError("Say the sample rate of the samples in Hz, as in separate(samples, 44100, labels).")
    array = mixture.detach().cpu().numpy() if isinstance(mixture, torch.Tensor) else np.asarray(mixture)
    samples, restore = audio.channels_first(array)
    subtype = "DOUBLE" if samples.dtype == np.float64 else "FLOAT"
    return samples, int(sample_rate), restore, audio.FileFormat("WAV", subtype), []


def _levels(samples: np.ndarray, stems: Mapping[str, np.ndarray], residual: np.ndarray) -> dict[str, Any]:
    """Levels in dB full scale (RMS), shares of the energy, and what is worth a warning."""
    energy = {name: float(np.square(stem, dtype=np.float64).sum()) for name, stem in stems.items()}
    total = sum(energy.values()) or 1.0
    mixture_db = audio.decibel(audio.rms(samples))
    return {
        "mixture_db": round(mixture_db, 2),
        "stems": {
            name: {"level_db": round(audio.decibel(audio.rms(stem)), 2), "energy_share": round(energy[name] / total, 4)}
            for name, stem in stems.items()
        },
        "residual_db_of_mixture": round(audio.decibel(audio.rms(residual)) - mixture_db, 1),
        "warnings": [
            f"{name} got less than 0.1 % of the energy: it may not be in the recording."
            for name in stems
            if energy[name] / total < FAINT
        ],
    }


def _doubts(report: Mapping[str, Any]) -> list[str]:
    """A sentence for every stem that is loud enough, but not what its prior knows."""
    return [
        f"{name} does not sound like its source (confidence {sure:.2f}): it may not be in the recording."
        for name, sure in report["confidence"].items()
        if sure < DOUBTFUL and report["stems"][name]["energy_share"] >= FAINT
    ]


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be replaced: {error.strerror}.") from error


def _printable(path: str | os.PathLike[str]) -> str:
    """A path as text that can be written down, whatever bytes are in it."""
    return os.fsencode(path).decode("utf-8", "replace")


def _file_name(name: str) -> str:
    return "_".join(name.split()).replace("/", "_").replace("\\", "_")
