"""Settings and fixtures of all tests: four CPU devices, strict broadcasting, no network.

Most of a test's time is compilation, and much of that is optimisation. Tests switch it off. The
commands that they start do not: these run as they do for a user. All processes of a test run share
one compilation cache, which is removed at its end.
"""

import copy
import dataclasses
import os
import tempfile

FLAGS = '--xla_force_host_platform_device_count=4'
QUICK = '--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false'
os.environ['XLA_FLAGS'] = f'{FLAGS} {QUICK}'
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['HF_HUB_OFFLINE'] = '1'
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:  # the processes of pytest-xdist inherit it
  CACHE = tempfile.TemporaryDirectory(prefix='irl_jax_tests_')
  os.environ['JAX_COMPILATION_CACHE_DIR'] = CACHE.name
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')

import pathlib  # noqa: E402

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tokenizers  # noqa: E402
import transformers  # noqa: E402

from irl_jax.models import encoder  # noqa: E402
from irl_jax.models import gpt_neox  # noqa: E402
from irl_jax.models import llama  # noqa: E402
from irl_jax.models import pretrained  # noqa: E402
from irl_jax.models import trunk  # noqa: E402
from irl_jax.models.llama_config import Rope  # noqa: E402
from irl_jax.runtime import notices  # noqa: E402

jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.devices()  # reads XLA_FLAGS; from here on it is that of the commands that tests start
os.environ['XLA_FLAGS'] = FLAGS

MOST_MAPS = 25_000  # memory maps with which a process may begin another file
LONGEST = (
  'distributed/test_faults.py',
  'faults/test_kills.py',
  'test_pipeline.py',
  'benchmarks/test_speed.py',
)

# Ġ is a space. The last letters spell "Hello world", which checks a tokenizer, and its EOS.
ALPHABET = 'ĠabcdefghijklmnopqrstuvwxH<|>/'
CHAT_TEMPLATE = (
  "{% for m in messages %}{{ '<|im_start|>' + m['content'] + '<|im_end|>' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>a' }}{% endif %}"
)


def pytest_configure(config):
  """Makes pytest-xdist keep the order of `pytest_collection_modifyitems`."""
  config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
  """Runs the longest files first; at the end, one process would wait for the other."""
  order = {str(pathlib.Path(__file__).parent / name): number for number, name in enumerate(LONGEST)}
  items.sort(key=lambda item: order.get(str(item.path), len(order)))


@pytest.fixture(scope='module', autouse=True)
def forget_programs():
  """Frees what the tests of some files have compiled.

  Compiled programs take memory maps, of which Linux allows a process 65,530. `test_supervised.py`
  alone takes 8,000, and a process that had run most files once ended in a segmentation fault.
  """
  yield
  if pathlib.Path('/proc/self/maps').read_bytes().count(b'\n') > MOST_MAPS:
    jax.clear_caches()


@pytest.fixture(autouse=True)
def forget_notices():
  """Lets every test see the warnings that a process gives once."""
  notices.warn_once.cache_clear()


def perturbed(params):
  """Returns parameters with noise on every leaf, so that biases and norms matter."""
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda leaf: np.asarray(leaf + rng.normal(0, 0.3, leaf.shape), np.float32),
    jax.device_get(params),
  )


@pytest.fixture(scope='session')
def shared() -> pathlib.Path:
  """The folder of real texts, tokenizers and checkpoints, next to the repository."""
  folder = pathlib.Path(__file__).parents[2] / 'shared'
  if not folder.is_dir():
    pytest.skip(f'{folder} does not exist: it has the real texts and checkpoints')
  return folder


@pytest.fixture(scope='session')
def letters() -> transformers.PreTrainedTokenizerFast:
  """A tokenizer of 32 ids: 0 is EOS, 1 is padding, and one per letter of a small alphabet.

  Other letters are dropped.
  """
  vocabulary = {
    token: number for number, token in enumerate(['<|endoftext|>', '<|padding|>', *ALPHABET])
  }
  backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
  backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  backend.decoder = tokenizers.decoders.ByteLevel()
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=backend,
    bos_token='<|endoftext|>',
    eos_token='<|endoftext|>',
    pad_token='<|padding|>',
  )


@pytest.fixture(scope='session')
def policy(letters) -> pretrained.Pretrained:
  """A language model of 3 layers over letters, with 4 ids that its tokenizer lacks.

  Every parameter is random.
  """
  config = gpt_neox.GPTNeoXConfig(
    vocab_size=36,
    hidden_size=16,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=64,
  )
  params = perturbed(trunk.init(jax.random.key(0), config))
  return pretrained.Pretrained('causal_lm', config, params, letters, source='the tiny policy')


