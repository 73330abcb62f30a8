/* SPDX-License-Identifier: ISC
 *
 * rig.h - what the fuzzers of whole conversations share: Unix sockets in a folder of their own, a
 * loop that is turned by hand, and inputs in records.
 *
 * Does not know what is fuzzed.  What is drawn at random is the same in each run.
 */
#ifndef PGT_TEST_FUZZ_RIG_H
#define PGT_TEST_FUZZ_RIG_H

#include "config/config.h"
#include "net/conn.h"
#include "net/mailbox.h"
#include "net/resolve.h"

struct rig {
	struct loop *loop;
	struct mailbox mailbox;
	struct resolver *resolver;
	char dir[32]; /* where the sockets are; it goes with the process */
};

/* One for the whole process.  name: of the folder. */
void rig_init(struct rig *rig, const char *name);
/* A socket in it that listens as a server of this port does. */
int rig_listen(const struct rig *rig, unsigned port);
/* What has come to the loop of this mailbox is handled. */
void rig_turn(struct mailbox *box);

/* One that has to be right. */
struct config *rig_config(config_read_file_fn *read, const void *arg);

/* As much as the socket takes; -1: there is none. */
void rig_send(int fd, struct slice s);
/* A message of its type and its body; nothing of nothing. */
void rig_put_message(struct buf *b, struct slice message);

/* The next of records that end with a byte 0xfe.  False: there is none. */
bool rig_next_record(struct slice *rest, struct slice *record);

#endif
