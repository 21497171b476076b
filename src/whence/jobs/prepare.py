"""Prepare: training text, read once, becomes the token store ``RUN/data`` with its fixed work units.

Everything that could surprise is said: how rows were read, documents cut into windows or with nothing to predict, files
left aside, special tokens that were there already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from whence.artifacts import finished
from whence.artifacts.fingerprint import file_checksum, text_fingerprint
from whence.artifacts.folder import release
from whence.counted import counted
from whence.data.documents import Document, read_documents
from whence.data.encode import NOTICES, Tokenizer
from whence.data.packing import Pack
from whence.data.shapes import Columns, check_columns, shown
from whence.data.spec import Spec, parse_spec
from whence.data.store import TokenStore, encoded_documents
from whence.errors import DataError
from whence.jobs.log import Log
from whence.models.hf import tokenizer_text
from whence.world import World

FOLDER = "data"
STEP = "prepare (bytes)"


def prepare(
    run_folder: Path | str,
    *,
    train: str | Path,
    tokenizer: Tokenizer,
    context: int,
    batch_tokens: int = 4096,
    limit: int | None = None,
    columns: Columns | None = None,
    pack: Pack = "none",
    units: int | None = None,
    world: World | None = None,
    log: Log | None = None,
) -> TokenStore:
    """Tokenise the training data of a run, or open what the same run prepared earlier.

    Args:
        train: A data spec: a file, a folder, a pattern, a saved dataset or a name of the hub; see `data.spec`.
        context: Tokens a sequence may have; longer documents become several that overlap by a token.
        batch_tokens: Padded tokens a batch may hold, whatever the context.
        limit: Take the first so many documents.
        columns: Role → column of the rows, where it has another name than the role.
        pack: How documents share the model's rows: see `data.packing`.
        units: Work units; chosen when not given.
        world: Under torchrun one process writes and the others wait.

    Raises:
        DataError: If the data is missing or empty, or a row cannot be used; file, line and field are named.
        ArtifactMismatch: If the folder was prepared from other data, with another tokenizer or other settings.
        StorageError: If the disk refuses; running again starts the store again.
    """
    world, log = world or World.current(), log or Log.silent()
    folder = Path(run_folder) / FOLDER
    if not world.main:
        world.barrier()
        return TokenStore.open(folder)
    check_columns(columns or {})
    spec = parse_spec(train)
    settings = {"rows": [spec.start, spec.stop], "limit": limit, "columns": dict(columns or {})}
    made_from = {"tokenizer": text_fingerprint(tokenizer_text(tokenizer)), "data": _files_fingerprint(spec)}
    known = finished(folder)
    try:
        store = TokenStore.write(
            folder,
            read_documents(spec, limit, columns),
            tokenizer,
            context=context,
            batch_tokens=batch_tokens,
            units=units,
            pack=pack,
            settings=settings,
            made_from=made_from,
            called={"data": str(train)},
            progress=None if known else _progress(spec, log),
        )
    except DataError:
        release(folder)  # the mended data are other data, and would be refused as another run's
        raise
    world.barrier()
    _say(store, spec, log, known=known)
    return store


def _files_fingerprint(spec: Spec) -> str:
    """The content of the files, whatever they are called and wherever they lie."""
    return text_fingerprint("\n".join(file_checksum(path) for path in spec.files))


def _progress(spec: Spec, log: Log) -> Callable[[Document, int], None]:
    """Bytes of the files read so far: how many documents there are is known only at the end."""
    sizes = {str(path): path.stat().st_size for path in spec.files}
    total, before, current, seen = sum(sizes.values()), 0, "", 0

    def report(document: Document, tokens: int) -> None:
        nonlocal before, current, seen
        if document.source != current:
            before += sizes.get(current, 0)
            current = document.source
        seen += 1
        # an unpacked offset can exceed a packed file; a table's rows have none
        done = before + min(document.offset + document.size, sizes[current])
        if seen % 64 == 0:
            log.step(STEP, min(done, total - 1), total, documents=seen, tokens=tokens)

    return report


def _say(store: TokenStore, spec: Spec, log: Log, *, known: bool) -> None:
    facts = store.facts
    if not known:
        total = sum(path.stat().st_size for path in spec.files)
        log.step(STEP, total, total, documents=facts["documents"], tokens=facts["tokens"])
    log.note(
        f"{'data, as prepared before' if known else 'data'}: {counted(facts['documents'], 'document')}, "
        f"{counted(facts['tokens'], 'token')} ({facts['scored']:,} scored), {_sequences(store)} in "
        f"{counted(len(store.units), 'work unit')}"
    )
    for line in _told(facts, spec, windows=store.pack == "windows"):
        log.note(line)


def _sequences(store: TokenStore) -> str:
    if store.pack == "windows":
        return f"{counted(store.trained.sequences, 'window')} of {store.context:,} tokens"
    kept = " kept apart in shared rows" if store.pack == "segments" else ""
    return f"{counted(store.sequences, 'sequence')}{kept}"


def _told(facts: Mapping[str, Any], spec: Spec, *, windows: bool) -> list[str]:
    """What was read, and everything in it that could surprise, with the first few of its places."""
    rows = ", ".join(f"{shown(shape)} {count:,}" for shape, count in facts["shapes"].items())
    lines = [f"rows: {rows}" + (f"; metadata: {_some(facts['columns'], 8)}" if facts["columns"] else "")]
    if spec.found:
        lines.append(f"found in this machine's cache: {spec.found}")
    if facts["windowed"]:
        why = "in several windows" if windows else "longer than the context, so several sequences whose scores add up"
        longest = f"the longest of {facts['longest']:,} tokens"
        of = counted(facts["windowed"], "document")
        lines.append(f"{why}: {of}, {longest} ({_some(facts['windowed_names'])})")
    if facts["unscored"]:
        of = counted(facts["unscored"], "document")
        lines.append(f"nothing to predict, so no score: {of} ({_some(facts['unscored_names'])})")
    for key, count in facts["noticed"].items():
        lines.append(f"{NOTICES[key]}: {counted(count, 'document')} ({_some(facts['noticed_names'][key])})")
    if spec.left_out:
        lines.append(f"files beside the data were left aside: {_some([str(path) for path in spec.left_out])}")
    return lines


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def count_sequences(
    train: str | Path, tokenizer: Tokenizer, context: int, columns: Columns | None = None, pack: Pack = "none"
) -> int:
    """How many sequences the whole of some training data comes to; nothing is written.

    Raises:
        DataError: As for `prepare`.
    """
    documents = read_documents(parse_spec(train), columns=columns)
    encoded = (encoded for _, encoded in encoded_documents(documents, tokenizer, context, pack))
    return sum(piece.begins for one in encoded for piece in one.pieces)
