"""What a stage's config and the reports of its data say of a run before it begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from polyana.card.card import Facts
from polyana.examples import preference_report_lines, report_lines
from polyana.models import count_parameters, has_adapter, licence_of_package, numbers_in, parse_base
from polyana.parallel import ChatPrompt, chat, tagged
from polyana.storage import read_json, show_bytes
from polyana.tasks import (
    ClassifyConfig,
    FineTuneConfig,
    PreferenceConfig,
    PretrainConfig,
    RewardConfig,
    SftConfig,
    TrainingStageConfig,
    TranslateConfig,
)

__all__ = ["facts_of"]


def facts_of(
    recipe: str, stage: str, config: TrainingStageConfig, model: Any, settings: str, seed: int, *,
    data: Path, start: Path, text: Path | None,
) -> Facts:  # fmt: skip
    """`data`, `start`: the directories of its shards and of what its model began as; `text`: of its corpus. `settings`:
    the recipe's, for people."""
    about: dict[str, Any] = {"licences": {}, "datasets": [], "languages": []}
    lines: list[str] = []
    if isinstance(config, PretrainConfig):
        lines = list(_corpus(read_json(text / "report.json"))) if text is not None else ["Its corpus was deleted."]
        if text is not None:
            report = read_json(text / "report.json")
            about["languages"] = [name for name, each in report["languages"].items()
                                  if name != "other" and each["after"]["documents"]]  # fmt: skip
            about["licences"] = {name: licence_of_package(name) for name in report["sources"]}
    if isinstance(config, FineTuneConfig):
        report = read_json(data / "report.json")
        told = [*report.get("units", []), *report_lines(report)]
        if "preferences" in report:
            told += preference_report_lines(report["preferences"])
        lines = [f"- {line}" for line in told if not line.startswith(" ")]  # examples name places on a disk
        about |= _base(config, start)
        about["chats"] = bool(report["end_of_turn"])
    if isinstance(config, SftConfig | PreferenceConfig | RewardConfig | ClassifyConfig):
        about["datasets"] = [source.hub.partition("@")[0] for source in config.data if source.hub is not None]
        about["licences"] |= {source.label: licence_of_package(source.package) if source.package else None
                              for source in config.data}  # fmt: skip
    if isinstance(config, TranslateConfig):
        about["languages"] = [config.languages.source, config.languages.target]
        about["licences"] |= {source.label: None for source in config.data}
        about["question"] = _question(config, (config.languages.source, config.languages.target))
    whole, trained = sum(map(numbers_in, model.parameters())), count_parameters(model)
    adapter = None
    if isinstance(config, FineTuneConfig) and has_adapter(model):
        adapter = f"{config.adapter.kind}, rank {config.adapter.rank}"
    return Facts(
        name=f"{recipe}-{stage}", kind=config.kind, architecture=type(model).__name__, parameters=whole,
        trained=trained, settings=settings, data=lines, seed=seed, adapter=adapter,
        best_by=config.best_by, **about,
    )  # fmt: skip


def _question(config: TranslateConfig, direction: tuple[str, str]) -> str | list[dict[str, str]]:
    """How it is asked for a translation."""
    if isinstance(config.prompt, ChatPrompt):
        return chat(config.prompt, direction, (), "...")
    return tagged(config.prompt, direction, (), "...").rstrip()


def _base(config: FineTuneConfig, start: Path) -> Mapping[str, Any]:
    if config.base is None:
        return {}
    reference = parse_base(config.base)
    known = read_json(start / "base.json") if (start / "base.json").exists() else {}
    name = Path(reference.name).name if reference.kind == "path" else str(reference)
    return {
        "base": name, "base_model": reference.name if reference.kind == "hub" else None,
        "licences": {f"the base {name}": known.get("licence")},
    }  # fmt: skip


def _corpus(report: Mapping[str, Any]) -> Iterator[str]:
    """A corpus and its drops as a table."""
    total = report["total"]
    yield f"{', '.join(report['sources'])}:"
    yield ""
    yield "| | documents | |"
    yield "|---|--:|--:|"
    rows = [("read", total["read"]), ("trained on", total["train"]), ("held out", total["eval"])]
    rows += [(f"dropped: {reason}", count) for reason, count in sorted(
        total["dropped"].items(), key=lambda each: -int(each[1]["documents"]))]  # fmt: skip
    rows += [(f"edited: {reason}", count) for reason, count in total["edited"].items()]
    for what, count in rows:
        yield f"| {what} | {count['documents']:,} | {show_bytes(count['bytes'])} |"
