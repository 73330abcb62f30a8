# SPDX-License-Identifier: ISC
#
# logins.py - what fuzz_relay.c begins with for logins: whole ones, of clients and to servers, and
# nearly whole ones; and for fuzz_jwt.c, keys and tokens.
#
# Challenges can be answered here because a fuzzer draws the same bytes each time (rig.c).
"""client_logins(), server_logins(), key_sets(), tokens()."""
import base64
import hashlib
import hmac
import json

import raw

SECRET = b"secret"  # of the users of fuzz_relay.c, but for app's, which is x
SALT = b"kkkk"
NONCE = base64.b64encode(b"k" * 18)  # of either side that is ours
JWT_SECRET = b"0123456789abcdef" * 2
# The first byte of an input of fuzz_relay.c: its configurations that have another auth_type than trust.
MD5, LOOKED_UP, SCRAM, PLAIN, ANY, RULES, TOKEN, REPLICA = range(5, 13)
RAW, MESSAGE, AT_ONCE, LAST, LATER, TOLD = 64, 4, 8, 16, 32, 128  # enum how
RELOADED, READ_AGAIN, ARRIVES = 4, 8, 16  # enum told


# ---- SCRAM, JSON Web Tokens ------------------------------------------------------------------------
BOUND = b"p=tls-server-end-point,,"


