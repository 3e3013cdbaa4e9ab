"""The multiclass tagger. Importing it lets transformers' Auto classes load its directories without remote code."""

from __future__ import annotations

from transformers import AutoConfig, AutoModelForTokenClassification

from cardioner.multiclass.modeling import CardioNERConfig, TokenClassificationModel, TokenClassificationModelCRF

__all__ = ["CardioNERConfig", "TokenClassificationModel", "TokenClassificationModelCRF"]

AutoConfig.register(CardioNERConfig.model_type, CardioNERConfig, exist_ok=True)
# One tuple, from which config.architectures picks: a second call of register would replace the first.
AutoModelForTokenClassification.register(
    CardioNERConfig,
    (TokenClassificationModel, TokenClassificationModelCRF),
    exist_ok=True,
)
