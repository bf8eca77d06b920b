"""The playground: a generated world with known labels. Small models are trained; no downloads.

python launch/train.py --config=configs/tiny.py
"""

from irl_jax import config as c


def get_config() -> c.Config:
  return c.Config(
    name='tiny',
    data=c.Data(source='playground', playground_comments=32000, max_evaluated=1000),
    sft=c.Supervised(
      epochs=1,
      batch_size=32,
      learning_rate=3e-3,
      max_tokens=40,
      hidden_size=128,
      layers=2,
      heads=4,
      checkpoint_every=100,
    ),
    classifier=c.ClassifierTraining(
      epochs=2,
      batch_size=32,
      learning_rate=1e-3,
      max_tokens=48,
      hidden_size=64,
      layers=2,
      heads=4,
      checkpoint_every=300,
    ),
    # As many tokens before RLHF as after: silence would be the cheapest way to be harmless.
    sampling=c.Sampling(max_new_tokens=16, min_new_tokens=16, batch_size=256),
    ppo=c.PPO(
      learning_rate=3e-4,
      steps=20,
      rollouts_per_step=128,
      minibatch_size=32,
      epochs=2,
      kl_coefficient=0.3,
      reward='probability',
      score_text='full',
      checkpoint_every=10,
      samples_every=10,
    ),
    # Chosen on validation texts: a softer loss and prefixes gained .03 AUROC in one PPO run and
    # nothing in another. One pass over many pairs is better than two over half of them.
    irl=c.IRL(
      seeds=3,
      epochs=1,
      learning_rate=6e-4,
      batch_size=64,
      objective='logistic',
      temperature=0.5,
      prefix_weight=1.0,
      max_prompts=10000,
      max_tokens=28,
      checkpoint_every=75,
    ),
    evaluation=c.Evaluation(ceiling='labels'),  # those of the world itself, not a classifier's
  )
