/* SPDX-License-Identifier: ISC
 *
 * frame.c - names of messages.  Boundaries are found in frame.h, inline.
 */
#include "wire/frame.h"

#define X(enumerator, byte, name) [byte] = name,
static const char *const frontend_names[256] = { FRONTEND_MESSAGES(X) };
static const char *const backend_names[256] = {
	BACKEND_MESSAGES(X)[MSG_COPY_DATA] = "CopyData", [MSG_COPY_DONE] = "CopyDone"
};
#undef X

static const char *name_or_unknown(const char *name)
{
	return name ? name : "unknown message";
}

const char *frontend_message_name(uint8_t type)
{
	return name_or_unknown(frontend_names[type]);
}

const char *backend_message_name(uint8_t type)
{
	return name_or_unknown(backend_names[type]);
}
