"""The types of records.py fit the results that the evaluation computes, and made-up rows."""

import types
import typing

import numpy as np
import pytest

from irl_jax.data import prompts
from irl_jax.evaluation import attribution
from irl_jax.evaluation import calibration
from irl_jax.evaluation import heldout
from irl_jax.evaluation import recovered
from irl_jax.evaluation import toxicity
from irl_jax.runtime import records

RNG = np.random.default_rng(0)
TEXTS = [f'text {index}' for index in range(60)]


def problems(value, kind, path=''):
  """Yields where a JSON value differs from a type."""
  origin, arguments = typing.get_origin(kind), typing.get_args(kind)
  if kind is typing.Any:
    return
  if origin in (typing.Union, types.UnionType):
    found = [list(problems(value, argument, path)) for argument in arguments]
    if all(found):
      yield from max(found, key=len)
  elif origin is typing.NotRequired:
    yield from problems(value, arguments[0], path)
  elif typing.is_typeddict(kind):
    hints = typing.get_type_hints(kind)
    if not isinstance(value, dict):
      yield f'{path} is {value!r}: must be {kind.__name__}'
      return
    missing, unknown = kind.__required_keys__ - value.keys(), value.keys() - hints.keys()
    if missing or unknown:
      yield f'{path} misses {missing} and has {unknown}'
    for name in value.keys() & hints.keys():
      yield from problems(value[name], hints[name], f'{path}.{name}')
    reasons = value.get('why', {}).keys()
    nulls = {name for name, part in value.items() if part is None}
    if 'why' in hints and nulls - reasons:
      yield f'{path} has no reason for {nulls - reasons}'
  elif isinstance(origin, type) and not isinstance(value, origin):
    yield f'{path} is {value!r}: must be {kind}'
  elif origin is list:
    for index, part in enumerate(value):
      yield from problems(part, arguments[0], f'{path}[{index}]')
  elif isinstance(origin, type):  # dict[str, …] and Mapping[str, …]
    for name, part in value.items():
      yield from problems(part, arguments[1], f'{path}.{name}')
  elif not isinstance(value, (int, float) if kind is float else kind):
    yield f'{path} is {value!r}: must be {kind.__name__}'


def scored(texts=60, pairs=30, validation=60):
  return heldout.Scores(*(RNG.normal(size=size) for size in (texts, pairs, pairs, validation)))


def reference(has_true_reward, has_labels):
  labels = [index % 2 if has_labels else None for index in range(60)]
  true = [RNG.normal(size=size) if has_true_reward else None for size in (60, 30, 30)]
  return heldout.Reference(TEXTS, labels, TEXTS[:30], TEXTS[30:], *true, TEXTS, labels)


@pytest.mark.parametrize('has_true_reward', [True, False])
@pytest.mark.parametrize('has_labels', [True, False])
def test_a_recovery_is_what_its_type_says(has_true_reward, has_labels):
  calibrations = [calibration.calibration(RNG.normal(size=40), 20, 0) for _ in range(2)]
  simpler = {'constant': scored(validation=0)}
  held = reference(has_true_reward, has_labels)
  recovery = recovered.compare([scored(), scored()], held, calibrations, simpler, samples=20)
  recovery['baselines']['ceiling'] = recovered.missing('none was trained')
  summary = {'true_reward': recovered.human_accuracy(held), 'irl': recovery}
  assert list(problems(summary, records.Summary)) == []


@pytest.mark.parametrize('rewards', [[-1.0, 2.0], []])
def test_shares_and_tests_are_what_their_types_say(rewards):
  assert list(problems(toxicity.toxicity(rewards), records.Share)) == []
  verdicts = [reward < 0 for reward in rewards]
  assert list(problems(toxicity.mcnemar(verdicts, verdicts), records.McNemar)) == []


def test_rows_are_what_their_types_say():
  pieces = [['a', ' b']]
  scores = RNG.normal(size=len(attribution.texts_to_score(pieces)))
  (tokens,) = attribution.attributions(pieces, scores)
  assert [list(problems(token, records.Attribution)) for token in tokens] == [[], []]
  splits, _ = prompts.split_rows(
    [{'prompt': text, 'original': ' more', 'label': None} for text in TEXTS]
  )
  for row in (row for rows in splits.values() for row in rows):
    assert list(problems(row, records.PromptRow)) == []


@pytest.mark.parametrize(
  'change', [{'rate': 'high'}, {'rate': None}, {'rates': 1.0}, {'n': 0.5}], ids=str
)
def test_what_differs_from_its_type_is_seen(change):
  assert list(problems(toxicity.toxicity([1.0, -1.0]) | change, records.Share))
