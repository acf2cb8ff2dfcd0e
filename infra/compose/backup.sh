#!/usr/bin/env bash
# Backs up the servers of compose.yaml while they run: infra/compose/backup.sh NEW_FOLDER
# The databases are dumped while the ledger's lock for writing is held, so that ledger and registry fit each other; then the models and DVC's
# files, which are only ever added. Models in a bucket (MLFLOW_ARTIFACTS=s3://...) are not in it: version the bucket.
set -euo pipefail
folder=${1:?usage: infra/compose/backup.sh NEW_FOLDER}
compose() { docker compose -f "$(dirname "$0")/compose.yaml" "$@"; }
umask 077
mkdir "$folder"
compose exec -T db bash -s > "$folder/databases.tar" <<'DUMP'
set -euo pipefail
export out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
psql -X -q -v ON_ERROR_STOP=1 -U refit -d refit > "$out/log" <<'SQL'
select pg_advisory_lock(-7086277149328404051);
\! for name in mlflow prefect refit; do pg_dump -U refit -Fc -f "$out/$name.dump" "$name" && touch "$out/$name.done"; done
SQL
for name in mlflow prefect refit; do  # psql does not say whether a command after \! failed
  [ -f "$out/$name.done" ] || { echo "error: database $name could not be dumped: nothing was backed up" >&2; exit 1; }
  pg_restore -f /dev/null "$out/$name.dump"
done
tar -C "$out" -cf - mlflow.dump prefect.dump refit.dump
DUMP
compose run --rm -T --no-deps folders tar -C / -cf - artifacts dvc > "$folder/volumes.tar"
(cd "$folder" && sha256sum databases.tar volumes.tar > SHA256SUMS)
echo "backed up to $folder; keep infra/compose/.env with it: the passwords are not in it"
