"""trl's DPOTrainer, KTOTrainer or RewardTrainer on rows of token ids.

Options: `best` is without gradient checkpointing and with the reference's log-probabilities computed before training;
else everything is trl's default (bf16, checkpointing, a copy of the model as the reference), on a CPU.
"""

import copy
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "train"))
from datasets import Dataset
from meter import Meter, read_job, trainer_callback
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer

job = read_job()
method, best = job["method"], "best" in job["options"]
rows = json.loads(Path(job["rows"]).read_text())


def parted(row, which):
    return row["texts"][which][: row["begins"][which]], row["texts"][which][row["begins"][which] :]


def example(row):
    if method == "reward":
        return {"chosen_ids": row["texts"][0], "rejected_ids": row["texts"][1]}
    (prompt, first), (_, second) = parted(row, 0), parted(row, 1)
    if method == "dpo":
        return {"prompt_ids": prompt, "chosen_ids": first, "rejected_ids": second}
    return {"prompt_ids": prompt, "completion_ids": first, "KL_completion_ids": second, "label": row["good"]}


config, trainer = {
    "dpo": (DPOConfig, DPOTrainer), "kto": (KTOConfig, KTOTrainer), "reward": (RewardConfig, RewardTrainer),
}[method]  # fmt: skip


class InOrder(trainer):
    """The same order for all; the rows are tokens already."""

    def _prepare_dataset(self, dataset, *_, **__):
        return dataset

    def _get_train_sampler(self, *_, **__):
        return SequentialSampler(self.train_dataset)


more = {} if method == "reward" else {"max_length": job["context"], "beta": 0.1}
if best:
    more["gradient_checkpointing"] = False
    if method != "reward":
        more["precompute_ref_log_probs"] = True
if job.get("fp32"):
    more["bf16"] = False
arguments = config(
    output_dir=tempfile.mkdtemp(), max_steps=job["steps"], learning_rate=job["lr"], lr_scheduler_type="constant",
    per_device_train_batch_size=job["batch"], use_cpu=True, report_to=[], save_strategy="no", logging_steps=1,
    disable_tqdm=True, **more,
)  # fmt: skip
if method == "reward":
    model = AutoModelForSequenceClassification.from_pretrained(job["model"], num_labels=1)
else:
    model = AutoModelForCausalLM.from_pretrained(job["model"])
    more = {} if best else {"ref_model": copy.deepcopy(model)}
if method == "reward":
    more = {}
meter, losses = Meter(), []
racer = InOrder(
    model=model, args=arguments, train_dataset=Dataset.from_list([example(row) for row in rows]),
    processing_class=AutoTokenizer.from_pretrained(job["model"]), callbacks=[trainer_callback(meter, losses)], **more,
)  # fmt: skip
racer.train()
meter.write(job, losses, job["real_tokens"], None)
