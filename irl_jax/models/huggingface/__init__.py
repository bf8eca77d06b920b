"""Hugging Face folders and hub repositories: config.json, weights, tokenizers and model cards.

Files are read strictly, without torch, and code that comes with a model is never run.
"""

from irl_jax.models.huggingface import adapter
from irl_jax.models.huggingface import card
from irl_jax.models.huggingface import config
from irl_jax.models.huggingface import generation
from irl_jax.models.huggingface import hub
from irl_jax.models.huggingface import labels
from irl_jax.models.huggingface import notes
from irl_jax.models.huggingface import tokenizer
from irl_jax.models.huggingface import torch_bin
from irl_jax.models.huggingface import weight_files
from irl_jax.models.huggingface import weights

__all__ = (
  'adapter',
  'card',
  'config',
  'generation',
  'hub',
  'labels',
  'notes',
  'tokenizer',
  'torch_bin',
  'weight_files',
  'weights',
)
