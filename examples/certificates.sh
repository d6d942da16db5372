#!/bin/sh
# Makes an authority, a certificate for a server and one for a producer, and tokens, for examples/collector-tls.toml:
#
#   examples/certificates.sh DIRECTORY SERVER_NAME
#
# What is there is kept, so that more names can be signed by the same authority later.
set -eu

directory=${1:?the directory to write to}
server=${2:?the name under which producers connect}
umask 077
mkdir -p "$directory"
cd "$directory"

sign() { # FILE COMMON_NAME NAMES USAGE
    [ -e "$1.pem" ] && return
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=$2"
    printf 'subjectAltName=%s\nextendedKeyUsage=%s\n' "$3" "$4" > "$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 825 -extfile "$1.ext" -out "$1.pem"
    rm "$1.csr" "$1.ext"
}

[ -e ca.pem ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
    -keyout ca.key -out ca.pem -subj "/CN=corefold collector"
sign server "$server" "DNS:$server,DNS:localhost,IP:127.0.0.1" serverAuth
sign edge-1 edge-1 "DNS:edge-1.plant.example" clientAuth
[ -e web.token ] || openssl rand -hex 32 > web.token
