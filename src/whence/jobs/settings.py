"""The settings of a run: one frozen object, one TOML file.

Every command and ``whence.run`` speak through ``RunSettings``; each job reads from it what it needs. The file
in a run's folder (``RUN/settings.toml``) is this object written out, so that a run says how it was made and
can be made again. A key that no field has is an error with the nearest name, never a silent nothing.

The layers of precedence, lowest first: the defaults here, a settings file, the flags of the command.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_type_hints

from whence.errors import InvalidSetting
from whence.jobs.filter_setting import FilterSetting
from whence.jobs.sizes import bytes_of
from whence.jobs.typed import as_toml, describe_type, fits

Scale = Literal["raw", "per_copy"]
SolverName = Literal["fitted", "ekfac_refined", "sampled", "sampled_refined", "cg", "exact", "astra", "lissa"]
"""The fitted curvature itself, or one of `curvature.inverse.INVERSES`."""
Split = Literal["layer", "token", "answer"]


class RefusedSetting(InvalidSetting):
    """A setting whose value cannot be honoured, and its name."""

    def __init__(self, setting: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.setting = setting


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """What a run is asked to do. Paths are read relative to the working directory.

    Raises:
        InvalidSetting: If a value has the wrong type or cannot be honoured; the message names the setting.

    Example:
        >>> RunSettings(model="models/pythia", train="train.jsonl").curvature
        'ekfac'
    """

    model: str
    """Folder of the model: a Hugging Face checkpoint with its tokenizer."""
    train: str
    """The training data, as `path-or-name[:config][@revision][#split[slice]]`: files, a folder, a saved dataset."""
    columns: dict[str, str] | None = None
    """Columns of the rows where they have other names, { text = "content" }; or which of several shapes is meant."""
    adapter: str | None = None
    """Folder of a LoRA adapter on top of the model, as PEFT saves it."""
    params: Literal["adapter", "base", "all"] | None = None
    """Whose parameters influence is over. Default: the adapter's where there is one, else the model's own."""
    tokenizer: str | None = None
    """Folder of the tokenizer, where it is not the model's own."""
    query: str | None = None
    """Questions from a file: prompt and completion; text; messages; or prompt, chosen and rejected."""
    ask: str | None = None
    """One question given directly: its prompt."""
    answer: str | None = None
    """The completion that `ask` is about."""
    rather_than: str | None = None
    """Another completion: makes the question contrastive, why `answer` rather than this."""
    layers: tuple[str, ...] = ("blocks",)
    """Layers to track: a preset, "blocks", "mlp" or "all", or globs on the printed layer names."""
    curvature: Literal["identity", "diagonal", "kfac", "ekfac"] = "ekfac"
    """How the loss curves: from none at all (plain gradients) to EK-FAC."""
    solver: SolverName = "fitted"
    """How questions are solved: by the fitted curvature itself, or on the loss's own Gauss-Newton matrix, nearer by far
    and many passes dearer; "ekfac_refined" takes five products of conjugate gradient, "cg" goes on to a tolerance."""
    damping: float | str = 0.1
    """Added to every eigenvalue: a share of their mean, layer by layer, or "abs:1e-3" for an absolute value."""
    samples: int = 1
    """Labels drawn from the model at each scored position while fitting; more of them, less sampling noise."""
    labels: Literal["sampled", "expected", "true"] = "sampled"
    """Whose labels curvature is fitted at: drawn from the model (the Fisher), each in turn (the Fisher without
    sampling noise, for a vocabulary of a few), or the data's own (the empirical Fisher)."""
    rank: int | Literal["auto", "full"] = "auto"
    """Rank kept of each query gradient; "auto" is "full" while the queries fit into memory, and 32 beyond."""
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    """Number type that the model computes in. Sums are float32 or better whatever it is."""
    store: Literal["float32", "bfloat16"] = "float32"
    """Number type that the fitted curvature is kept in; "bfloat16" takes half the disk, at a little accuracy."""
    attention: Literal["eager", "sdpa", "flash_attention_2"] = "eager"
    """Attention kernel. The fused ones can make a sequence's gradient depend on its batch-mates."""
    device: str = "auto"
    """Where to compute: "cpu", "cuda", "cuda:1"; "auto" takes an accelerator where there is one."""
    context: int | None = None
    """Longest sequence in tokens; longer documents become several. Default: the model's own context."""
    pack: Literal["none", "windows", "segments"] = "none"
    """Documents in a sequence: one; "windows" of documents end to end, as in pretraining; or "segments", kept apart."""
    batch_tokens: int = 8192
    """Tokens in a batch, padding included; independent of the context."""
    memory: str | None = None
    """Most memory to take, "16GB", of the process or of the accelerator: smaller batches, queries cut to a rank and
    layers fitted in groups are chosen to fit."""
    limit: int | None = None
    """Read only so many training documents."""
    filter: str = "none"
    """Score each question on its own first documents alone, by their words: "tfidf:10000", "bm25:1000". Cheaper where
    data are many; what is influential in other words is lost. Curvature is fitted on all the same."""
    train_size: int | None = None
    """Sequences the model was trained on, for scores per copy. Default: all of the training data, never a limit."""
    scale: Scale = "per_copy"
    """Scores as "raw" influence, or "per_copy": the change in nats when one more copy is trained on."""
    by: tuple[Split, ...] = ()
    """Also split the scores of every sequence by "layer", by its "token", or by token of the "answer"; those of the
    documents that a report shows always are."""
    top: int = 20
    """Documents shown at either end of the ranking."""
    seed: int = 0
    """Seed of the sampled labels; the same seed gives the same bits."""

    def __post_init__(self) -> None:
        hints = _hints()
        for field in fields(self):
            value = getattr(self, field.name)
            if not fits(value, hints[field.name]):
                raise RefusedSetting(
                    field.name, f"{field.name} must be {describe_type(hints[field.name])}, not {value!r}"
                )
        _check(self)

    @property
    def method(self) -> str:
        """The curvature's name, or the solver's where there is another: what makes the scores."""
        return self.curvature if self.solver == "fitted" else self.solver

    @classmethod
    def from_toml(cls, path: Path | str, **overrides: Any) -> RunSettings:
        """Read a settings file; ``overrides`` win over it.

        Raises:
            InvalidSetting: If the file is missing, is not TOML, has a key that is no setting, or lacks one that
                must be there; the message names the file.
        """
        return cls.build(read_toml(path), overrides, source=str(path))

    @classmethod
    def build(cls, values: Mapping[str, Any], overrides: Mapping[str, Any], *, source: str) -> RunSettings:
        """Settings from a file's ``values`` and a command's ``overrides``, which win.

        Args:
            source: Where ``values`` came from; errors about one of them name it.
        """
        merged = {**values, **overrides}
        for key in merged:
            _refuse_unknown(key, source)
        for name in (f.name for f in fields(cls) if f.default is MISSING and f.name not in merged):
            raise InvalidSetting(
                f"{source} does not say which {name} to use",
                hint=f'give --{name} on the command line, or {name} = "…" in a settings file',
            )
        for name in ("layers", "by"):
            if isinstance(merged.get(name), str):
                merged[name] = (merged[name],)
            elif isinstance(merged.get(name), list):
                merged[name] = tuple(merged[name])
        try:
            return cls(**merged)
        except RefusedSetting as error:
            if error.setting in overrides:
                raise
            raise RefusedSetting(error.setting, f"{source}: {error.message}", hint=error.hint) from None

    def replace(self, **changes: Any) -> RunSettings:
        """The same settings with some changed, checked again."""
        return replace(self, **changes)

    def to_toml(self) -> str:
        """The settings as a TOML file that explains itself. What is unset stands as a comment."""
        lines = ["# Settings of a whence run. Run it again with `whence run RUN` or `whence run RUN --settings FILE`."]
        for field in fields(self):
            value = getattr(self, field.name)
            lines += ["", f"# {describe(field.name)}"]
            lines.append(f"# {field.name} =" if value is None else f"{field.name} = {as_toml(value)}")
        return "\n".join(lines) + "\n"


