"""Rows of a table: a way to separate, what decides its results, and how it is made ready."""

from __future__ import annotations

import hashlib
import json
import pkgutil
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from torch import nn

from sourceprior import solvers
from sourceprior.baselines import supervised
from sourceprior.baselines.listening import NothingToLearn
from sourceprior.benchmark.files import in_place
from sourceprior.datasets import SPEECH, Clip
from sourceprior.denoisers import SpectralDenoiser
from sourceprior.errors import UserError, alternatives
from sourceprior.evaluation import Separator
from sourceprior.priors import SourcePrior
from sourceprior.sampling import Settings, settings_of
from sourceprior.separators import baseline, solving
from sourceprior.solver_choice import Option, check_options, find_solver, parse_options
from sourceprior.version import __version__

Progress = Callable[[int, int], None]

GRADIENT, ANALYTICAL, OURS = "Gradient + initialisation", "Analytical sampling", "Other solvers on the same priors"
UNPAIRED, SUPERVISED, NOTHING = "Learned from the same unpaired clips", "Supervised, on mixtures of the same clips", ""
KEYED = (
    "steps", "candidates", "sigma_max", "sigma_min", "solver", "options", "segment", "overlap", "noise_db",
    "tell_apart", "form",
)  # fmt: skip
"""Settings that are part of a row's key even where they are as by default, for a default may change. A setting that is
new is part of it only where it is used: results from before it came stay what they are."""
USUAL_PRECISION = "bfloat16"
USUAL_NETWORK: Mapping[str, Any] = {
    "class": "conv_unet.ConvUNet",
    "options": {
        "inputs": 5, "outputs": 3, "bins": 512, "widths": [32, 72, 128, 192], "depths": [1, 1, 1, 1], "bottom": 384,
        "dilations": [1, 2, 4, 1], "fold": [4, 2], "condition": 256,
    },
}  # fmt: skip
"""Network of the bundled priors, but for its number of classes. What a prior has beside its weights is part of its hash
only where it is not as theirs: what was measured with them before it was part of any stays valid."""
BACKBONES = {"attention": "attention U-Net", "diffwave": "Large DiffWave"}
"""Part of a network's class -> its name in the paper's Table 3."""


@dataclass(frozen=True)
class Ready:
    """A row made ready: its separator, the networks whose evaluations count, and which stems may be exchanged.

    `note` is a sentence on how it was made, if there is something to say.
    """

    separate: Separator
    networks: Sequence[nn.Module] = ()
    alike: Callable[[Sequence[str]], list[Hashable]] = list
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        name: on the command line and in file names.
        title: in the table.
        group: heading it stands under.
        fast: whether it belongs to the group of methods that take seconds per mixture on two cores.
        identity: everything that decides its results, but for the mixtures and the measuring.
        make: makes it ready for some labels; called as make(labels, progress). Raises NothingToLearn where the clips
            that it would learn from do not do.
        published: its row in the paper's table, if there is one.
        tasks: those it can do; None for all.
    """

    name: str
    title: str
    group: str
    fast: bool
    identity: Mapping[str, Any]
    make: Callable[[Sequence[str], Progress | None], Ready]
    published: str = ""
    tasks: tuple[str, ...] | None = None

    def key(self, measuring: Mapping[str, Any]) -> str:
        """Hash of the row's identity and of how it is measured: 12 hexadecimal digits."""
        return digest_of({"row": self.identity, "measuring": measuring, "sourceprior": __version__})


@dataclass(frozen=True)
class PriorSet:
    """Priors that are used together, and a hash of each one's labels, level and weights."""

    name: str
    priors: tuple[SourcePrior, ...]
    digests: tuple[str, ...]

    @classmethod
    def of(cls, name: str, priors: Sequence[SourcePrior]) -> PriorSet:
        """The set, hashed once."""
        return cls(name, tuple(priors), tuple(prior_digest(prior) for prior in priors))

    def single(self, index: int, name: str) -> PriorSet:
        """One of them."""
        return PriorSet(name, self.priors[index : index + 1], self.digests[index : index + 1])


@dataclass(frozen=True)
class Context:
    """What rows are made from.

    Attributes:
        priors: sets of priors; the first is the main one, the others add rows.
        training: clips that baselines learn from, all of the train split; called when needed.
        cache: folder for what baselines learned.
        form: of the paper's solvers, "paper" or "released".
        steps: of the paper's solvers; None for their 200.
        supervised: folders of trained baselines.
        extra: further rows, see `row_of_text`.
    """

    priors: Sequence[PriorSet]
    training: Callable[[], Sequence[Clip]]
    cache: Path
    form: str = "paper"
    steps: int | None = None
    device: str = "auto"
    supervised: Sequence[Path] = ()
    extra: Sequence[str] = field(default_factory=tuple)


