"""A user's model class: what of its file is refused, how it is rewritten, and which class a directory loads as."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForTokenClassification

import cardioner
from cardioner.data.labels import LabelSet
from cardioner.errors import ModelError, OutputError, UsageError
from cardioner.model_dir.custom_code import adopt, travelling_copy
from cardioner.model_dir.json_files import read_object
from cardioner.model_dir.load import enter, read_model_dir
from cardioner.model_dir.save import check_output, write_model_dir
from cardioner.multiclass.modeling import (
    TokenClassificationModel,
    TokenClassificationModelCRF,
    load_custom_cardioner_multiclass_model,
)
from cardioner.prediction.predictor import Predictor
from cardioner.training.initialization import Start, build, read_source

Load = Callable[..., Any]

LOSS = '''\
"""A loss of its own."""
import torch

from cardioner.multiclass.modeling import TokenClassificationModel


class Mine(TokenClassificationModel):
    power = 2.0

    def loss(self, logits, labels):
        return super().loss(logits, labels) ** self.power
'''
FORWARD = """\
from cardioner.multiclass import TokenClassificationModelCRF


class Mine(TokenClassificationModelCRF):
    def forward(self, **kwargs):
        outputs = super().forward(**kwargs)
        if outputs.loss is not None:
            outputs.loss = outputs.loss * 2
        outputs.logits = -outputs.logits
        return outputs
"""
BASE = "from cardioner.multiclass.modeling import TokenClassificationModel\n"
CLASS = "class Mine(TokenClassificationModel):\n    pass\n"


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """Write a file and import it as a user's module; the class `Mine` in it."""
    made: list[str] = []

    def from_source(source: str | bytes, *, file: str = "my_loss.py", name: str = "Mine") -> Any:
        path = tmp_path / "own" / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(source if isinstance(source, bytes) else source.encode())
        module_name = f"users_{path.stem}"
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        made.append(module_name)
        spec.loader.exec_module(module)
        return getattr(module, name)

    yield from_source
    for module_name in made:
        sys.modules.pop(module_name, None)


@pytest.fixture
def started(encoder_dir: Callable[[str], Path], labels: LabelSet) -> Callable[..., Start]:
    """A model of a class, before training."""

    def start(model_class: Any, *, use_crf: bool = False, **settings: Any) -> Start:
        torch.manual_seed(3)
        source = read_source(encoder_dir("bert"))
        return build(source, labels, use_crf=use_crf, model_class=model_class, **settings)

    return start


def copy_of(tmp_path: Path, source: str | bytes) -> bytes:
    path = tmp_path / "my_loss.py"
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return travelling_copy(path, "Mine")


# How a file is rewritten.

REWRITTEN = [
    (
        "from cardioner.multiclass.modeling import TokenClassificationModel",
        "from .modeling import TokenClassificationModel",
    ),
    ("from cardioner.multiclass import TokenClassificationModel", "from .modeling import TokenClassificationModel"),
    (
        "from  cardioner . multiclass\t.modeling  import (\n    IGNORED,  # cardioner.multiclass\n    CRF as B,\n)",
        "from  .modeling  import (\n    IGNORED,  # cardioner.multiclass\n    CRF as B,\n)",
    ),
    ("from cardioner.multiclass.modeling import *", "from .modeling import *"),
    (
        "from cardioner.multiclass.modeling import \\\n    TokenClassificationModel",
        "from .modeling import \\\n    TokenClassificationModel",
    ),
]


@pytest.mark.parametrize(("given", "expected"), REWRITTEN)
def test_imports_of_ours_are_rewritten_and_nothing_else(tmp_path: Path, given: str, expected: str) -> None:
    before = '"""Été: from cardioner.multiclass.modeling import X"""\r\nimport math\n\x0c\n'
    inside = "    # ünïcödé\n    def loss(self, a, b):\n        é = 1; {}\n        return é\n"
    mine = "class Mine(TokenClassificationModel):  # from cardioner.multiclass import X\n"
    ours = "from cardioner.multiclass import CardioNERConfig"
    source = before + given + "\n" + mine + inside.format(ours) + "\t \n"
    copy = copy_of(tmp_path, source)
    assert (
        copy.decode()
        == before + expected + "\n" + mine + inside.format("from .modeling import CardioNERConfig") + "\t \n"
    )
    assert {node.module for node in ast.walk(ast.parse(copy)) if isinstance(node, ast.ImportFrom)} == {"modeling"}


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_ends_stay_as_they_are(tmp_path: Path, ending: str) -> None:
    source = LOSS.replace("\n", ending)
    expected = source.replace("cardioner.multiclass.modeling", ".modeling")
    assert copy_of(tmp_path, source.encode()) == expected.encode()


