"""Blocks must be invisible: cut anywhere, told the same, they give what one block of the whole gives."""

import itertools
import json

import numpy as np
import pytest
import soundfile as sf
import torch

from conftest import RATE, band_noise
from sourceprior import UserError, separate
from sourceprior.audio import decibel, rms
from sourceprior.blocks import Handover, Seam, cut
from sourceprior.mixture import Mixture
from sourceprior.pieces import Pieces
from sourceprior.separation import separate_file
from sourceprior.stft import HOP

QUICK = {"steps": 4, "candidates": 1, "segment": 1.0}
SHORT = {**QUICK, "block": 4.0}
"""Blocks of four seconds."""


@pytest.fixture(scope="module")
def long_mixture() -> np.ndarray:
    """Eight seconds of speech and a bark that comes and goes, `(samples,)`."""
    samples = 8 * RATE
    swell = np.sin(np.pi * np.arange(samples) / RATE / 1.7) ** 2
    return (band_noise("speech", samples) + swell * band_noise("Bark", samples, seed=1)).astype(np.float32)


@pytest.mark.parametrize("length", [1, 9999, 10_000, 10_001, 17_000, 123_456])
def test_blocks_cover_everything_and_share_enough(length):
    places = cut(length, 10_000, 2_000)
    assert places[0][0] == 0
    assert places[-1][1] == length
    assert all(stop - start <= 10_000 for start, stop in places)
    for (_, stop), (start, after) in itertools.pairwise(places):
        assert stop - start == 2_000
        assert after > stop
        assert start % HOP == 0
    sizes = [stop - start for start, stop in places]
    # Memory and speed are those of equal blocks, and no block is left with little to hear.
    assert len(set(sizes[:-2])) <= 1
    assert len(sizes) == 1 or abs(sizes[-1] - sizes[-2]) <= 2 * HOP


@pytest.mark.parametrize("options", [{}, {"method": "heun"}, {"start": "mixture"}])
def test_blocks_agree_with_the_whole(priors, long_mixture, options):
    """Without noise nothing but the blocks' ends can differ, and what they miss there must not get into the stems."""
    chosen = {"options": {"temperature": 0.0, **options}, "prior": priors}
    whole = separate(long_mixture, RATE, ["speech", "bark"], **QUICK, **chosen).stems
    blocks = separate(long_mixture, RATE, ["speech", "bark"], **SHORT, **chosen).stems
    for name, stem in whole.items():
        assert decibel(rms(blocks[name] - stem)) < decibel(rms(stem)) - 60


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        (["speech", "bark"], {}),
        (["speech", "speech"], {"options": {"churn": 0.3}}),
        (["speech", "speech"], {"candidates": 3}),
        (["speech", "bark"], {"solver": "dirac", "steps": 2}),
        (["speech", "bark"], {"solver": "gradient", "steps": 2}),
        (["speech", "bark"], {"preset": "released", "solver": "analytical", "steps": 2}),
    ],
)
def test_no_click_where_blocks_meet(priors, long_mixture, labels, options):
    """With noise, whatever the solver: stems bend no more where blocks meet than elsewhere, and add up."""
    result = separate(long_mixture, RATE, labels, prior=priors, **{**SHORT, **options})
    total = np.sum([*result.stems.values(), result.residual], axis=0)
    assert decibel(rms(total - long_mixture)) < decibel(rms(long_mixture)) - 120
    shared = round(1.0 * RATE)
    for stem in result.stems.values():
        bend = np.abs(np.diff(stem, 2))
        for start, _ in cut(len(stem), 4 * RATE, shared)[1:]:
            assert bend[start : start + shared].max() < 1.2 * bend.max(initial=0, where=away(len(bend), shared))


def away(length: int, shared: int) -> np.ndarray:
    """Where no two blocks meet."""
    far = np.ones(length, bool)
    for start, _ in cut(length, 4 * RATE, shared)[1:]:
        far[start : start + shared] = False
    return far


