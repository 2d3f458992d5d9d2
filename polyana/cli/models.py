"""`polyana models ...`: what was saved, and what can be done with it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyana.cli.doors import AsJson, RevisionName, models, print_columns, print_json, print_result, relative
from polyana.errors import UserError
from polyana.storage import home_directory, is_held, show_bytes

if TYPE_CHECKING:
    from polyana.registry import Repository

__all__ = ["diff", "disk", "gc", "list_models", "log", "pick", "rm", "show", "tag", "verify"]

RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run, or the beginning of its name: the newest such.")]
SomeRun = Annotated[str | None, typer.Argument(metavar="[RUN]", help="Default: every run.")]
Force = Annotated[bool, typer.Option("--force", help="Also what is tagged, pushed or best.")]

# In this order, as far as commits have them; others follow by name. `--json` has all.
_TELLING = ("eval/loss", "eval/bits_per_byte", "eval/perplexity", "eval/accuracy", "eval/bleu", "eval/chrf")
_COLUMNS = 4  # of metrics, so that a line fits


@models.callback(invoke_without_command=True)
def list_models(context: typer.Context, as_json: AsJson = False) -> None:
    """List what was saved, with sizes and the best metric; or do things with it."""
    from polyana.registry.describe import describe_repositories

    if context.invoked_subcommand is not None:
        return
    found = describe_repositories(home_directory() / "hub")
    if as_json:
        print_json(found)
        return
    if not found:
        print_result(f"nothing was saved in {relative(home_directory())} yet; `polyana run RECIPE` does")
        return
    rows = [
        (
            row["run"],
            f"{row['commits']:,}",
            show_bytes(row["bytes"]),
            str(row["newest"]["step"]) if row["newest"] else "",
            str(row["best"]["step"]) if row["best"] else "",
            f"{row['by']} {_figure(row['best']['metrics'].get(row['by']))}" if row["best"] else "",
        )
        for row in found
    ]
    print_columns(("run", "saves", "size", "newest", "best", "by"), rows, ("saves", "size", "newest", "best"))


@models.command()
def log(run: RunName, as_json: AsJson = False) -> None:
    """The commits of a run, with metrics, refs and a small curve; those of `polyana evaluate` with 95 % intervals."""
    from polyana.registry.describe import list_commits
    from polyana.registry.evaluations import evaluated_metrics
    from polyana.registry.find import find_repository
    from polyana.sparkline import sparkline

    repository = find_repository(home_directory() / "hub", run)
    commits = list_commits(repository)
    if as_json:
        print_json(commits)
        return
    ranking, sizes = repository.ranking(), sum(repository.blob_sizes().values())
    curve = [row["metrics"][ranking.metric] for row in commits if ranking.metric in row["metrics"]]
    shown = f"  {ranking.metric} {sparkline(curve)} {_figure(curve[0])} to {_figure(curve[-1])}" if curve else ""
    count = f"{len(commits):,} commit{'s' if len(commits) > 1 else ''}"
    print_result(f"{repository.run}  {count}, {show_bytes(sizes)}{shown}")
    evaluated = [evaluated_metrics(row["evaluations"]) for row in commits]
    suites = list(dict.fromkeys(name for found in evaluated for name in found))[:_COLUMNS]
    known = {name for row in commits for name in row["metrics"]}
    first = dict.fromkeys((ranking.metric, *_TELLING, *sorted(known)))
    metrics = [name for name in first if name in known][:_COLUMNS]
    rows = [
        (
            str(row["step"]),
            row["id"][:8],
            f"{row['epoch']:.2f}",
            *(_figure(row["metrics"].get(name)) for name in metrics),
            *(found.get(name, "") for name in suites),
            show_bytes(row["alone"]),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(row["time"])),
            " ".join(name for name in [*row["refs"], *row["pins"]] if not name.startswith(("step-", "tag:"))),
        )
        for row, found in zip(commits, evaluated, strict=True)
    ]
    heads = ("step", "commit", "epoch", *metrics, *suites, "alone", "saved", "refs")
    print_columns(heads, rows, ("step", "epoch", *metrics, *suites, "alone"))


@models.command()
def show(model: RevisionName, as_json: AsJson = False) -> None:
    """What a commit is: files, sizes, adapter and base, metrics, who keeps it."""
    from polyana.registry.describe import describe_commit
    from polyana.registry.evaluations import evaluated_metrics
    from polyana.registry.find import find_commit

    about = describe_commit(*find_commit(home_directory() / "hub", model))
    if as_json:
        print_json(about)
        return

    def line(name: str, text: object) -> None:
        print_result(f"{name:<12} {text}".rstrip())

    line("commit", f"{about['id']}  {about['run']}@step-{about['step']}")
    line("parent", about["parent"] or "none")
    line("saved", f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(about['time']))}  {about['message']}")
    line("after", f"{about['tokens']:,} tokens, {about['epoch']:.2f} epochs")
    line("refs", " ".join(about["refs"]))
    if about["pins"]:
        line("kept for", ", ".join(about["pins"]))
    tensors = about["tensors"]
    kinds = ", ".join(f"{count:,} in {kind}" for kind, count in tensors["types"].items())
    line("weights", f"{tensors['tensors']:,} tensors, {kinds or 'none'}")
    if about["model"]:
        line("model", ", ".join(f"{name} {_words(value)}" for name, value in about["model"].items()))
    if adapter := about.get("adapter"):
        targets = ", ".join(adapter.get("target_modules", []))
        line("adapter", f"rank {adapter.get('r')}, alpha {adapter.get('lora_alpha')}, on {targets}")
        line("base", " ".join(str(adapter[key]) for key in ("base_model_name_or_path", "revision") if key in adapter))
    for name, value in about["metrics"].items():
        line("metric", f"{name} {_figure(value)}")
    for name, value in evaluated_metrics(about["evaluations"]).items():
        line("evaluated", f"{name} {value}")
    line("recipe", about["recipe"])
    line("environment", about["environment"] or "not known")
    line("directory", about["directory"])
    line("load", about["load"])
    rows = [(file["name"], show_bytes(file["bytes"]), file["checksum"][:23]) for file in about["files"]]
    print_columns(("file", "size", "checksum"), rows, ("size",))
    print_result(f"{show_bytes(about['bytes'])}, of which {show_bytes(about['alone'])} are in no other commit")


@models.command()
def diff(
    a: RevisionName,
    b: RevisionName,
    every: Annotated[bool, typer.Option("--all", help="Each tensor, not each layer.")] = False,
    as_json: AsJson = False,
) -> None:
    """How far two commits lie apart: config, recipe, metrics, and each layer's weights."""
    from polyana.registry.compare import compare_commits
    from polyana.registry.find import find_commit

    hub = home_directory() / "hub"
    found = compare_commits(find_commit(hub, a), find_commit(hub, b))
    if as_json:
        print_json(found)
        return
    for name, differences in found["settings"].items():
        for each in differences:
            print_result(f"{name}  {each}")
    if not found["settings"]:
        print_result("config and recipe are the same")
    rows = [
        (name, _figure(one), _figure(two), _figure(two - one if one is not None and two is not None else None))
        for name, (one, two) in found["metrics"].items()
    ]
    if rows:
        print_columns(("metric", "a", "b", "b - a"), rows, ("a", "b", "b - a"))
    listed = found["tensors"] if every else found["layers"]
    rows = [
        (each["name"], f"{each['numbers']:,}", f"{each['relative']:.2%}", f"{each['largest']:.2e}")
        for each in listed
        if not each.get("why")
    ]
    heads = ("weights", "numbers", "|b - a| / |a|", "largest b - a")
    print_columns(heads, rows, heads[1:])
    for each in found["tensors"]:
        if each["why"]:
            print_result(f"{each['name']}  {each['why']}")
    print_result(f"all of it: {found['relative']:.2%}")


