//! Which servers are trusted: each row of the table is a server's certificate and the files of a client, with the
//! result of this library and the result of psql on the same real server.
//!
//! If the two differ, the row gives the reason. The rules are in the documentation of `sslrootcert` and in SECURITY.md.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pgbell::{Config, Connection, ErrorKind};
use pgbell_testkit::{Authority, Ca, Certificate, Certificates, Key, Leaf, Signature, Tls};

use crate::support::{Server, run};

/// The expected result of a row.
#[derive(Clone, Copy)]
enum Verdict {
    /// Both accept it.
    Both,
    /// Both refuse it. Contains a part of this library's error.
    Neither(&'static str),
    /// Only psql accepts it. Contains a part of this library's error, and why it is stricter.
    OnlyPsql(&'static str, &'static str),
    /// Only this library accepts it. Contains the reason.
    OnlyPgbell(&'static str),
}

use Verdict::*;

/// A server, and the files of a client.
struct Row {
    name: &'static str,
    tls: Tls,
    roots: String,
    lists: Vec<String>,
    mode: &'static str,
    verdict: Verdict,
}

fn row(name: &'static str, certificate: &Certificate, roots: &[&str], verdict: Verdict) -> Row {
    let (tls, roots) = (Tls::new(certificate), roots.concat());
    Row { name, tls, roots, lists: Vec::new(), mode: "verify-full", verdict }
}

impl Row {
    fn lists(self, lists: &[&str]) -> Self {
        Self { lists: lists.iter().map(|&list| list.to_owned()).collect(), ..self }
    }

    fn verify_ca(self) -> Self {
        Self { mode: "verify-ca", ..self }
    }
}

fn localhost() -> Leaf {
    Leaf::server("localhost")
}

fn ca(lines: &str) -> Ca {
    Ca::new("root").extensions(lines)
}

/// Returns an authority, and a certificate for localhost from it.
fn pair(certificates: &Certificates, ca: impl Into<Ca>) -> (Authority, Certificate) {
    let root = certificates.authority(ca).unwrap();
    let leaf = root.issue(&localhost()).unwrap();
    (root, leaf)
}

/// A server, and a client in its own directory, without any file of the user that runs the tests.
struct Stage {
    server: Server,
    directory: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let certificates = Certificates::new().unwrap();
        let (_, leaf) = pair(&certificates, "root");
        let server = Server::with(|builder| builder.tls(&leaf));
        let name = format!("pgbell-trust-{}-{}", std::process::id(), server.cluster.port());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).unwrap();
        // The configuration of Debian, whatever the system of the test has.
        let strict = "openssl_conf = conf\n[conf]\nssl_conf = ssl\n[ssl]\nsystem_default = default\n\
                      [default]\nCipherString = DEFAULT@SECLEVEL=2\n";
        fs::write(directory.join("openssl.cnf"), strict).unwrap();
        Self { server, directory }
    }

    fn play(&self, rows: Vec<Row>) {
        let mut wrong = Vec::new();
        for row in rows {
            self.server
                .cluster
                .set_tls(&row.tls)
                .unwrap_or_else(|error| panic!("{}: {error}", row.name));
            let roots = self.directory.join("roots.pem");
            fs::write(&roots, &row.roots).unwrap();
            let lists = self.directory.join("lists.pem");
            let mut parameters = format!(
                "host=localhost hostaddr=127.0.0.1 port={} user={} dbname=postgres sslmode={} sslrootcert={}",
                self.server.cluster.port(),
                self.server.cluster.superuser(),
                row.mode,
                roots.display()
            );
            if !row.lists.is_empty() {
                fs::write(&lists, row.lists.concat()).unwrap();
                parameters.push_str(&format!(" sslcrl={}", lists.display()));
            }
            let password = self.server.cluster.superuser_password();
            let pgbell = pgbell_result(&parameters, password);
            let psql = psql(&parameters, password, &self.directory);
            let (accepted, psql_accepted, words, why) = match row.verdict {
                Both => (true, true, "", ""),
                Neither(words) => (false, false, words, ""),
                OnlyPsql(words, why) => (false, true, words, why),
                OnlyPgbell(why) => (true, false, "", why),
            };
            let as_expected = match &pgbell {
                Ok(()) => accepted,
                Err(printed) => !accepted && printed.contains(words),
            };
            if !as_expected {
                wrong.push(format!("{} ({why}): this library: {pgbell:?}", row.name));
            }
            if psql.is_ok() != psql_accepted {
                wrong.push(format!("{} ({why}): psql: {psql:?}", row.name));
            }
        }
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn pgbell_result(parameters: &str, password: &str) -> Result<(), String> {
    let config = parameters.parse::<Config>().unwrap().password(password);
    let mut outcome = Ok(());
    run(async {
        outcome = match Connection::connect(config).await {
            Ok(connection) => {
                connection.close().await;
                Ok(())
            }
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Tls | ErrorKind::Config), "{error}");
                Err(format!("{error}; {}", error.hint().unwrap_or_default()))
            }
        };
    });
    outcome
}

