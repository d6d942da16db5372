#!/usr/bin/env bash
# Bodies of every form by curl, and datagrams and lines by the shell.
set -eu

post() { curl -sS --fail-with-body -o /dev/null "$@"; }

printf 'cpu,env=a value=1 1704067200\ncpu,env=b value=2i 1704067201\n' |
  post "http://$HTTP/write?db=x&precision=s" --data-binary @-
printf 'cpu,env=a value=4 1704067202000000000\n' | gzip -c |
  post "http://$HTTP/api/v2/write?org=o&bucket=b" -H 'Content-Encoding: gzip' --data-binary @-
printf '{"time":"2024-01-01T00:00:00Z","name":"json","value":0.5}\n{"time":"2024-01-01T00:00:01Z","name":"json"}\n' |
  post "http://$HTTP/streams/metrics" --data-binary @-
printf 'time,name,kind,value,text,rate,env\n2024-01-01T00:00:00Z,csv,c,3,x,,\n' |
  post "http://$HTTP/streams/metrics" -H 'Content-Type: text/csv' --data-binary @-
# A refused one leaves nothing behind.
status="$(curl -sS -o /dev/null -w '%{http_code}' "http://$HTTP/write" --data-binary $'cpu value=1\ncpu value=x')"
[ "$status" = 400 ]

exec 3<>"/dev/tcp/${STATSD_TCP%:*}/${STATSD_TCP#*:}"
printf 'shell:1|c\nshell:2|c|#env:a\n' >&3
exec 3>&-
exec 3<>"/dev/udp/${STATSD_UDP%:*}/${STATSD_UDP#*:}"
printf 'datagram:5|ms' >&3
exec 3>&-
