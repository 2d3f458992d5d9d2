"""The command line: thin doors to the same code that the Python API opens."""

from __future__ import annotations

import errno
import json
import os
import shlex
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console as RichConsole
from rich.table import Table

from polyana.errors import PolyanaError, UserError
from polyana.storage import home_directory, is_disk_full

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train language models from one YAML recipe: raw text in, a model out, every step in between in sight.",
    epilog="Everything is kept in .polyana/ (or $POLYANA_HOME). "
    "Exit codes: 0 done, 1 failed, 2 the input is wrong, 128+n stopped by signal n after saving.",
)
show = typer.Typer(no_args_is_help=True, help="Look at the data: batches, the corpus and its drops, the tokenizer.")
app.add_typer(show, name="show")
runs = typer.Typer(help="List runs, finished and live, with a small curve of their loss; or bring old ones along.")
app.add_typer(runs, name="runs")
models = typer.Typer(no_args_is_help=True, help="Do things with saved models.")
app.add_typer(models, name="models")

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe's YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="As stages.pretrain.train.lr=3e-4; repeatable."),
]
RevisionName = Annotated[
    str, typer.Argument(metavar="RUN[@REV]", help="A run, or the beginning of its name; @best, @step-500.")
]
Decoders = Literal["greedy", "beam", "mbr"]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command()
def run(
    recipe: RecipePath,
    stage: Annotated[str | None, typer.Option(help="Only this stage and what it needs.")] = None,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Fail unless there is an interrupted run.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Train again from the start, in a new run.")] = False,
    processes: Annotated[int, typer.Option(min=1, help="Train in so many processes on this machine.")] = 1,
    restarts: Annotated[
        int, typer.Option(min=0, help="With --processes: start again so often when one dies, from the last save.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Run a recipe. What is finished and unchanged is kept; what was interrupted goes on where it stopped."""
    from polyana.distributed import is_main, launch
    from polyana.recipe import load_recipe
    from polyana.run import run_recipe

    if resume and fresh:
        raise UserError("--resume goes on with a run and --fresh begins a new one; choose one of them")
    loaded = load_recipe(recipe, overrides or ())
    if (processes > 1 or restarts) and "RANK" not in os.environ:  # else this is one of them
        sys.exit(launch(processes, restarts, ["-m", "polyana", *sys.argv[1:]]))
    began = time.time()
    summaries = run_recipe(loaded, stage=stage, resume=resume, fresh=fresh)
    if not is_main():
        return
    if as_json:
        _print(json.dumps(summaries, ensure_ascii=False, indent=1))
        return
    for summary in summaries.values():
        _show_summary(summary, home_directory(), time.time() - began)


@app.command()
def plan(
    recipe: RecipePath,
    stage: Annotated[str | None, typer.Option(help="Only this stage and what it needs.")] = None,
    overrides: Overrides = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Make corpus, tokenizer and tokens now where they are not there yet.")
    ] = False,
    price: Annotated[
        float | None, typer.Option(min=0.0, help="Of an hour, as 2.5: prints what training costs.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Plan for training in so many processes on this machine.")] = 1,
    compare_compiled: Annotated[
        bool, typer.Option("--compile", help="Rehearse with and without torch.compile: which is faster in all?")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a recipe would do and need: stages, memory, disk, time. Exit code 1 when memory or disk are short."""
    from polyana.plan import picture, plan_recipe
    from polyana.recipe import load_recipe

    planned = plan_recipe(
        load_recipe(recipe, overrides or ()), stage=stage, prepare=prepare, price=price, processes=processes,
        compare_compiled=compare_compiled,
    )  # fmt: skip
    if as_json:
        _print(json.dumps(planned.as_json(), ensure_ascii=False, indent=1))
    else:
        RichConsole(highlight=False, width=None if sys.stdout.isatty() else 120).print(picture(planned))
    if not planned.fits:
        raise typer.Exit(1)


def _show_summary(summary: dict[str, Any], home: Path, wall_seconds: float) -> None:
    """The short table at the end of a run, the first and the last sample, and what to try next."""
    from polyana.registry import Repository
    from polyana.storage import show_bytes
    from polyana.tracking import RunDirectory, as_text, read_curves, show_clock

    run = RunDirectory(home / "runs" / summary["run"])
    metrics, fine_tuned = summary["metrics"], str(run.about()["start"]).startswith("base-")
    table = Table(title=summary["run"], title_justify="left", show_header=False)
    table.add_row("steps", f"{summary['steps']:,} (best at {summary['best_step']:,})")
    if "eval/loss" in metrics:
        table.add_row("eval loss", f"{metrics['eval/loss']:.4f} nats per token")
        if fine_tuned:
            table.add_row("  the base's", f"{dict(read_curves(run.metrics)['eval/loss'])[0]:.4f}")
        table.add_row("perplexity", f"{metrics['eval/perplexity']:.1f}")
    if "eval/bits_per_byte" in metrics:
        table.add_row("bits per byte", f"{metrics['eval/bits_per_byte']:.3f}")
    if summary.get("trigram_bits_per_byte") is not None:
        table.add_row("  a character trigram's", f"{summary['trigram_bits_per_byte']:.3f}")
    for name, score in summary.get("scores", {}).items():
        table.add_row(name, f"{score['value']:.1f} ({score['before']:.1f} before)")
    table.add_row("tokens per second", f"{summary['tokens_per_second']:,.0f}")
    wall, training = show_clock(wall_seconds), show_clock(summary["training_seconds"])
    at_once = len(list(run.metrics.iterdir())) == 1 and wall_seconds > summary["training_seconds"]
    shown = f"{wall} (training steps {training})" if at_once else f"{wall} this time (training steps {training} in all)"
    table.add_row("wall time", shown)
    table.add_row("disk used", show_bytes(summary["disk_bytes"]))
    console = RichConsole(highlight=False)
    console.print(table)
    samples = run.read_samples()
    for step in sorted({min(samples), max(samples)}) if samples else ():
        first = samples[step][0]
        console.print(f"[bold]step {step}{', the base' if fine_tuned and step == 0 else ''}[/bold]: ", end="")
        console.print(as_text(first), markup=False, soft_wrap=True)
    prompt = next(iter(samples.values()))[0]["prompt"] if samples else "Once"
    repository = Repository(home / "hub", summary["run"])
    where = _relative(repository.snapshot(repository.resolve("best")))
    console.print(f"\nThe best model: {where}", markup=False, soft_wrap=True)
    try_it = f'generate {summary["run"]}@best "{prompt}"'
    if "scores" in summary:
        page = _relative(run.path / "translations.html")
        console.print(f"What it translates, the worst first: {page}", markup=False, soft_wrap=True)
        try_it = f"translate {summary['run']}@best FILE"
    console.print(
        f"Try next:\n  polyana {try_it}\n"
        f"  polyana runs\n"
        f"  polyana show batch {shlex.quote(_relative(run.path / 'recipe.yaml'))}",
        markup=False,
        soft_wrap=True,
    )


@runs.callback(invoke_without_command=True)
def list_runs(
    context: typer.Context,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every two seconds until Ctrl-C.")] = False,
) -> None:
    """List runs, finished and live, with a small curve of their loss; or bring old ones along."""
    from rich.live import Live

    if context.invoked_subcommand is not None:
        return
    directory = home_directory() / "runs"
    if as_json:
        _print(json.dumps(_overview(directory), ensure_ascii=False, indent=1))
        return
    console = RichConsole(highlight=False, width=None if sys.stdout.isatty() else 120)
    if not watch:
        console.print(_runs_table(directory, console.width))
        return
    with Live(_runs_table(directory, console.width), console=console, refresh_per_second=1) as live:
        while True:
            time.sleep(2)
            live.update(_runs_table(directory, console.width))


@runs.command("import")
def import_runs(
    paths: Annotated[list[Path], typer.Argument(help="Files, or directories with such files at any depth.")],
    as_json: AsJson = False,
) -> None:
    """Bring runs of TensorBoard (event files), Trackio (*.db) and W&B (offline, *.wandb) into this home.

    Importing again brings up to date what has grown, and makes no second run.
    """
    from polyana.importers import bring

    brought = bring(paths, home_directory())
    if as_json:
        _print(json.dumps([asdict(each) for each in brought], ensure_ascii=False, indent=1))
        return
    for each in brought:
        attempts = f", {each.attempts} attempts" if each.attempts > 1 else ""
        _print(f"{each.what:<10}{each.run}  ({each.kind}, {each.points:,} numbers{attempts})")
        for trouble in each.troubles:
            _print(f"          {trouble}")


@app.command()
def watch(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run, or the beginning of its name: the newest such.")],
    metric: Annotated[
        list[str] | None, typer.Option(help="A chart of this metric alone; repeatable. Default: the most telling.")
    ] = None,
    smoothing: Annotated[float, typer.Option(min=0.0, max=0.999, help="As in the page.")] = 0.0,
    log: Annotated[bool, typer.Option("--log", help="Powers of ten on the y axis.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Print one picture, also into a pipe.")] = False,
) -> None:
    """Watch a run's curves here in the terminal, live; Ctrl-C ends the watching and leaves training alone."""
    from polyana.terminal import Watched
    from polyana.terminal import watch as watch_live
    from polyana.tracking import find_run

    home = home_directory()
    watched = Watched(find_run(home / "runs", run), home, metric or (), smoothing, log)
    piped = not sys.stdout.isatty()
    console = RichConsole(highlight=False, width=100 if piped else None, height=40 if piped else None)
    if once or piped:
        console.print(watched)
    else:
        watch_live(watched, console)


def _overview(directory: Path) -> list[dict[str, Any]]:
    """What `polyana runs` shows of each run, as plain data."""
    from polyana.tracking import find_runs, read_curves

    rows = []
    for found in find_runs(directory):
        curves = read_curves(found.metrics)
        losses, evaluations = curves.get("train/loss", []), curves.get("eval/loss", [])
        rows.append(
            {
                "run": found.name,
                "status": found.status(),
                "step": losses[-1][0] if losses else 0,
                "train/loss": losses[-1][1] if losses else None,
                "eval/loss": min(value for _, value in evaluations) if evaluations else None,
                "curve": [value for _, value in losses],
            }
        )
    return rows


def _runs_table(directory: Path, width: int) -> Table | str:
    """The runs in at most `width` columns: the curve takes what the figures leave."""
    from polyana.tracking import sparkline

    rows = _overview(directory)
    if not rows:
        return f"no runs in {_relative(directory)} yet; polyana run RECIPE begins one"
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("run", "status", "step", "loss", "eval", "loss curve"):
        table.add_column(heading, justify="right" if heading in ("step", "loss", "eval") else "left", no_wrap=True)
    colours = {"finished": "green", "training": "cyan", "failed": "red", "interrupted": "yellow"}
    left = width - max(len(row["run"]) for row in rows) - 40  # status, step, two losses and what is between
    for row in rows:
        colour = colours.get(row["status"], "white")
        figures = [f"{row[name]:.3f}" if row[name] is not None else "" for name in ("train/loss", "eval/loss")]
        status = f"[{colour}]{row['status']}[/{colour}]"
        curve = sparkline(row["curve"], max(8, min(40, left)))
        table.add_row(row["run"], status, f"{row['step']:,}", *figures, curve)
    return table


@app.command()
def ui(
    home: Annotated[
        Path | None, typer.Option(help="The directory with the runs; default: $POLYANA_HOME, else .polyana/.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; what others can reach, as 0.0.0.0, asks for a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Default: the first free one from 8018 on.")
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address alone.")] = False,
) -> None:
    """Watch runs in the browser, live: curves, samples, saves, reports. Ctrl-C ends it."""
    from polyana.dashboard import open_server

    directory = (home or home_directory()).absolute()
    if not directory.is_dir():
        raise UserError(
            f"there is no {_relative(directory)} yet; `polyana run RECIPE` makes it, or name it with --home"
        )
    if hasattr(os, "nice"):
        os.nice(10)  # a training on this machine goes before whoever looks at it
    address, server = open_server(directory, host, port)
    _print(address.url)
    sys.stdout.flush()
    if not no_browser:
        import webbrowser

        webbrowser.open(address.url)
    with suppress(KeyboardInterrupt):
        server.serve_until_stopped()


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Try what this machine and installation can do; exit code 1 when something is broken, with what mends it."""
    from polyana import doctor as examination

    findings = examination.examine(home_directory())
    result = examination.as_json(findings)
    if as_json:
        _print(json.dumps(result, ensure_ascii=False, indent=1))
    else:
        width = None if sys.stdout.isatty() else 120
        RichConsole(highlight=False, width=width).print(examination.picture(findings))
    if not result["well"]:
        raise typer.Exit(1)


@app.command()
def generate(
    model: RevisionName,
    prompt: Annotated[str, typer.Argument(help="What the text begins with, or what a model with a template is asked.")],
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens to write at most.")] = 100,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token.")] = 0.8,
    top_k: Annotated[int, typer.Option(min=0, help="Only among the so many likeliest; 0 for all.")] = 50,
    top_p: Annotated[
        float, typer.Option(min=0.001, max=1.0, help="Only among the likeliest that reach this share.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed writes the same text.")] = 0,
    raw: Annotated[bool, typer.Option("--raw", help="Go on with the text, without the model's chat template.")] = False,
    base: Annotated[bool, typer.Option("--base", help="Let the model write that an adapter stands on, alone.")] = False,
    beside: Annotated[
        list[str] | None,
        typer.Option(help="RUN@REV that writes too, under its name. Adapters of one base need its memory once."),
    ] = None,
) -> None:
    """Let a saved model write. Any revision works while its training goes on: @best, @main, @step-500, a commit id.

    A model with a chat template is asked, and its answer printed; any other goes on with the text.
    """
    from polyana.revisions import find_revision
    from polyana.tracking import Console

    revisions = [find_revision(each, home_directory()) for each in (model, *(beside or []))]
    from polyana.evaluate import GenerationConfig, as_question, load_in_turn
    from polyana.evaluate import generate as write_text

    settings = GenerationConfig(
        max_tokens=max_tokens, temperature=temperature, top_k=top_k or None, top_p=top_p, seed=seed
    )
    saves: list[tuple[Path, Path | None]] = [(each.directory, each.base(Console())) for each in revisions]
    if base:
        if saves[0][1] is None:
            raise UserError(f"{revisions[0]} is a whole model, which stands on no base; leave --base out")
        saves[0] = (saves[0][1], None)

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    for number, (loaded, tokenizer) in enumerate(load_in_turn(saves)):
        if beside:
            write(f"{revisions[number]}{', its base' if base and not number else ''}:\n")
        asked = prompt if raw else as_question(tokenizer, prompt)
        if asked == prompt:
            write(prompt)
        write_text(loaded, tokenizer, asked, settings, write)
        write("\n")


@app.command()
def translate(
    model: RevisionName,
    file: Annotated[Path, typer.Argument(help="A text; each line is translated at once, blank lines part documents.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write; default: stdout.")] = None,
    into: Annotated[str | None, typer.Option(help="The other language, where both directions were learned.")] = None,
    decoding: Annotated[
        Decoders | None, typer.Option(help="greedy, beam or mbr with their defaults; default: as in the recipe.")
    ] = None,
) -> None:
    """Translate a text with a model that a `kind: translate` stage has trained, line for line.

    Each line is seen beside the lines before it in its document, as many as the model was trained with.
    """
    from polyana.corpus import decode
    from polyana.revisions import find_revision
    from polyana.tracking import Console

    text = decode(file.read_bytes())
    revision = find_revision(model, home_directory())
    from polyana.evaluate import BeamConfig, GreedyConfig, MbrConfig, load_for_generation
    from polyana.tasks import TranslationSettings, translate_lines

    kinds = {"greedy": GreedyConfig, "beam": BeamConfig, "mbr": MbrConfig}
    settings = TranslationSettings.read(revision.directory)
    if decoding is not None:
        settings = settings.model_copy(update={"decoding": kinds[decoding]()})
    direction = settings.direction(into)
    loaded, _ = load_for_generation(revision.directory, revision.base(Console()))
    written = translate_lines(loaded, revision.directory, settings, text, direction)
    if output is None:
        sys.stdout.write(written)
    else:
        output.write_text(written, encoding="utf-8", errors="replace")


@app.command()
def compare(
    baseline: Annotated[str, typer.Argument(metavar="A[@REV]", help="A run, or the beginning of its name.")],
    system: Annotated[str, typer.Argument(metavar="B[@REV]", help="Another one.")],
    comet: Annotated[Path | None, typer.Option(help="COMET too: the path of a downloaded checkpoint, *.ckpt.")] = None,
    comet_python: Annotated[str, typer.Option(help="The Python of an environment where COMET is.")] = "python",
    page: Annotated[Path | None, typer.Option(help="Write a page of both translations, the worst first.")] = None,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Numbers and settings, also of runs that have learned to translate.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare two runs: their numbers side by side, and which settings differ.

    Of runs that have learned to translate: is the second one's translation of the held-out text better than the
    first's, or was it chance? From what the evaluation at each save has kept; both must have translated the same text.
    """
    if metrics or not (_translates(baseline) or _translates(system)):
        _compare_runs(baseline, system, as_json)
        return
    from polyana.evaluate import CometConfig
    from polyana.revisions import find_revision
    from polyana.tasks import compare_saved

    old, new = (find_revision(text, home_directory()) for text in (baseline, system))
    settings = CometConfig(model=str(comet), python=comet_python) if comet else None
    systems = {str(each): (each.run.path, each.commit.step, each.directory) for each in (new, old)}
    found = compare_saved(systems, page, settings)
    if as_json:
        _print(json.dumps([asdict(each) for each in found], ensure_ascii=False, indent=1))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("", str(old), str(new), "p", "", "signature"):
        table.add_column(heading, justify="right" if heading in (str(old), str(new), "p") else "left")
    for each in found:
        verdict = "significant" if each.is_significant else "may be chance"
        digits = 3 if each.name == "COMET" else 1  # of which 1 is the best, and not 100
        values = f"{each.baseline:.{digits}f}", f"{each.system:.{digits}f} ± {each.interval:.{digits}f}"
        table.add_row(each.name, *values, f"{each.p_value:.3f}", verdict, each.signature)
    RichConsole(highlight=False, width=None if sys.stdout.isatty() else 160).print(table)


def _translates(revision: str) -> bool:
    """Whether a run keeps translations of held-out text; so does not one that there is not."""
    from polyana.tracking import find_run

    try:
        run = find_run(home_directory() / "runs", revision.partition("@")[0])
    except UserError:
        return False
    return (run.path / "translations").is_dir()


def _compare_runs(a: str, b: str, as_json: bool) -> None:
    from polyana.terminal import compare_runs, comparison_picture
    from polyana.tracking import find_run

    home = home_directory()
    for name in (a, b):
        if "@" in name:
            raise UserError(f"{name}: runs are compared as a whole; leave @{name.partition('@')[2]} out")
    one, other = (find_run(home / "runs", name) for name in (a, b))
    found = compare_runs(one, other, home)
    if as_json:
        _print(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        width = None if sys.stdout.isatty() else 120
        RichConsole(highlight=False, width=width).print(comparison_picture(found))


@models.command()
def merge(
    model: RevisionName,
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Where to write; new or empty.")],
) -> None:
    """Write a saved adapter and its base as one model, an ordinary directory that any Hugging Face tool loads."""
    from polyana.revisions import find_revision
    from polyana.tracking import Console

    if directory.exists() and any(directory.iterdir()):
        raise UserError(f"{directory} is not empty; name a new directory")
    revision = find_revision(model, home_directory())
    base = revision.base(Console())
    if base is None:
        raise UserError(f"{revision} is a whole model, not an adapter; it lies in {_relative(revision.directory)}")
    from polyana.models import merge_adapter

    directory.mkdir(parents=True, exist_ok=True)
    merged = merge_adapter(base, revision.directory, directory)
    kind = str(merged.dtype).removeprefix("torch.")
    _print(f"{_relative(directory)}: {kind}; log probabilities differ from the adapter's by at most {merged.off:.1e}")


@show.command("batch")
def show_batch(
    recipe: RecipePath,
    stage: Annotated[str | None, typer.Option(help="Which training stage; default: the first.")] = None,
    step: Annotated[int, typer.Option(min=1, help="The batch of which training step.")] = 1,
    rows: Annotated[int, typer.Option(min=1, help="Sequences to print.")] = 2,
    overrides: Overrides = None,
) -> None:
    """Print what the model sees in one step: tokens apart by |, each document in its own colour, no-loss tokens dim."""
    from polyana.pipeline import Pipeline
    from polyana.recipe import load_recipe
    from polyana.tasks import TrainingStageConfig
    from polyana.tracking import Console
    from polyana.train import TrainingPlan

    loaded = load_recipe(recipe, overrides or ())
    training = {name: config for name, config in loaded.stages.items() if isinstance(config, TrainingStageConfig)}
    name = stage or next(iter(training), "")
    if name not in training:
        raise UserError(f"{recipe} has no training stage `{name}`; it has: {', '.join(training) or 'none'}")
    config = training[name]
    task = Pipeline(loaded, home_directory(), Console()).task(name)
    plan = TrainingPlan.of(config.train, task.per_epoch, task.tokens_per_epoch, task.context)
    if step > plan.steps:
        raise UserError(f"--step {step}: stage {name} has {plan.steps:,} steps")
    first = (step - 1) * plan.batch
    console = RichConsole(highlight=False)
    batch = task.batch(first, min(rows, plan.batch_at(first)))
    console.print(task.picture(batch, marks=not console.is_terminal), soft_wrap=True)


@show.command("corpus")
def show_corpus(recipe: RecipePath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Print where every document of each corpus went: kept or dropped, and why; report.html has the whole of it."""
    from polyana.corpus import Corpus, CorpusConfig, report_lines, waterfall_lines

    for name, directory in _made(recipe, overrides, CorpusConfig):
        report = Corpus(directory).report
        _print(json.dumps(report, ensure_ascii=False, indent=1) if as_json else f"{name}  {_relative(directory)}")
        if not as_json:
            lines = [*waterfall_lines(report), "", *report_lines(report, _relative(directory))]
            _print("\n".join(f"  {line}".rstrip() for line in lines))


@show.command("tokenizer")
def show_tokenizer(recipe: RecipePath, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Print how well each tokenizer fits its corpus, and how it splits."""
    from polyana.storage import read_json
    from polyana.tokenizer import TokenizerConfig, report_lines

    for name, directory in _made(recipe, overrides, TokenizerConfig):
        report = read_json(directory / "report.json")
        _print(json.dumps(report, ensure_ascii=False, indent=1) if as_json else f"{name}  {_relative(directory)}")
        if not as_json:
            _print("\n".join(f"  {line}" for line in report_lines(directory, examples=10)))


def _made(recipe: Path, overrides: list[str] | None, kind: type) -> list[tuple[str, Path]]:
    """(name, directory) of a recipe's stages of one kind, made now where they are not there yet."""
    from polyana.pipeline import Pipeline
    from polyana.recipe import load_recipe
    from polyana.tracking import Console

    loaded = load_recipe(recipe, overrides or ())
    pipeline = Pipeline(loaded, home_directory(), Console())
    names = [name for name, config in loaded.stages.items() if isinstance(config, kind)]
    return [(name, pipeline.store.get(pipeline.step(name)).directory) for name in names]


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _relative(path: Path) -> str:
    """The path as one would type it from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def main() -> None:
    """The `polyana` command."""
    # Nothing is fetched unless a recipe says so, and no library's bar tears ours apart.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        app()
    except PolyanaError as error:
        from polyana.distributed import exit_code_of, is_main

        if is_main():
            sys.stderr.write(f"{error}\n")
        sys.exit(exit_code_of(error))
    except OSError as error:
        place, full = error.filename or _relative(home_directory()), is_disk_full(error)
        if error.filename is None and error.strerror is None and not full:
            raise
        advice = " Free some room and run this again; what was finished is kept" if full else ""
        sys.stderr.write(f"{place}: {error.strerror or os.strerror(errno.ENOSPC)}.{advice}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was finished is kept\n")
        sys.exit(130)
