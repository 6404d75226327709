"""Every kind of bad or odd input, and what the command line does with it.

`tests/test_robustness.py` runs them and writes docs/robustness.md.
"""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.numpy import load, save

from conftest import RATE, band_noise
from sourceprior import audio
from sourceprior.containers import mp3_frames


def sound(seconds: float = 0.5) -> np.ndarray:
    """Speech and bark noises, peak below full scale, `(samples,)`."""
    samples = round(seconds * RATE)
    return band_noise("speech", samples) + band_noise("Bark", samples, seed=1)


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        name: as in the table.
        make: writes what is needed into a folder and returns the words of the command after `separate`; `PRIOR` stands
            for the small priors, and is added where no prior is named.
        says: part of what is printed on stderr.
        code: the exit code; with 0 there are stems, which add up to the recording, with 1 those of the recordings that
            could be separated, each in a folder below the output folder.
        patch: what of the machine is made to fail, if anything.
        command: which one, if not `separate`.
    """

    name: str
    make: Callable[[Path], list[object]]
    says: str
    code: int = 2
    patch: Callable[[pytest.MonkeyPatch], None] = field(default=lambda _: None)
    command: str = "separate"


def wav(folder: Path, samples: np.ndarray, name: str = "mix.wav", subtype: str = "FLOAT") -> list[object]:
    sf.write(os.fsencode(folder / name), samples, RATE, format="WAV", subtype=subtype)
    return [folder / name, "-s", "speech", "-s", "anything"]


def raw(folder: Path, content: bytes, name: str = "mix.wav") -> list[object]:
    (folder / name).write_bytes(content)
    return [folder / name, "-s", "speech", "-s", "anything"]


def encoded(folder: Path, name: str, **form: str) -> bytes:
    sf.write(folder / name, sound(1), RATE, **form)
    return (folder / name).read_bytes()


def cut(folder: Path, name: str, **form: str) -> list[object]:
    content = encoded(folder, name, **form)
    return raw(folder, content[: len(content) * 2 // 3], name)


def length_field(folder: Path, length: int) -> list[object]:
    content = bytearray(encoded(folder, "mix.wav", subtype="PCM_16"))
    place = content.find(b"data") + 4
    content[place : place + 4] = length.to_bytes(4, "little")
    return raw(folder, bytes(content))


def tagged(folder: Path) -> list[object]:
    return raw(folder, encoded(folder, "mix.wav", subtype="PCM_16") + b"ID3\3\0\0\0\0\0\x0a" + bytes(10))


def untold(folder: Path) -> list[object]:
    content = bytearray(encoded(folder, "mix.flac"))
    # The last 36 bits of what STREAMINFO says of the samples.
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    return raw(folder, bytes(content), "mix.flac")


def odd_rate(folder: Path) -> list[object]:
    sf.write(folder / "mix.wav", sound(), 88_201)
    return [folder / "mix.wav", "-s", "speech", "--format", "flac"]


def option(*words: object) -> Callable[[Path], list[object]]:
    return lambda folder: [*wav(folder, sound()), *words]


def sources(*labels: str) -> Callable[[Path], list[object]]:
    return lambda folder: [wav(folder, sound())[0], *(word for label in labels for word in ("-s", label))]


def without_permission(folder: Path) -> list[object]:
    words = wav(folder, sound())
    (folder / "mix.wav").chmod(0)
    return words


def no_permission(patch: pytest.MonkeyPatch) -> None:
    """What the system does for anyone but root."""
    patch.setattr(os, "access", lambda path, mode: mode != os.R_OK)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    patch.setattr(audio, "Sequential", refuse)


def no_entry(patch: pytest.MonkeyPatch) -> None:
    """What the system does for anyone but root: nothing can be known of the file."""
    known = Path.stat

    def refuse(path: Path, **options: bool) -> os.stat_result:
        if path.name == "mix.wav":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return known(path, **options)

    patch.setattr(Path, "stat", refuse)


def no_listing(patch: pytest.MonkeyPatch) -> None:
    """What the system does for anyone but root: the folder `locked` may not be listed."""
    known = os.scandir

    def refuse(path: object = ".") -> object:
        if Path(str(path)).name == "locked":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return known(path)

    patch.setattr(os, "scandir", refuse)


def no_config(patch: pytest.MonkeyPatch) -> None:
    """What the system does for anyone but root: config.json may not be read."""
    known = Path.read_text

    def refuse(path: Path, *words: object, **options: object) -> str:
        if path.name == "config.json":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return known(path, *words, **options)

    patch.setattr(Path, "read_text", refuse)


def two_accelerators(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "device_count", lambda: 2)


def full_disk(patch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(audio.sf.SoundFile, "write", refuse)


def prior(config: str | None, weights: bytes | None) -> Callable[[Path], list[object]]:
    """A prior's folder with a config ("own" for that of the small speech prior) and weights, or without."""

    def make(folder: Path) -> list[object]:
        (folder / "prior").mkdir()
        own = {"own": (OWN[0] / "config.json").read_text()} if config == "own" else {}
        if config is not None:
            (folder / "prior" / "config.json").write_text(own.get(config, config))
        if weights is not None:
            good = (OWN[0] / "model.safetensors").read_bytes()
            tensors = load(good)
            spoilt = {
                name: np.full_like(tensor, np.nan) for name, tensor in tensors.items() if tensor.dtype.kind == "f"
            }
            known = {b"half": good[: len(good) // 2], b"nan": save({**tensors, **spoilt})}
            known[b"other"] = save({"layer": np.zeros(3, np.float32)})
            content = known.get(weights, weights)
            (folder / "prior" / "model.safetensors").write_bytes(content)
        return [wav(folder, sound())[0], "-s", "speech", "--prior", folder / "prior"]

    return make


def config(**entries: object) -> Callable[[Path], list[object]]:
    """The folder of the small speech prior, with other entries in its config."""

    def make(folder: Path) -> list[object]:
        own = json.loads((OWN[0] / "config.json").read_text())
        return prior(json.dumps(own | entries), (OWN[0] / "model.safetensors").read_bytes())(folder)

    return make


def network(**options: object) -> dict[str, object]:
    """An entry of a config: a small network with other options."""
    own = {"inputs": 5, "outputs": 3, "classes": 1, "widths": [4], "depths": [1], "bottom": 8, "condition": 8}
    return {"class": "conv_unet.ConvUNet", "options": own | options}


OWN: list[Path] = []
"""Folder of the small speech prior; set by the tests."""


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (open, (self.path, "w"))


def hostile(folder: Path) -> list[object]:
    return prior("own", pickle.dumps(Hostile(str(folder / "executed"))))(folder)


def out_is_a_file(folder: Path) -> list[object]:
    (folder / "file").touch()
    return [*wav(folder, sound()), "-o", folder / "file"]


def headless(folder: Path) -> list[object]:
    """An MP3 file that begins in the middle of a stream."""
    content = encoded(folder, "mix.mp3")
    return raw(folder, content[list(mp3_frames(io.BytesIO(content)))[1][0] :], "mix.mp3")


def joined(folder: Path, name: str) -> list[object]:
    return raw(folder, encoded(folder, name) * 2, name)


def at_rate(folder: Path, rate: int) -> list[object]:
    sf.write(folder / "mix.wav", sound(), rate, subtype="FLOAT")
    return [folder / "mix.wav", "-s", "speech"]


def empty_folder(folder: Path) -> list[object]:
    (folder / "empty").mkdir()
    return [folder / "empty", "-s", "speech"]


def locked_folder(folder: Path) -> list[object]:
    """A folder of two recordings, one of them in a folder `locked` below it."""
    (folder / "all" / "locked").mkdir(parents=True)
    wav(folder / "all", sound(), "free.wav")
    wav(folder / "all" / "locked", sound())
    return [folder / "all", "-s", "speech", "-s", "anything"]


def locked_alone(folder: Path) -> list[object]:
    return [folder / "all" / "locked", *locked_folder(folder)[1:]]


def out_is_a_circle(folder: Path) -> list[object]:
    (folder / "all").mkdir()
    (folder / "circle").symlink_to("circle")
    return [wav(folder / "all", sound())[0].parent, "-s", "speech", "-o", folder / "circle"]


def empty_list(folder: Path) -> list[object]:
    (folder / "empty.jsonl").touch()
    return ["table2", "--data", Path(__file__).parent / "data", "--mixtures", folder / "empty.jsonl"]


def pipe(folder: Path) -> list[object]:
    os.mkfifo(folder / "pipe.wav")
    return [folder / "pipe.wav", "-s", "speech"]


def listen_to_raw(folder: Path) -> list[object]:
    return [raw(folder, bytes(5000), "mix.raw")[0]]


def loud(samples: np.ndarray, gain: float) -> np.ndarray:
    return np.clip(samples / np.abs(samples).max() * gain, -1, 1)


CASES = [
    Case("missing file", lambda folder: [folder / "none.wav", "-s", "speech"], "There is no file"),
    Case("folder without recordings", empty_folder, "holds no recordings"),
    Case("pipe", pipe, "is a pipe or device"),
    Case("empty file", lambda folder: raw(folder, b""), "is empty"),
    Case("zero samples", lambda folder: wav(folder, np.zeros(0)), "has no samples"),
    Case("one sample", lambda folder: wav(folder, np.full(1, 0.5)), "has 1 sample: too little", 0),
    Case("50 ms", lambda folder: wav(folder, sound(0.05)), "has 800 samples: too little", 0),
    Case("silence", lambda folder: wav(folder, np.zeros(8000)), "is silent"),
    Case("DC only", lambda folder: wav(folder, np.full(8000, 0.3)), "is a constant (DC)"),
    Case("NaN", lambda folder: wav(folder, np.append(sound(), np.nan)), "not finite (NaN or infinity)"),
    Case("infinity", lambda folder: wav(folder, np.append(sound(), np.inf)), "not finite (NaN or infinity)"),
    Case("a damaged sample", lambda f: wav(f, np.append(sound(), 1e20)), "samples of up to 1e+20 times full scale"),
    Case("clipped", lambda folder: wav(folder, loud(sound(), 4), subtype="PCM_16"), "The recording is clipped", 0),
    Case("beyond full scale", lambda folder: wav(folder, sound() * 10), "samples beyond full scale", 0),
    Case("text renamed to .wav", lambda folder: raw(folder, b"not a sound\n" * 50), "is not a sound file"),
    Case("random bytes", lambda folder: raw(folder, np.random.default_rng(0).bytes(5000)), "is not a sound file"),
    Case("raw samples", lambda folder: raw(folder, bytes(5000), "mix.raw"), "is not a sound file"),
    Case("raw samples to listen to", listen_to_raw, "is not a sound file", command="listen"),
    Case("a WAV file's first 20 bytes", lambda f: raw(f, encoded(f, "a.wav")[:20], "b.wav"), "is not a sound file"),
    Case("truncated WAV", lambda folder: cut(folder, "mix.wav", subtype="PCM_16"), "breaks off", 0),
    Case("truncated FLAC", lambda folder: cut(folder, "mix.flac"), "breaks off", 0),
    Case("truncated MP3", lambda folder: cut(folder, "mix.mp3"), "breaks off", 0),
    Case("truncated Ogg", lambda f: raw(f, (encoded(f, "mix.ogg") * 2)[:-2000], "mix.ogg"), "breaks off", 0),
    Case("MP3 without a count of its frames", headless, "", 0),
    Case("two MP3 files joined", lambda folder: joined(folder, "mix.mp3"), "", 0),
    Case("two Ogg files joined", lambda folder: joined(folder, "mix.ogg"), "", 0),
    Case("header with too great a length", lambda folder: length_field(folder, 2**31 - 16), "wrong header", 0),
    Case("header with too small a length", lambda folder: length_field(folder, 8000), "wrong header", 0),
    Case("header of an endless stream", lambda folder: length_field(folder, 2**32 - 1), "wrong header", 0),
    Case("header that no recorder came back to finish", lambda folder: length_field(folder, 0), "wrong header", 0),
    Case("ID3 tag behind a WAV file's chunks", tagged, "", 0),
    Case("FLAC that does not tell its length", untold, "", 0),
    Case("no permission to read it", without_permission, "mix.wav may not be read", patch=no_permission),
    Case("no permission to enter its folder", lambda f: wav(f, sound()), "may not be read", patch=no_entry),
    Case("folder that may not be listed", locked_alone, "may not be read", patch=no_listing),
    Case("a file in its folder may not be looked at", locked_folder, "may not be read", 1, no_entry),
    Case("a folder in its folder may not be listed", locked_folder, "locked may not be read", 1, no_listing),
    Case("9 channels", lambda folder: wav(folder, np.stack([sound()] * 9, 1)), "At most 8 channels"),
    Case("unknown label", sources("speach"), "did you mean speech?"),
    Case("unknown label, nothing near", sources("zzz"), "`sourceprior labels` lists the known ones"),
    Case("no source", sources(), "Name at least one source with -s"),
    Case("the same label 20 times", sources(*["speech"] * 20), "", 0),
    Case("a source that is not there", sources("rain"), "rain is hardly heard", 0),
    Case("prior folder without a config", prior(None, b""), "holds no config.json"),
    Case("prior's name over 255 bytes", option("--prior", "x" * 300), "There is no folder"),
    Case("no permission to read a config", prior("own", b""), "config.json' cannot be read: Perm", patch=no_config),
    Case("config that is no JSON", prior("{", b""), "cannot be read as the config of a prior"),
    Case("config that names other code", config(network={"class": "os.system", "options": {}}), "No module named"),
    Case("config nested too deep", prior("[" * 100_000, b""), "nested too deep"),
    Case("config with numbers for labels", config(labels=[1, 2]), "labels must be a list of printable names"),
    Case("config with one label twice", config(labels=["speech", "speech"]), "labels must be a list of printable"),
    Case("config without any label", config(labels=[]), "labels must be a list of printable names, at least one"),
    Case("config with a label that cannot be printed", config(labels=["a\0b"]), "labels must be a list of printable"),
    Case("config with a sample rate of 0", config(sample_rate=0), "sample_rate must lie between 8000 and 192000 Hz"),
    Case("config with a negative sample rate", config(sample_rate=-16000), "sample_rate must lie between 8000 and"),
    Case("config with a level of 0", config(level=0), "level must be a number above 0"),
    Case("config with an infinite level", config(level=float("inf")), "level must be a number above 0"),
    Case("config with parts that are no labels", config(parts={"speech": ["tenor"]}), "parts must give, for a label"),
    Case("config with parts in no order", config(parts=[1]), "parts must give, for a label, a list of other labels"),
    Case("config with a negative network size", config(network=network(bottom=-8)), "negative dimension"),
    Case("prior folder without weights", prior("own", None), "are missing"),
    Case("truncated weights file", prior("own", b"half"), "is not a readable safetensors file"),
    Case("weights file that is a hostile pickle", hostile, "is not a readable safetensors file"),
    Case("weights that are not finite", prior("own", b"nan"), "hold values that are not finite"),
    Case("weights of another network", prior("own", b"other"), "do not fit their config"),
    Case("steps out of range", option("--steps", 0), "steps must lie between 1 and 1000"),
    Case("candidates out of range", option("--candidates", 100), "candidates must lie between 1 and 64"),
    Case("segment out of range", option("--segment", 0.1), "segment must lie between 1 and 600"),
    Case("segment not a number", option("--segment", "nan"), "segment must lie between 1 and 600"),
    Case("batch out of range", option("--batch", 0), "batch must lie between 1 and 1024"),
    Case("negative seed", option("--seed", -1), "The seed must not be negative"),
    Case("noise level out of range", option("--noise-db", 3), "noise_db must lie between -100 and 0"),
    Case("noise level without a residual", option("--noise-db", -30, "--residual", "none"), "choose residual stem"),
    Case("unknown residual", option("--residual", "all"), "There is no residual 'all'"),
    Case("unknown preset", option("--preset", "magic"), "There is no preset 'magic'"),
    Case("unknown solver", option("--solver", "magic"), "no solver"),
    Case("unknown device", option("--device", "magic"), "There is no device 'magic'"),
    Case("device that is not numbered", option("--device", "cpu:"), "The device 'cpu:' is not available"),
    Case("device with a name for a number", option("--device", "cpu:abc"), "The device 'cpu:abc' is not available"),
    Case("device beyond the last", option("--device", "cuda:9"), "'cuda:9' is not available", patch=two_accelerators),
    Case("unknown format", option("--format", "mp5"), "There is no format 'mp5'"),
    Case("sample type the format has not", option("--format", "flac", "--subtype", "float"), "FLAC holds no"),
    Case("sample rate that FLAC has not", odd_rate, "FLAC holds rates above 65535 Hz only if"),
    Case("label scale out of range", option("--label-scale", -1), "label_scale must lie between 0 and 100"),
    Case("unknown precision", option("--precision", "int8"), "There is no precision 'int8'"),
    Case("option that the solver has not", option("-O", "foo=1"), "has no option 'foo'"),
    Case("a seed beyond all generators", option("--seed", 2**70), "The seed must be"),
    Case("sample rate below 8 kHz", lambda f: at_rate(f, 4000), "The sample rate must be 8000 to 192000 Hz"),
    Case("sample rate above 192 kHz", lambda f: at_rate(f, 384_000), "The sample rate must be 8000 to 192000 Hz"),
    Case("a folder to listen to", lambda f: [empty_folder(f)[0]], "is a folder, not a recording", command="listen"),
    Case("no jobs", option("--jobs", 0), "jobs must be 1 or more"),
    Case("unknown engine", option("--engine", "magic"), "There is no engine 'magic'"),
    Case("no space left", option(), "No space left on device", patch=full_disk),
    Case("output folder that is a file", out_is_a_file, "not a folder"),
    Case("output folder that is a link to itself", out_is_a_circle, "not a folder"),
    Case("output folder's name over 255 bytes", option("-o", "x" * 300), "cannot be made: File name too long"),
    Case("file name over 255 bytes", lambda folder: [folder / ("x" * 300), "-s", "speech"], "File name too long"),
    Case("file name with spaces", lambda folder: wav(folder, sound(), "my mix.wav"), "", 0),
    Case("file name with a newline", lambda folder: wav(folder, sound(), "my\nmix.wav"), "", 0),
    Case("file name with non-ASCII letters", lambda folder: wav(folder, sound(), "Übung 混ぜ.wav"), "", 0),
    Case("file name that is no UTF-8", lambda folder: wav(folder, sound(), os.fsdecode(b"\xff.wav")), "", 0),
    Case("benchmark of an empty mixture list", empty_list, "holds no mixtures", command="benchmark"),
]  # fmt: skip
