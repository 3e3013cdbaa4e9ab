"""Several models as one: their mean and their vote on spans, against each of them, on held-out notes.

    CARDIONER_DATA=... python benchmarks/vote.py MODELS [SETTING ...] [--corpora ncbi-disease] [--share 0.4]

Each setting is a JSON object of arguments of `ModelTrainer` and of `TrainingOptions`, and makes one member; all have a
CRF, and seeds of their own. Models that MODELS holds already are not trained again. By default two members have six
layers and one has three: they read the same sub-tokens, so that their mean can be had, too. `"longest_piece": 4` in a
setting stands for the default encoder with a vocabulary of its own, without pieces of more characters: the same words
are other sub-tokens, so that such a member can only vote.

The member that is best on the evaluation notes is the one that all others are compared with; differences have the
interval that 95 of 100 samples of notes give.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from tokenizers import Tokenizer

from spans import Counts, counted, difference, f1, sample
from train import HELD_OUT

MEMBERS = ("{}", "{}", '{"layers": 3}')
VOTES = (0.2, 0.3, 0.4, 0.5, 0.6, "majority")


def train(place: Path, corpus: str, share: float, setting: dict[str, Any], seed: int) -> None:
    """One member, unless it is there."""
    from cardioner import LabelSet, ModelTrainer, TrainingOptions  # noqa: PLC0415 - slow

    if (place / "cardioner.json").is_file():
        return
    learned, evaluation, _ = sample(corpus, share)
    if longest := setting.pop("longest_piece", None):
        setting["model"] = with_short_pieces(place.parent / f"encoder-{longest}", longest)
    known = TrainingOptions.__dataclass_fields__
    options = {name: value for name, value in setting.items() if name in known}
    ModelTrainer(
        label2id=LabelSet.from_types([HELD_OUT[corpus][1]]).label2id,
        output_dir=place,
        use_crf=True,
        options=TrainingOptions(seed=seed, overwrite=True, **options),
        **{name: value for name, value in setting.items() if name not in known},
    ).train(learned, eval_data=evaluation)


def with_short_pieces(place: Path, longest: int) -> Path:
    """The default encoder without the pieces of its vocabulary that have more characters than this."""
    import torch  # noqa: PLC0415 - slow
    from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast  # noqa: PLC0415

    from cardioner.model_dir.encoder import default_encoder  # noqa: PLC0415

    encoder, tokenizer = (kind.from_pretrained(default_encoder()) for kind in (AutoModel, AutoTokenizer))
    pieces = sorted(tokenizer.vocab, key=tokenizer.vocab.get)
    kept = [piece for piece in pieces if piece in tokenizer.all_special_tokens or len(piece.strip("#")) <= longest]
    rows = torch.tensor([tokenizer.vocab[piece] for piece in kept])
    embeddings = torch.nn.Embedding.from_pretrained(encoder.get_input_embeddings().weight[rows], freeze=False)
    encoder.set_input_embeddings(embeddings)
    ids = {piece: number for number, piece in enumerate(kept)}
    encoder.config.vocab_size, encoder.config.pad_token_id = len(kept), ids[tokenizer.pad_token]
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    settings["model"]["vocab"] = ids
    for special in settings["added_tokens"]:
        special["id"] = ids[special["content"]]
    for special in settings["post_processor"]["special_tokens"].values():
        special["ids"] = [ids[token] for token in special["tokens"]]
    text = json.dumps(settings)
    names = {name: getattr(tokenizer, name) for name in ("pad_token", "unk_token", "cls_token", "sep_token")}
    encoder.save_pretrained(place)
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(text), **names).save_pretrained(place)
    return place


def measure(places: Sequence[Path], vote: Any, notes: Sequence[Any]) -> Counts:
    """Strict counts of models used as one, note by note."""
    from cardioner import Predictor  # noqa: PLC0415 - slow

    return counted(notes, Predictor.from_pretrained(list(places), vote=vote).predict(notes))


def main(
    models: Annotated[Path, typer.Argument(help="A folder for the members, read and added to.")],
    settings: Annotated[list[str] | None, typer.Argument(help="JSON objects, one a member.")] = None,
    corpora: Annotated[str, typer.Option(help=f"Some of {', '.join(HELD_OUT)}.")] = ",".join(HELD_OUT),
    share: Annotated[float, typer.Option(help="Share of the training notes.")] = 0.4,
) -> None:
    """Train members, and compare what they find together with what each of them finds."""
    if "CARDIONER_DATA" not in os.environ:
        raise typer.BadParameter("set CARDIONER_DATA to the folder with the corpora")
    for corpus in corpora.split(","):
        places = []
        for seed, setting in enumerate(settings or MEMBERS):
            places.append(models / f"{corpus}-{share:g}-{seed}")
            train(places[-1], corpus, share, json.loads(setting), seed)
        ways: dict[str, tuple[Sequence[Path], Any]] = {
            f"member {seed}": ([place], None) for seed, place in enumerate(places)
        }
        if len({(place / "tokenizer.json").read_bytes() for place in places}) == 1:  # else there is no such mean
            ways["mean of the emissions"] = (places, None)
        ways |= {f"vote, {vote}": (places, vote) for vote in VOTES}
        _, evaluation, test = sample(corpus, share)
        parts = {"evaluation": evaluation, "test": test}
        found = {name: {part: measure(*way, notes) for part, notes in parts.items()} for name, way in ways.items()}

        def strict(name: str, part: str, found: dict[str, dict[str, Counts]] = found) -> float:
            return float(f1(np.array(found[name][part], dtype=float).sum(0)))

        best = max((name for name in ways if name.startswith("member")), key=lambda name: strict(name, "evaluation"))
        print(f"\n{corpus}, {share:.0%} of its training notes; best on the evaluation notes: {best}")
        print("| | evaluation | test | test, from the best member |\n|---|---|---|---|")
        for name in ways:
            cell = "{:+.3f} ({:+.3f} to {:+.3f})".format(*difference([found[best]["test"]], [found[name]["test"]]))
            shown = "" if name == best else cell
            print(f"| {name} | {strict(name, 'evaluation'):.3f} | {strict(name, 'test'):.3f} | {shown} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
