//! The two grammars, case by case. The parser of libpq 15 gives the same results for the accepted texts, except for white space
//! in URLs.

use crate::{accept, parse, refuse};

#[test]
fn urls_are_parsed_as_in_libpq() {
    accept(&[
        (
            "postgresql://bob:secret@host:12345/db",
            "host=host port=12345 dbname=db user=bob",
            Some("secret"),
        ),
        ("postgres://bob@host/db", "host=host dbname=db user=bob", None),
        ("postgresql://host:12345", "host=host port=12345", None),
        ("postgresql://bob@", "user=bob", None),
        ("postgresql://", "", None),
        ("postgres:///", "", None),
        ("postgresql:///db", "dbname=db", None),
        ("postgres://bob@/db", "dbname=db user=bob", None),
        ("postgres://@host", "host=host", None),
        ("postgres://:secret@host", "host=host", Some("secret")),
        ("postgres://bob:@host", "host=host user=bob", None),
        ("postgres://host:/", "host=host", None),
        ("postgres://:12345/", "port=12345", None),
        ("postgres://host/a/b", "host=host dbname=a/b", None),
        // The user and password end at the first @ before any /; other marks do not matter.
        ("postgres://bob:a?b#c:d@h/db", "host=h dbname=db user=bob", Some("a?b#c:d")),
        ("postgres://bob:a%2Fb%40c%3Ad@h", "host=h user=bob", Some("a/b@c:d")),
        ("postgres://b%40b@h", "host=h user=b@b", None),
        // IPv6 in brackets.
        ("postgresql://[::1]:12345/db", "host=::1 port=12345 dbname=db", None),
        ("postgresql://[2001:db8::1234]/", "host=2001:db8::1234", None),
        ("postgresql://[::1]", "host=::1", None),
        ("postgresql://[::1]?user=bob", "host=::1 user=bob", None),
        ("postgresql://[::1],[::2]:1/", "host=::1,::2 port=,1", None),
        // Socket directories.
        ("postgresql://%2Fvar%2Frun/db", "host=/var/run dbname=db", None),
        ("postgres://:12345/db?host=/run/pg", "host=/run/pg port=12345 dbname=db", None),
        ("postgres://%40name/db", "host=@name dbname=db", None),
        // Several hosts.
        ("postgres://host:12345,other/db", "host=host,other port=12345, dbname=db", None),
        ("postgres://a,b:5/", "host=a,b port=,5", None),
        ("postgres://a:1,b:2,c:3", "host=a,b,c port=1,2,3", None),
        ("postgres://,/", "host=',' port=,", None),
        ("postgres://a,b?port=7", "host=a,b port=7", None),
        // Query.
        ("postgresql://?hostaddr=127.0.0.1", "hostaddr=127.0.0.1", None),
        ("postgresql://host?", "host=host", None),
        ("postgresql://host?user=bob&", "host=host user=bob", None),
        ("postgresql://host/db?u%73er=bob&port=1", "host=host port=1 dbname=db user=bob", None),
        ("postgres://bob:x@h?pass%77ord=secret", "host=h user=bob", Some("secret")),
        ("postgres://bob@h?user=eve&user=mallory", "host=h user=mallory", None),
        ("postgres://h?ssl=true", "host=h sslmode=require", None),
        ("postgres://h?requiressl=1", "host=h sslmode=require", None),
        ("postgres://h?user=&dbname=", "host=h dbname='' user=''", None),
    ]);
}

#[test]
fn percent_codes_are_decoded_and_a_plus_is_kept() {
    accept(&[
        ("postgresql://%68ost/", "host=host", None),
        ("postgres://h/a+b%2B", "host=h dbname=a+b+", None),
        ("postgres://h/%C3%A9%20%27", "host=h dbname='é \\''", None),
        ("postgres://u:%C3%A9%E2%82%AC@h", "host=h user=u", Some("é€")),
        // White space around a value is removed.
        ("postgres://h/ db ?user= bob ", "host=h dbname=db user=bob", None),
        ("postgres://a,b /db", "host=a,b port=, dbname=db", None),
    ]);
    let any_bytes = parse("postgres://u:%FF%01@h");
    assert_eq!(any_bytes.get_password(), Some(&b"\xff\x01"[..]));
    refuse(&[
        (
            "postgres://h/%XX",
            "dbname at byte 13: expected two hexadecimal digits after %, and % itself is written %25",
        ),
        (
            "postgres://h/a%1",
            "dbname at byte 14: expected two hexadecimal digits after %, and % itself is written %25",
        ),
        (
            "postgres://%",
            "host at byte 11: expected two hexadecimal digits after %, and % itself is written %25",
        ),
        (
            "postgres://u:ab%+1@h",
            "password at byte 15: expected two hexadecimal digits after %, and % itself is written %25",
        ),
        ("postgres://a%00b", "host at byte 12: found a zero byte"),
        ("postgres://h/%FF", "dbname at byte 13: expected UTF-8"),
        (
            "postgres://u:a b@h",
            "password at byte 14: found white space in a URL, write it percent-encoded",
        ),
        (
            "postgres://h/db\n",
            "dbname at byte 15: found white space in a URL, write it percent-encoded",
        ),
        (
            "postgres://a ,b/db",
            "host at byte 12: found white space in a URL, write it percent-encoded",
        ),
    ]);
}

