//! Certificates of every kind.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use pgbell_testkit::{Authority, Ca, Certificate, Certificates, Leaf};

/// Certificates, each of which is made when it is first used.
pub(super) static CERTIFICATES: LazyLock<Certificates> =
    LazyLock::new(|| Certificates::new().unwrap());

pub(super) static ROOT: LazyLock<Authority> =
    LazyLock::new(|| CERTIFICATES.authority("root").unwrap());

/// Another authority.
pub(super) static OTHER_ROOT: LazyLock<Authority> =
    LazyLock::new(|| CERTIFICATES.authority("other").unwrap());

pub(super) static INTERMEDIATE: LazyLock<Authority> =
    LazyLock::new(|| ROOT.intermediate("intermediate").unwrap());

/// A certificate for localhost and 127.0.0.1, issued by the root.
pub(super) static GOOD: LazyLock<Certificate> = LazyLock::new(|| {
    let leaf = Leaf::server("localhost").ip_address([127, 0, 0, 1]);
    ROOT.issue(&leaf).unwrap()
});

pub(super) fn issue(leaf: &Leaf) -> Certificate {
    ROOT.issue(leaf).unwrap()
}

/// Returns a certificate below an intermediate that is not marked as an authority.
pub(super) fn below_no_authority() -> Certificate {
    let unfit = ROOT.intermediate(Ca::new("unfit").without_constraints()).unwrap();
    unfit.issue(&Leaf::server("localhost")).unwrap()
}

/// Returns a certificate of version 1, made by the commands of PostgreSQL's manual: PEM of the certificate and of its key.
pub(super) fn version_1() -> (String, String) {
    by_commands("/CN=localhost", &[])
}

/// Returns a certificate of version 3 that contains no host, not even in a common name.
pub(super) fn nameless() -> (String, String) {
    let directory = tempdir();
    let extensions = directory.file("extensions", "basicConstraints = CA:FALSE");
    by_commands("/O=shop", &["-extfile", &extensions])
}

/// Returns a certificate of the root with this subject.
fn by_commands(subject: &str, more: &[&str]) -> (String, String) {
    let directory = tempdir();
    let run = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        let output = command.current_dir(&directory.0).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let root = |path: &Path| path.to_str().unwrap().to_owned();
    let [ca, ca_key] = [ROOT.certificate().path(), ROOT.certificate().key_path()].map(root);
    run(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "sec1.pem"]);
    run(&["pkcs8", "-topk8", "-nocrypt", "-in", "sec1.pem", "-out", "key.pem"]);
    run(&["req", "-new", "-key", "key.pem", "-subj", subject, "-out", "request.pem"]);
    let arguments = [
        "x509",
        "-req",
        "-in",
        "request.pem",
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-set_serial",
        "7",
        "-days",
        "3650",
        "-out",
        "certificate.pem",
    ];
    run(&[&arguments[..], more].concat());
    let read = |name: &str| std::fs::read_to_string(directory.0.join(name)).unwrap();
    (read("certificate.pem"), read("key.pem"))
}

/// A directory that is removed on drop.
pub(super) struct TempDir(pub(super) std::path::PathBuf);

impl TempDir {
    pub(super) fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn tempdir() -> TempDir {
    use std::sync::atomic::{AtomicU32, Ordering};

    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("pgbell-tls-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir(&path).unwrap();
    TempDir(path)
}