def table2(context: Context) -> list[Row]:
    """Methods: every solver there is, with the main priors and with the others, and the baselines."""
    rows = [unprocessed()]
    for number, priors in enumerate(context.priors):
        rows += _solver_rows(context, priors, main=number == 0)
    rows += [learned("wiener", "fixed Wiener filters", context), learned("nmf", "dictionary NMF", context)]
    rows += supervised_rows(context)
    names = [row.name for row in rows]
    if twice := sorted(name for name in set(names) if names.count(name) > 1):
        raise UserError(f"Two rows are called {twice[0]}: give what --row or --compare adds another name.")
    return rows


def table3(context: Context) -> list[Row]:
    """Backbones for two speakers: every prior that knows speech, with the paper's two kinds of solver and ours."""
    rows = [unprocessed()]
    found = [
        set_.single(index, prior.name)
        for set_ in context.priors
        for index, prior in enumerate(set_.priors)
        if "speech" in prior.labels
    ]
    if not found:
        raise UserError("Table 3 is about speech, which none of these priors knows: give another --prior.")
    for number, backbone in enumerate(found):
        name = backbone.name
        if name in [other.name for other in found[:number]]:
            name = f"{name}_{number + 1}"
        network = str(backbone.priors[0].config.get("network", {}).get("class"))
        paper = next((known for part, known in BACKBONES.items() if part in network), "")
        for kind, title, group, settings, published in [
            ("hybrid", "hybrid", GRADIENT, _paper(context, "gradient", guidance="hybrid"), True),
            ("analytical", "analytical", ANALYTICAL, _paper(context, "analytical"), True),
            ("posterior_mean", "posterior mean", OURS, settings_of("default"), False),
        ]:
            rows.append(
                on_priors(
                    f"{kind}@{name}", f"{title}, {name}", group, kind == "posterior_mean", settings, backbone,
                    context.device, f"{kind}, {paper}" if published and paper else "",
                )
            )  # fmt: skip
    return rows


def table4(context: Context) -> list[Row]:
    """Ablations of the hybrid rule: where it starts, the terms of the loss, the floor."""
    steps = context.steps or 200
    priors = context.priors[0]
    ablations: list[tuple[str, str, str, dict[str, Any]]] = [
        ("hybrid", "all of it (t* = 150 of 200, three terms, floor 0.002)", "", {}),
        ("t200", "t* = 200 (from noise, no mixture)", "Initialisation step t*", {"from_noise": True}),
        *[
            (f"t{t}", f"t* = {t}", "Initialisation step t*", {"start": round(t * steps / 200) - 1})
            for t in (175, 125, 100)
        ],
        ("time", "loss: time", "Terms of the loss", {"lambda_group": 0.0, "lambda_stft": 0.0}),
        ("time_group", "loss: time + group", "Terms of the loss", {"lambda_stft": 0.0}),
        ("time_stft", "loss: time + STFT", "Terms of the loss", {"lambda_group": 0.0}),
        ("floor_0.005", "floor 0.005", "Floor s_floor", {"floor": 0.005}),
        ("floor_0.001", "floor 0.001", "Floor s_floor", {"floor": 0.001}),
    ]
    return [
        on_priors(name, title, group, False, _paper(context, "gradient", guidance="hybrid", **options), priors,
                  context.device, name)
        for name, title, group, options in ablations
    ]  # fmt: skip


def unprocessed() -> Row:
    """The mixture itself as every stem."""
    return Row(
        "unprocessed", "unprocessed", NOTHING, True, {"method": "unprocessed"},
        lambda labels, _: Ready(baseline("unprocessed", [], labels)), "unprocessed",
    )  # fmt: skip


def on_priors(
    name: str, title: str, group: str, fast: bool, settings: Settings, priors: PriorSet, device: str = "auto",
    published: str = "",
) -> Row:  # fmt: skip
    """A solver with its settings on some priors."""
    identity = {
        "method": "solver",
        "settings": plain(deciding(settings)),
        "priors": list(priors.digests),
    }

    def make(_labels: Sequence[str], _progress: Progress | None) -> Ready:
        # Not the denoisers: a solver may read a network as another one, see `presets.under`, and the network stays.
        networks = [getattr(prior.denoiser, "network", prior.denoiser) for prior in priors.priors]
        return Ready(solving(priors.priors, settings, device), networks)

    return Row(name, title, group, fast, identity, make, published)


