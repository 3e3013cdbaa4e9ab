"""`ModelTrainer`: data of any accepted form in, a trained model directory out, on the Hugging Face Trainer."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import set_seed

from cardioner.errors import DataError, OutputError
from cardioner.evaluation import Scores
from cardioner.model_dir import check_output, write_model_dir, writing_to
from cardioner.multiclass.arguments import (
    BALANCED,
    Arguments,
    ClassWeights,
    check_device,
    class_weights_by_id,
    label_set,
    pick_learning_rate,
    pick_window_length,
)
from cardioner.multiclass.calibrating import Temperature, fit_temperature
from cardioner.multiclass.encoder import DEFAULT_PACKAGE, load_tokenizer, max_positions
from cardioner.multiclass.features import (
    Collator,
    Dataset,
    Feature,
    FeatureSet,
    balanced_weights,
    build_features,
    read_dataset,
)
from cardioner.multiclass.initial import build, read_source
from cardioner.multiclass.loop import (
    Hooks,
    SpanTrainer,
    TensorBoard,
    Watch,
    keep_freed_memory,
    optimizer,
    reduced_precision,
    trainer_arguments,
)
from cardioner.multiclass.options import TrainingOptions
from cardioner.multiclass.pipeline import plan_windows
from cardioner.multiclass.precision import Precision, choose_precision
from cardioner.multiclass.record import TrainingResult, training_record
from cardioner.multiclass.scoring import score

CHECKPOINTS = "checkpoints"
LOGS = "logs"


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
        self.labels = label_set(label2id, id2label)
        self.options = options or TrainingOptions()
        check_device(self.options)
        given = Arguments(
            use_crf=use_crf,
            batch_size=batch_size,
            max_length=max_length,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            num_train_epochs=num_train_epochs,
            freeze_backbone=freeze_backbone,
            gradient_accumulation_steps=gradient_accumulation_steps,
            classifier_hidden_layers=classifier_hidden_layers,
            classifier_dropout=classifier_dropout,
        )
        self.class_weights = class_weights_by_id(class_weights, self.labels)
        self.output_dir = Path(output_dir)
        source = read_source(model, token=hf_token)
        context = max(self.options.window_context, self.options.training_context)
        length = pick_window_length(given.max_length, max_positions(source.config), context=context)
        set_seed(self.options.seed)
        self.start = build(
            source,
            self.labels,
            use_crf=given.use_crf,
            tokenizer=load_tokenizer(tokenizer, token=hf_token) if isinstance(tokenizer, (str, Path)) else tokenizer,
            token=hf_token,
            classifier_hidden_layers=given.classifier_hidden_layers,
            classifier_dropout=given.classifier_dropout,
            class_weights=None if self.class_weights == BALANCED else self.class_weights,
            freeze_backbone=given.freeze_backbone,
            window_length=length,
            window_context=self.options.window_context,
        )
        self.model, self.tokenizer = self.start.model, self.start.tokenizer
        self.result: TrainingResult | None = None
        hidden_size = self.model.config.build_encoder_config().hidden_size
        self.settings: dict[str, Any] = {
            "batch_size": given.batch_size,
            "gradient_accumulation_steps": given.gradient_accumulation_steps,
            "learning_rate": pick_learning_rate(given.learning_rate, hidden_size),
            "max_length": length,
            "model": DEFAULT_PACKAGE if model is None else Path(model).name if Path(model).exists() else str(model),
            "num_train_epochs": given.num_train_epochs,
            "weight_decay": given.weight_decay,
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
        self.check_output()
        self.result = None
        self.model.config.inference_dtype = "float32"  # until it is settled, in the end, what bfloat16 would cost
        training = read_dataset(train_data, self.labels, self.tokenizer)
        evaluation = self._held_out(eval_data)
        test = self._held_out(test_data)
        prepared = self._features(training)
        if self.class_weights == BALANCED:
            self.model.config.class_weights = balanced_weights(prepared.features, len(self.labels.tags))
        began = time.perf_counter()
        epochs, best = self._fit(prepared, evaluation)
        seconds = time.perf_counter() - began
        precision, temperature = self._settle(evaluation)
        scored = epochs[best - 1] if epochs else None
        result = TrainingResult(
            output_dir=self.output_dir,
            epochs=epochs,
            best_epoch=best,
            evaluation=scored if precision is None else precision.scores,
            test=None if test is None else self._score(test),
            precision=precision,
            temperature=temperature,
            losses=prepared.losses,
            remarks=training.remarks,
            windows=len(prepared.features),
            sub_tokens=prepared.sub_tokens,
            seconds=seconds,
        )
        self.result = result
        self.save_model(self.output_dir)
        shutil.rmtree(self.output_dir / CHECKPOINTS, ignore_errors=True)
        return result

    def check_output(self) -> None:
        """Refuse an output directory that holds a model, or whole checkpoints of an interrupted training.

        Raises:
            OutputError: If `overwrite` is off and there is something to lose, or if it cannot be written.
        """
        check_output(self.output_dir, overwrite=self.options.overwrite)
        left = self.output_dir / CHECKPOINTS
        if not self.options.overwrite and any(left.glob("*/config.json")):
            raise OutputError(
                f"{left} holds what an interrupted training left: move it away, choose another directory, "
                "or pass --overwrite (overwrite=True)"
            )

    def save_model(self, directory: str | Path) -> None:
        """Write the model as it is now, trained or not, to a directory that loads anywhere."""
        write_model_dir(
            self.model,
            self.tokenizer,
            Path(directory),
            training_args=training_record(
                self.model.config, self.settings, self.options, self.labels.tags, self.result
            ),
            also_bin=self.options.also_bin,
        )

    def _held_out(self, data: Any) -> Dataset | None:
        """Data to score on; nothing given is nothing scored."""
        rows = list(data) if data is not None else []
        if not rows:
            return None
        held_out = read_dataset(rows, self.labels, self.tokenizer)
        if held_out.features:
            self._check_features(held_out.features)
        return held_out

    def _features(self, training: Dataset) -> FeatureSet:
        """Windows of the training data."""
        if training.features is not None:
            prepared = FeatureSet(training.features, Counter(), sum(len(row["input_ids"]) for row in training.features))
        else:
            plan = plan_windows(self.model.config, self.tokenizer)._replace(
                context=self.options.training_context, aligned=1
            )
            prepared = build_features(training.documents, self.tokenizer, plan, labels=self.labels)
        if not prepared.sub_tokens:
            raise DataError("the training data is empty: expected at least one document with text")
        self._check_features(prepared.features)
        return prepared

    def _check_features(self, features: Sequence[Feature]) -> None:
        """Refuse windows that the encoder cannot read."""
        known = self.model.get_input_embeddings().num_embeddings
        if max(max(feature["input_ids"], default=0) for feature in features) >= known:
            raise DataError(
                f"the data has sub-token ids from {known} up, which the encoder lacks: it needs its own tokenizer"
            )
        longest = max(len(feature["input_ids"]) for feature in features)
        if longest > self.settings["max_length"]:
            raise DataError(
                f"a ready feature has {longest} sub-tokens, max_length is {self.settings['max_length']}: "
                "raise max_length, or give Documents, which are cut into windows without loss"
            )

    def _fit(self, prepared: FeatureSet, evaluation: Dataset | None) -> tuple[tuple[Scores, ...], int]:
        """Run the loop; the model ends with the weights of the best epoch."""
        hooks = Hooks(
            score=None if evaluation is None else lambda: self._score(evaluation),
            save=self.save_model,
            reduced=reduced_precision(self.options),
        )
        place = self.output_dir / CHECKPOINTS
        with writing_to(self.output_dir):
            shutil.rmtree(place, ignore_errors=True)
            arguments = trainer_arguments(place, self.settings, self.options, scored=evaluation is not None)
            if arguments.use_cpu:
                keep_freed_memory()
            logs = [TensorBoard(self.output_dir / LOGS)] if self.options.tensorboard else []
            SpanTrainer(
                model=self.model,
                args=arguments,
                train_dataset=list(prepared.features),
                eval_dataset=[] if evaluation is None else list(evaluation.documents),
                data_collator=Collator(self.tokenizer.pad_token_id or 0),
                optimizers=(optimizer(self.model, self.settings, self.options), None),
                callbacks=[Watch(self.options.progress), *logs],
                hooks=hooks,
            ).train()
        self.model.eval()
        epochs = tuple(hooks.scores)
        best = max(range(len(epochs)), key=lambda index: epochs[index].strict.micro.f1, default=-1)
        return epochs, best + 1

    def _settle(self, evaluation: Dataset | None) -> tuple[Precision | None, Temperature | None]:
        """Choose what the model is run in, and make its scores of spans mean what they say.

        Both need the text of notes: with ready features the model stays in float32, uncalibrated.
        """
        config, progress = self.model.config, self.options.progress
        config.score_temperature = 1.0
        if evaluation is None or evaluation.features is not None:
            return None, None
        notes = evaluation.documents
        precision = choose_precision(self.model, self.tokenizer, notes, progress=progress)
        config.inference_dtype = "float32" if precision is None else precision.dtype
        temperature = fit_temperature(self.model, self.tokenizer, notes, progress=progress)
        config.score_temperature = temperature.value
        return precision, temperature

    def _score(self, data: Dataset) -> Scores:
        """Strict span scores of the model as it is now."""
        return score(
            self.model,
            self.tokenizer,
            data,
            batch_size=self.settings["batch_size"],
            progress=self.options.progress,
        )
