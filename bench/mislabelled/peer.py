"""cleanlab's label quality, in whatever Python has it: ``python peer.py in.npz out.npz``.

Reads ``labels [n]`` and ``probabilities [n c]``; writes ``self_confidence [n]`` (its default) and ``adjusted [n]``
(confident learning's correction for over-confident classes), both as cleanlab gives them: low means suspect.
"""

import sys

import numpy as np


def main(source: str, target: str) -> None:
    from cleanlab.rank import get_label_quality_scores

    given = np.load(source)
    labels, probabilities = given["labels"], given["probabilities"]
    plain = get_label_quality_scores(labels, probabilities)
    adjusted = get_label_quality_scores(labels, probabilities, method="normalized_margin", adjust_pred_probs=True)
    np.savez(target, self_confidence=plain, adjusted=adjusted)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
