/* SPDX-License-Identifier: ISC
 *
 * missing.h - ways to log in that a build may lack: why, or NULL where it is there.
 */
#ifndef PGT_AUTH_MISSING_H
#define PGT_AUTH_MISSING_H

#include <stddef.h>

#ifdef HAVE_PAM
#define PAM_MISSING NULL
#else
#define PAM_MISSING "was left out of this build: there was no libpam (Debian: libpam0g-dev)"
#endif

#ifdef HAVE_LDAP
#define LDAP_MISSING NULL
#else
#define LDAP_MISSING "was left out of this build: there was no libldap (Debian: libldap-dev)"
#endif

#endif
