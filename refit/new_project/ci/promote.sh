#!/usr/bin/env bash
# On the default branch: registers the candidate; the gate decides whether it becomes champion. What it was made from goes to DVC's remote.
set -euo pipefail
python -P -m flows.checkouts  # the newest data, from DVC's remote; ends here where it is not there
REFIT_THROWAWAY="$PWD" refit run  # pushes data and models before a version refers to them, and records them for the next job
