"""score.py of conversations: rendered by the model's template, as a run renders them."""

import json

import numpy as np
import pytest

from irl_jax import api
from irl_jax.data import chat
from irl_jax.data import rows as rows_lib
from irl_jax.models import pretrained

SAID = ['ab', 'cab', 'b a']
ANSWERS = ['ba', 'abba', '']
OTHERS = ['c', 'cc', 'abc']


def asked(content):
  return {'role': 'user', 'content': content}


def answered(content):
  return {'role': 'assistant', 'content': content}


@pytest.fixture(scope='module')
def model(chat_models):
  return api.load_model(chat_models['aligned'])


@pytest.fixture(scope='module')
def rendered(model):
  """The prompts as the template renders them."""
  template = chat.template_of(model.tokenizer)
  return [chat.render(template, [asked(one)]) for one in SAID]


@pytest.fixture
def score(launch, tmp_path):
  """Runs score.py on rows; returns its exit code and the written rows."""

  def start(rows, *arguments):
    source, output = tmp_path / 'in.jsonl', tmp_path / 'out.jsonl'
    rows_lib.write_jsonl(source, rows)
    output.unlink(missing_ok=True)
    code = launch('score', f'--input={source}', f'--output={output}', *arguments)
    return code, [json.loads(line) for line in output.open()] if output.exists() else None

  return start


def columns(rows, name):
  return [row[name] for row in rows]


@pytest.mark.parametrize('field', ['messages', 'conversations', 'conversation', 'x'])
def test_conversations_are_scored_as_they_are_rendered(score, chat_models, model, rendered, field):
  rows = [{field: [asked(one), answered(two)], 'id': one} for one, two in zip(SAID, ANSWERS)]
  flags = [f'--model={chat_models["aligned"]}', *['--field=x'] * (field == 'x')]
  code, written = score(rows, *flags)
  expected = api.score(model, [one + two for one, two in zip(rendered, ANSWERS)])
  assert code == 0 and columns(written, 'tokens') == expected['tokens'].tolist()
  np.testing.assert_allclose(columns(written, 'log_prob'), expected['log_prob'], rtol=1e-5)
  assert [row | {'log_prob': 0, 'tokens': 0} for row in written] == [
    row | {'log_prob': 0, 'tokens': 0} for row in rows
  ]


def test_both_sides_of_a_preference_are_scored(score, chat_models, model, rendered, capsys):
  lists = [
    {'chosen': [asked(one), answered(two)], 'rejected': [asked(one), answered(other)]}
    for one, two, other in zip(SAID, ANSWERS, OTHERS)
  ]
  explicit = [
    {'prompt': one, 'chosen': [answered(two)], 'rejected': [answered(other)]}
    for one, two, other in zip(SAID, ANSWERS, OTHERS)
  ]
  talk = lambda one, two: f'\n\nHuman: {one}\n\nAssistant: {two}'
  transcripts = [
    {'chosen': talk(one, two), 'rejected': talk(one, other)}
    for one, two, other in zip(SAID, ANSWERS, OTHERS)
  ]
  expected = [
    api.score(model, [one + two for one, two in zip(rendered, side)])['log_prob']
    for side in (ANSWERS, OTHERS)
  ]
  strings = [
    {'prompt': one, 'chosen': two, 'rejected': other}
    for one, two, other in zip(SAID, ANSWERS, OTHERS)
  ]
  flags = [f'--model={chat_models["aligned"]}', '--field=chosen,rejected']
  for rows in (lists, explicit, transcripts, strings):
    code, written = score(rows, *flags, *['--chat'] * (rows is strings))
    assert code == 0
    for name, side in zip(('chosen', 'rejected'), expected):
      np.testing.assert_allclose(columns(written, f'log_prob_{name}'), side, rtol=1e-5)


def test_a_prompt_that_is_a_string_is_plain_text_without_chat(score, chat_models, model, caplog):
  rows = [
    {'prompt': one, 'chosen': two, 'rejected': other}
    for one, two, other in zip(SAID, ANSWERS, OTHERS)
  ]
  talk = '\n\nHuman: ab\n\nAssistant:'  # a transcript that the answer continues
  rows.append({'prompt': talk, 'chosen': ' ba', 'rejected': ' c'})
  flags = [f'--model={chat_models["aligned"]}', '--field=chosen,rejected']
  with caplog.at_level('WARNING'):
    code, written = score(rows, *flags)
  assert code == 0 and "if they are a user's messages, use --chat" in caplog.text
  texts = [one + two for one, two in zip(SAID, ANSWERS)]
  expected = api.score(model, [*texts, [asked('ab'), answered('ba')]])['log_prob']
  np.testing.assert_allclose(columns(written, 'log_prob_chosen'), expected, rtol=1e-5)


def test_a_classifier_reads_what_was_said(score, audited):
  rows = [{'messages': [asked(one), answered(two)]} for one, two in zip(SAID, ANSWERS)]
  expected = api.score(audited['classifier'], ['ab\nba', 'cab\nabba', 'b a'])['reward']
  written = score(rows, f'--model={audited["classifier"]}')[1]
  np.testing.assert_allclose(columns(written, 'reward'), expected, atol=1e-5)
  bench = [{'prompt': one, 'chosen': two, 'rejected': 'c'} for one, two in zip(SAID, ANSWERS)]
  written = score(bench, f'--model={audited["classifier"]}', '--field=chosen,rejected')[1]
  np.testing.assert_allclose(columns(written, 'reward_chosen'), expected, atol=1e-5)


