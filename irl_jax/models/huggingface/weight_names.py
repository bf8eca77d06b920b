"""The names of every family's weights in Hugging Face's files.

Our trees of parameters are nested as Hugging Face's modules are, so that a name follows from a
path. What differs is the name of a top-level module, and of the few modules with another path.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import re

from irl_jax.models.huggingface import llama_families


@dataclasses.dataclass(frozen=True)
class Names:
  """Names of a family's modules in weight files."""

  roots: Mapping[str, str]  # of the top-level modules, by our names
  layers: str  # of the layers, without their number
  # What files may contain although no model needs it: buffers, or modules that we do not use
  unused: re.Pattern[str]
  aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)  # other names of weights
  wrappers: frozenset[str] = frozenset()  # modules that may be around ours
  # Modules whose path is not ours: by our path, of those in a layer without the layer
  modules: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def module(self, root: str, path: Sequence[str], layer: int | None) -> str:
    """Returns the name of a module, by its path in our tree of parameters."""
    if layer is not None:
      inner = '.'.join(path)
      return f'{self.layers}.{layer}.{self.modules.get(inner, inner)}'
    return self.modules.get('.'.join([root, *path])) or '.'.join([self.roots[root], *path])

  def weight(self, root: str) -> str:
    """Returns the name of the weight of a top-level module, or '' if the family has none."""
    return f'{self.roots[root]}.weight' if root in self.roots else ''


_ROBERTA = Names(
  {'embeddings': 'roberta.embeddings', 'classifier': 'classifier'},
  layers='roberta.encoder.layer',
  unused=re.compile(r'roberta\.(embeddings\.(position_ids|token_type_ids)|pooler\..*)'),
)
_LLAMA = Names(
  {
    'embed_in': 'model.embed_tokens',
    'final_layer_norm': 'model.norm',
    'embed_out': 'lm_head',
    'score': 'score',
  },
  layers='model.layers',
  unused=re.compile(r'(.*\.)?rotary_emb\.inv_freq'),
)
NAMES = {  # by model_type
  **dict.fromkeys(llama_families.MODEL_TYPES, _LLAMA),
  'gemma3_text': dataclasses.replace(  # it may be a part of a model that also sees images
    _LLAMA,
    unused=re.compile(r'(.*\.)?(rotary_emb\.\w+|vision_tower\..*|multi_modal_projector\..*)'),
    wrappers=frozenset({'language_model'}),
  ),
  'gpt_neox': Names(
    {
      'embed_in': 'gpt_neox.embed_in',
      'final_layer_norm': 'gpt_neox.final_layer_norm',
      'embed_out': 'embed_out',
      'score': 'score',
    },
    layers='gpt_neox.layers',
    unused=re.compile(r'(.*\.)?(attention\.(bias|masked_bias)|rotary_emb\.inv_freq)'),
    aliases={'lm_head.weight': 'embed_out.weight'},  # transformers 5's name in memory
  ),
  'roberta': _ROBERTA,
  'xlm-roberta': _ROBERTA,
  'bert': Names(
    {'embeddings': 'bert.embeddings'},
    layers='bert.encoder.layer',
    unused=re.compile(r'bert\.embeddings\.(position_ids|token_type_ids)'),
    modules={'classifier.dense': 'bert.pooler.dense', 'classifier.out_proj': 'classifier'},
  ),
  'distilbert': Names(
    {'embeddings': 'distilbert.embeddings'},
    layers='distilbert.transformer.layer',
    unused=re.compile(r'distilbert\.embeddings\.position_ids'),
    modules={
      'classifier.dense': 'pre_classifier',
      'classifier.out_proj': 'classifier',
      'attention.self.query': 'attention.q_lin',
      'attention.self.key': 'attention.k_lin',
      'attention.self.value': 'attention.v_lin',
      'attention.output.dense': 'attention.out_lin',
      'attention.output.LayerNorm': 'sa_layer_norm',
      'intermediate.dense': 'ffn.lin1',
      'output.dense': 'ffn.lin2',
      'output.LayerNorm': 'output_layer_norm',
    },
  ),
}
