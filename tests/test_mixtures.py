"""Mixture lists on real clips: stated levels, overlap, different sources, and the same bits every time."""

import hashlib
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sourceprior.datasets import read_manifest
from sourceprior.errors import UserError
from sourceprior.metrics import si_sdr
from sourceprior.mixtures import (
    LEVEL_OF,
    LEVELS,
    SPEECH_AS,
    TASKS,
    Drawer,
    active_part,
    active_span,
    draw,
    labels_to_draw,
    mix,
    read_list,
    render,
    usable_labels,
    write_list,
)

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def clips():
    return read_manifest(DATA, "test")


@pytest.mark.parametrize("task", TASKS)
def test_levels_overlap_and_sources(task, clips):
    speakers, sounds = TASKS[task]
    for spec in draw(task, 10, clips, DATA):
        sources = render(spec, DATA)
        assert sources.shape == (speakers + sounds, 64000)
        level = 10 * np.log10((sources.astype(np.float64) ** 2).mean(1))
        np.testing.assert_allclose(level, [source.level_db for source in spec.sources], atol=1e-4)
        assert (level >= LEVELS[0] - 1e-3).all()
        assert (level <= LEVELS[1] + 1e-3).all()

        assert spec.labels.count("speech") == speakers
        heard = [Path(source.pieces[0].clip).parent.name for source in spec.sources]
        assert len(set(heard)) == len(heard)  # classes and speakers
        for source, name in zip(spec.sources, heard, strict=True):
            assert {Path(piece.clip).parent.name for piece in source.pieces} == {name}

        spans = [active_span(source) for source in sources]
        for (a, b), (c, d) in itertools.combinations(spans, 2):
            assert min(b, d) - max(a, c) >= 0.5 * min(b - a, d - c)
        np.testing.assert_allclose(mix(sources), sources.sum(0), atol=1e-6)


@pytest.mark.parametrize("speech_as", SPEECH_AS)
def test_every_source_lies_where_the_list_says(clips, speech_as):
    for spec in [spec for task in TASKS for spec in draw(task, 3, clips, DATA, speech_as=speech_as)]:
        for source, wave in zip(spec.sources, render(spec, DATA), strict=True):
            left = wave.copy()
            for piece in source.pieces:
                clip, _ = soundfile.read(DATA / piece.clip, dtype="float64")
                place = slice(piece.at, piece.at + piece.stop - piece.start)
                np.testing.assert_allclose(wave[place], source.gain * clip[piece.start : piece.stop], atol=1e-6)
                left[place] = 0
            assert not left.any()


@pytest.mark.parametrize("speech_as", SPEECH_AS)
def test_levels_fill_their_range_and_unprocessed_mixtures_lie_at_theory(clips, speech_as):
    for task, (speakers, sounds) in TASKS.items():
        theory = 0.0 if speakers + sounds == 2 else -3.1
        specs = draw(task, 40, clips, DATA, speech_as=speech_as, seconds=2.0)
        levels = [source.level_db for spec in specs for source in spec.sources]
        assert min(levels) < LEVELS[0] + 0.5
        assert max(levels) > LEVELS[1] - 0.5
        unprocessed = [si_sdr(mix(x), x).mean() for x in (render(spec, DATA) for spec in specs)]
        assert np.mean(unprocessed) == pytest.approx(theory, abs=0.3)


@pytest.mark.parametrize("seconds", [2.0, 4.0])
def test_single_utterances_are_placed_at_random_as_sounds_are(clips, seconds):
    onsets = []
    for spec in draw("two_speech", 12, clips, DATA, seconds=seconds):
        sources = render(spec, DATA)
        assert sources.shape == (2, round(seconds * 16000))
        spans = [active_span(source) for source in sources]
        (a, b), (c, d) = spans
        assert min(b, d) - max(a, c) >= 0.5 * min(b - a, d - c)
        onsets += [source.pieces[0].at - source.pieces[0].start for source in spec.sources]
        assert [len(source.pieces) for source in spec.sources] == [1, 1]
    # All utterances are shorter than 4 s and nearly all are longer than 2 s minus a bit: all kinds of offsets come up.
    assert len(set(onsets)) > 18
    assert max(onsets) - min(onsets) > 0.1 * 16000


def test_level_of_the_active_part(clips):
    whole, active = (draw("speech_sound", 6, clips, DATA, level_of=kind) for kind in ("whole", "active"))
    for a, b in zip(whole, active, strict=True):
        assert [source.pieces for source in a.sources] == [source.pieces for source in b.sources]
        for source, wave in zip(b.sources, render(b, DATA), strict=True):
            heard = active_part(wave).astype(np.float64)
            assert 10 * np.log10((heard**2).mean()) == pytest.approx(source.level_db, abs=1e-3)
            assert LEVELS[0] <= source.level_db <= LEVELS[1]
    assert [s.gain for m in whole for s in m.sources] != [s.gain for m in active for s in m.sources]
    assert len(active_part(np.zeros(500))) == 500


def test_signals_to_train_on_are_those_of_the_list(clips):
    for speech_as in SPEECH_AS:
        drawer = Drawer("speech_two_sounds", clips, DATA, seconds=1.0, speech_as=speech_as)
        for index in (0, 7):
            np.testing.assert_array_equal(drawer.sources(5, index), render(drawer.spec(5, index), DATA))


