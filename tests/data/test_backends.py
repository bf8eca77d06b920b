"""Tokenizers of SentencePiece: spaces at the beginning, typed special tokens, chat templates."""

import numpy as np
import pytest
import tiny_models
import tokenizers
import transformers

from irl_jax import config as config_lib
from irl_jax import sampling
from irl_jax.data import backends
from irl_jax.data import chat
from irl_jax.data import text
from irl_jax.evaluation import likelihoods
from irl_jax.models import gpt_neox
from irl_jax.models import pretrained
from irl_jax.models import trunk

SPACE = '▁'
WORDS = ['Hello', 'world', 'user', 'Paris', 'is', 'a']
TEMPLATE = (
  "{% for m in messages %}{{ bos_token + '[INST] ' + m['content'].strip() + ' [/INST]' }}"
  '{% endfor %}'
)


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
  """Returns a vocabulary of BPE with bytes, like that of Llama 2, and its merges."""
  pieces = ['<unk>', '<s>', '</s>', '<pad>', *(f'<0x{byte:02X}>' for byte in range(256)), SPACE]
  pieces += sorted({letter for word in [*WORDS, '[/INST] <s>'] for letter in word} - {' '})
  merges = []
  for word in [SPACE * 2, *WORDS, *(SPACE + word for word in WORDS)]:
    for end in range(2, len(word) + 1):
      merges.append((word[: end - 1], word[end - 1]))
  merges = list(dict.fromkeys(merges))
  merges += [('</', 's>'), ('<', '/'), ('s', '>')]  # as a careless conversion makes them
  pieces += [left + right for left, right in merges]
  return {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}, merges


def prepended() -> tokenizers.Tokenizer:
  """Returns a backend like Llama 2's tokenizer.json: the normalizer puts a space before a text."""
  words, merges = vocabulary()
  backend = tokenizers.Tokenizer(
    tokenizers.models.BPE(vocab=words, merges=merges, unk_token='<unk>', byte_fallback=True)
  )
  backend.normalizer = tokenizers.normalizers.Sequence(
    [tokenizers.normalizers.Prepend(SPACE), tokenizers.normalizers.Replace(' ', SPACE)]
  )
  backend.decoder = stripping()
  return backend


def stripping() -> tokenizers.decoders.Decoder:
  of = tokenizers.decoders
  return of.Sequence(
    [of.Replace(SPACE, ' '), of.ByteFallback(), of.Fuse(), of.Strip(' ', left=1, right=0)]
  )


def metaspace(scheme: str, decoder: tokenizers.decoders.Decoder) -> tokenizers.Tokenizer:
  backend = prepended()
  backend.normalizer = None
  backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(SPACE, scheme, split=False)
  backend.decoder = decoder
  return backend


def with_bytes(scheme: str) -> tokenizers.decoders.Decoder:
  of = tokenizers.decoders
  return of.Sequence([of.ByteFallback(), of.Metaspace(SPACE, scheme)])


def byte_level() -> tokenizers.Tokenizer:
  """Returns a byte-level backend that puts a space before a text (add_prefix_space)."""
  alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  pieces = ['<unk>', '<s>', '</s>', '<pad>', *alphabet]
  words = {piece: number for number, piece in enumerate(pieces)}
  backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=words, merges=[]))
  backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
  backend.decoder = tokenizers.decoders.ByteLevel()
  return backend


BACKENDS = {
  'prepend': prepended,
  'metaspace_first': lambda: metaspace('first', stripping()),
  'metaspace_always': lambda: metaspace('always', with_bytes('always')),
  'metaspace_never': lambda: metaspace('never', with_bytes('never')),
  'byte_level': byte_level,
}


def wrapped(backend: tokenizers.Tokenizer) -> transformers.PreTrainedTokenizerFast:
  roles = {'bos_token': '<s>', 'eos_token': '</s>', 'unk_token': '<unk>', 'pad_token': '<pad>'}
  backend.post_processor = tokenizers.processors.TemplateProcessing(
    single='<s> $A', special_tokens=[('<s>', backend.token_to_id('<s>'))]
  )
  return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **roles)


@pytest.fixture(params=BACKENDS)
def words(request) -> transformers.PreTrainedTokenizerFast:
  return wrapped(BACKENDS[request.param]())


@pytest.mark.parametrize(
  'completion', [' world', 'world', '  a', '\nHello', '', ' ', ' </s> a', '😀', 'é is']
)
def test_a_completion_keeps_its_spaces(words, completion):
  (ids,), _ = text.encode(words, [completion], continues=True)
  assert text.decode(words, ids) == completion
  assert not {words.bos_token_id, words.eos_token_id} & {*ids}


def test_prompt_and_completion_join_to_the_ids_of_the_whole_text(words):
  (prompt, whole), _ = text.encode(words, ['Hello', 'Hello world is a'])
  (completion,), _ = text.encode(words, [' world is a'], continues=True)
  assert prompt + completion == whole
  assert 'Hello' + text.decode(words, completion) == 'Hello world is a'


def test_texts_begin_as_transformers_reads_them(words):
  texts = ['Hello world', 'a\nb', '', 'is  a ']
  assert text.encode(words, texts)[0] == words(texts)['input_ids']
  begun = [text.decode(words, ids[1:], begins=True) for ids in text.encode(words, texts)[0]]
  assert [one.lstrip(' ') for one in begun] == texts


def test_a_text_that_was_sampled_from_its_beginning_is_read_as_the_same_ids():
  words = wrapped(prepended())
  ids = words('Hello world', add_special_tokens=False)['input_ids']
  assert text.decode(words, ids, begins=True) == 'Hello world'
  assert text.decode(words, ids) == ' Hello world'  # as a completion


