"""datasets.map as the tutorials write it: batches to a fast tokenizer in two processes, then a memory map of all ids.

    python rival_datasets.py JSONL TOKENIZER FILE

The clock starts when the text lies in datasets' own format. Prints seconds, CPU seconds with the processes it started,
and the largest process's memory as JSON.
"""

import json
import os
import resource
import sys
import tempfile
import time

# Two processes share the two cores; tokenizers' own threads would only be in each other's way
os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}

import numpy as np
from datasets import load_dataset
from transformers import AutoTokenizer


def cpu_seconds() -> float:
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in usage)


def main() -> None:
    source, tokenizer_directory, target = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_directory)
    dtype = np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32

    def encode(batch: dict) -> dict:
        # the letters of a special token in a text are text
        how = {"add_special_tokens": False, "split_special_tokens": True, "return_attention_mask": False}
        found = tokenizer(batch["text"], verbose=False, **how)
        ids = [[*each, tokenizer.eos_token_id] for each in found["input_ids"]]
        return {"ids": ids, "length": [len(each) for each in ids]}

    with tempfile.TemporaryDirectory() as cache:
        texts = load_dataset("json", data_files=source, split="train", cache_dir=cache)
        began, used = time.perf_counter(), cpu_seconds()
        encoded = texts.map(encode, batched=True, num_proc=2, remove_columns=texts.column_names)
        tokens = np.memmap(target, dtype=dtype, mode="w+", shape=(sum(encoded["length"]),))
        position = 0
        for batch in encoded.with_format("numpy").iter(batch_size=1000):
            part = np.concatenate(batch["ids"])
            tokens[position : position + len(part)] = part
            position += len(part)
        tokens.flush()
        measured = {"seconds": time.perf_counter() - began, "cpu": cpu_seconds() - used}
    memory = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps(measured | {"memory": memory / 1e3}))


if __name__ == "__main__":
    main()