def read_toml(path: Path | str) -> dict[str, Any]:
    """The raw keys and values of a settings file.

    Raises:
        InvalidSetting: If the file is missing, is not TOML, or has a key that is no setting.
    """
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidSetting(f"no settings file at {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"{path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidSetting(f"{path} is not TOML: {error}") from None
    if {"as_is", "each"} <= values.keys():
        raise InvalidSetting(
            f"{path} is a valuation's, and this command reads runs over training text",
            hint="`whence value` and `whence self --labels` go on with it; its reports are in its folder",
        )
    for key in values:
        _refuse_unknown(key, str(path))
    return values


@cache
def _documentation() -> dict[str, str]:
    body = ast.parse(inspect.getsource(RunSettings)).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            assert isinstance(text.value, ast.Constant)
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def describe(name: str) -> str:
    """The sentence that documents a setting, from the source above; written into every settings file."""
    return _documentation()[name]


def _check(settings: RunSettings) -> None:
    """What types cannot say."""
    share = settings.damping
    try:
        amount = float(share.removeprefix("abs:")) if isinstance(share, str) else share
    except ValueError:
        raise RefusedSetting("damping", f"damping must be a number or abs:NUMBER, not {share!r}") from None
    if not (amount > 0 and math.isfinite(amount)):
        hint = "the curvature is singular without it; 0.1 (a tenth of the mean eigenvalue) is the usual value"
        raise RefusedSetting(
            "damping", f"damping must be positive, not {f'{amount:g}' if share == amount else share}", hint=hint
        )
    least = {"samples": 1, "rank": 1, "context": 2, "batch_tokens": 1, "limit": 1, "train_size": 1, "top": 1, "seed": 0}
    for name, low in least.items():
        value = getattr(settings, name)
        if isinstance(value, int) and value < low:
            raise RefusedSetting(name, f"{name} must be at least {low}, not {value}")
    _check_filter(settings)
    _check_solver(settings)
    if settings.memory is not None:
        try:
            bytes_of(settings.memory)
        except InvalidSetting as error:
            raise RefusedSetting("memory", f"memory: {error.message}", hint=error.hint) from None
    if not settings.layers or not all(settings.layers):
        raise RefusedSetting(
            "layers", "layers must name at least one layer", hint='"blocks" is every layer of the blocks'
        )
    if settings.adapter is None and settings.params in ("adapter", "all"):
        raise RefusedSetting(
            "params", f'params is "{settings.params}", and there is no adapter', hint="give --adapter FOLDER"
        )
    _check_question(settings)


def _check_filter(settings: RunSettings) -> None:
    try:
        FilterSetting.parse(settings.filter)
    except InvalidSetting as error:
        raise RefusedSetting("filter", error.message, hint=error.hint) from None


def _check_solver(settings: RunSettings) -> None:
    """A solver needs a preconditioner and full precision, and gives whole directions of whole questions."""
    name = settings.solver
    if name == "fitted":
        return
    if settings.curvature == "identity":
        hint = "leave solver out, or fit ekfac, kfac or diagonal"
        raise RefusedSetting("solver", f"solver = {name} has nothing to solve with where nothing is fitted", hint=hint)
    if settings.dtype == "bfloat16":
        message = f"solver = {name} in bfloat16 would lose in its products what it gains"
        raise RefusedSetting("solver", message, hint='set dtype = "float32"')
    if isinstance(settings.rank, int):
        message = f"solver = {name} keeps whole directions, and rank {settings.rank} would cut them"
        raise RefusedSetting("rank", message, hint='leave rank at "auto"')
    if "answer" in settings.by:
        message = f"by = answer makes every token of an answer a question, and solver = {name} takes whole ones"
        raise RefusedSetting("by", message, hint="leave out by = answer, or solver")


def _check_question(settings: RunSettings) -> None:
    ask, answer, other = settings.ask, settings.answer, settings.rather_than
    if settings.query is not None and ask is not None:
        raise RefusedSetting("ask", "query and ask are both given; one of them says what to ask")
    if (ask is None) != (answer is None):
        present, absent = ("ask", "answer") if answer is None else ("answer", "ask")
        hint = 'a question is both: --ask "Who wrote it?" --answer " Ada."'
        raise RefusedSetting(present, f"{present} is given without {absent}", hint=hint)
    if other is not None and ask is None:
        raise RefusedSetting("rather_than", "rather_than is given without ask and answer")
    if answer == "" or other == "":
        name = "answer" if answer == "" else "rather_than"
        raise RefusedSetting(name, f"{name} is empty: there is no completion to explain")


def _refuse_unknown(key: str, source: str) -> None:
    names = [field.name for field in fields(RunSettings)]
    if key in names:
        return
    near = difflib.get_close_matches(key.replace("-", "_"), names, n=1, cutoff=0.5)
    hint = f'did you mean "{near[0]}"?' if near else f"settings are: {', '.join(names)}"
    raise InvalidSetting(f'{source}: unknown setting "{key}"', hint=hint)


@cache
def _hints() -> dict[str, Any]:
    return get_type_hints(RunSettings)
