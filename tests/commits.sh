#!/bin/sh
# Checks the subjects of the commits that are not on the main branch: `area: imperative summary`, at most 65 characters.
# Without a git history, or on the main branch itself, there is nothing to check.
main=$(git rev-parse --verify --quiet origin/main || git rev-parse --verify --quiet main) || exit 0
git log --no-merges --format=%s "$main..HEAD" | awk '
  length($0) > 65 { print "longer than 65 characters: " $0; bad = 1 }
  $0 !~ /^[a-z][a-z0-9-]*(, [a-z0-9-]+)*: [a-z0-9`"-]/ { print "not `area: imperative summary`: " $0; bad = 1 }
  END { exit bad }' || { echo "Reword them with \`git rebase --interactive $main\`; see src/guide/contributing.md."; exit 1; }
