//! Parsing connection strings and files allocates memory in proportion to their length. The tests count allocated bytes and
//! measure no time: the result does not depend on the machine. They do not find code that parses the same text repeatedly and
//! allocates nothing.

use pgbell::Config;
use pgbell::config::{PassFile, ServiceFile};

use crate::{ALLOCATOR, alone};

/// Lengths of the texts. A defect that shows in the shorter one is found quickly.
const TEXT_BYTES: [usize; 2] = [16 * 1024, 128 * 1024];

/// The highest number of bytes that are allocated for each byte of a text. A host of one letter and its comma become a `Server`,
/// which takes 44 bytes for each of the two. When each value of a `key=value` string reserved room for the rest of the text, the
/// shorter text took more than 700.
const ALLOCATED_MAX: usize = 64;

/// A kind of text, and the function that parses it.
struct Kind {
    name: &'static str,
    text: fn(usize) -> String,
    read: fn(&str),
}

fn parse(text: &str) {
    // It does not matter here whether the text is accepted.
    let _ = text.parse::<Config>();
}

fn service(text: &str) {
    let _ = ServiceFile::new(text.as_bytes()).service("shop");
}

fn password(text: &str) {
    let config: Config = "host=db1 port=5432".parse().unwrap();
    let server = &config.servers().unwrap()[0];
    let _ = PassFile::new(text).password(server, "shop", "bob");
}

/// `head`, and as many of `part` as fit.
fn repeated(head: &str, part: &str, bytes: usize) -> String {
    format!("{head}{}", part.repeat(bytes / part.len()))
}

const KINDS: &[Kind] = &[
    Kind { name: "pairs", text: |bytes| repeated("", "port=1 ", bytes), read: parse },
    Kind { name: "quoted pairs", text: |bytes| repeated("", "user='b' ", bytes), read: parse },
    Kind { name: "passwords", text: |bytes| repeated("", "password=x ", bytes), read: parse },
    Kind { name: "spaces", text: |bytes| repeated("", "user= x ", bytes), read: parse },
    Kind { name: "backslashes", text: |bytes| repeated("user=", "\\", bytes), read: parse },
    Kind { name: "escaped spaces", text: |bytes| repeated("user= ", "\\ ", bytes), read: parse },
    Kind { name: "quotes", text: |bytes| repeated("user='", "\\'", bytes), read: parse },
    Kind { name: "no value", text: |bytes| repeated("user", " ", bytes), read: parse },
    Kind { name: "hosts", text: |bytes| repeated("host=", "a,", bytes), read: parse },
    Kind { name: "ports", text: |bytes| repeated("host=a port=", "1,", bytes), read: parse },
    Kind {
        name: "words",
        text: |bytes| repeated("application_name='", "password ", bytes) + "'",
        read: parse,
    },
    Kind { name: "an unknown key", text: |bytes| repeated("", "k", bytes) + "=1", read: parse },
    Kind { name: "methods", text: |bytes| repeated("require_auth=", "md5,", bytes), read: parse },
    Kind { name: "URL, hosts", text: |bytes| repeated("postgres://a", ",a:1", bytes), read: parse },
    Kind {
        name: "URL, brackets",
        text: |bytes| repeated("postgres://", "[::1],", bytes) + "a",
        read: parse,
    },
    Kind {
        name: "URL, open brackets",
        text: |bytes| repeated("postgres://", "[", bytes),
        read: parse,
    },
    Kind { name: "URL, colons", text: |bytes| repeated("postgres://", ":", bytes), read: parse },
    Kind {
        name: "URL, pairs",
        text: |bytes| repeated("postgres:///?", "port=1&", bytes),
        read: parse,
    },
    Kind {
        name: "URL, percent",
        text: |bytes| repeated("postgres:///?user=", "%41", bytes),
        read: parse,
    },
    Kind {
        name: "URL, password",
        text: |bytes| repeated("postgres://b:", "%40", bytes) + "@h/d",
        read: parse,
    },
    Kind { name: "service", text: |bytes| repeated("[shop]\n", "port=1\n", bytes), read: service },
    Kind {
        name: "services",
        text: |bytes| repeated("", "[other]\nport=1\n", bytes),
        read: service,
    },
    Kind { name: "service, spaces", text: |bytes| repeated("[shop]\n", " ", bytes), read: service },
    Kind {
        name: "password file",
        text: |bytes| repeated("", "db1:*:shop:eve:x\n", bytes),
        read: password,
    },
    Kind { name: "password file, stars", text: |bytes| repeated("", "*:", bytes), read: password },
    Kind {
        name: "password file, returns",
        text: |bytes| repeated("", "\r", bytes),
        read: password,
    },
    Kind {
        name: "password file, backslashes",
        text: |bytes| repeated("", "\\", bytes),
        read: password,
    },
];

/// The bytes that are allocated while a text of this kind is parsed, including those that are freed meanwhile.
fn allocated(kind: &Kind, bytes: usize) -> usize {
    let text = (kind.text)(bytes);
    let before = ALLOCATOR.stats();
    (kind.read)(&text);
    ALLOCATOR.stats().bytes_allocated - before.bytes_allocated
}

#[test]
fn a_long_text_is_read_in_memory_in_proportion_to_its_length() {
    alone(async {
        let mut wrong = Vec::new();
        for kind in KINDS {
            for bytes in TEXT_BYTES {
                let allocated = allocated(kind, bytes);
                if allocated > ALLOCATED_MAX * bytes {
                    wrong.push(format!("{}: {allocated} bytes for {bytes}", kind.name));
                    break;
                }
            }
        }
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    });
}
