"""A fact is learned when the model says it: forcing tells what generating would."""

import numpy as np
import torch

from whence.data.queries import QueryBatch
from whence.jobs.demo import says
from whence.testing.tiny import huggingface
from whence.testing.toys import collate, sequence


def test_saying_is_what_greedy_generation_does():
    model, draw = huggingface("llama", vocab=20), torch.Generator().manual_seed(0)
    prompts = [torch.randint(3, 20, (4,), generator=draw) for _ in range(4)]
    said = [model.generate(p[None], do_sample=False, max_new_tokens=3, pad_token_id=0)[0] for p in prompts]
    other = [torch.cat([whole[:-1], (whole[-1:] + 1) % 20]) for whole in said]  # right but for its last token
    asked = [sequence(row.tolist(), prompt=4, number=n) for n, row in enumerate([*said, *other])]
    batch = collate(asked, padding=2)

    found = says(model, [QueryBatch(batch, torch.arange(8), torch.ones(8))])

    np.testing.assert_array_equal(found, [True] * 4 + [False] * 4)
