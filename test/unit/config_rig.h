/* SPDX-License-Identifier: ISC
 *
 * config_rig.h - a configuration from a text.
 */
#ifndef PGT_TEST_CONFIG_RIG_H
#define PGT_TEST_CONFIG_RIG_H

#include "base/assert.h"
#include "config/config.h"

/* A new reference; the test fails, with what is wrong, if it cannot be read. */
struct config *config_of_text(const char *ini);
/* The same of a text in parts. */
struct config *config_of_format(const char *format, ...) PGT_PRINTF(1, 2);

#endif
