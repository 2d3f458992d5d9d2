"""`polyana evaluate`: what a save scores on suites, and whether it is better than another by more than chance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from polyana.cli.doors import AsJson, RevisionName, app, print_result, relative
from polyana.errors import Problem, UserError
from polyana.storage import home_directory

__all__ = ["evaluate"]


@app.command()
def evaluate(
    model: RevisionName,
    suite: Annotated[
        list[str],
        typer.Option(
            help="perplexity, generation, translation, gsm8k, lm-eval:TASKS, or a suite's file mine.yaml; repeatable."
        ),
    ],
    against: Annotated[
        str | None, typer.Option(metavar="RUN[@REV]", help="Ask this one too: is the first better by more than chance?")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="What perplexity and gsm8k read: files or globs; repeatable. Default: what the run held out."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many items of a suite.")] = None,
    include: Annotated[Path | None, typer.Option(help="A directory of lm-eval tasks of your own.")] = None,
    lm_eval_python: Annotated[
        Path | None, typer.Option(help="The Python of another environment, where lm-eval is installed.")
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "auto"], typer.Option(help="What is computed in; fp32 is the same on every machine.")
    ] = "fp32",
    again: Annotated[bool, typer.Option("--again", help="Compute what has been computed before, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure a saved model: any revision, also while its training goes on, which goes before.

    Results are kept with the commit and shown by `polyana models log`; what is kept is not computed again. A report to
    read lies in the run's directory and on its page of `polyana ui`.
    """
    from polyana.revisions import find_revision
    from polyana.tracking import Console, aside

    home, console = home_directory(), Console()
    aside.step_aside(home)
    revisions = [find_revision(each, home) for each in (model, *([against] if against else []))]
    from polyana.scores import compare_evaluated, evaluate_saved, lines_of, read_suites, write_report

    options = _options(suite, data, limit, include, lm_eval_python)
    saves = [revision.saved(console) for revision in revisions]
    suites = read_suites(saves, suite, Path.cwd(), options)
    found = []
    for each in suites:
        evaluated, *others = (evaluate_saved(saved, each, console, precision, again=again) for saved in saves)
        compared = compare_evaluated(others[0], evaluated) if others else []
        run, named = evaluated.saved.run.path, {f"{evaluated.saved} against {each.saved}": compared for each in others}
        page = write_report(run, evaluated, others, named) if run.is_dir() else None
        found.append({**evaluated.result, "compared": [asdict(pair) | {"verdict": pair.verdict} for pair in compared]})
        if as_json:
            continue
        kept = ", kept from before" if evaluated.kept else ""
        print_result(f"{evaluated.saved} {each.name}{f' against {others[0].saved}' if others else ''}{kept}")
        for line in lines_of(evaluated, compared):
            print_result(f"  {line}")
        if page is not None:
            print_result(f"  report: {relative(page)}")
    if as_json:
        print_result(json.dumps(found, ensure_ascii=False, indent=1))


def _options(
    suites: list[str], data: list[str] | None, limit: int | None, include: Path | None, python: Path | None
) -> Mapping[str, dict[str, Any]]:
    """The settings that each suite of one kind gets from the command line. Raises UserError for an option that would do
    nothing."""
    problems, used = list[Problem](), set[str]()
    found = dict[str, dict[str, Any]]()
    given = {
        "data": data, "limit": limit, "include": str(include) if include else None,
        "python": str(python) if python else None,
    }  # fmt: skip
    takes = {
        "perplexity": {"data", "limit"}, "gsm8k": {"data", "limit"}, "translation": {"limit"},
        "lm-eval": {"limit", "include", "python"},
    }  # fmt: skip
    for suite in suites:
        kind = suite.partition(":")[0]
        found[suite] = {name: given[name] for name in takes.get(kind, ()) if given[name] is not None}
        used |= set(found[suite])
        if kind == "gsm8k" and data:
            if len(data) > 1:
                problems.append(
                    Problem("--data", "gsm8k reads one file or glob; a suite's file can name several tasks")
                )
            found[suite]["data"] = data[0]
    names = {"data": "--data", "limit": "--limit", "include": "--include", "python": "--lm-eval-python"}
    for name, value in given.items():
        if value is not None and name not in used:
            problems.append(Problem(names[name], f"is not read by {', '.join(suites)}; a suite's file says it itself"))
    if problems:
        raise UserError(problems)
    return found
