"""Models that the original CardioNER saved, brought into the current form: the same weights, the same logits.

Such a directory has the encoder's plain `config.json` with a few extra keys, weights of the encoder named `roberta.`
whatever its family is, a head `classifier.` and perhaps the `crf.` of pytorch-crf. It is never trusted: its code is not
run, pickles of more than tensors are refused, and no model is built before all shapes are known to agree.
"""

from cardioner.interop.legacy.conversion import Upgrade, upgrade

__all__ = ["Upgrade", "upgrade"]