fn psql(parameters: &str, password: &str, directory: &Path) -> Result<(), String> {
    let mut command = Command::new("psql");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
        .env("HOME", directory)
        .env("PGPASSWORD", password)
        .env("OPENSSL_CONF", directory.join("openssl.cnf"));
    let output = command.args(["-X", "-w", "-c", "SELECT 1", parameters]).output();
    let output = output.unwrap_or_else(|error| panic!("psql is needed: {error}"));
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        return Ok(());
    }
    // Any other failure is not about trust.
    assert!(printed.contains("certificate"), "{parameters}: {printed}");
    Err(printed)
}

/// Returns a revocation list of the authority with these dates.
fn list(authority: &Authority, [from, to]: [&str; 2]) -> String {
    let directory = authority.certificate().path().parent().unwrap();
    let mut command = Command::new("openssl");
    command.current_dir(directory).env("OPENSSL_CONF", "openssl.cnf");
    command.args(["ca", "-gencrl", "-crl_lastupdate", from, "-crl_nextupdate", to]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

const LONG_AGO: [&str; 2] = ["20210101000000Z", "20990101000000Z"];
const LATER: [&str; 2] = ["20220101000000Z", "20990101000000Z"];
const TOO_OLD: [&str; 2] = ["20210101000000Z", "20210201000000Z"];
const FUTURE: [&str; 2] = ["20980101000000Z", "20990101000000Z"];

const LEAF: &str = "basicConstraints = critical,CA:FALSE\nsubjectAltName = DNS:localhost";
const AUTHORITY: &str = "basicConstraints = critical,CA:TRUE\nsubjectAltName = DNS:localhost";

/// Returns a self-signed certificate that a server can use, and another one for localhost that it has signed.
fn own(certificates: &Certificates, lines: &str) -> (Certificate, Certificate) {
    let own = certificates.authority(Ca::new("localhost").extensions(lines)).unwrap();
    (own.certificate().clone(), own.issue(&localhost().common_name("other")).unwrap())
}

#[test]
fn a_given_certificate_is_trusted_itself_and_only_an_authority_for_others() {
    let certificates = Certificates::new().unwrap();
    let (plain, below_plain) = own(&certificates, LEAF);
    let (authority, below_authority) = own(&certificates, AUTHORITY);
    let bare = own(&certificates, "subjectAltName = DNS:localhost");
    let no_sign = own(&certificates, &format!("{AUTHORITY}\nkeyUsage = digitalSignature"));
    let usage = own(
        &certificates,
        "subjectAltName = DNS:localhost\nkeyUsage = keyCertSign,digitalSignature",
    );
    let old = certificates.authority(Ca::new("localhost").version_1()).unwrap();
    let below_old = old.issue(&localhost().common_name("other")).unwrap();
    let namesake = certificates.authority(Ca::new("localhost").extensions(LEAF)).unwrap();
    let below_namesake = namesake.issue(&localhost()).unwrap();
    let namesake = namesake.certificate();
    let (root, issued) = pair(&certificates, "root");
    let other_host = root.issue(&Leaf::server("db.example")).unwrap();
    let intermediate = root.intermediate("intermediate").unwrap();
    let below = intermediate.issue(&localhost()).unwrap();
    let unfit = root.intermediate(Ca::new("localhost").extensions(LEAF)).unwrap();
    let below_unfit = unfit.issue(&localhost()).unwrap();
    let self_signed = |leaf: Leaf| certificates.self_signed(&leaf).unwrap();
    let client = self_signed(Leaf::client("localhost").dns_name("localhost"));
    let signs = own(&certificates, &format!("{AUTHORITY}\nkeyUsage = keyCertSign,cRLSign")).0;
    let expired = self_signed(localhost().expired());
    let early = self_signed(localhost().not_yet_valid());
    let critical = own(&certificates, &format!("{LEAF}\n1.2.3.4 = critical,DER:0500")).0;
    let issued_unknown = "no authority in";
    let [root, between] = [&root, &intermediate].map(|one| one.certificate().pem());
    Stage::new().play(vec![
        row("a leaf that signs itself", &plain, &[plain.pem()], Both),
        row("what a leaf has signed", &below_plain, &[plain.pem()], Neither("not an authority")),
        row(
            "the same with the name of its issuer",
            &below_namesake,
            &[namesake.pem()],
            Neither("signed by itself"),
        ),
        row(
            "the same together with an authority",
            &below_plain,
            &[root, plain.pem()],
            Neither("not an authority"),
        ),
        row(
            "the same without a check of the host",
            &below_plain,
            &[plain.pem()],
            Neither("not an authority"),
        )
        .verify_ca(),
        row("an authority as the server's own", &authority, &[authority.pem()], Both),
        row("what it has signed", &below_authority, &[authority.pem()], Both),
        row("without constraints, its own", &bare.0, &[bare.0.pem()], Both),
        row("without constraints, another", &bare.1, &[bare.0.pem()], Neither("not an authority")),
        row("without keyCertSign, its own", &no_sign.0, &[no_sign.0.pem()], Both),
        row(
            "without keyCertSign, another",
            &no_sign.1,
            &[no_sign.0.pem()],
            Neither("may not sign others"),
        ),
        row(
            "keyCertSign without CA:TRUE, another",
            &usage.1,
            &[usage.0.pem()],
            OnlyPsql("not an authority", "OpenSSL tolerates what RFC 5280 forbids"),
        ),
        row(
            "version 1, another",
            &below_old,
            &[old.certificate().pem()],
            OnlyPsql("is of version 1", "it has no basicConstraints"),
        ),
        row("version 1, its own", old.certificate(), &[old.certificate().pem()], Both).verify_ca(),
        row(
            "version 1, its own, with its host",
            old.certificate(),
            &[old.certificate().pem()],
            OnlyPsql("of version 1", "a common name is no host name"),
        ),
        row("issued, and its authority", &issued, &[root, issued.pem()], Both),
        row(
            "issued, alone",
            &issued,
            &[issued.pem()],
            OnlyPgbell("OpenSSL needs a chain to a root"),
        ),
        row(
            "issued for another host",
            &other_host,
            &[other_host.pem()],
            Neither("is for \"db.example\""),
        ),
        row("another of the same authority", &issued, &[other_host.pem()], Neither(issued_unknown)),
        row("below an issued leaf", &below_unfit, &[root], Neither("not that of an authority")),
        row(
            "below an issued leaf that was given",
            &below_unfit,
            &[unfit.certificate().pem()],
            Neither("not that of an authority"),
        ),
        row(
            "the same with its root",
            &below_unfit,
            &[root, unfit.certificate().pem()],
            Neither("not that of an authority"),
        ),
        row(
            "an intermediate alone",
            &below,
            &[between],
            OnlyPgbell("OpenSSL needs a chain to a root"),
        ),
        row("an intermediate and its root", &below, &[between, root], Both),
        row("the root alone", &below, &[root], Both),
        row(
            "everything twice",
            &below,
            &[root, between, root, below.pem(), between, below.pem()],
            Both,
        ),
        row("a client's, its own", &client, &[client.pem()], Neither("not for servers")),
        row("for signing alone, its own", &signs, &[signs.pem()], Neither("not for TLS")),
        row("expired, its own", &expired, &[expired.pem()], Neither("expired")),
        row("not yet valid, its own", &early, &[early.pem()], Neither("becomes valid")),
        row("a critical extension, its own", &critical, &[critical.pem()], Neither("")),
    ]);
}

#[test]
fn a_revoked_certificate_is_refused_in_every_position() {
    let certificates = Certificates::new().unwrap();
    let (root, good) = pair(&certificates, "root");
    let bad = root.issue(&localhost()).unwrap();
    let intermediate = root.intermediate("intermediate").unwrap();
    let below = intermediate.issue(&localhost()).unwrap();
    let before = list(&root, LONG_AGO);
    let of_intermediate = list(&intermediate, LONG_AGO);
    root.revoke(&bad).unwrap();
    let names_bad = list(&root, LATER);
    let [too_old, future] = [TOO_OLD, FUTURE].map(|dates| list(&root, dates));
    root.revoke(intermediate.certificate()).unwrap();
    let names_intermediate = list(&root, LATER);
    root.revoke(root.certificate()).unwrap();
    let names_root = list(&root, LATER);
    let (own, _) = pair(&certificates, Ca::new("localhost").extensions(AUTHORITY));
    let of_own = list(&own, LONG_AGO);
    let forged = list(&pair(&certificates, Ca::new("localhost").extensions(AUTHORITY)).0, LONG_AGO);
    own.revoke(own.certificate()).unwrap();
    let names_own = list(&own, LATER);
    let own = own.certificate();
    let (plain, _) = self::own(&certificates, LEAF);
    let (no_lists, _) = pair(
        &certificates,
        Ca::new("localhost").extensions(format!("{AUTHORITY}\nkeyUsage = digitalSignature")),
    );
    let of_no_lists = list(&no_lists, LONG_AGO);
    let [root, between] = [&root, &intermediate].map(|one| one.certificate().pem());
    let unknown = "no list of revoked certificates";
    Stage::new().play(vec![
        row("not named", &good, &[root], Both).lists(&[&names_bad]),
        row("named", &bad, &[root], Neither("is revoked")).lists(&[&names_bad]),
        row("not named, and given", &good, &[root, good.pem()], Both).lists(&[&names_bad]),
        row("named, and given", &bad, &[root, bad.pem()], Neither("is revoked"))
            .lists(&[&names_bad]),
        row("named, and given first", &bad, &[bad.pem(), root], Neither("is revoked"))
            .lists(&[&names_bad]),
        row("named, and given alone", &bad, &[bad.pem()], Neither(unknown)).lists(&[&names_bad]),
        row("not named, and given alone", &good, &[good.pem()], Neither(unknown))
            .lists(&[&names_bad]),
        row("named, and not checked for its host", &bad, &[root, bad.pem()], Neither("is revoked"))
            .lists(&[&names_bad])
            .verify_ca(),
        row("the new list after the old one", &bad, &[root], Neither("is revoked"))
            .lists(&[&before, &names_bad]),
        row("the old list after the new one", &bad, &[root], Neither("is revoked"))
            .lists(&[&names_bad, &before]),
        row(
            "a list that is too old",
            &good,
            &[root, good.pem()],
            Neither("too old (hint: get a new one of that authority for sslcrl"),
        )
        .lists(&[&too_old]),
        row("a list from the future", &good, &[root, good.pem()], Neither(unknown))
            .lists(&[&future]),
        row("below an intermediate", &below, &[root, between], Both)
            .lists(&[&names_bad, &of_intermediate]),
        row("without the intermediate's list", &below, &[root, between], Neither(unknown))
            .lists(&[&names_bad]),
        row("without the root's list", &below, &[root, between], Neither(unknown))
            .lists(&[&of_intermediate]),
        row("the intermediate is named", &below, &[root], Neither("is revoked"))
            .lists(&[&names_intermediate, &of_intermediate]),
        row(
            "the intermediate is named, and given",
            &below,
            &[root, between],
            Neither("is revoked"),
        )
        .lists(&[&names_intermediate, &of_intermediate]),
        row(
            "the intermediate is named, and given alone",
            &below,
            &[between],
            Neither("is revoked"),
        )
        .lists(&[&names_intermediate, &of_intermediate]),
        row("the root is named", &good, &[root], Neither("is revoked")).lists(&[&names_root]),
        row("signs itself, with its list", own, &[own.pem()], Both).lists(&[&of_own]),
        row("signs itself, without its list", own, &[root, own.pem()], Neither(unknown))
            .lists(&[&names_bad]),
        row("signs itself, and is named by it", own, &[own.pem()], Neither("is revoked"))
            .lists(&[&names_own]),
        row(
            "signs itself, with the list of a namesake",
            own,
            &[own.pem()],
            Neither("not signed by its authority (hint: get the list for sslcrl, sslcrldir or root.crl again)"),
        )
        .lists(&[&forged]),
        row(
            "signs itself, and may not sign lists",
            no_lists.certificate(),
            &[no_lists.certificate().pem()],
            Neither("not signed by"),
        )
        .lists(&[&of_no_lists]),
        row(
            "a leaf that signs itself, without a list",
            &plain,
            &[root, plain.pem()],
            Neither(unknown),
        )
        .lists(&[&names_bad]),
    ]);
}

#[test]
fn a_chain_is_checked_up_to_its_root_as_by_openssl() {
    let certificates = Certificates::new().unwrap();
    let usage = "keyUsage = critical,keyCertSign,cRLSign";
    let root = |more: &str| {
        let lines = format!("basicConstraints = critical,CA:TRUE\n{usage}\n{more}");
        certificates.authority(ca(&lines)).unwrap()
    };
    let limited = |most: u8| {
        let lines = format!("basicConstraints = critical,CA:TRUE,pathlen:{most}\n{usage}");
        certificates.authority(ca(&lines)).unwrap()
    };
    let [none, one] = [0, 1].map(limited);
    let under = |authority: &Authority| authority.intermediate("intermediate").unwrap();
    let leaf = |authority: &Authority| authority.issue(&localhost()).unwrap();
    let two_below = under(&one.intermediate("upper").unwrap());
    let renewed = under(&under(&one));
    let good = root("");
    let limited_between = good
        .intermediate(ca(&format!("basicConstraints = critical,CA:TRUE,pathlen:0\n{usage}")))
        .unwrap();
    let of = |ca: Ca| pair(&certificates, ca);
    let expired = of(Ca::new("root").expired());
    let early = of(Ca::new("root").not_yet_valid());
    let expired_between = good.intermediate(Ca::new("between").expired()).unwrap();
    let under_expired = expired.0.intermediate("intermediate").unwrap();
    let no_sign_between = good
        .intermediate(Ca::new("between").extensions(
            "basicConstraints = critical,CA:TRUE\nkeyUsage = critical,digitalSignature",
        ))
        .unwrap();
    let for_clients = root("extendedKeyUsage = clientAuth");
    let for_servers = root("extendedKeyUsage = serverAuth,clientAuth");
    let for_any = root("extendedKeyUsage = anyExtendedKeyUsage");
    let clients_between = good
        .intermediate(Ca::new("between").extensions(format!(
            "basicConstraints = critical,CA:TRUE\n{usage}\nextendedKeyUsage = clientAuth"
        )))
        .unwrap();
    let critical = root("1.2.3.4 = critical,DER:0500");
    let noted = root("1.2.3.4 = DER:0500");
    let policies = root("certificatePolicies = critical,2.5.29.32.0");
    let permitted = root("nameConstraints = critical,permitted;DNS:localhost");
    let excluded = root("nameConstraints = critical,excluded;DNS:localhost");
    let elsewhere = root("nameConstraints = permitted;DNS:db.example");
    let short = of(Ca::new("root").key(Key::Rsa1024));
    let short_key = good.issue(&localhost().key(Key::Rsa1024)).unwrap();
    let sha1_self = of(Ca::new("root").signature(Signature::Sha1));
    let sha1 = good.issue(&localhost().signature(Signature::Sha1)).unwrap();
    let usages = |usage: &str| {
        let lines = format!("basicConstraints = critical,CA:FALSE\nkeyUsage = critical,{usage}");
        good.issue(&localhost().extensions(lines)).unwrap()
    };
    let netscape = good.issue(&localhost().extensions("nsCertType = client")).unwrap();
    let cert_of = |authority: &Authority| authority.certificate().pem().to_owned();
    let mut rows = Vec::new();
    let mut add = |name, certificate: &Certificate, authority: &Authority, verdict| {
        rows.push(row(name, certificate, &[&cert_of(authority)], verdict));
    };
    let too_long = Neither("more intermediate certificates");
    add("good", &leaf(&good), &good, Both);
    add("pathlen:0, a leaf", &leaf(&none), &none, Both);
    add("pathlen:0, an intermediate", &leaf(&under(&none)), &none, too_long);
    add("pathlen:1, an intermediate", &leaf(&under(&one)), &one, Both);
    add("pathlen:1, two intermediates", &leaf(&two_below), &one, too_long);
    add(
        "pathlen:1, an intermediate and one that it has issued for itself",
        &leaf(&renewed),
        &one,
        Both,
    );
    add("an intermediate of pathlen:0, a leaf", &leaf(&limited_between), &good, Both);
    add(
        "an intermediate of pathlen:0, another",
        &leaf(&under(&limited_between)),
        &good,
        Neither(""),
    );
    add("an expired root", &expired.1, &expired.0, Neither("expired"));
    add(
        "an expired root above an intermediate",
        &leaf(&under_expired),
        &expired.0,
        Neither("expired"),
    );
    add("a root that is not yet valid", &early.1, &early.0, Neither("becomes valid"));
    add("an expired intermediate", &leaf(&expired_between), &good, Neither("expired"));
    add(
        "an intermediate without keyCertSign",
        &leaf(&no_sign_between),
        &good,
        Neither("may not sign others"),
    );
    add("a root for clients", &leaf(&for_clients), &for_clients, Neither("not for servers"));
    add("a root for servers and clients", &leaf(&for_servers), &for_servers, Both);
    add("a root for any purpose", &leaf(&for_any), &for_any, Neither("not for servers"));
    add("an intermediate for clients", &leaf(&clients_between), &good, Neither("not for servers"));
    add(
        "a root with a critical extension",
        &leaf(&critical),
        &critical,
        Neither("critical extension"),
    );
    add("a root with one that is not critical", &leaf(&noted), &noted, Both);
    add("a root with critical policies", &leaf(&policies), &policies, Both);
    add("a root for this host", &leaf(&permitted), &permitted, Both);
    add("a root for all but this host", &leaf(&excluded), &excluded, Neither(""));
    add("a root for another host", &leaf(&elsewhere), &elsewhere, Neither(""));
    add("a root with a short key", &short.1, &short.0, Neither("an RSA key of 1024 bits"));
    add("a server with a short key", &short_key, &good, Neither("an RSA key of 1024 bits"));
    add("a root signed with SHA-1 by itself", &sha1_self.1, &sha1_self.0, Both);
    add("a server signed with SHA-1", &sha1, &good, Neither("not accepted"));
    add(
        "a server that may sign certificates only",
        &usages("keyCertSign"),
        &good,
        Neither("not for TLS"),
    );
    add("a server that may sign", &usages("digitalSignature"), &good, Both);
    add(
        "a server with Netscape's type of a client",
        &netscape,
        &good,
        OnlyPgbell("webpki ignores it"),
    );
    // The same name and key with new dates, together with the old one; and an intermediate below an expired root.
    let mut bundle = |name, certificate: &Certificate, roots: &[&str], verdict| {
        rows.push(row(name, certificate, roots, verdict));
    };
    bundle(
        "an expired root, and its intermediate too",
        &leaf(&under_expired),
        &[&cert_of(&expired.0), &cert_of(&under_expired)],
        Neither("expired"),
    );
    bundle(
        "an expired root together with another",
        &leaf(&good),
        &[&cert_of(&expired.0), &cert_of(&good)],
        Both,
    );
    Stage::new().play(rows);
}

#[test]
fn the_error_for_an_unsupported_key_names_the_remedy() {
    let certificates = Certificates::new().unwrap();
    let (good, _) = pair(&certificates, "root");
    let mut rows = Vec::new();
    for (name, key, words) in [
        ("P-521", Key::P521, "an ECDSA key on P-521"),
        ("Ed448", Key::Ed448, "an Ed448 key, which is not supported"),
        ("RSA-PSS", Key::RsaPss2048, "an RSA key only for RSASSA-PSS, which is not supported"),
    ] {
        let why = "rustls has no signatures of such a key";
        let leaf = good.issue(&localhost().key(key)).unwrap();
        rows.push(row(name, &leaf, &[good.certificate().pem()], OnlyPsql(words, why)));
        let (root, leaf) = pair(&certificates, Ca::new("root").key(key));
        rows.push(row(name, &leaf, &[root.certificate().pem()], OnlyPsql(words, why)));
    }
    Stage::new().play(rows);
}
