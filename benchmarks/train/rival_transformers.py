"""transformers' Trainer as the tutorials write it: group_texts' blocks, a GPT-2 from scratch, TrainingArguments.

Options: `best` for bf16 autocast, the fused optimizer and no dropout; `compile` besides. Without, everything that a
tutorial leaves alone stays at its default: fp32, dropout 0.1.
"""

import tempfile

from datasets import Dataset
from meter import Meter, held_out_loss, per_target, read_job, sequences, trainer_callback
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments, default_data_collator

job = read_job()
best, compiled = "best" in job["options"], "compile" in job["options"]
blocks = sequences(job["train"])
data = Dataset.from_list([{"input_ids": ids, "labels": ids} for ids in blocks])
dropout = 0.0 if best else 0.1  # GPT2Config's default
model = AutoModelForCausalLM.from_pretrained(
    job["model"], resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout, attn_implementation="sdpa"
)


class InOrder(Trainer):
    """The Trainer draws its own order; the race needs the same one for all."""

    def _get_train_sampler(self, *_, **__):
        return SequentialSampler(self.train_dataset)


arguments = TrainingArguments(
    output_dir=tempfile.mkdtemp(), per_device_train_batch_size=job["batch"], max_steps=job["steps"],
    learning_rate=job["lr"], lr_scheduler_type="constant", logging_steps=1, save_strategy="no", report_to=[],
    disable_tqdm=True, use_cpu=True, bf16=best, torch_compile=compiled,
    **({"optim": "adamw_torch_fused"} if best else {}),
)  # fmt: skip
meter, losses = Meter(), []
trainer = InOrder(
    model=model, args=arguments, train_dataset=data, data_collator=default_data_collator,
    callbacks=[trainer_callback(meter, losses)],
)  # fmt: skip
trainer.train()
tokens = [job["batch"] * job["context"]] * job["steps"]
meter.write(job, per_target(losses, job["context"]), tokens, held_out_loss(model, job))
