"""Dictionary NMF: the honest low-cost competitor, learned from the same unpaired clips as the priors.

Non-negative matrix factorisation of magnitude spectrograms (Smaragdis 2007; `factorisation`): every class gets a
dictionary of spectra; in a mixture only their activations are fitted, and the stems are cut out with a Wiener mask.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sourceprior.baselines.listening import heard
from sourceprior.datasets import SPEECH, Clip
from sourceprior.errors import UserError
from sourceprior.factorisation import EPS, fit_activations, fit_atoms
from sourceprior.stft import istft, stft
from sourceprior.writing import replacing

RATE = 16_000
"""Hz that dictionaries, and Wiener filters, are learned at."""
ATOMS = 32
SPEECH_ATOMS = 64

LEARNED_FROM = "learned from"
"""Name of the hash of the clips in a file's metadata."""


def separate(mixture: Tensor, dictionaries: Sequence[Tensor], iterations: int = 40, exponent: float = 1.0) -> Tensor:
    """Cut a mixture `(N,)` into stems `(K, N)` that add up to it.

    Args:
        dictionaries: one per source, `(513, atoms)`, columns that sum to 1.
        iterations: updates of the activations.
        exponent: of the modelled magnitudes in the mask: 1 is the mask of the model that was
            fitted (the better one on the valid split), 2 the Wiener filter of power spectra.
    """
    spectrum = stft(mixture)
    magnitude = spectrum.abs()
    # Relative to the mixture's own level, as the small constants below are not.
    magnitude = magnitude / magnitude.mean().clamp_min(1e-12)
    atoms = torch.cat(list(dictionaries), dim=1)
    # They start as equal ones: two equal dictionaries then share a mixture equally, as nothing tells them apart.
    activations = fit_activations(magnitude, atoms, iterations)
    parts = activations.split([d.shape[1] for d in dictionaries])
    models = torch.stack([(d @ h + EPS) ** exponent for d, h in zip(dictionaries, parts, strict=True)])
    return istft(models / models.sum(0) * spectrum, mixture.shape[-1])


def learn_dictionary(
    waves: Iterable[Tensor], atoms: int, *, iterations: int = 150, frames: int = 6000, seed: int = 0
) -> Tensor:
    """Spectra `(513, atoms)`, columns summing to 1, learned from waveforms `(N,)` of one class.

    Every waveform counts at the same level. Of all frames that are within 50 dB of their waveform's loudest, `frames`
    are drawn at random.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for wave in waves:
        magnitude = stft(wave / wave.square().mean().sqrt().clamp_min(1e-9)).abs()
        loudness = magnitude.square().sum(0)
        found.append(magnitude[:, loudness > 1e-5 * loudness.max()])
    v = torch.cat(found, dim=1)
    v = v[:, torch.randperm(v.shape[1], generator=generator)[:frames]]
    # Atoms start as frames of the class: a start from noise takes many more updates.
    w = v[:, torch.randint(v.shape[1], (atoms,), generator=generator)] + 0.1 * v.mean(1, keepdim=True)
    w = (w * (0.5 + torch.rand(w.shape, generator=generator)) + EPS) / w.sum(0)
    return fit_atoms(v, w, iterations)


def learn(
    clips: Sequence[Clip],
    labels: Sequence[str],
    *,
    sample_rate: int = 16000,
    max_clips: int = 400,
    progress: Callable[[int, int], None] | None = None,
    bad: MutableMapping[str, str] | None = None,
) -> dict[str, Tensor]:
    """A dictionary for each label from single-source clips (of the train split): 64 atoms for speech, 32 for others.

    Args:
        bad: takes path and reason of the clips that are left out, unreadable or silent ones.

    Raises NothingToLearn, a UserError, for a label without a clip that can be used.
    """
    dictionaries = {}
    for done, label in enumerate(labels):
        waves = heard(clips, label, max_clips, "a dictionary", sample_rate=sample_rate, bad=bad)
        dictionaries[label] = learn_dictionary(waves, SPEECH_ATOMS if label == SPEECH else ATOMS)
        if progress:
            progress(done + 1, len(labels))
    return dictionaries


def save(dictionaries: Mapping[str, Tensor], path: str | Path, clips: Sequence[Clip] = ()) -> None:
    """Write dictionaries as safetensors, one tensor per label, and a hash of the clips they were learned from.

    Raises UserError where it cannot be written.
    """
    with replacing(Path(path)) as part:
        save_file({label: w.contiguous() for label, w in dictionaries.items()}, part, {LEARNED_FROM: digest(clips)})


def load(path: str | Path, clips: Sequence[Clip] = ()) -> dict[str, Tensor]:
    """Read dictionaries that `save` wrote.

    Raises UserError for a file that holds something else, or dictionaries of other clips than these, if there are any.
    """
    try:
        with safe_open(path, framework="pt") as file:
            told = (file.metadata() or {}).get(LEARNED_FROM)
            found = {label: file.get_tensor(label) for label in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError):
        told = None
    if told is None:
        raise UserError(f"'{path}' is not a file of NMF dictionaries.")
    if clips and told != digest(clips):
        raise UserError(f"The dictionaries in '{path}' were learned from other clips: name another file.")
    return found


def digest(clips: Sequence[Clip]) -> str:
    """Hash of a list of clips: their names, labels and lengths, not where they lie."""
    facts = [(clip.path.name, clip.label, clip.licence, clip.seconds) for clip in clips]
    return hashlib.sha256(repr(sorted(facts)).encode("utf-8", "backslashreplace")).hexdigest()[:16]
