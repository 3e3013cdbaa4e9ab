"""Every snippet of the specification works: without cardioner installed, and with it."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer, PretrainedConfig, pipeline

from cardioner.data.labels import LabelSet
from cardioner.model_dir.save import write_model_dir
from cardioner.multiclass import CardioNERConfig, TokenClassificationModel, TokenClassificationModelCRF
from cardioner.multiclass import load_custom_model_example as example

KINDS = ("TokenClassificationModel", "TokenClassificationModelCRF")
TEXT = "Patient has chest pain."

PRELUDE = """
from __future__ import annotations
import importlib.util, json, socket, sys, traceback
from pathlib import Path
from typing import Any

def refuse(*_: Any) -> None:
    raise RuntimeError("a socket was opened")

socket.socket.connect = refuse
if {bare}:
    sys.modules["cardioner"] = sys.modules["torchcrf"] = None
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

TEXT = {text!r}
"""


# The snippets. Each is shipped as source to a fresh process; what it returns comes back as JSON.


def method_1(directory: str) -> Any:
    AutoTokenizer.from_pretrained(directory)
    model = AutoModelForTokenClassification.from_pretrained(directory, trust_remote_code=True)
    return [type(model).__name__, model.training]


def inference_example(directory: str) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForTokenClassification.from_pretrained(directory, trust_remote_code=True)
    inputs = tokenizer("Patient has chest pain.", return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
        if hasattr(model, "crf"):
            predictions = model.crf.decode(outputs.logits, mask=inputs["attention_mask"].bool())
        else:
            predictions = torch.argmax(outputs.logits, dim=-1).tolist()
    return [outputs.logits.tolist(), predictions]


def batch_with_padding(directory: str) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForTokenClassification.from_pretrained(directory, trust_remote_code=True)
    inputs = tokenizer([TEXT, "Pain."], return_tensors="pt", padding=True)
    with torch.no_grad():
        outputs = model(**inputs)
        logits = outputs.logits
        best_sequence = model.crf.decode(logits, mask=inputs["attention_mask"].bool())
    return [best_sequence, inputs["attention_mask"].sum(1).tolist(), model.config.id2label]


def log_likelihood(directory: str) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForTokenClassification.from_pretrained(directory, trust_remote_code=True)
    inputs = tokenizer(TEXT, return_tensors="pt")
    attention_mask = inputs["attention_mask"]
    with torch.no_grad():
        logits = model(**inputs).logits
        log_likelihood = model.crf(logits, attention_mask.bool())
        tags = torch.tensor(model.crf.decode(logits, mask=attention_mask.bool()))
        of_best = model.crf(logits, tags, mask=attention_mask.bool())
        of_outside = model.crf(logits, torch.zeros_like(tags), mask=attention_mask.bool())
    return [float(log_likelihood), float(of_best), float(of_outside)]


def subclass_forward(directory: str) -> Any:
    base: Any = type(AutoModelForTokenClassification.from_pretrained(directory, trust_remote_code=True))

    class CustomTokenClassificationModel(base):  # type: ignore[misc]
        def forward(self, **kwargs: Any) -> Any:
            outputs = super().forward(**kwargs)
            outputs.loss = outputs.loss * 2
            return outputs

    ids = torch.arange(4, 10).unsqueeze(0)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.zeros_like(ids)}
    custom = CustomTokenClassificationModel.from_pretrained(directory)
    plain = base.from_pretrained(directory)
    with torch.no_grad():
        return [float(custom(**inputs).loss), float(plain(**inputs).loss)]


def data_parallel(directory: str) -> Any:
    model = AutoModelForTokenClassification.from_pretrained(directory, trust_remote_code=True)
    ids = torch.arange(4, 10).unsqueeze(0)
    with torch.no_grad():
        wrapped = torch.nn.DataParallel(model)(input_ids=ids, labels=torch.zeros_like(ids))
        plain = model(input_ids=ids, labels=torch.zeros_like(ids))
    return [torch.equal(wrapped.logits, plain.logits), torch.equal(wrapped.loss, plain.loss)]


def modeling_by_path(directory: str) -> Any:
    spec = importlib.util.spec_from_file_location("modeling", Path(directory) / "modeling.py")
    assert spec is not None
    assert spec.loader is not None
    modeling = importlib.util.module_from_spec(spec)
    sys.modules["modeling"] = modeling
    spec.loader.exec_module(modeling)
    model, tokenizer, config = modeling.load_custom_cardioner_multiclass_model(directory)
    with torch.no_grad():
        logits = model(**tokenizer(TEXT, return_tensors="pt")).logits
    return [type(model).__name__, type(config).__name__, type(model).__module__, logits.tolist()]


def stock_pipeline(directory: str) -> Any:
    tagger = pipeline("token-classification", model=directory, trust_remote_code=True)
    texts = [TEXT, "", "No oedema. " * 40]
    return [tagger(TEXT), tagger(texts), list(tagger(text for text in texts))]


def utility_function(directory: str) -> Any:
    from cardioner.multiclass.modeling import load_custom_cardioner_multiclass_model  # noqa: PLC0415

    model, tokenizer, config = load_custom_cardioner_multiclass_model(directory)
    with torch.no_grad():
        logits = model(**tokenizer(TEXT, return_tensors="pt")).logits
    return [type(model).__name__, type(model).__module__, config.use_crf, logits.tolist()]


def direct_import(directory: str) -> Any:
    from cardioner.multiclass.modeling import (  # noqa: PLC0415
        TokenClassificationModel,
        TokenClassificationModelCRF,
    )

    tokenizer = AutoTokenizer.from_pretrained(directory)
    has_crf = json.loads((Path(directory) / "config.json").read_text())["use_crf"]
    right, wrong = TokenClassificationModel, TokenClassificationModelCRF
    if has_crf:
        right, wrong = wrong, right
    model = right.from_pretrained(directory)
    try:
        wrong.from_pretrained(directory)
        refusal = ""
    except ValueError as error:
        refusal = str(error)
    with torch.no_grad():
        return [refusal, model(**tokenizer(TEXT, return_tensors="pt")).logits.tolist()]


def registered_classes(directory: str) -> Any:
    import cardioner.multiclass.modeling  # noqa: F401, PLC0415 - it registers them

    tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    model = AutoModelForTokenClassification.from_pretrained(directory, trust_remote_code=False)
    with torch.no_grad():
        logits = model(**tokenizer(TEXT, return_tensors="pt")).logits
    return [type(model).__name__, type(model).__module__, logits.tolist()]


BARE: tuple[Callable[[str], Any], ...] = (
    method_1,
    inference_example,
    batch_with_padding,
    log_likelihood,
    subclass_forward,
    data_parallel,
    modeling_by_path,
    stock_pipeline,
)
INSTALLED: tuple[Callable[[str], Any], ...] = (registered_classes, utility_function, direct_import, method_1)


def run_snippets(
    snippets: tuple[Callable[[str], Any], ...], directories: dict[str, Path], folder: Path, *, bare: bool
) -> dict[str, dict[str, Any]]:
    """Run every snippet on every directory in one fresh process; a snippet that fails gives its traceback."""
    run = """
