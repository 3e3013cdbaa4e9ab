"""Whether an export finds the spans that the model finds, in notes of the user's or in a few made-up ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cardioner.errors import ModelError, many
from cardioner.interop.exports import greatest_difference
from cardioner.interop.onnx_graph import quantize, size_of
from cardioner.model_dir.golden_outputs import score_of
from cardioner.multiclass.encoding import encode_notes
from cardioner.multiclass.inference import decode_notes, emissions_of
from cardioner.multiclass.modeling import TokenClassificationModel
from cardioner.multiclass.pipeline import tag_texts
from cardioner.multiclass.windows import in_groups

if TYPE_CHECKING:
    from cardioner.prediction.engines.tagger import Tagger

BOUND = 1e-4
"""How far a logit of the float32 graph may be from the model's."""

SHARE = 0.98
"""The least agreement (F1) with the model's spans that 8-bit weights must reach, in the notes of `check`."""

LEAST_SPANS = 50
"""How many spans the model must find in these notes for the agreement to mean something."""

_SENTENCES = (
    "Patient denies chest pain. Atrial fibrillation since 2019, treated with bisoprolol 2.5 mg o.d.\r\n",
    "Paciente con disnea de esfuerzo e insuficiencia cardíaca; se inició furosemida 40 mg/12h.\n",
    "Geen orthopnoe. Ernstige aortaklepstenose met syncope; metoprolol 50 mg, coronaire bypass. ",
    "Pas d'œdème; fibrillation auriculaire paroxystique traitée par amiodarone 200 mg/j.\n\n",
    "Dolore toracico da tre giorni, ipertensione arteriosa; ramipril 5 mg, ASA 100 mg.\t",
    "Keine Ödeme, Vorhofflimmern, Z.n. Myokardinfarkt (2017), Marcumar® abgesetzt. ",
    "Žádná dušnost, srdeční selhání s EF 35 %; без боли в груди, инфаркт миокарда; 心房細動あり。",
    "\ufeff\U0001fac0 \U0001f468\u200d\u2695\ufe0f e\u0301 \u00a0\u00ad\u200b\x00 [SEP]</s><pad>[MASK] bpm. ",
)
_LONG = 8
"""How many times the sentences stand in the longest note."""


class Agreement(NamedTuple):
    """How far two taggers agree on notes.

    Attributes:
        notes: How many notes were tagged.
        found: How many spans the model found in them.
        other: How many the export found.
        equal: How many of these have the same edges and type as one of the model's; with 8-bit weights, the same
            attributes, too.
        ties: How many notes differ because two sequences of tags are equally good.
        moved: How many notes differ for another reason.
    """

    notes: int = 0
    found: int = 0
    other: int = 0
    equal: int = 0
    ties: int = 0
    moved: int = 0

    @property
    def share(self) -> float:
        """Twice the equal spans over the spans of both: the strict F1 of the one against the other."""
        return 2 * self.equal / (self.found + self.other) if self.found + self.other else 1.0

    def plus(self, other: Agreement) -> Agreement:
        """Both together."""
        return Agreement(*(one + more for one, more in zip(self, other, strict=True)))


def made_up_notes() -> list[str]:
    """Notes in several languages: short ones, empty ones, odd characters, and one of many windows."""
    whole = "".join(_SENTENCES)
    return ["", " \n", "x", *_SENTENCES, whole, whole * _LONG]


