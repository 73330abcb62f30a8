/* SPDX-License-Identifier: ISC
 *
 * judge_pam.c - asks PAM whether a password is a user's.
 *
 * Knows PAM's conversation and nothing of logins.  Each case has a handle of its own, as modules
 * are asked from several threads.
 */
#include "worker/judge.h"

#ifdef HAVE_PAM

#include <security/pam_appl.h>
#include <stdlib.h>
#include <string.h>

/* A module's questions are answered with the one thing that the client has said. */
static int answer_one(const struct pam_message *question, const char *password,
		      struct pam_response *answer)
{
	switch (question->msg_style) {
	case PAM_PROMPT_ECHO_OFF:
		answer->resp = strdup(password);
		return answer->resp ? PAM_SUCCESS : PAM_BUF_ERR;
	case PAM_TEXT_INFO:
	case PAM_ERROR_MSG:
		return PAM_SUCCESS;
	default:
		return PAM_CONV_ERR;
	}
}

/* PAM frees the answers, and wipes them. */
static int converse(int n, const struct pam_message **questions, struct pam_response **answers,
		    void *arg)
{
	const struct judge_case *jc = arg;
	int rc = PAM_SUCCESS;

	if (n <= 0 || n > PAM_MAX_NUM_MSG)
		return PAM_CONV_ERR;
	*answers = calloc((size_t)n, sizeof(**answers));
	if (!*answers)
		return PAM_BUF_ERR;
	for (int i = 0; i < n && rc == PAM_SUCCESS; i++)
		rc = answer_one(questions[i], jc->password, &(*answers)[i]);
	if (rc == PAM_SUCCESS)
		return rc;
	for (int i = 0; i < n; i++) {
		if ((*answers)[i].resp)
			explicit_bzero((*answers)[i].resp, strlen((*answers)[i].resp));
		free((*answers)[i].resp);
	}
	free(*answers);
	*answers = NULL;
	return rc;
}

/* Who guesses is held up by login_failures_max; here others would wait for the thread. */
static void no_delay(int retval PGT_UNUSED, unsigned usec PGT_UNUSED, void *arg PGT_UNUSED)
{
}

/* What is no fault of whoever asks is no guess.  Whatever else a module says is: programs of
 * pam_exec have nothing but PAM_SYSTEM_ERR for a wrong password. */
static enum judgement verdict_of(pam_handle_t *pam, int rc, struct err *why)
{
	switch (rc) {
	case PAM_SUCCESS:
		return JUDGED_GOOD;
	case PAM_OPEN_ERR:
	case PAM_SYMBOL_ERR:
	case PAM_SERVICE_ERR:
	case PAM_MODULE_UNKNOWN:
	case PAM_AUTHINFO_UNAVAIL:
	case PAM_CONV_ERR:
	case PAM_BUF_ERR:
	case PAM_ABORT:
		err_set(why, "58000", "%s", pam_strerror(pam, rc));
		return JUDGED_NOT;
	default:
		return JUDGED_WRONG;
	}
}

static int examine(pam_handle_t *pam, const struct judge_case *jc)
{
	union {
		void (*fn)(int retval, unsigned usec, void *arg);
		const void *item;
	} delay = { .fn = no_delay };
	int rc = pam_set_item(pam, PAM_FAIL_DELAY, delay.item);

	if (rc == PAM_SUCCESS && *jc->address)
		rc = pam_set_item(pam, PAM_RHOST, jc->address);
	if (rc == PAM_SUCCESS)
		rc = pam_authenticate(pam, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
	/* The password may be right, and the account not valid any more. */
	if (rc == PAM_SUCCESS)
		rc = pam_acct_mgmt(pam, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
	return rc;
}

enum judgement judge_pam(const struct judge_case *jc, struct err *why)
{
	const struct pam_conv conv = { .conv = converse, .appdata_ptr = (void *)(uintptr_t)jc };
	pam_handle_t *pam = NULL;
	enum judgement verdict;
	int rc = pam_start(jc->service, jc->user, &conv, &pam);

	if (rc != PAM_SUCCESS) {
		err_set(why, "58000", "pam_start: error %d", rc);
		return JUDGED_NOT;
	}
	rc = examine(pam, jc);
	verdict = verdict_of(pam, rc, why);
	pam_end(pam, rc);
	return verdict;
}

#else

enum judgement judge_pam(const struct judge_case *jc PGT_UNUSED, struct err *why)
{
	err_set(why, "0A000", "this build has no PAM");
	return JUDGED_NOT;
}

#endif