results = {}
for kind, directory in json.loads(sys.argv[1]).items():
    for name in json.loads(sys.argv[2]):
        try:
            results.setdefault(kind, {})[name] = globals()[name](directory)
        except Exception:
            results.setdefault(kind, {})[name] = traceback.format_exc()
Path("results.json").write_text(json.dumps(results))
"""
    sources = [inspect.getsource(snippet) for snippet in snippets]
    (folder / "script.py").write_text("\n".join([PRELUDE.format(bare=bare, text=TEXT), *sources, run]))
    arguments = (
        json.dumps({kind: str(directory) for kind, directory in directories.items()}),
        json.dumps([snippet.__name__ for snippet in snippets]),
    )
    outcome = subprocess.run(
        [sys.executable, "-I", "-W", "error", str(folder / "script.py"), *arguments],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    results: dict[str, dict[str, Any]] = json.loads((folder / "results.json").read_text())
    return results


def environment(folder: Path) -> dict[str, str]:
    """A home of its own, where nothing was ever cached, and no network."""
    own = {"HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own}


def succeeded(outcome: Any) -> Any:
    """What a snippet returned, or its traceback as a failure."""
    assert not isinstance(outcome, str), outcome
    return outcome


def rounded(spans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Spans with scores to six digits: batches of another width may change the last ones."""
    return [{**span, "score": round(span["score"], 6)} for span in spans]


