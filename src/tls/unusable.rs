//! Reasons for rejecting the operator's certificate or key, each with its fix.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::der::{INTEGER, OBJECT, SEQUENCE, dotted, values};

/// The reason why a file is unusable. The [`fmt::Display`] implementation also says how to fix it.
#[derive(Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The server's user has no permission to read the file, or the file is hidden from that user.
    Unreadable {
        path: PathBuf,
        reason: String,
        /// True if the server runs as a service, under a user that systemd creates for it.
        is_service: bool,
    },
    /// systemd should have passed the file to the service, but the file is missing or this user may
    /// not read it.
    Credential {
        path: PathBuf,
        reason: String,
        is_missing: bool,
    },
    /// CERT is the key file, and KEY is the certificate file.
    Swapped { certificate: PathBuf, key: PathBuf },
    /// The file contains something other than a certificate.
    NotACertificate { path: PathBuf, found: Found },
    /// The file contains something other than a key.
    NotAKey { path: PathBuf, found: Found },
    /// The key is encrypted with a passphrase.
    Encrypted(PathBuf),
    /// The TLS library can't sign with this kind of key.
    KeyKind { path: PathBuf, kind: String },
    /// The certificate uses an old version of X.509.
    Version { path: PathBuf, version: u8 },
    /// The key belongs to a different certificate.
    Mismatch { certificate: PathBuf, key: PathBuf },
    /// The key belongs to a later certificate in the file.
    Order { certificate: PathBuf },
    /// The certificate has expired.
    Expired { path: PathBuf, since: Timestamp },
    /// The certificate is not valid yet.
    NotYet { path: PathBuf, from: Timestamp },
}

/// The actual content of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    Certificate,
    PrivateKey,
    PublicKey,
    OpenSshKey,
    Request,
    TrustedCertificate,
    Pkcs7,
    /// DER or PKCS #12.
    Binary,
    Text,
    /// The expected content, but damaged.
    Damaged,
}

/// The directory below which systemd passes files to services (`LoadCredential=`).
const CREDENTIALS: &str = "/run/credentials";