def learned(name: str, title: str, context: Context) -> Row:
    """A baseline of `separators.BASELINES`, learned from the train clips; what it learned is kept in the cache."""
    try:
        clips = context.training()
    except UserError as error:
        # Data that is there to measure only: all other rows can be made.
        reason = str(error)

        def never(_labels: Sequence[str], _progress: Progress | None) -> Ready:
            raise NothingToLearn(reason)

        return Row(name, title, UNPAIRED, True, {"method": name, "training": None}, never)
    listed = digest_of([(clip.path.name, clip.label, clip.seconds, clip.licence) for clip in clips])

    def make(labels: Sequence[str], progress: Progress | None) -> Ready:
        # The second form: files of the first do not tell what they were learned from, and would be refused.
        file = context.cache / f"{name}.{digest_of([2, listed, sorted(labels)])}.safetensors"
        bad: dict[str, str] = {}

        def ready(dictionary: Path) -> Ready:
            separate = baseline(name, clips, sorted(labels), dictionary=dictionary, progress=progress, bad=bad)
            left = f"{title[0].upper()}{title[1:]}: left out {len(bad)} of the training clips, broken or silent."
            return Ready(separate, note=left if bad else "")

        if name != "nmf" or file.is_file():
            return ready(file)
        with in_place(file) as part:
            return ready(part)

    return Row(name, title, UNPAIRED, True, {"method": name, "training": listed}, make)


def supervised_rows(context: Context) -> list[Row]:
    """One row for each kind of supervised network, of the models that were trained for single tasks.

    In a model's place the settings beside a row's results (`conv_tasnet.HASH.json`) do for showing what was measured.
    """
    kinds: dict[str, dict[str, supervised.Model]] = {}
    for folder in context.supervised:
        if folder.suffix == ".json":
            continue
        model = supervised.load(folder)
        own = kinds.setdefault(model.kind, {})
        if model.task in own:
            raise UserError(f"Two models of {model.kind} are for the task {model.task}: give one of them.")
        own[model.task] = model
    rows = [_remembered(file) for file in context.supervised if file.suffix == ".json"]
    for kind, models in kinds.items():
        any_model = next(iter(models.values()))
        identity = {"method": kind, "models": {task: model.digest for task, model in sorted(models.items())}}
        ready = Ready(
            supervised.separator(models, context.device), [m.network for m in models.values()], supervised.alike
        )
        title = f"{any_model.title}, {any_model.parameters / 1e6:.2f} M parameters"
        rows.append(Row(kind, title, SUPERVISED, True, identity, _always(ready), kind, tuple(models)))
    return rows


