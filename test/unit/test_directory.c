/* SPDX-License-Identifier: ISC
 *
 * test_directory.c - what a directory is asked: options, URLs, names and filters.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "auth/directory.h"

#include <stdlib.h>
#include <string.h>

static struct directory *parse(const char *text)
{
	const char *fault;
	struct directory *d = directory_parse(slice_str(text), &fault);

	if (!d)
		fail_msg("%s: %s", text, fault);
	return d;
}

static void assert_uri(const char *options, unsigned n, const char *expected)
{
	struct directory *d = parse(options);
	char *uri = directory_uri(d, n);

	if (expected)
		assert_string_equal(uri, expected);
	else
		assert_null(uri);
	free(uri);
	directory_free(d);
}

static void test_servers(void **state)
{
	(void)state;
	assert_uri("ldapserver=a ldapbasedn=x", 0, "ldap://a");
	assert_uri("ldapserver=a ldapbasedn=x", 1, NULL);
	assert_uri("ldapserver=\" a  b.c \" ldapport=3890 ldapbasedn=x", 1, "ldap://b.c:3890");
	assert_uri("ldapserver=\"a b \" ldapbasedn=x", 2, NULL);
	assert_uri("ldapserver=a ldapscheme=ldaps ldapbasedn=x", 0, "ldaps://a");
	assert_uri("ldapserver=::1 ldapport=1 ldapbasedn=x", 0, "ldap://[::1]:1");
	assert_uri("ldapserver=[::1] ldapbasedn=x", 0, "ldap://[::1]");
	assert_uri("ldapurl=ldap://[::1]:1/x", 0, "ldap://[::1]:1");
	assert_uri("ldapurl=LDAPS://a/x", 0, "ldaps://a");
}

static void assert_search(const char *options, const char *base, const char *filter,
			  enum directory_scope scope)
{
	struct directory *d = parse(options);
	char *made = directory_filter_of(d, "u");

	assert_true(directory_searches(d));
	assert_string_equal(d->base, base);
	assert_string_equal(made, filter);
	assert_int_equal(d->scope, scope);
	free(made);
	directory_free(d);
}

static void test_searches(void **state)
{
	(void)state;
	assert_search("ldapserver=a ldapbasedn=\"dc=x, dc=y\"", "dc=x, dc=y", "(uid=u)",
		      DIRECTORY_SUBTREE);
	assert_search("ldapserver=a ldapbasedn=x ldapsearchattribute=cn", "x", "(cn=u)",
		      DIRECTORY_SUBTREE);
	assert_search(
	    "ldapserver=a ldapbasedn=x \"ldapsearchfilter=(|(a=$username)(b=$username))\"", "x",
	    "(|(a=u)(b=u))", DIRECTORY_SUBTREE);
	assert_search("ldapurl=ldap://a/dc=x", "dc=x", "(uid=u)", DIRECTORY_BASE);
	assert_search("ldapurl=\"ldap://a/dc=x%2cy?cn,sn?one\"", "dc=x,y", "(cn=u)", DIRECTORY_ONE);
	assert_search("ldapurl=\"ldap://a/dc=x?"
		      "?sub?(a=$username%29\"",
		      "dc=x", "(a=u)", DIRECTORY_SUBTREE);
}

static void test_faults(void **state)
{
	static const struct {
		const char *options, *fault;
	} rows[] = {
		{"",						      "ldap needs ldapserver=" },
		{ "ldapserver= ldapbasedn=x",                             "ldap needs ldapserver=" },
		{ "ldapserver=a",					 "ldap needs ldapprefix=" },
		{ "ldapserver=a:1 ldapbasedn=x",                          "ldapserver= is"         },
		{ "ldapserver=a/b ldapbasedn=x",                          "ldapserver= is"         },
		{ "ldapserver=a@b ldapbasedn=x",                          "ldapserver= is"         },
		{ "ldapserver=a ldapport=65536 ldapbasedn=x",             "ldapport= is"           },
		{ "ldapserver=a ldapport=-1 ldapbasedn=x",                "ldapport= is"           },
		{ "ldapserver=a ldapport=1x ldapbasedn=x",                "ldapport= is"           },
		{ "ldapserver=a ldapscheme=ldapi ldapbasedn=x",           "ldapscheme= is"         },
		{ "ldapserver=a ldaptls=yes ldapbasedn=x",                "ldaptls= is"            },
		{ "ldapserver=a ldapscheme=ldaps ldaptls=1 ldapbasedn=x", "ldaptls=1 is for"       },
		{ "ldapserver=a ldapprefix=x ldapbasedn=x",               "ldapprefix= and"        },
		{ "ldapserver=a ldapsuffix=x ldapsearchattribute=x",      "ldapprefix= and"        },
		{ "ldapserver=a ldapbasedn=x ldapsearchattribute=a)(b",   "ldapsearchattribute= is"},
		{ "ldapserver=a ldapbasedn=x ldapsearchattribute=",       "ldapsearchattribute= is"},
		{ "ldapserver=a ldapbasedn=x ldapsearchfilter=(a=b)",     "ldapsearchfilter= has"  },
		{ "ldapserver=a ldapbasedn=x ldapbinddn=cn=a",            "ldapbinddn= and"        },
		{ "ldapserver=a ldapbasedn=x ldapbindpasswd=a",           "ldapbinddn= and"        },
		{ "ldapurl=a",					    "ldapurl= begins"        },
		{ "ldapurl=ldap:///dc=x",                                 "ldap needs ldapserver=" },
		{ "ldapurl=ldap://a:0/dc=x",                              "ldapport= is"           },
		{ "ldapurl=ldap://a/dc=%2",                               "ldapurl=: %"            },
		{ "ldapurl=ldap://a/dc=%00",                              "ldapurl=: %"            },
		{ "ldapurl=ldap://a/dc=%gg",                              "ldapurl=: %"            },
		{ "ldapurl=ldap://a/dc=x?uid?deep",                       "ldapurl=: the scope"    },
		{ "ldapurl=ldap://a/dc=x?uid?sub?(a=$username)",          "ldapsearchattribute= or"},
		{ "ldapurl=ldap://a/dc=x?uid?sub?"
		  "?!ext",			       "ldapurl=: extensions"   },
		{ "nonsense",					     "there is no such option"},
		{ "ldapserver=\"a",				       "a quote without its end"},
	};

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		const char *fault;

		assert_null(directory_parse(slice_str(rows[i].options), &fault));
		if (strncmp(fault, rows[i].fault, strlen(rows[i].fault)) != 0)
			fail_msg("%s: %s", rows[i].options, fault);
	}
}

static void assert_name(const char *options, const char *user, const char *expected)
{
	struct directory *d = parse(options);
	char *name = directory_name_of(d, user);

	if (expected)
		assert_string_equal(name, expected);
	else
		assert_null(name);
	free(name);
	directory_free(d);
}

static void test_no_user_is_more_than_a_part_of_a_name(void **state)
{
	static const char cn[] = "ldapserver=a ldapprefix=cn= ldapsuffix=\",dc=x\"";
	static const char domain[] = "ldapserver=a ldapprefix=\"D\\\"";
	static const char at[] = "ldapserver=a ldapsuffix=@x";

	(void)state;
	assert_name(cn, "anna", "cn=anna,dc=x");
	assert_name(cn, "a,b+c=d\\e\"f<g>h;i#",
		    "cn=a\\2Cb\\2Bc\\3Dd\\5Ce\\22f\\3Cg\\3Eh\\3Bi\\23,dc=x");
	assert_name(cn, "J\xC3\xB6 e", "cn=J\\C3\\B6 e,dc=x");
	for (size_t i = 0; i < 3; i++) {
		const char *options = i == 0 ? cn : i == 1 ? domain : at;

		assert_name(options, "", NULL);
		assert_name(options, " a", NULL);
		assert_name(options, "a ", NULL);
		assert_name(options, "a  b", NULL);
		assert_name(options, "a\x01", NULL);
		assert_name(options, "a\x7F", NULL);
	}
	assert_name(domain, "anna", "D\\anna");
	assert_name(domain, "E\\anna", NULL);
	assert_name(domain, "anna@e", NULL);
	assert_name(at, "anna", "anna@x");
	assert_name(at, "anna@y", NULL);
	assert_name(at, "cn=anna", NULL);
	assert_name("ldapserver=a ldapprefix=", "anna@y", "anna@y");
}

static void assert_filter(const char *user, const char *expected)
{
	struct directory *d = parse("ldapserver=a ldapbasedn=x ldapsearchfilter=(a=$username)");
	char *filter = directory_filter_of(d, user);

	if (expected)
		assert_string_equal(filter, expected);
	else
		assert_null(filter);
	free(filter);
	directory_free(d);
}

static void test_no_user_is_more_than_a_value_of_a_filter(void **state)
{
	(void)state;
	assert_filter("anna", "(a=anna)");
	assert_filter("*", "(a=\\2A)");
	assert_filter("a)(b=c\\/", "(a=a\\29\\28b=c\\5C\\2F)");
	assert_filter("J\xC3\xB6", "(a=J\\C3\\B6)");
	assert_filter("$username", "(a=$username)");
	assert_filter("a ", NULL);
}

static void test_the_same(void **state)
{
	static const char text[] =
	    "ldapserver=a ldapbasedn=x ldapbinddn=b ldapbindpasswd=c ldapsearchattribute=d";
	struct directory *a = parse(text), *b = parse(text);

	(void)state;
	assert_true(directory_is_same(a, b));
	assert_true(directory_is_same(NULL, NULL));
	assert_false(directory_is_same(a, NULL));
	assert_null(directory_take(b, "ldapbindpasswd=other"));
	assert_false(directory_is_same(a, b));
	directory_free(a);
	directory_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_servers),
		cmocka_unit_test(test_searches),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_no_user_is_more_than_a_part_of_a_name),
		cmocka_unit_test(test_no_user_is_more_than_a_value_of_a_filter),
		cmocka_unit_test(test_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
