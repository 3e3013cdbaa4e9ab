"""Load saved directories in one way and write down what their models answer.

It runs in its own process, reads `given.pt` in the current folder, and writes `found.pt` there. `given.pt` holds:

- `door`: how to load: by `auto`, the Auto classes and `pipeline`, where cardioner cannot be imported; or by
  `cardioner`, which is `cardioner.load`.
- `first`: a folder whose packages take precedence over the installed ones, or none.
- `directories`: by name, the `path`, `input_ids` and `attention_mask` `(batch, length)`, and the `texts` to tag.

`found.pt` holds, by name, the `logits` `(batch, length, tags)`, and per text the `spans` `[start, end, label, score]`;
or the `error`.
"""

import socket
import sys
import traceback

import torch

given = torch.load("given.pt", weights_only=True)
if given["first"]:
    sys.path.insert(0, given["first"])
if given["door"] == "auto":
    sys.modules["cardioner"] = sys.modules["torchcrf"] = None  # from here on their import fails

import transformers  # noqa: E402


def refuse(*_: object) -> None:
    """Stand in for every connection."""
    raise RuntimeError("a socket was opened")


socket.socket.connect = refuse
torch.set_num_threads(1)


def through_auto(path: str, inputs: dict[str, torch.Tensor], texts: list[str]) -> dict[str, object]:
    """What the Auto classes load, and what `pipeline` finds with it."""
    model = transformers.AutoModelForTokenClassification.from_pretrained(path, trust_remote_code=True).eval()
    tagger = transformers.pipeline("token-classification", model=path, trust_remote_code=True)
    with torch.no_grad():
        logits = model(**inputs).logits
    keys = ("start", "end", "entity_group", "score")
    return {"logits": logits, "spans": [[[span[key] for key in keys] for span in spans] for spans in tagger(texts)]}


def through_cardioner(path: str, inputs: dict[str, torch.Tensor], texts: list[str]) -> dict[str, object]:
    """What `cardioner.load` loads and finds."""
    import cardioner  # noqa: PLC0415 - blocked for the Auto classes

    predictor = cardioner.load(path, device="cpu")
    with torch.no_grad():
        logits = predictor.model(**inputs).logits
    documents = [cardioner.Document(str(number), text) for number, text in enumerate(texts)]
    tagged = [document.spans for document in predictor.predict(documents)]
    return {
        "logits": logits,
        "spans": [[[span.start, span.end, span.label, span.score] for span in spans] for spans in tagged],
    }


through = {"auto": through_auto, "cardioner": through_cardioner}[given["door"]]
found = {}
for name, asked in given["directories"].items():
    inputs = {key: torch.tensor(asked[key]) for key in ("input_ids", "attention_mask")}
    try:
        found[name] = through(asked["path"], inputs, asked["texts"])
    except Exception:  # noqa: BLE001 - whatever it is, the others are loaded too
        found[name] = {"error": traceback.format_exc()}
torch.save({"answers": found, "transformers": transformers.__version__}, "found.pt")