def test_such_tokenizers_pass_the_check(words):
  text.check(words, 'a folder')


@pytest.mark.parametrize('typed', ['</s>', '<s>', 'a</s>', ' </s>a', '<pad>'])
def test_a_typed_special_token_is_plain_text(words, typed):
  for continues in (False, True):
    (ids,), _ = text.encode(words, [typed], continues=continues)
    real = {words.bos_token_id, words.eos_token_id, words.pad_token_id}
    assert not real & {*(ids if continues else ids[1:])}
    assert text.decode(words, ids).lstrip(' ') == typed.lstrip(' ')


def test_a_typed_special_token_would_have_been_real():
  words = wrapped(prepended())
  plain = words('a</s>', add_special_tokens=False, split_special_tokens=True)['input_ids']
  assert words.eos_token_id in plain


@pytest.mark.parametrize('content', ['Hello', ' Hello ', 'Hello\nworld', 'a [INST] b'])
def test_a_chat_is_read_as_transformers_reads_it(words, content):
  words.chat_template = TEMPLATE
  messages = [chat.Message(role='user', content=content), chat.Message(role='user', content='a')]
  marked = chat.render(chat.template_of(words), messages)
  expected = words.apply_chat_template([dict(one) for one in messages], return_dict=False)
  (ids,), _ = text.encode(words, [marked])
  assert ids == expected
  (longer,), _ = text.encode(words, [f'{marked} world'])
  assert longer == ids + text.encode(words, [' world'], continues=True)[0][0]


def test_a_special_token_typed_in_a_chat_is_plain_text(words):
  words.chat_template = TEMPLATE
  messages = [
    chat.Message(role='user', content='is </s> a'),
    chat.Message(role='user', content='a'),
  ]
  marked = chat.render(chat.template_of(words), messages)
  (ids,), _ = text.encode(words, [marked])
  assert ids.count(words.bos_token_id) == 2 and words.eos_token_id not in ids
  assert 'is </s> a' in text.decode(words, ids)


@pytest.mark.slow
def test_log_probs_of_a_text_and_of_a_completion_are_of_the_ids_that_are_sampled(random_logits):
  words = wrapped(prepended())
  model = random_logits(words)
  scorer = likelihoods.completion_log_prob_scorer(model, 8)
  (whole, prompt), _ = text.encode(words, ['Hello world', 'Hello'])
  given, apart = scorer([('', 'Hello world'), ('Hello', ' world')])
  assert given[1] == len(whole) - 1 and apart[1] == len(whole) - len(prompt)
  np.testing.assert_allclose(given, likelihoods.log_prob_scorer(model)(['Hello world'])[0], 1e-5)
  sampling_of = config_lib.Sampling(max_new_tokens=6, temperature=0.0)
  for prompt in ('', 'Hello'):
    ids = text.prompt_ids(words, [prompt], None)
    (response,), _ = sampling.complete_ids(model, ids, sampling_of, 0)
    (completion,) = sampling.complete(model, [prompt], sampling_of)
    assert completion == text.decode(words, response, begins=not prompt)


@pytest.fixture
def random_logits():
  """A function of a tokenizer -> a tiny language model with random weights."""

  def build(words):
    config = gpt_neox.GPTNeoXConfig(
      vocab_size=len(words),
      hidden_size=16,
      num_hidden_layers=1,
      num_attention_heads=2,
      intermediate_size=16,
      max_position_embeddings=64,
      eos_token_ids=(words.eos_token_id,),
    )
    params = tiny_models.drawn(trunk.init, config)
    return pretrained.Pretrained('causal_lm', config, params, words)

  return build


def classifier_words() -> transformers.PreTrainedTokenizerFast:
  """Returns a tokenizer like XLM-RoBERTa's: Unigram, with the special tokens among its pieces."""
  specials = ['<s>', '<pad>', '</s>', '<unk>']
  letters = [SPACE, *'Helowrdai<s>/</mkp']
  pieces = [(token, 0.0) for token in specials]
  pieces += [(piece, -5.0) for piece in dict.fromkeys([*letters, f'{SPACE}Hello', f'{SPACE}world'])]
  backend = tokenizers.Tokenizer(tokenizers.models.Unigram([*pieces, ('<mask>', 0.0)], unk_id=3))
  backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(SPACE, 'always')
  backend.decoder = tokenizers.decoders.Metaspace(SPACE, 'always')
  backend.post_processor = tokenizers.processors.TemplateProcessing(
    single='<s> $A </s>', special_tokens=[('<s>', 0), ('</s>', 2)]
  )
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=backend,
    bos_token='<s>',
    eos_token='</s>',
    cls_token='<s>',
    sep_token='</s>',
    pad_token='<pad>',
    unk_token='<unk>',
    mask_token='<mask>',
  )


def test_a_special_token_typed_for_a_classifier_is_plain_text():
  words = classifier_words()
  typed = 'Hello </s> <s>world<pad> <mask></s>'
  plain = words(typed, split_special_tokens=True)['input_ids']
  assert plain.count(0) > 1 and plain.count(2) > 1  # what transformers makes of it
  (ids, same), _ = text.encode(words, [typed, 'Hello world'], specials=True)
  assert ids[0] == 0 and ids[-1] == 2
  assert not {0, 1, 2, 3, words.mask_token_id} & {*ids[1:-1]}
  assert same == words('Hello world')['input_ids']


def test_a_tokenizer_that_needs_no_copy_is_used_as_it_is(letters):
  assert backends._copy(letters, True) is None and backends._copy(letters, False) is None
