#!/usr/bin/env bash
# On a pull request: what would this change do? Runs the pipeline and the gate, registers nothing, moves nothing.
# Leaves reports/pull_request.md (metrics against BASE, the gate's decision) and reports/model_card.html.
#   infra/ci/judge.sh [BASE]      default: the default branch of origin, or origin/main if git does not know it
set -euo pipefail
base=${1:-$(git rev-parse --verify --quiet --abbrev-ref origin/HEAD || echo origin/main)}
python -P -m flows.checkouts  # the newest data, from DVC's remote; ends here where it is not there
judged=$(refit run --judge-only)
{
  echo "### Refit: the candidate of this change"
  echo
  echo '```'
  echo "$judged"
  echo '```'
  echo
  echo "Metrics as committed in \`$base\`, perhaps on older test rows; the decision above compares on the same rows:"
  echo
  if ! changed=$(dvc metrics diff --md "$base"); then
    echo "(DVC cannot compare them with \`$base\`; this job's log says why)"
  elif [ "$(wc -l <<<"$changed")" -gt 2 ]; then
    echo "$changed"
  else
    echo "None has changed."  # a head without rows
  fi
} >reports/pull_request.md
cat reports/pull_request.md
