"""`polyana models push` and `polyana models pull`: saves on their way to others and back."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from polyana.cli.doors import AsJson, RevisionName, models, print_result
from polyana.storage import home_directory

__all__ = ["pull", "push"]


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


@models.command()
def push(
    model: RevisionName,
    target: Annotated[
        str,
        typer.Argument(metavar="TARGET", help="hub:org/name[@branch], s3://bucket/path, another address, a directory."),
    ],
    public: Annotated[
        bool, typer.Option("--public", help="The Hub's repository may be public; one that is made will be.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Push a run, or all of it up to a revision, with its history: one commit there for each save.

    Only what is missing is sent; pushed again it goes on where it stopped.
    """
    from polyana.registry import find_repository, parse_target
    from polyana.registry import push as push_run

    name, _, revision = model.partition("@")
    repository, place = find_repository(home_directory() / "hub", name), parse_target(target)
    done = push_run(repository, place, revision or None, private=not public, say=_say)
    if as_json:
        found = {"run": done.run, "target": str(place), "new": [each.id for each in done.new], "refs": list(done.refs),
                 "commits": [each.id for each in done.commits]}  # fmt: skip
        print_result(json.dumps(found, indent=1))
        return
    refs = f"; {', '.join(done.refs)} set" if done.refs else ""
    there = len(done.commits) - len(done.new)
    print_result(f"{place}: {_commits(len(done.new))} of {done.run} pushed, {there:,} already there{refs}")


@models.command()
def pull(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE[@REV]", help="hub:org/name@best, s3://bucket/path/RUN@step-500, DIRECTORY/RUN."),
    ],
    name: Annotated[str | None, typer.Option("--as", metavar="NAME", help="What the run is called here.")] = None,
    history: Annotated[bool, typer.Option("--history", help="All saves that led up to it, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring a revision from elsewhere into the registry here; every checksum is compared."""
    from polyana.registry import pull as pull_revision

    done = pull_revision(home_directory() / "hub", source, name=name, history=history, say=_say)
    if as_json:
        found = {"run": done.run, "commit": asdict(done.commit), "new": [each.id for each in done.new],
                 "refs": list(done.refs)}  # fmt: skip
        print_result(json.dumps(found, indent=1, ensure_ascii=False))
        return
    refs = f"; {', '.join(done.refs)} set" if done.refs else ""
    print_result(f"{done.run}@{done.commit.id[:10]}: {_commits(len(done.new))} pulled{refs}")


def _commits(count: int) -> str:
    return f"{count:,} commit{'' if count == 1 else 's'}"