def scram_end(client_nonce, nonce, binding=b"n,,", secret=SECRET, salt=b"salt"):
    """The two messages that end a login by SCRAM, of a client and of a server who know the secret."""
    binding = base64.b64encode(binding)
    said = b"n=,r=%s,r=%s,s=%s,i=1,c=%s,r=%s" % (client_nonce, nonce, base64.b64encode(salt), binding, nonce)
    salted = hashlib.pbkdf2_hmac("sha256", secret, salt, 1)
    client_key, server_key = (hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key"))
    signature = hmac.digest(hashlib.sha256(client_key).digest(), said, "sha256")
    proof = bytes(a ^ b for a, b in zip(client_key, signature))
    return (b"c=%s,r=%s,p=%s" % (binding, nonce, base64.b64encode(proof)),
            b"v=" + base64.b64encode(hmac.digest(server_key, said, "sha256")))


def _base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _token(**claims):
    said = _base64url(b'{"alg":"HS256"}') + b"." + _base64url(json.dumps({"aud": "db", "exp": 10**15, **claims}).encode())
    return said + b"." + _base64url(hmac.digest(JWT_SECRET, said, "sha256"))


# Points of the curves that every key of them is a multiple of, and a public key of RFC 8037.
_POINTS = {
    "P-256": (32, 0x6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296,
              0x4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5),
    "P-384": (48, 0xaa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7,
              0x3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f),
    "P-521": (66, 0xc6858e06b70404e9cd9e3ecb662395b4429c648139053fb521f828af606b4d3dbaa14b5e77efe75928fe1dc127a2ffa8de3348b3c1856a429bf97e7e31c2e5bd66,
              0x11839296a789a3bc0045c8a5fb42c7d1bd998f54449579b446817afbd17273e662c97ee72995ef42640c550b9013fad0761353c7086a272c24088be94769fd16650),
}
_EDWARDS = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"


def _number(value, length):
    return _base64url(value.to_bytes(length, "big")).decode()


def _pem(spki):
    return b"-----BEGIN PUBLIC KEY-----\n" + base64.encodebytes(spki) + b"-----END PUBLIC KEY-----\n"


def _edwards_pem(kind):
    """Ed25519 (112) or X25519 (110)."""
    return _pem(bytes([0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, kind, 3, 0x21, 0])
                + base64.urlsafe_b64decode(_EDWARDS + "="))


def key_sets():
    """Files of keys: what is good, of no use, and nearly right."""
    rsa = {"kty": "RSA", "n": _number((1 << 2047) + 1, 256), "e": "AQAB"}
    edwards = {"kty": "OKP", "crv": "Ed25519", "x": _EDWARDS}
    curves = [{"kty": "EC", "crv": name, "x": _number(x, n), "y": _number(y, n)} for name, (n, x, y) in _POINTS.items()]
    changed = [{**key, **change} for key in (rsa, edwards, *curves)
               for change in ({}, {"kid": "a", "alg": "RS256", "use": "sig"}, {"use": "enc"}, {"x": "AAAA"}, {"y": "AAAA"},
                              {"x": ""}, {"n": "AQAB"}, {"e": ""}, {"e": "AQAB" * 4}, {"crv": "P-256"}, {"crv": 1}, {"kty": 1},
                              {"kty": "oct", "k": "AAAA"}, {"n": _number(1 << 9000, 1126)}, {"n": _number(1 << 8195, 1025)}, {"n": 1}, {"y": _number(7, 32)}, {"n": "+/="},
                              {"x": "A"}, {"crv": None})]
    for keys in (*([key] for key in changed), [rsa, edwards, *curves], [edwards] * 34, [], {}, [1]):
        yield json.dumps({"keys": keys}).encode()
    # Values of JSON, as what a key is.
    for said in (b'"\\u00e9\\u20ac\\ud83d\\ude00\\n\\t\\\"\\\\\\/"', b'"\\ud83d"', b'"\\ud83d\\u0041"', b'"\\ud83d\\ue000"', b'"\\udc00"', b'"\\u0000"', b'"\\ue000"', b'"\\x"',
                 b'"\\', b'"\\u12', b'"\\u12g4"', b'"\\u12\0004"', b'"\x1f"', b'"a', b"[1", b"[1 2]", b"[,]", b'{"a"1}', b'{"a":}', b'{a:1}', b"1.", b"1e+5",
                 b"1E-5", b"1e", b"-", b"01", b"0", b"nul", b"[" * 40 + b"]" * 40, b"null", b"true", b"false", b"{}", b"[]"):
        yield b'{"keys":[{"kty":%s,"kid":%s}]}' % (said, said)
        yield b'{"keys":%s}' % said
    yield _edwards_pem(112).replace(b"\n", b"\r\n")
    g = (0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798, 0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8)
    yield _pem(bytes.fromhex("3056301006072a8648ce3d020106052b8104000a03420004") + b"".join(n.to_bytes(32, "big") for n in g))
    yield from (b"HS256", b"[]", b"{", b" \t\r\n{}", b"", b"x" * 32, b"x" * 1024, b"x" * 1025, b"-----BEGIN" + b"x" * 30,
                b"x" * 40 + b" \n", _edwards_pem(112), _edwards_pem(112) * 2, _edwards_pem(112) * 34, _edwards_pem(110))


def tokens():
    """Of fuzz_jwt.c: a header and claims, signed by each of those who can; and what is nearly a token."""
    algorithms = (b"HS256", b"HS512", b"RS256", b"PS384", b"ES256", b"ES512", b"EdDSA", b"ES256")
    claims = b'{"aud":"db","exp":1000100,"iss":"u","role":"a","tenant":"t"}'
    for signer, algorithm in enumerate(algorithms):
        for asks_all in range(2):
            how = bytes([1 + 3 * (2 * signer + asks_all)])
            for header in (b'{"alg":"%s"}' % algorithm, b'{"alg":"%s","kid":"a"}' % algorithm, b'{"alg":"%s","kid":"b"}' % algorithm,
                           b'{"alg":"RS384"}', b'{"alg":1}', b'{}', b'[]', b'{"alg":"HS256","alg":"HS256"}'):
                yield how + header + b"\0" + claims
    for said in (b'"tenant":7', b'"tenant":7.0', b'"tenant":7e0', b'"tenant":7E0', b'"role":["a","",1]', b'"nbf":1', b'"nbf":1e9',
                 b'"nbf":"x"', b'"iss":"v"', b'"iss":1', b'"x":1,"x":2'):
        yield b"\4" + b'{"alg":"HS256"}\0{"aud":["x","db"],"exp":1000100,"iss":"u",%s}' % said
    for said in (b"[]", b'{"aud":"db"}', b'{"aud":"x","exp":1000100}', b'{"exp":1000100}', b'{"aud":"db","exp":1}', b"x", b""):
        yield b"\1" + b'{"alg":"HS256"}\0' + said
    for said in (b'"iss":"v"', b'"iss":1', b'"x":1', b'"iss":"u","a\\ud800":1'):
        yield b"\4" + b'{"alg":"HS256"}\0{"aud":"db","exp":1000100,%s}' % said
    for algorithm in (*algorithms, b"S256", b"HS25", b"", b"HS256, HS512"):
        for signature in (b"", b"AAAA", _base64url(bytes(64)), _base64url(bytes(132)), _base64url(b"\0" * 31 + b"\1" + b"\0" * 31 + b"\1")):
            yield b"\0" + b".".join((_base64url(b'{"alg":"%s"}' % algorithm), _base64url(claims), signature))
    yield b"\0" + _token(role="a")
    yield from (b"\0e30.+.AA", b"\0e30.e30.+", b"\0e30.e30.A")
    yield from (b"\0" + text for text in (b"", b"a.b", b"a.b.c.d", b"..", b"+.b.c", b"A.b.c", b"eyJ9.eyJ9.AA", b"x" * 17000))


# ---- records of fuzz_relay.c -------------------------------------------------------------------
def _record(how, said=b""):
    return bytes([how]) + said + b"\xfe"


def _hello(user, database="shop", **more):
    return _record(RAW, raw.startup({"user": user, "database": database, **more}))


def _answer(password, how=0):
    return _record(MESSAGE | how, b"p" + password)


def _first(said, mechanism=b"SCRAM-SHA-256"):
    return mechanism + b"\0" + len(said).to_bytes(4, "big") + said


def _md5(user, secret=SECRET):
    return raw.md5_answer(user, secret.decode(), SALT).encode() + b"\0"


_FIRST, _FINAL = _first(b"n,,n=,r=x"), scram_end(b"x", b"x" + NONCE)[0]
_FINAL_OF_PLAIN = scram_end(b"x", b"x" + NONCE, salt=b"k" * 16)[0]  # whose secret is made here
_QUERY = _record(MESSAGE, b"QSELECT 2\0")


def client_logins():
    """By each user of fuzz_relay.c in each way, right and wrong; then what is told about it meanwhile."""
    users = ("app", "plain", "md", "scram", "barred", "nobody", "empty", "trusted", "rejected", "named", "token", "judged",
             "bound", "app.acme", "plain.acme", "plain.other")
    for way in (MD5, LOOKED_UP, SCRAM, PLAIN, ANY, RULES, TOKEN):
        for user in users:
            hello = bytes([way]) + _hello(user)
            yield hello + _QUERY
            yield hello + _answer(SECRET + b"\0") + _QUERY
            yield hello + _answer(_md5("md" if user == "md" else user, b"x" if user == "md" else SECRET)) + _QUERY
            yield hello + _answer(_FIRST) + _answer(_FINAL) + _QUERY
            yield hello + _answer(b"wrong\0") + _hello(user) + _answer(SECRET + b"\0")
    right = {MD5: [_md5("plain")], SCRAM: [_FIRST, _FINAL], PLAIN: [SECRET + b"\0"], RULES: [SECRET + b"\0"]}
    for way, proofs in right.items():
        hello = bytes([way]) + _hello("scram" if way == SCRAM else "plain")
        for at, wrong in enumerate((b"", b"\0\0", b"x", _first(b"n,,n=,r=x", b"SCRAM-SHA-1"), _first(b"p=tls-unique,,n=,r=x"),
                                    _first(b"y,,n=,r=x") + b"x", _FINAL[:-4], _FINAL[:-5] + b"AAA=", b"x" * 70000)):
            for behind in proofs[:-1], []:
                yield hello + b"".join(map(_answer, behind)) + _answer(wrong) + _QUERY
        whole = b"".join(_answer(proof) for proof in proofs)
        for told in (RELOADED, READ_AGAIN):  # in the middle
            yield hello + _record(TOLD, bytes([told])) + whole + _QUERY
        yield hello + _record(TOLD, bytes([0])) + whole + _record(LAST)
        yield hello + _QUERY
        yield hello + _record(0, b"p\0\0\0\3") + _record(0, b"p\0\1\0")
        yield hello + _record(LATER) + whole
        yield bytes([way]) + _hello("scram" if way == SCRAM else "plain")[:-1].replace(b"\x40", b"\x48", 1) + b"\xfe" + whole + _QUERY
        # From elsewhere, where guesses count.
        elsewhere = b"\x41" + hello[2:]
        yield bytes([way]) + (elsewhere + _record(MESSAGE | 1, b"pwrong\0")) * 3 + elsewhere + _QUERY
    for kind in range(4):
        told = bytes([kind])
        yield bytes([LOOKED_UP]) + _hello("late.acme") + _record(TOLD, bytes([1])) + _record(TOLD, bytes([READ_AGAIN])) + _answer(_md5("late"))
        for user in ("judged", "bound"):
            for again in (0, READ_AGAIN):
                yield bytes([RULES]) + _hello(user) + _answer(b"guess\0") + _record(TOLD, bytes([kind | again])) + _QUERY
            yield bytes([RULES]) + _hello(user) + _answer(b"guess\0") + _record(LATER)
        yield bytes([RULES]) + _hello("judged") + _answer(b"guess\0") + _record(LAST)
        for again in (0, RELOADED, READ_AGAIN):
            told = bytes([kind | again])
            found = bytes([LOOKED_UP]) + _hello("found") + _record(TOLD, told)
            yield found + _answer(_md5("found")) + _QUERY
            yield found + _answer(_FIRST) + _answer(_FINAL) + _QUERY
            yield found + _record(TOLD, bytes([again])) + _answer(_FIRST) + _record(TOLD, bytes([again])) + _answer(_FINAL) + _QUERY
            for proofs in ([_md5("found")], [_FIRST, _FINAL], [b"x\0"]):
                yield bytes([LOOKED_UP]) + _hello("found.acme") + _record(TOLD, bytes([kind])) + _record(TOLD, bytes([again])) \
                    + b"".join(map(_answer, proofs)) + _QUERY
            yield bytes([LOOKED_UP]) + _hello("plain.new") + _record(TOLD, told) + _answer(_md5("plain")) + _QUERY
            yield bytes([LOOKED_UP]) + _hello("found.new") + _record(TOLD, told) + _record(TOLD, told) + _answer(_md5("found"))
    yield bytes([LOOKED_UP]) + _hello("found") + _record(0, b"x" * 70000) + _record(LAST)
    yield bytes([LOOKED_UP]) + _hello("found.new") + _record(LATER)
    for claims in ({"role": "token"}, {"role": "role", "tenant": "42"}, {"role": ["x", "app"], "tenant": 42}, {"role": "app"},
                   {"role": "app", "tenant": "no"}, {"exp": 1}, {}):
        for way, user in ((TOKEN, "app"), (RULES, "token")):
            yield bytes([way]) + _hello(user) + _answer(_token(**claims) + b"\0") + _QUERY
            yield bytes([way]) + _hello(user) + _record(TOLD, bytes([READ_AGAIN])) + _answer(_token(**claims) + b"\0") + _QUERY
    for first in (raw.SSL_REQUEST, raw.GSSENC_REQUEST, raw.SSL_REQUEST * 2, raw.GSSENC_REQUEST * 2, raw.SSL_REQUEST + raw.GSSENC_REQUEST):
        for who in range(2):
            yield bytes([MD5]) + _record(RAW | who, first) + _record(who, raw.startup({"user": "plain", "database": "shop"}))
    yield bytes([MD5]) + _record(RAW, raw.cancel_request(1, b"kkkk")) + _record(0, raw.startup({"user": "plain"}))
    for database in ("pgturnstile", "pgbouncer", "none"):
        for user in ("pgturnstile", "pgbouncer", "plain"):
            yield bytes([RULES]) + _hello(user, database) + _answer(SECRET + b"\0")
    for way, database in ((way, database) for way in (SCRAM, LOOKED_UP) for database in ("shop", "pgturnstile")):
        yield bytes([way]) + _hello("plain", database) + _answer(_FIRST) + _answer(_FINAL_OF_PLAIN) + _QUERY
    for user in ("app.far", "app.new", "app.acme"):
        yield bytes([ANY]) + _hello(user) + _QUERY
    yield bytes([TOKEN]) + _hello("ops", "pgturnstile") + _answer(_token(role="ops") + b"\0")
    yield bytes([RULES]) + _record(RAW | 1, raw.startup({"user": "pgturnstile", "database": "pgturnstile"}))
    yield b"".join((bytes([RULES]), *((_hello("judged") + _answer(guess) + _record(TOLD, b"\2") + _QUERY + _record(LAST))
                                      for guess in (b"one\0", b"two\0"))))
    yield b"\0" + _record(RAW, raw.startup({"user": "app", "database": "shop"}, (3, 2))) + _QUERY
    yield bytes([ANY]) + _hello("app.acme", work_mem="1MB") + _record(1 | RAW, raw.startup({"user": "app.acme", "database": "shop"}, (3, 2)))


def server_logins():
    """What a server says that has been dialed for a client's query: to a login, and behind it."""
    def asks(way, login=b""):
        return bytes([way]) + _record(RAW | 2) + login + _record(MESSAGE, b"QSELECT 2\0")

    def says(*messages):
        return b"".join(_record(RAW | 2, message) for message in messages)

    ready = raw.parameter_status("server_version", "15.4") + raw.backend_key_data(7, b"\0\0\0\1") + raw.ready()
    welcome = raw.auth_ok() + ready
    sasl, more = raw.auth_sasl(), b"r=%ssrv,s=%s,i=1" % (NONCE, base64.b64encode(b"salt"))
    rows = raw.row_description("a") + raw.command_complete("SELECT 0") + raw.ready()
    by_md5 = _hello("md") + _answer(_md5("md", b"x"))
    by_plain = _hello("plain") + _answer(_md5("plain"))
    by_scram = _hello("scram") + _answer(_FIRST) + _answer(_FINAL)
    for way, login, secret in ((0, b"", b"x"), (RULES, by_md5, b"x"), (MD5, by_plain, SECRET), (SCRAM, by_scram, SECRET), (PLAIN, _hello("scram") + _answer(SECRET + b"\0"), SECRET),
                               (ANY, _hello("app.acme"), b"x"), (LOOKED_UP, _hello("plain.acme") + _answer(_md5("plain")), SECRET)):
        begin, final = asks(way, login), scram_end(NONCE, NONCE + b"srv", secret=secret)[1]
        for challenge in (raw.auth_cleartext(), raw.auth_md5(SALT), raw.auth_md5(b"short"), raw.message("R", b"\0\0\0\7"), sasl):
            yield begin + says(challenge, welcome, rows)
            yield begin + says(challenge, challenge)
        yield begin + says(sasl, raw.auth_sasl_continue(more), raw.auth_sasl_final(final) + welcome, rows, rows)
        yield begin + says(sasl, raw.auth_sasl_continue(more), raw.auth_sasl_final(b"v=AAAA") + welcome)
        yield begin + says(sasl, raw.auth_sasl_continue(more), welcome)
        yield begin + says(sasl, raw.auth_sasl_continue(b"r=x,s=AAAA,i=1"))
        yield begin + says(sasl, raw.auth_sasl_continue(more), raw.auth_sasl_continue(more))
    begin = asks(0)
    for wrong in (raw.auth_sasl_continue(more), raw.auth_sasl_final(b"v=x"), raw.auth_sasl(("PLAIN",)), raw.auth_sasl(()), raw.ready(),
                  raw.message("R", b"\0"), raw.message("v", b"\0\0\0\0\0\0\0\0"), raw.data_row("x"), b"Z\0\0\0\3", b"E\0\2\0\0",
                  raw.error("28P01", "no"), raw.error("28000", ""), raw.error("57P03", "starting"), raw.message("E", b"Mno\0\0"),
                  raw.message("E", b"\0"), raw.error("53300", "too many")[:-1] + b"Hhint\0\0", raw.notice("00000", "x") + raw.auth_ok()):
        yield begin + says(wrong, welcome, rows)
        yield begin + says(raw.auth_ok() + wrong, ready, rows)
        yield begin + _record(RAW | LAST | 2, wrong)
    for key in (b"", b"abc", b"k" * 256, b"k" * 257):
        yield begin + says(raw.auth_ok() + raw.backend_key_data(7, key) + raw.ready(), rows)
    # What is asked ahead of the first query: connect_query, whom row-level security binds, a signature.
    answers = (raw.command_complete("SELECT 0") + raw.ready(), raw.error("42501", "no") + raw.ready(), raw.error("57P01", "going"),
               raw.row_description("a", "b") + raw.data_row("is a superuser", "mend") + raw.command_complete("SELECT 1") + raw.ready(),
               raw.row_description("a", "b") + raw.data_row(None, "x") + raw.command_complete("SELECT 1") + raw.ready(),
               raw.row_description("a") + raw.data_row("5000") + raw.command_complete("SELECT 1") + raw.ready(),
               raw.row_description("a") + raw.data_row(None) + raw.command_complete("SELECT 1") + raw.ready(),
               raw.row_description("a") + raw.data_row("nonsense") + raw.command_complete("SELECT 1") + raw.ready(),
               raw.row_description("a", "b") + raw.data_row("7", "1000000") + raw.command_complete("SELECT 1") + raw.ready())
    for way, login in ((SCRAM, by_scram), (ANY, _hello("app.acme"))):
        for first in answers:
            yield asks(way, login) + says(welcome, first, rows)
            for second in answers:
                yield asks(way, login) + says(welcome, first, second, answers[-1], answers[0], rows)
    yield asks(ANY, _hello("app.acme")) + says(welcome, answers[5], answers[0], answers[-1], answers[1])
    yield bytes([0]) + _record(RAW | 2) + _hello("app", replication="database") + _record(MESSAGE, b"QIDENTIFY_SYSTEM\0") \
        + says(welcome, rows)
    yield begin + says(b"R\0\0\0\x20abc")
    # Which process a server is, where a replica has to have what was written.
    for first in answers:
        yield asks(REPLICA) + says(welcome, first, rows)
    yield asks(REPLICA) + says(welcome, raw.data_row("9" * 30) + answers[0], rows)
