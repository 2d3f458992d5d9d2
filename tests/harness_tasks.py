"""Tasks of lm-eval's own kind; PLACE stands for the directory of their data."""

ROLLING = """\
task: rolling
dataset_path: json
dataset_kwargs: {data_files: {test: PLACE/texts.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: bits_per_byte}]
"""
