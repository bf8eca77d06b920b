"""Encoder classifiers: RoBERTa, XLM-RoBERTa, BERT and DistilBERT, as one Linen module.

They differ in three switches of the config: where positions start, whether tokens have a segment,
and the activation in the head. Parameters are nested and named as RoBERTa's; the names of the
other families' files are in huggingface/weights.py.

Dims: B batch, S positions (right-padded), H heads, E head size, D width, F feed-forward, C labels.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Literal

import chex
from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from irl_jax.models import cpu
from irl_jax.models import layers
from irl_jax.runtime import sharding

Params = layers.Params


Family = Literal['roberta', 'xlm-roberta', 'bert', 'distilbert']  # model_type in config.json
# Positions are counted from behind the padding's own, which old fairseq code kept free.
_AFTER_PADDING = ('roberta', 'xlm-roberta')


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
  """Shape of a classifier, under the names of RoBERTa's and BERT's Hugging Face config."""

  vocab_size: int
  hidden_size: int
  num_hidden_layers: int
  num_attention_heads: int
  intermediate_size: int
  # RoBERTa: pad_token_id + 1 more than the longest text; BERT and DistilBERT: the longest text
  max_position_embeddings: int = 514
  type_vocab_size: int = 1  # segments; 0: tokens have none (DistilBERT)
  layer_norm_eps: float = 1e-5
  hidden_act: str = 'gelu'
  initializer_range: float = 0.02
  pad_token_id: int = 1
  bos_token_id: int = 0  # this and the next: of RoBERTa; BERT's [CLS] and [SEP] are not read here
  eos_token_id: int = 2
  labels: tuple[str, ...] = ('LABEL_0', 'LABEL_1')  # id2label, in the order of the logits
  family: Family = 'roberta'

  @property
  def block_states(self) -> int:
    """The numbers of each token that the gradient of one block needs, as XLA keeps them on a CPU.

    tests/stages/test_memory.py compares the sum with the compiler's own number.
    """
    return 9 * self.hidden_size + 2 * self.intermediate_size

  @property
  def matmul_states(self) -> int:
    """The numbers of each token that a block's input and the results of its matmuls take."""
    return 7 * self.hidden_size + self.intermediate_size

  @property
  def num_labels(self) -> int:
    """Number of labels, C."""
    return len(self.labels)

  @property
  def first_position(self) -> int:
    """Row of the position embeddings that the first token reads."""
    return self.pad_token_id + 1 if self.family in _AFTER_PADDING else 0

  @property
  def max_tokens(self) -> int:
    """Tokens of the longest text, those around it (<s> and </s>) included."""
    return self.max_position_embeddings - self.first_position

  @property
  def head_act(self) -> Callable[[jax.Array], jax.Array]:
    """Activation between the two layers of the head."""
    return jax.nn.relu if self.family == 'distilbert' else jnp.tanh


def _norm(config: EncoderConfig, dtype: DTypeLike) -> nn.LayerNorm:
  # Flax computes mean and variance in float32 for every dtype.
  return nn.LayerNorm(
    epsilon=config.layer_norm_eps, dtype=dtype, use_fast_variance=False, name='LayerNorm'
  )


def _dense(config: EncoderConfig, dtype: DTypeLike) -> Callable[..., nn.Module]:
  return functools.partial(
    nn.Dense, dtype=dtype, kernel_init=nn.initializers.normal(config.initializer_range)
  )


class Embeddings(nn.Module):
  """Word, position and segment embeddings, normalised; every token is in segment 0."""

  config: EncoderConfig
  dtype: DTypeLike

  @nn.compact
  def __call__(self, ids: jax.Array) -> jax.Array:
    """Returns the embeddings [B, S, D] of ids [B, S]."""
    config = self.config
    embed = functools.partial(
      nn.Embed,
      features=config.hidden_size,
      dtype=self.dtype,
      embedding_init=nn.initializers.normal(config.initializer_range),
    )
    positions = config.first_position + jnp.arange(ids.shape[1])
    hidden = embed(config.vocab_size, name='word_embeddings')(ids)  # [B, S, D]
    if config.type_vocab_size:
      hidden += embed(config.type_vocab_size, name='token_type_embeddings')(jnp.zeros_like(ids))
    hidden += embed(config.max_position_embeddings, name='position_embeddings')(positions)[None]
    return _norm(config, self.dtype)(hidden)


class SelfAttention(nn.Module):
  """Attention of every position to every valid one."""

  config: EncoderConfig
  dtype: DTypeLike

  @nn.compact
  def __call__(self, hidden: jax.Array, valid: jax.Array) -> jax.Array:
    """Returns the mixed values [B, S, D]."""
    dense = _dense(self.config, self.dtype)
    project = lambda name: cpu.on_tokens(dense(self.config.hidden_size, name=name), hidden)
    query, key, value = (
      layers.split_heads(project(name), self.config.num_attention_heads)
      for name in ('query', 'key', 'value')
    )  # [B, H, S, E]
    return layers.merge_heads(layers.attend(query, key, value, valid[:, None, None]))


