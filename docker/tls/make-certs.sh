#!/bin/sh
# Makes a certificate authority and a server certificate for the TLS profile, in certs/ beside this file.
# Trust certs/ca.crt in the client. Nothing is made twice: remove certs/ to start anew.
set -eu
cd "$(dirname "$0")"
mkdir -p certs
cd certs
[ -f server.crt ] && exit 0
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 \
  -subj "/CN=infra development authority" -keyout ca.key -out ca.crt
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
  -subj "/CN=localhost" -keyout server.key -out server.csr
printf 'basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n' >server.ext
openssl x509 -req -days 365 -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial \
  -extfile server.ext -out server.crt
rm -f server.csr server.ext
# The server runs as another user inside the container.
chmod 644 server.key