#[test]
fn the_error_of_a_malformed_url_has_the_position_of_the_mistake() {
    let scheme = "expected key=value pairs, or a URL that begins with postgres:// or postgresql://";
    refuse(&[
        ("postgre://", &format!("at byte 0: {scheme}")),
        ("POSTGRES://u:p@h", &format!("at byte 0: {scheme}")),
        (" postgres://u:p@h?sslmode=require", &format!("at byte 1: {scheme}")),
        ("postgres://[::1", "host at byte 12: the IPv6 address has no closing bracket"),
        ("postgres://[]", "host at byte 12: the brackets of the IPv6 address are empty"),
        ("postgres://[::1]z", "host at byte 16: expected one of : , / ? after the closing bracket"),
        ("postgres://h?zzz", "at byte 13: expected = after a key"),
        ("postgres://h?&user=a", "at byte 13: expected = after a key"),
        (
            "postgres://h?user=a=b",
            "user at byte 18: found a second = in one parameter, write %3D inside a value",
        ),
        ("postgres://h?uzer=bob", "at byte 13: this key is not known, the nearest one is user"),
        ("postgres://h?ssl=no", "ssl at byte 17: expected one of true"),
        ("postgres://h:54x2/db", "port at byte 13: expected a number from 1 to 65535"),
        ("postgres://a:1,b:0", "port at byte 17: expected a number from 1 to 65535"),
        ("postgres://a:65536", "port at byte 13: expected a number from 1 to 65535"),
        (
            "postgres://a,b?port=1,2,3",
            "port: found 3 ports for 2 hosts, expected one, or one for each",
        ),
        ("postgres://a,b?hostaddr=::1", "hostaddr: found 1 addresses for 2 hosts"),
    ]);
}

#[test]
fn pairs_are_parsed_as_in_libpq() {
    accept(&[
        ("", "", None),
        (" \t\r\n\u{b}\u{c}", "", None),
        ("host=a port=1", "host=a port=1", None),
        (" host = a\n\tport\t=\t1 ", "host=a port=1", None),
        ("user=a\u{b}host=b", "host=b user=a", None),
        ("user=a\u{a0}b", "user=a\u{a0}b", None),
        ("host='a'port=1", "host=a port=1", None),
        ("user='a b' dbname=''", "dbname='' user='a b'", None),
        (r"user='it\'s' dbname='a\\b'", r"dbname='a\\b' user='it\'s'", None),
        (r"user=it\'s dbname=a\ b\\", r"dbname='a b\\' user='it\'s'", None),
        (r"user=\n\a", "user=na", None),
        ("user=a'b", r"user='a\'b'", None),
        // A backslash at the very end is ignored.
        (r"user=a\", "user=a", None),
        ("user=a user=b", "user=b", None),
        ("user=a user=''", "user=''", None),
        ("user=", "user=''", None),
        ("options='-c a=b'", "options='-c a=b'", None),
        ("application_name=a=b", "application_name='a=b'", None),
        (r"password='it\'s \\ = x' user=a", "user=a", Some(r"it's \ = x")),
        ("password=a%20b", "", Some("a%20b")),
        ("requiressl=1", "sslmode=require", None),
        ("requiressl=0", "sslmode=prefer", None),
    ]);
}

#[test]
fn the_error_of_malformed_pairs_has_the_position_of_the_mistake() {
    let missing = "the value is missing before the next key, an empty one is written ''";
    refuse(&[
        (
            "host",
            "at byte 0: expected key=value pairs, or a URL that begins with postgres:// or postgresql://",
        ),
        (
            "user=a ho st=b",
            "at byte 7: expected = after a key, a value with white space in it is quoted: 'a b'",
        ),
        ("=a", "at byte 0: this key is not known"),
        ("user=a hsot=b", "at byte 7: this key is not known, the nearest one is host"),
        ("user=a hostt=b", "at byte 7: this key is not known, the nearest one is host"),
        ("ssl_mode=b", "at byte 0: this key is not known, the nearest one is sslmode"),
        ("Database=b", "at byte 0: this key is not known, the nearest one is dbname"),
        ("username=b", "at byte 0: this key is not known, the nearest one is user"),
        ("host='a", "host at byte 5: the quoted value has no closing quote"),
        (r"host='a\", "host at byte 5: the quoted value has no closing quote"),
        (r"user=b password='a\'", "password at byte 16: the quoted value has no closing quote"),
        ("user=a\0b", "user at byte 5: found a zero byte"),
        ("password=a\0b", "password at byte 9: found a zero byte"),
        ("host= password=x", &format!("host at byte 5: {missing}")),
        ("host = port =5", &format!("host at byte 6: {missing}")),
        ("port=99999", "port at byte 5: expected a number from 1 to 65535"),
        ("hostaddr=db1", "hostaddr at byte 9: expected an IP address, names belong in host"),
        ("connect_timeout=5s", "connect_timeout at byte 16: expected a number of seconds"),
        ("connect_timeout=''", "connect_timeout at byte 16: expected a number of seconds"),
        ("keepalives=yes", "keepalives at byte 11: expected a whole number of 32 bits"),
        (
            "sslmode=Require",
            "sslmode at byte 8: expected one of disable, allow, prefer, require, verify-ca, verify-full",
        ),
        ("load_balance_hosts=''", "load_balance_hosts at byte 19: expected one of disable, random"),
        (
            "client_encoding=LATIN1",
            "client_encoding at byte 16: the client encoding is always UTF8",
        ),
    ]);
}
