#!/usr/bin/env bash
# On a schedule: does the champion still fit? Ends with status 1 where the decision is to retrain, so that the job shows it.
set -euo pipefail
remote=$(dvc config core.remote || true)
if [ -n "$remote" ]; then dvc pull --run-cache --allow-missing --quiet || echo "warning: DVC's remote lacks data; it is made again"; fi
decision=$(refit drift --json | tail -n 1)
echo "$decision"
python -c 'import json, sys; sys.exit(json.loads(sys.argv[1])["verdict"] == "retrain")' "$decision"
