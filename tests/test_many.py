"""Many recordings: skipped when done, shared among processes, and neither a bad file nor an interruption spoils any."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from conftest import RATE
from robustness_cases import sound
from sourceprior import UserError, many
from sourceprior.cli import main
from sourceprior.formats import FileFormat
from sourceprior.many import Job, Request, find_jobs, separate_many
from sourceprior.separation import separate, separate_file
from sourceprior.stem_files import StemFiles

QUICK = {"steps": 2, "candidates": 1}


def command(prior_folders, *words: object) -> list[str]:
    chosen = [word for folder in prior_folders for word in ("--prior", folder)]
    own = ["--steps", 2, "--candidates", 1, "--no-picture", "-s", "speech", "-s", "anything"]
    return [sys.executable, "-m", "sourceprior", "separate", *map(str, [*own, *chosen, *words])]


@pytest.fixture
def call(prior_folders, monkeypatch, capsys):
    """Run the command in this process: (exit code, stdout, stderr)."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sourceprior", *command(prior_folders, *words)[3:]])
        with pytest.raises(SystemExit) as exit:
            main()
        printed = capsys.readouterr()
        return exit.value.code or 0, printed.out, printed.err

    return run


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two recordings of one name, one below in FLAC, a bad one, and things that are no recordings."""
    place = tmp_path / "in"
    (place / "below").mkdir(parents=True)
    (place / ".hidden").mkdir()
    for name in ["a.wav", "a.flac", "below/b c.flac", ".hidden/d.wav"]:
        sf.write(place / name, sound(), RATE)
    (place / "bad.wav").write_text("no sound")
    (place / "notes.txt").write_text("no recording")
    return place


def contents(place: Path) -> dict[str, bytes]:
    """All sound files below a folder."""
    files = sorted(file for file in place.rglob("*") if file.suffix in (".wav", ".flac") and file.is_file())
    return {str(file.relative_to(place)): file.read_bytes() for file in files}


def test_a_folder_with_a_bad_file(folder, tmp_path, call):
    out = tmp_path / "out"
    code, printed, errors = call(folder, "-o", out)
    assert code == 1
    assert "3 done, 0 done before, 1 failed" in printed
    assert errors.count("\n") == 1
    assert "bad.wav is not a sound file" in errors
    made = contents(out)
    assert {str(Path(name).parent) for name in made} == {"a.wav", "a.flac", "below/b c"}
    assert len(made) == 9

    before = {file: (out / file).stat().st_mtime_ns for file in made}
    (out / "a.wav" / "speech.wav").unlink()
    # As a killed run leaves it.
    (out / "a.flac" / "report.json").rename(out / "a.flac" / ".unfinished.json")
    (folder / "bad.wav").unlink()
    code, printed, errors = call(folder, "-o", out)
    assert (code, errors) == (0, "")
    assert "2 done, 1 done before, 0 failed" in printed
    assert contents(out) == made
    again = {file: (out / file).stat().st_mtime_ns for file in made}
    assert {str(Path(file).parent) for file in made if again[file] == before[file]} == {"below/b c"}


def test_recordings_of_kinds_that_cannot_be_read_are_named(tmp_path, call):
    place = tmp_path / "phone"
    place.mkdir()
    sf.write(place / "a.wav", sound(), RATE)
    (place / "b.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(200))
    code, printed, errors = call(place, "-o", tmp_path / "out")
    assert code == 1
    assert "1 done, 0 done before, 1 failed" in printed
    assert "b.m4a is not a sound file that can be read (WAV, FLAC" in errors


def test_other_settings_another_recording_or_overwrite_do_it_again(folder, tmp_path, call):
    path, out = folder / "a.wav", tmp_path / "out"
    assert "written to" in call(path, "-o", out)[1]
    assert "--overwrite" in call(path, "-o", out)[1]
    assert "--overwrite" in call(path, "-o", out, "--batch", 3)[1]
    for changed in (["--overwrite"], ["--seed", 1], ["--noise-db", -20], ["--format", "flac"]):
        assert "written to" in call(path, "-o", out, *changed)[1]
    assert json.loads((out / "report.json").read_text())["files"] == ["speech.flac", "anything.flac", "residual.flac"]
    sf.write(path, sound(0.4), RATE)
    assert "written to" in call(path, "-o", out, "--format", "flac")[1]


def test_a_wrong_request_fails_before_any_recording(folder, tmp_path, call):
    for words, says in [
        (["-s", "speach"], "did you mean"),
        (["--steps", 0], "steps"),
        (["--solver", "x"], "no solver"),
        (["--solver", "dirac", "--residual", "stem"], "knows no noise level"),
        (["--label-scale", 2], "wider label"),
        (["--subtype", "pcm_7"], "no sample type"),
    ]:
        code, printed, errors = call(folder, "-o", tmp_path / "out", *words)
        assert (code, printed, errors.count("\n")) == (2, "", 1)
        assert says in errors


def test_folders_for_stems(tmp_path):
    for name in ["x/a.wav", "x/b.wav", "y/a.wav", "x/out/s.wav"]:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    x, y, out = tmp_path / "x", tmp_path / "y", tmp_path / "x" / "out"
    assert find_jobs([x / "a.wav"], out) == [Job(x / "a.wav", out)]
    assert [job.folder for job in find_jobs([x], out)] == [out / "a", out / "b"]
    assert [job.folder for job in find_jobs([x / "a.wav", y / "a.wav"], out)] == [out / "a.wav", out / "a.wav_2"]
    assert [job.path for job in find_jobs([x, x / "a.wav"], out)] == [x / "a.wav", x / "b.wav"]
    with pytest.raises(UserError, match="choose another folder"):
        find_jobs([x], x)
    assert [job.folder for job in find_jobs([x / "out"], x)] == [x / "s"]
    # Stems of ours are no recordings, wherever they lie.
    (y / "s.wav").touch()
    (y / "report.json").write_text('{"mixture": "b.wav", "files": ["s.wav"]}')
    assert [job.path for job in find_jobs([y], out)] == [y / "a.wav"]


def test_nothing_is_written_over_but_stems_of_the_same_recording(folder, tmp_path, call):
    mine, out = tmp_path / "mine", tmp_path / "out"
    mine.mkdir()
    for name in ("speech.wav", "other.wav"):
        sf.write(mine / name, sound(0.3), RATE)
    before = (mine / "speech.wav").read_bytes()
    for words in ([], ["--overwrite"]):
        code, printed, errors = call(mine / "speech.wav", "-o", mine, *words)
        assert (code, printed, errors.count("\n")) == (2, "", 1)
        assert "speech.wav is the recording itself" in errors
    code, _, errors = call(mine / "other.wav", "-o", mine)
    assert code == 2
    assert "holds another speech.wav" in errors
    assert (mine / "speech.wav").read_bytes() == before
    assert sorted(os.listdir(mine)) == ["other.wav", "speech.wav"]

    assert call(folder / "a.wav", "-o", out)[0] == 0
    made = contents(out)
    code, printed, errors = call(folder / "a.flac", "-o", out)
    assert (code, printed, errors.count("\n")) == (2, "", 1)
    assert "holds the stems of" in errors
    assert "a.wav" in errors
    assert contents(out) == made
    code, _, errors = call(folder / "a.flac", "-o", out, "--overwrite")
    assert code == 0
    assert "speech.wav in" in errors, "what is left of the other recording is not told of"
    assert "speech.wav in" in call(folder / "a.flac", "-o", out, "--seed", 1)[2], "runs before the last are forgotten"


def test_a_generated_sound_takes_no_stems_place(tmp_path, prior_folders, monkeypatch, capsys):
    (tmp_path / "speech_1.wav").write_text("a stem")
    (tmp_path / "report.json").write_text('{"mixture": "a.wav", "files": ["speech_1.wav"]}')
    words = ["sample", "--label", "speech", "-o", tmp_path, "--steps", 2, "--seconds", 0.1]
    words += [word for path in prior_folders for word in ("--prior", path)]
    monkeypatch.setattr(sys, "argv", ["sourceprior", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "holds stems of a recording, speech_1.wav among them" in capsys.readouterr().err
    assert (tmp_path / "speech_1.wav").read_text() == "a stem"


def test_two_runs_do_not_write_to_one_folder(folder, tmp_path, call):
    shape, form = (1, 8), FileFormat("WAV", "PCM_16")
    first, second = (StemFiles(tmp_path / "out", ["speech"], shape, RATE, form, picture=False) for _ in range(2))

    def both() -> None:
        with first, second:
            pass

    with pytest.raises(UserError, match="Another run is writing to"):
        both()
    assert os.listdir(tmp_path / "out") == []
    assert call(folder / "a.wav", "-o", tmp_path / "out")[0] == 0


def test_what_a_residual_in_integers_loses_is_told(tmp_path):
    form = FileFormat("WAV", "PCM_16")
    files = StemFiles(tmp_path, ["speech"], (1, 4), RATE, form, picture=False)
    with files:
        files.add(np.full((1, 4), 3.0), np.full((1, 1, 4), 1.5))
    warnings = files.report({"warnings": []})["warnings"]
    assert any("residual has 4 samples beyond full scale, which are lost" in line for line in warnings)


class Deadly(type(Path())):
    """A path that ends the process which receives it."""

    def __reduce__(self):
        return os._exit, (9,)


def test_processes_share_the_work_and_one_that_dies_takes_one_recording_with_it(folder, tmp_path, prior_folders):
    request = Request(("speech", "anything"), tuple(map(str, prior_folders)), QUICK, picture=False)
    paths = [folder / "a.wav", folder / "a.flac", Deadly(folder / "deadly.wav")]
    alone = [many.attempt(Job(path, tmp_path / "1" / path.name), request) for path in paths[:2]]
    shared = list(separate_many([Job(path, tmp_path / "2" / path.name) for path in paths], request, processes=2))
    assert [outcome.status for outcome in alone] == ["done", "done"]
    # A recording that was done when the process died is found done when it is tried again.
    assert sorted(outcome.status.replace("skipped", "done") for outcome in shared) == ["done", "done", "failed"]
    assert "killed" in next(outcome.message for outcome in shared if outcome.status == "failed")
    for name in ("a.wav", "a.flac"):
        for file in alone[0].report["files"]:
            stem = Path(file).stem + Path(name).suffix
            ours, theirs = (sf.read(tmp_path / way / name / stem)[0] for way in "12")
            assert abs(ours - theirs).max() <= 2**-15


def start(words: list[str]) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    # A suite that a shell started in the background ignores Ctrl-C, and its children would inherit that.
    return subprocess.Popen(
        words,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(what, seconds: float = 300) -> None:
    limit = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_killed_stopped_and_interrupted_it_goes_on_to_the_same_result(tmp_path, prior_folders):
    place, out = tmp_path / "in", tmp_path / "out"
    place.mkdir()
    for index in range(10):
        sf.write(place / f"{index}.wav", sound(2 + index / 10), RATE)
    # Enough steps that a recording takes longer than it takes to notice the one before.
    words = command(prior_folders, place, "--steps", 40)
    reports = lambda: sorted(out.glob("*/report.json"))  # noqa: E731

    for way, code, jobs in [
        (signal.SIGKILL, -9, 2),
        (signal.SIGTERM, 143, 1),
        (signal.SIGTERM, 143, 2),
        (signal.SIGINT, 130, 1),
    ]:
        # One more than before: then it is at work, and on the next one.
        count = len(reports()) + 1
        process = start([*words, "-o", str(out), "--jobs", str(jobs)])
        wait_for(lambda count=count: len(reports()) >= count)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(way)
        error = process.communicate()[1]
        assert process.returncode == code, error
        assert "Traceback" not in error
        wait_for(lambda children=children: not any(running(child) for child in children), 30)
        assert not list(out.rglob("*.part")), "half-written files are left"
        for report in reports():
            assert all((report.parent / name).is_file() for name in json.loads(report.read_text())["files"])

    last = start([*words, "-o", str(out)])
    printed, error = last.communicate()
    assert (last.returncode, error) == (0, "")
    assert "done before, 0 failed" in printed
    whole = start([*words, "-o", str(tmp_path / "whole")])
    assert whole.wait() == 0
    assert len(contents(out)) == 30
    assert contents(out) == contents(tmp_path / "whole")


def running(child: str) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{child}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_file_that_does_not_fit(tmp_path, prior_folders):
    """A limit on the size of files stands for a full disk: writing fails half-way, in libsndfile."""
    sf.write(tmp_path / "mix.wav", sound(3), RATE, subtype="PCM_16")
    done = subprocess.run(
        command(prior_folders, tmp_path / "mix.wav", "-o", tmp_path / "out"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "speech.wav cannot be written: " in done.stderr
    assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path / "out") == []


def test_a_request_that_fails_late_takes_nothing_away(folder, tmp_path, call):
    out = tmp_path / "out"
    assert call(folder / "a.wav", "-o", out)[0] == 0
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    code, _, errors = call(folder / "a.wav", "-o", out, "--solver", "dirac", "--residual", "stem")
    assert code == 2
    assert "knows no noise level" in errors
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_a_path_means_the_folder_it_was_typed_in(tmp_path, call, monkeypatch):
    for i, day in enumerate(("monday", "tuesday")):
        (tmp_path / day).mkdir()
        sf.write(tmp_path / day / "001.wav", sound(0.3 + 0.1 * i), RATE)
    monkeypatch.chdir(tmp_path / "monday")
    assert call("001.wav", "-o", "../stems")[0] == 0
    made = contents(tmp_path / "stems")
    monkeypatch.chdir(tmp_path / "tuesday")
    code, _, errors = call("001.wav", "-o", "../stems")
    assert code == 2
    assert f"holds the stems of {tmp_path / 'monday' / '001.wav'}" in errors
    assert contents(tmp_path / "stems") == made
    # Changed, it is the same recording.
    monkeypatch.chdir(tmp_path / "monday")
    sf.write(tmp_path / "monday" / "001.wav", sound(0.5), RATE)
    assert call("001.wav", "-o", "../stems")[0] == 0


def test_a_report_and_a_picture_of_ones_own_are_kept(folder, tmp_path, call, prior_folders, monkeypatch, capsys):
    for name in ("report.json", "spectrograms.png"):
        own = tmp_path / name.partition(".")[0]
        own.mkdir()
        (own / name).write_text("mine")
        words = [word for word in command(prior_folders, folder / "a.wav", "-o", own)[3:] if word != "--no-picture"]
        monkeypatch.setattr(sys, "argv", ["sourceprior", *words])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2
        assert f"holds another {name}" in capsys.readouterr().err
        assert [file.name for file in own.iterdir()] == [name]
        assert (own / name).read_text() == "mine"


def test_a_picture_of_ones_own_is_not_taken_for_ours(folder, tmp_path, call, priors):
    out = tmp_path / "out"
    out.mkdir()
    (out / "spectrograms.png").write_text("mine")
    code, _, errors = call(folder / "a.wav", "-o", out)
    assert (code, errors) == (0, "")
    assert "older" not in json.loads((out / "report.json").read_text())
    with pytest.raises(UserError, match=r"holds another spectrograms\.png"):
        separate_file(folder / "a.wav", out, ["speech", "anything"], prior=priors, overwrite=False, **QUICK)
    assert (out / "spectrograms.png").read_text() == "mine"


def test_what_a_killed_run_has_begun_beside_a_finished_one_is_taken_away(folder, tmp_path, call):
    out = tmp_path / "out"
    assert call(folder / "a.wav", "-o", out)[0] == 0
    begun = {"mixture": str(folder / "a.wav"), "recording": None, "files": ["rain.wav", "residual.wav"]}
    (out / ".unfinished.json").write_text(json.dumps(begun))
    (out / ".rain.wav.part").write_text("half")
    assert call(folder / "a.wav", "-o", out, "--seed", 1)[0] == 0
    assert not [file.name for file in out.iterdir() if file.name.startswith(".")]


def test_a_sample_type_of_the_recordings_own_container(tmp_path, call):
    for name in ("p.flac", "q.flac"):
        sf.write(tmp_path / name, sound(0.2), RATE)
    assert call(tmp_path / "p.flac", tmp_path / "q.flac", "-o", tmp_path / "out", "--subtype", "pcm_s8")[0] == 0
    assert sf.info(tmp_path / "out" / "p" / "speech.flac").subtype == "PCM_S8"


def test_stems_of_an_array_are_not_written_over_unasked(folder, tmp_path, call, priors):
    sources = separate(sound(), RATE, ["speech", "anything"], prior=priors, **QUICK)
    sources.save(tmp_path / "out", picture=False)
    code, _, errors = call(folder / "a.wav", "-o", tmp_path / "out")
    assert code == 2
    assert "holds the stems of an array" in errors


class Terminated(type(Path())):
    """A path that ends the process which opens it as a process is ended that should clean up."""

    def open(self, *_args, **_options):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)


def test_a_worker_that_is_terminated_takes_one_recording_with_it(folder, tmp_path, prior_folders):
    request = Request(("speech", "anything"), tuple(map(str, prior_folders)), QUICK, picture=False)
    paths = [Terminated(folder / "a.wav"), folder / "a.wav", folder / "a.flac", folder / "below" / "b c.flac"]
    found = list(separate_many([Job(p, tmp_path / str(i)) for i, p in enumerate(paths)], request, processes=2))
    assert sorted(outcome.status.replace("skipped", "done") for outcome in found) == ["done", "done", "done", "failed"]
