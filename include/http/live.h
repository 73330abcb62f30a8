/* SPDX-License-Identifier: ISC
 *
 * live.h - the live page's sources, as the build has put them into the program.
 */
#ifndef PGT_HTTP_LIVE_H
#define PGT_HTTP_LIVE_H

#include <stddef.h>

extern const char live_html[];
extern const size_t live_html_len;
extern const char live_css[];
extern const size_t live_css_len;
extern const char live_js[];
extern const size_t live_js_len;

#endif
