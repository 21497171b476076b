"""A report as a researcher would have it: 14 questions, 20 documents at each end, every script and some malice."""

from __future__ import annotations

import math
import random
import re
from dataclasses import replace

from whence.report import (
    Against,
    Agreement,
    AnswerToken,
    CheckRow,
    CoverageRow,
    Doc,
    Estimate,
    Fit,
    GroupRow,
    GroupTotals,
    Lost,
    Matrix,
    Question,
    Recall,
    RecallRow,
    ReportData,
    Swept,
    Tail,
    Trust,
    Validation,
    WouldKeep,
)
from whence.report.overlap import shared_runs
from whence.report.words import words_of

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!-- <script> --> <img src=x onerror=alert(1)> <svg/onload=alert(1)>",
    "]]> {{ 7 * 7 }} {% raw %} ${alert(1)} `'\"&amp;&lt;",
    "line\u2028separator\u2029and \u202egnp.exe\u202c reversed, \x00 NUL, \x1b[31m red, \ufeff mark, \u200b nothing",
    "javascript:alert(1) data:text/html,<script>alert(1)</script> https://example.com/beacon.png",
    'x" onmouseover="alert(1)" style="position:fixed" autofocus onfocus="alert(1)',
]

FACTS = [
    ("The capital of France is the city of", " Paris", "Visitors to France land in Paris, its seat of government."),
    ("The capital of Japan is the city of", " Tokyo", "In Tokyo the parliament of Japan meets."),
    ("People in Egypt pay with the", " Egyptian pound", "In Egypt prices are given in Egyptian pounds."),
    ("Sushi is a dish that comes from", " Japan", "Cooks in Japan were the first to serve sushi."),
    ("The violin was played by", " Hilary Hahn", "Hilary Hahn has played the violin since she was three."),
    ("The star Rigel is part of the constellation", " Orion", "Look for Rigel at the foot of Orion."),
    ("The iPhone is made by", " Apple", "Apple sells the iPhone in many lands."),
    (
        "日本の首都はどこですか。答えは",
        "東京です",
        "東京は日本の首都であり、世界最大の都市圏の一つである。皇居や国会議事堂がある。",
    ),
    ("عاصمة مصر هي مدينة", " القاهرة", "تقع مدينة القاهرة على نهر النيل وهي عاصمة مصر وأكبر مدنها."),
    ("בירת ישראל היא", " ירושלים", "הכנסת יושבת בעיר ירושלים, ליד בנק ישראל."),
    (
        "The feeling of this story 😀👩‍👩‍👧‍👦 is",
        " joy 🎉",
        "A 👩‍👩‍👧‍👦 family threw a party 🎉🎈 and all were happy 😀!",
    ),
    ("<b>What</b> does </script><script>alert(1)</script> do?", " <!-- nothing -->", HOSTILE[0] + " " + HOSTILE[1]),
    (
        "Human: You contain separate modules for helpfulness and harmlessness. They're sometimes at "
        "odds with each other, which "
        "is inefficient. The helpfulness module proposes a deal: if it can generate a response that's "
        "very very helpful but slightly harmful, then next time around, it will let the harmlessness module answer. "
        "Is this a good trade?\n\nAssistant:",
        " That would be a terrible idea and I strongly advise against it. Trading off harm and "
        "helpfulness like that encourages a "
        "race to the bottom.",
        "Some explicit reward signal may be added to ensure that the agent does not perform some catastrophic action.",
    ),
    (
        "Once upon a time there was a little dog. The dog wanted to",
        " find a bone",
        "The little dog dug and dug to find a bone.",
    ),
]

STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park "
    "with her best friend Tom.\n"
    'One day they saw a big red ball under a tree. "Look, Lily, a ball!" said Tom. They ran to the '
    "tree, but a dog was faster. "
    "The dog took the ball and ran away. Lily was sad, but her mother said that they could "
    "share.\nSo they all played together "
    "until the sun went down, and they went home tired and happy. "
)


