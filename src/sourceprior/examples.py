"""Training examples of a denoiser: what it is shown, and what it should return.

A prior has to be good at its own source and bad at every other, or it tells nothing apart in a mixture. Single clips of
its own alone do not teach that: a clean source says what it is, and a small network learns to denoise anything audible.
Negatives do, and still need no mixture: recordings of other sources, whose clean estimate is silence.

    none      the source's own clips only
    whole     some examples are a clip of another source, with silence as the target
    spliced   own and other clips side by side in one example, cut along random times and frequencies, so that every
              time-frequency cell holds one of the two and the decision has to be a local one
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sourceprior.datasets import SPEECH, SPOKEN, ClipBank
from sourceprior.errors import UserError
from sourceprior.stft import BINS, stft

NULL = "anything"
"""The label of any sound; speech is not one."""

NEGATIVES = ("none", "whole", "spliced")


@dataclass(frozen=True)
class Examples:
    """STFTs (B, 513, T): the signal before noise is added, and its part that belongs to the label."""

    signal: Tensor
    target: Tensor
    label: Tensor
    has_other: Tensor


class ExampleMaker:
    """Draws batches of examples; a batch depends on the seed and its number only, so a resumed run sees the same data.

    Args:
        bank: clips of the split, own and other.
        labels: labels of the prior's rows; "anything" stands for any sound.
        negatives: "none", "whole" or "spliced".
        seconds: length of an example.
        context: levels are those of a signal of this many seconds, of which an example is a crop.
        speech_share: share of speech among the examples of a prior that knows both.
        playback, colour: how far examples are played faster or slower (logarithm) and coloured (dB).
    """

    def __init__(
        self,
        bank: ClipBank,
        labels: Sequence[str],
        negatives: str = "spliced",
        seconds: float = 2.0,
        context: float = 4.0,
        levels: tuple[float, float] = (-27.0, -18.0),
        null_share: float = 0.15,
        any_voice_share: float = 0.4,
        speech_share: float = 0.4,
        speech_among_others: float = 0.4,
        voice_among_others: float = 0.6,
        voice_group_share: float = 0.75,
        augment: bool = True,
        playback: float = 0.13,
        colour: float = 3.0,
    ) -> None:
        if negatives not in NEGATIVES:
            raise ValueError(f"negatives is one of {', '.join(NEGATIVES)}, not '{negatives}'")
        self.bank, self.negatives, self.levels, self.augment = bank, negatives, levels, augment
        self.playback, self.colour = playback, colour
        self.samples = round(seconds * bank.sample_rate)
        self.context = max(self.samples, round(context * bank.sample_rate))
        self.null_share, self.any_voice_share, self.voice_group_share = null_share, any_voice_share, voice_group_share
        self.speech_among_others, self.voice_among_others = speech_among_others, voice_among_others
        rows = {label: i for i, label in enumerate(labels)}
        device = bank.wave.device
        # Every label has a wider one: a class of sound "anything", a kind of voice "speech".
        wider = [rows.get(SPEECH if label in SPOKEN else NULL, -1) for label in bank.labels]
        self.wider = torch.tensor(wider, device=device)
        self.row = torch.tensor(
            [rows.get(label, wide if label in SPOKEN else -1) for label, wide in zip(bank.labels, wider, strict=True)],
            device=device,
        )
        groups = torch.tensor([*(rows.get(name, -1) for name in bank.voices), -1], device=device)
        self.group_row = groups[bank.voice]
        self.spoken = torch.tensor([label in SPOKEN for label in bank.labels], device=device)
        sounds = [label for label in bank.labels if label not in SPOKEN]
        own_sounds = [label for label in sounds if label in rows]
        share = speech_share if own_sounds else 1.0
        own = torch.zeros(len(bank.label), dtype=torch.float64, device=device)
        if SPEECH in rows:
            own += share * bank.weights([SPEECH])
        if own_sounds:
            own += (1 - share if SPEECH in rows else 1.0) * bank.weights(own_sounds)
        if not bool(own.any()):
            raise UserError(
                f"There is no clip of {', '.join(labels)} in the data, or in a part of it that is in memory."
            )
        self.own = own.cpu()
        self.sounds = bank.weights(sounds).cpu() if bool((~self.spoken[bank.label]).any()) else None
        self.speech = bank.weights([SPEECH]).cpu() if bool(self.spoken[bank.label].any()) else None
        if self.sounds is not None:
            # Of each class: its share of the sounds, and where its clips are among the members of all classes.
            self.share = torch.zeros(len(bank.labels), dtype=torch.float64)
            self.share.index_add_(0, bank.label.cpu(), self.sounds)
            self.size = torch.tensor([len(group) for group in bank.groups])
            self.members = torch.cat(bank.groups).cpu()

    def draw(self, count: int, seed: int) -> Examples:
        """``count`` examples; ``seed`` is the number of the batch."""
        g = torch.Generator().manual_seed(seed)
        device = self.bank.wave.device
        clips = self.choose(count, g)
        index = self.bank.label[clips]
        label, wider = self.row[index], self.wider[index]
        share = torch.where(self.spoken[index], self.any_voice_share, self.null_share)
        dropped = (torch.rand(count, generator=g).to(device) < share) & (wider >= 0)
        grouped = (torch.rand(count, generator=g).to(device) < self.voice_group_share) & (self.group_row[clips] >= 0)
        grouped &= ~dropped
        label = torch.where(dropped, wider, torch.where(grouped, self.group_row[clips], label))
        # Another playback rate or colour would be the voice of another group.
        own = self.spectrum(clips, g, torch.where(grouped, 0.3, 1.0))
        if self.negatives == "none":
            return Examples(own, own, label, torch.zeros(count, dtype=torch.bool, device=device))

        other, there = self.others(clips, label == wider, grouped, g)
        rest = self.spectrum(other, g)
        if self.negatives == "whole":
            mask = (torch.rand(count, generator=g) < 0.65).float()[:, None, None].expand(-1, BINS, own.shape[-1])
        else:
            mask = patchwork(count, own.shape[-1], g)
        mask = torch.where(there[:, None, None], mask.to(device), 1.0)
        target = mask * own
        return Examples(target + (1 - mask) * rest, target, label, mask.amin((1, 2)) < 0.5)

    def others(self, clips: Tensor, is_wide: Tensor, grouped: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """Clips (B,) of sources that the labels of others deny, and (B,) whether there is such a source at all.

        Args:
            clips: the own ones.
            is_wide: which are labelled "anything" or "speech".
            grouped: which are labelled with a group of voices.
        """
        count, device, index = len(clips), self.bank.wave.device, self.bank.label[clips]
        if self.speech is None:
            # Of the sounds "anything" denies none, and a class all others.
            several = int((self.share > 0).sum()) > 1
            return (self.elsewhere(index, g), ~is_wide) if several else (clips, torch.zeros_like(is_wide))
        other = None
        if self.sounds is not None:
            other = torch.multinomial(self.sounds, count, replacement=True, generator=g).to(device)
        speech = torch.multinomial(self.speech, count, replacement=True, generator=g).to(device)
        chance = torch.rand(count, generator=g).to(device)
        # "Speech" denies sounds only; a kind of voice the other kinds as well, a group of voices the other groups.
        differs = torch.where(
            grouped, self.bank.voice[speech] != self.bank.voice[clips], self.bank.label[speech] != index
        )
        if other is None:
            return speech, ~is_wide & differs
        # "Anything" denies speech only, and a class is no negative of itself.
        for_sounds = (chance < self.speech_among_others) | is_wide | (self.bank.label[other] == index)
        for_voices = (chance < self.voice_among_others) & ~is_wide & differs
        use_speech = torch.where(self.spoken[index], for_voices, for_sounds)
        return torch.where(use_speech, speech, other), torch.ones_like(is_wide)

    def elsewhere(self, index: Tensor, g: torch.Generator) -> Tensor:
        """Sounds (B,) of other classes than those of ``index`` (B,), drawn by class first, as sounds are."""
        chance = self.share.repeat(len(index), 1)
        chance[torch.arange(len(index)), index.cpu()] = 0
        label = torch.multinomial(chance, 1, generator=g)[:, 0]
        place = (torch.rand(len(index), generator=g, dtype=torch.float64) * self.size[label]).long()
        first = self.size.cumsum(0) - self.size
        return self.members[first[label] + place].to(self.bank.wave.device)

    def choose(self, count: int, g: torch.Generator) -> Tensor:
        """Clips (B,) of the prior's own labels, on the bank's device."""
        return torch.multinomial(self.own, count, replacement=True, generator=g).to(self.bank.wave.device)

    def spectrum(self, clips: Tensor, g: torch.Generator, change: Tensor | None = None) -> Tensor:
        """Clips (B,) at a random level, mildly equalised, as STFTs (B, 513, T).

        ``change`` (B,): how much of the usual change of colour and playback rate, 1 if not given.
        """
        change = torch.ones(len(clips), device=self.bank.wave.device) if change is None else change
        wave = self.bank.render(clips, self.context, g, self.augment, change, self.playback)
        low, high = self.levels
        gain = 10 ** ((torch.rand(len(clips), generator=g) * (high - low) + low) / 20)
        spectrum = stft(crop(wave, self.samples, g) * gain[:, None].to(wave.device))
        if not self.augment:
            return spectrum
        return spectrum * equaliser(len(clips), g, self.colour).to(wave.device) ** change[:, None, None]


def crop(wave: Tensor, samples: int, g: torch.Generator) -> Tensor:
    """A random crop of each row; mostly the louder one of two, as the source may be silent for most of the time."""
    count, total = wave.shape
    if samples >= total:
        return wave
    energy = torch.nn.functional.pad(wave.square().cumsum(1), (1, 0))
    start = torch.randint(0, total - samples + 1, (2, count), generator=g).to(wave.device)
    rows = torch.arange(count, device=wave.device)
    inside = energy[rows, start + samples] - energy[rows, start]
    pick = (torch.rand(count, generator=g) < 0.75).to(wave.device) & (inside[1] > inside[0])
    first = torch.where(pick, start[1], start[0])
    return wave.gather(1, first[:, None] + torch.arange(samples, device=wave.device))


def equaliser(count: int, g: torch.Generator, decibels: float = 3.0) -> Tensor:
    """Random smooth gains (B, 513, 1): straight lines over log frequency between six points."""
    points = torch.randn(count, 6, generator=g) * decibels
    position = torch.log1p(torch.arange(BINS) / 16) / math.log1p((BINS - 1) / 16) * 5
    left = position.floor().clamp_max(4).long()
    gain = points[:, left] + (points[:, left + 1] - points[:, left]) * (position - left)
    return 10 ** (gain[..., None] / 20)


def patchwork(count: int, frames: int, g: torch.Generator) -> Tensor:
    """Random masks (B, 513, T), 1 where the own clip is kept: whole, in time, in frequency, or both crossed.

    40 % are 1 throughout, 10 % are 0, 20 % are cut in time, 10 % in frequency, 20 % in both (exclusive or).
    """
    kind = torch.rand(count, generator=g)[:, None, None]
    # Cuts every 0.16 to 1.3 s; in frequency about one to five, equally likely per step on a mel-like scale.
    rate = 10 ** (-1 - 0.9 * torch.rand(count, 1, generator=g))
    cuts = torch.rand(count, frames, generator=g) < rate
    time = (cuts.cumsum(1) + torch.randint(0, 2, (count, 1), generator=g)) % 2
    warp = torch.log1p(torch.arange(BINS + 1) / 32).diff()
    bands = torch.rand(count, BINS, generator=g) < warp / warp.sum() * (1 + 4 * torch.rand(count, 1, generator=g))
    band = (bands.cumsum(1) + torch.randint(0, 2, (count, 1), generator=g)) % 2
    time, band = time[:, None, :].expand(-1, BINS, -1), band[:, :, None].expand(-1, -1, frames)
    mask = torch.where(
        kind < 0.5, (kind < 0.4).long(), torch.where(kind < 0.7, time, torch.where(kind < 0.8, band, time ^ band))
    )
    return mask.float()
