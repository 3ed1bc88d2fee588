//! A server's certificate and key, created once by the server or supplied by the operator.

use std::fmt;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};

use super::Fingerprint;
use super::unusable::{Parts, Unusable};
use portal_cli::files;
use portal_cli::text_file::{self, TextError};

/// A server's certificate chain and the private key for it.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// The reason why there is no usable certificate and key.
#[derive(Debug)]
pub enum IdentityError {
    /// A file can't be read as text.
    Text(TextError),
    /// A file can't be written.
    File(PathBuf, io::Error),
    /// Only one of the two files exists.
    Half { there: PathBuf, missing: PathBuf },
    /// The files are unusable.
    Unusable(Unusable),
    /// The TLS library rejects the pair.
    Refused(String),
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityError::Text(error) => write!(f, "{error}"),
            IdentityError::File(path, error) => write!(
                f,
                "{}: {error}; choose other files with --tls CERT KEY, or omit CERT and KEY",
                path.display()
            ),
            IdentityError::Half { there, missing } => write!(
                f,
                "{} exists, but {} does not: restore the missing file, or remove the other one so \
                 that the server creates both again",
                there.display(),
                missing.display()
            ),
            IdentityError::Unusable(reason) => reason.fmt(f),
            IdentityError::Refused(reason) => write!(
                f,
                "can't use the certificate and the key together: {reason}; choose other files with \
                 --tls CERT KEY, or omit CERT and KEY"
            ),
        }
    }
}

/// Converts an error about reading the file `path`.
pub(super) fn explained(path: &Path, error: TextError) -> IdentityError {
    let unusable = error
        .system()
        .and_then(|error| Unusable::unreadable(path, error));
    unusable.map_or(IdentityError::Text(error), IdentityError::Unusable)
}

/// Validity, in days, of a certificate that the server creates. Browsers and Apple devices reject
/// certificates with a longer validity.
const DAYS: i64 = 800;

impl Identity {
    /// Reads a certificate chain and its key from two PEM files. No other user may have access to
    /// the key: see [`portal_cli::private::Privacy::Secret`].
    pub fn read(certificate: &Path, key: &Path) -> Result<Identity, IdentityError> {
        let text =
            |path: &Path| text_file::read_bytes(path).map_err(|error| explained(path, error));
        let certificate_text = text(certificate)?;
        let key_text = match text_file::read_secret(key) {
            // Only a key needs to be private. For anything else, the better advice is to specify a
            // key.
            Err(exposed) if exposed.is_not_private() => match text(key) {
                Ok(other) if PrivateKeyDer::from_pem_slice(&other).is_err() => other,
                _ => return Err(IdentityError::Text(exposed)),
            },
            read => read.map_err(|error| explained(key, error))?,
        };
        Identity::parse((certificate, &certificate_text), (key, &key_text))
    }

    /// Parses the contents of two PEM files.
    pub(super) fn parse(
        (certificate, certificate_text): (&Path, &[u8]),
        (key, key_text): (&Path, &[u8]),
    ) -> Result<Identity, IdentityError> {
        let not_found = |key_is_missing| {
            let certificate = (certificate, certificate_text);
            let unusable = Unusable::not_found(certificate, (key, key_text), key_is_missing);
            IdentityError::Unusable(unusable)
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate_text).collect();
        let chain = chain.unwrap_or_default();
        if chain.is_empty() {
            return Err(not_found(false));
        }
        let private = PrivateKeyDer::from_pem_slice(key_text).map_err(|_| not_found(true))?;
        match Unusable::in_pair((certificate, &chain), (key, &private)) {
            Some(unusable) => Err(IdentityError::Unusable(unusable)),
            None => Ok(Identity {
                chain,
                key: private,
            }),
        }
    }

    /// Checks that the certificate in the file `path` is valid at `now`. If its validity period
    /// can't be parsed, leaves the check to the clients.
    ///
    /// # Errors
    /// The certificate has expired, or is not valid yet.
    pub fn check_time(&self, path: &Path, now: Timestamp) -> Result<(), IdentityError> {
        let path = path.to_owned();
        let unusable = match self.chain.first().and_then(validity) {
            Some((from, _)) if now < from => Unusable::NotYet { path, from },
            Some((_, until)) if now > until => Unusable::Expired { path, since: until },
            _ => return Ok(()),
        };
        Err(IdentityError::Unusable(unusable))
    }

    /// Reads these files. If neither exists, first creates them, for a machine with these names and
    /// addresses. The returned flag is true if the files were created.
    pub fn read_or_make(
        certificate: &Path,
        key: &Path,
        names: &[String],
        addresses: &[IpAddr],
    ) -> Result<(Identity, bool), IdentityError> {
        let (there, missing) = match (certificate.exists(), key.exists()) {
            (true, true) => return Ok((Identity::read(certificate, key)?, false)),
            (true, false) => (certificate, key),
            (false, true) => (key, certificate),
            (false, false) => {
                Identity::make(certificate, key, names, addresses)?;
                return Ok((Identity::read(certificate, key)?, true));
            }
        };
        Err(IdentityError::Half {
            there: there.to_owned(),
            missing: missing.to_owned(),
        })
    }

