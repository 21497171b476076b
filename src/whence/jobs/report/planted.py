"""Which documents are known to hold the answers, and how often a ranking found them: RUN/checks/planted.json.

Kept with the run, so that a report written again later says the same. It is of these questions at this damping; asked
something else, the report leaves it out.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from whence.artifacts.atomic import write_text
from whence.errors import ArtifactError
from whence.report.trust import Recall, RecallRow

NAME = "checks/planted.json"


@dataclass(frozen=True)
class Planted:
    """What is known of a run's questions."""

    model: str
    """What to call the model."""
    questions: str
    """Digest of the questions asked."""
    damping: str
    documents: dict[int, int]
    """Question → document."""
    recall: Recall

    def write(self, run: Path) -> None:
        """Keep it in the run's folder."""
        (run / NAME).parent.mkdir(exist_ok=True)
        write_text(run / NAME, json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def read(cls, run: Path, *, questions: str, damping: str) -> Planted | None:
        """What was kept; None where nothing was, or it was of other questions or another damping.

        Raises:
            ArtifactError: If the file is not one of ours.
        """
        path = run / NAME
        if not path.exists():
            return None
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            recall = Recall(**{**kept["recall"], "rows": [RecallRow(**row) for row in kept["recall"]["rows"]]})
            documents = {int(question): document for question, document in kept["documents"].items()}
            found = cls(kept["model"], kept["questions"], kept["damping"], documents, recall)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            hint = "delete it; `whence demo` writes it again"
            raise ArtifactError(f"{path} cannot be read: {error!r}", hint=hint) from None
        return found if (found.questions, found.damping) == (questions, damping) else None