ACCEPTED = [
    "import math\nlimit = math.log(2)\n",
    "import torch\nfrom torch import nn\nWEIGHTS = torch.tensor([1.0, 2.0])\nKIND: type = nn.Linear\n",
    "from dataclasses import dataclass, field\n@dataclass(frozen=True)\nclass S:\n"
    "    a: list = field(default_factory=list)\n",
    "import re, typing as t\nP = re.compile('x')\nT = t.TypeVar('T')\n",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from collections.abc import Iterable\n",
    "if __name__ == '__main__':\n    print('a script')\n",
    "import torch\n@torch.no_grad()\ndef f(x, y=frozenset({1})):\n    open(x)\n    return g(x)\n",
    "g = lambda path: open(path)\n...\n",
    "import logging\nlog = logging.getLogger(__name__)\nA, B = 1, [n * 2 for n in range(3)]\nA += 1\n",
    "from torch import nn\nclass Part(nn.Module):\n    'text'\n    names = tuple(sorted({'b', 'a'}))\n",
]


@pytest.mark.parametrize("more", ACCEPTED)
def test_files_that_only_define_are_accepted(tmp_path: Path, more: str) -> None:
    assert copy_of(tmp_path, BASE + more + CLASS).decode() == BASE.replace("cardioner.multiclass", "") + more + CLASS


