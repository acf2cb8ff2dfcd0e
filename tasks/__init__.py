"""What each stage does; importing it sets what libraries read as they load: analytics off, threads that wait calmly."""

import os

for _switch, _off in {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}.items():
    os.environ[_switch] = _off

# By default OpenMP's threads wait for each other by spinning: beside other work on the same cores a fit of
# boosted trees then takes four times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