    fn make(
        certificate: &Path,
        key: &Path,
        names: &[String],
        addresses: &[IpAddr],
    ) -> Result<(), IdentityError> {
        let unusable = |error: rcgen::Error| IdentityError::Refused(error.to_string());
        let addresses = addresses.iter().map(IpAddr::to_string);
        let names: Vec<String> = names.iter().cloned().chain(addresses).collect();
        let mut parameters = CertificateParams::new(names).map_err(unusable)?;
        let mut who = DistinguishedName::new();
        who.push(DnType::CommonName, "portal-chat");
        parameters.distinguished_name = who;
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Start a day early, so that clients with slow clocks accept the certificate.
        let day = |days: i64| {
            let now = Timestamp::now().to_zoned(TimeZone::UTC).date();
            let day = now.saturating_add(days.days());
            date_time_ymd(day.year().into(), day.month() as u8, day.day() as u8)
        };
        parameters.not_before = day(-1);
        parameters.not_after = day(DAYS - 1);
        let pair = KeyPair::generate().map_err(unusable)?;
        let made = parameters.self_signed(&pair).map_err(unusable)?;
        let write = |path: &Path, text: &str| {
            // Only the owner may read the file, from the moment it exists.
            let written = files::create_private(path).and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            });
            written.map_err(|error| IdentityError::File(path.to_owned(), error))
        };
        // Write the key first, because a certificate without its key is useless.
        write(key, &pair.serialize_pem())?;
        write(certificate, &made.pem())
    }

    /// Returns the fingerprint of the server's own certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.chain.first().map_or(&[][..], |first| first.as_ref()))
    }

    /// Returns the number of days for which the certificate is still valid at `now`: negative if it
    /// has expired, `None` if its validity can't be parsed.
    pub fn days_left(&self, now: Timestamp) -> Option<i64> {
        let (_, until) = self.chain.first().and_then(validity)?;
        Some((until.as_second() - now.as_second()).div_euclid(24 * 60 * 60))
    }

    /// Returns the TLS configuration of a server with this identity: TLS 1.3, or 1.2 for clients
    /// without 1.3.
    pub fn server(self) -> Result<ServerConfig, IdentityError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let unusable = |error: rustls::Error| IdentityError::Refused(error.to_string());
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(self.chain, self.key)
            .map_err(unusable)
    }
}

/// Parses the start and the end of a certificate's validity (RFC 5280, 4.1.2.5).
fn validity(certificate: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    let times = Parts::of(certificate)?.validity;
    let (from, length) = time_at(times)?;
    let (until, _) = time_at(times.get(length..)?)?;
    Some((from, until))
}

/// Parses a DER time at the beginning of `bytes`: UTCTime (`YYMMDDHHMMSSZ`) or GeneralizedTime
/// (`YYYYMMDDHHMMSSZ`). Returns the time and its length in bytes.
fn time_at(bytes: &[u8]) -> Option<(Timestamp, usize)> {
    let (length, has_century) = match bytes {
        [0x17, 13, ..] => (13, false),
        [0x18, 15, ..] => (15, true),
        _ => return None,
    };
    let text = std::str::from_utf8(bytes.get(2..2 + length)?).ok()?;
    let digits = text.strip_suffix('Z')?;
    let (year, rest) = digits.split_at_checked(if has_century { 4 } else { 2 })?;
    let mut year: i16 = year.parse().ok()?;
    if !has_century {
        year += if year < 50 { 2000 } else { 1900 };
    }
    let part = |index: usize| rest.get(2 * index..2 * index + 2)?.parse::<i8>().ok();
    let time =
        jiff::civil::DateTime::new(year, part(0)?, part(1)?, part(2)?, part(3)?, part(4)?, 0);
    let time = time.ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp();
    Some((time, 2 + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_key_that_other_users_can_read_or_have_planted_is_refused() {
        use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
        let folder = std::env::temp_dir().join(format!("portal-chat-key-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        Identity::read_or_make(&certificate, &key, &[], &[]).unwrap();
        let refused = |key: &Path| Identity::read(&certificate, key).err().unwrap().to_string();
        let mode = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&key, mode).unwrap();
        };
        for open in [0o640, 0o604, 0o620] {
            mode(open);
            let reason = refused(&key);
            assert!(reason.contains("key.pem: other users can"), "{reason}");
            assert!(reason.contains("run `chmod "), "{reason}");
        }
        // Any other file in the key's place gets a message about its actual content.
        let reason = refused(&certificate);
        assert!(!reason.contains("chmod"), "{reason}");
        mode(0o600);
        // Programs that renew certificates link to the newest key.
        let link = folder.join("link.pem");
        symlink("key.pem", &link).unwrap();
        Identity::read(&certificate, &link).unwrap();
        if lchown(&link, Some(54321), None).is_ok() {
            let reason = refused(&link);
            assert!(reason.contains("run `chown -h 0 "), "{reason}");
            chown(&key, Some(54321), None).unwrap();
            let reason = refused(&key);
            assert!(reason.contains("run `chown 0 "), "{reason}");
        } else {
            portal_cli::output::report(
                "NOT TESTED in part: only root can give a file to another user\n",
            );
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_certificate_is_created_once_with_a_private_key() {
        let folder = std::env::temp_dir().join(format!("portal-chat-made-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        let make = || {
            let names = ["localhost".to_owned()];
            Identity::read_or_make(&certificate, &key, &names, &["192.0.2.7".parse().unwrap()])
        };
        let (first, is_new) = make().unwrap();
        assert!(is_new);
        let fingerprint = first.fingerprint();
        let now = Timestamp::now();
        assert!((DAYS - 2..=DAYS).contains(&first.days_left(now).unwrap()));
        let later = now + jiff::SignedDuration::from_hours(24 * 900);
        assert!(first.days_left(later).unwrap() < 0);
        first.server().unwrap();
        let (again, is_new) = make().unwrap();
        assert!(!is_new && again.fingerprint() == fingerprint);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&key).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        // A single missing file is not created again, because the other one may be the operator's.
        std::fs::remove_file(&certificate).unwrap();
        assert!(matches!(make(), Err(IdentityError::Half { .. })));
        std::fs::write(&certificate, "no certificate").unwrap();
        let nothing = make().err().unwrap().to_string();
        assert!(nothing.contains("PEM"), "{nothing}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
