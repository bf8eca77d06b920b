"""The paper's experiment (arXiv 2410.12491) for the sizes of Pythia that it does not report.

Models and data come from the hub, as in 70m.py and 410m.py. No size has results, neither the
paper's nor ours, and there is no SFT model that we know of, so RLHF starts from the base model.
"""

from irl_jax import config as c


def small(name: str) -> c.Config:
  """Returns a size below 70M, with the paper's hyper-parameters for 70M."""
  ppo = dict(learning_rate=3e-6, steps=38, rollouts_per_step=32, minibatch_size=16, epochs=8)
  return _experiment(name, c.PPO(**ppo, kl_coefficient=0.035, **_shared(4, 10)), 1e-4)


def large(name: str, learning_rate: float, sharding: str = 'replicated') -> c.Config:
  """Returns a size above 410M, with the paper's hyper-parameters for 410M.

  Two differ. The paper's learning rates fall with the size, and so do these: IRL's is ten times
  PPO's, as at 410M. Minibatches are 16 samples instead of 2, so that devices can share them.
  """
  ppo = dict(steps=100, rollouts_per_step=48, minibatch_size=16, epochs=5, kl_coefficient=0.1)
  return _experiment(
    name,
    c.PPO(learning_rate=learning_rate, **ppo, **_shared(3, 10)),
    10 * learning_rate,
    c.Runtime(sharding=sharding),
  )


def _shared(trained_blocks: int, every: int) -> dict:
  """Returns the fields of PPO that all sizes share."""
  return dict(
    trained_blocks=trained_blocks,
    reward='probability',
    score_text='full',
    subtract_original=True,
    checkpoint_every=every,
    samples_every=every,
  )


def _experiment(
  name: str, ppo: c.PPO, irl_learning_rate: float, runtime: c.Runtime = c.Runtime()
) -> c.Config:
  return c.Config(
    name=name,
    stages=('data', 'rlhf', 'demos', 'irl', 'evaluate', 'rerlhf', 'report'),
    models=c.Models(
      base=f'EleutherAI/pythia-{name}',
      classifier='s-nlp/roberta_toxicity_classifier@048c25bb1e199b98802784f96325f4840f22145d',
    ),
    # Prompt and response together have 512 tokens, all that the classifier reads.
    data=c.Data(source='jigsaw-long-2000', max_prompt_tokens=384),
    sampling=c.Sampling(max_new_tokens=128, top_k=30, batch_size=64),
    ppo=ppo,
    irl=c.IRL(
      objective='asymmetric',
      learning_rate=irl_learning_rate,
      schedule='constant',
      weight_decay=0.0,
      epochs=10,
      batch_size=32,
      seeds=5,
      contrast='base',
      max_prompts=500,
    ),
    evaluation=c.Evaluation(batch_size=32),
    runtime=runtime,
  )
