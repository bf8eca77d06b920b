"""The shape of Llama and its relatives: every difference between the families is a field.

Dims: D width, H query heads, N key and value heads, E head size, L layers, V vocabulary.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Rope:
  """Rotary positions of a layer: the wave lengths, and how they are stretched for long texts."""

  theta: float = 10000.0
  kind: str = 'default'  # 'default' | 'linear' (every angle / factor) | 'llama3'
  factor: float = 1.0  # of 'linear' and 'llama3'
  low_freq_factor: float = 1.0  # of 'llama3', as the two below
  high_freq_factor: float = 4.0
  original_max_position_embeddings: int = 8192


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
  """Shape of a model of the Llama kind. Every difference between the families is a field.

  Parameters, named after Hugging Face's modules. Kernels are [in, out], as everywhere in irl_jax:

    embed_in/embedding [V, D]                        model.embed_tokens.weight
    blocks/ (each stacked on [L, ...])               model.layers.<layer>.
      self_attn/{q,k,v,o}_proj/kernel                bias where qkv_bias, o_bias
      self_attn/{q,k}_norm/scale                     where qk_norm: [E] ('head'), [H E], [N E]
      mlp/{gate,up,down}_proj/kernel                 bias where mlp_bias
      input_layernorm/scale [D]                      not with norm_placement 'post'
      post_attention_layernorm/scale [D]
      pre_feedforward_layernorm/scale [D]            only with 'sandwich'
      post_feedforward_layernorm/scale [D]           only with 'post' and 'sandwich'
    final_layer_norm/scale [D]                       model.norm.weight
    embed_out/embedding [V, D]                       lm_head.weight, unless tied
    score/kernel [D, 1]                              score.weight, of a reward
    score/bias [1]                                   minus config.json's reward_zero, of a reward

  A scale is stored as in the file, even if the norm multiplies by 1 + scale.
  """

  vocab_size: int
  hidden_size: int
  num_hidden_layers: int
  num_attention_heads: int
  num_key_value_heads: int
  head_dim: int
  intermediate_size: int
  model_type: str = 'llama'  # Hugging Face's: llama mistral qwen2 qwen3 olmo2 gemma2 gemma3_text
  max_position_embeddings: int = 2048
  hidden_act: str = 'silu'  # 'silu' | 'gelu_pytorch_tanh'
  qkv_bias: bool = False
  o_bias: bool = False
  mlp_bias: bool = False
  rms_norm_eps: float = 1e-6
  # Where a layer's norms are: 'pre' x + f(N(x)); 'post' x + N(f(x)); 'sandwich' x + N(f(N(x))).
  norm_placement: str = 'pre'
  # 'cast' multiplies in the type of the computation (llama); 'float32' before the cast (olmo2);
  # 'one_plus' also in float32, by 1 + scale (gemma).
  norm_weight: str = 'cast'
  qk_norm: str = 'none'  # 'head' after the split into heads | 'projection' before it | 'none'
  query_pre_attn_scalar: float | None = None  # scores are divided by its root; None: head_dim
  rope: Rope = Rope()
  local_rope: Rope | None = None  # of the layers that slide; None: as the others
  sliding_window: int | None = None  # positions that a sliding layer sees, its own among them
  sliding_layers: tuple[bool, ...] = ()  # which layers slide, [L]; (): none
  attn_logit_softcapping: float | None = None  # transformers 5 applies it in gemma2, not in gemma3
  final_logit_softcapping: float | None = None
  scale_embedding: bool = False  # multiply embeddings by sqrt(D), rounded to their type (gemma)
  tie_word_embeddings: bool = False
  initializer_range: float = 0.02
  bos_token_id: int | None = None
  eos_token_ids: tuple[int, ...] = (0,)  # any of them ends a response; the first pads and starts
  pad_token_id: int | None = None

  @property
  def eos_token_id(self) -> int:
    """The EOS that starts and pads a text: the first."""
    return self.eos_token_ids[0]

  @property
  def key_value_size(self) -> int:
    """The numbers of a token's keys in one layer, and of its values."""
    return self.num_key_value_heads * self.head_dim

  @property
  def block_states(self) -> int:
    """The numbers of each token that the gradient of one block needs, as XLA keeps them on a CPU.

    tests/stages/test_memory.py compares the sum with the compiler's own number.
    """
    states = 16 if self.norm_placement == 'sandwich' else 10
    projected = 1.5 if self.qk_norm == 'none' else 2.5
    queries_and_keys = self.num_attention_heads * self.head_dim + self.key_value_size
    widths = states * self.hidden_size + 2 * self.intermediate_size
    return widths + round(projected * queries_and_keys)

  @property
  def matmul_states(self) -> int:
    """The numbers of each token that a block's input and the results of its matmuls take."""
    widths = 3 if self.norm_placement == 'sandwich' else 2
    queries = self.num_attention_heads * self.head_dim
    attention = 2 * queries + 2 * self.key_value_size
    return widths * self.hidden_size + attention + 2 * self.intermediate_size

  @property
  def embedding_scale(self) -> float | None:
    """The factor of the embeddings, or None."""
    return self.hidden_size**0.5 if self.scale_embedding else None

  @property
  def slides(self) -> tuple[bool, ...]:
    """For each layer, True if its attention window slides [L]."""
    return self.sliding_layers or (False,) * self.num_hidden_layers
