#!/bin/sh
# Makes the secrets that docker-compose.yml mounts, in ./secrets; keeps those that exist. Run it where that file is.
set -eu
umask 022 # the containers' own users have to read the files; nobody else gets past the folder, which is yours alone
mkdir -p secrets
chmod 700 secrets

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
once() { [ -e "secrets/$1" ] || { printf %s "$2" > "secrets/$1" && echo "made secrets/$1"; }; }

once postgres_password "$(random)"
once database_url "postgresql://tallyhook:$(cat secrets/postgres_password)@postgres:5432/tallyhook"
once admin_token "$(random)"
once read_token "$(random)"
# These two come from Stripe: write them into the files.
once stripe_api_key ''
once stripe_webhook_secret ''
