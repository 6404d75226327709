"""What a denoiser is trained on: own clips, and other sources whose clean estimate is silence."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sourceprior.datasets import SPEECH, ClipBank, read_manifest, voice_of
from sourceprior.examples import NULL, ExampleMaker, patchwork

DATA = Path(__file__).parent / "data"
LABELS = (NULL, "Bark", "Saxophone", "rain", SPEECH)


@pytest.fixture(scope="module")
def bank() -> ClipBank:
    return ClipBank(read_manifest(DATA, "train"), LABELS[1:])


def test_batches_depend_on_their_number_only(bank: ClipBank) -> None:
    maker = ExampleMaker(bank, LABELS)
    a, b, c = maker.draw(4, 5), maker.draw(4, 5), maker.draw(4, 6)
    assert torch.equal(a.signal, b.signal)
    assert not torch.equal(a.signal, c.signal)


def test_without_negatives_the_target_is_the_signal(bank: ClipBank) -> None:
    examples = ExampleMaker(bank, LABELS, negatives="none").draw(8, 0)
    assert torch.equal(examples.signal, examples.target)
    assert not examples.has_other.any()


@pytest.mark.parametrize("negatives", ["whole", "spliced"])
def test_every_cell_holds_one_source_never_a_mixture(bank: ClipBank, negatives: str) -> None:
    examples = ExampleMaker(bank, LABELS, negatives=negatives).draw(32, 1)
    rest = examples.signal - examples.target
    assert (examples.target.abs() * rest.abs()).max() == 0
    assert examples.has_other.any()
    silent = rest.abs().amax((1, 2)) == 0
    assert silent[~examples.has_other].all()


def test_whole_negatives_are_silence_throughout(bank: ClipBank) -> None:
    examples = ExampleMaker(bank, LABELS, negatives="whole").draw(32, 2)
    assert not examples.target[examples.has_other].any()


def test_a_speech_prior_sees_sounds_as_others_only(bank: ClipBank) -> None:
    examples = ExampleMaker(bank, (SPEECH,)).draw(16, 0)
    assert set(examples.label.tolist()) == {0}


@pytest.mark.parametrize("negatives", ["whole", "spliced"])
def test_without_speech_the_other_classes_are_the_negatives(bank: ClipBank, negatives: str) -> None:
    sounds = ClipBank([c for c in read_manifest(DATA, "train") if c.label != SPEECH], LABELS[1:4])
    maker = ExampleMaker(sounds, LABELS[:4], negatives=negatives)
    examples = maker.draw(48, 1)
    assert examples.has_other[examples.label > 0].float().mean() > 0.2
    # No sound is silence for "anything".
    assert not examples.has_other[examples.label == 0].any()
    assert torch.equal(examples.signal[examples.label == 0], examples.target[examples.label == 0])
    own = torch.arange(3).repeat_interleave(200)
    other = sounds.label[maker.elsewhere(own, torch.Generator().manual_seed(0))]
    assert not (other == own).any()
    assert {(int(a), int(b)) for a, b in zip(own, other, strict=True)} == {
        (a, b) for a in range(3) for b in range(3) if a != b
    }
    assert torch.equal(maker.draw(4, 9).signal, maker.draw(4, 9).signal)


def test_without_sounds_the_other_kinds_of_voice_are_the_negatives(bank: ClipBank) -> None:
    clips = [c for c in read_manifest(DATA, "train") if c.label == SPEECH]
    speakers = sorted({c.speaker for c in clips})
    voiced = [replace(c, label="male_speech" if c.speaker == speakers[0] else "child_speech") for c in clips]
    maker = ExampleMaker(ClipBank(voiced, ["child_speech", "male_speech"]), (SPEECH, "male_speech", "child_speech"))
    examples = maker.draw(48, 0)
    assert examples.has_other[examples.label > 0].any()
    assert not examples.has_other[examples.label == 0].any()


def test_levels_are_those_asked_for(bank: ClipBank) -> None:
    maker = ExampleMaker(bank, LABELS, negatives="none", seconds=4.0, augment=False)
    power = maker.draw(16, 0).signal.abs().square()
    # Bins 1 to 511 stand for two each of a real signal's.
    total = (2 * power.sum(1) - power[:, 0] - power[:, -1]).mean(1) / 1024
    level = 10 * torch.log10(total)
    assert level.min() > -29
    assert level.max() < -16


def test_patchwork_has_whole_empty_and_cut_masks() -> None:
    mask = patchwork(400, 60, torch.Generator().manual_seed(0))
    share = mask.mean((1, 2))
    assert 0.3 < (share == 1).float().mean() < 0.55
    assert 0.05 < (share == 0).float().mean() < 0.25
    assert ((share > 0) & (share < 1)).float().mean() > 0.25


def test_a_kind_of_voice_denies_the_other_kinds_and_speech_denies_none(bank: ClipBank) -> None:
    clips = [c for c in read_manifest(DATA, "train") if c.label == SPEECH]
    speakers = sorted({c.speaker for c in clips})
    voiced = [replace(c, label="male_speech" if c.speaker == speakers[0] else "child_speech") for c in clips]
    sounds = [c for c in read_manifest(DATA, "train") if c.label != SPEECH]
    split = ClipBank([*voiced, *sounds], ["Bark", "rain", "child_speech", "male_speech"])
    # Without sounds among the negatives of a kind of voice, all others are the other voice.
    maker = ExampleMaker(split, (SPEECH, "male_speech", "child_speech"), negatives="whole", voice_among_others=1.0)
    examples = maker.draw(64, 0)
    assert set(examples.label.tolist()) == {0, 1, 2}
    clips = maker.choose(64, torch.Generator().manual_seed(0))
    index, grouped = split.label[clips], torch.zeros(64, dtype=torch.bool)
    for wide in (False, True):
        is_wide = torch.full((64,), wide)
        other, there = maker.others(clips, is_wide, grouped, torch.Generator().manual_seed(0))
        spoken = maker.spoken[split.label[other]]
        assert there.all()
        assert not (split.label[other] == index).any()
        assert bool(spoken.any()) is not wide
    assert split.weights([SPEECH])[split.label >= 2].sum() == pytest.approx(1)


def test_voices_follow_age_and_gender() -> None:
    assert voice_of({"age": "9", "gender": "m"}) == "child_speech"
    assert voice_of({"age": "30", "gender": "f"}) == "female_speech"
    assert voice_of({"age": "", "gender": "Male"}) == "male_speech"
    assert voice_of({"age": "", "gender": ""}) == ""


def test_examples_are_changed_as_far_as_asked(bank: ClipBank) -> None:
    def drawn(**change: float) -> torch.Tensor:
        return ExampleMaker(bank, LABELS, negatives="none", seconds=0.5, **change).draw(4, 1).signal

    plain = drawn(playback=0.0, colour=0.0)
    coloured, played = drawn(playback=0.0, colour=6.0), drawn(playback=0.4, colour=0.0)
    # A colour is a gain for each bin, the same in every frame.
    gain = (coloured.abs() + 1e-9) / (plain.abs() + 1e-9)
    assert float(gain[plain.abs() > 1e-3].log().std()) > 0.1
    spread = gain.masked_fill(plain.abs() < 1e-3, float("nan")).log()
    assert float((spread - spread.nanmedian(-1, keepdim=True).values).nan_to_num().abs().max()) < 0.02
    assert not torch.allclose(played.abs(), plain.abs(), atol=1e-3)