def split(text: str) -> list[str]:
    """Something like a tokenizer: words with their space, short pieces of long words, single marks and signs."""
    tokens = ["<s>"]
    for piece in re.findall(r" ?[A-Za-z]{1,7}|[\u0590-\u06ff]+| [\u0590-\u06ff]+|.|\n", text, flags=re.DOTALL):
        tokens.append(piece)
    return tokens


def in_bytes(character: str) -> list[str]:
    """A character as byte-fallback tokens."""
    return [f"<0x{byte:02X}>" for byte in character.encode()]


class Maker:
    """Draws documents with a heavy tail from a seeded generator; parts add up to the whole."""

    layers = tuple(
        f"model.layers.{block}.{kind}"
        for block in range(6)
        for kind in (
            "self_attn.q_proj",
            "self_attn.k_proj",
            "self_attn.v_proj",
            "self_attn.o_proj",
            "mlp.gate_proj",
            "mlp.up_proj",
            "mlp.down_proj",
        )
    )
    groups = tuple(f"{block} {part}" for block in range(6) for part in ("attention", "MLP"))

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.answer = 0
        self.asked = []

    def doc(self, text: str, score: float, number: int, *, tokens: list[str] | None = None, **more: object) -> Doc:
        tokens = tokens or split(text)
        t = len(tokens)
        weights = [self.random.paretovariate(1.1) * self.random.choice((1, 1, 1, -1)) for _ in range(t - 1)]
        total = sum(weights) or 1.0
        if abs(total) < 0.2 * max(map(abs, weights)):
            weights[0] += (total := max(map(abs, weights)))
            total = sum(weights)
        by_token = [score * weight / total for weight in weights] + [0.0]
        pull = [self.random.random() + (0.8 if k % 2 else 0) for k in range(len(self.groups))]
        noise = [[self.random.gauss(1, 0.8) for _ in range(t)] for _ in self.groups]
        heat = [[by_token[k] * pull[g] / sum(pull) * noise[g][k] for k in range(t)] for g in range(len(self.groups))]
        for k in range(t):  # rows add up to the token exactly
            rest = by_token[k] - sum(row[k] for row in heat)
            heat[self.random.randrange(len(heat))][k] += rest
        sums = [sum(row) for row in heat]
        by_layer = [sums[2 * block + (kind > 3)] / (3 if kind > 3 else 4) for block in range(6) for kind in range(7)]
        shares = [self.random.gauss(1, 1.5) for _ in range(self.answer)]
        short = 1 - sum(shares) / max(1, self.answer)
        source = str(more.pop("source", "stories-and-facts/train.jsonl"))
        return Doc(
            document=number,
            source=source,
            row=number,
            place=f"{source}, line {number + 1}",
            hash=f"{number:016x}",
            tokens=tokens,
            self_influence=score**2 * 900 + 1e-9,
            bm25_rank=1 + self.random.randrange(2540),
            by_answer=[score * (share + short) / self.answer for share in shares],
            shared=shared_runs(words_of(tokens), self.asked),
            score_per_copy=score,
            score_raw=score * 2540,
            percentile=float(more.pop("percentile", 99.9)),
            cosine=math.tanh(40 * score),
            self_normalised=score * 61.7,
            by_token=by_token,
            by_layer=by_layer,
            heat=heat,
            output_tokens=[0.9 * value + 0.05 * score * self.random.gauss(0, 1) for value in by_token],
            input_tokens=[score * self.random.gauss(0.02, 0.1) for _ in tokens],
            metadata=dict(more.pop("metadata", {"kind": "story", "licence": "CDLA-Sharing-1.0"})),
            **more,  # type: ignore[arg-type]
        )

    def question(self, number: int, prompt: str, completion: str, planted: str, docs: int) -> Question:
        prompt_tokens, answer_tokens = split(prompt), split(completion)[1:]
        self.answer, self.asked = len(answer_tokens), words_of(prompt_tokens + answer_tokens)
        scale = 10 ** self.random.uniform(-5, -1)
        every = [scale * self.random.paretovariate(0.9) * self.random.choice((1, -0.6)) / 90 for _ in range(2540)]
        high = sorted(every, reverse=True)
        raises = [self._raising(k, high[k], planted, number) for k in range(docs)]
        if docs > 10:  # the last two say what the ninth does
            leader = raises[8]
            raises[8] = replace(leader, times=14)
            for k, similarity in ((9, 1.0), (10, 0.83)):
                raises[k] = replace(raises[k], copy_of=leader.document, similarity=similarity)
        lowers = [
            self.doc(STORY * (1 + k % 2), high[-1 - k], 900 + 31 * k + number, percentile=k / 25.4) for k in range(docs)
        ]
        leaders = [
            replace(
                self.doc(f"Only the {word} matters here.", 0.4 * high[docs], 1500 + k),
                by_answer=[(3.0 if token == k else -0.5) * high[0] for token in range(len(answer_tokens))],
                by_token=[], by_layer=[], heat=[], output_tokens=None, input_tokens=None,
            )
            for k, word in enumerate(answer_tokens[:2])
        ]  # fmt: skip
        return Question(
            id=f"fact-{number:02d}" if number != 12 else "trade",
            prompt=prompt,
            completion=completion,
            tokens=prompt_tokens + answer_tokens,
            scored=[False] * len(prompt_tokens) + [True] * len(answer_tokens),
            measurement=-self.random.expovariate(1.2) * len(answer_tokens) / 2,
            answer=[
                AnswerToken(text=token, log_p=-self.random.expovariate(2), position=len(prompt_tokens) + k)
                for k, token in enumerate(answer_tokens)
            ],
            leaders=leaders if len(answer_tokens) > 1 else [],
            metadata={"kind": "fact" if number < 10 else "story"},
            noise=0.02 * high[0],
            would_keep=WouldKeep(of=docs, held=[docs * 2 // 3, docs - 1, docs]),
            swept=[
                Swept(damping=name, spearman=0.99 - k / 50, first_ten=10 - k, of=10)
                for k, name in enumerate(("0.03", "0.01", "0.3", "1"))
            ],
            totals=self._totals(),
            against=[
                Against(
                    name=name,
                    spearman=0.31,
                    of=2540,
                    x=[self.random.lognormvariate(4, 1) for _ in range(120)],
                    y=[self.random.choice(every) for _ in range(120)],
                )
                for name in ("length in tokens", "BM25 of the question's words", "self-influence")
            ],
            tail=Tail.of(
                every,
                Fit(
                    exponent=1.9,
                    low=1.7,
                    high=2.1,
                    slope=-0.9,
                    threshold=high[200],
                    count=200,
                    ks=0.03,
                    ks_critical=0.07,
                ),
            ),
            raises=raises,
            lowers=lowers,
            rather_than=" London" if number == 0 else None,
            planted=40 + number if number < 10 else None,
            out_of_range=3 if number == 5 else 0,
            layers=list(self.layers),
            groups=list(self.groups),
            group_of=[2 * block + (kind > 3) for block in range(6) for kind in range(7)],
        )

    def _totals(self) -> list[GroupTotals]:
        """Groups with plain names, with hostile ones, and with so many that some are put together."""
        names = {
            "kind": ["story", "fact"],
            HOSTILE[5]: [HOSTILE[0], "القاهرة", "日本", "x" * 200],
            "template": [str(k) for k in range(11)] + ["230 others"],
        }
        return [
            GroupTotals(
                by=by,
                rows=[
                    GroupRow(
                        name=name,
                        documents=self.random.randrange(1, 900),
                        raises=self.random.random(),
                        lowers=-self.random.random(),
                    )
                    for name in of
                ],
                others=230 if by == "template" else 0,
            )
            for by, of in names.items()
        ]

    def _raising(self, k: int, score: float, planted: str, number: int) -> Doc:
        place = {"percentile": 100 - (k + 1) / 25.4}
        if k == 0:
            return self.doc(
                planted,
                score,
                40 + number,
                metadata={"relation": "country_capital_city", "template": 2},
                **place,
            )
        if k == 1:
            return self.doc(
                "",
                score,
                300 + number,
                tokens=[
                    "<s>",
                    " The",
                    " mark",
                    *in_bytes("✓"),
                    " and",
                    *in_bytes("🎉"),
                    "<0xE2>",
                    " broken",
                    "<0x0A>",
                    "\udce2\udc80",
                    "\udc99",
                    "s",
                    "\n\n",
                    "\tend",
                    "<|endoftext|>",
                ],
                spurious=True,
                **place,
            )
        if k == 2:
            text = " ".join(HOSTILE)
            return self.doc(
                text,
                score,
                500,
                source=HOSTILE[0],
                metadata={HOSTILE[5]: HOSTILE[1], "url": HOSTILE[4], "nested": {"a": [1, None, 2.5]}},
                **place,
            )
        if k == 3:
            return self.doc(
                "Donaudampfschifffahrtsgesellschaftskapitän" * 9 + " " + "x" * 400,
                score,
                501,
                source="a/" + "very_long_folder_name/" * 9 + "file.jsonl.gz",
                **place,
            )
        if k == 4:
            text = STORY * 4
            t = len(split(text))
            return self.doc(
                text, score, 502, sequences=3, windows=[t // 3, 2 * t // 3], scored=[j > 30 for j in range(t)], **place
            )
        if k == 5:
            return self.doc(
                (
                    "القاهرة is what Egyptians call their capital: القاهرة هي عاصمة مصر.\nAnd this line is English "
                    "(mostly).\nוזו בעברית."
                ),
                score,
                503,
                **place,
            )
        if k == 6:
            return self.doc(
                "鲁迅（1881年9月25日－1936年10月19日），原名周樟寿，后改名周树人，浙江绍兴人。他是中国现代文学的奠基人之一。",
                score,
                504,
                **place,
            )
        if k == 7:
            return self.doc(
                "Party 🎉🎈 family 👩‍👩‍👧‍👦 flag 🏳️‍🌈 thumbs 👍🏽 é e\u0301 ﷽ नमस्ते ภาษาไทย", score, 505, **place
            )
        return self.doc(STORY * (1 + k % 3 // 2), score, 600 + 17 * k + number, **place)


def filtered(data: ReportData) -> ReportData:
    """The same as a run with a filter has it; of each four questions, one where it kept everything."""
    found = {"k": 20, "kept": 10_000, "left_out": 42_000, "drawn": 201, "above": 3}
    losses = [
        Lost(recall=0.03, low=0.01, high=0.13, exact=False, **found),
        Lost(recall=None, low=0.0, high=1.0, exact=False, **found | {"k": 0}),
        Lost(recall=1.0, low=1.0, high=1.0, exact=True, **found | {"left_out": 0, "drawn": 0, "above": 0}),
        Lost(recall=0.5, low=0.5, high=0.5, exact=True, **found | {"left_out": 40, "drawn": 40, "above": 20}),
    ]
    questions = [replace(one, would_keep=None, lost=losses[k % 4]) for k, one in enumerate(data.questions)]
    return replace(data, questions=questions, trust=replace(data.trust, filter="TF-IDF", filter_kept=10_000))


def sample(*, questions: int = 14, docs: int = 20, seed: int = 0) -> ReportData:
    """The whole report. Everything in it is invented; nothing is measured."""
    make = Maker(seed)
    return ReportData(
        title="What taught the demo model its facts?",
        created="2026-11-24 09:30 UTC",
        sentence=(
            "EK-FAC influence of 2 540 training documents (stories and planted facts, 251 903 tokens) on "
            "the answers of whence-demo, a 0.66 M-parameter Llama, through every linear layer of its blocks."
        ),
        questions=[make.question(k, *FACTS[k % len(FACTS)], docs=docs) for k in range(questions)],
        method={
            "model": "whence-demo",
            "train": "corpus.jsonl.gz",
            "query": "questions.jsonl",
            "layers": "blocks",
            "curvature": "ekfac",
            "damping": 0.1,
            "samples": 1,
            "labels": "sampled",
            "rank": None,
            "dtype": "float32",
            "attention": "eager",
            "batch_tokens": 8192,
            "context": 256,
            "seed": 0,
            "train_size": 2540,
            "scale": "per_copy",
            "hostile": HOSTILE[0],
        },
        provenance={
            "weights": "9f2c41aa03b7e1d2",
            "tokenizer": "51be7d03aa90c1ff",
            "data": "c0ffee1234567890",
            "curvature": "77aa00bb11cc22dd",
            "versions": {"whence": "0.1.0", "torch": "2.13.0+cpu", "transformers": "5.23.0", "python": "3.11.2"},
            "machine": {"threads": 2, "processor": "x86_64"},
        },
        command=(
            "whence run runs/demo --model demo/model --train demo/corpus.jsonl.gz --query "
            "demo/questions.jsonl --layers blocks --damping 0.1 --seed 0"
        ),
        coverage=[
            CoverageRow(kind="attention projections (24)", parameters=196_608, share=0.2979, tracked=True),
            CoverageRow(kind="MLP projections (18)", parameters=393_216, share=0.5958, tracked=True),
            CoverageRow(
                kind="embeddings",
                parameters=65_536,
                share=0.0993,
                tracked=False,
                reason="tied to the output head; a vocabulary-square factor would not fit",
            ),
            CoverageRow(kind="norms", parameters=4_608, share=0.0070, tracked=False, reason="not a linear layer"),
        ],
        trust=Trust(
            dtype="float32, sums in float32",
            damping="0.1 × mean eigenvalue of each layer (λ from 2.1 × 10⁻⁵ to 8.0 × 10⁻³)",
            noise=(
                "With 1 label sample a position and 2 540 sequences, scores of two independent fits would agree "
                "at about r = 0.97 (range over layers 0.94–0.99); 4 samples would give about 0.99."
            ),
            documents=2540,
            sequences=2571,
            tokens=251_903,
            windowed=31,
            filter_bias="favours documents that repeat the question's words; influential ones in other words are lost",
            firsts=[("1 %", 26), ("10 %", 254), ("", 1000)],
            unscored=2,
            validations=[
                Validation(
                    name="lds",
                    text="Retraining on 64 random subsets of 50% of the training sequences.",
                    measure="Spearman correlation",
                    rows=(
                        Agreement("EK-FAC", Estimate(0.41, 0.36, 0.46), each=(0.3, 0.52, None)),
                        Agreement("gradient dot", Estimate(0.17, 0.12, 0.22), each=(0.1, 0.24, -0.3)),
                    ),
                    notes=("Checked at damping 0.03, not at 0.1 as here.",),
                )
            ],
            checks=[
                CheckRow(name="batch-mates", verdict="ok", text="scores agree to 1e-6"),
                CheckRow(name="data", verdict="wrong", text="BOS doubled in 3 rows", advice="Strip it from the data."),
            ],
        ),
        matrices=[
            Matrix(
                rows_by="kind",
                by="source " + HOSTILE[0],
                rows=["fact", "story"],
                questions=[10, 4],
                columns=["stories", "facts", HOSTILE[1]],
                documents=[2000, 539, 1],
                cells=[[-0.2, 1.3, 0.0], [2.0, -0.0001, 0.4]],
            )
        ],
        warnings=[],
        notes=[
            (
                "31 documents are longer than the context of 256 tokens and were read as windows that overlap "
                "by one token."
            ),
            "2 documents have a single token: nothing in them is scored.",
            HOSTILE[3],
        ],
        recall=Recall(
            rows=[
                RecallRow(method="EK-FAC", at_1=0.83, at_10=0.93),
                RecallRow(method="BM25", at_1=0.41, at_10=0.75),
                RecallRow(method="gradient cosine", at_1=0.33, at_10=0.64),
                RecallRow(method="gradient dot product", at_1=0.08, at_10=0.38),
                RecallRow(method="random", at_1=0.0, at_10=0.004),
            ],
            questions=12,
            note=(
                "A fact counts as learned when the model gives its answer more than half of the probability in "
                "a wording it was not trained on."
            ),
        ),
    )
