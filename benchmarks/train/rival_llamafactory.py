"""LLaMA-Factory's pretraining stage, on blocks that it loads as already tokenized data.

Options: `bf16`, `compile`. Gradient checkpointing, its default, is off: that is faster. Its audio plugin
imports torchaudio, of which no build fits this torch; stubs/ has an empty one.
"""

import tempfile
from pathlib import Path

from datasets import Dataset, DatasetDict
from llamafactory.train.tuner import run_exp
from meter import Meter, held_out_loss, per_target, read_job, sequences, trainer_callback
from transformers import AutoModelForCausalLM

job = read_job()
place = Path(tempfile.mkdtemp())
rows = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in sequences(job["train"])]
DatasetDict(train=Dataset.from_list(rows)).save_to_disk(place / "tokens")
meter, losses = Meter(), []
run_exp(
    {
        "stage": "pt", "do_train": True, "finetuning_type": "full", "model_name_or_path": job["model"],
        "dataset": "unused", "tokenized_path": str(place / "tokens"), "cutoff_len": job["context"],
        "disable_shuffling": True, "disable_gradient_checkpointing": True, "output_dir": str(place / "out"),
        "per_device_train_batch_size": job["batch"], "max_steps": job["steps"], "learning_rate": job["lr"],
        "lr_scheduler_type": "constant", "logging_steps": 1, "save_strategy": "no", "report_to": "none",
        "use_cpu": True, "bf16": "bf16" in job["options"], "torch_compile": "compile" in job["options"],
        "disable_tqdm": True,
    },
    callbacks=[trainer_callback(meter, losses)],
)  # fmt: skip
model = AutoModelForCausalLM.from_pretrained(place / "out")
tokens = [job["batch"] * job["context"]] * job["steps"]
meter.write(job, per_target(losses, job["context"]), tokens, held_out_loss(model, job))
