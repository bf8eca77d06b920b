"""paradetox_14m.py with gentler RLHF: the models differ mostly in toxicity.

The KL coefficient is 0.2 instead of 0.06, with 120 steps of PPO instead of 140. IRL has five seeds
instead of three, and a learning rate of 6e-4 instead of 4e-4.


python launch/train.py --config=configs/paradetox_14m_gentle.py
"""

from irl_jax import config as c


def get_config() -> c.Config:
  return c.Config(
    name='paradetox_14m_gentle',
    stages=('data', 'rlhf', 'demos', 'irl', 'evaluate', 'rerlhf', 'report'),
    models=c.Models(base='EleutherAI/pythia-14m', classifier='s-nlp/roberta_toxicity_classifier'),
    # The prompts' originals are all toxic: a zero between two classes needs harmless texts too.
    data=c.Data(
      source='paradetox', unlabelled='paradetox-neutral', prompt_fraction=0.25, max_prompt_tokens=16
    ),
    sampling=c.Sampling(max_new_tokens=16, min_new_tokens=16, batch_size=256),
    # A probability stops growing once a text is harmless; a logit goes on to reward style.
    ppo=c.PPO(
      learning_rate=2e-4,
      steps=120,
      rollouts_per_step=64,
      minibatch_size=32,
      epochs=2,
      kl_coefficient=0.2,
      reward='probability',
      score_text='completion',
      checkpoint_every=25,
    ),
    irl=c.IRL(
      seeds=5,
      epochs=1,
      learning_rate=6e-4,
      batch_size=32,
      objective='logistic',
      prefix_weight=1.0,
      evaluate_every=58,
      max_tokens=48,
    ),
  )
