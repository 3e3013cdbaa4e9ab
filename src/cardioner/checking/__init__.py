"""Look at corpora before a model learns from them: what is there, what is malformed, and what will go wrong."""

from __future__ import annotations

from cardioner.checking.analysis import Request, check_corpora
from cardioner.checking.findings import CheckReport
from cardioner.checking.tokens import Tokens, sub_tokens, words

__all__ = ["CheckReport", "Request", "Tokens", "check_corpora", "sub_tokens", "words"]