def _remembered(file: Path) -> Row:
    """The row of a supervised network that was measured before and is not here any more; it measures nothing."""
    try:
        row = json.loads(file.read_text(encoding="utf-8"))["row"]
        title, identity = str(row["title"]), dict(row["identity"])
        kind, tasks = supervised.KINDS[supervised.KINDS.index(identity["method"])], tuple(identity["models"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"'{file}' is neither a baseline's folder nor the settings of its results.") from error

    def make(_labels: Sequence[str], _progress: Progress | None) -> Ready:
        raise UserError(f"{title} has mixtures to measure and '{file}' is no network: give --baseline its folder.")

    return Row(kind, title, SUPERVISED, True, identity, make, kind, tasks)


def untrained(rows: Sequence[Row]) -> list[str]:
    """Titles of the kinds of supervised network that have no row."""
    names = {row.name for row in rows}
    return [f"{supervised.module_of(kind).TITLE} (no --baseline)" for kind in supervised.KINDS if kind not in names]


def _always(ready: Ready) -> Callable[[Sequence[str], Progress | None], Ready]:
    return lambda _labels, _progress: ready


def row_of_text(text: str, context: Context) -> Row:
    """A row from `name: preset=best candidates=8 temperature=0.3`: settings, and options of the solver.

    Raises:
        UserError: it is not of that form, a setting does not exist, or a value is not of its type.
    """
    name, sign, words = text.partition(":")
    if not sign or not name.strip():
        raise UserError(f"Write a row as 'name: setting=value ...', not {text!r}.")
    given = parse_options(words.split())
    preset = str(given.pop("preset", "default"))
    types = get_type_hints(Settings)
    own = {item.name: Option(item.name, types[item.name], item.default, Settings) for item in fields(Settings)}
    del own["options"]
    chosen = {key: given.pop(key) for key in list(given) if key in own}
    for key, value in chosen.items():
        if not own[key].holds(value):
            raise UserError(f"The row {name.strip()}: {key} is {own[key].description}; {value!r} does not fit.")
    settings = settings_of(preset, **chosen, options=given)
    if settings.solver not in ("gradient", "analytical"):
        check_options(find_solver(settings.solver), settings.options)
    label = "_".join(name.split())
    return on_priors(label, name.strip(), OURS, False, settings, context.priors[0], context.device)


def choose(rows: Sequence[Row], wanted: Sequence[str] | None) -> list[Row]:
    """The rows of some names; `fast`, `slow` and `all` stand for several. None: all.

    Raises:
        UserError: a name that no row has.
    """
    if not wanted:
        return list(rows)
    names = [row.name for row in rows]
    for word in wanted:
        if word not in ("all", "fast", "slow", *names):
            raise UserError(
                f"There is no method {word!r} in this table; choose {alternatives(['fast', 'slow', *names])}."
            )
    return [row for row in rows if row.name in wanted or "all" in wanted or ("fast" if row.fast else "slow") in wanted]


def _solver_rows(context: Context, priors: PriorSet, main: bool) -> list[Row]:
    """Every solver on one set of priors: the paper's, the presets, and whatever else lies in `solvers`."""

    def row(name: str, title: str, group: str, fast: bool, settings: Settings, published: str = "") -> Row:
        full = name if main else f"{name}@{priors.name}"
        shown = title if main else f"{title}, {priors.name}"
        return on_priors(full, shown, group, fast, settings, priors, context.device, published if main else "")

    rows = [
        row(rule, title, GRADIENT, False, _paper(context, "gradient", guidance=rule), rule)
        for rule, title in [("dps", "DPS, constant"), ("dsg", "DSG"), ("hybrid", "hybrid (the paper's)")]
    ]
    rows.append(row("analytical", "analytical", ANALYTICAL, False, _paper(context, "analytical"), "analytical"))
    # MSDM's own number of levels.
    dirac = settings_of("sample", solver="dirac", steps=150, candidates=1)
    rows += [
        row("dirac", "Dirac (MSDM)", OURS, False, dirac),
        row("posterior_mean_fast", "posterior mean, preset fast", OURS, True, settings_of("fast")),
        row("posterior_mean", "posterior mean, preset default", OURS, True, settings_of("default")),
        row("posterior_mean_best", "posterior mean, preset best", OURS, False, settings_of("best")),
    ]
    known = {"gradient", "analytical", "dirac", "posterior_mean"}
    for module in pkgutil.iter_modules(solvers.__path__):
        if module.name not in known:
            title = module.name.replace("_", " ")
            rows.append(row(module.name, title, OURS, False, settings_of("sample", solver=module.name)))
    return rows + [row_of_text(text, context) for text in context.extra if main]


def _paper(context: Context, solver: str, **options: Any) -> Settings:
    return replace(settings_of(context.form, solver=solver, steps=context.steps), options=options)


def prior_digest(prior: SourcePrior) -> str:
    """Hash of a prior's labels, level and weights, and of its settings where they are not the usual ones."""
    whole = hashlib.sha256(json.dumps([prior.labels, prior.level, prior.sample_rate]).encode())
    for name, value in sorted(prior.denoiser.state_dict().items()):
        whole.update(name.encode())
        whole.update(value.cpu().contiguous().numpy().tobytes())
    if unusual := _unusual(prior):
        whole.update(json.dumps(unusual, sort_keys=True, default=str).encode())
    return f"{prior.name} {whole.hexdigest()[:12]}"


def _unusual(prior: SourcePrior) -> dict[str, Any]:
    """What decides a prior's results beside its weights and is not as in the bundled priors."""
    denoiser, network = prior.denoiser, prior.config.get("network", {})
    options = {name: value for name, value in network.get("options", {}).items() if name != "classes"}
    found = {
        "precision": (prior.precision, USUAL_PRECISION),
        "network": ({**network, "options": options}, USUAL_NETWORK),
        "parts": (prior.config.get("parts", {}), _usual_parts(prior.labels)),
        "denoiser": (type(denoiser).__name__, SpectralDenoiser.__name__),
    }
    unusual = {name: plain(value) for name, (value, usual) in found.items() if plain(value) != plain(usual)}
    # Of an ε-network: the steps it was trained with, and how it is told them.
    told = {name: getattr(denoiser, name) for name in ("condition", "interpolate") if hasattr(denoiser, name)}
    process = getattr(denoiser, "process", None)
    return unusual | told | ({"betas": process.betas.tolist()} if process is not None else {})


def _usual_parts(labels: Sequence[str]) -> dict[str, list[str]]:
    """Kinds of speech, where a prior knows speech first and some."""
    return {SPEECH: list(labels[1:])} if len(labels) > 1 and labels[0] == SPEECH else {}


def deciding(settings: Settings) -> dict[str, Any]:
    """The settings that decide a result: those of KEYED, and whatever else is not as it is by default."""
    usual = asdict(Settings())
    return {
        name: value
        for name, value in asdict(settings).items()
        if name in KEYED or (value != usual[name] and name != "batch")
    }


def plain(value: Any) -> Any:
    """Settings as JSON can hold them: functions by their names."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.__name__ if callable(value) else value


def digest_of(value: Any) -> str:
    """12 hexadecimal digits that stand for a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
