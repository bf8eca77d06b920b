#!/usr/bin/env bash
# Tests and times irl_jax on one accelerator, in at most ten minutes. Downloads nothing.
#
#   benchmarks/device.sh [FOLDER]                       default: device_results
#   DEVICE_SIZES=tiny benchmarks/device.sh [FOLDER]     toy sizes, in minutes on a CPU
#
# Run it again to continue: a part whose result is in FOLDER/parts is skipped. Delete that file to
# repeat the part. FOLDER/log has the output of each part, FOLDER/device.json all results, and
# FOLDER/device.md the page. PYTHON names the interpreter, DEVICE_SECONDS another time limit.
set -u
status=0 child=
out=$(realpath -m "${1:-device_results}")
cd "$(dirname "$0")/.."
python=${PYTHON:-python} limit=${DEVICE_SECONDS:-600}
case ${DEVICE_SIZES:-gpu} in
  gpu) sizes=gpu groups="decode_70m ppo_70m irl_70m decode_410m ppo_410m irl_410m decode_1b ppo_1b irl_1b" ;;
  tiny) sizes=tiny groups="decode_tiny ppo_tiny irl_tiny" ;;
  *) echo "DEVICE_SIZES=$DEVICE_SIZES: must be gpu or tiny" >&2; exit 2 ;;
esac
export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0}
mkdir -p "$out"/{parts,log}
trap 'kill "$child" 2> /dev/null; exit 130' INT TERM HUP

# Runs `COMMAND...` for at most SECONDS. A part that ends has a result; one that is cut off has none.
part() {  # NAME SECONDS COMMAND...
  local name=$1 most=$2 left=$((limit - SECONDS)) start=$SECONDS code
  shift 2
  [ -e "$out/parts/$name" ] && return
  if [ "$left" -lt 20 ]; then
    echo "$name: no time left; run the same command again"
    status=1
    return
  fi
  echo "$name ..."
  timeout --kill-after=10 "$((most < left ? most : left))" "$@" > "$out/log/$name.txt" 2>&1 &
  child=$!
  wait "$child"
  code=$?
  case $code in
    124 | 130 | 137 | 143)
      echo "$name: cut off after $((SECONDS - start)) s"
      status=1
      ;;
    *)
      echo "$code $((SECONDS - start))" > "$out/parts/$name"
      [ $code = 0 ] || echo "$name: exit code $code, see $out/log/$name.txt"
      ;;
  esac
}

# Without TF32, which rounds float32 to 10 bits, and without sums in an arbitrary order.
part tests 240 env TEST_ON_DEVICE=1 JAX_DEFAULT_MATMUL_PRECISION=highest \
  XLA_FLAGS="${XLA_FLAGS:-} --xla_gpu_deterministic_ops=true" \
  "$python" -m pytest -q -m device -p no:cacheprovider --junitxml="$out/tests.xml" \
  $(grep -rlE --include="test_*.py" "(@|\[)pytest\.mark\.device" tests)
part smoke 150 "$python" launch/train.py --config=configs/smoke.py --workdir="$out/smoke"
speed=("$python" benchmarks/speed.py --nopeers --sizes=$sizes)
for group in $groups; do
  part "$group" 120 "${speed[@]}" --only="$group" --repeats=5 --seconds=15 --resume --output="$out/speed.json"
done
if worst=$("$python" benchmarks/device_page.py "$out" --worst); then
  part profile 90 "${speed[@]}" --only="$worst" --profile="$out/traces"
fi
"$python" benchmarks/device_page.py "$out" && exit $status
