"""RoBERTa sequence classifier: Linen modules nested and named as in its checkpoints, and one function that scores.

Dims: B batch, S positions (right-padded), H heads, E head size, D width, F feed-forward, L layers, C labels.
"""

import dataclasses
import functools
from typing import Any

import chex
from flax import linen as nn
import jax
import jax.numpy as jnp

from irl_jax.models import gpt_neox

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class RobertaConfig:
  """Shape of a RoBERTa classifier, under the names of its Hugging Face config."""

  vocab_size: int
  hidden_size: int
  num_hidden_layers: int
  num_attention_heads: int
  intermediate_size: int
  max_position_embeddings: int = 514  # pad_token_id + 1 more than the longest text
  type_vocab_size: int = 1
  layer_norm_eps: float = 1e-5
  hidden_act: str = 'gelu'
  initializer_range: float = 0.02
  pad_token_id: int = 1
  bos_token_id: int = 0
  eos_token_id: int = 2
  labels: tuple[str, ...] = ('LABEL_0', 'LABEL_1')  # id2label, in the order of the logits

  @property
  def num_labels(self) -> int:
    return len(self.labels)

  @property
  def max_tokens(self) -> int:
    """The longest text in tokens, <s> and </s> among them."""
    return self.max_position_embeddings - self.pad_token_id - 1


def _norm(config, dtype):
  # Flax takes mean and variance in float32 whatever the dtype.
  return nn.LayerNorm(
    epsilon=config.layer_norm_eps, dtype=dtype, use_fast_variance=False, name='LayerNorm'
  )


def _dense(config, dtype):
  return functools.partial(
    nn.Dense, dtype=dtype, kernel_init=nn.initializers.normal(config.initializer_range)
  )


class Embeddings(nn.Module):
  """Word, position and segment embeddings, normalised; every token is in segment 0."""

  config: RobertaConfig
  dtype: Any

  @nn.compact
  def __call__(self, ids):
    config = self.config
    embed = functools.partial(
      nn.Embed,
      features=config.hidden_size,
      dtype=self.dtype,
      embedding_init=nn.initializers.normal(config.initializer_range),
    )
    positions = config.pad_token_id + 1 + jnp.arange(ids.shape[1])
    hidden = embed(config.vocab_size, name='word_embeddings')(ids)  # [B, S, D]
    hidden += embed(config.type_vocab_size, name='token_type_embeddings')(jnp.zeros_like(ids))
    hidden += embed(config.max_position_embeddings, name='position_embeddings')(positions)[None]
    return _norm(config, self.dtype)(hidden)


class SelfAttention(nn.Module):
  """Every position attends to every valid one."""

  config: RobertaConfig
  dtype: Any

  @nn.compact
  def __call__(self, hidden, valid):
    batch, length, width = hidden.shape
    dense = _dense(self.config, self.dtype)
    split = lambda x: x.reshape(batch, length, self.config.num_attention_heads, -1).transpose(
      0, 2, 1, 3
    )
    query, key, value = (
      split(gpt_neox.on_tokens(dense(width, name=name), hidden))
      for name in ('query', 'key', 'value')
    )  # [B, H, S, E]
    mixed = gpt_neox.attend(query, key, value, valid[:, None, None])
    return mixed.transpose(0, 2, 1, 3).reshape(batch, length, width)


class Output(nn.Module):
  """Dense layer back to the residual stream, added to it and normalised."""

  config: RobertaConfig
  dtype: Any

  @nn.compact
  def __call__(self, inner, residual):
    hidden = gpt_neox.on_tokens(
      _dense(self.config, self.dtype)(self.config.hidden_size, name='dense'), inner
    )
    return _norm(self.config, self.dtype)(hidden + residual)


class Attention(nn.Module):
  """Self-attention and its output layer."""

  config: RobertaConfig
  dtype: Any

  @nn.compact
  def __call__(self, hidden, valid):
    mixed = SelfAttention(self.config, self.dtype, name='self')(hidden, valid)
    return Output(self.config, self.dtype, name='output')(mixed, hidden)


class Intermediate(nn.Module):
  """Dense layer and the exact (erf) GELU."""

  config: RobertaConfig
  dtype: Any

  @nn.compact
  def __call__(self, hidden):
    inner = gpt_neox.on_tokens(
      _dense(self.config, self.dtype)(self.config.intermediate_size, name='dense'), hidden
    )
    return jax.nn.gelu(inner, approximate=False)


class Block(nn.Module):
  """One layer: attention, then the feed-forward network, each normalised after it is added."""

  config: RobertaConfig
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, hidden, valid):
    hidden = Attention(self.config, self.dtype, name='attention')(hidden, valid)
    inner = Intermediate(self.config, self.dtype, name='intermediate')(hidden)
    return Output(self.config, self.dtype, name='output')(inner, hidden)


class Classifier(nn.Module):
  """Two dense layers over the state of <s>, in float32: bfloat16 would round a reward of 5 to steps of .03."""

  config: RobertaConfig

  @nn.compact
  def __call__(self, first):
    dense = _dense(self.config, jnp.float32)
    hidden = jnp.tanh(dense(self.config.hidden_size, name='dense')(first))
    return dense(self.config.num_labels, name='out_proj')(hidden)


@functools.partial(jax.jit, static_argnames='config')
def init(key: jax.Array, config: RobertaConfig) -> Params:
  """Random parameters, float32; every leaf under 'blocks' has a leading layer axis [L, ...]."""
  embed_key, block_key, head_key = jax.random.split(key, 3)
  hidden, valid = jnp.zeros((1, 1, config.hidden_size)), jnp.ones((1, 1), bool)
  init_block = lambda k: Block(config).init(k, hidden, valid)['params']
  return {
    'embeddings': Embeddings(config, jnp.float32).init(embed_key, jnp.zeros((1, 1), jnp.int32))[
      'params'
    ],
    'blocks': jax.vmap(init_block)(jax.random.split(block_key, config.num_hidden_layers)),
    'classifier': Classifier(config).init(head_key, hidden[:, 0])['params'],
  }


def classify(
  params: Params,
  ids: jax.Array,
  valid: jax.Array,
  config: RobertaConfig,
  dtype: Any = jnp.float32,
  rematerialise: bool = False,
) -> jax.Array:
  """Logits of whole texts; softmax, layer norms' statistics and the result are float32 in every dtype.

  Args:
    params: as `init` returns them.
    ids: [B, S] token ids, <s> first, right-padded; S <= config.max_tokens.
    valid: [B, S] bool, False at padding.
    config: the model's shape.
    dtype: of the computation.
    rematerialise: keep nothing of a block but its input for the backward pass.

  Returns:
    logits [B, C], float32.

  Raises:
    ValueError: S is more than the model has positions for.
  """
  chex.assert_rank([ids, valid], 2)
  chex.assert_equal_shape([ids, valid])
  if ids.shape[1] > config.max_tokens:
    raise ValueError(
      f'{ids.shape[1]} tokens in a row: this RoBERTa reads at most {config.max_tokens}'
    )
  hidden = Embeddings(config, dtype).apply({'params': params['embeddings']}, ids)
  block = Block(config, dtype)
  run = lambda hidden, params: (block.apply({'params': params}, hidden, valid), None)
  hidden, _ = gpt_neox.scan_layers(run, hidden, params['blocks'], rematerialise)
  return Classifier(config).apply({'params': params['classifier']}, hidden[:, 0])
