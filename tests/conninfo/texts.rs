//! Connection strings of both grammars, valid and nearly valid.

use super::random::Random;

/// Every form of a URL in libpq's own tests (`001_uri.pl`), and more.
const URLS: &[&str] = &[
    "postgresql://ann:pencil@srv:6543/shop",
    "postgresql://ann@srv:6543/shop",
    "postgresql://ann@srv/shop",
    "postgresql://srv:6543/shop",
    "postgresql://srv/shop",
    "postgresql://ann@srv:6543/",
    "postgresql://ann@srv/",
    "postgresql://ann@",
    "postgresql://srv:6543/",
    "postgresql://srv:6543",
    "postgresql://srv/",
    "postgresql://srv",
    "postgresql://",
    "postgresql://?hostaddr=127.0.0.1",
    "postgresql://example.org?hostaddr=192.0.2.4",
    "postgresql://%73rv/",
    "postgresql://srv/shop?user=ann",
    "postgresql://srv/shop?user=ann&port=6543",
    "postgresql://srv/shop?u%73er=eve&port=6543",
    "postgresql://srv/shop?u%7aer=eve&port=6543",
    "postgresql://srv:6543?user=ann",
    "postgresql://srv?user=ann",
    "postgresql://srv?  user = ann & port  = 6543 ",
    "postgresql://srv?  user user  =  ann  & port = 6543 12 ",
    "postgresql://srv?  user  =  ann  & port = 6543 12 ",
    "postgresql://srv?",
    "postgresql://[::1]:6543/shop",
    "postgresql://[::1]/shop",
    "postgresql://[2001:db8::9]/",
    "postgresql://[200z:db8::9]/",
    "postgresql://[::1]",
    "postgres://",
    "postgres:///",
    "postgres:///shop",
    "postgres://ann@/shop",
    "postgres://?host=/run/of/sockets",
    "postgresql://srv?uzer=",
    "postgre://",
    "postgres://[::1",
    "postgres://[]",
    "postgres://[::1]z",
    "postgresql://srv?zzz",
    "postgresql://srv?one&two",
    "postgresql://srv?key=key=value",
    "postgres://srv?dbname=%XXshop",
    "postgresql://a%00b",
    "postgresql://%zz",
    "postgresql://%1",
    "postgresql://%",
    "postgres://@srv",
    "postgres://srv:/",
    "postgres://:6543/",
    "postgres://eve@?host=/no/such/directory",
    "postgres://eve@/?host=/no/such/directory",
    "postgres://eve@:6543?host=/no/such/socket",
    "postgres://eve@:6543/shop?host=/run/of/sockets",
    "postgres://:6543/shop?host=/run/of/sockets",
    "postgres://:6543?host=/run/of/sockets",
    "postgres://%2Fvar%2Flib%2Fpostgresql/shop",
    "postgresql://srv?sslmode=disable",
    "postgresql://srv?sslmode=prefer",
    "postgresql://srv?sslmode=verify-full",
    "postgresql://srv?sslrootcert=system&sslmode=prefer",
    // Of this crate.
    "postgres://a:1,b:2,c:3/shop?target_session_attrs=primary",
    "postgres://a,b,c?port=1,2,3&load_balance_hosts=random",
    "postgres://[::1]:1,%2Ftmp:2,,%40x/",
    "postgres://u:p%40s%2Fs%3Aw@h/d?options=-c%20geqo%3Doff",
    "postgres://u:p@h/d?ssl=true&application_name=%E2%82%AC",
    "postgres://u:p@s@h",
    "postgres://u:pa/ss@h",
    "postgres://h/d?user=a&user=b&password=c&password=d",
    "postgres://h?requiressl=1&connect_timeout=%2B5",
    "postgres://h?sslnegotiation=direct&sslmode=require&sslcertmode=require&sslsni=0",
    "postgres://h?require_auth=scram-sha-256&channel_binding=require&sslmode=require",
    "postgres://h?min_protocol_version=3.0&max_protocol_version=3.2",
    "postgres://h?ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=tlsv1.2",
    "postgres://?service=one&servicefile=%2Fetc%2Fx&passfile=%2Fp",
];

const PAIRS: &[&str] = &[
    "",
    "host=srv port=6543 dbname=shop user=ann password=pencil",
    " host = srv\tport\n=\r6543 ",
    "host='srv' port='6543'",
    "host='srv'port=6543user=ann",
    r"password='it\'s \\ mine' user=a\ b",
    r"user=a\",
    r"user='a\",
    "user='a",
    "user=a user=b user=''",
    "host= port=5",
    "host=a,b,c port=1,2,3 hostaddr=127.0.0.1,::1,",
    "host=a,b port=1,2,3",
    "host=/tmp,@x,srv",
    "hostaddr=127.0.0.1 host=srv",
    "dbname=postgres://u:p@h/d",
    "application_name=a=b options='-c a=b'",
    "sslmode=verify-full sslrootcert=system sslnegotiation=direct",
    "sslmode=require sslrootcert=system",
    "sslcert=c sslkey=k sslcrl=l sslcrldir=d sslpassword=''",
    "require_auth=!password,!md5 requirepeer=postgres",
    "require_auth=password,!md5",
    "gssencmode=disable krbsrvname=x replication=off sslcompression=0",
    "connect_timeout=5 keepalives=1 keepalives_idle=' 10 ' tcp_user_timeout=+7",
    "client_encoding=UTF8 fallback_application_name=f",
    "requiressl=1",
    "uzer=a",
    "host",
    "=x",
];

