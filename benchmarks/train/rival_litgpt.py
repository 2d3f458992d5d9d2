"""litgpt's pretraining of a Llama shape from the same initial weights.

Options: `bf16` for bf16-mixed. It compiles; TORCHDYNAMO_DISABLE=1 in the environment leaves that out, and is slower.
"""

import csv
import tempfile
from pathlib import Path

import litgpt.pretrain
import torch
from litgpt.args import EvalArgs, TrainArgs
from litgpt.config import Config
from litgpt.data import DataModule
from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama
from meter import Meter, read_job, sequences
from safetensors.torch import load_file

job = read_job()
shape = job["llama"]
place = Path(tempfile.mkdtemp())
config = Config(
    name="llama", block_size=job["context"], vocab_size=shape["vocab_size"], padded_vocab_size=shape["vocab_size"],
    n_layer=shape["layers"], n_head=shape["heads"], n_query_groups=shape["heads"], n_embd=shape["width"],
    intermediate_size=shape["feed_forward"], rotary_percentage=1.0, parallel_residual=False, bias=False,
    norm_class_name="RMSNorm", norm_eps=1e-6, mlp_class_name="LLaMAMLP", rope_base=10000,
)  # fmt: skip
weights: dict[str, torch.Tensor] = {}
copy_weights_hf_llama(config, {}, weights, load_file(Path(job["model"]) / "model.safetensors"))
torch.save(weights, place / "lit_model.pth")
meter = Meter()


class Blocks(DataModule):
    """Batches of blocks, each with the token after; the time between two of them is a step."""

    def connect(self, **_):
        rows = torch.tensor(sequences(job["train_and_next"])).split(job["batch"])
        self.batches = [*rows[: job["steps"]], rows[0]]  # litgpt fetches one more before it stops

    def train_dataloader(self):
        return torch.utils.data.DataLoader(Timed(self.batches), batch_size=None)

    def val_dataloader(self):
        return torch.utils.data.DataLoader(self.batches[:1], batch_size=None)


class Timed(torch.utils.data.Dataset):
    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        meter.step_ends() if index else meter.train_begins()
        return self.batches[index]


litgpt.pretrain.setup(
    model_name="llama", model_config=config, out_dir=place / "out", initial_checkpoint_dir=place, data=Blocks(),
    precision="bf16-mixed" if "bf16" in job["options"] else "32-true",
    train=TrainArgs(
        save_interval=None, log_interval=1, global_batch_size=job["batch"], micro_batch_size=job["batch"],
        max_tokens=job["steps"] * job["batch"] * job["context"], max_norm=1.0, min_lr=job["lr"], lr_warmup_steps=0,
        max_seq_length=job["context"], tie_embeddings=False,
    ),
    eval=EvalArgs(interval=10**6, max_iters=1, final_validation=False), devices=1, logger_name="csv",
    optimizer={"class_path": "torch.optim.AdamW", "init_args": {"lr": job["lr"], "weight_decay": 0.0}},
)  # fmt: skip
(metrics,) = (place / "out").rglob("metrics.csv")
with metrics.open() as file:
    losses = [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]
meter.write(job, losses, [job["batch"] * job["context"]] * job["steps"], None)