/// The command that creates an EC key. EC keys are fast, short and supported by every client.
const NEW_KEY: &str = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem";

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Unreadable {
                path,
                reason,
                is_service: true,
            } => write!(
                f,
                "{0}: {reason}: the service runs as its own user, which is not allowed to read \
                 this file. Let systemd pass it: run `systemctl edit chatserver`, add a [Service] \
                 section with the line LoadCredential=NAME:{0} (one such line, with its own NAME, \
                 for each of the two files), and use --tls \
                 /run/credentials/chatserver.service/NAME",
                path.display()
            ),
            Unusable::Unreadable { path, reason, .. } => write!(
                f,
                "{0}: {reason}: give this user read permission (`sudo setfacl -m u:$USER:r {0}`, \
                 and x on its parent directories), or use a copy",
                path.display()
            ),
            Unusable::Credential {
                path,
                reason,
                is_missing: true,
            } => write!(
                f,
                "{}: {reason}: systemd did not pass this file to the service: run `systemctl edit \
                 chatserver`, add a [Service] section with the line LoadCredential={}:FILE, and \
                 restart the service (`systemctl restart chatserver`)",
                path.display(),
                path.file_name().unwrap_or_default().display()
            ),
            Unusable::Credential { path, reason, .. } => write!(
                f,
                "{}: {reason}: only the service to which systemd passes this file may read it: start \
                 the service (`systemctl restart chatserver`) and read its messages (`journalctl -u \
                 chatserver`)",
                path.display()
            ),
            Unusable::Swapped { certificate, key } => write!(
                f,
                "the two files are swapped; the certificate comes first: --tls {} {}",
                key.display(),
                certificate.display()
            ),
            Unusable::NotACertificate { path, found } => {
                let path = path.display();
                write!(f, "there is no certificate in {path}")?;
                match found {
                    Found::Request => write!(
                        f,
                        ", only a signing request: use the certificate that the authority issued \
                         for it"
                    ),
                    Found::TrustedCertificate => write!(
                        f,
                        ", only one in OpenSSL's own format; convert it: `openssl x509 -in {path} \
                         -out cert.pem`"
                    ),
                    Found::Pkcs7 => write!(
                        f,
                        ", only a PKCS #7 bundle; convert it: `openssl pkcs7 -in {path} \
                         -print_certs -out cert.pem`"
                    ),
                    Found::Binary => write!(
                        f,
                        " in PEM format, only binary data; convert it to PEM: `openssl x509 -in \
                         {path} -out cert.pem` for DER, `openssl pkcs12 -in {path} -nodes -out \
                         both.pem` for PKCS #12"
                    ),
                    other => instead(f, *other),
                }
            }
            Unusable::NotAKey { path, found } => {
                let path = path.display();
                write!(f, "there is no private key in {path}")?;
                match found {
                    Found::PublicKey => f.write_str(
                        ", only a public key: use the file of the private key that belongs to it",
                    ),
                    Found::OpenSshKey => write!(
                        f,
                        ", only an OpenSSH key, which can't be used for TLS: create another key \
                         (`{NEW_KEY}`) and a certificate for it"
                    ),
                    Found::Binary => write!(
                        f,
                        " in PEM format, only binary data; convert it to PEM: `openssl pkey -in \
                         {path} -out key.pem` for DER, `openssl pkcs12 -in {path} -nodes -out \
                         both.pem` for PKCS #12"
                    ),
                    other => instead(f, *other),
                }
            }
            Unusable::Encrypted(path) => write!(
                f,
                "the key in {0} is encrypted, but the server never asks for a passphrase: create \
                 an unencrypted copy (`openssl pkey -in {0} -out key.pem`), protect it (`chmod 600 \
                 key.pem`), and use the copy",
                path.display()
            ),
            Unusable::KeyKind { path, kind } => write!(
                f,
                "the key in {} is {kind}, which this server does not support. It supports EC keys \
                 (P-256, P-384), Ed25519 and RSA of 2048, 3072 or 4096 bits: create another key \
                 (`{NEW_KEY}`) and a certificate for it",
                path.display()
            ),
            Unusable::Version { path, version } => write!(
                f,
                "the certificate in {} uses X.509 version {version}, which TLS clients reject: \
                 create a version 3 certificate (`openssl req -x509 -key KEY -addext \
                 subjectAltName=DNS:THE-SERVERS-NAME -days 365 -out cert.pem`)",
                path.display()
            ),
            Unusable::Mismatch { certificate, key } => write!(
                f,
                "the key in {1} does not belong to the certificate in {0}: `openssl x509 -in {0} \
                 -noout -pubkey` and `openssl pkey -in {1} -pubout` must print the same key; use a \
                 certificate and a key that belong together",
                certificate.display(),
                key.display()
            ),
            Unusable::Order { certificate } => write!(
                f,
                "the key belongs to a later certificate in {}: the server's own certificate must \
                 come first in the file, followed by those of the authorities",
                certificate.display()
            ),
            Unusable::Expired { path, since } => write!(
                f,
                "the certificate in {} expired on {}: renew it, or omit CERT and KEY so that the \
                 server creates one (each client then asks once whether to trust it)",
                path.display(),
                since.strftime("%Y-%m-%d")
            ),
            Unusable::NotYet { path, from } => write!(
                f,
                "the certificate in {} is not valid before {}: wait until then, or use another \
                 certificate; if that time has passed, correct this machine's clock",
                path.display(),
                from.strftime("%Y-%m-%d %H:%M UTC")
            ),
        }
    }
}

fn instead(f: &mut fmt::Formatter<'_>, found: Found) -> fmt::Result {
    f.write_str(match found {
        Found::Nothing => ": it is empty; choose the right file",
        Found::Certificate => {
            ", only a certificate: give the certificate file first, then the key file"
        }
        Found::PrivateKey => ", only a key: give the certificate file first, then the key file",
        Found::Damaged => ": the file is damaged; copy it again",
        _ => ": it must be in PEM format, which begins with -----BEGIN; choose the right file",
    })
}

