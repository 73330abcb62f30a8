/* SPDX-License-Identifier: ISC
 *
 * test_hba.c - rules of pg_hba.conf and maps of pg_ident.conf: what they let in, what they refuse.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "auth/hba.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define NOBODY (-1)

/* --- parsing ---------------------------------------------------------------------------------- */

static char faults[4096];

static void note_fault(void *arg, const char *file, int line, const char *text)
{
	size_t n = strlen(faults);

	(void)arg;
	snprintf(faults + n, sizeof(faults) - n, "%s:%d: %s\n", file, line, text);
}

/* The files that rules may name. */
static bool read_file(void *arg, const char *path, struct buf *text, struct err *e)
{
	static const struct {
		const char *path, *text;
	} files[] = {
		{"dir/users",  "anna, \"bert\"\n# nobody\n@more cleo"},
		{ "dir/more",  "dora"                                },
		{ "/abs",      "abs"				 },
		{ "dir/loop",  "@loop"                               },
		{ "dir/group", "x\n+staff"                           },
	};

	(void)arg;
	for (size_t i = 0; i < PGT_NELEMS(files); i++)
		if (!strcmp(files[i].path, path)) {
			buf_put_slice(text, slice_str(files[i].text));
			return true;
		}
	return err_set(e, "F0000", "no such file");
}

static struct hba *parse(const char *text)
{
	const struct hba_reader reader = { read_file, note_fault, NULL };

	faults[0] = '\0';
	return hba_parse(slice_str(text), "dir/hba", &reader);
}

/* --- who comes -------------------------------------------------------------------------------- */

/* 10.0.0.1 is ours, 10.0.0.* our network. */
static bool is_near(bool is_ipv6, const uint8_t *ip, bool whole_net)
{
	static const uint8_t own[] = { 10, 0, 0, 1 };

	return !is_ipv6 && !memcmp(ip, own, whole_net ? 3 : 4);
}

/* "": a Unix socket.  A leading "s" is TLS, a leading "r" replication. */
static struct hba_who coming(const char *from, const char *database, const char *user)
{
	struct hba_who who = { .database = database, .user = user, .from = { .is_near = is_near } };

	who.is_tls = *from == 's';
	who.is_physical = *from == 'r';
	from += who.is_tls || who.is_physical;
	who.from.is_local = !*from;
	who.from.is_ipv6 = strchr(from, ':') != NULL;
	if (*from)
		assert_int_equal(
		    inet_pton(who.from.is_ipv6 ? AF_INET6 : AF_INET, from, who.from.ip), 1);
	return who;
}

static int method_of(const char *rules, const char *from, const char *database, const char *user)
{
	struct hba *hba = parse(rules);
	const struct hba_who who = coming(from, database, user);
	const struct hba_rule *rule = hba_find(hba, &who);
	int method = rule ? (int)rule->method : NOBODY;

	assert_string_equal(faults, "");
	hba_free(hba);
	return method;
}