class Output(nn.Module):
  """Dense layer back to the residual stream, added to it and normalised."""

  config: EncoderConfig
  dtype: DTypeLike

  @nn.compact
  def __call__(self, inner: jax.Array, residual: jax.Array) -> jax.Array:
    """Returns the new residual stream [B, S, D]; inner is [B, S, D] or [B, S, F]."""
    dense = _dense(self.config, self.dtype)
    hidden = cpu.on_tokens(dense(self.config.hidden_size, name='dense'), inner)
    return _norm(self.config, self.dtype)(hidden + residual)


class Attention(nn.Module):
  """Self-attention and its output layer."""

  config: EncoderConfig
  dtype: DTypeLike

  @nn.compact
  def __call__(self, hidden: jax.Array, valid: jax.Array) -> jax.Array:
    """Returns the new residual stream [B, S, D]."""
    mixed = SelfAttention(self.config, self.dtype, name='self')(hidden, valid)
    return Output(self.config, self.dtype, name='output')(mixed, hidden)


class Intermediate(nn.Module):
  """Dense layer and the exact (erf) GELU."""

  config: EncoderConfig
  dtype: DTypeLike

  @nn.compact
  def __call__(self, hidden: jax.Array) -> jax.Array:
    """Returns the activations [B, S, F]."""
    dense = _dense(self.config, self.dtype)
    inner = cpu.on_tokens(dense(self.config.intermediate_size, name='dense'), hidden)
    return jax.nn.gelu(inner, approximate=False)


class Block(nn.Module):
  """One layer: attention, then the feed-forward network; each is added and then normalised."""

  config: EncoderConfig
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, hidden: jax.Array, valid: jax.Array) -> jax.Array:
    """Returns the new hidden state [B, S, D]."""
    hidden = Attention(self.config, self.dtype, name='attention')(hidden, valid)
    inner = Intermediate(self.config, self.dtype, name='intermediate')(hidden)
    return Output(self.config, self.dtype, name='output')(inner, hidden)


class Classifier(nn.Module):
  """Two dense layers over the state of the first token, in float32.

  BERT calls the first one its pooler, and DistilBERT its pre_classifier. In bfloat16 a reward of 5
  would be rounded to steps of .03.
  """

  config: EncoderConfig

  @nn.compact
  def __call__(self, first: jax.Array) -> jax.Array:
    """Returns logits [B, C] of the first tokens' states [B, D]."""
    dense = _dense(self.config, jnp.float32)
    hidden = self.config.head_act(dense(self.config.hidden_size, name='dense')(first))
    return dense(self.config.num_labels, name='out_proj')(hidden)


@functools.partial(jax.jit, static_argnames='config')
def init(key: jax.Array, config: EncoderConfig) -> Params:
  """Draws random parameters, float32; those of the blocks are stacked on a layer axis [L, ...]."""
  embed_key, block_key, head_key = jax.random.split(key, 3)
  ids = jnp.zeros((1, 1), jnp.int32)
  hidden, valid = jnp.zeros((1, 1, config.hidden_size)), jnp.ones((1, 1), bool)
  init_block = lambda k: layers.init(Block(config), k, hidden, valid)
  return {
    'embeddings': layers.init(Embeddings(config, jnp.float32), embed_key, ids),
    'blocks': jax.vmap(init_block)(jax.random.split(block_key, config.num_hidden_layers)),
    'classifier': layers.init(Classifier(config), head_key, hidden[:, 0]),
  }


def classify(
  params: Params,
  ids: jax.Array,
  valid: jax.Array,
  config: EncoderConfig,
  dtype: DTypeLike = jnp.float32,
  rematerialise: bool = False,
) -> jax.Array:
  """Returns the logits of whole texts.

  The softmax, the layer norms' statistics and the result are float32 in every dtype.

  Args:
    params: the parameters, as `init` returns them.
    ids: [B, S] token ids, <s> or [CLS] first, right-padded; S <= config.max_tokens.
    valid: [B, S] bool, False at padding.
    config: the model's shape.
    dtype: the compute type.
    rematerialise: keep only each block's input for the backward pass.

  Returns:
    logits [B, C], float32.

  Raises:
    ValueError: the model has fewer than S positions.
  """
  chex.assert_rank([ids, valid], 2)
  chex.assert_equal_shape([ids, valid])
  if ids.shape[1] > config.max_tokens:
    raise ValueError(
      f'a row has {ids.shape[1]} tokens, but this {config.family} reads at most {config.max_tokens}'
    )
  embed = functools.partial(layers.apply, Embeddings(config, dtype))
  hidden = sharding.over_rows(embed, params['embeddings'], ids)
  block = Block(config, dtype)
  run = lambda hidden, params, valid: (layers.apply(block, params, hidden, valid), None)
  hidden, _ = layers.scan_layers(run, hidden, params['blocks'], rematerialise, valid)
  head = functools.partial(layers.apply, Classifier(config))
  return sharding.over_rows(head, params['classifier'], hidden[:, 0])
