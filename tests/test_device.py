"""Computations that differ between an accelerator and a CPU; benchmarks/device.sh runs these tests.

It runs all tests with the mark `device`. The others compare with transformers, check that PPO
checks itself in bfloat16, and that an interrupted training continues as if nothing had happened.
"""

import string

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from irl_jax import config as c
from irl_jax.data.playground import tokenizers
from irl_jax.models import gpt_neox
from irl_jax.models import pretrained
from irl_jax.models import trunk
from irl_jax.ppo import loop

pytestmark = [pytest.mark.device, pytest.mark.slow]

SHAPES = {
  'toy': gpt_neox.GPTNeoXConfig(264, 32, 4, 2, 64),
  '70m': gpt_neox.GPTNeoXConfig(50304, 512, 6, 8, 2048),
  '410m': gpt_neox.GPTNeoXConfig(50304, 1024, 24, 16, 4096),
}
LENGTHS = {'toy': (24, 8), '70m': (384, 128), '410m': (384, 128)}  # tokens of prompt and response


def require_accelerator():
  if jax.default_backend() == 'cpu':
    pytest.skip('this takes an accelerator')


def random_policy(size):
  """Returns a policy whose logits differ by a few nats, with a token for each letter."""
  init = jax.jit(trunk.init, static_argnums=1)
  params = jax.tree.map(np.array, init(jax.random.key(0), SHAPES[size]))
  params['embed_out']['embedding'] *= 10
  words = tokenizers.language_model_tokenizer([])
  return pretrained.Pretrained('causal_lm', SHAPES[size], params, words, source='random weights')


@pytest.mark.parametrize('size', SHAPES)
def test_the_self_check_of_ppo_passes_in_bfloat16_at_the_papers_lengths(size, tmp_path):
  if size != 'toy':
    require_accelerator()
  longest, new = LENGTHS[size]
  rng = np.random.default_rng(0)
  prompts = [''.join(rng.choice([*string.ascii_letters], length)) for length in (longest, 9, 20)]
  config = c.Config(
    data=c.Data(max_prompt_tokens=longest),
    sampling=c.Sampling(max_new_tokens=new, min_new_tokens=new // 2, top_k=30),
    ppo=c.PPO(steps=1, rollouts_per_step=16, minibatch_size=8, epochs=1, trained_blocks=3),
  )
  log, rows = {}, [{'prompt': prompt, 'original': ''} for prompt in prompts]
  options = dict(dtype=jnp.bfloat16, log=log.__setitem__)
  reward = lambda texts: np.array([len(set(text)) for text in texts], np.float32)
  loop.train(random_policy(size), rows, reward, config, tmp_path, **options)
  assert list(log) == [0] and abs(log[0]['objective/kl']) < 0.05 * new


@pytest.mark.parametrize('size', SHAPES)
def test_log_probs_in_float32_are_those_of_a_cpu_without_tf32(size):
  require_accelerator()
  params, config = random_policy(size).params, SHAPES[size]
  tokens = sum(LENGTHS[size])
  ids = np.random.default_rng(0).integers(2, 264, (2, tokens)).astype(np.int32)
  valid = np.ones_like(ids, bool)

  @jax.jit
  def log_probs(params):
    hidden = trunk.hidden_states(params, ids, valid, config, jnp.float32)
    return jax.nn.log_softmax(trunk.logits(params, hidden, config)[..., :264])

  with jax.default_matmul_precision('highest'):
    found = np.array(log_probs(params))
  with jax.default_device(jax.devices('cpu')[0]):
    expected = np.array(log_probs(params))
  np.testing.assert_allclose(found, expected, atol=1e-3, rtol=0)
