"""trl's SFTTrainer on short documents of token ids, padded or packed.

Options: `bfd` packs best-fit decreasing; `checkpointing` leaves trl's default on (it is slower and smaller).
"""

import tempfile

from datasets import Dataset
from meter import Meter, held_out_loss, read_job, sequences, trainer_callback
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

job = read_job()
packed = "bfd" in job["options"]
data = Dataset.from_list([{"input_ids": ids} for ids in sequences(job["train"])])
model = AutoModelForCausalLM.from_pretrained(job["model"], attn_implementation="sdpa")


class InOrder(SFTTrainer):
    """The same order for all."""

    def _get_train_sampler(self, *_, **__):
        return SequentialSampler(self.train_dataset)


arguments = SFTConfig(
    output_dir=tempfile.mkdtemp(), max_length=job["context"], max_steps=job["steps"], learning_rate=job["lr"],
    per_device_train_batch_size=job["rows"] if packed else job["batch"], lr_scheduler_type="constant", bf16=True,
    gradient_checkpointing="checkpointing" in job["options"], use_cpu=True, report_to=[], save_strategy="no",
    logging_steps=1, disable_tqdm=True, packing=packed, **({"packing_strategy": "bfd"} if packed else {}),
)  # fmt: skip
meter, losses, tokens = Meter(), [], []
trainer = InOrder(
    model=model, args=arguments, train_dataset=data, processing_class=AutoTokenizer.from_pretrained(job["model"]),
    callbacks=[trainer_callback(meter, losses)],
)  # fmt: skip
collate = trainer.data_collator


def counting(examples):
    tokens.append(sum(len(example["input_ids"]) for example in examples))
    return collate(examples)


trainer.data_collator = counting
trainer.train()
meter.write(job, losses, tokens[: job["steps"]], held_out_loss(model, job))  # the Trainer fetches one batch ahead