static void test_each_part_decides(void **state)
{
	static const struct {
		const char *rule, *from, *database, *user;
		int method;
	} rows[] = {
  /* the kind of connection */
		{"local all all trust",                                        "",                 "db",          "u",      HBA_TRUST   },
		{ "local all all trust",                                       "10.0.0.9",         "db",          "u",      NOBODY      },
		{ "host all all all md5",                                      "",                 "db",          "u",      NOBODY      },
		{ "host all all all md5",                                      "10.0.0.9",         "db",          "u",      HBA_MD5     },
		{ "host all all all md5",                                      "s10.0.0.9",        "db",          "u",      HBA_MD5     },
		{ "hostssl all all all cert",                                  "s10.0.0.9",        "db",          "u",      HBA_CERT    },
		{ "hostssl all all all cert",                                  "10.0.0.9",         "db",          "u",      NOBODY      },
		{ "hostnossl all all all reject",                              "10.0.0.9",         "db",          "u",      HBA_REJECT  },
		{ "hostnossl all all all reject",                              "s10.0.0.9",        "db",          "u",      NOBODY      },
		{ "hostgssenc all all all trust",                              "10.0.0.9",         "db",          "u",      NOBODY      },
		{ "hostnogssenc all all all trust",                            "10.0.0.9",         "db",          "u",      HBA_TRUST   },
 /* databases */
		{ "local db all peer",					 "",                 "db",          "u",      HBA_PEER    },
		{ "local db all peer",					 "",                 "DB",          "u",      NOBODY      },
		{ "local a,db all peer",                                       "",                 "db",          "u",      HBA_PEER    },
		{ "local a, db all peer",                                      "",                 "db",          "u",      HBA_PEER    },
		{ "local sameuser all trust",                                  "",                 "u",           "u",      HBA_TRUST   },
		{ "local sameuser all trust",                                  "",                 "db",          "u",      NOBODY      },
		{ "local \"sameuser\" all trust",                              "",                 "u",           "u",      NOBODY      },
		{ "local \"all\" all trust",                                   "",                 "db",          "u",      NOBODY      },
		{ "local \"all\" all trust",                                   "",                 "all",         "u",      HBA_TRUST   },
		{ "local \"a b,c#\"\"d\" all trust",                           "",                 "a b,c#\"d",   "u",      HBA_TRUST   },
		{ "host all all all trust",                                    "r10.0.0.9",        "db",          "u",      NOBODY      },
		{ "host replication all all trust",                            "r10.0.0.9",        "db",          "u",      HBA_TRUST   },
		{ "host replication all all trust",                            "10.0.0.9",         "replication", "u",      NOBODY      },
		{ "host \"replication\" all all trust",                        "10.0.0.9",         "replication", "u",      HBA_TRUST   },
 /* users */
		{ "local all u scram-sha-256",                                 "",                 "db",          "u",      HBA_SCRAM   },
		{ "local all v,\"u\" password",                                "",                 "db",          "u",      HBA_PASSWORD},
		{ "local all sameuser trust",                                  "",                 "u",           "u",      NOBODY      },
		{ "local all @users trust",                                    "",                 "db",          "anna",   HBA_TRUST   },
		{ "local all @users trust",                                    "",                 "db",          "bert",   HBA_TRUST   },
		{ "local all @users trust",                                    "",                 "db",          "cleo",   HBA_TRUST   },
		{ "local all @users trust",                                    "",                 "db",          "dora",   HBA_TRUST   },
		{ "local all @users trust",                                    "",                 "db",          "nobody", NOBODY      },
		{ "local all x,@/abs trust",                                   "",                 "db",          "abs",    HBA_TRUST   },
		{ "local @users all trust",                                    "",                 "dora",        "u",      HBA_TRUST   },
		{ "local all \"@users\" trust",                                "",                 "db",          "@users", HBA_TRUST   },
		{ "local all \"+u\" trust",                                    "",                 "db",          "+u",     HBA_TRUST   },
 /* addresses */
		{ "host all all 10.0.0.0/24 trust",                            "10.0.0.255",       "db",          "u",      HBA_TRUST   },
		{ "host all all 10.0.0.0/24 trust",                            "10.0.1.0",         "db",          "u",      NOBODY      },
		{ "host all all 10.0.0.77/24 trust",                           "10.0.0.1",         "db",          "u",      HBA_TRUST   },
		{ "host all all 10.0.0.0/25 trust",                            "10.0.0.128",       "db",          "u",      NOBODY      },
		{ "host all all 0.0.0.0/0 trust",                              "10.0.1.0",         "db",          "u",      HBA_TRUST   },
		{ "host all all 0.0.0.0/0 trust",                              "2001:db8::1",      "db",          "u",      NOBODY      },
		{ "host all all 10.0.0.0 255.255.255.0 trust",                 "10.0.0.7",         "db",          "u",      HBA_TRUST   },
		{ "host all all 10.0.0.0 255.255.255.0 trust",                 "10.0.1.7",         "db",          "u",      NOBODY      },
		{ "host all all 10.0.0.7/32 trust",                            "10.0.0.7",         "db",          "u",      HBA_TRUST   },
		{ "host all all 10.0.0.7/32 trust",                            "10.0.0.6",         "db",          "u",      NOBODY      },
		{ "host all all ::1/128 trust",                                "::1",              "db",          "u",      HBA_TRUST   },
		{ "host all all 2001:db8::/33 trust",                          "2001:db8:7fff::1", "db",          "u",      HBA_TRUST   },
		{ "host all all 2001:db8::/33 trust",                          "2001:db8:8000::1", "db",          "u",      NOBODY      },
		{ "host all all ::/0 trust",                                   "10.0.0.1",         "db",          "u",      NOBODY      },
		{ "host all all 10.0.0.0/8 trust",                             "::ffff:10.1.2.3",  "db",          "u",      HBA_TRUST   },
		{ "host all all ::/0 trust",                                   "::ffff:10.1.2.3",  "db",          "u",      NOBODY      },
		{ "host all all samehost trust",                               "10.0.0.1",         "db",          "u",      HBA_TRUST   },
		{ "host all all samehost trust",                               "10.0.0.2",         "db",          "u",      NOBODY      },
		{ "host all all samenet trust",                                "10.0.0.2",         "db",          "u",      HBA_TRUST   },
		{ "host all all samenet trust",                                "10.0.1.2",         "db",          "u",      NOBODY      },
 /* lines */
		{ "# local all all trust\n\n  \t\nlocal all all reject # why", "",                 "db",          "u",
                 HBA_REJECT													     },
		{ "local \\\nall all \\\r\ntrust\r\n",                         "",                 "db",          "u",      HBA_TRUST   },
		{ "local db all md5\nlocal all all trust",                     "",                 "db",          "u",      HBA_MD5     },
		{ "local other all md5\nlocal all all trust",                  "",                 "db",          "u",      HBA_TRUST   },
		{ "local all all ident",                                       "",                 "db",          "u",      HBA_PEER    },
		{ "",							  "",                 "db",          "u",      NOBODY      },
	};

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		int method = method_of(rows[i].rule, rows[i].from, rows[i].database, rows[i].user);

		if (method != rows[i].method)
			fail_msg("%s: %d for %s %s %s", rows[i].rule, method, rows[i].from,
				 rows[i].database, rows[i].user);
	}
}

