"""`ModelTrainer`: data of any accepted form in, a trained model directory out, on the Hugging Face Trainer."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

from cardioner.documents import Document, Span
from cardioner.errors import DataError, TrainingError, UsageError
from cardioner.evaluation import Scores, score_strict
from cardioner.labels import LabelSet
from cardioner.model_dir import check_output, installed_versions, write_model_dir, writing_to
from cardioner.multiclass.encoder import DEFAULT_PACKAGE, load_tokenizer, max_positions
from cardioner.multiclass.features import Collator, Dataset, FeatureSet, balanced_weights, build_features, read_dataset
from cardioner.multiclass.initial import build, read_source
from cardioner.multiclass.modeling import IGNORED
from cardioner.multiclass.options import TrainingOptions
from cardioner.multiclass.pipeline import plan_windows
from cardioner.multiclass.tagging import to_runs
from cardioner.predictor import Predictor

CHECKPOINTS = "checkpoints"
DEFAULT_MAX_LENGTH = 128

ClassWeights = Sequence[float] | Mapping[int, float] | Mapping[str, float] | str


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What training did.

    Attributes:
        output_dir: The model directory.
        epochs: Strict span scores on `eval_data` after each epoch.
        best_epoch: The epoch, counted from 1, whose model is saved; 0 if training ended without one.
        evaluation: The saved model's scores on `eval_data`.
        test: The saved model's scores on `test_data`.
        losses: Training spans that tags cannot carry as they are, by kind and entity type.
        remarks: What had to be repaired in the data, counted.
        windows: Windows in the training data.
        sub_tokens: Sub-tokens in the training data, each counted once.
        seconds: Time of the training loop, the scoring between epochs included.
    """

    output_dir: Path
    epochs: tuple[Scores, ...]
    best_epoch: int
    evaluation: Scores | None
    test: Scores | None
    losses: Counter[tuple[str, str]]
    remarks: Counter[str]
    windows: int
    sub_tokens: int
    seconds: float


