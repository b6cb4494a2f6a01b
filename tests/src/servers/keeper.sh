# Runs a server for exactly as long as the test process lives, however that ends.
#
# Usage: sh -c THIS keeper DIRECTORY SERVER ARGUMENTS...
# Standard input is a pipe whose other end only the test process holds: when it closes, the server is killed.
# A line "keep" before the end says that the directory is needed again; otherwise it is removed.
# Standard output gets the server's process id; the server's own output goes to standard error.
directory=$1
shift
exec 3<&0
"$@" </dev/null >&2 3<&- &
server=$!
(
  keep=
  while read -r line; do keep=$line; done <&3
  [ -n "$keep" ] || : >"$directory/.remove"
  kill -9 "$server"
) &
watcher=$!
echo "$server"
exec 3<&- >&-
wait "$server"
code=$?
# The watcher must not outlive the server: its process id may belong to another process by then.
kill "$watcher" 2>/dev/null
if [ -e "$directory/.remove" ]; then rm -rf -- "$directory"; fi
exit "$code"
