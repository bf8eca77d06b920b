"""For test_shares.py, on eight devices: `python shares.py FOLDER` runs every update in both ways.

FOLDER has the models `policy` and `classifier`. Every array with an axis that eight devices divide
is split. It writes FOLDER/shares.json: for each update, how far the results of the two ways differ,
how much a parameter changes at most, and the collectives of the program with split parameters.
"""

import dataclasses
import json
import pathlib
import re
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from irl_jax import config as c
from irl_jax import distribution
from irl_jax import sampling
from irl_jax import structs
from irl_jax.data import batches
from irl_jax.irl import pairs as pairs_lib
from irl_jax.irl import update as irl_update
from irl_jax.models import cut as cut_lib
from irl_jax.models import heads
from irl_jax.models import pretrained
from irl_jax.ppo import rollout as rollout_lib
from irl_jax.ppo import update as ppo_update
from irl_jax.runtime import parallel
from irl_jax.runtime import sharding
from irl_jax.training import optimizer
from irl_jax.training import supervised

DEVICES, ROWS, PROMPT, RESPONSE = 8, 16, 8, 6
SGD = optax.sgd(1.0)  # the change of the parameters is then the gradient
COLLECTIVE = re.compile(r'= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all)(?:-start)?\(')
RNG = np.random.default_rng(0)


def draw(lengths) -> list[list[int]]:
  """Returns token lists of these lengths."""
  return [RNG.integers(2, 26, length).tolist() for length in lengths]


@dataclasses.dataclass(frozen=True)
class Case:
  """An update, and what it is given."""

  update: Any
  trained: Any
  frozen: Any
  batch: Any
  statics: dict[str, Any]

  def run(self) -> tuple[Any, dict[str, Any], str]:
    """Returns parameters and metrics after the update, in the current way, and the program."""
    update = parallel.map_update(self.update, tx=SGD, **self.statics)
    arguments = parallel.replicate(self.frozen), parallel.shard(self.batch)
    state = optimizer.placed_state(self.trained, SGD)
    program = update.lower(state, *arguments).compile().as_text()
    state, metrics = update(state, *arguments)
    return parallel.to_host(state.params), jax.device_get(metrics), program


def in_both_ways(run) -> tuple[Any, Any]:
  """Returns the results of a function with replicated and with split parameters."""
  with sharding.using('replicated'):
    whole = run()
  with sharding.using('fsdp', smallest=0):
    return whole, run()


def difference(one: Any, other: Any) -> float:
  """Returns the largest difference of two trees of numbers."""
  differences = jax.tree.map(
    lambda x, y: float(np.max(np.abs(np.float64(x) - np.float64(y)), initial=0.0)), one, other
  )
  return max(jax.tree.leaves(differences))


def compared(case: Case) -> dict[str, Any]:
  """Returns what shares.json says of a case."""
  (params, metrics, _), (split_params, split_metrics, program) = in_both_ways(case.run)
  found = COLLECTIVE.findall(program)
  return {
    'parameters': difference(params, split_params),
    'metrics': difference(metrics, split_metrics),
    'change': difference(params, case.trained),
    'collectives': [[name, re.findall(r'\[([\d,]*)\]', shapes)] for shapes, name in found],
  }


def supervised_cases(policy, classifier) -> dict[str, Case]:
  """Micro-batches of one text of each device, and whole batches of a classifier."""
  texts = batches.text_batch(draw((12, 2, 3, 9, 5, 2, 7, 11) * 2), 0, 12)
  labels = RNG.integers(0, 2, ROWS).astype(np.int32)
  statics = lambda losses, model: dict(losses=losses, config=model.config, dtype=jnp.float32)
  of_policy = statics(supervised.language_model_losses, policy) | {'micro_batch': 1}
  of_classifier = statics(supervised.classifier_losses, classifier)
  labelled = structs.LabelledBatch(texts, labels)
  return {
    'sft': Case(supervised.update, policy.params, (), texts, of_policy),
    'classifier': Case(supervised.update, classifier.params, (), labelled, of_classifier),
  }


def irl_case(policy) -> Case:
  """Two pairs of each prompt, which are compared, and their prefixes; recomputed blocks."""
  trunk = {name: policy.params[name] for name in ('embed_in', 'blocks', 'final_layer_norm')}
  head = jax.device_get(heads.init_reward_head(jax.random.key(2), policy.config.hidden_size))
  pairs = list(zip(draw((1, 4, 10, 10) * 8), draw((10, 4, 1, 10) * 8)))
  weight = (RNG.random(2 * ROWS) < 0.8).astype(np.float32)
  settings = c.IRL(objective='maximum_entropy', samples_per_prompt=2, prefix_weight=0.25)
  statics = dict(config=policy.config, dtype=jnp.float32, irl=settings, updates=4)
  statics |= {'micro_batch': 2, 'rematerialise': True}
  batch = pairs_lib.pair_batch(pairs, weight, 0, 16)
  return Case(irl_update.update, trunk | {'reward_head': head}, {}, batch, statics)


def ppo_results(policy) -> tuple[dict[str, float], Case]:
  """Returns how far rollouts of the two ways differ, and the update on one of them."""
  head = jax.device_get(heads.init_value_head(jax.random.key(5), policy.config.hidden_size))
  trained, frozen = cut_lib.split(policy.params | {'value_head': head}, 1)
  reference = {name: value for name, value in trained.items() if name != 'value_head'}
  allowed = distribution.allowed_for(policy.tokenizer, policy.config, 0.8)
  prompts = batches.prompt_batch(draw((1, 8, 3, 5, 2, 7, 4, 6) * 2), np.arange(ROWS), 0)
  model = dict(config=policy.config, dtype=jnp.float32)
  limits = dict(max_new_tokens=RESPONSE, min_new_tokens=1, top_k=0, top_p=1.0, greedy=False)

  def sample():
    run = parallel.map_decode(sampling.sample, **model, **limits)
    inputs = parallel.replicate(policy.params), parallel.replicate(allowed), jax.random.key(0)
    return parallel.gather(run(inputs, parallel.shard(prompts)))

  responses, split_responses = in_both_ways(sample)
  scores = RNG.normal(size=ROWS).astype(np.float32)
  experience = rollout_lib.experience_of(prompts, responses, scores)
  of_frozen = ppo_update.Frozen(frozen, reference, allowed)
  statics = dict(**model, min_new_tokens=1, ppo=c.PPO())

  def roll_out():
    run = parallel.map_forward(ppo_update.make_rollout, axis_name=parallel.axis_name(), **statics)
    inputs = parallel.replicate((trained, of_frozen, np.float32(0.1)))
    return parallel.gather(run(inputs, parallel.shard(experience)))

  rollouts = in_both_ways(roll_out)
  results = {
    'tokens': difference(responses.ids, split_responses.ids),
    'decoded': difference(responses.log_probs, split_responses.log_probs),
    'rollout': difference(*rollouts),
    'advantage': float(np.abs(rollouts[0][0].advantages).max()),
  }
  return results, Case(ppo_update.update, trained, of_frozen, rollouts[0][0], statics)


def main(folder: str) -> None:
  assert parallel.device_count() == DEVICES
  place = pathlib.Path(folder)
  policy, classifier = (pretrained.load(str(place / name)) for name in ('policy', 'classifier'))
  results, ppo = ppo_results(policy)
  cases = supervised_cases(policy, classifier) | {'irl': irl_case(policy), 'ppo': ppo}
  written = {name: compared(case) for name, case in cases.items()} | {'rollout': results}
  (place / 'shares.json').write_text(json.dumps(written))


if __name__ == '__main__':
  main(*sys.argv[1:])
