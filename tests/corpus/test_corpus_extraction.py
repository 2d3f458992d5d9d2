"""Which snippets of real pages extraction keeps and loses, and that no page can bring the process down."""

import json
import subprocess
import sys

import pytest

from polyana.corpus import SourceConfig
from polyana.corpus.normalise import normalise
from polyana.corpus.readers import read_source

STAYING = {
    "Sofern nicht anders ausgewiesen",
    "Read further in the pursuit of knowledge",
    "what that means.",
    "Stay up-to-date on our work.",
    "Unable to edit the page? See the FrontPage for instructions.",
}
"""Furniture that resiliparse 2.0.1 takes for text; none of its options changes it."""


def text_of(path):
    (document,) = read_source(SourceConfig(path=path.name, format="html"), path.parent)
    return document.text


@pytest.fixture(scope="module")
def snippets(shared_data):
    """(page's text on one line, snippets that must be in it, snippets that must not) of each page."""
    root = shared_data / "html_extraction_cc"
    found = []
    for rule in json.loads((root / "evaldata_subset.json").read_text("utf-8")).values():
        (path,) = root.glob(f"tests/*/{rule['file']}")
        found.append((" ".join(normalise(text_of(path)).split()), rule["with"], rule["without"]))
    return found


def test_every_must_snippet_stays(snippets):
    missing = [snippet for text, must, _ in snippets for snippet in must if snippet not in text]
    assert sum(len(must) for _, must, _ in snippets) == 19
    assert missing == []


def test_every_must_not_snippet_goes_but_the_five_known(snippets):
    staying = {snippet for text, _, must_not in snippets for snippet in must_not if snippet in text}
    assert sum(len(must_not) for _, _, must_not in snippets) == 22
    assert staying <= STAYING


BOMBS = {
    "open divs": "'<div>' * 50_000 + 'tea'",
    "closed divs": "'<div>' * 50_000 + 'tea' + '</div>' * 50_000",
    "5 MB of bold": "'<b>' * 1_666_666 + 'tea'",
    "tables in tables": "'<table><tr><td>' * 50_000 + 'tea'",
    "a million attributes": "'<p ' + 'a=1 ' * 1_000_000 + '>tea'",
    "lists in lists": "'<ul><li>' * 50_000 + 'tea'",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_an_html_bomb_does_not_bring_the_process_down(tmp_path, bomb):
    program = f"""
from pathlib import Path
from polyana.corpus import SourceConfig
from polyana.corpus.readers import read_source
Path("bomb.html").write_text({BOMBS[bomb]})
(item,) = read_source(SourceConfig(path="bomb.html"), Path("."))
print(getattr(item, "reason", None) or item.text.strip()[-3:])
"""
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    refused = {"lists in lists": "", "a million attributes": "a page with more than 1,000 attributes in a tag"}
    refused |= dict.fromkeys(("open divs", "closed divs"), "a page nested more than 512 deep")
    assert run.stdout.strip() == refused.get(bomb, "tea")