impl Unusable {
    /// Explains why `path` can't be read, if the cause is a missing permission.
    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Option<Unusable> {
        // systemd sets this variable for our unit. A shell in a terminal does not have it.
        let is_service = std::env::var_os("STATE_DIRECTORY").is_some();
        let is_missing = error.kind() == io::ErrorKind::NotFound;
        let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
        if path.starts_with(CREDENTIALS) && (is_missing || is_denied) {
            return Some(Unusable::Credential {
                path: path.to_owned(),
                reason: error.to_string(),
                is_missing,
            });
        }
        // ProtectHome and PrivateTmp hide these folders from a service.
        let hidden = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];
        let is_hidden = is_service && hidden.iter().any(|folder| path.starts_with(folder));
        let is_refused = is_denied || is_missing && is_hidden;
        is_refused.then(|| Unusable::Unreadable {
            path: path.to_owned(),
            reason: error.to_string(),
            is_service,
        })
    }

    /// Explains why a file contains no certificate or, with `key_is_missing`, no key.
    pub(super) fn not_found(
        (certificate, certificate_text): (&Path, &[u8]),
        (key, key_text): (&Path, &[u8]),
        key_is_missing: bool,
    ) -> Unusable {
        let (in_certificate, in_key) = (found(certificate_text), found(key_text));
        let is_key = |found| matches!(found, Found::PrivateKey) || is_encrypted(certificate_text);
        if in_key == Found::Certificate && is_key(in_certificate) {
            return Unusable::Swapped {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            };
        }
        if !key_is_missing {
            return Unusable::NotACertificate {
                path: certificate.to_owned(),
                found: match in_certificate {
                    Found::Certificate => Found::Damaged,
                    other => other,
                },
            };
        }
        if is_encrypted(key_text) {
            return Unusable::Encrypted(key.to_owned());
        }
        Unusable::NotAKey {
            path: key.to_owned(),
            found: match in_key {
                Found::PrivateKey => Found::Damaged,
                other => other,
            },
        }
    }

    /// Checks a certificate chain and a key that have been parsed. Returns `None` if they are
    /// usable.
    pub(super) fn in_pair(
        (certificate, chain): (&Path, &[CertificateDer<'_>]),
        (key, private): (&Path, &PrivateKeyDer<'_>),
    ) -> Option<Unusable> {
        let Ok(signing) = rustls::crypto::ring::sign::any_supported_type(private) else {
            return Some(Unusable::KeyKind {
                path: key.to_owned(),
                kind: kind(private),
            });
        };
        let parts = Parts::of(chain.first()?)?;
        if parts.version != 3 {
            return Some(Unusable::Version {
                path: certificate.to_owned(),
                version: parts.version,
            });
        }
        let public = signing.public_key()?;
        let belongs = |parts: &Parts<'_>| parts.public_key == public.as_ref();
        if belongs(&parts) {
            return None;
        }
        let mut later = chain.iter().skip(1).filter_map(Parts::of);
        Some(if later.any(|parts| belongs(&parts)) {
            Unusable::Order {
                certificate: certificate.to_owned(),
            }
        } else {
            Unusable::Mismatch {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            }
        })
    }
}

/// The fields of a certificate (RFC 5280, 4.1) that determine whether a server can use it.
pub(super) struct Parts<'c> {
    version: u8,
    pub(super) validity: &'c [u8],
    /// SubjectPublicKeyInfo.
    public_key: &'c [u8],
}

impl<'c> Parts<'c> {
    pub(super) fn of(certificate: &'c CertificateDer<'_>) -> Option<Parts<'c>> {
        const VERSION: u8 = 0xa0;
        let whole = values(certificate.as_ref()).next()?;
        let mut fields = whole.values().next()?.values().peekable();
        let version = fields.next_if(|field| field.tag == VERSION);
        let version = match version {
            Some(field) => field.values().next()?.content.last()?.checked_add(1)?,
            None => 1,
        };
        // Skip the serial number, the signature algorithm and the issuer.
        let validity = fields.nth(3)?.content;
        // Skip the subject.
        let public_key = fields.nth(1)?.encoded;
        Some(Parts {
            version,
            validity,
            public_key,
        })
    }
}

/// Guesses the content of a file from its first PEM label or its first bytes.
fn found(text: &[u8]) -> Found {
    let text_of = String::from_utf8_lossy(text);
    let labels = text_of.lines().filter_map(|line| {
        let line = line.trim().trim_start_matches('\u{feff}');
        line.strip_prefix("-----BEGIN ")?.strip_suffix("-----")
    });
    let mut kinds = labels.filter_map(|label| {
        Some(match label {
            "CERTIFICATE" => Found::Certificate,
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => Found::Request,
            "TRUSTED CERTIFICATE" => Found::TrustedCertificate,
            "PKCS7" | "CMS" => Found::Pkcs7,
            "PUBLIC KEY" | "RSA PUBLIC KEY" => Found::PublicKey,
            "OPENSSH PRIVATE KEY" => Found::OpenSshKey,
            label if label.ends_with("PRIVATE KEY") => Found::PrivateKey,
            _ => return None,
        })
    });
    let is_binary = || text.first() == Some(&SEQUENCE) || text.contains(&0);
    match kinds.next() {
        Some(kind) => kind,
        None if text.trim_ascii().is_empty() => Found::Nothing,
        None if is_binary() => Found::Binary,
        None => Found::Text,
    }
}

/// Returns whether a key is encrypted. PKCS #8 states this in the label, older formats in a header
/// (RFC 1421).
fn is_encrypted(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.lines().any(|line| {
        line.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY")
            || (line.starts_with("Proc-Type:") && line.contains("ENCRYPTED"))
    })
}

