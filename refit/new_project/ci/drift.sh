#!/usr/bin/env bash
# On a schedule: does the champion still fit? Ends with status 1 where the decision is to retrain, so that the job shows it.
set -euo pipefail
python -P -m flows.checkouts  # the data of the newest version, from DVC's remote; ends here where it is not there
decision=$(refit drift --json | tail -n 1)
echo "$decision"
python -P -c 'import json, sys; sys.exit(json.loads(sys.argv[1])["verdict"] == "retrain")' "$decision"
