"""`ModelTrainer`: data of any accepted form in, a trained model directory out, on the Hugging Face Trainer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model
from transformers import TrainingArguments, set_seed

from cardioner._progress import Progress, showing, silent
from cardioner.data.documents import fingerprint
from cardioner.data.labels import Overlap
from cardioner.errors import UsageError
from cardioner.evaluation.attributes import of_names, score_attributes
from cardioner.evaluation.pairing import Pair
from cardioner.evaluation.scores import Scores, score_pairs
from cardioner.model_dir.custom_code import adopt
from cardioner.model_dir.encoder import name_of
from cardioner.model_dir.json_files import read_json
from cardioner.model_dir.layout import WEIGHTS
from cardioner.model_dir.positions import max_positions
from cardioner.model_dir.save import write_model_dir
from cardioner.multiclass.attributes import Value
from cardioner.multiclass.encoding import plan_windows
from cardioner.multiclass.modeling import TokenClassificationModel
from cardioner.prediction.predictions import as_documents
from cardioner.training import checkpoints
from cardioner.training.arguments import (
    BALANCED,
    ClassWeights,
    check_early_stopping,
    check_options,
    check_overlap,
    class_weights_by_id,
    complete_frozen,
    label_set,
    pick_epochs,
    pick_learning_rate,
    pick_window_length,
)
from cardioner.training.attributes import NEIGHBOURS, attributes_in, check_attributes
from cardioner.training.batch_sampler import check_shares
from cardioner.training.callbacks import trackers
from cardioner.training.distillation import DistillingTrainer, Teachers
from cardioner.training.distributed import barrier, rank, world_size
from cardioner.training.features import (
    Collator,
    Dataset,
    FeatureSet,
    balanced_weights,
    check_features,
    encode_documents,
    read_dataset,
    training_features,
)
from cardioner.training.hf_trainer import (
    LoopCallback,
    Run,
    SpanTrainer,
    reduced_precision,
    trainer_arguments,
    tuned_for_cpu,
)
from cardioner.training.initialization import (
    Start,
    build,
    freeze_tagger,
    read_source,
    with_attention_dropout,
    with_layers,
)
from cardioner.training.optimizer import optimizer
from cardioner.training.options import AUTO, BEST, Distillation, Epochs, TrainerArguments, TrainingOptions
from cardioner.training.post_training import (
    choose_attribute_temperatures,
    choose_inference_settings,
    keep_inference_settings,
)
from cardioner.training.run_metadata import (
    History,
    TrainingResult,
    describe_parts,
    history_of,
    resume_settings,
    run_metadata,
)
from cardioner.training.scoring import HeldOut, tag_dataset


class ModelTrainer:
    """Train a tagger.

    Args:
        label2id: Tag to id, kept as given. Either this or `id2label` may be left out.
        id2label: Id to tag.
        tokenizer: A fast tokenizer, or where to read one; by default the encoder's own.
        model: A Hugging Face name or a folder of an encoder, or an earlier model directory, which hands over its
            encoder and the head where shapes and tags agree; by default the bundled MiniLM-L6.
        use_crf: Whether a CRF stands on the head.
        batch_size: Windows in a batch, over all processes.
        max_length: Maximum number of sub-tokens in a window, special ones included; by default 128, or less if the
            encoder reads less.
        learning_rate: Of encoder and head; by default 2e-4 for encoders of up to 512 hidden units, else 5e-5.
        weight_decay: Of all weights but biases, norms and the CRF.
        num_train_epochs: Passes over the training data; `auto` makes 5, and more over few notes, which would give too
            few steps. `settings` has the number once training has begun.
        output_dir: The model directory to write.
        hf_token: For a private Hugging Face name; never stored.
        freeze_backbone: Whether the encoder stays as it came.
        gradient_accumulation_steps: Batches to a step.
        classifier_hidden_layers: Widths of the MLP head's hidden layers; `None` for the single linear layer.
        classifier_dropout: Dropout before and inside the head.
        class_weights: Weights of the loss by tag id or tag (others weigh 1), in the order of ids, or `balanced`.
        model_class: A subclass of one of the two models, with a loss of its own; in place of `use_crf`.
        overlap: `per-type` gives each type tags of its own, so that spans of different types may overlap; `flat` gives
            each sub-token one tag; by default as the tags are. `data.quality.overlap.choose_overlap` counts which of
            them a corpus needs.
        attributes: Attributes of spans to learn: for each its values, `None` first, as `attributes_in` of
            `cardioner.training.attributes` finds them in notes. Training notes without an attribute teach its absence.
        options: Everything newer.
        distillation: Teachers to learn from, beside the training data or without any. Then the tags are the teachers',
            and so are encoder, head, CRF and window length where the arguments do not say otherwise.

    Raises:
        UsageError: If an argument cannot work, or `model_class` could not be saved so that it loads anywhere.
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
        num_train_epochs: Epochs = AUTO,
        output_dir: str | Path = "cardioner-model",
        hf_token: str | None = None,
        freeze_backbone: bool = False,
        gradient_accumulation_steps: int = 1,
        classifier_hidden_layers: Sequence[int] | None = None,
        classifier_dropout: float = 0.1,
        class_weights: ClassWeights | None = None,
        model_class: type[TokenClassificationModel] | None = None,
        overlap: Overlap | None = None,
        attributes: Mapping[str, Sequence[Value]] | None = None,
        options: TrainingOptions | None = None,
        distillation: Distillation | None = None,
    ) -> None:
        self.teachers = None if distillation is None else Teachers.read(distillation)
        if self.teachers is not None and label2id is None and id2label is None:
            label2id = self.teachers.labels.label2id
        labels = label_set(label2id, id2label)
        self.labels = labels if overlap is None else labels.with_overlap(check_overlap(overlap))
        self.options = options or TrainingOptions()
        self.attributes = check_attributes(attributes)
        if rank() > 0:  # the first process reports for all
            self.options = replace(self.options, progress=None)
        self._progress: Progress = silent
        if model_class is not None:
            adopt(model_class)
        given = TrainerArguments(
            model=model,
            use_crf=use_crf or (model_class is not None and model_class.uses_crf),
            batch_size=batch_size,
            max_length=max_length,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            num_train_epochs=num_train_epochs,
            freeze_backbone=freeze_backbone,
            gradient_accumulation_steps=gradient_accumulation_steps,
            classifier_hidden_layers=classifier_hidden_layers,
            classifier_dropout=classifier_dropout,
            class_weights=class_weights,
            output_dir=Path(output_dir),
        )
        if self.teachers is not None:
            given = self.teachers.complete(given)
        if self.options.attributes_only:
            if self.teachers is not None:
                raise UsageError(
                    "attributes_only leaves the tagger as it is, so no teacher can teach it: leave one out"
                )
            given, self.labels = complete_frozen(given, self.options, self.attributes)
        check_options(self.options, given)
        self.class_weights = class_weights_by_id(given.class_weights, self.labels)
        self.output_dir = given.output_dir
        self.start = self._build(given, tokenizer, hf_token, model_class)
        self.model, self.tokenizer = self.start.model, self.start.tokenizer
        if self.teachers is not None:
            self.teachers.check_student(self.start, self.labels)
        self.result: TrainingResult | None = None
        self.epochs = given.num_train_epochs
        unchanged = ("batch_size", "gradient_accumulation_steps", "num_train_epochs", "weight_decay")
        hidden_size = self.model.config.build_encoder_config().hidden_size
        self.settings: dict[str, Any] = {
            **{name: getattr(given, name) for name in unchanged},
            "learning_rate": pick_learning_rate(given.learning_rate, hidden_size),
            "max_length": self.model.config.window_length,
            "model": name_of(given.model),
            **({} if self.teachers is None else {"distillation": self.teachers.record()}),
        }

    def _build(
        self, given: TrainerArguments, tokenizer: Any, token: str | None, model_class: type[Any] | None
    ) -> Start:
        """The model before training, and its tokenizer."""
        options = self.options
        source = with_layers(read_source(given.model, token=token, model_class=model_class), options.layers)
        source = with_attention_dropout(source, options.attention_dropout)
        context = max(options.window_context, options.training_context)
        length = pick_window_length(given.max_length, max_positions(source.config), context=context)
        set_seed(options.seed)
        start = build(
            source,
            self.labels,
            use_crf=given.use_crf,
            model_class=model_class,
            tokenizer=tokenizer,
            token=token,
            classifier_hidden_layers=given.classifier_hidden_layers,
            classifier_dropout=given.classifier_dropout,
            class_weights=None if self.class_weights == BALANCED else self.class_weights,
            freeze_backbone=given.freeze_backbone,
            label_smoothing=options.label_smoothing,
            window_length=length,
            window_context=options.window_context,
            attributes=self.attributes,
            attribute_neighbours=NEIGHBOURS if options.attributes_only else 0,
        )
        if options.attributes_only:
            freeze_tagger(start, Path(source.name))
        return start

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
            UsageError: If an interrupted training was started with other settings or data, or an option cannot work.
        """
        with showing(self.options.progress) as self._progress:
            return self._train(train_data, test_data, eval_data)

    def _train(self, train_data: Iterable[Any], test_data: Any, eval_data: Any) -> TrainingResult:
        """As `train`."""
        self.check_output()
        self.result = None
        if not self.options.attributes_only:
            self.model.config.inference_dtype = "float32"  # until the end, when the precision is chosen
        training = read_dataset(train_data, self.labels, self.tokenizer)
        evaluation = self._held_out(eval_data)
        check_early_stopping(self.options, evaluation)
        if self.options.attributes_only and evaluation is not None:
            attributes_in(evaluation.documents, [*self.attributes], "evaluation")  # else every epoch would be as good
        held_out = {"evaluation": evaluation, "test": self._held_out(test_data)}
        unlabelled = None if self.teachers is None else self._unlabelled(self.teachers.settings.unlabelled)
        parts = {"training": training, "unlabelled": unlabelled, **held_out}
        documents = describe_parts(parts, self.options, self.output_dir)
        prepared = self._features(training, unlabelled)
        check_shares(len(prepared.features), self.settings["batch_size"], world_size())
        if self.class_weights == BALANCED:
            self.model.config.class_weights = balanced_weights(prepared.features, self.labels.groups)
        steps = math.ceil(
            math.ceil(len(prepared.features) / self.settings["batch_size"])
            / self.settings["gradient_accumulation_steps"]
        )
        self.settings["num_train_epochs"] = pick_epochs(self.epochs, steps)
        run, history = self._fit(prepared, evaluation)
        choose = choose_inference_settings
        if self.options.attributes_only:  # which leaves the tagger as it is
            choose = partial(keep_inference_settings, directory=Path(self.start.source))
        chosen = choose(self.model, self.tokenizer, evaluation, progress=self._progress)
        choose_attribute_temperatures(self.model, self.tokenizer, evaluation, progress=self._progress)
        scored = {name: HeldOut.of(self._tag(data), self.model) for name, data in held_out.items() if data is not None}
        self.result = result = TrainingResult(
            output_dir=self.output_dir,
            epochs=tuple(run.scores),
            best_epoch=run.best_epoch,
            scored=scored,
            documents=documents,
            **chosen._asdict(),
            losses=prepared.losses,
            remarks=training.remarks + prepared.remarks + run.remarks,
            steps=steps,
            asked_epochs=self.epochs,
            planned_epochs=self.settings["num_train_epochs"],
            windows=len(prepared.features),
            sub_tokens=prepared.sub_tokens,
            seconds=run.seconds,
            history=history,
            recipe=BEST if self._after_members else None,
        )
        if rank() == 0:
            self.save_model(self.output_dir)
            checkpoints.drop_checkpoints(self.output_dir)
        barrier()
        return result

    def check_output(self) -> None:
        """Refuse an output directory that holds a model, or checkpoints that are not to be resumed.

        Raises:
            OutputError: If something would be lost without `overwrite` or `resume`, or if it cannot be written.
        """
        checkpoints.check_output_dir(
            self.output_dir,
            self.options,
            model_class=type(self.model),
            made_from=() if self.teachers is None else self.teachers.directories,
            after_members=self._after_members,
        )

    @property
    def _after_members(self) -> bool:
        """Whether it is the last training of the recipe `best`."""
        return self.teachers is not None and self.teachers.settings.recipe == BEST

    def save_model(self, directory: str | Path) -> None:
        """Write the model as it is now, trained or not, to a directory that loads anywhere."""
        write_model_dir(
            self.model,
            self.tokenizer,
            Path(directory),
            training_args=run_metadata(self.model.config, self.settings, self.options, self.labels.tags, self.result),
            also_bin=self.options.also_bin,
        )

    def _held_out(self, data: Any) -> Dataset | None:
        """Data to score on, if there is any."""
        found = read_dataset([] if data is None else data, self.labels, self.tokenizer)
        check_features(found.features or (), self.model, self.settings["max_length"])
        if found.features is None:  # before hours of training, not at the first scoring
            encode_documents(found.documents, self.tokenizer)
        return found if found.documents else None

    def _unlabelled(self, notes: Iterable[Any]) -> Dataset | None:
        """Notes to learn from the teachers alone, if there are any."""
        bare = [document.with_spans(()) for document in as_documents(notes)]
        return read_dataset(bare, self.labels, self.tokenizer) if bare else None

    def _features(self, training: Dataset, unlabelled: Dataset | None) -> FeatureSet:
        """Windows of the training data."""
        plan = plan_windows(self.model.config, self.tokenizer)._replace(
            context=self.options.training_context, aligned=1
        )
        bare = () if unlabelled is None else unlabelled.documents
        groups = self.model.config.attribute_groups
        prepared = training_features(
            training, self.tokenizer, plan, labels=self.labels, attributes=groups, unlabelled=bare
        )
        check_features(prepared.features, self.model, self.settings["max_length"])
        return prepared

    def _fit(self, prepared: FeatureSet, evaluation: Dataset | None) -> tuple[Run, History]:
        """Run the training loop, or the rest of it; the model ends with the weights of the best epoch."""
        held_out = () if evaluation is None else evaluation.documents
        arguments = trainer_arguments(
            self.output_dir / checkpoints.CHECKPOINTS, self.settings, self.options, scored=evaluation is not None
        )
        run = Run(
            score=None if evaluation is None else lambda: self._score(evaluation),
            save=self.save_model,
            output_dir=self.output_dir,
            request=resume_settings(
                self.model,
                self.settings,
                self.options,
                data=fingerprint([prepared.features, held_out]),
                computed=f"{'bfloat16' if reduced_precision(self.options) else 'float32'} on {arguments.device.type}",
            ),
            names=prepared.names,
            reduced=reduced_precision(self.options),
            attribute_weight=self.options.attribute_weight,
        )
        left = checkpoints.last_checkpoint(self.output_dir) if self.options.resume else None
        if left is not None:
            checkpoints.check_same(left.run, run.request, self.output_dir)
            run.resume_from(left)
        if rank() == 0:
            checkpoints.remove_leftovers(self.output_dir, checkpoints=left is None)
            if not self._after_members:  # those of a training that this one was asked to replace
                checkpoints.drop_members(self.output_dir)
        if left is not None and left.finished:
            self.model.to(arguments.device)
            history = read_json(left.folder / "trainer_state.json")["log_history"]
        else:
            history = self._loop(run, prepared, left, arguments)
            run.seconds = run.elapsed
        kept = run.best_step or (left.step if left is not None and left.finished else 0)
        if kept:
            load_model(self.model, checkpoints.checkpoint_at(self.output_dir, kept) / WEIGHTS)
        barrier()  # before one of them deletes what another still reads
        self.model.eval()
        return run, history_of(history)

    def _loop(
        self, run: Run, prepared: FeatureSet, left: checkpoints.Checkpoint | None, arguments: TrainingArguments
    ) -> list[dict[str, float]]:
        """Train, and return what was logged."""
        tracking = trackers(self.options.tracking, self.output_dir, run.request)
        kind: Callable[..., SpanTrainer] = SpanTrainer
        if self.teachers is not None:
            lesson = self.teachers.teach(
                prepared.features, self.start, device=arguments.device, progress=self._progress
            )
            kind = partial(DistillingTrainer, lesson=lesson)
        trainer = kind(
            run=run,
            batch_size=self.settings["batch_size"],
            model=self.model,
            args=arguments,
            train_dataset=[{**feature, "window": [number]} for number, feature in enumerate(prepared.features)],
            eval_dataset=[],  # SpanTrainer.evaluate scores notes
            data_collator=Collator(self.tokenizer.pad_token_id or 0, len(self.attributes)),
            optimizers=(optimizer(self.model, self.settings, self.options), None),
            callbacks=[LoopCallback(run, self.options, self.model, progress=self._progress), *tracking],
        )
        self.model.config.__dict__.pop("use_cache", None)  # set by the Hugging Face Trainer, of no use to an encoder
        torch.manual_seed(self.options.seed + rank())  # every process drops out other units
        try:
            with (
                tuned_for_cpu(self.model.backbone, self.settings["max_length"]) if arguments.use_cpu else nullcontext()
            ):
                trainer.train(resume_from_checkpoint=None if left is None else str(left.folder))
        finally:
            for tracker in tracking:
                tracker.close(finished=False)  # which does nothing to one that has ended well
                run.remarks.update(tracker.remarks)
        return list(trainer.state.log_history)

    def _score(self, evaluation: Dataset) -> tuple[Scores, float]:
        """The scores of the model as it is now, and the F1 that picks the epoch: attributes count, too."""
        pairs = self._tag(evaluation)
        scores, attributes = score_pairs(pairs), score_attributes(of_names(pairs, self.attributes))
        return scores, (scores.strict if attributes is None else attributes.whole).micro.f1

    def _tag(self, data: Dataset) -> Sequence[Pair]:
        """What the model as it is now finds in data, beside what is there."""
        size = self.settings["batch_size"]
        return tag_dataset(self.model, self.tokenizer, data, batch_size=size, progress=self._progress)