@models.command()
def pick(
    run: RunName,
    by: Annotated[str, typer.Option(metavar="METRIC", help="As eval/loss.")] = "eval/loss",
    lowest: Annotated[
        bool | None, typer.Option("--min/--max", help="The least or the most; default: what is usual for the metric.")
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="Evaluate every commit on this suite first; METRIC is one of its: bits_per_byte.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Move `best` to the commit that a metric says, and choose by it from now on, also while training goes on.

    With --suite it stays at the commit that is the best by then, until somebody picks again.
    """
    from polyana.registry import change
    from polyana.registry.find import find_repository

    repository = find_repository(home_directory() / "hub", run)
    if suite is not None:
        _pick_by_suite(repository, suite, by, lowest, as_json)
        return
    best = change.pick(repository, by, lowest)
    ranking = repository.ranking()
    about = {"run": repository.run, "step": best.step, "commit": best.id, "by": by, "lowest": ranking.lowest,
             "value": best.metrics[by]}  # fmt: skip
    if as_json:
        print_json(about)
        return
    print_result(f"{repository.run}@best is step {best.step}: the {ranking.way} {by}, {_figure(best.metrics[by])}")


def _pick_by_suite(repository: Repository, suite: str, by: str, lowest: bool | None, as_json: bool) -> None:
    from polyana.revisions import find_revision
    from polyana.scores import pick_by_suite
    from polyana.tracking import Console, aside

    console, home = Console(), home_directory()
    aside.step_aside(home)
    saves = [find_revision(f"{repository.run}@{commit.id}", home).saved(console) for commit in repository.commits()]
    if not saves:
        raise UserError(f"{repository.run} has no commits to evaluate")
    best, least = pick_by_suite(saves, suite, Path.cwd(), by, lowest, console)
    metric, commit = best.metrics[by], best.saved.commit
    if as_json:
        print_json({"run": repository.run, "step": commit.step, "commit": commit.id, "suite": best.suite, "by": by,
                    "lowest": least, "value": metric.value, "low": metric.low, "high": metric.high})  # fmt: skip
        return
    ends = "" if metric.low is None else f", 95 %: {_figure(metric.low)} to {_figure(metric.high)}"
    way = "lowest" if least else "highest"
    print_result(
        f"{repository.run}@best is step {commit.step}: of {len(saves):,} commits the {way} {by} of {best.suite}, "
        f"{_figure(metric.value)}{ends}"
    )


@models.command()
def tag(
    model: RevisionName,
    name: Annotated[str, typer.Argument(metavar="TAG", help="As v1.0; what has one is never deleted by itself.")],
    delete: Annotated[bool, typer.Option("--delete", help="Take the tag away; RUN needs no @REV then.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Move a tag that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give a commit a name of its own, as RUN@TAG; it stays then, whatever `keep` says."""
    from polyana.registry import change
    from polyana.registry.find import find_commit, find_repository

    hub = home_directory() / "hub"
    if delete:
        repository = find_repository(hub, model.partition("@")[0])
        change.delete_tag(repository, name)
        about: dict[str, Any] = {"run": repository.run, "tag": name, "commit": None}
        text = f"{repository.run} has no tag {name} any more"
    else:
        repository, commit = find_commit(hub, model)
        change.tag(repository, commit, name, force)
        about = {"run": repository.run, "tag": name, "commit": commit.id, "step": commit.step}
        text = f"{repository.run}@{name} is step {commit.step}"
    print_json(about) if as_json else print_result(text)


@models.command()
def rm(
    model: Annotated[str, typer.Argument(metavar="RUN[@REV]", help="A commit; or a run's whole name: all of them.")],
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Delete a commit, or all that a run has saved, and free what nothing else uses."""
    from polyana.registry import change
    from polyana.registry.describe import bytes_to_resume
    from polyana.registry.find import find_commit, find_repository

    home = home_directory()
    if "@" in model:
        repository, commit = find_commit(home / "hub", model)
        later = bytes_to_resume(repository, [commit])
        freed, what = change.delete_commit(repository, commit, force), f"{repository.run}@step-{commit.step}"
    else:
        repository = find_repository(home / "hub", model)
        if repository.run != model:
            raise UserError(f"to delete all that it has saved, write the run's whole name: {repository.run}")
        if is_held(home / "runs" / model / ".lock"):
            raise UserError(f"{model} is being trained; stop it first, or delete a commit of it: {model}@step-N")
        later = bytes_to_resume(repository, repository.commits())
        freed, what = change.delete_repository(repository, force), model
    if as_json:
        print_json({"deleted": what, "freed": freed, "later": later})
        return
    more = f"; {show_bytes(later)} more once the run's state for resuming goes, which has the same weights"
    print_result(f"{what} is deleted, which frees {show_bytes(freed)} ({freed:,} bytes){more if later else ''}")


@models.command()
def gc(run: SomeRun = None, as_json: AsJson = False) -> None:
    """Delete what no commit uses and what crashes left behind."""
    from polyana.registry.find import find_repository, repositories

    hub = home_directory() / "hub"
    found = [find_repository(hub, run)] if run else repositories(hub)
    freed = {repository.run: repository.collect() for repository in found}
    if as_json:
        print_json({"freed": freed})
        return
    for name, count in freed.items():
        if count:
            print_result(f"{name}  {show_bytes(count)}")
    total = sum(freed.values())
    print_result(f"freed {show_bytes(total)} ({total:,} bytes)" if total else "nothing to free: all of it is used")


@models.command()
def verify(run: SomeRun = None, as_json: AsJson = False) -> None:
    """Read every byte that was saved; exit code 1 when one is not as it was written, with its commit and file."""
    from dataclasses import asdict

    from polyana.registry.find import find_repository, repositories
    from polyana.registry.verify import verify as look

    hub = home_directory() / "hub"
    found = [find_repository(hub, run)] if run else repositories(hub)
    troubles = [trouble for repository in found for trouble in look(repository)]
    if as_json:
        print_json({"repositories": len(found), "troubles": [asdict(each) for each in troubles]})
    else:
        for trouble in troubles:
            print_result(str(trouble))
        if not troubles:
            size = sum(sum(repository.blob_sizes().values()) for repository in found)
            print_result(f"all {show_bytes(size)} of {len(found):,} runs are as they were written")
    if troubles:
        raise typer.Exit(1)


@models.command()
def disk(as_json: AsJson = False) -> None:
    """What all saves take, what is kept for whom, and what is free."""
    from polyana.registry.describe import describe_disk

    about = describe_disk(home_directory())
    if as_json:
        print_json(about)
        return
    names = ("bytes", "pinned", "unused", "state")
    rows = [
        (row["run"], f"{row['commits']:,}", *(show_bytes(row[name]) for name in names)) for row in about["repositories"]
    ]
    heads = ("run", "saves", "size", "tagged or pushed", "for gc", "to resume")
    print_columns(heads, rows, heads[1:])
    print_result(
        f"{show_bytes(about['bytes'])} of saves and {show_bytes(about['state'])} to resume; "
        f"{show_bytes(about['free'])} are free"
    )


def _words(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
