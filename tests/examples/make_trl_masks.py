"""Write trl_masks.json: tokens and labels of trl's own SFTTrainer, for chat templates that trl ships.

Run once, in an environment of its own that has trl 1.16 beside the pinned torch and transformers:

    python tests/examples/make_trl_masks.py

trl puts a marked variant in the place of a template that has no marks. The templates are from trl (Apache-2.0).
"""

import json
import re
import tempfile
from pathlib import Path

import trl
from byte_tokenizer import byte_tokenizer
from datasets import Dataset
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

FAMILIES = ["llama3", "qwen2_5", "qwen3", "gemma", "phi3", "cohere2", "deepseekv3", "lfm2_v2", "gptoss"]
SPECIAL = re.compile(r"<\|[a-zA-Z_]+\|>|<｜[^<>{}' ]+｜>|<(?:start|end)_of_turn>")

ARGUMENTS = {"city": "Paris"}
CALL = {"type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
CITY = {"type": "object", "properties": {"city": {"type": "string", "description": "where"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": "tells the weather", "parameters": CITY}}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


ROWS = {
    "one turn": {"messages": [user("Hi there"), assistant("Hello, friend. Привет 🌍!")]},
    "the same said twice": {"messages": [user("Hi"), assistant("Hi"), user("Hi"), assistant("Hi")]},
    "system": {"messages": [{"role": "system", "content": "Be brief"}, user("Hi"), assistant("Yes"), user("And?"),
                            assistant(" No ")]},
    "tools": {"messages": [user("Weather?"), assistant("", tool_calls=[CALL]),
                           {"role": "tool", "name": "weather", "content": "sunny"}, assistant("Sunny.")],
              "tools": [TOOL]},
    "conversational prompt": {"prompt": [user("Hi"), assistant("Yes"), user("And?")], "completion": [assistant("No")]},
    "text prompt": {"prompt": "Translate: дом =>", "completion": " house"},
}  # fmt: skip


def labels_of(directory, row):
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8,
                                         num_hidden_layers=1, num_attention_heads=1))  # fmt: skip
    config = trl.SFTConfig(output_dir=tempfile.mkdtemp(), assistant_only_loss="messages" in row, use_cpu=True,
                           bf16=False, max_length=None, report_to="none")  # fmt: skip
    trainer = trl.SFTTrainer(model, config, train_dataset=Dataset.from_list([row]), processing_class=tokenizer)
    made = trainer.data_collator([trainer.train_dataset[0]])
    return made["input_ids"][0].tolist(), made["labels"][0].tolist()


def main():
    made = {"trl": trl.__version__, "rows": ROWS, "families": {}}
    for name in FAMILIES:
        template = (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text()
        special = sorted(set(SPECIAL.findall(template)))
        directory = byte_tokenizer(Path(tempfile.mkdtemp()), tuple(special), template)
        family = made["families"][name] = {"template": template, "special": special, "rows": {}}
        for title, row in ROWS.items():
            try:
                ids, labels = labels_of(directory, row)
            except Exception as error:  # a family without tools or system messages
                print(name, title, repr(error)[:100])
                continue
            assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True))
            family["rows"][title] = {"ids": ids, "learnt": [at for at, label in enumerate(labels) if label != -100]}
    path = Path(__file__).parent / "trl_masks.json"
    lines = json.dumps(made, ensure_ascii=False).replace('"families": {', '"families": {\n')
    path.write_text(lines.replace('}}, "', '}},\n"') + "\n", encoding="utf-8")


main()
