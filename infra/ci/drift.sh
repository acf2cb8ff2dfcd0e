#!/usr/bin/env bash
# On a schedule: does the champion still fit? Ends with status 1 where the decision is to retrain, so that the job shows it.
set -euo pipefail
python -P -m flows.checkouts  # the newest data, from DVC's remote; ends here where it is not there
decision=$(REFIT_THROWAWAY="$PWD" refit drift --json | tail -n 1)  # new rows go to DVC's remote
echo "$decision"
python -P -c 'import json, sys; sys.exit(json.loads(sys.argv[1])["verdict"] == "retrain")' "$decision"