class ModelTrainer:
    """Train a tagger.

    Args:
        label2id: Tag to id, kept as given. Either this or `id2label` may be left out.
        id2label: Id to tag.
        tokenizer: A fast tokenizer, or where to read one; by default the encoder's own.
        model: A Hugging Face name or a folder of an encoder, or an earlier model directory, which hands over its
            encoder and the head where shapes and tags agree; by default the embedded MiniLM-L6.
        use_crf: Whether a CRF stands on the head.
        batch_size: Windows in a batch.
        max_length: Most sub-tokens in a window, special ones included; by default 128, or what the encoder reads.
        learning_rate: Of encoder and head; by default 2e-4 for encoders of up to 512 hidden units, else 5e-5.
        weight_decay: Of all weights but biases, norms and the CRF.
        num_train_epochs: Passes over the training data.
        output_dir: The model directory to write.
        hf_token: For a private Hugging Face name; never stored.
        freeze_backbone: Whether the encoder stays as it came.
        gradient_accumulation_steps: Batches to a step.
        classifier_hidden_layers: Widths of the MLP head's hidden layers; `None` for the single linear layer.
        classifier_dropout: Dropout before and inside the head.
        class_weights: Weights of the loss by tag id or tag (others weigh 1), in the order of ids, or `balanced`.
        options: Everything newer.

    Raises:
        UsageError: If an argument cannot work.
        ModelError: If the encoder or the tokenizer cannot be read.
    """

    def __init__(  # noqa: PLR0913 - the documented arguments
        self,
        label2id: Mapping[str, int] | None = None,
        id2label: Mapping[int, str] | None = None,
        tokenizer: Any = None,
        model: str | Path | None = None,
        use_crf: bool = False,
        batch_size: int = 16,
        max_length: int | None = None,
        learning_rate: float | None = None,
        weight_decay: float = 0.01,
        num_train_epochs: int = 5,
        output_dir: str | Path = "cardioner-model",
        hf_token: str | None = None,
        freeze_backbone: bool = False,
        gradient_accumulation_steps: int = 1,
        classifier_hidden_layers: Sequence[int] | None = None,
        classifier_dropout: float = 0.1,
        class_weights: ClassWeights | None = None,
        options: TrainingOptions | None = None,
    ) -> None:
        self.labels = _label_set(label2id, id2label)
        self.options = options or TrainingOptions()
        self.output_dir = Path(output_dir)
        source = read_source(model, token=hf_token)
        window_length = _window_length(max_length, max_positions(source.config), context=self.options.window_context)
        set_seed(self.options.seed)
        self.start = build(
            source,
            self.labels,
            use_crf=use_crf,
            tokenizer=_tokenizer(tokenizer, hf_token),
            token=hf_token,
            classifier_hidden_layers=_hidden_layers(classifier_hidden_layers),
            classifier_dropout=_checked("classifier_dropout", classifier_dropout, 0 <= classifier_dropout < 1),
            freeze_backbone=freeze_backbone,
            window_length=window_length,
            window_context=self.options.window_context,
        )
        self.model, self.tokenizer = self.start.model, self.start.tokenizer
        self.class_weights = class_weights
        if class_weights is not None and not isinstance(class_weights, str):
            self.model.config.class_weights = _weights_by_id(class_weights, self.labels)
        elif class_weights not in (None, "balanced"):
            raise UsageError(
                f"class_weights must be 'balanced', a weight per tag, or left out; found {class_weights!r}"
            )
        self.settings: dict[str, Any] = {
            "batch_size": _checked("batch_size", batch_size, batch_size >= 1),
            "gradient_accumulation_steps": _checked(
                "gradient_accumulation_steps", gradient_accumulation_steps, gradient_accumulation_steps >= 1
            ),
            "learning_rate": _learning_rate(learning_rate, self.model.config.encoder_config),
            "max_length": window_length,
            "model": DEFAULT_PACKAGE if model is None else Path(model).name if Path(model).exists() else str(model),
            "num_train_epochs": _checked("num_train_epochs", num_train_epochs, num_train_epochs >= 1),
            "weight_decay": _checked("weight_decay", weight_decay, weight_decay >= 0),
        }

    def train(self, train_data: Iterable[Any], test_data: Any = None, eval_data: Any = None) -> TrainingResult:
        """Fit `train_data`, keep the epoch with the best strict span F1 on `eval_data`, score `test_data` once.

        Args:
            train_data: Documents, `{"tokens", "tags"}` items, ready features, or a `datasets.Dataset`.
            test_data: Scored at the end, with the saved model; may be left out.
            eval_data: Picks the epoch; without it the last epoch is saved.

        Raises:
            DataError: If the data cannot be used.
            OutputError: If the output directory holds a model already, or cannot be written.
            TrainingError: If the loss is not a number.
        """
        check_output(self.output_dir, overwrite=self.options.overwrite)
        training = read_dataset(train_data, self.labels, self.tokenizer)
        evaluation = self._held_out(eval_data)
        test = self._held_out(test_data)
        prepared = self._features(training)
        if self.class_weights == "balanced":
            self.model.config.class_weights = balanced_weights(prepared.features, len(self.labels.tags))
        began = time.perf_counter()
        epochs, best = self._fit(prepared, evaluation)
        seconds = time.perf_counter() - began
        result = TrainingResult(
            output_dir=self.output_dir,
            epochs=epochs,
            best_epoch=best,
            evaluation=epochs[best - 1] if epochs else None,
            test=None if test is None else self._score(test),
            losses=prepared.losses,
            remarks=training.remarks,
            windows=len(prepared.features),
            sub_tokens=prepared.sub_tokens,
            seconds=seconds,
        )
        self.save_model(self.output_dir, result=result)
        shutil.rmtree(self.output_dir / CHECKPOINTS, ignore_errors=True)
        return result

    def save_model(self, directory: str | Path, *, result: TrainingResult | None = None) -> None:
        """Write the model as it is now, trained or not, to a directory that loads anywhere."""
        write_model_dir(
            self.model,
            self.tokenizer,
            Path(directory),
            training_args=self._training_args(result),
            also_bin=self.options.also_bin,
        )

    def _held_out(self, data: Any) -> Dataset | None:
        """Data to score on; nothing given is nothing scored."""
        rows = list(data) if data is not None else []
        return read_dataset(rows, self.labels, self.tokenizer) if rows else None

    def _features(self, training: Dataset) -> FeatureSet:
        """Windows of the training data."""
        if training.features is not None:
            prepared = FeatureSet(training.features, Counter(), sum(len(row["input_ids"]) for row in training.features))
        else:
            plan = plan_windows(self.model.config, self.tokenizer)
            prepared = build_features(training.documents, self.tokenizer, plan, labels=self.labels)
        if not prepared.sub_tokens:
            raise DataError("the training data is empty: expected at least one document with text")
        longest = max(len(feature["input_ids"]) for feature in prepared.features)
        if longest > self.settings["max_length"]:
            raise DataError(
                f"a ready feature has {longest} sub-tokens, max_length is {self.settings['max_length']}: "
                "raise max_length, or give Documents, which are cut into windows without loss"
            )
        return prepared

    def _fit(self, prepared: FeatureSet, evaluation: Dataset | None) -> tuple[tuple[Scores, ...], int]:
        """Run the loop; the model ends with the weights of the best epoch."""
        score = None if evaluation is None else lambda: self._score(evaluation)
        loop = _SpanTrainer(
            model=self.model,
            args=self._arguments(scored=evaluation is not None),
            train_dataset=list(prepared.features),
            eval_dataset=[] if evaluation is None else list(evaluation.documents),
            data_collator=Collator(self.tokenizer.pad_token_id or 0),
            optimizers=(self._optimizer(), None),
            callbacks=[_Watch(self.options.progress)],
            hooks=_Hooks(score=score, save=self.save_model, reduced=_reduced_precision(self.options)),
        )
        loop.remove_callback(PrinterCallback)
        with writing_to(self.output_dir):
            loop.train()
        self.model.eval()
        epochs = tuple(loop.hooks.scores)
        best = max(range(len(epochs)), key=lambda index: epochs[index].micro.f1, default=-1)
        return epochs, best + 1

    def _score(self, data: Dataset) -> Scores:
        """Strict span scores of the model as it is now."""
        if data.features is not None:
            return score_strict(data.documents, _tag_features(self.model, data, self.settings["batch_size"]))
        done = 0
        total = sum(len(document.text) for document in data.documents)
        predicted = []
        for document in Predictor(self.model, self.tokenizer).predict(data.documents):
            predicted.append(document)
            done += len(document.text)
            if self.options.progress is not None:
                self.options.progress("scoring", done, total)
        return score_strict(data.documents, predicted)

    def _arguments(self, *, scored: bool) -> TrainingArguments:
        """What the Hugging Face Trainer is told."""
        settings, options = self.settings, self.options
        return TrainingArguments(
            output_dir=str(self.output_dir / CHECKPOINTS),
            per_device_train_batch_size=settings["batch_size"],
            gradient_accumulation_steps=settings["gradient_accumulation_steps"],
            learning_rate=settings["learning_rate"],
            num_train_epochs=settings["num_train_epochs"],
            warmup_steps=options.warmup,
            max_grad_norm=options.max_gradient_norm,
            use_cpu=options.device == "cpu" or not torch.cuda.is_available(),
            seed=options.seed,
            data_seed=options.seed,
            train_sampling_strategy="group_by_length",
            eval_strategy="epoch" if scored else "no",
            save_strategy="epoch",
            save_total_limit=1,
            save_only_model=True,
            load_best_model_at_end=scored,
            metric_for_best_model="f1" if scored else None,
            greater_is_better=True if scored else None,
            logging_steps=10,
            logging_nan_inf_filter=False,
            remove_unused_columns=False,
            dataloader_pin_memory=torch.cuda.is_available(),
            disable_tqdm=True,
            report_to="tensorboard" if options.tensorboard else "none",
        )

    def _optimizer(self) -> torch.optim.Optimizer:
        """AdamW with weight decay for matrices, and a rate of its own for the CRF."""
        named = [(name, value) for name, value in self.model.named_parameters() if value.requires_grad]
        if not named:
            raise UsageError("nothing is left to train: freeze_backbone leaves the head, which has no weights")
        crf = [value for name, value in named if name.startswith("crf.")]
        decayed = [value for name, value in named if value.ndim >= 2 and not name.startswith("crf.")]
        plain = [value for name, value in named if value.ndim < 2 and not name.startswith("crf.")]
        groups = [
            {"params": decayed, "weight_decay": self.settings["weight_decay"]},
            {"params": plain, "weight_decay": 0.0},
            {"params": crf, "weight_decay": 0.0, "lr": self.options.crf_learning_rate},
        ]
        return torch.optim.AdamW([group for group in groups if group["params"]], lr=self.settings["learning_rate"])

    def _training_args(self, result: TrainingResult | None) -> dict[str, Any]:
        """What `training_args.json` records: no secret, no path of this machine."""
        config = self.model.config
        left_out = ("progress", "overwrite")
        options = {part.name: getattr(self.options, part.name) for part in fields(self.options)}
        options = {name: value for name, value in options.items() if name not in left_out}
        record: dict[str, Any] = {
            **self.settings,
            "classifier_dropout": config.classifier_dropout,
            "classifier_hidden_layers": config.classifier_hidden_layers,
            "class_weights": config.class_weights,
            "freeze_backbone": config.freeze_backbone,
            "use_crf": config.use_crf,
            "labels": list(self.labels.tags),
            "options": options,
            "versions": installed_versions(),
        }
        if result is not None:
            scores = {"evaluation": result.evaluation, "test": result.test}
            record["scores"] = {name: value.to_dict() for name, value in scores.items() if value is not None}
            record["best_epoch"] = result.best_epoch
            record["epochs"] = [value.to_dict() for value in result.epochs]
            record["training_data"] = {"windows": result.windows, "sub_tokens": result.sub_tokens}
        return record