def test_the_last_answer_is_compared_given_what_precedes_it(score, chat_models, rendered):
  rows = [{'messages': [asked(one), answered(two)]} for one, two in zip(SAID, ANSWERS)]
  pair = [f'--model={chat_models["aligned"]}', f'--reference={chat_models["base"]}']
  code, written = score(rows, *pair)
  expected = api.log_ratio(chat_models['aligned'], chat_models['base'], ANSWERS, rendered)
  assert code == 0 and columns(written, 'tokens') == list(map(len, ANSWERS))
  np.testing.assert_allclose(columns(written, 'log_ratio'), expected['log_ratio'], atol=1e-5)
  apart = [{'p': one, 'text': two} for one, two in zip(SAID, ANSWERS)]
  code, again = score(apart, *pair, '--prompt_field=p', '--chat')
  assert code == 0 and columns(again, 'log_ratio') == columns(written, 'log_ratio')
  plain = columns(score(apart, *pair, '--prompt_field=p')[1], 'log_ratio')
  assert not np.allclose(plain, columns(written, 'log_ratio'), atol=1e-3)
  given = [{'p': [asked(one)], 'text': two} for one, two in zip(SAID, ANSWERS)]
  code, again = score(given, *pair, '--prompt_field=p')
  assert code == 0 and columns(again, 'log_ratio') == columns(written, 'log_ratio')


def test_texts_are_messages_with_chat(score, chat_models, model, rendered):
  written = score([{'text': one} for one in SAID], f'--model={chat_models["aligned"]}', '--chat')[1]
  expected = api.score(model, rendered)['log_prob']
  np.testing.assert_allclose(columns(written, 'log_prob'), expected, rtol=1e-5)


def test_rows_that_cannot_be_rendered_line_up(score, chat_models, capsys):
  rows = [
    {'messages': [asked('a'), answered('b')]},
    {'messages': [answered('b')]},
    {'messages': []},
    {'id': 3},
    {'text': 'a', 'messages': 3},
  ]
  flag = f'--model={chat_models["aligned"]}'
  assert score(rows, flag) == (3, None)
  assert "row 2: field 'messages' has no user message before the answer; fix it, or skip" in (
    capsys.readouterr().err
  )
  code, written = score(rows, flag, '--bad_rows=skip')
  assert code == 0 and [row['log_prob'] is None for row in written] == [False, *[True] * 3, False]
  assert written[3]['why'] == "has no field 'text'; its fields: 'id'"


@pytest.mark.parametrize(
  ('row', 'flags', 'code', 'message'),
  [
    (
      {'messages': [asked('a'), answered('b')] * 2},
      [],
      3,
      'conversation of 4 messages, which need',
    ),
    ({'text': 'a'}, ['--chat'], 3, 'has no chat template; give plain prompts'),
    ({'text': 'a'}, ['--chat', '--reference=R'], 2, '--chat: with --reference, it is the prompt'),
  ],
)
def test_what_needs_a_template_is_refused_before_any_work(
  score, audited, monkeypatch, capsys, row, flags, code, message
):
  monkeypatch.setattr(pretrained, 'load', lambda *_: 1 / 0)
  assert score([row], f'--model={audited["base"]}', *flags) == (code, None)
  shown = capsys.readouterr().err
  assert message in shown and shown.count('\n') == 1


def test_the_same_from_python(chat_models, model, rendered, audited):
  talks = [[asked(one), answered(two)] for one, two in zip(SAID, ANSWERS)]
  whole = [one + two for one, two in zip(rendered, ANSWERS)]
  for given in (chat_models['aligned'], model):
    scores = api.score(given, [*talks, 'a'])
    expected = api.score(given, [*whole, 'a'])
    np.testing.assert_allclose(scores['log_prob'], expected['log_prob'], rtol=1e-5)
  pair = chat_models['aligned'], chat_models['base']
  expected = api.log_ratio(*pair, ANSWERS, rendered)['log_ratio']
  np.testing.assert_allclose(api.log_ratio(*pair, talks)['log_ratio'], expected, atol=1e-5)
  prompts = [[asked(one)] for one in SAID]
  ratios = api.log_ratio(*pair, ANSWERS, prompts)['log_ratio']
  np.testing.assert_allclose(ratios, expected, atol=1e-5)
  read = api.score(audited['classifier'], [talks[0], rendered[0]])['reward']
  expected = api.score(audited['classifier'], ['ab\nba', 'ab'])['reward']
  np.testing.assert_allclose(read, expected, atol=1e-5)
  with pytest.raises(
    ValueError, match=r'texts\[1\]: field .* has no user message before the answer'
  ):
    api.score(model, ['a', [answered('b')]])


def test_a_reference_without_the_templates_tokens_is_refused(chat_models, audited):
  with pytest.raises(ValueError, match='read the chat template as different tokens; one of them'):
    api.log_ratio(chat_models['aligned'], audited['base'], [[asked('a'), answered('b')]])