@pytest.fixture(scope="session")
def directories(
    tmp_path_factory: pytest.TempPathFactory,
    tokenizers: dict[str, Any],
    encoder_config: Callable[[str], PretrainedConfig],
    labels: LabelSet,
) -> dict[str, Path]:
    """A saved directory of each kind, by class name."""
    made: dict[str, Path] = {}
    for kind in (TokenClassificationModel, TokenClassificationModelCRF):
        torch.manual_seed(3)
        config = CardioNERConfig(
            encoder_config=encoder_config("roberta").to_dict(),
            id2label=labels.id2label,
            label2id=labels.label2id,
            classifier_hidden_layers=(12, 8),
            window_length=32,
            window_context=4,
        )
        model = kind(config).eval()
        for parameter in [*model.classifier.parameters(), *(model.crf.parameters() if kind.uses_crf else ())]:
            torch.nn.init.normal_(parameter, std=0.7)
        made[kind.__name__] = tmp_path_factory.mktemp("model") / kind.__name__
        write_model_dir(model, tokenizers["byte-bpe"], made[kind.__name__])
    return made


@pytest.fixture(scope="session")
def expected_logits(directories: dict[str, Path]) -> dict[str, list[list[list[float]]]]:
    """What each model answers to `TEXT` in this process, with the installed classes."""
    found = {}
    for name, directory in directories.items():
        model = AutoModelForTokenClassification.from_pretrained(directory)
        tokenizer = AutoTokenizer.from_pretrained(directory)
        with torch.no_grad():
            found[name] = model(**tokenizer(TEXT, return_tensors="pt")).logits.tolist()
    return found