static void test_options(void **state)
{
	struct hba *hba =
	    parse("local all a peer map=m\n"
		  "hostssl all b all cert map=\"n 2\" clientcert=verify-full\n"
		  "hostssl all c all scram-sha-256 clientcert=verify-ca\n"
		  "hostssl all d all md5 clientcert=verify-full clientname=CN map=o\n");
	static const struct {
		const char *from, *user, *map;
		enum hba_clientcert clientcert;
	} rows[] = {
		{"",           "a", "m",   CLIENTCERT_NO         },
		{ "s10.0.0.1", "b", "n 2", CLIENTCERT_VERIFY_FULL},
		{ "s10.0.0.1", "c", NULL,  CLIENTCERT_VERIFY_CA  },
		{ "s10.0.0.1", "d", "o",   CLIENTCERT_VERIFY_FULL},
	};

	(void)state;
	assert_string_equal(faults, "");
	assert_int_equal(hba_wants_certificate(hba), 2);
	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		const struct hba_who who = coming(rows[i].from, "db", rows[i].user);
		const struct hba_rule *rule = hba_find(hba, &who);

		assert_non_null(rule);
		assert_int_equal(rule->line, i + 1);
		assert_int_equal(rule->clientcert, rows[i].clientcert);
		if (rows[i].map)
			assert_string_equal(rule->map, rows[i].map);
		else
			assert_null(rule->map);
	}
	hba_free(hba);
}