@dataclass(slots=True)
class _Hooks:
    """What the loop calls: how to score and save, whether to learn in bfloat16, and the scores so far."""

    score: Callable[[], Scores] | None
    save: Callable[[Path], None]
    reduced: bool
    scores: list[Scores] = field(default_factory=list)


class _SpanTrainer(Trainer):
    """The Hugging Face Trainer, scoring spans of whole notes and saving whole model directories."""

    def __init__(self, *, hooks: _Hooks, **arguments: Any) -> None:
        self.hooks = hooks
        self.control: Any
        super().__init__(**arguments)

    def compute_loss(self, *arguments: Any, **keywords: Any) -> Any:
        """As inherited, in reduced precision where that was chosen.

        The `bf16` argument of the Hugging Face Trainer would do so for scoring too, and what is scored would not be
        what the saved model does.
        """
        with torch.autocast(self.args.device.type, dtype=torch.bfloat16, enabled=self.hooks.reduced):
            return super().compute_loss(*arguments, **keywords)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Strict span precision, recall and F1, as the saved model would reach them."""
        assert self.hooks.score is not None
        scores = self.hooks.score()
        self.hooks.scores.append(scores)
        micro = scores.micro
        metrics = {"eval_precision": micro.precision, "eval_recall": micro.recall, "eval_f1": micro.f1}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ARG002 - inherited
        """Save a checkpoint: a model directory that loads by itself, with no pickle in it."""
        self.hooks.save(Path(output_dir or self.args.output_dir))


class _Watch(TrainerCallback):
    """Reports progress, and stops a training whose loss is no number."""

    def __init__(self, progress: Callable[[str, int, int], None] | None) -> None:
        self.progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - inherited
        """Report the step."""
        if self.progress is not None:
            self.progress("training", state.global_step, state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, *, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        """Look at the loss."""
        loss = (logs or {}).get("loss", 0.0)
        if not -float("inf") < loss < float("inf"):
            raise TrainingError(
                f"the loss is {loss} at step {state.global_step}: try a lower learning rate, "
                "or precision float32 if it was bfloat16"
            )


def _tag_features(model: Any, data: Dataset, batch_size: int) -> list[Document]:
    """Predicted stand-ins of ready features: spans over their labelled positions."""
    assert data.features is not None
    model.eval()
    collate = Collator(model.config.encoder_config.get("pad_token_id") or 0)
    tagged: list[Document] = []
    for start in range(0, len(data.features), batch_size):
        batch = collate(data.features[start : start + batch_size])
        labelled = batch.pop("labels").ne(IGNORED)
        with torch.inference_mode():
            logits = model(**{name: value.to(model.device) for name, value in batch.items()}).logits
            decoded = model.decode(logits, labelled.to(model.device))
        for document, tags in zip(data.documents[start : start + batch_size], decoded, strict=True):
            runs = to_runs([model.config.id2label[tag] for tag in tags])
            tagged.append(document.with_spans(Span(run.first, run.stop, run.label) for run in runs))
    return tagged


def _label_set(label2id: Mapping[str, int] | None, id2label: Mapping[int, str] | None) -> LabelSet:
    """The label set that the caller's mappings agree on."""
    if label2id is None and id2label is None:
        raise UsageError("label2id or id2label is needed: the tags and their ids")
    if label2id is None:
        return LabelSet.from_mapping({tag: int(index) for index, tag in (id2label or {}).items()})
    labels = LabelSet.from_mapping(label2id)
    if id2label is not None and {int(index): tag for index, tag in id2label.items()} != labels.id2label:
        raise UsageError("label2id and id2label contradict each other: give one of them, or make them agree")
    return labels


