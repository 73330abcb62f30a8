# SPDX-License-Identifier: ISC
#
# pgt.m4 - ask the compiler whether it takes a flag, the linker where a function is.
#
# Collects what was accepted in PGT_CFLAGS, PGT_CPPFLAGS, PGT_LDFLAGS and leaves the user's own
# CFLAGS, CPPFLAGS, LDFLAGS and LIBS alone.  Knows no flag by name.

# _PGT_WITH(VARIABLE, FLAGS, TEST): run TEST with FLAGS and -Werror appended to VARIABLE, since
# clang only warns about a flag that it does not know.
AC_DEFUN([_PGT_WITH],
[pgt_saved_$1=$$1
$1="$$1 $2 -Werror"
$3
$1=$pgt_saved_$1])

# PGT_HAVE_CFLAG(FLAG, IF-YES, IF-NO): compiled and linked, as sanitizers need a library.
# A -Wno-x that gcc does not know passes silently, so its -Wx is asked for.
AC_DEFUN([PGT_HAVE_CFLAG],
[AC_MSG_CHECKING([whether $CC takes $1])
pgt_flag=`AS_ECHO(["$1"]) | sed 's/^-Wno-/-W/'`
_PGT_WITH([CFLAGS], [$pgt_flag],
    [AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])], [pgt_ok=yes], [pgt_ok=no])])
AC_MSG_RESULT([$pgt_ok])
AS_IF([test "x$pgt_ok" = xyes], [$2], [$3])])

# PGT_TRY_CFLAGS(FLAGS): add each that works.
AC_DEFUN([PGT_TRY_CFLAGS],
[for pgt_each in m4_normalize([$1]); do
    PGT_HAVE_CFLAG([$pgt_each], [PGT_CFLAGS="$PGT_CFLAGS $pgt_each"])
done])

# PGT_NEED_CFLAG(FLAG): add it, or stop.
AC_DEFUN([PGT_NEED_CFLAG],
[PGT_HAVE_CFLAG([$1], [PGT_CFLAGS="$PGT_CFLAGS $1"], [AC_MSG_ERROR([$CC does not take $1])])])

# PGT_TRY_LDFLAGS(FLAGS): add each that links, with the CFLAGS collected so far (-pie wants -fPIE).
AC_DEFUN([PGT_TRY_LDFLAGS],
[for pgt_each in m4_normalize([$1]); do
    AC_MSG_CHECKING([whether the linker takes $pgt_each])
    _PGT_WITH([CFLAGS], [$PGT_CFLAGS $PGT_LDFLAGS $pgt_each],
        [AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])], [pgt_ok=yes], [pgt_ok=no])])
    AC_MSG_RESULT([$pgt_ok])
    AS_IF([test "x$pgt_ok" = xyes], [PGT_LDFLAGS="$PGT_LDFLAGS $pgt_each"])
done])

# PGT_TRY_FORTIFY: glibc warns about it without optimisation, so it depends on the user's CFLAGS.
AC_DEFUN([PGT_TRY_FORTIFY],
[AC_MSG_CHECKING([whether _FORTIFY_SOURCE works with $CFLAGS])
pgt_fortify="-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2"
_PGT_WITH([CFLAGS], [$pgt_fortify],
    [AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <string.h>]], [])],
        [pgt_ok=yes], [pgt_ok=no])])
AC_MSG_RESULT([$pgt_ok])
AS_IF([test "x$pgt_ok" = xyes], [PGT_CPPFLAGS="$PGT_CPPFLAGS $pgt_fortify"])])

# PGT_FIND_LIB(PREFIX, LIBRARY, FUNCTION, IF-FOUND, IF-NOT): set and substitute PREFIX_LIBS.
AC_DEFUN([PGT_FIND_LIB],
[AC_CHECK_LIB([$2], [$3], [$1_LIBS=-l$2
    $4], [$5])
AC_SUBST([$1_LIBS])])
