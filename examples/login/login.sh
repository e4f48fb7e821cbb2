#!/usr/bin/env bash
# Logs in at OpsAdmin and prints the answer, which has the access token.
#
#     login.sh ISSUER API_KEY_FILE SECRET_KEY_FILE
#
# Needs bash, openssl and curl. Other users of the machine can see the arguments of every program. So the secret key and
# the assertion go through pipes and the shell's own printf only.
set -euo pipefail
[ $# = 3 ] || { echo "Usage: login.sh ISSUER API_KEY_FILE SECRET_KEY_FILE" >&2 && exit 2; }
issuer=$1
api_key=$(cat "$2")

hex() { od -A n -t x1 -v | tr -d ' \n'; }
base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
sha256() { openssl dgst -sha256 -binary; }
json() {
    local text=${1//\\/\\\\}
    printf '"%s"' "${text//\"/\\\"}"
}

# HMAC-SHA256 (RFC 2104) by two hashes: openssl takes the key of an HMAC only as an argument.
key=$(tr -d '\n' <"$3" | hex)
if ((${#key} > 128)); then key=$(tr -d '\n' <"$3" | sha256 | hex); fi
pad() {
    for ((i = 0; i < 128; i += 2)); do
        byte=${key:i:2}
        printf '%b' "\\x$(printf '%02x' $((0x${byte:-0} ^ $1)))"
    done
}
hmac() { { pad 0x5c && { pad 0x36 && cat; } | sha256; } | sha256; }

now=$(date +%s)
header=$(printf '{"alg":"HS256","typ":"JWT"}' | base64url)
claims=$(printf '{"iss":%s,"sub":%s,"aud":%s,"iat":%d,"exp":%d,"jti":"%s"}' "$(json "$api_key")" "$(json "$api_key")" \
    "$(json "$issuer")" "$now" "$((now + 60))" "$(openssl rand -hex 16)" | base64url)
signature=$(printf %s "$header.$claims" | hmac | base64url)

printf 'grant_type=client_credentials&client_assertion_type=%s&client_assertion=%s' \
    urn:ietf:params:oauth:client-assertion-type:jwt-bearer "$header.$claims.$signature" |
    curl --silent --show-error --fail-with-body --data @- "$issuer/token"