def test_four_hundred_different_mixtures(clips):
    specs = draw("speech_sound", 400, clips, DATA, seconds=2.0)
    assert [spec.index for spec in specs] == list(range(400))
    assert len({spec.sources for spec in specs}) == 400
    assert labels_to_draw(DATA, "test", None, minimum=2) == ["Bark", "Saxophone", "rain"]
    assert labels_to_draw(DATA, "test", {"rain"}) == []


def test_the_same_list_every_time_and_longer_lists_begin_alike(clips):
    specs = draw("speech_sound", 5, clips, DATA, seed=3)
    assert specs == draw("speech_sound", 5, list(reversed(clips)), DATA, seed=3)
    assert specs == draw("speech_sound", 9, clips, DATA, seed=3)[:5]
    assert specs != draw("speech_sound", 5, clips, DATA, seed=4)
    starts = {source.pieces[0].at - source.pieces[0].start for spec in specs for source in spec.sources}
    assert len(starts) == 10  # every source has an offset of its own


@pytest.mark.parametrize(
    ("speech_as", "recorded"),
    [
        ("single", "63a0956c066babddc71fe443f4e3b1b714e132246c6dd119d48bf145d596832b"),
        ("joined", "de6e27bac585e14981b9201d6cbf242463e8996445e647d0828ba6460eeea75b"),
    ],
)
def test_a_list_survives_its_file_and_renders_the_same_bits_on_every_machine(clips, tmp_path, speech_as, recorded):
    specs = [spec for task in TASKS for spec in draw(task, 2, clips, DATA, seed=1, speech_as=speech_as)]
    write_list(tmp_path / "list.jsonl", specs)
    assert read_list(tmp_path / "list.jsonl") == specs
    digest = hashlib.sha256()
    for spec in read_list(tmp_path / "list.jsonl"):
        digest.update(mix(render(spec, DATA)).astype("<f4").tobytes())
    # Recorded once: a change means that lists drawn before no longer give the mixtures they gave.
    assert digest.hexdigest() == recorded


@pytest.mark.parametrize("level_of", LEVEL_OF)
def test_other_data_of_the_same_paths_is_not_the_lists(clips, tmp_path, level_of):
    (spec,) = draw("two_sounds", 1, clips, DATA, seconds=1.0, level_of=level_of)
    for source in spec.sources:
        for piece in source.pieces:
            (tmp_path / piece.clip).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(DATA / piece.clip, tmp_path / piece.clip)
    np.testing.assert_array_equal(render(spec, tmp_path), render(spec, DATA))
    other = tmp_path / spec.sources[1].pieces[0].clip
    wave, rate = soundfile.read(other)
    for gain in (0.5, 0.0):
        soundfile.write(other, gain * wave, rate)
        with pytest.raises(UserError, match=r"dBFS where the mixture list says -\d+\.\d: give the data"):
            render(spec, tmp_path)


def test_speech_is_joined_until_it_fills_the_mixture(clips):
    for spec in draw("two_speech", 5, clips, DATA, speech_as="joined"):
        for source in spec.sources:
            assert sum(piece.stop - piece.start for piece in source.pieces) <= spec.samples
            ends = [piece.at + piece.stop - piece.start for piece in source.pieces]
            assert [piece.at for piece in source.pieces[1:]] == ends[:-1]


def test_classes_that_are_left_out_are_named_with_the_reason(clips):
    for known, minimum, says in [
        (["rain", "siren"], 2, r"and 1\. Left out are Bark, Saxophone: unknown to the priors .*--prior"),
        (
            ["rain", "Bark"],
            3,
            r"and 0\. Left out are Bark, rain: of fewer than 3 clips \(--min-clips\); Saxophone: unkn",
        ),
        (None, 3, r"and 0\. Left out are Bark, Saxophone, rain: of fewer than 3 clips"),
    ]:
        labels = labels_to_draw(DATA, "test", known, "any", minimum)
        with pytest.raises(UserError, match=says):
            draw("two_sounds", 1, clips, DATA, labels=labels)
    assert labels_to_draw(DATA, "test", ["rain"], "any", 2) == ["rain"]


def test_labels_and_tasks_are_checked(clips, tmp_path):
    assert usable_labels(clips, 2) == ["Bark", "Saxophone", "rain"]
    assert usable_labels(clips, 3) == []
    assert usable_labels(clips, 2, known=["rain", "siren"]) == ["rain"]
    with pytest.raises(UserError, match="no level 'loud'; choose whole or active"):
        draw("two_sounds", 1, clips, DATA, level_of="loud")
    with pytest.raises(UserError, match="no form of speech 'sung'"):
        draw("two_sounds", 1, clips, DATA, speech_as="sung")
    with pytest.raises(UserError, match="no task 'choir'"):
        draw("choir", 1, clips, DATA)
    with pytest.raises(UserError, match="2 sound classes"):
        draw("two_sounds", 1, clips, DATA, labels=["rain"])
    with pytest.raises(UserError, match="which is not in"):
        render(draw("two_sounds", 1, clips, DATA)[0], tmp_path)
    (tmp_path / "bad.jsonl").write_text("hello\n")
    with pytest.raises(UserError, match="not a mixture list"):
        read_list(tmp_path / "bad.jsonl")
    with pytest.raises(UserError, match="cannot be read"):
        read_list(tmp_path / "none.jsonl")
