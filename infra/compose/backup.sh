#!/usr/bin/env bash
# Backs up the servers of compose.yaml while they run: infra/compose/backup.sh NEW_FOLDER
# Ledger and registry are dumped as they are at one moment, at which nobody writes to the ledger; then the models and DVC's files, which
# are only ever added. Models in a bucket (MLFLOW_ARTIFACTS=s3://...) are not in it: version the bucket.
set -euo pipefail
folder=${1:?usage: infra/compose/backup.sh NEW_FOLDER}
compose() { docker compose -f "$(dirname "$0")/compose.yaml" "$@"; }
[ ! -e "$folder" ] || { echo "error: $folder is there already; name a new folder" >&2; exit 1; }
umask 077
part=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$part"' EXIT
compose exec -T db bash -s > "$part/databases.tar" <<'DUMP'
set -euo pipefail
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
fail() { echo "error: $1: nothing was backed up" >&2; exit 1; }
hold() {  # NAME DATABASE SQL: the answer is in the file $out/NAME, and the session lasts as long as that file
  psql -X -q -At -v ON_ERROR_STOP=1 -U refit -d "$2" > "$out/log" <<SQL &
$3 \g $out/$1.new
\! mv "$out/$1.new" "$out/$1"; while [ -e "$out/$1" ]; do sleep 0.1; done
SQL
  until [ -e "$out/$1" ]; do kill -0 $! 2> "$out/log" || fail "database $2 does not answer"; sleep 0.1; done
}
dump() { pg_dump -U refit -Fc -f "$out/$1.dump" "${@:2}" "$1" && pg_restore -f /dev/null "$out/$1.dump" || fail "database $1 could not be dumped"; }
hold lock refit 'select pg_advisory_lock(-7086277149328404051)'  # of every writer of a ledger, who waits for a minute at most
for name in mlflow refit; do hold "$name" "$name" 'begin isolation level repeatable read; select pg_export_snapshot()'; done
rm "$out/lock"
for name in mlflow refit; do dump "$name" --snapshot="$(cat "$out/$name")"; done
dump prefect
tar -C "$out" -cf - mlflow.dump prefect.dump refit.dump
DUMP
# status 1: a file changed while it was read. It is a new one, which the databases do not name yet
compose run --rm -T --no-deps folders sh -c 'tar -C "$1" -cf - artifacts dvc || [ $? -eq 1 ]' sh / > "$part/volumes.tar" ||
  { echo "error: the volumes could not be copied: nothing was backed up" >&2; exit 1; }
(cd "$part" && sha256sum databases.tar volumes.tar > SHA256SUMS)
mv -T "$part" "$folder"
echo "backed up to $folder; keep infra/compose/.env with it: the passwords are not in it"
