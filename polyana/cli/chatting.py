"""`polyana chat`: a dialog in the terminal, or through pipes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyana.cli.doors import AsJson, RevisionName, app
from polyana.errors import UserError
from polyana.storage import home_directory

if TYPE_CHECKING:
    from polyana.generation import Dialog

__all__ = ["chat"]

_HELP = """\
/system [TEXT]   what the model is told before all else; without a text: what that is now (`/system -` takes it away)
/undo            take the last question and its answer back
/retry           another answer to the last question
/reset           begin anew
/history         all that was said
/save FILE       add the conversation to a file, as a row that `kind: sft` learns from
/exit            or Ctrl-D
A line that ends with \\ goes on in the next one; Ctrl-C stops an answer.
"""


@app.command()
def chat(
    context: typer.Context,
    model: RevisionName,
    system: Annotated[str | None, typer.Option(help="What the model is told before all else.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer at most.")] = 512,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token.")] = 0.8,
    top_k: Annotated[int, typer.Option(min=0, help="Only among the so many likeliest; 0 for all.")] = 50,
    top_p: Annotated[
        float, typer.Option(min=0.001, max=1.0, help="Only among the likeliest that reach this share.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same answers.")] = 0,
    base: Annotated[bool, typer.Option("--base", help="Talk to the model that an adapter stands on, alone.")] = False,
    as_json: AsJson = False,
) -> None:
    """Talk with a saved model that has a chat template. /help says what can be done besides.

    Any revision works while its training goes on. Through pipes each line is a question and gets its answer; with
    --json an answer is one line, {"role": "assistant", "content": ...}.
    """
    from polyana.revisions import held_revision
    from polyana.tracking import Console, aside

    aside.step_aside(home_directory())
    revision = context.with_resource(held_revision(model, home_directory()))
    from polyana.generation import Dialog, GenerationConfig, load_for_generation

    settings = GenerationConfig(
        max_tokens=max_tokens, temperature=temperature, top_k=top_k or None, top_p=top_p, seed=seed
    )
    directory, below = revision.directory, revision.base(Console())
    if base:
        if below is None:
            raise UserError(f"{revision} is a whole model, which stands on no base; leave --base out")
        directory, below = below, None
    try:
        dialog = Dialog(*load_for_generation(directory, below), settings, system)
    except UserError as error:
        raise UserError(f"{revision}: {error}") from None
    live = sys.stdin.isatty()
    if live:
        _tell(f"{revision}{', its base' if base else ''}. /help says what can be done; Ctrl-D ends.")
    for line in _lines(live):
        try:
            asked = _obey(dialog, line) if line.startswith("/") else line
            if asked is not None:
                _answer(dialog, asked, as_json)
        except UserError as error:
            _tell(str(error))
        except _Ended:
            break


class _Ended(Exception):
    pass


def _lines(live: bool) -> Iterator[str]:
    """What the user writes, until the end; empty lines are passed over."""
    if live:
        with suppress(ImportError):
            import readline  # noqa: F401  editing and a history of lines
    whole = ""
    while True:
        try:
            line = input("... " if whole else "> ") if live else sys.stdin.readline()
        except EOFError:
            _tell("")
            return
        if not live and not line:
            return
        line = line.rstrip("\r\n")
        if line.endswith("\\"):
            whole += line[:-1] + "\n"
            continue
        whole, said = "", (whole + line).strip()
        if said:
            yield said


def _answer(dialog: Dialog, text: str, as_json: bool) -> None:
    def write(piece: str) -> None:
        sys.stdout.write(piece)
        sys.stdout.flush()

    try:
        answer = dialog.say(text, None if as_json else write)
        write(json.dumps({"role": "assistant", "content": answer}, ensure_ascii=False) + "\n" if as_json else "\n")
    except KeyboardInterrupt:
        write("\n")


def _obey(dialog: Dialog, line: str) -> str | None:
    """Do what a line that begins with / says; a question where there is one to be asked again. Raises UserError."""
    command, _, rest = line.partition(" ")
    rest = rest.strip()
    match command:
        case "/system" if rest:
            dialog.system = None if rest == "-" else rest
        case "/system":
            _tell(dialog.system or "there is no system message beside the template's own")
        case "/reset":
            dialog.reset()
        case "/undo" | "/retry":
            asked = dialog.undo()
            if asked is None:
                raise UserError("nothing was said yet")
            if command == "/retry":
                return asked
            _tell(f"taken back: {asked}")
        case "/history":
            _tell("\n".join(f"{message['role']}: {message['content']}" for message in dialog.messages))
        case "/save":
            _save(dialog, rest)
        case "/help":
            _tell(_HELP.rstrip())
        case "/exit" | "/quit" | "/bye":
            raise _Ended
        case _:
            raise UserError(f"there is no {command}; /help says what there is")
    return None


def _save(dialog: Dialog, file: str) -> None:
    if not file:
        raise UserError("write `/save FILE`")
    try:
        dialog.save(Path(file).expanduser())
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
    _tell(f"added to {file}")


def _tell(text: str) -> None:
    """Words of ours, apart from the model's."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
