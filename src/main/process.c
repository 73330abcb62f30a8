/* SPDX-License-Identifier: ISC
 *
 * process.c - what the process is to the system: its user, its limits, its pidfile, its supervisor.
 *
 * Knows no setting by name.
 */
#include "main/process.h"

#include "base/log.h"
#include "base/sanitizer.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

bool process_become(const char *user, struct err *e)
{
	const struct passwd *pw;

	if (!*user)
		return true;
	errno = 0;
	pw = getpwnam(user);
	if (!pw)
		return err_set(e, "F0000", "user \"%s\": %s", user,
			       errno ? strerror(errno) : "there is no such system user");
	if (pw->pw_uid == geteuid())
		return true;
	if (geteuid() != 0)
		return err_set(e, "F0000", "only root can become user \"%s\"", user);
	if (initgroups(user, pw->pw_gid) < 0 || setgid(pw->pw_gid) < 0 || setuid(pw->pw_uid) < 0)
		return err_set(e, "F0000", "cannot become user \"%s\": %s", user, strerror(errno));
	/* Now it is what the system has for those who change (fs.suid_dumpable). */
	process_hide_memory();
	if (setuid(0) == 0)
		return err_set(e, "F0000", "user \"%s\" can become root again", user);
	return true;
}

void process_raise_file_limit(unsigned long needed)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warning("cannot raise the limit of open files: %s", strerror(errno));
	if (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < needed)
		log_warning("the limit of open files is %lu, but the configuration may need %lu: "
			    "raise it (ulimit -n, LimitNOFILE=) or lower max_client_conn",
			    (unsigned long)limit.rlim_cur, needed);
}

void process_hide_memory(void)
{
#ifndef PGT_DEBUG
	prctl(PR_SET_DUMPABLE, false);
#endif
}

void process_show_memory(void)
{
	if (PGT_IS_WATCHED)
		prctl(PR_SET_DUMPABLE, true);
}

void process_ignore_signals(void)
{
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
}

void process_hold_signals(void)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
}

bool process_daemonise(struct err *e)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	pid_t pid = null < 0 ? -1 : fork();

	if (pid < 0)
		return err_set(e, "F0000", "cannot go to the background: %s", strerror(errno));
	/* Nothing that is to be written or removed at exit is this process's any more. */
	if (pid > 0)
		_exit(EXIT_SUCCESS);
	setsid();
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	close(null);
	return true;
}

bool pidfile_take(struct pidfile *file, const char *path, int given, struct err *e)
{
	char holder[16] = "";

	*file = (struct pidfile){ .path = path, .fd = -1 };
	if (!*path)
		return true;
	if (given >= 0) {
		file->fd = given;
		file->is_lent = true;
		return true;
	}
	file->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (file->fd < 0)
		return err_set(e, "F0000", "cannot open the pidfile \"%s\": %s", path,
			       strerror(errno));
	if (flock(file->fd, LOCK_EX | LOCK_NB) == 0)
		return true;
	if (read(file->fd, holder, sizeof(holder) - 1) > 0)
		holder[strcspn(holder, "\n")] = '\0';
	close(file->fd);
	file->fd = -1;
	return err_set(e, "F0000", "pidfile \"%s\": process %s runs already", path, holder);
}

void pidfile_write(struct pidfile *file)
{
	file->is_lent = false;
	if (file->fd < 0)
		return;
	/* Who had it before has written to the same descriptor. */
	if (ftruncate(file->fd, 0) < 0 || lseek(file->fd, 0, SEEK_SET) < 0 ||
	    dprintf(file->fd, "%d\n", (int)getpid()) < 0)
		log_warning("cannot write the pidfile \"%s\": %s", file->path, strerror(errno));
}

void pidfile_remove(struct pidfile *file)
{
	if (file->fd < 0)
		return;
	/* While it is still locked, so that it is nobody else's. */
	if (!file->is_lent)
		unlink(file->path);
	close(file->fd);
	file->fd = -1;
}

void process_tell(const char *state)
{
#ifdef HAVE_SYSTEMD
	sd_notify(0, state);
#else
	(void)state;
#endif
}