/* --- what is wrong ---------------------------------------------------------------------------- */

static void test_what_is_refused(void **state)
{
	static const struct {
		const char *text, *fault;
	} rows[] = {
		{"local all +staff trust",                                   "dir/hba:1: +staff: groups are not supported"         },
		{ "local all all,+staff trust",                              "dir/hba:1: +staff: groups are not supported"         },
		{ "local +staff all trust",                                  "dir/hba:1: +staff: groups are not supported"         },
		{ "local all @group trust",                                  "dir/group:2: +staff: groups are not supported"       },
		{ "local samerole all trust",                                "dir/hba:1: samerole: not supported"                  },
		{ "local samegroup all trust",                               "dir/hba:1: samegroup: not supported"                 },
		{ "local all /^u trust",                                     "dir/hba:1: /^u: a regular expression"                },
		{ "local all \"/^(u|v){1,2}$\" reject",
                 "dir/hba:1: /^(u|v){1,2}$: a regular expression"                                                                  },
		{ "\n\nlocal all @none trust",                               "dir/hba:3: dir/none: no such file"                   },
		{ "local all @loop trust",                                   "dir/loop:1: loop: files that name files"             },
		{ "loca all all trust",                                      "dir/hba:1: loca: a line begins with local"           },
		{ "\"local\" all all trust",                                 "dir/hba:1: local: a line begins with local"          },
		{ "include other",					   "dir/hba:1: include: not supported"                   },
		{ "local all",					       "dir/hba:1: behind the kind of connection"            },
		{ "local all all",					   "dir/hba:1: one method is missing"                    },
		{ "host all all",					    "dir/hba:1: one address is missing"                   },
		{ "host all all trust",                                      "dir/hba:1: trust: names of hosts are not supported"  },
		{ "host all all db.example.com trust",
                 "dir/hba:1: db.example.com: names of hosts"								       },
		{ "host all all .example.com trust",                         "dir/hba:1: .example.com: names of hosts"             },
		{ "host all all 10.0.0.256/8 trust",                         "dir/hba:1: 10.0.0.256/8: not an address"             },
		{ "host all all 10.0.0.1/33 trust",
                 "dir/hba:1: 10.0.0.1/33: behind the address stands"                                                               },
		{ "host all all 10.0.0.1/ trust",
                 "dir/hba:1: 10.0.0.1/: behind the address stands"                                                                 },
		{ "host all all 10.0.0.1/-1 trust",
                 "dir/hba:1: 10.0.0.1/-1: behind the address stands"                                                               },
		{ "host all all ::1/129 trust",                              "dir/hba:1: ::1/129: behind the address stands"       },
		{ "host all all 10.0.0.1 trust",
                 "dir/hba:1: 10.0.0.1: behind the address has to stand"                                                            },
		{ "host all all 10.0.0.1",                                   "dir/hba:1: 10.0.0.1: behind the address has to stand"},
		{ "host all all ::1 255.0.0.0 trust",
                 "dir/hba:1: ::1: behind the address has to stand"                                                                 },
		{ "host all all all peer",                                   "dir/hba:1: peer: for local lines only"               },
		{ "host all all all ident",                                  "dir/hba:1: ident: for local lines only"              },
		{ "host all all all cert",                                   "dir/hba:1: cert: for hostssl lines only"             },
#ifdef HAVE_LDAP
		{ "local all all ldap ldapserver=x",                         "dir/hba:1: ldap needs ldapprefix="                   },
		{ "local all all ldap ldapport=x",                           "dir/hba:1: ldapport= is a number"                    },
#else
		{ "local all all ldap", "dir/hba:1: ldap: was left out of this build" },
#endif
		{ "local all all md5 ldapbindpasswd=x",                      "dir/hba:1: ldapbindpasswd: is for ldap"              },
		{ "local all all md5 ldapbindpw=x",
                 "dir/hba:1: ldapbindpw: there is no such option"                                                                  },
#ifdef HAVE_PAM
		{ "local all all pam pamservice=",                           "dir/hba:1: pamservice= is for pam"                   },
		{ "local all all pam pamservice=a/b",                        "dir/hba:1: pamservice= is for pam"                   },
		{ "local all all pam pam_use_hostname=1",
                 "dir/hba:1: pam_use_hostname= is for pam"									 },
		{ "local all all pam map=m",                                 "dir/hba:1: map= is for"                              },
#else
		{ "local all all pam", "dir/hba:1: pam: was left out of this build" },
#endif
		{ "local all all md5 pamservice=a",                          "dir/hba:1: pamservice= is for pam"                   },
		{ "local all all md5 pam_use_hostname=0",
                 "dir/hba:1: pam_use_hostname= is for pam"									 },
		{ "local all all gss",				       "dir/hba:1: gss: there is no such method"             },
		{ "local all all trust,md5",                                 "dir/hba:1: one method is missing"                    },
		{ "local all all trust map=m",                               "dir/hba:1: map= is for"                              },
		{ "local all all peer krb=1",                                "dir/hba:1: krb: there is no such option"             },
		{ "local all all peer clientcert=verify-ca",
                 "dir/hba:1: clientcert= is for hostssl"									   },
		{ "hostssl all all all md5 clientcert=1",
                 "dir/hba:1: clientcert= is verify-ca or"									  },
		{ "hostssl all all all cert clientcert=verify-ca",
                 "dir/hba:1: clientcert= is verify-ca or"									  },
		{ "hostssl all all all cert clientname=DN",                  "dir/hba:1: clientname= is for"                       },
		{ "local \"all all trust",                                   "dir/hba:1: a quote without its end"                  },
		{ "local all, trust",					"dir/hba:1: behind the kind of connection"            },
		{ "local all all trust,",                                    "dir/hba:1: a comma without a word"                   },
		{ "local ,all all trust",                                    "dir/hba:1: a comma without a word"                   },
		{ "local 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5",
                 "dir/hba:1: too many fields"										      },
		{ "local \\\nall all nonsense",                              "dir/hba:1: nonsense"                                 },
		{ "local all all trust\n\\\n\nlocal all all nonsense",       "dir/hba:4: nonsense"                                 },
	};

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		struct hba *hba = parse(rows[i].text);

		if (strncmp(faults, rows[i].fault, strlen(rows[i].fault)) != 0)
			fail_msg("%s: %s", rows[i].text, faults);
		hba_free(hba);
	}
}

