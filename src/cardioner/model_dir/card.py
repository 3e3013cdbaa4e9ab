"""The model card that a directory carries as `README.md`, made of what its manifest says.

Its head is what the Hugging Face hub reads, `model-index` with the scores among it; see
https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from transformers import AutoConfig

from cardioner.errors import many
from cardioner.model_dir.custom_code import own_file, tags_in_its_own_way
from cardioner.model_dir.findings import never_found
from cardioner.model_dir.json_files import object_under
from cardioner.model_dir.layout import CODE
from cardioner.model_dir.manifest import Manifest, Notes
from cardioner.multiclass.tagging import tag_groups, types_of

SPLITS = {"evaluation": "validation", "test": "test"}
"""What the hub calls the notes that the epoch was picked on, and those scored once, at the end."""
_PURPOSES = {
    "training": "learned from",
    "unlabelled": "learned from by what the teachers find in them, without annotations",
    "evaluation": "scored after each epoch, to pick the best one",
    "test": "scored once, at the end",
}
_FIGURES = ("precision", "recall", "f1")

_CARD = """\

# Entity tagger for {types}
{warning}
Marks {types} in notes{language}. Encoder: {encoder}. Head: {head}. {decoding}{said}
Made with cardioner {version}.

## Use

```python
{snippet}
```

`trust_remote_code=True` runs {code} of this directory: read them first{other_door}. Notes may have any length.
`cardioner verify` says whether the directory is whole and unaltered.

## Intended use

To find mentions of the types above in notes like those it learned from, for search, statistics and reading that people
check. It is no medical device: no decision on a patient should rest on it alone.

## What it was made of

{made_of}

## Scores

{scores}

## Limits

{limits}
"""
_STOCK = """\
from transformers import pipeline

tagger = pipeline("token-classification", model="path/to/this/directory", trust_remote_code=True)
spans = tagger("No chest pain. Atrial fibrillation, on bisoprolol 2.5 mg.")"""
_STRICT = """\
Strict: a span counts if both edges and its type are right. In brackets: where 95 of 100 figures of resampled notes lie.
"""
_LIMITS = """\
The scores hold for notes like those it was scored on: other hospitals, specialties and languages have others. It marks
{spans} of the types above{unsaid}. What a model has
learned can give away parts of what it learned from: share it with those who may know the notes."""
_FLAT = "flat, contiguous spans"


def model_card(config: Mapping[str, Any], manifest: Manifest) -> str:
    """The card of a model, made of its `config.json` and of its manifest, except the list of files."""
    training = manifest.training
    options = object_under(training, "options")
    crf = "A CRF picks the best legal tag sequence." if config.get("use_crf") else "Each sub-token's best tag counts."
    per_type = len(tag_groups(manifest.labels)) > 1
    language, problem = options.get("language"), never_found(manifest.record)
    attributes = object_under(config, "attributes")
    return front_matter(manifest.labels, manifest.scores, options) + _CARD.format(
        types=", ".join(types_of(manifest.labels)),
        warning="" if problem is None else f"\n**Warning: {problem}.**\n",
        language=f" in the language `{language}`" if language else "",
        encoder=f"{training.get('model', 'not recorded')} ({config['encoder_config'].get('model_type')})",
        head=head_of(config),
        decoding=f"{crf} Each type has tags of its own, so that spans of different types may overlap."
        if per_type
        else crf,
        said=f"\nIt says of each: {'; '.join(_attribute(*one) for one in attributes.items())}." if attributes else "",
        version=manifest.versions["cardioner"],
        snippet=_STOCK,
        **_doors(config),
        made_of="\n".join(_made_of(manifest, options)),
        scores="\n\n".join(
            filter(
                None, [score_table(manifest.scores), _said_table(manifest.scores), _calibration(manifest.calibration)]
            )
        ),
        limits=_LIMITS.format(
            spans="contiguous spans (of one type never two that overlap)" if per_type else _FLAT,
            unsaid="" if attributes else " and knows nothing of negation, of who is meant, or of time",
        ),
    )


def _attribute(name: str, values: Sequence[Any]) -> str:
    """An attribute and its values, if it has more than one that is only there or not."""
    named = [str(value) for value in values if isinstance(value, str)]
    return f"{name} ({', '.join(named)})" if named else name


def _said_table(scores: Mapping[str, Any]) -> str:
    """A table of scores of attributes, a row per part of the data and attribute; nothing without attributes."""
    rows = []
    for part in scores:
        said = object_under(object_under(object_under(scores, part), "attributes"), "per_attribute")
        for name in said:
            found = object_under(said, name)
            matched, whole = (object_under(found, kind) for kind in ("matched", "end_to_end"))
            figures = (
                found.get("accuracy"),
                *(object_under(counts, kind).get("f1") for counts, kind in ((matched, "macro"), (whole, "micro"))),
            )
            rows.append(f"| {part} | {_cell(name)} | {' | '.join(_shown(figure, None) for figure in figures)} |")
    head = [
        "Attributes of strictly matched spans and, end to end, of all spans.\n",
        "| notes | attribute | accuracy | macro F1 | end-to-end F1 |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows]) if rows else ""


def head_of(config: Mapping[str, Any]) -> str:
    """The widths of a head, from the encoder's to the number of tags, as `config.json` has them."""
    encoder = AutoConfig.for_model(**config["encoder_config"])  # families name their widths differently
    hidden = config.get("classifier_hidden_layers") or []
    return " -> ".join(str(width) for width in [encoder.hidden_size, *hidden, len(config["id2label"])])


