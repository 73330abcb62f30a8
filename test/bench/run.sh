#!/bin/sh
# SPDX-License-Identifier: ISC
# run.sh - starts run.py with the system's Python.  `sh test/bench/run.sh --help` tells the options.
exec /usr/bin/python3 -B "$(dirname "$0")/run.py" "$@"
