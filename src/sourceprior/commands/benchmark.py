"""`sourceprior benchmark table2 --data DIR --limit 40`: the paper's tables and figures, on one's own data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WHAT = ("table2", "table3", "table4", "figure2", "figure3")
TRACED = (
    "prior data limit task seconds split level_of speech list_seed mixtures min_clips licence shard report_only device"
)
TAKES = {"figure2": {*TRACED.split(), "form", "steps", "out", "quiet"}, "figure3": {"form", "steps", "out", "quiet"}}
"""What a figure can be told; a table takes every option but those that it REFUSES."""
REFUSES = {"table3": ("row", "baseline"), "table4": ("row", "baseline", "compare")}
DRAWN = ("task", "seconds", "split", "level_of", "speech", "list_seed", "min_clips")
"""Options that say how mixtures are drawn."""
NO_PESQ = (
    "PESQ is not measured, and results measured with it are not shown, as the package pesq is missing: "
    "pip install 'sourceprior[eval]', or say --no-pesq."
)


def benchmark(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help="table2, table3, table4, figure2 or figure3.")],
    data: Annotated[Path | None, typer.Option(help="Folder with manifest.csv and the clips it lists.")] = None,
    prior: Annotated[
        list[str] | None, typer.Option("--prior", help="Folder or hub name; once per prior. The bundled ones if none.")
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            "--compare", metavar="NAME=FOLDER[,FOLDER]", help="Other priors, as rows of their own; repeatable."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Mixtures per task; 400 if not told, as in the paper, for figure2 one.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option("--method", help="Rows to measure: fast, slow, all or a row's name; repeatable.")
    ] = None,
    row: Annotated[
        list[str] | None,
        typer.Option(
            "--row", metavar="'NAME: SETTING=VALUE ...'", help="A further row, as 'w: preset=best candidates=8'."
        ),
    ] = None,
    baseline: Annotated[
        list[Path] | None,
        typer.Option(
            "--baseline",
            help="Folder of a trained baseline (`sourceprior baseline`); to show results only, the .json beside them.",
        ),
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Tasks of table2 and figure2; all if not told.")] = None,
    seconds: Annotated[float, typer.Option(min=0.5, max=60, help="Length of a mixture; table3 has 2 s and 4 s.")] = 4.0,
    split: Annotated[str, typer.Option(help="Split of the manifest that mixtures are drawn from.")] = "test",
    level_of: Annotated[
        str, typer.Option("--level", help="What a level is the RMS of: whole (mixture's length) or active (part).")
    ] = "whole",
    speech: Annotated[
        str,
        typer.Option(
            help="single: one utterance, cropped or placed at random like a sound, as in the paper; joined: a "
            "speaker's utterances until the mixture is full."
        ),
    ] = "single",
    list_seed: Annotated[int, typer.Option(help="Seed of the mixture lists.")] = 0,
    mixtures: Annotated[Path | None, typer.Option(help="A mixture list to use in place of drawing one.")] = None,
    min_clips: Annotated[
        int | None, typer.Option(min=1, help="Clips a sound class must have in the split (test: 4, others: 2).")
    ] = None,
    licence: Annotated[
        str, typer.Option(help="commercial or any: of the clips mixed and learned from.")
    ] = "commercial",
    form: Annotated[
        str, typer.Option(help="Of the paper's solvers: paper, its text, or released, its code.")
    ] = "paper",
    steps: Annotated[int | None, typer.Option(min=4, help="Steps of the paper's solvers; 200 if not told.")] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Row that the others are compared with; if not told posterior_mean, in table4 hybrid, or the first "
            "solver that was measured."
        ),
    ] = None,
    zero_mean: Annotated[bool, typer.Option(help="SI-SDR of zero-mean signals.")] = False,
    pesq: Annotated[bool, typer.Option(help="PESQ of speech; takes 0.3 s a stem.")] = True,
    audio: Annotated[bool, typer.Option(help="Keep the stems, for the report's players.")] = True,
    shard: Annotated[str, typer.Option(help="i/n: this process takes every n-th mixture; run one per i.")] = "1/1",
    report_only: Annotated[bool, typer.Option(help="Measure nothing, only write the report of what there is.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder of results and report; the same one goes on.")
    ] = Path("out/benchmark"),
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """Reproduce a table or figure of the paper; what is measured already is kept, so that a stopped run goes on."""
    import sys

    from sourceprior.benchmark import figures, folder, grids, lists, rows
    from sourceprior.benchmark.records import Records
    from sourceprior.benchmark.report import Report, machine
    from sourceprior.benchmark.running import run, shard_of
    from sourceprior.benchmark.waiting import time_left
    from sourceprior.datasets import licence_filter, read_manifest
    from sourceprior.errors import UserError, alternatives
    from sourceprior.library import load_priors
    from sourceprior.metrics import pesq_known
    from sourceprior.progress import progress_bar
    from sourceprior.separation import make_folder

    if what not in WHAT:
        raise UserError(f"There is no {what!r} in the benchmark; choose {alternatives(WHAT)}.")
    if form not in ("paper", "released"):
        raise UserError(f"There is no form {form!r} of the paper's solvers; choose paper or released.")
    licence_filter(licence)
    for given in context.command.params:
        name = given.name or ""
        told = getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
        spelt = given.secondary_opts if context.params.get(name) is False else given.opts
        useless = name in REFUSES.get(what, ()) or (what in TAKES and name not in TAKES[what])
        if useless and told and name != "what":
            raise UserError(f"{what} does not take {spelt[0]}: leave it out.")
        if what == "table3" and told and name == "seconds":
            raise UserError("The lengths of table3's mixtures are the paper's: leave --seconds out.")
        if mixtures and told and name in DRAWN:
            raise UserError(f"{spelt[0]} is about drawing mixtures, and --mixtures gives a list: leave it out.")
    part = shard_of(shard)
    if what == "figure3":
        make_folder(out)
        folder.note_command(out, what, sys.argv[1:])
        grid = figures.figure3(out, steps or 200, form)
        folder.write_figure(out, what, grid, ["figure3.png"], machine())
        print(grid.markdown(), end="")
        return
    if data is None:
        raise UserError(f"Say where the clips are: sourceprior benchmark {what} --data DIR.")

    sets = [rows.PriorSet.of("priors", load_priors(prior or None))]
    for text in compare or []:
        name, sign, folders = text.partition("=")
        if not sign:
            raise UserError(f"Write other priors as NAME=FOLDER, not {text!r}.")
        sets.append(rows.PriorSet.of(name, load_priors(folders.split(","))))
    columns = lists.columns_of(what, task, seconds)

    def draw(count: int) -> list:
        if mixtures:
            return lists.given_columns(mixtures, count, what)
        # The classes that every set of priors knows: all rows get the same mixtures.
        known = set.intersection(*({label for prior in one.priors for label in prior.labels} for one in sets))
        return lists.draw_columns(
            columns, count, data, split, known, licence=licence, min_clips=min_clips, level_of=level_of,
            speech_as=speech, seed=list_seed,
        )  # fmt: skip

    if what == "figure2":
        drawn = draw(limit or 1)
        make_folder(out)
        folder.note_command(out, what, sys.argv[1:])
        with progress_bar("Tracing", quiet) as tell:
            grid, pictures = figures.figure2(
                [spec for specs in drawn for spec in specs], data, sets[0], out, form=form, steps=steps or 200,
                device=device, shard=part, measure=not report_only, tell=tell,
            )  # fmt: skip
        folder.write_figure(out, what, grid, pictures, machine())
        print(grid.markdown(), end="")
        return

    means = rows.Context(
        priors=sets, training=lambda: read_manifest(data, "train", licence), cache=out / "cache", form=form,
        steps=steps, device=device, supervised=baseline or (), extra=row or (),
    )  # fmt: skip
    table = {"table2": rows.table2, "table3": rows.table3, "table4": rows.table4}[what](means)
    wanted = against or ("hybrid" if what == "table4" else "posterior_mean")
    if against and against not in (one.name for one in table):
        raise UserError(
            f"There is no method {against!r} in this table; choose {alternatives([r.name for r in table])}."
        )
    asked = rows.choose(table, method)
    chosen = [] if report_only else asked
    measuring = {"zero_mean": zero_mean, "pesq": pesq and pesq_known()}
    remarks: list[str] = []

    def note(remark: str) -> None:
        remarks.append(remark)
        typer.echo(f"Note: {remark}", err=True)

    if pesq and not measuring["pesq"]:
        note(NO_PESQ)
    limit = limit or lists.PAPER_COUNT
    before = [Records(out / "results", one, measuring) for one in table]
    if report_only and not lists.measured_so_far(before):
        raise UserError(f"Nothing of {what} was measured in {out} with these options: leave --report-only out.")
    # The report tells of all that was ever measured, also of a longer run before.
    drawn = draw(max(limit, lists.measured_so_far(before)))
    make_folder(out)
    folder.note_command(out, what, sys.argv[1:])
    kept = out / f"{what}.mixtures.jsonl"
    # Not in the place of the list that was given, of which `--limit` takes some.
    if not (mixtures and kept.exists() and kept.samefile(mixtures)):
        lists.save(kept, drawn)
    with time_left(what, quiet) as tell_left:
        run(chosen, [specs[:limit] for specs in drawn], data, out, measuring, shard=part, keep_audio=audio,
            tell=tell_left, note=note)  # fmt: skip

    records = [Records(out / "results", one, measuring) for one in table]
    specs = lists.by_digest(drawn)
    lines = grids.lines_of(table, records, {digest: spec.samples / spec.sample_rate for digest, spec in specs.items()})
    compared, remark = grids.compared_with(lines, table, wanted)
    remarks += [remark] if remark else []
    report = Report(
        name=what,
        lines=lines,
        columns=list(dict.fromkeys((own[0].task, own[0].samples / own[0].sample_rate) for own in drawn if own)),
        main={"table2": grids.table2, "table3": grids.table3, "table4": grids.table4}[what],
        against=compared,
        commands=folder.commands(out, what),
        keys={one.name: own.key for one, own in zip(table, records, strict=True)},
        specs=specs,
        root=data,
        note=lists.describe(split, level_of, speech, licence, list_seed, mixtures),
        remarks=remarks,
        missing=[one.title for one in table if one.name not in {line.of for line in lines}]
        + (rows.untrained(table) if what == "table2" else []),
    )
    report.write(out)
    print(report.grids()[0].markdown(), end="")
    if not quiet:
        print(f"\nThe report is {out / f'{what}.html'}.")
