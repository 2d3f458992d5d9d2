"""datatrove's side of the race: one pipeline over JSONL.

python rival_datatrove.py plain|filters|minhash|end_to_end INPUT_DIRECTORY WORK_DIRECTORY [TOKENIZER.json]
"""

from __future__ import annotations

import sys
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer
from datatrove.pipeline.writers import JsonlWriter

WORKERS, TASKS = 2, 2


def filters(work: Path) -> list[object]:
    def removed(name: str) -> JsonlWriter:
        return JsonlWriter(str(work / "removed" / name), compression=None)

    return [
        GopherRepetitionFilter(exclusion_writer=removed("gopher_repetition")),
        GopherQualityFilter(
            min_stop_words=0, max_non_alpha_words_ratio=0.5, exclusion_writer=removed("gopher_quality")
        ),
        C4QualityFilter(filter_no_terminal_punct=False, filter_curly_bracket=False, exclusion_writer=removed("c4")),
        FineWebQualityFilter(char_duplicates_ratio=0.1, exclusion_writer=removed("fineweb_quality")),
    ]


def main() -> None:
    what, source, work = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    near = MinhashConfig()  # 14 bands of 8, word 5-grams, 64 bits of xxHash: FineWeb 2's
    reader = JsonlReader(source)

    def stage(name: str, pipeline: list[object], tasks: int = TASKS) -> None:
        LocalPipelineExecutor(
            pipeline=pipeline, tasks=tasks, workers=WORKERS, logging_dir=str(work / "log" / name)
        ).run()

    def deduplicate(begin: object, end: list[object]) -> None:
        stage("signatures", [begin, MinhashDedupSignature(output_folder=str(work / "signatures"), config=near)])
        buckets = MinhashDedupBuckets(
            input_folder=str(work / "signatures"), output_folder=str(work / "buckets"), config=near
        )
        stage("buckets", [buckets], near.num_buckets)
        clusters = MinhashDedupCluster(
            input_folder=str(work / "buckets"), output_folder=str(work / "copies"), config=near
        )
        stage("clusters", [clusters], 1)
        stage("kept", [begin, MinhashDedupFilter(input_folder=str(work / "copies")), *end])

    kept = JsonlWriter(str(work / "kept"), compression=None)
    if what == "plain":
        stage("plain", [reader, kept])
    elif what == "filters":
        stage("filters", [reader, *filters(work), kept])
    elif what == "minhash":
        deduplicate(reader, [kept])
    else:
        filtered = work / "filtered"
        stage("filters", [reader, FTFYFormatter(), *filters(work), JsonlWriter(str(filtered), compression=None)])
        deduplicate(JsonlReader(str(filtered)), [PIIFormatter(), kept])
        tokenizer = DocumentTokenizer(
            output_folder=str(work / "tokens"), tokenizer_name_or_path=sys.argv[4], eos_token="<|endoftext|>"
        )
        stage("tokens", [JsonlReader(str(work / "kept")), tokenizer])


if __name__ == "__main__":
    main()
