"""Look at corpora before a model learns from them: what is there, what is malformed, and what will go wrong."""

from __future__ import annotations

from cardioner.data.quality.analysis import Request, check_corpora
from cardioner.data.quality.findings import CheckReport
from cardioner.data.quality.tokens import Tokens, words

__all__ = ["CheckReport", "Request", "Tokens", "check_corpora", "words"]