/// Names of parameters.
pub(crate) const KEYS: &[&str] = &[
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "passfile",
    "service",
    "servicefile",
    "application_name",
    "fallback_application_name",
    "options",
    "client_encoding",
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "target_session_attrs",
    "load_balance_hosts",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslcertmode",
    "sslcrl",
    "sslcrldir",
    "sslsni",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "channel_binding",
    "require_auth",
    "requirepeer",
    "min_protocol_version",
    "max_protocol_version",
    "gssencmode",
    "gssdelegation",
    "replication",
    "sslcompression",
    "krbsrvname",
    "sslpassword",
    "gsslib",
];

/// Names that are not parameters, were parameters, or are parameters under another name.
const ODD_KEYS: &[&str] = &["requiressl", "ssl", "uzer", "Host", "", "tty", "authtype", "us er"];

fn key<'a>(random: &mut Random) -> &'a str {
    if random.once_in(20) { random.pick(ODD_KEYS) } else { random.pick(KEYS) }
}

/// Values. Most parameters accept only some of them.
const VALUES: &[&str] = &[
    "",
    "a",
    "b,c",
    "srv",
    "5432",
    "1,2",
    ",",
    "0",
    "1",
    "3.0",
    "3.2",
    "3.1",
    "latest",
    "10",
    " 7 ",
    "+7",
    "-1",
    "0x7",
    "99999",
    "99999999999",
    "127.0.0.1",
    "::1",
    "127.0.0.1,::1",
    "127.1",
    "/tmp",
    "@x",
    "a@b",
    "disable",
    "allow",
    "prefer",
    "require",
    "verify-ca",
    "verify-full",
    "postgres",
    "direct",
    "system",
    "any",
    "primary",
    "standby",
    "random",
    "TLSv1",
    "TLSv1.2",
    "tlsv1.3",
    "password",
    "none",
    "!md5,!none",
    "scram-sha-256,md5",
    "md5,md5",
    "UTF8",
    "auto",
    "LATIN1",
    "off",
    "true",
    "é€",
    "it's",
    r"a\b",
    "a b",
    "a=b",
    "a&b",
    "a%b",
    "x?y",
    "[z]",
    "postgres://u:p@h",
    "password = x",
    "#",
];

/// Fragments that are inserted at any position.
const PIECES: &[&str] = &[
    "postgres://",
    "postgresql://",
    "=",
    " = ",
    ":",
    "@",
    "/",
    "?",
    "&",
    ",",
    "[",
    "]",
    "%20",
    "%2F",
    "%2C",
    "%40",
    "%zz",
    "%1",
    "%ff",
    "%E2%82%AC",
    "'",
    r"\",
    " ",
    "\t",
    "\n",
    "\u{b}",
    "\u{a0}",
    "é",
    "€",
    "+",
    "#",
    ";",
    "user=",
    "host=",
    "port=5",
    "&port=6",
    "password=x",
    "''",
];

/// Returns `count` texts, the same ones for the same seed.
pub(crate) fn texts(seed: u64, count: usize) -> Vec<String> {
    let random = &mut Random(seed);
    let fixed = URLS.iter().chain(PAIRS).map(|text| (*text).to_owned());
    let mut texts: Vec<String> = fixed.collect();
    while texts.len() < count {
        let mut text = match random.below(5) {
            0 => random.pick(URLS).to_owned(),
            1 => random.pick(PAIRS).to_owned(),
            2 | 3 => url(random),
            _ => pairs(random),
        };
        // Most texts are not changed, or little: a text with two mistakes is refused for the first one.
        for _ in 0..[0, 0, 0, 1, 1, 3][random.below(6)] {
            text = mutated(random, &text);
        }
        // A zero byte ends a text in C.
        text.retain(|c| c != '\0');
        texts.push(text);
    }
    texts
}

