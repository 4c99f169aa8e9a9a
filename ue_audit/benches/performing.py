"""Stages as they run in a process of their own; what they load is loaded with this module, before any clock runs."""

from typing import Any

from ue_audit import chain, evaluate, protect, purify, train_prior
from ue_audit.diffusion import fit
from ue_audit.learners import supervised
from ue_audit.protections import lsp
from ue_audit.purifiers import jcdp
from ue_audit.spelling import MODELS

LOADED = (evaluate, protect, purify, train_prior, fit, supervised, lsp, jcdp)


def perform(name: str, settings: dict[str, Any], device: str) -> None:
    """Run a stage; `settings` are plain values."""
    asked: Any = MODELS[name].model_validate(settings | {"device": device})
    chain.perform(chain.Step(name, asked))
