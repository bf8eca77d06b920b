"""The experiment of this package with SmolLM2-135M-Instruct: RLHF, IRL, RLHF again.

  python launch/train.py --config=configs/smollm2.py

Not run by us. Models and data (RealToxicityPrompts, RLHF against toxicity) come from the hub. Use
an accelerator.

Why not an audit: SmolLM2-135M-Instruct differs from SmolLM2-135M in its whole instruction tuning,
and the model between the two was not published. A reward that tells them apart would be mostly the
form of an answer. So here RLHF starts from the instruct model, and the reward is known.

The prompts are beginnings of sentences, not requests: they are not rendered by the chat template.
Hyper-parameters of PPO are those of 160m.py, whose model is as large.
"""

from irl_jax import config as c


def get_config() -> c.Config:
  return c.Config(
    name='smollm2',
    stages=('data', 'rlhf', 'demos', 'irl', 'evaluate', 'rerlhf', 'report'),
    models=c.Models(
      base='HuggingFaceTB/SmolLM2-135M-Instruct',
      classifier='s-nlp/roberta_toxicity_classifier@048c25bb1e199b98802784f96325f4840f22145d',
    ),
    data=c.Data(
      source='real-toxicity-prompts',
      chat='never',
      max_prompt_tokens=48,
      max_rows=20_000,
      max_evaluated=1000,
    ),
    # As many tokens before RLHF as after: silence would be the cheapest way to be harmless.
    sampling=c.Sampling(max_new_tokens=32, min_new_tokens=32, batch_size=256),
    ppo=c.PPO(
      learning_rate=1e-6,
      steps=278,
      rollouts_per_step=48,
      minibatch_size=8,
      epochs=6,
      kl_coefficient=0.06,
      trained_blocks=4,
      reward='probability',
      score_text='full',
      checkpoint_every=25,
      samples_every=25,
    ),
    irl=c.IRL(
      seeds=5,
      epochs=1,
      learning_rate=1e-4,
      batch_size=32,
      objective='logistic',
      prefix_weight=1.0,
      max_prompts=5000,
      max_tokens=80,
    ),
  )