def agreement(model: Any, tokenizer: Any, tagger: Tagger, texts: Iterable[str], *, exact: bool) -> Agreement:
    """Tag notes with both and compare.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        tagger: The export.
        texts: The notes.
        exact: Whether the export computes the model's logits up to the bound, so that only ties may move a span.

    Raises:
        ModelError: If the export cuts a text into other sub-tokens.
    """
    total = Agreement()
    for group in in_groups(texts, len):
        if other := sum(
            one != two for one, two in zip(encode_notes(tokenizer, group), tagger.encode(group), strict=True)
        ):
            raise ModelError(
                f"tokenizer.json alone gives other sub-tokens than the model's tokenizer in {other} of "
                f"{many(len(group), 'note')}: share the model directory itself"
            )
        for text, ours, theirs in zip(group, tag_texts(model, tokenizer, group), tagger.tag(group), strict=True):
            one, two = (
                {(span.start, span.end, span.label, () if exact else span.attributes) for span in spans}
                for spans in (ours, theirs)
            )
            tie = exact and one != two and _tied(model, tokenizer, tagger, text)
            differs = one != two and not tie
            total = total.plus(Agreement(1, len(one), len(two), len(one & two), ties=int(tie), moved=int(differs)))
    return total


def _tied(model: Any, tokenizer: Any, tagger: Tagger, text: str) -> bool:
    """Whether the export's tags are as good as the model's, by the model's own scores, up to the bound of a logit.

    If no logit differs by more than the bound, two sequences can change places only where their scores are closer than
    twice the bound for each position at which they differ.
    """
    (emissions,) = emissions_of(model, tokenizer, encode_notes(tokenizer, [text]))
    decoded = decode_notes(model, [emissions]), tagger.decode(tagger.emissions(tagger.encode([text])))
    ours, theirs = ([tag for tags in found[0] for tag in tags] for found in decoded)
    differing = sum(one != other for one, other in zip(ours, theirs, strict=True))
    gap = score_of(model, emissions, ours) - score_of(model, emissions, theirs)
    return differing > 0 and gap <= 2 * BOUND * differing


def check_graph(
    model: TokenClassificationModel, tokenizer: Any, stage: Path, texts: Sequence[str], *, int8: bool
) -> tuple[int, int, float, Agreement]:
    """Check the graph in float32; then, if asked, reduce it to 8 bits and check it again.

    Returns:
        Its size and its size in float32, the greatest difference of a logit, and the agreement of spans.

    Raises:
        ModelError: If logits or spans differ more from the model's than the bounds allow.
    """
    from cardioner.prediction.engines.tagger import Tagger  # noqa: PLC0415 - needs onnxruntime

    tagger, padding = Tagger.from_folder(stage), tokenizer.pad_token_id or 0
    difference = greatest_difference(model, tagger.logits, padding=padding)
    if not difference <= BOUND:  # a difference that is not a number is refused too
        raise ModelError(
            f"the {model.config.encoder_config['model_type']} encoder computes other logits in ONNX: they differ by "
            f"{difference:.1e} (at most {BOUND:.0e}); share the model directory itself"
        )
    found = agreement(model, tokenizer, tagger, [*made_up_notes(), *(() if int8 else texts)], exact=True)
    if found.moved:
        raise ModelError(
            f"spans differ from the model's in {found.moved} of {found.notes} notes ({found.equal} of {found.found} "
            "are equal): share the model directory itself"
        )
    float_size = size_of(stage)
    if int8:
        quantize(stage)
        tagger = Tagger.from_folder(stage)
        difference = greatest_difference(model, tagger.logits, padding=padding)
        found = agreement(model, tokenizer, tagger, texts, exact=False)
        _check_quantized(found)
    return size_of(stage), float_size, difference, found


def _check_quantized(found: Agreement) -> None:
    """Refuse 8-bit weights that find other spans, and notes with too few spans to judge by."""
    if found.found < LEAST_SPANS:
        raise ModelError(
            f"the model finds {found.found} spans in the notes to check ({found.notes}): name notes in which it finds "
            f"at least {LEAST_SPANS}"
        )
    if found.share < SHARE:
        raise ModelError(
            f"8-bit weights change too many spans: the model finds {found.found} in {found.notes} notes, the export "
            f"{found.other}, and {found.equal} are equal: an agreement (F1) of {found.share:.4f}, at least {SHARE} is "
            "needed: export without --int8"
        )
