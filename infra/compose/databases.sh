#!/bin/sh
# Runs once, in an empty volume: a database and a user for each server. The superuser `refit` owns the ledger's tables and makes backups;
# MLflow, Prefect and the workers never have its password.
set -eu
psql -X -q -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" \
  -v mlflow="$MLFLOW_DB_PASSWORD" -v prefect="$PREFECT_DB_PASSWORD" -v worker="$WORKER_DB_PASSWORD" <<'SQL'
create role mlflow login password :'mlflow';
create role prefect login password :'prefect';
create role worker login password :'worker';
create database mlflow owner mlflow;
create database prefect owner prefect;
revoke connect on database mlflow, prefect from public;
SQL
