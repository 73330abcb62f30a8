# SPDX-License-Identifier: ISC
#
# settings.awk - puts the settings of docs/settings.md in the place of @SETTINGS@ in a manual page.
#
# awk -f settings.awk settings.md page.in >page

# Markdown to roff: backslashes, hyphens, `code`, **strong**, and a dot that begins a line.
function roff(text) {
	gsub(/\\/, "\\e", text)
	gsub(/-/, "\\-", text)
	while (match(text, /`[^`]*`/))
		text = substr(text, 1, RSTART - 1) "\\fB" substr(text, RSTART + 1, RLENGTH - 2) \
		       "\\fR" substr(text, RSTART + RLENGTH)
	while (match(text, /\*\*[^*]*\*\*/))
		text = substr(text, 1, RSTART - 1) "\\fI" substr(text, RSTART + 2, RLENGTH - 4) \
		       "\\fR" substr(text, RSTART + RLENGTH)
	return text ~ /^[.']/ ? "\\&" text : text
}

function add(line) {
	settings = settings (settings == "" ? "" : "\n") line
}

FNR == NR && /^## /  { chapter = 1; add(".SS \"" roff(substr($0, 4)) "\""); next }
FNR == NR && /^### / { add(".TP\n.B " roff(substr($0, 5))); next }
FNR == NR && /^- /   { add(".br\n" roff(substr($0, 3)) "."); next }
FNR == NR            { if (chapter && $0 != "") add(roff($0)); next }
/^@SETTINGS@$/       { print settings; next }
                     { print }