REFUSED = {
    "third party": ("import numpy as np", "numpy may be missing where the model is loaded"),
    "third party in a function": ("def f():\n    from scipy.special import expit", "scipy.special may be missing", 3),
    "third party in a try": ("try:\n    import pandas\nexcept ImportError:\n    pandas = None", "it would be run"),
    "relative": ("from .helpers import loss", "a relative import cannot travel"),
    "relative package": ("from . import helpers", "a relative import cannot travel"),
    "other module of ours": ("from cardioner.training.trainer import ModelTrainer", "trainer does not travel"),
    "top of ours": ("import cardioner", "cardioner does not travel"),
    "module object": ("import cardioner.multiclass.modeling as m", "cannot be rewritten: write it on one line"),
    "package object": ("import cardioner.multiclass", "cannot be rewritten: write it on one line"),
    "submodule by name": (
        "from cardioner.multiclass import modeling",
        "modeling of cardioner.multiclass cannot travel",
    ),
    "star of the package": ("from cardioner.multiclass import *", r"\* of cardioner.multiclass cannot travel"),
    "unknown name": ("def f():\n    from cardioner.multiclass.modeling import Nothing", "Nothing of cardioner", 3),
    "training in the main block": (
        "if __name__ == '__main__':\n    from cardioner.training.trainer import ModelTrainer",
        "trainer does not travel",
        3,
    ),
    "call": ("print('x')", "it would be run when a model is loaded"),
    "loop": ("for n in range(3):\n    pass", "it would be run"),
    "condition": ("if len('a'):\n    A = 1", "it would be run"),
    "guard with else": ("if __name__ == '__main__':\n    A = 1\nelse:\n    A = 2", "it would be run"),
    "file read into a name": ("A = open('/etc/hostname').read()", r"a function would be called|open would be called"),
    "own function": ("def f():\n    return 1\nA = f()", "f would be called", 4),
    "shuffling": ("import random\nA = random.random()", "random.random would be called", 3),
    "seed": ("import torch\nA = torch.manual_seed(0)", "torch.manual_seed would be called", 3),
    "decorator": ("import atexit\n@atexit.register\ndef f(): pass\n@atexit.register(f)\ndef g(): pass", "atexit", 5),
    "default": ("def f(a=open('/etc/hostname')): pass", "open would be called"),
    "patch": ("TokenClassificationModel.decode = None", "it would change something else"),
    "patch in a tuple": ("A, TokenClassificationModel.x = 1, 2", "it would change something else"),
    "class body": ("class Other:\n    print('x')", "it would be run", 3),
    "call in a class body": ("class Other:\n    a = open('/etc/hostname')", "open would be called", 3),
    "text like an import": ('"""\nfrom .nowhere import x\n"""', "transformers would take this text for an import", 3),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_travel_is_refused_with_its_line(tmp_path: Path, case: tuple[Any, ...]) -> None:
    more, message, line = (*case, 2)[:3]
    with pytest.raises(
        UsageError, match=rf"{re.escape(str(tmp_path / 'my_loss.py'))}:{line}: .*(?:{message})"
    ) as caught:
        copy_of(tmp_path, f"{BASE}{more}\n{CLASS}")
    assert "\n" not in str(caught.value)
    assert copy_of(tmp_path, BASE + CLASS), "the rest of the file is fine"


def test_import_that_transformers_would_not_see_is_refused(tmp_path: Path) -> None:
    """Its scanner looks for `from .x import` at the start of a line, and copies no file that it does not see."""
    for given in (f"import math; {BASE}", BASE.replace("from ", "from \\\n ")):
        with pytest.raises(UsageError, match="found none that transformers sees: write it on one line"):
            copy_of(tmp_path, given + CLASS)


def test_first_problem_is_named_and_the_others_are_counted(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r":2: numpy .* \(2 more such lines\)"):
        copy_of(tmp_path, f"{BASE}import numpy\nimport pandas\nprint(1)\n{CLASS}".replace("print(1)", "del pandas"))


@pytest.mark.parametrize(
    "source",
    [b"\xef\xbb\xbf" + LOSS.encode(), b"# -*- coding: latin-1 -*-\n" + LOSS.encode(), LOSS.encode() + b"# \xe9\n"],
    ids=["mark", "latin-1", "broken"],
)
def test_other_encodings_are_refused(tmp_path: Path, source: bytes) -> None:
    with pytest.raises(UsageError, match=r"my_loss\.py:\d+: .*(UTF-8|utf-8)"):
        copy_of(tmp_path, source)


# Which classes are refused.


def test_class_of_something_else_is_refused() -> None:
    for other in (int, torch.nn.Module, None, "FocalModel"):
        with pytest.raises(UsageError, match=r"model_class must be a subclass of .*TokenClassificationModel"):
            adopt(other)  # type: ignore[arg-type]


def test_our_own_classes_need_nothing() -> None:
    for kind in (TokenClassificationModel, TokenClassificationModelCRF):
        adopt(kind)
        assert kind.own_code is None


def test_class_in_a_function_or_a_class_is_refused(load: Load) -> None:
    class Local(TokenClassificationModel):
        pass

    with pytest.raises(UsageError, match=r"Local is not defined at the top of a file; .*in a file of its own"):
        adopt(Local)
    outer = load(BASE + "class Outer:\n    class Mine(TokenClassificationModel):\n        pass\n", name="Outer")
    with pytest.raises(UsageError, match="Mine is not defined at the top of a file"):
        adopt(outer.Mine)


def test_class_that_was_typed_in_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook's `__main__` has no file."""
    module = type(sys)("typed_in")
    monkeypatch.setitem(sys.modules, "typed_in", module)
    exec(BASE + CLASS, module.__dict__)
    with pytest.raises(UsageError, match=r"Mine was not read from a .py file but typed in, in a notebook"):
        adopt(module.Mine)


@pytest.mark.parametrize("file", ["modeling.py", "Pipeline.py", "tagging.py", "__init__.py"])
def test_file_named_like_one_of_ours_is_refused(load: Load, file: str) -> None:
    with pytest.raises(UsageError, match=rf"a saved model has a file {file} of its own: rename yours"):
        adopt(load(LOSS, file=file))


@pytest.mark.parametrize("file", ["my-loss.py", "2nd.py", "class.py", "a.b.py"])
def test_file_that_cannot_be_imported_is_refused(load: Load, file: str) -> None:
    with pytest.raises(UsageError, match="expected a file name that can be imported"):
        adopt(load(LOSS, file=file))


def test_base_from_another_file_of_the_user_is_refused(load: Load) -> None:
    load(LOSS, file="base.py")
    mine = load("from users_base import Mine as Base\nclass Mine(Base):\n    pass\n", file="more.py")
    with pytest.raises(UsageError, match=r"more\.py: Mine builds on Mine of users_base"):
        adopt(mine)


def test_base_in_the_same_file_travels_along(load: Load, started: Callable[..., Start]) -> None:
    mine = load(LOSS.replace("Mine", "Base") + "\n\nclass Mine(Base):\n    power = 3.0\n")
    model = started(mine).model
    assert model.config.auto_map["AutoModelForTokenClassification"] == "my_loss.Mine"
    assert model.config.custom_model_type == "TokenClassificationModel"


# What a directory holds, and what it loads as.


@pytest.fixture
def saved(load: Load, started: Callable[..., Start], tmp_path: Path) -> Callable[[str], tuple[Start, Path]]:
    """A directory saved with a class from a source."""

    def save(source: str) -> tuple[Start, Path]:
        start = started(load(source))
        write_model_dir(start.model, start.tokenizer, tmp_path / "model")
        return start, tmp_path / "model"

    return save


def test_base_decides_whether_there_is_a_crf(load: Load, started: Callable[..., Start]) -> None:
    plain, crf = load(LOSS), load(FORWARD, file="other.py")
    assert not started(plain).model.config.use_crf
    for use_crf in (False, True):
        model = started(crf, use_crf=use_crf).model
        assert (type(model), model.config.use_crf, hasattr(model, "crf")) == (crf, True, True)
    with pytest.raises(UsageError, match="Mine has no CRF, and use_crf asks for one"):
        started(plain, use_crf=True)


def test_class_that_cannot_travel_is_refused_before_a_model_is_built(load: Load, started: Callable[..., Start]) -> None:
    with pytest.raises(UsageError, match=r"my_loss\.py:2: .*numpy"):
        started(load(LOSS.replace("import torch", "import numpy")))


def test_class_without_a_loss_is_refused(load: Load, started: Callable[..., Start]) -> None:
    forgetful = FORWARD.replace("outputs.loss * 2", "None")
    with pytest.raises(UsageError, match="forward of Mine gives no loss when it is given labels"):
        started(load(forgetful))


def test_class_that_drops_what_is_said_of_spans_cannot_learn_attributes(
    load: Load, started: Callable[..., Start]
) -> None:
    forgetful = FORWARD.replace("outputs.loss * 2", "outputs.loss * 2\n        outputs.attribute_logits = None")
    given = {"attributes": {"Negation": [None, True]}}
    with pytest.raises(UsageError, match="forward of Mine gives no attribute_logits"):
        started(load(forgetful), **given)
    assert started(load(FORWARD, file="other.py"), **given).model.attribute_head is not None


def test_part_that_learns_in_training_alone_is_not_frozen(load: Load, started: Callable[..., Start]) -> None:
    source = LOSS.replace("import torch\n", "from torch import nn\n") + (
        "\n    def __init__(self, config):\n        super().__init__(config)\n        self.extra = nn.Linear(2, 2)\n"
    )
    start = started(load(source))
    assert all(parameter.requires_grad for parameter in start.model.extra.parameters())
    assert {"extra.weight", "extra.bias"} <= set(start.fresh)
    assert all(parameter.grad is None for parameter in start.model.parameters())


def test_directory_names_the_class_and_holds_its_file(
    saved: Callable[[str], tuple[Start, Path]], without_manifest: Callable[[Path], Path]
) -> None:
    _, directory = saved(LOSS)
    config = read_object(directory / "config.json")
    assert config["auto_map"]["AutoConfig"] == "modeling.CardioNERConfig"
    assert config["auto_map"]["AutoModelForTokenClassification"] == "my_loss.Mine"
    assert config["architectures"] == ["Mine", "TokenClassificationModel"]
    assert config["custom_model_type"] == "TokenClassificationModel"
    assert (directory / "my_loss.py").read_text() == LOSS.replace("cardioner.multiclass.modeling", ".modeling")
    enter(directory)
    (without_manifest(directory) / "my_loss.py").unlink()
    with pytest.raises(ModelError, match=r"lacks my_loss\.py"):
        enter(directory)


def test_class_with_another_loss_alone_loads_as_its_base(saved: Callable[[str], tuple[Start, Path]]) -> None:
    start, directory = saved(LOSS)
    loaded = cardioner.load(directory, device="cpu").model
    assert type(loaded) is TokenClassificationModel
    assert loaded.state_dict().keys() == start.model.state_dict().keys()
    through_auto = AutoModelForTokenClassification.from_pretrained(directory, trust_remote_code=False)
    assert type(through_auto) is TokenClassificationModel
    ids = torch.arange(6, 15).unsqueeze(0)
    with torch.no_grad():
        logits = start.model.eval()(input_ids=ids).logits
        assert all(torch.equal(other(input_ids=ids).logits, logits) for other in (loaded, through_auto.eval()))


@pytest.mark.parametrize("source", [LOSS, FORWARD], ids=["loss", "forward"])
def test_given_class_loads_its_directory(saved: Callable[[str], tuple[Start, Path]], source: str) -> None:
    start, directory = saved(source)
    kind = type(start.model)
    loaded, _, _ = read_model_dir(directory, device="cpu", model_class=kind)
    again, _, _ = load_custom_cardioner_multiclass_model(directory, "cpu", model_class=kind)
    ids = torch.arange(6, 15).unsqueeze(0)
    given = {"input_ids": ids, "labels": torch.zeros_like(ids)}
    start.model.eval()
    for other in (loaded, again, kind.from_pretrained(directory).eval()):
        assert type(other) is kind
        assert torch.equal(other(**given).loss, start.model(**given).loss)


def test_class_with_a_way_of_its_own_is_never_loaded_as_its_base(
    saved: Callable[[str], tuple[Start, Path]], without_manifest: Callable[[Path], Path]
) -> None:
    start, directory = saved(FORWARD)
    without_manifest(directory)
    config = read_object(directory / "config.json")
    assert config["custom_model_type"] == "Mine"
    assert config["architectures"] == ["Mine"]
    marker = directory / "imported"
    with (directory / "my_loss.py").open("a") as file:
        file.write(f"open({str(marker)!r}, 'w').close()\n")
    for door in (cardioner.load, Predictor.from_pretrained, read_model_dir, read_source):
        with pytest.raises(ModelError, match=r"saved by Mine, a class in my_loss\.py .*Predictor\(Mine.*pipeline\("):
            door(directory)
    for loader in (TokenClassificationModelCRF.from_pretrained, load_custom_cardioner_multiclass_model):
        with pytest.raises(ValueError, match="saved by Mine, which tags in a way of its own"):
            loader(directory)
    with pytest.raises(ValueError, match=r"not those of TokenClassificationModel: .*saved as .*Mine"):
        AutoModelForTokenClassification.from_pretrained(directory, trust_remote_code=False)
    assert not marker.exists(), "nothing in the directory was run"
    predictor = Predictor(type(start.model).from_pretrained(directory).eval(), start.tokenizer)
    assert isinstance(predictor.predict_text("Syncope and chest pain."), tuple)


OWN_WAYS = {
    "decode": "    def decode(self, logits, attention_mask=None):\n        return []\n",
    "constructor": "    def __init__(self, config):\n        super().__init__(config)\n        self.dropout.p = 0.9\n",
    "call": "    def __call__(self, *a, **k):\n        return super().__call__(*a, **k)\n",
    "part": "    dropout = property(lambda self: lambda value: value)\n",
    "property": "    training = True\n",
}


@pytest.mark.parametrize("body", OWN_WAYS.values(), ids=OWN_WAYS.keys())
def test_whatever_could_change_spans_counts_as_a_way_of_its_own(
    load: Load, make_model: Callable[..., TokenClassificationModel], body: str
) -> None:
    kind = load(f"{BASE}class Mine(TokenClassificationModel):\n{body}")
    adopt(kind)
    assert kind(make_model().config).config.custom_model_type == "Mine"


def test_mixin_in_front_of_the_base_counts_too(load: Load, make_model: Callable[..., TokenClassificationModel]) -> None:
    mixin = "class Mixin:\n    def span_scores(self, *given):\n        return []\n"
    kind = load(f"{BASE}{mixin}class Mine(Mixin, TokenClassificationModel):\n    pass\n")
    adopt(kind)
    assert kind(make_model().config).config.custom_model_type == "Mine"


def test_training_goes_on_from_a_directory_of_the_same_class(
    saved: Callable[[str], tuple[Start, Path]], labels: LabelSet
) -> None:
    start, directory = saved(FORWARD)
    source = read_source(directory, model_class=type(start.model))
    again = build(source, labels, use_crf=False, model_class=type(start.model))
    assert again.fresh == ()
    assert torch.equal(again.model.classifier.weight, start.model.classifier.weight)


def test_training_of_a_class_starts_from_a_directory_of_its_base(
    make_model: Callable[..., TokenClassificationModel],
    load: Load,
    tokenizers: dict[str, Any],
    tmp_path: Path,
    labels: LabelSet,
) -> None:
    model = make_model()
    write_model_dir(model, tokenizers["wordpiece"], tmp_path / "base")
    kind = load(LOSS)
    start = build(read_source(tmp_path / "base", model_class=kind), labels, use_crf=False, model_class=kind)
    assert start.fresh == ()
    assert torch.equal(start.model.classifier.weight, model.classifier.weight)


def test_users_own_file_is_never_replaced_by_its_copy(load: Load, started: Callable[..., Start]) -> None:
    kind = load(LOSS)
    start = started(kind)
    home = Path(sys.modules[kind.__module__].__file__ or "").parent
    with pytest.raises(OutputError, match=r"my_loss\.py is the file of Mine itself: choose another directory"):
        check_output(home, overwrite=True, model_class=kind)
    with pytest.raises(OutputError, match="choose another directory"):
        write_model_dir(start.model, start.tokenizer, home)
    with pytest.raises(ValueError, match="is the file of Mine itself"):
        start.model.save_pretrained(home)
    assert (home / "my_loss.py").read_text() == LOSS
    assert [path.name for path in home.iterdir() if path.is_file()] == ["my_loss.py"]


def test_file_changed_during_training_is_saved_as_it_was_checked(
    load: Load, started: Callable[..., Start], tmp_path: Path
) -> None:
    kind = load(LOSS)
    start = started(kind)
    Path(sys.modules[kind.__module__].__file__ or "").write_text("import numpy\n")
    write_model_dir(start.model, start.tokenizer, tmp_path / "model")
    assert b"from .modeling import" in (tmp_path / "model" / "my_loss.py").read_bytes()


def test_saving_adopts_a_class_that_the_trainer_never_saw(
    load: Load, make_model: Callable[..., TokenClassificationModel], tokenizers: dict[str, Any], tmp_path: Path
) -> None:
    model = load(LOSS)(make_model().config)
    assert model.config.auto_map["AutoModelForTokenClassification"] == "modeling.TokenClassificationModel"
    write_model_dir(model, tokenizers["wordpiece"], tmp_path / "model")
    assert (
        read_object(tmp_path / "model" / "config.json")["auto_map"]["AutoModelForTokenClassification"] == "my_loss.Mine"
    )
    unfit = load(LOSS.replace("import torch", "import numpy"), file="unfit.py")(make_model().config)
    with pytest.raises(UsageError, match=r"unfit\.py:2: .*numpy"):
        write_model_dir(unfit, tokenizers["wordpiece"], tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_class_built_on_an_adopted_one_is_not_taken_for_it(
    load: Load, make_model: Callable[..., TokenClassificationModel], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kind = load(LOSS)
    adopt(kind)

    class Local(kind):  # type: ignore[misc, valid-type]
        pass

    Local(make_model().config).save_pretrained(tmp_path / "model")
    saved = json.loads((tmp_path / "model" / "config.json").read_text())
    assert saved["auto_map"]["AutoModelForTokenClassification"] == "modeling.TokenClassificationModel"
    assert "Local has no file to travel in: saved as the class it builds on" in caplog.text
    assert not (tmp_path / "model" / "my_loss.py").exists()


@pytest.mark.parametrize(
    "auto_map", [[3], {"AutoModelForTokenClassification": 3}, {"AutoModelForTokenClassification": "../x.Y"}]
)
def test_config_that_names_no_class_in_a_file_is_refused(
    auto_map: Any, saved: Callable[[str], tuple[Start, Path]], without_manifest: Callable[[Path], Path]
) -> None:
    directory = without_manifest(saved(LOSS)[1])
    content = read_object(directory / "config.json") | {"auto_map": auto_map}
    (directory / "config.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"expected auto_map to be modeling\.CardioNERConfig and a class such as"):
        enter(directory)
