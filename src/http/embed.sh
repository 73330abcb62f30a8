#!/bin/sh
# SPDX-License-Identifier: ISC
#
# embed.sh - C source with the bytes of files: embed.sh FILE … writes an array for each, called
# live_SUFFIX, and its length.
set -eu

echo '/* Made by src/http/embed.sh; do not edit. */'
echo '#include "http/live.h"'
for file; do
    name=live_${file##*.}
    printf '\nconst char %s[] = {\n' "$name"
    od -An -v -tx1 "$file" | sed 's/ \([0-9a-f][0-9a-f]\)/0x\1,/g'
    printf '};\nconst size_t %s_len = sizeof(%s);\n' "$name" "$name"
done
