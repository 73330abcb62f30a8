#!/bin/sh
# SPDX-License-Identifier: ISC
#
# autogen.sh - make ./configure from configure.ac and Makefile.am.
#
# Needs autoconf, automake and pkg-config; what a release tarball already holds.
set -eu
cd "$(dirname "$0")"
exec autoreconf --install --force --warnings=all