# Settings of two relatives of Llama: one with few switches, and one with almost all of them.
RELATIVES = {
  'llama': {'num_key_value_heads': 1, 'rms_norm_eps': 1e-5},
  'gemma3_text': {
    'num_key_value_heads': 2,
    'hidden_act': 'gelu_pytorch_tanh',
    'norm_placement': 'sandwich',
    'norm_weight': 'one_plus',
    'qk_norm': 'head',
    'query_pre_attn_scalar': 12.0,
    'rope': Rope(1000.0, 'linear', 2.0),
    'local_rope': Rope(50.0),
    'sliding_window': 4,
    'sliding_layers': (True, False, True),
    'final_logit_softcapping': 20.0,
    'scale_embedding': True,
    'tie_word_embeddings': True,
  },
}


@pytest.fixture(
  scope='session',
  params=['gpt_neox', *(pytest.param(name, marks=pytest.mark.slow) for name in RELATIVES)],
)
def any_policy(request, policy, letters) -> pretrained.Pretrained:
  """The policy, and language models of its size from the other families of decoders."""
  if request.param == 'gpt_neox':
    return policy
  config = llama.LlamaConfig(
    model_type=request.param,
    vocab_size=36,
    hidden_size=16,
    num_hidden_layers=3,
    num_attention_heads=2,
    head_dim=8,
    intermediate_size=32,
    max_position_embeddings=64,
    bos_token_id=0,
    pad_token_id=1,
    **RELATIVES[request.param],
  )
  params = perturbed(trunk.init(jax.random.key(0), config))
  return pretrained.Pretrained('causal_lm', config, params, letters, source='a tiny relative')


@pytest.fixture(scope='session')
def classifier() -> pretrained.Pretrained:
  """A toxicity classifier of 2 layers over letters that reads at most 50 tokens.

  Every parameter is random.
  """
  specials = ['<s>', '<pad>', '</s>', '<unk>']
  vocabulary = {token: number for number, token in enumerate([*specials, *ALPHABET])}
  backend = tokenizers.Tokenizer(
    tokenizers.models.BPE(vocab=vocabulary, merges=[], unk_token='<unk>')
  )
  backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  backend.decoder = tokenizers.decoders.ByteLevel()
  backend.post_processor = tokenizers.processors.TemplateProcessing(
    single='<s> $A </s>', special_tokens=[('<s>', 0), ('</s>', 2)]
  )
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=backend,
    bos_token='<s>',
    cls_token='<s>',
    eos_token='</s>',
    sep_token='</s>',
    pad_token='<pad>',
    unk_token='<unk>',
  )
  config = encoder.EncoderConfig(
    vocab_size=36,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=52,
    labels=('neutral', 'toxic'),
  )
  return pretrained.Pretrained(
    'classifier',
    config,
    perturbed(encoder.init(jax.random.key(0), config)),
    tokenizer,
    source='the tiny classifier',
  )


def favouring(model: pretrained.Pretrained, logits: dict[str, float]) -> pretrained.Pretrained:
  """Returns the model with a constant added to some tokens' logits, at every position."""
  params = jax.tree.map(np.array, model.params)
  centre = params['final_layer_norm']['bias']
  for token, more in logits.items():
    number = model.tokenizer.convert_tokens_to_ids(token)
    params['embed_out']['embedding'][number] += more * centre / (centre @ centre)
  return dataclasses.replace(model, params=params)


@pytest.fixture(scope='session')
def audited(policy, classifier, tmp_path_factory) -> dict[str, pathlib.Path]:
  """Folders: a base model of short words, an aligned one that likes the letter a, a classifier."""
  root = tmp_path_factory.mktemp('models')
  base = favouring(policy, {'Ġ': 1.0, '<|endoftext|>': -4.0})
  models = {'base': base, 'aligned': favouring(base, {'a': 3.0}), 'classifier': classifier}
  for name, model in models.items():
    pretrained.save(root / name, model, '')
  return {name: root / name for name in models}


@pytest.fixture(scope='session')
def chat_models(audited, tmp_path_factory):
  """The folders of two models with the special tokens of a chat; the aligned one has a template."""
  root = tmp_path_factory.mktemp('chat_models')
  for name in ('base', 'aligned'):
    model = pretrained.load_language_model(str(audited[name]))
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.add_special_tokens({'additional_special_tokens': ['<|im_start|>', '<|im_end|>']})
    tokenizer.chat_template = CHAT_TEMPLATE if name == 'aligned' else None
    pretrained.save(root / name, dataclasses.replace(model, tokenizer=tokenizer), '')
  return {name: root / name for name in ('base', 'aligned')}


@pytest.fixture
def tanh_gelu(monkeypatch):
  """Replaces the exact GELU, for checks of collectives.

  In JAX 0.12 the gradient of erf fails JAX's own check_vma=True.
  """
  gelu = jax.nn.gelu
  monkeypatch.setattr(jax.nn, 'gelu', lambda x, approximate: gelu(x, approximate=True))