/// Describes the type of a private key.
fn kind(key: &PrivateKeyDer<'_>) -> String {
    let described = match key {
        PrivateKeyDer::Pkcs1(key) => rsa(key.secret_pkcs1_der()),
        PrivateKeyDer::Sec1(key) => curve_in(key.secret_sec1_der()),
        PrivateKeyDer::Pkcs8(key) => pkcs8(key.secret_pkcs8_der()),
        _ => None,
    };
    described.unwrap_or_else(|| "damaged or of an unknown kind".to_owned())
}

/// Describes a PKCS #8 key (RFC 5208). It consists of the version, the algorithm with its
/// parameters, and the key in the algorithm's own format.
fn pkcs8(key: &[u8]) -> Option<String> {
    let mut fields = values(key).next()?.values().skip(1);
    let (algorithm, key) = (fields.next()?, fields.next()?);
    let mut objects = algorithm.values().filter(|value| value.tag == OBJECT);
    let algorithm = dotted(objects.next()?.content);
    match &*algorithm {
        "1.2.840.113549.1.1.1" => rsa(key.content),
        "1.2.840.10045.2.1" => Some(match objects.next() {
            Some(curve) => curve_named(&dotted(curve.content)),
            None => "an EC key with a custom curve".to_owned(),
        }),
        "1.2.840.113549.1.1.10" => Some("an RSA-PSS key".to_owned()),
        "1.2.840.10040.4.1" => Some("a DSA key".to_owned()),
        "1.3.101.112" => Some("a damaged Ed25519 key".to_owned()),
        "1.3.101.113" => Some("an Ed448 key".to_owned()),
        "1.3.101.110" | "1.3.101.111" => Some("a key for key exchange (X25519, X448)".to_owned()),
        other => Some(format!("of another kind ({other})")),
    }
}

/// Describes an RSA key (RFC 8017), which begins with the version and the modulus.
fn rsa(key: &[u8]) -> Option<String> {
    let mut numbers = values(key).next()?.values();
    let modulus = numbers.nth(1).filter(|number| number.tag == INTEGER)?;
    let modulus: &[u8] = match modulus.content {
        [0, rest @ ..] => rest,
        all => all,
    };
    let unused = modulus.first()?.leading_zeros() as usize;
    Some(format!("an RSA key of {} bits", modulus.len() * 8 - unused))
}

/// Describes an EC key (RFC 5915), whose curve is in a field with the tag 0.
fn curve_in(key: &[u8]) -> Option<String> {
    const PARAMETERS: u8 = 0xa0;
    let mut fields = values(key).next()?.values();
    let parameters = fields.find(|field| field.tag == PARAMETERS)?;
    let curve = parameters.values().find(|value| value.tag == OBJECT)?;
    Some(curve_named(&dotted(curve.content)))
}

fn curve_named(curve: &str) -> String {
    let name = match curve {
        "1.2.840.10045.3.1.7" => return "a damaged EC key (P-256)".to_owned(),
        "1.3.132.0.34" => return "a damaged EC key (P-384)".to_owned(),
        "1.3.132.0.35" => "P-521",
        "1.3.132.0.33" => "P-224",
        "1.3.132.0.10" => "secp256k1",
        other => other,
    };
    format!("an EC key on the curve {name}")
}

#[cfg(test)]
mod tests {
    use super::super::Identity;
    use super::super::certificate::explained;
    use super::*;

    fn file(name: &str) -> PathBuf {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/certificates");
        folder.join(name)
    }

    /// Returns the message for an operator who uses these files in 2026.
    fn advice(certificate: &str, key: &str) -> String {
        let now: Timestamp = "2026-12-29T00:00:00Z".parse().unwrap();
        // Not `Identity::read`: in a checkout, all users may read these keys.
        let text = |name| {
            let read = portal_cli::text_file::read_bytes(&file(name));
            read.map_err(|error| explained(&file(name), error))
        };
        let read = text(certificate).and_then(|certificate_text| {
            Identity::parse(
                (&file(certificate), &certificate_text),
                (&file(key), &text(key)?),
            )
        });
        let checked = read.and_then(|identity| {
            identity.check_time(&file(certificate), now)?;
            identity.server().map(drop)
        });
        checked.map_or_else(|error| error.to_string(), |()| "ok".to_owned())
    }

