//! Descriptions of certificates.

use std::net::IpAddr;

use super::key::{Key, Signature};
use crate::error::Error;

/// The first and the last time at which a certificate is valid. They are fixed, so that no clock is read.
const VALID: [&str; 2] = ["20200101000000Z", "20991231235959Z"];
const EXPIRED: [&str; 2] = ["20200101000000Z", "20210101000000Z"];
const NOT_YET_VALID: [&str; 2] = ["20980101000000Z", "20991231235959Z"];

/// Describes an authority. A name alone is a description too: `certificates.authority("root")`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ca {
    pub(super) name: String,
    pub(super) key: Key,
    signature: Option<Signature>,
    dates: [&'static str; 2],
    extensions: Option<String>,
}

impl Ca {
    /// Describes an authority with this common name and a key of the default kind.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            key: Key::default(),
            signature: None,
            dates: VALID,
            extensions: Some(
                "basicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign,cRLSign\n"
                    .into(),
            ),
        }
    }

    /// Sets the kind of its key, and so of all its signatures.
    #[must_use]
    pub fn key(mut self, key: Key) -> Self {
        self.key = key;
        self
    }

    /// Leaves out `basicConstraints`: it issues certificates, but is not allowed to.
    #[must_use]
    pub fn without_constraints(self) -> Self {
        self.extensions("")
    }

    /// Sets other extensions in place of `basicConstraints` and `keyUsage`: lines of the `openssl` command's
    /// configuration, such as `basicConstraints = critical,CA:TRUE,pathlen:0`.
    #[must_use]
    pub fn extensions(mut self, lines: impl Into<String>) -> Self {
        self.extensions = Some(lines.into());
        self
    }

    /// Makes it a certificate of X.509 version 1, which has no extensions.
    #[must_use]
    pub fn version_1(mut self) -> Self {
        self.extensions = None;
        self
    }

    pub(super) fn request(&self, self_signed: bool) -> Request<'_> {
        let extensions = self
            .extensions
            .as_ref()
            .map(|lines| format!("{}\n{}", lines.trim_end(), identifiers(self_signed)));
        Request {
            common_name: &self.name,
            key: self.key,
            signature: self.signature,
            dates: self.dates,
            extensions: extensions.unwrap_or_default(),
        }
    }
}

impl From<&str> for Ca {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

/// Describes a certificate of a server or of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    common_name: String,
    names: Vec<Name>,
    purpose: &'static str,
    key: Key,
    signature: Option<Signature>,
    dates: [&'static str; 2],
    authority: bool,
    extensions: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Dns(String),
    Ip(IpAddr),
}

impl Leaf {
    /// Describes a certificate for a server with this host name or IP address, which is the common name too.
    #[must_use]
    pub fn server(name: impl Into<String>) -> Self {
        let name = name.into();
        let leaf = Self::new(name.clone(), "serverAuth");
        match name.parse::<IpAddr>() {
            Ok(address) => leaf.ip_address(address),
            Err(_) => leaf.dns_name(name),
        }
    }

    /// Describes a certificate for a client with this common name. With the method `cert` it is the role, unless a map says
    /// otherwise.
    #[must_use]
    pub fn client(common_name: impl Into<String>) -> Self {
        Self::new(common_name.into(), "clientAuth")
    }

    fn new(common_name: String, purpose: &'static str) -> Self {
        Self {
            common_name,
            names: Vec::new(),
            purpose,
            key: Key::default(),
            signature: None,
            dates: VALID,
            authority: false,
            extensions: None,
        }
    }

    /// Sets another common name. The alternative names stay.
    #[must_use]
    pub fn common_name(mut self, name: impl Into<String>) -> Self {
        self.common_name = name.into();
        self
    }

    /// Adds an alternative name of type dNSName, unchanged: for example a wildcard, the text of an IP address, or a name
    /// with a NUL in it.
    #[must_use]
    pub fn dns_name(mut self, name: impl Into<String>) -> Self {
        self.names.push(Name::Dns(name.into()));
        self
    }

    /// Adds an alternative name of type iPAddress.
    #[must_use]
    pub fn ip_address(mut self, address: impl Into<IpAddr>) -> Self {
        self.names.push(Name::Ip(address.into()));
        self
    }

    /// Removes all alternative names. The common name remains.
    #[must_use]
    pub fn without_names(mut self) -> Self {
        self.names.clear();
        self
    }

    /// Sets the kind of its key. P-256 by default.
    #[must_use]
    pub fn key(mut self, key: Key) -> Self {
        self.key = key;
        self
    }

    /// Makes it an authority that a server presents as its own certificate, as `openssl req -x509` makes by default.
    #[must_use]
    pub fn as_authority(mut self) -> Self {
        self.authority = true;
        self
    }

    /// Sets other extensions in place of `basicConstraints`, `keyUsage` and `extendedKeyUsage`: lines of the `openssl`
    /// command's configuration. The alternative names stay.
    #[must_use]
    pub fn extensions(mut self, lines: impl Into<String>) -> Self {
        self.extensions = Some(lines.into());
        self
    }

