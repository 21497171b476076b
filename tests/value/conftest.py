"""Small labelled sets, nets of one's own for them, and the command."""

import gzip
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.cli.conftest import basics, checkpoint, corpus, whence  # noqa: F401 (fixtures)
from torch import nn

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.first, self.last = nn.Linear(inputs, 5), nn.Linear(5, outputs)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x.flatten(1))))

def table():
    return Net(3, 2)

def quantity():
    return Net(3, 1)

def digits():
    return Net(36, 3)
"""


@dataclass
class Case:
    """A training and a validation file, and the flags that name the model."""

    train: Path
    valid: Path
    flags: list
    flipped: int
    """The row whose label is wrong."""


def trained(make, inputs, targets, loss, folder):
    """The weights of a net after some steps of Adam, beside the file that makes it."""
    (folder / "net.py").write_text(NET)
    scope = {}
    exec(NET, scope)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = scope[make]()
    optimiser = torch.optim.Adam(net.parameters(), lr=0.03)
    for _ in range(40):
        optimiser.zero_grad()
        loss(net(inputs), targets).backward()
        optimiser.step()
    save_file(net.state_dict(), folder / f"{make}.safetensors")
    return ["--model", f"{folder / 'net.py'}:{make}", "--weights", folder / f"{make}.safetensors"]


def standard(x):
    return (x - x.mean(0)) / x.std(0, correction=0)


@pytest.fixture
def table(tmp_path):
    """Two classes by the sign of a sum, told by name; row 7 says the other."""
    y = torch.arange(40) % 2
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(1)) + 3 * (2 * y[:, None] - 1)
    x *= torch.tensor([1.0, 20.0, 0.1])
    y[7] = 1 - y[7]
    for name, rows in (("train", range(30)), ("valid", range(30, 40))):
        lines = ["height,weight,age,kind"] + [
            ",".join([*(f"{v:.9g}" for v in x[r].tolist()), ("left", "right")[y[r]]]) for r in rows
        ]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    flags = trained("table", standard(x[:30]), y[:30], nn.functional.cross_entropy, tmp_path)
    return Case(tmp_path / "train.csv", tmp_path / "valid.csv", [*flags, "--target", "kind"], 7)


@pytest.fixture
def quantity(tmp_path):
    """A quantity in units of its own; row 4's is far off."""
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(2))
    y = 100 + 10 * x.sum(1)
    y[4] += 60
    for name, rows in (("train", range(30)), ("valid", range(30, 40))):
        lines = ["a,b,c,strength"] + [",".join(f"{v:.9g}" for v in [*x[r].tolist(), float(y[r])]) for r in rows]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    flags = trained("quantity", standard(x[:30]), standard(y[:30])[:, None], nn.functional.mse_loss, tmp_path)
    return Case(tmp_path / "train.csv", tmp_path / "valid.csv", flags, 4)


def write_idx(path, tensor):
    head = struct.pack(">BBBB", 0, 0, 8, tensor.ndim) + b"".join(struct.pack(">I", size) for size in tensor.shape)
    path.write_bytes(gzip.compress(head + tensor.to(torch.uint8).numpy().tobytes()))


def pictures(count, seed):
    """Noise with a bright row, column or nothing: classes 0, 1 and 2."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 60, (count, 6, 6), generator=draw)
    y = torch.arange(count) % 3
    for row in range(count):
        if y[row] == 0:
            x[row, 2] += 150
        if y[row] == 1:
            x[row, :, 2] += 150
    return x, y


@pytest.fixture
def digits(tmp_path):
    """IDX pictures of three classes; picture 5 has another's label."""
    x, y = pictures(36, 1)
    other, theirs = pictures(9, 2)
    y[5] = 0
    for name, images, labels in (("train", x, y), ("t10k", other, theirs)):
        write_idx(tmp_path / f"{name}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte.gz", labels)
    numbers = x.float() / 255
    numbers = (numbers - numbers.mean()) / numbers.std(correction=0)
    flags = trained("digits", numbers.flatten(1), y, nn.functional.cross_entropy, tmp_path)
    return Case(tmp_path / "train-images-idx3-ubyte.gz", tmp_path / "t10k-images-idx3-ubyte.gz", flags, 5)


@pytest.fixture
def classifier(tmp_path):
    """A random BERT of one block whose classes are named the other way round than their order."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "win", "cash", "see", "you"]
    tokenizer = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    config = BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12,
        max_position_embeddings=16, id2label={0: "spam", 1: "ham"}, label2id={"spam": 0, "ham": 1},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertForSequenceClassification(config).save_pretrained(tmp_path / "bert")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"
