#!/usr/bin/env bash
# Makes a certificate and a token key pair for development, in this folder.
set -euo pipefail
cd "$(dirname "$0")"
umask 077
# No authority (CA:FALSE): rustls takes the certificate of one for no server, whoever trusts it.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
    -keyout dev-key.pem -out dev.pem -subj /CN=localhost \
    -addext "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1" -addext "basicConstraints=critical,CA:FALSE"
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out jwt-key.pem
openssl pkey -in jwt-key.pem -pubout -out jwt.pub.pem
echo "made $(ls ./*.pem | xargs -n1 basename | tr '\n' ' ')"
