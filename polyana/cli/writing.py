"""Commands that let a saved model write."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from polyana.cli.doors import RevisionName, app
from polyana.errors import UserError
from polyana.storage import home_directory

Decoders = Literal["greedy", "beam", "mbr"]

__all__ = ["generate", "translate"]


@app.command()
def generate(
    context: typer.Context,
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
    from polyana.revisions import held_revision
    from polyana.tracking import Console, aside

    home, wanted = home_directory(), (model, *(beside or []))
    aside.step_aside(home)
    revisions = [context.with_resource(held_revision(each, home)) for each in wanted]
    from polyana.generation import GenerationConfig, as_question, load_in_turn
    from polyana.generation import generate as write_text

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
    context: typer.Context,
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
    from polyana.revisions import held_revision
    from polyana.tracking import Console, aside

    aside.step_aside(home_directory())
    text = decode(file.read_bytes())
    revision = context.with_resource(held_revision(model, home_directory()))
    from polyana.evaluate import BeamConfig, GreedyConfig, MbrConfig
    from polyana.generation import load_for_generation
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
