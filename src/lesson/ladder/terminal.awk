# Shows a lesson's Markdown in a terminal: awk -v width=80 -f terminal.awk PAGE (`make lessons`)

BEGIN {
    bold = "\033[1m"; code = "\033[36m"; added = "\033[32m"; removed = "\033[31m"; plain = "\033[0m"
    if (ENVIRON["NO_COLOR"] != "") bold = code = added = removed = plain = ""
    if (width < 40 || width > 100) width = width < 40 ? 80 : 100
}

# Text between two marks becomes bold, or gets another colour.
function between(text, mark, style,    result, at, size) {
    size = length(mark)
    while ((at = index(text, mark)) && index(substr(text, at + size), mark)) {
        result = result substr(text, 1, at - 1) style
        text = substr(text, at + size)
        at = index(text, mark)
        result = result substr(text, 1, at - 1) plain
        text = substr(text, at + size)
    }
    return result text
}

# A link becomes its text and, if that is a file of the project, the file's path.
function without_links(text,    target, label) {
    while (match(text, /\[[^][]*\]\([^()]*\)/)) {
        label = substr(text, RSTART + 1, RLENGTH - 2)
        target = label
        sub(/\]\(.*/, "", label)
        sub(/.*\]\(/, "", target)
        sub(/^\.\.\/\.\.\//, "src/", target)
        target = target ~ /^src\// ? " (" target ")" : ""
        text = substr(text, 1, RSTART - 1) label target substr(text, RSTART + RLENGTH)
    }
    while (match(text, /<http[^>]*>/)) {
        text = substr(text, 1, RSTART - 1) substr(text, RSTART + 1, RLENGTH - 2) substr(text, RSTART + RLENGTH)
    }
    return text
}

function styled(text) { return between(between(without_links(text), "`", code), "**", bold) }

# Prints the paragraph that has been collected, with lines of at most `width` columns.
function flush(    words, count, i, line, columns, shown, indent) {
    count = split(styled(paragraph), words, " ")
    indent = paragraph ~ /^(- |[0-9]+\. )/ ? "  " : ""
    columns = 0
    for (i = 1; i <= count; i++) {
        shown = words[i]
        gsub(/\033\[[0-9]*m/, "", shown)
        if (columns && columns + 1 + length(shown) > width) {
            print line
            line = ""; columns = 0
        }
        if (!columns && i > 1) { line = indent words[i]; columns = length(indent shown) }
        else { line = line (columns ? " " : "") words[i]; columns += length(shown) + (columns ? 1 : 0) }
    }
    if (count) print line
    paragraph = ""
}

/^```/ { flush(); is_blank = 0; in_block = !in_block; is_diff = /diff/; next }
in_block && is_diff && /^\+/ { print "    " added $0 plain; next }
in_block && is_diff && /^-/ { print "    " removed $0 plain; next }
in_block { print "    " $0; next }

/^<!--/ || /^<\/details>/ { next }
/^<details>/ { flush(); print bold "Answer" plain; is_blank = 0; next }
/^#/ { flush(); is_blank = 0; sub(/^#+ /, ""); gsub(/`/, ""); print bold $0 plain; next }

# A row of a table becomes an item of a list: the first cell, and the others after it.
/^\|[-|]+$/ { next }
/^\|/ {
    flush()
    gsub(/^\| | \|$/, "")
    first = $0; sub(/ \| .*/, "", first)
    rest = $0; sub(/^[^|]*\| /, "", rest); gsub(/ \| /, "; ", rest)
    paragraph = is_blank ? "**" first ": " rest "**" : "- " first ": " rest
    flush()
    is_blank = 0
    next
}

/^$/ { flush(); if (!is_blank) print; is_blank = 1; next }
{ is_blank = 0 }
/^(- |[0-9]+\. )/ { flush() }
{ sub(/^ +/, ""); paragraph = paragraph (paragraph == "" ? "" : " ") $0 }
END { flush() }
