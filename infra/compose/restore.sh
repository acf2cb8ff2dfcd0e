#!/usr/bin/env bash
# Restores a folder of backup.sh into new volumes: infra/compose/restore.sh FOLDER, with the passwords in infra/compose/.env
# Refuses a database whose ledger has lines: first `docker compose -f infra/compose/compose.yaml down --volumes`, which deletes them.
set -euo pipefail
folder=${1:?usage: infra/compose/restore.sh FOLDER}
compose() { docker compose -f "$(dirname "$0")/compose.yaml" "$@"; }
(cd "$folder" && sha256sum --quiet -c SHA256SUMS)
compose stop worker mlflow prefect
compose up --detach --wait db
compose exec -T db sh -c 'cat > /tmp/databases.tar' < "$folder/databases.tar"
compose exec -T db bash -s <<'RESTORE'
set -euo pipefail
out=$(mktemp -d)
trap 'rm -rf "$out" /tmp/databases.tar' EXIT
ask() { psql -X -q -At -v ON_ERROR_STOP=1 -U refit -d "$1" -c "$2"; }
if [ "$(ask refit "select to_regclass('refit.ledger') is not null")" = t ] && [ "$(ask refit 'select count(*) from refit.ledger')" != 0 ]; then
  echo "error: the ledger here has lines; nothing was restored. Delete the volumes first: docker compose down --volumes" >&2
  exit 1
fi
tar -C "$out" -xf /tmp/databases.tar
for name in mlflow prefect refit; do
  ask postgres "drop database if exists $name with (force)"
  ask postgres "create database $name owner $name"
  pg_restore -U refit -d "$name" --exit-on-error "$out/$name.dump"
done
ask postgres 'revoke connect on database mlflow, prefect from public'
RESTORE
compose run --rm -T --no-deps folders tar -C / -xf - < "$folder/volumes.tar"
compose up --detach --wait
echo "restored from $folder: \`refit history\` and \`refit doctor\` in the worker say whether ledger and registry agree"