/// A URL with its parts in order, and random values in them.
fn url(random: &mut Random) -> String {
    let mut text = random.pick(&["postgres://", "postgresql://"]).to_owned();
    if random.once_in(2) {
        text += &encoded(random, "user");
        if random.once_in(2) {
            text += ":";
            text += &encoded(random, "password");
        }
        text += "@";
    }
    for i in 0..=[0, 0, 0, 1, 2][random.below(5)] {
        text += if i == 0 { "" } else { "," };
        text += match random.below(6) {
            0 => "",
            1 => "[::1]",
            2 => "%2Ftmp",
            3 => "127.0.0.1",
            4 => random.pick(VALUES),
            _ => "srv",
        };
        if random.once_in(3) {
            text += ":";
            text += random.pick(&["", "1", "5432", "65535", "65536", "x", "%31"]);
        }
    }
    if random.once_in(2) {
        text += "/";
        text += &encoded(random, "dbname");
    }
    for i in 0..[0, 0, 1, 2, 4][random.below(5)] {
        text += if i == 0 { "?" } else { "&" };
        let key = key(random);
        let value = encoded(random, key);
        text += &format!("{key}={value}");
    }
    text
}

fn pairs(random: &mut Random) -> String {
    let mut text = String::new();
    for _ in 0..random.below(6) {
        let key = key(random);
        let value = value_of(random, key);
        text += random.pick(&["", "", "", " ", "\n"]);
        text += key;
        text += random.pick(&["=", "=", "=", " = ", "= ", " ="]);
        let quoted = value.replace('\\', r"\\").replace('\'', r"\'");
        text += &match random.below(4) {
            0 if random.once_in(3) => value.to_owned(),
            0 | 1 => quoted.replace(' ', r"\ "),
            _ => format!("'{quoted}'"),
        };
        text += random.pick(&[" ", " ", " ", " ", "  ", "\t", ""]);
    }
    text
}

/// A value that the parameter accepts, in most cases.
pub(crate) fn value_of<'a>(random: &mut Random, key: &str) -> &'a str {
    let fits: &[&str] = match key {
        "host" => &["srv", "a,b", "/tmp", "::1", "@x", ",", "a,,c"],
        "hostaddr" => &["127.0.0.1", "::1,127.0.0.1", ",", "2001:DB8::1"],
        "port" => &["5432", "1,2", ",", "1,,3", " 7 "],
        "sslmode" => &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"],
        "sslnegotiation" => &["postgres", "direct"],
        "sslcertmode" => &["disable", "allow", "require"],
        "sslrootcert" => &["system", "/root.crt", ""],
        "channel_binding" => &["disable", "prefer", "require"],
        "ssl_min_protocol_version" | "ssl_max_protocol_version" => {
            &["TLSv1", "TLSv1.1", "TLSv1.2", "tlsV1.3", ""]
        }
        "min_protocol_version" | "max_protocol_version" => &["3.0", "3.2", "latest"],
        "require_auth" => &["password", "md5,scram-sha-256", "!none", "!md5,!gss", "none", ""],
        "target_session_attrs" => &["any", "read-write", "primary", "standby", "prefer-standby"],
        "load_balance_hosts" => &["disable", "random"],
        "sslsni" | "keepalives" | "requiressl" => &["0", "1"],
        "connect_timeout"
        | "keepalives_idle"
        | "keepalives_interval"
        | "keepalives_count"
        | "tcp_user_timeout" => &["0", "5", " 7 ", "-1", "+3"],
        "client_encoding" => &["UTF8", "auto", "utf-8", "unicode"],
        "gssencmode" => &["disable", "prefer"],
        "gssdelegation" | "sslcompression" => &["0"],
        "replication" => &["false", "off", "no", "0"],
        "ssl" => &["true"],
        _ => VALUES,
    };
    if random.once_in(6) { random.pick(VALUES) } else { random.pick(fits) }
}

/// A value as in a URL; sometimes with a mark that should have been encoded.
fn encoded(random: &mut Random, key: &str) -> String {
    let value = value_of(random, key);
    if random.once_in(6) {
        return value.to_owned();
    }
    let all = random.once_in(8);
    value
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'!' | b',' | b':'
                if !all =>
            {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn mutated(random: &mut Random, text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let (a, b) = (random.below(chars.len() + 1), random.below(chars.len() + 1));
    let scheme = if random.once_in(20) { 0 } else { text.find("://").map_or(0, |at| at + 3) };
    let scheme = scheme.min(chars.len());
    let from = a.min(b).max(scheme);
    let to = a.max(b).clamp(from, from + 8);
    let part = |from: usize, to: usize| chars[from..to].iter().collect::<String>();
    let (head, cut, tail) = (part(0, from), part(from, to), part(to, chars.len()));
    match random.below(8) {
        0 => head + &tail,
        1 => head + &cut + &cut + &tail,
        2 | 3 => head + random.pick(PIECES) + &cut + &tail,
        4 => head + random.pick(PIECES) + &tail,
        5 => {
            let coded: String = cut.bytes().map(|byte| format!("%{byte:02x}")).collect();
            head + &coded + &tail
        }
        6 => head + random.pick(&[" ", "&", ","]) + text,
        _ => {
            let key = key(random);
            format!("{text}{}{key}={}", random.pick(&[" ", "&", "?"]), value_of(random, key))
        }
    }
}