def _window_length(wanted: int | None, limit: int | None, *, context: int) -> int:
    """The window length, within what the encoder reads."""
    length = wanted if wanted is not None else min(DEFAULT_MAX_LENGTH, limit or DEFAULT_MAX_LENGTH)
    if limit is not None and length > limit:
        raise UsageError(f"max_length {length} is more than the {limit} sub-tokens that the encoder reads at a time")
    if length < 2 * context + 8:
        raise UsageError(
            f"max_length {length} leaves no room between two contexts of {context} sub-tokens (window_context)"
        )
    return length


def _tokenizer(tokenizer: Any, token: str | None) -> Any:
    """A tokenizer given as an object, or by where it lies."""
    return load_tokenizer(tokenizer, token=token) if isinstance(tokenizer, (str, Path)) else tokenizer


def _hidden_layers(widths: Sequence[int] | None) -> tuple[int, ...] | None:
    """Checked widths of hidden layers."""
    if widths is None:
        return None
    checked = tuple(int(width) for width in widths)
    return _checked("classifier_hidden_layers", checked, all(width >= 1 for width in checked)) or None


def _learning_rate(wanted: float | None, encoder: Mapping[str, Any]) -> float:
    """The learning rate: narrow encoders bear, and need, a higher one."""
    if wanted is not None:
        return float(_checked("learning_rate", wanted, wanted > 0))
    return 2e-4 if encoder.get("hidden_size", 768) <= 512 else 5e-5


def _weights_by_id(weights: Sequence[float] | Mapping[Any, float], labels: LabelSet) -> list[float]:
    """Class weights in the order of ids; a tag that a mapping lacks weighs 1."""
    if not isinstance(weights, Mapping):
        return list(_checked("class_weights", [float(value) for value in weights], len(weights) == len(labels.tags)))
    known: dict[Any, int] = {**labels.label2id, **{index: index for index in labels.id2label}}
    if unknown := [key for key in weights if key not in known]:
        raise UsageError(f"class_weights names {unknown}; the model's tags are {', '.join(labels.tags)}")
    by_id = {known[key]: float(value) for key, value in weights.items()}
    return [by_id.get(index, 1.0) for index in range(len(labels.tags))]


def _reduced_precision(options: TrainingOptions) -> bool:
    """Whether to compute in bfloat16: where the device has instructions for it, unless told otherwise."""
    if options.precision != "auto":
        return options.precision == "bfloat16"
    if torch.cuda.is_available() and options.device != "cpu":
        return bool(torch.cuda.is_bf16_supported())
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in probes)


def _checked(name: str, value: Any, fits: bool) -> Any:
    """The value, or an error that names the argument."""
    if not fits:
        raise UsageError(f"{name} cannot be {value!r}")
    return value