static void test_all_faults_are_told(void **state)
{
	struct hba *hba = parse("local all all trust\nlocal all +a,+b gss\nhost all all x trust\n");
	unsigned n = 0;

	(void)state;
	for (const char *c = faults; *c; c++)
		n += *c == '\n';
	assert_int_equal(n, 4);
	hba_free(hba);
}

/* --- maps ------------------------------------------------------------------------------------- */

static bool allows(const char *text, const char *map, const char *name, const char *user)
{
	struct ident *ident;
	bool allowed;

	faults[0] = '\0';
	ident = ident_parse(slice_str(text), "ident", note_fault, NULL);
	allowed = ident_allows(ident, map, name, user);
	ident_free(ident);
	return allowed;
}

static void test_maps(void **state)
{
	static const struct {
		const char *text, *map, *name, *user;
		bool allowed;
	} rows[] = {
		{"",								     NULL, "anna",          "anna",    true },
		{ "m anna bert",							 NULL, "anna",          "bert",    false},
		{ "m anna bert",							 "m",  "anna",          "bert",    true },
		{ "m anna bert",							 "m",  "anna",          "anna",    false},
		{ "m anna bert",							 "M",  "anna",          "bert",    false},
		{ "m anna bert\nm anna cleo # too",                                      "m",  "anna",          "cleo",    true },
		{ "m \"anna b\" \"c d\"",						"m",  "anna b",        "c d",     true },
		{ "m anna all",							  "m",  "anna",          "whoever", true },
		{ "m anna \"all\"",						      "m",  "anna",          "whoever", false},
		{ "m /^(.*)@example\\.com$ \\1",                                         "m",  "u@example.com", "u",       true },
		{ "m /^(.*)@example\\.com$ \\1",                                         "m",  "u@exampleXcom", "u",       false},
		{ "m /^(.*)@example\\.com$ \\1",                                         "m",  "u@example.com", "v",       false},
		{ "m /^(.*)@example\\.com$ app_\\1_x",                                   "m",  "u@example.com", "app_u_x", true },
		{ "m /^\\w+@[^]x]+\\(\\?$ u",                                            "m",  "anna@y(?",      "u",       true },
		{ "m /@example\\.com$ guest",                                            "m",  "u@example.com", "guest",   true },
		{ "m \"/^(a b)\" \\1",						   "m",  "a b c",         "a b",     true },
		{ "m /^[*+]+\\++$ u",						    "m",  "*+*++",         "u",       true },
		{ "m \"/^[a-z+]+(x{2,3})+$\" u",                                         "m",  "a+xx",          "u",       true },
		{ "m /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$ u", "m",
                 "01234567-89ab-cdef-0123-456789abcdef",                                                        "u",       true },
		{ "m /^(x)?u$ \\1",						      "m",  "u",             "",        false},
		{ "m anna bert",							 "m",  "",              "",        false},
	};

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		if (allows(rows[i].text, rows[i].map, rows[i].name, rows[i].user) !=
		    rows[i].allowed)
			fail_msg("%s: %s as %s", rows[i].text, rows[i].name, rows[i].user);
		assert_string_equal(faults, "");
	}
	assert_false(ident_allows(NULL, "m", "anna", "anna"));
}