@pytest.fixture(scope="session")
def bare(directories: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the snippets return where neither cardioner nor a CRF package can be imported."""
    return run_snippets(BARE, directories, tmp_path_factory.mktemp("bare"), bare=True)


@pytest.fixture(scope="session")
def installed(directories: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the snippets return in one process with cardioner, both directories in it."""
    return run_snippets(INSTALLED, directories, tmp_path_factory.mktemp("installed"), bare=False)


@pytest.mark.parametrize("kind", KINDS)
def test_auto_classes_load_the_saved_class_for_inference(bare: dict[str, dict[str, Any]], kind: str) -> None:
    assert succeeded(bare[kind]["method_1"]) == [kind, False]


@pytest.mark.parametrize("kind", KINDS)
def test_inference_example_gives_the_same_logits_and_one_tag_per_token(
    bare: dict[str, dict[str, Any]], expected_logits: dict[str, Any], kind: str
) -> None:
    logits, predictions = succeeded(bare[kind]["inference_example"])
    torch.testing.assert_close(torch.tensor(logits), torch.tensor(expected_logits[kind]), rtol=0, atol=1e-6)
    assert [len(row) for row in predictions] == [len(expected_logits[kind][0])]
    if kind == "TokenClassificationModel":
        assert predictions == torch.tensor(expected_logits[kind]).argmax(-1).tolist()


def test_viterbi_gives_one_legal_tag_per_attended_position(bare: dict[str, dict[str, Any]]) -> None:
    sequences, lengths, names = succeeded(bare["TokenClassificationModelCRF"]["batch_with_padding"])
    assert [len(sequence) for sequence in sequences] == lengths
    assert lengths[0] > lengths[1]
    for sequence in sequences:
        tags = ["O", *(names[str(tag)] for tag in sequence)]
        inside = [(before[2:], tag[2:]) for before, tag in pairwise(tags) if tag.startswith("I-")]
        assert all(before == tag for before, tag in inside)


def test_log_likelihood_with_a_mask_alone_is_that_of_the_best_sequence(bare: dict[str, dict[str, Any]]) -> None:
    found, of_best, of_outside = succeeded(bare["TokenClassificationModelCRF"]["log_likelihood"])
    assert found == pytest.approx(of_best, abs=1e-5)
    assert of_outside < found < 0


@pytest.mark.parametrize("kind", KINDS)
def test_subclass_with_keyword_forward_changes_the_loss(bare: dict[str, dict[str, Any]], kind: str) -> None:
    custom, plain = succeeded(bare[kind]["subclass_forward"])
    assert plain > 0
    assert custom == pytest.approx(2 * plain)


@pytest.mark.parametrize("kind", KINDS)
def test_data_parallel_gives_the_same_outputs(bare: dict[str, dict[str, Any]], kind: str) -> None:
    assert succeeded(bare[kind]["data_parallel"]) == [True, True]


@pytest.mark.parametrize("kind", KINDS)
def test_modeling_file_loads_by_its_path_alone(
    bare: dict[str, dict[str, Any]], expected_logits: dict[str, Any], kind: str
) -> None:
    *names, logits = succeeded(bare[kind]["modeling_by_path"])
    assert names == [kind, "CardioNERConfig", "modeling"]
    torch.testing.assert_close(torch.tensor(logits), torch.tensor(expected_logits[kind]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_pipeline_answers_a_text_a_list_and_a_generator_alike(bare: dict[str, dict[str, Any]], kind: str) -> None:
    of_one, of_list, of_generator = succeeded(bare[kind]["stock_pipeline"])
    assert [rounded(spans) for spans in of_list] == [rounded(spans) for spans in of_generator]
    assert rounded(of_list[0]) == rounded(of_one)
    assert of_list[1] == []
    assert set(of_one[0]) == {"entity_group", "score", "word", "start", "end"}
    assert all(TEXT[span["start"] : span["end"]] == span["word"] for span in of_one)
    assert of_list[2][-1]["end"] > 300, "a note longer than a window is tagged to its end"


@pytest.mark.parametrize("kind", KINDS)
def test_registered_classes_load_without_remote_code(
    installed: dict[str, dict[str, Any]], expected_logits: dict[str, Any], kind: str
) -> None:
    *names, logits = succeeded(installed[kind]["registered_classes"])
    assert names == [kind, "cardioner.multiclass.modeling"]
    torch.testing.assert_close(torch.tensor(logits), torch.tensor(expected_logits[kind]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_utility_function_picks_the_class_that_was_saved(
    installed: dict[str, dict[str, Any]], expected_logits: dict[str, Any], kind: str
) -> None:
    *names, logits = succeeded(installed[kind]["utility_function"])
    assert names == [kind, "cardioner.multiclass.modeling", kind == "TokenClassificationModelCRF"]
    torch.testing.assert_close(torch.tensor(logits), torch.tensor(expected_logits[kind]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_imported_class_loads_its_directory_and_refuses_the_other(
    installed: dict[str, dict[str, Any]], expected_logits: dict[str, Any], kind: str
) -> None:
    refusal, logits = succeeded(installed[kind]["direct_import"])
    assert "the weights are not those of" in refusal
    torch.testing.assert_close(torch.tensor(logits), torch.tensor(expected_logits[kind]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_remote_code_still_loads_where_the_classes_are_registered(
    installed: dict[str, dict[str, Any]], kind: str
) -> None:
    assert succeeded(installed[kind]["method_1"]) == [kind, False]


def test_example_script_runs_as_a_plain_file_without_cardioner(directories: dict[str, Path], tmp_path: Path) -> None:
    guard = 'import runpy, sys\nsys.modules["cardioner"] = None\nrunpy.run_path("example.py", run_name="__main__")\n'
    (tmp_path / "example.py").write_bytes(Path(example.__file__).read_bytes())
    (tmp_path / "guard.py").write_text(guard)
    outcome = subprocess.run(
        [sys.executable, "-I", "-W", "error", "guard.py", str(directories["TokenClassificationModelCRF"]), TEXT],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "Do you wish to run the custom code" not in outcome.stdout
    assert "log-likelihood of the best tags: -" in outcome.stdout
    assert "log-likelihood of O everywhere: -" in outcome.stdout


def test_example_script_prints_argmax_tags_and_spans_of_a_standard_model(
    directories: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    directory = directories["TokenClassificationModel"]
    example.main([str(directory), TEXT])
    lines = capsys.readouterr().out.splitlines()
    spans = [match for line in lines if (match := re.fullmatch(r"(\d+)-(\d+) [A-Z]+ [01]\.\d{4} (.+)", line))]
    tokens = [line.split()[-1] for line in lines[: len(lines) - len(spans)]]
    assert tokens
    assert set(tokens) <= set(TokenClassificationModel.from_pretrained(directory).config.tags)
    assert spans
    assert all(TEXT[int(span[1]) : int(span[2])] == span[3] for span in spans)


def test_example_script_names_a_directory_that_holds_no_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        example.main([str(tmp_path)])
    assert f"{tmp_path} is no saved model directory: it has no config.json" in capsys.readouterr().err
