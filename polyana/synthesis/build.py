"""The stage `synthesize`: prompts -> answers -> scores -> pairs, everything with where it comes from.

    answers.jsonl   a prompt a line: its answers, best first, their scores, and how each came about
    pairs.jsonl     a pair a line: prompt, chosen, rejected, their scores; for `kind: preference`
    best.jsonl      the best answers, an example a line; for `kind: sft` (best of n, rejection sampling)
    report.json     counts, how scores are spread, what they go with
    report.md       the same to read

The work is kept in a place of its own beside the stages: answers batch by batch, scores as they come. So a killed run,
or one whose judge has gone, goes on without having lost any, and another reward or rule writes nothing anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from polyana.errors import UserError
from polyana.examples import Prompt, read_prompts
from polyana.rewards import Answered, Reward, Scored, ScoreLedger
from polyana.storage import fingerprint, write_file, write_json
from polyana.synthesis.config import SynthesizeConfig
from polyana.synthesis.pairs import Answer, Asked, Counts, Pair, asked, corrupted, pairs_of
from polyana.synthesis.report import report_of, report_page
from polyana.synthesis.write import Written, write_answers
from polyana.tracking import Console

__all__ = ["SYNTHESIS_VERSION", "build_synthesis"]

SYNTHESIS_VERSION = 2


def build_synthesis(
    config: SynthesizeConfig, base: Path, revisions: Mapping[str, tuple[Path, str]], reward: Reward, seed: int,
    workshop: Path, directory: Path, console: Console,
) -> dict[str, Any]:  # fmt: skip
    """Write the files of the stage; the report.

    `revisions`: of each of `of`, its directory and a fingerprint of its content. `workshop`: where work is kept.
    """
    prompts = read_prompts(config.prompts, config.system, base)
    by_prompt: dict[str, list[Written]] = {prompt.id: [] for prompt in prompts}
    for revision, (place, content) in revisions.items():
        about = [SYNTHESIS_VERSION, revision, content, config.writing_identity(), seed]  # its name makes seeds
        name = fingerprint([about, [[prompt.id, prompt.messages] for prompt in prompts]])[:16]
        with console.gauge(f"{revision} answers", len(prompts)) as gauge:

            def show(done: int, of: int, gauge: Any = gauge) -> None:
                gauge.show(done * len(prompts) // of, "")

            kept = _kept_answers(workshop, f"answers-{name}.jsonl")
            for each in write_answers(config, revision, place, prompts, seed, kept, show):
                by_prompt[each.prompt].append(each)
    written = [(prompt, answer) for prompt in prompts for answer in by_prompt[prompt.id]]
    scores = _score([(prompt, answer.text) for prompt, answer in written], reward, workshop, console)
    paired = dict[str, list[tuple[Written, Scored]]]()
    for (prompt, answer), scored in zip(written, scores, strict=True):
        paired.setdefault(prompt.id, []).append((answer, scored))
    counts = Counts()
    found = [asked(prompt, paired[prompt.id], counts) for prompt in prompts]
    pairs = [(one.prompt, pair) for one in found for pair in pairs_of(one, config.pairs, counts)]
    if config.corrupt is not None:
        pairs += _made_bad(config, base, found, seed, counts, reward, workshop, console)
    if not pairs and not any(one.answers for one in found):
        raise UserError(f"of {counts.answers:,} answers none says anything, so there is nothing to learn from")
    best = [
        (one.prompt, answer)
        for one in found
        for answer in one.answers[: config.best.most]
        if config.best.min_reward is None or answer.reward >= config.best.min_reward
    ]
    _write_lines(directory / "answers.jsonl", map(_answers_row, found))
    _write_lines(directory / "pairs.jsonl", (_pair_row(*each) for each in pairs))
    _write_lines(directory / "best.jsonl", (_best_row(*each) for each in best))
    report = report_of(found, [pair for _, pair in pairs], len(best), counts, config)
    write_json(directory / "report.json", report)
    write_file(directory / "report.md", report_page(report, pairs[:3]))
    return report


def _kept_answers(workshop: Path, name: str) -> Path:
    """Where answers are kept; what another stage has of the very same ones is taken over, even if it is at work yet."""
    kept = workshop / name
    others = [] if kept.exists() else sorted(workshop.parent.glob(f"*/{name}"))
    if others:
        workshop.mkdir(parents=True, exist_ok=True)
        write_file(kept, max((each.read_bytes() for each in others), key=len))
    return kept


def _score(answers: Sequence[tuple[Prompt, str]], reward: Reward, workshop: Path, console: Console) -> list[Scored]:
    given = [Answered(prompt.messages, text, prompt.reference) for prompt, text in answers]
    with console.gauge("scores", len(given) * len(reward.parts)) as gauge:
        return reward.score(given, ScoreLedger(workshop), lambda part, done, of: gauge.show(done, f"{part} of {of:,}"))


def _made_bad(
    config: SynthesizeConfig, base: Path, found: Sequence[Asked], seed: int, counts: Counts, reward: Reward,
    workshop: Path, console: Console,
) -> list[tuple[Prompt, Pair]]:  # fmt: skip
    assert config.corrupt is not None
    foreign = list[str]()
    if config.corrupt.foreign is not None:
        lines = (base / Path(config.corrupt.foreign).expanduser()).read_text(encoding="utf-8").splitlines()
        foreign = [line.strip() for line in lines if line.strip()]
    bad = corrupted(found, config.corrupt, foreign, seed, counts)
    scores = _score([(one.prompt, written.text) for one, written, _ in bad], reward, workshop, console)
    pairs = [
        (one.prompt, Pair(one.answers[0], Answer(written, scored, kind), "corrupt"))
        for (one, written, kind), scored in zip(bad, scores, strict=True)
    ]
    counts.add([pair for _, pair in pairs])
    return pairs


def _prompt_of(prompt: Prompt) -> str | list[dict[str, Any]]:
    return prompt.plain if prompt.plain is not None else prompt.messages


def _provenance(answer: Answer) -> dict[str, Any]:
    written = answer.written
    if answer.corruption is not None:  # an answer that nobody wrote
        return {
            "corruption": answer.corruption, "of": {"revision": written.revision, "number": written.number,
            "seed": written.seed}, "scores": answer.scored.parts,
        }  # fmt: skip
    return {
        "revision": written.revision, "number": written.number, "seed": written.seed,
        "temperature": written.temperature, "tokens": written.tokens, "ended": written.ended,
        "scores": answer.scored.parts,
    }  # fmt: skip


def _answers_row(one: Asked) -> dict[str, Any]:
    return {
        "id": one.prompt.id, "prompt": _prompt_of(one.prompt),
        "answers": [each.written.text for each in one.answers], "scores": [each.reward for each in one.answers],
        **({"reference": one.prompt.reference} if one.prompt.reference is not None else {}),
        "provenance": [_provenance(each) for each in one.answers],
    }  # fmt: skip


def _pair_row(prompt: Prompt, pair: Pair) -> dict[str, Any]:
    return {
        "id": prompt.id, "prompt": _prompt_of(prompt), "chosen": pair.chosen.written.text,
        "rejected": pair.rejected.written.text, "score_chosen": pair.chosen.reward,
        "score_rejected": pair.rejected.reward, "rule": pair.rule,
        "provenance": {"chosen": _provenance(pair.chosen), "rejected": _provenance(pair.rejected)},
    }  # fmt: skip


def _best_row(prompt: Prompt, answer: Answer) -> dict[str, Any]:
    about = {"id": prompt.id, "reward": answer.reward, "provenance": _provenance(answer)}
    if prompt.plain is not None:
        return {"prompt": prompt.plain, "completion": answer.written.text, **about}
    return {"messages": [*prompt.messages, {"role": "assistant", "content": answer.written.text}], **about}


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_file(path, text.encode("utf-8", "replace"))  # a model can write half a surrogate pair
