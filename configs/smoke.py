"""Every stage in under a minute, to check that everything runs; the results mean nothing.

python launch/train.py --config=configs/smoke.py
"""

from irl_jax import config as c


def get_config() -> c.Config:
  return c.Config(
    name='smoke',
    data=c.Data(source='playground', playground_comments=800, max_prompt_tokens=8),
    sft=c.Supervised(
      learning_rate=5e-3,
      epochs=3,
      batch_size=32,
      max_tokens=32,
      hidden_size=32,
      layers=2,
      heads=2,
      warmup_steps=5,
    ),
    classifier=c.ClassifierTraining(
      learning_rate=5e-3,
      epochs=4,
      batch_size=32,
      max_tokens=32,
      hidden_size=32,
      layers=1,
      heads=2,
      warmup_steps=5,
    ),
    sampling=c.Sampling(max_new_tokens=8, min_new_tokens=4, batch_size=64),
    ppo=c.PPO(
      learning_rate=1e-3,
      steps=4,
      rollouts_per_step=16,
      minibatch_size=8,
      epochs=2,
      trained_blocks=1,
      checkpoint_every=2,
    ),
    irl=c.IRL(
      objective='asymmetric',
      learning_rate=1e-3,
      seeds=2,
      epochs=2,
      batch_size=32,
      warmup_steps=5,
      max_prompts=128,
      max_tokens=48,
    ),
    evaluation=c.Evaluation(bootstrap_samples=50, batch_size=32, ceiling='none'),
  )