def front_matter(labels: Sequence[str], scores: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """What the hub reads of a card, between lines of dashes.

    Scores are per part of the data, as manifests have them; `about` may have `language`, `license` and `data_name`.
    """
    results = list(_results(scores, about.get("data_name")))
    data = ModelCardData(
        language=about.get("language"),
        license=about.get("license"),
        library_name="transformers",
        pipeline_tag="token-classification",
        tags=["cardioner", "clinical", "named-entity-recognition"],
        model_name=f"Entity tagger for {', '.join(types_of(labels))}" if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def score_table(scores: Mapping[str, Any]) -> str:
    """A table of strict span scores, a row per part of the data and type, with intervals where they are known."""
    rows = [
        f"| {part} ({object_under(scores, part).get('documents', 'unknown')}) | {_cell(name)} | {' | '.join(figures)} |"
        for part in scores
        for name, figures in _rows(object_under(scores, part))
    ]
    if not rows:
        return "Not scored: the model was saved before training, or trained without held-out notes."
    head = [_STRICT, "| notes | type | precision | recall | F1 |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows])


def _rows(found: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The name and the figures of each row of a part of the data: of each type, then of all."""
    strict, intervals = object_under(found, "strict"), object_under(object_under(found, "intervals"), "strict")
    figures = {**object_under(strict, "per_type"), "all": strict.get("micro")}
    known = {**object_under(intervals, "per_type"), "all": intervals.get("micro")}
    for name in figures:
        row, sure = object_under(figures, name), object_under(known, name)
        yield name, [_shown(row.get(figure), sure.get(figure)) for figure in _FIGURES]


def _shown(figure: Any, interval: Any) -> str:
    """A figure of the table."""
    if not isinstance(figure, (int, float)):
        return "unknown"
    return f"{figure:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _results(scores: Mapping[str, Any], data_name: str | None) -> Iterator[EvalResult]:
    """The scores as the hub wants them: data has a name, and one that could stand in an address."""
    name_of_data = data_name or "Held-out notes"
    for part in scores:
        strict = object_under(object_under(scores, part), "strict")
        figures = {"": object_under(strict, "micro"), **object_under(strict, "per_type")}
        for name, row in figures.items():
            for figure in _FIGURES:
                if isinstance(row, dict) and isinstance(row.get(figure), (int, float)):
                    yield EvalResult(
                        task_type="token-classification",
                        task_name="Named entity recognition",
                        dataset_type=re.sub(r"\W+", "-", name_of_data.lower()).strip("-") or "notes",
                        dataset_name=name_of_data,
                        dataset_split=SPLITS.get(part, part),
                        metric_type=figure,
                        metric_name=" ".join(filter(None, ["strict", figure.replace("f1", "F1"), name])),
                        metric_value=round(row[figure], 4),
                    )


def _doors(config: Mapping[str, Any]) -> dict[str, str]:
    """The code that the Auto classes run, and how to load without running anything from the directory."""
    door = ',\nor use `cardioner.load("path/to/this/directory")`, which runs nothing from it'
    files = [*CODE, *filter(None, [own_file(config)])]
    return {
        "code": ", ".join(f"`{name}`" for name in files),
        "other_door": "" if tags_in_its_own_way(config) else door,
    }


def _made_of(manifest: Manifest, options: Mapping[str, Any]) -> Iterator[str]:
    """What is known of the notes, and how they were learned from."""
    if not manifest.documents:
        yield "Not recorded: the model was saved before training."
        return
    name, licence = options.get("data_name"), options.get("data_license")
    yield f"Notes: {name or 'not named'}. Their licence: {licence or 'not given'}.\n"
    yield from ("| notes | documents | spans | |", "|---|---|---|---|")
    yield from (
        f"| {part} | {_counted(notes)} | {_PURPOSES.get(part, '')} |" for part, notes in manifest.documents.items()
    )
    training = manifest.training
    epochs = training.get("num_train_epochs")
    known = {
        "epochs": f"{epochs} (chosen by the number of steps)" if "epochs_chosen" in training else epochs,
        "best epoch": training.get("best_epoch"),
        "batch size": training.get("batch_size"),
        "learning rate": training.get("learning_rate"),
        "window": training.get("max_length"),
        "seed": options.get("seed"),
    }
    if taught := object_under(training, "distillation"):
        yield f"\n{_teachers(taught)}"
    if merged := object_under(training, "merged"):
        how = "What lies halfway on the arc between" if merged.get("method") == "slerp" else "The mean of"
        yield f"\n{how} the weights of {_manifests(merged, 'model')}."
    if said := [f"{name} {value}" for name, value in known.items() if value is not None]:
        yield f"\n{'; '.join(said)}."
    yield "`training_args.json` holds every setting, `cardioner.json` what the directory was and must be."


def _teachers(taught: Mapping[str, Any]) -> str:
    """What a distilled model learned from besides annotations."""
    recipe = f"Recipe `{taught['recipe']}`: " if taught.get("recipe") == "best" else ""
    return (
        f"{recipe}{'d' if recipe else 'D'}istilled from {_manifests(taught, 'teacher')}. "
        f"Weight of the teachers: {taught.get('teacher_weight')}; temperature: {taught.get('teacher_temperature')}."
    )


def _manifests(record: Mapping[str, Any], what: str) -> str:
    """By which manifests other models are known."""
    manifests = record.get("manifests")
    digests = [f"`{digest}`" if digest else "none" for digest in manifests] if isinstance(manifests, list) else []
    return f"{many(len(digests), what)}, by the digest of the manifest: {', '.join(digests)}"


def _counted(notes: Notes) -> str:
    by_type = ", ".join(f"{_cell(name)} {count}" for name, count in notes.spans.items())
    return f"{notes.documents} | {by_type or 'none'}"


def _calibration(found: Mapping[str, Any] | None) -> str:
    """What the scores of spans are worth."""
    if not found or found["value"] == 1.0:
        return "The score of a span is the model's probability of exactly this span, not calibrated."
    return (
        f"The score of a span is the model's probability of exactly this span at temperature {found['value']:.2f}, "
        f"fitted to {found['spans']} spans of the evaluation notes (mean loss {found['before']:.3f} before, "
        f"{found['after']:.3f} after). `cardioner evaluate` shows what accepting spans above a score would mean."
    )


def _cell(text: str) -> str:
    """A name that breaks no table."""
    return text.replace("|", "\\|")
