#!/usr/bin/env bash
# Restores a folder of backup.sh into new volumes: infra/compose/restore.sh FOLDER, with the passwords in infra/compose/.env
# Refuses a database whose ledger has lines: first `docker compose -f infra/compose/compose.yaml down --volumes`, which deletes them.
# The ledger comes last: a restore that was cut off goes on with the same command.
set -euo pipefail
folder=${1:?usage: infra/compose/restore.sh FOLDER}
compose() { docker compose -f "$(dirname "$0")/compose.yaml" "$@"; }
require_no_lines() {
  local lines
  lines=$(compose exec -T db psql -X -q -At -v ON_ERROR_STOP=1 -U refit -d postgres <<'SQL'
select count(*) > 0 as made from pg_database where datname = 'refit' \gset
\if :made
\connect refit
select to_regclass('refit.ledger') is not null as made \gset
\endif
\if :made
select count(*) from refit.ledger;
\else
select 0;
\endif
SQL
  )
  [ "$lines" = 0 ] || { echo "error: the ledger here has lines; nothing was restored. Delete the volumes first: docker compose down --volumes" >&2; exit 1; }
}
(cd "$folder" && sha256sum --quiet -c SHA256SUMS)
compose up --detach --wait db
require_no_lines
compose stop worker mlflow prefect
require_no_lines  # nobody writes from here on
compose run --rm -T --no-deps folders tar -C / -xf - < "$folder/volumes.tar"
compose exec -T db sh -c 'cat > /tmp/databases.tar' < "$folder/databases.tar"
compose exec -T db bash -s <<'RESTORE'
set -euo pipefail
out=$(mktemp -d)
trap 'rm -rf "$out" /tmp/databases.tar' EXIT
ask() { psql -X -q -v ON_ERROR_STOP=1 -U refit -d postgres -c "$1"; }
tar -C "$out" -xf /tmp/databases.tar
for name in mlflow prefect refit; do
  ask "drop database if exists $name with (force)"
  ask "create database $name owner $name"
  pg_restore -U refit -d "$name" --single-transaction "$out/$name.dump"
done
ask 'revoke connect on database mlflow, prefect from public'
RESTORE
compose up --detach --wait
echo "restored from $folder: \`refit history\` and \`refit doctor\` in the worker say whether ledger and registry agree"