    #[test]
    fn each_unusable_file_gets_a_sentence_with_its_own_fix() {
        // The certificate file, the key file, the expected reason (or `ok`), and the expected fix.
        for (certificate, key, reason, fix) in [
            ("good-cert.pem", "good-key.pem", "ok", ""),
            ("good-cert.pem", "sec1-key.pem", "ok", ""),
            ("good-key.pem", "good-cert.pem", "are swapped", "--tls "),
            (
                "encrypted-key.pem",
                "good-cert.pem",
                "are swapped",
                "--tls ",
            ),
            (
                "old-encrypted-key.pem",
                "good-cert.pem",
                "are swapped",
                "--tls ",
            ),
            (
                "good-cert.pem",
                "encrypted-key.pem",
                "is encrypted",
                "openssl pkey -in ",
            ),
            (
                "good-cert.pem",
                "old-encrypted-key.pem",
                "is encrypted",
                "openssl pkey -in ",
            ),
            (
                "p521-cert.pem",
                "p521-key.pem",
                "is an EC key on the curve P-521",
                "P-256",
            ),
            (
                "secp256k1-cert.pem",
                "secp256k1-key.pem",
                "curve secp256k1",
                "P-256",
            ),
            (
                "rsa1024-cert.pem",
                "rsa1024-key.pem",
                "is an RSA key of 1024 bits",
                "2048",
            ),
            (
                "rsa1024-cert.pem",
                "rsa1024-pkcs1-key.pem",
                "is an RSA key of 1024 bits",
                "2048",
            ),
            (
                "ed448-cert.pem",
                "ed448-key.pem",
                "is an Ed448 key",
                "Ed25519",
            ),
            (
                "v1-cert.pem",
                "good-key.pem",
                "X.509 version 1",
                "openssl req -x509",
            ),
            (
                "good-cert.pem",
                "other-key.pem",
                "does not belong",
                "-pubkey",
            ),
            (
                "reversed-chain.pem",
                "good-key.pem",
                "a later certificate",
                "must come first",
            ),
            (
                "expired-cert.pem",
                "good-key.pem",
                "expired on 2021-01-01",
                "renew",
            ),
            (
                "future-cert.pem",
                "good-key.pem",
                "not valid before 2099-01-01",
                "clock",
            ),
            (
                "request.pem",
                "good-key.pem",
                "a signing request",
                "the authority issued",
            ),
            (
                "good-cert.der",
                "good-key.pem",
                "only binary",
                "openssl x509 -in ",
            ),
            ("both.p12", "both.p12", "only binary", "openssl pkcs12 -in "),
            (
                "good-cert.pem",
                "good-key.der",
                "only binary",
                "openssl pkey -in ",
            ),
            (
                "good-cert.pem",
                "public-key.pem",
                "only a public key",
                "belongs to it",
            ),
            (
                "good-cert.pem",
                "openssh-key.pem",
                "an OpenSSH key",
                "openssl genpkey",
            ),
            (
                "good-cert.pem",
                "good-cert.pem",
                "only a certificate",
                "then the key file",
            ),
            (
                "good-key.pem",
                "good-key.pem",
                "only a key",
                "give the certificate file first",
            ),
            (
                "missing.pem",
                "good-key.pem",
                "No such file",
                "check the path",
            ),
        ] {
            let advice = advice(certificate, key);
            let is_it = advice.contains(reason) && advice.contains(fix);
            assert!(is_it, "{certificate} {key}: {advice}");
            assert!(!advice.contains('\n'), "{advice}");
        }
    }

    #[test]
    fn an_unreadable_file_gets_a_sentence_with_the_fix() {
        let path = Path::new("/etc/letsencrypt/live/chat.example/privkey.pem");
        let unreadable = |is_service| {
            let unusable = Unusable::Unreadable {
                path: path.to_owned(),
                reason: "Permission denied (os error 13)".to_owned(),
                is_service,
            };
            unusable.to_string()
        };
        assert!(unreadable(true).contains(&format!("LoadCredential=NAME:{}", path.display())));
        assert!(unreadable(false).contains("setfacl"));
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(Unusable::unreadable(path, &denied).is_some());
        let missing = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(Unusable::unreadable(path, &missing), None);
    }

    #[test]
    fn a_file_that_systemd_did_not_pass_has_other_fixes() {
        let path = Path::new("/run/credentials/chatserver.service/key.pem");
        let sentence = |kind| {
            let error = io::Error::from(kind);
            Unusable::unreadable(path, &error).unwrap().to_string()
        };
        let missing = sentence(io::ErrorKind::NotFound);
        assert!(missing.contains("LoadCredential=key.pem:FILE"), "{missing}");
        let denied = sentence(io::ErrorKind::PermissionDenied);
        assert!(denied.contains("restart chatserver"), "{denied}");
        for sentence in [missing, denied] {
            assert!(!sentence.contains("key.pem:/run"), "{sentence}");
        }
    }
}