static void test_what_maps_refuse(void **state)
{
	static const struct {
		const char *text, *fault;
	} rows[] = {
		{"m anna",			      "ident:1: a line is: map, system name, user"             },
		{ "m anna bert cleo",                   "ident:1: a line is: map, system name, user"             },
		{ "m anna bert,cleo",                   "ident:1: a line is: map, system name, user"             },
		{ "m anna +staff",                      "ident:1: +group is not supported"                       },
		{ "m anna /^x",                         "ident:1: a regular expression is for"                   },
		{ "m anna \"/^x\"",                     "ident:1: a regular expression is for"                   },
		{ "\nm /( anna",                        "ident:2: the regular expression makes"                  },
		{ "m / anna",                           "ident:1: the regular expression is empty"               },
		{ "m /x+++++++++++++++++ u",
                 "ident:1: the regular expression is too long, or repeats"                                       },
		{ "m /((x{99}){99}){99} u",
                 "ident:1: the regular expression is too long, or repeats"                                       },
		{ "m \"/x{1,99999999999999999999}\" u",
                 "ident:1: the regular expression is too long, or repeats"                                       },
		{ "m /(((((((a*)+)+)+)+)+)+)+ u",
                 "ident:1: the regular expression is too long, or repeats"                                       },
		{ "m /a+? u",                           "ident:1: the regular expression is too long, or repeats"},
		{ "m /^a\\d$ u",                        "ident:1: the regular expression has an escape"          },
		{ "m /^[\\w.-]+$ u",                    "ident:1: the regular expression has an escape"          },
		{ "m /^\\<a u",                         "ident:1: the regular expression has an escape"          },
		{ "m /^a \\1",                          "ident:1: \\1 without a group"                           },
	};

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		assert_false(allows(rows[i].text, "m", "anna", "anna"));
		if (strncmp(faults, rows[i].fault, strlen(rows[i].fault)) != 0)
			fail_msg("%s: %s", rows[i].text, faults);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_part_decides),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_what_is_refused),
		cmocka_unit_test(test_all_faults_are_told),
		cmocka_unit_test(test_maps),
		cmocka_unit_test(test_what_maps_refuse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