    pub(super) fn request(&self, self_signed: bool) -> Result<Request<'_>, Error> {
        let mut extensions = if let Some(lines) = &self.extensions {
            format!("{}\n", lines.trim_end())
        } else if self.authority {
            "basicConstraints = critical,CA:TRUE\n".to_owned()
        } else {
            let usage = self.key.usage();
            format!(
                "basicConstraints = critical,CA:FALSE\nkeyUsage = critical,{usage}\n\
                 extendedKeyUsage = {}\n",
                self.purpose
            )
        };
        extensions.push_str(identifiers(self_signed));
        if !self.names.is_empty() {
            extensions.push_str(&format!("subjectAltName = DER:{}\n", hex(&der(&self.names)?)));
        }
        Ok(Request {
            common_name: &self.common_name,
            key: self.key,
            signature: self.signature,
            dates: self.dates,
            extensions,
        })
    }
}

/// The methods that [`Ca`] and [`Leaf`] have in common.
macro_rules! signed {
    ($kind:ident) => {
        impl $kind {
            /// Sets how the issuer signs it; the issuer of a root is the root. The default depends on the issuer's key:
            /// SHA-256, or no hash with Ed25519.
            #[must_use]
            pub fn signature(mut self, signature: Signature) -> Self {
                self.signature = Some(signature);
                self
            }

            /// Makes it valid until the end of the year 2020.
            #[must_use]
            pub fn expired(mut self) -> Self {
                self.dates = EXPIRED;
                self
            }

            /// Makes it valid from the year 2098 on.
            #[must_use]
            pub fn not_yet_valid(mut self) -> Self {
                self.dates = NOT_YET_VALID;
                self
            }
        }
    };
}

signed!(Ca);
signed!(Leaf);

/// A certificate as the `openssl` command describes it.
pub(super) struct Request<'a> {
    common_name: &'a str,
    pub(super) key: Key,
    pub(super) signature: Option<Signature>,
    pub(super) dates: [&'static str; 2],
    /// Lines of the command's configuration. Without any the certificate is of version 1.
    pub(super) extensions: String,
}

impl Request<'_> {
    /// Returns the argument of `-subj`. A backslash escapes the next character.
    pub(super) fn subject(&self) -> Result<String, Error> {
        if self.common_name.is_empty() || self.common_name.contains('\0') {
            return Err(Error::new(format!("{:?} is no common name", self.common_name)));
        }
        let mut subject = "/CN=".to_owned();
        for c in self.common_name.chars() {
            if matches!(c, '/' | '+' | '\\') {
                subject.push('\\');
            }
            subject.push(c);
        }
        Ok(subject)
    }
}

fn identifiers(self_signed: bool) -> &'static str {
    if self_signed {
        "subjectKeyIdentifier = hash\n"
    } else {
        "subjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid,issuer\n"
    }
}

/// Encodes GeneralNames of RFC 5280, because the syntax of the configuration cannot express every name.
fn der(names: &[Name]) -> Result<Vec<u8>, Error> {
    let mut content = Vec::new();
    for name in names {
        match name {
            Name::Dns(name) => value(&mut content, 0x82, name.as_bytes())?,
            Name::Ip(IpAddr::V4(address)) => value(&mut content, 0x87, &address.octets())?,
            Name::Ip(IpAddr::V6(address)) => value(&mut content, 0x87, &address.octets())?,
        }
    }
    let mut sequence = Vec::new();
    value(&mut sequence, 0x30, &content)?;
    Ok(sequence)
}

/// Appends tag, length and value.
fn value(out: &mut Vec<u8>, tag: u8, content: &[u8]) -> Result<(), Error> {
    let length = u16::try_from(content.len())
        .map_err(|_| Error::new("the alternative names have more than 65,535 bytes"))?;
    let [high, low] = length.to_be_bytes();
    out.push(tag);
    match length {
        0..=0x7f => out.push(low),
        0x80..=0xff => out.extend([0x81, low]),
        _ => out.extend([0x82, high, low]),
    }
    out.extend_from_slice(content);
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_length_are_encoded() {
        let names = |name: &str| der(&[Name::Dns(name.to_owned())]).unwrap();
        assert_eq!(names("a\0b"), [0x30, 5, 0x82, 3, b'a', 0, b'b']);
        assert_eq!(names(&"x".repeat(126))[..5], [0x30, 0x81, 128, 0x82, 126]);
        assert_eq!(names(&"x".repeat(300))[..8], [0x30, 0x82, 1, 48, 0x82, 0x82, 1, 44]);
        let address = Name::Ip("127.0.0.1".parse().unwrap());
        assert_eq!(der(&[address]).unwrap(), [0x30, 6, 0x87, 4, 127, 0, 0, 1]);
        assert!(der(&[Name::Dns("x".repeat(70_000))]).is_err());
    }

    #[test]
    fn a_subject_holds_any_character_and_is_never_empty() {
        let subject = |name: &str| Leaf::client(name).request(false).unwrap().subject();
        assert_eq!(subject(r"a/b+c\d=ß").unwrap(), r"/CN=a\/b\+c\\d=ß");
        assert!(subject("").is_err());
        assert!(subject("a\0b").is_err());
    }

    #[test]
    fn an_address_and_a_host_name_are_distinguished() {
        assert_eq!(Leaf::server("::1").names, [Name::Ip("::1".parse().unwrap())]);
        assert_eq!(Leaf::server("db.test").names, [Name::Dns("db.test".to_owned())]);
    }
}
