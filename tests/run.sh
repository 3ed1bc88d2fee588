#!/bin/sh
# The parts of `make test`.
#
#   run.sh LOGS NAME COMMAND...   runs one part, keeps its output in LOGS/NAME.log, and prints a line when it ends
#   run.sh LOGS                   sums up: what failed, how to run it again, how many tests there were
#
# A failed part does not end the run: only the sum does, with its exit code. A part that runs for more than LIMIT seconds
# is ended, and has failed.
set -u
logs=$1
shift

# What cargo's test harness counted: passed, failed, ignored.
counts() {
  awk '/^test result: / { passed += $4; failed += $6; ignored += $8 } END { print passed + 0, failed + 0, ignored + 0 }' "$@"
}

# The names of the failed tests: each file's harness lists them once more at its end.
failed_tests() {
  awk '/^failures:$/ { names = ""; next }
       /^    [^ ]/ { names = names substr($0, 5) "\n"; next }
       /^test result: FAILED/ { printf "%s", names }
       { if ($0 != "") names = "" }' "$1"
}

if [ $# -gt 0 ]; then
  name=$1
  shift
  log=$logs/$name.log
  echo "$*" >"$log"
  began=$(date +%s)
  # Off by default, because Ctrl-C does not reach a command that `timeout` runs.
  [ -z "${LIMIT-}" ] || set -- timeout --kill-after=10 "$LIMIT" "$@"
  "$@" >>"$log" 2>&1
  code=$?
  # 137: it ignored the signal, and was killed.
  case ${LIMIT:+$code} in 124|137) echo "It was ended after $LIMIT s." >>"$log";; esac
  echo "$code" >"$logs/$name.code"
  word=ok
  [ "$code" = 0 ] || word=FAILED
  set -- $(counts "$log")
  printf '%-6s  %-13s %4d tests %4d s\n' "$word" "$name" "$(($1 + $2))" "$(($(date +%s) - began))"
  exit 0
fi

whole=$logs/all.log
rm -f "$whole"
for log in "$logs"/*.log; do
  [ "$log" = "$whole" ] || { echo; echo "=== $log"; cat "$log"; } >>"$logs/all"
done
mv "$logs/all" "$whole"
grep -h '^NOT TESTED' "$whole" | sort -u
set -- $(counts "$whole")
status=0
for code in "$logs"/*.code; do
  [ "$(cat "$code")" = 0 ] && continue
  log=${code%.code}.log
  # The command, without what only a whole run needs.
  again=$(head -n 1 "$log" | sed 's/^.*cargo /cargo /; s/ -- .*//')
  [ "$status" = 1 ] || { echo; echo "Failed, and how to run it again:"; }
  status=1
  names=$(failed_tests "$log")
  if [ -n "$names" ]; then
    echo "$names" | sed "s/.*/  $again -- --exact '&'/"
  else
    echo "  $again"
    echo "    (it did not finish: exit code $(cat "$code"); see $log)"
  fi
done
echo
echo "The whole output: $whole"
echo "$1 passed, $2 failed, $3 skipped"
exit "$status"
