"""LoRA adapters of Llama's relatives: merged as PEFT's own merge_and_unload merges them."""

import shutil

import chex
import jax
import numpy as np
import pytest

from irl_jax.models import pretrained
from irl_jax.models import trunk

pytestmark = pytest.mark.slow  # every test imports torch and PEFT

SHAPE = {
  'vocab_size': 264,
  'hidden_size': 32,
  'num_hidden_layers': 2,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'head_dim': 8,
  'intermediate_size': 48,
  'max_position_embeddings': 64,
  'bos_token_id': 0,
  'eos_token_id': 0,
  'pad_token_id': 1,
}
FAMILIES = {
  'llama': {},
  'llama, tied': {'tie_word_embeddings': True},
  'qwen2': {},  # q, k and v have biases
  'gemma2': {'query_pre_attn_scalar': 8, 'sliding_window': 4},  # tied
  'gemma3_text': {'query_pre_attn_scalar': 8, 'sliding_window': 4},
}
ADAPTERS = {
  'attention': {'target_modules': ['q_proj', 'v_proj']},
  'all linear modules, rslora': {'target_modules': 'all-linear', 'use_rslora': True},
  'patterns': {
    'target_modules': 'all-linear',
    'rank_pattern': {r'layers\.0\.self_attn\.k_proj': 2, 'down_proj': 5},
    'alpha_pattern': {'gate_proj': 3, r'^model\.layers\.1\.mlp\.up_proj': 11},
    'use_rslora': True,
  },
}
SAVED = {'target_modules': ['o_proj'], 'modules_to_save': ['lm_head', 'embed_tokens', 'norm']}
CASES = [(family, name) for family in FAMILIES for name in ADAPTERS]
CASES += [('llama', 'saved'), ('qwen2', 'saved')]


@pytest.mark.parametrize('family, name', CASES)
def test_an_adapter_is_merged_as_peft_merges_it(tmp_path, language_model, family, name):
  torch = pytest.importorskip('torch')
  peft = pytest.importorskip('peft')
  import transformers

  torch.manual_seed(0)
  config = transformers.AutoConfig.for_model(
    family.split(',')[0], **SHAPE, **FAMILIES[family], initializer_range=0.3
  )
  network = transformers.AutoModelForCausalLM.from_config(config)
  network.save_pretrained(tmp_path / 'base')
  language_model.tokenizer.save_pretrained(tmp_path / 'base')
  network = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'base')
  settings = {'task_type': 'CAUSAL_LM', 'r': 4, 'lora_alpha': 6} | (
    SAVED if name == 'saved' else ADAPTERS[name]
  )
  adapted = peft.get_peft_model(network, peft.LoraConfig(**settings))
  for parameter in adapted.parameters():
    if parameter.requires_grad:
      parameter.data += 0.1 * torch.randn_like(parameter)
  adapted.save_pretrained(tmp_path / 'adapter')
  merged = adapted.merge_and_unload()
  merged.save_pretrained(tmp_path / 'merged')
  for file in (tmp_path / 'base').glob('tokenizer*'):
    shutil.copy(file, tmp_path / 'merged')
  own = pretrained.load(str(tmp_path / 'adapter'))
  expected = pretrained.load(str(tmp_path / 'merged'))
  chex.assert_trees_all_close(own.params, expected.params, atol=1e-5)
  before = jax.tree.leaves(pretrained.load(str(tmp_path / 'base')).params)
  pairs = list(zip(before, jax.tree.leaves(own.params), strict=True))
  assert any(not np.array_equal(*pair) for pair in pairs)
  ids = torch.arange(2, 20)[None]
  with torch.no_grad():
    theirs = merged.eval()(ids).logits.numpy()
  np.testing.assert_allclose(logits(own, ids.numpy()), theirs, atol=2e-4)


def logits(model, ids):
  hidden = trunk.hidden_states(model.params, ids, np.ones(ids.shape, bool), model.config)
  return trunk.logits(model.params, hidden, model.config)