def test_neighbours_are_in_the_same_state_at_every_step():
    """A solver that looks at everything it is given, twice, on two blocks that share 80 of 300 samples."""
    seen: list[list[torch.Tensor]] = []

    def solver(problem, sigmas, x, *, generators):
        values = [x]
        for sigma in sigmas:
            noise = torch.stack([generator(x.shape[1:]) for generator in generators])
            x = problem.denoise(x, float(sigma)) + noise
            values += [noise, x]
        seen.append(values)
        return x

    before = None
    for index in range(3):
        # The denoiser is another one in every block.
        problem = Mixture(torch.zeros(1, 300), lambda x, sigma, index=index: x * sigma + index, 2)
        before = Handover(before, 80, last=index == 2)
        generators = [torch.Generator().manual_seed(10 * index + item) for item in range(2)]
        start = torch.randn(2, 2, 300, generator=torch.Generator().manual_seed(index))
        before.solver(solver)(problem, torch.tensor([0.5, 0.2]), start, generators=generators)
    for earlier, later in itertools.pairwise(seen):
        for one, other in zip(earlier, later, strict=True):
            torch.testing.assert_close(one[..., -80:-40], other[..., :40], rtol=0, atol=0)
        # The noise is shared to the end.
        torch.testing.assert_close(earlier[1][..., -80:], later[1][..., :80], rtol=0, atol=0)


def test_a_seam_fades_and_loses_nothing():
    seam = Seam(40)
    parts = [torch.full((2, 100), float(value)) for value in range(3)]
    out = torch.cat([seam.add(part, last=index == 2) for index, part in enumerate(parts)], dim=1)
    assert out.shape == (2, 3 * 100 - 2 * 40)
    assert out[0, 0] == 0
    assert out[0, -1] == 2
    assert out.diff().abs().max() < 0.2


def test_pieces():
    whole = np.arange(100).reshape(2, 50)
    feed = Pieces(np.split(whole, [3, 4, 30], axis=1))
    taken = [feed.take(count) for count in (1, 0, 20, 25, 10, 5)]
    assert [part.shape[1] for part in taken] == [1, 0, 20, 25, 4, 0]
    np.testing.assert_array_equal(np.concatenate(taken, axis=1), whole)


@pytest.mark.parametrize(("rate", "channels"), [(RATE, 1), (44100, 2)])
def test_a_file_gives_what_the_array_gives_whatever_the_batch(priors, tmp_path, rate, channels):
    samples = round(5.1 * rate)
    parts = [band_noise(label, samples, rate, seed) for seed, label in enumerate(["speech", "Bark"])]
    mixture = np.stack([parts[0] + parts[1], 0.5 * parts[0] + parts[1]][:channels]).astype(np.float32)
    sf.write(tmp_path / "mix.wav", mixture.T, rate, subtype="FLOAT")
    array = separate(mixture, rate, ["speech", "bark"], prior=priors, residual="stem", **SHORT)
    array.save(tmp_path / "array", picture=False)
    separate_file(
        tmp_path / "mix.wav",
        tmp_path / "file",
        ["speech", "bark"],
        prior=priors,
        residual="stem",
        **SHORT,
        picture=False,
    )
    separate_file(
        tmp_path / "mix.wav", tmp_path / "batch", ["speech", "bark"], prior=priors, residual="stem", batch=3, **SHORT
    )
    total = 0
    for name in ("speech", "bark", "residual"):
        one, other, batched = (sf.read(tmp_path / way / f"{name}.wav")[0] for way in ("array", "file", "batch"))
        if name != "residual":
            np.testing.assert_array_equal(one, other)
        assert decibel(rms(other - one)) < decibel(rms(mixture)) - 120
        assert decibel(rms(batched - other)) < decibel(rms(mixture)) - 90
        total = total + other
    assert decibel(rms(total.T - mixture)) < decibel(rms(mixture)) - 120
    reports = [json.loads((tmp_path / way / "report.json").read_text()) for way in ("array", "file")]
    assert reports[0]["confidence"] == reports[1]["confidence"]
    assert reports[0]["stems"] == reports[1]["stems"]
    assert (tmp_path / "batch" / "spectrograms.png").stat().st_size > 10_000


def test_a_recording_that_changes_while_it_is_read(priors, tmp_path):
    path = tmp_path / "mix.wav"
    sf.write(path, band_noise("speech", 9 * RATE), RATE)

    def shrink(done: int, _: int) -> None:
        if done == 1:
            sf.write(path, band_noise("speech", 7 * RATE), RATE)

    with pytest.raises(UserError, match="changed while it was read"):
        separate_file(path, tmp_path / "out", ["speech"], prior=priors, callback=shrink, picture=False, **SHORT)
    assert list((tmp_path / "out").iterdir()) == []
