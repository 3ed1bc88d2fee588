//! The server's certificate: finds, loads and reloads its files, and warns before it expires.

#[cfg(feature = "tls")]
use std::path::Path;
use std::path::PathBuf;

#[cfg(feature = "tls")]
use crate::files::make_usual_folder_of;
use crate::files::server_folder;
#[cfg(feature = "tls")]
use crate::interfaces::{interfaces, machine_name};
use crate::net::TlsServer;
#[cfg(feature = "tls")]
use crate::tls::{Identity, IdentityError};

/// The certificate and key files of `--tls`.
#[derive(Clone, Debug)]
pub(super) struct TlsFiles {
    /// The files from the command line; otherwise the default files, which are created if they do
    /// not exist.
    given: Option<(PathBuf, PathBuf)>,
    /// Names for a new certificate, besides the machine's own.
    names: Vec<String>,
}

const CERTIFICATE: &str = "portal-chat-cert.pem";
const KEY: &str = "portal-chat-key.pem";

/// Each start warns if the certificate expires in fewer days than this.
#[cfg(feature = "tls")]
const SOON: i64 = 30;

/// Returns a warning if the certificate has expired or expires soon. `folder` is the folder of a
/// certificate that the server generated; `None` for one from the command line.
#[cfg(feature = "tls")]
fn warning(days_left: Option<i64>, folder: Option<&Path>) -> String {
    let cure = match folder {
        None => "replace it with a new one".to_owned(),
        Some(folder) => format!(
            "delete {} and {KEY}; the server will create new ones when it next starts, and clients \
             will report the change",
            folder.join(CERTIFICATE).display()
        ),
    };
    match days_left {
        Some(days) if days < 0 => format!("         THE CERTIFICATE HAS EXPIRED: {cure}.\n"),
        Some(days) if days < SOON => {
            format!("         The certificate expires in {days} days: {cure}.\n")
        }
        _ => String::new(),
    }
}

impl TlsFiles {
    /// Uses the certificate and the key in `given`, or the default files if it is empty.
    ///
    /// # Errors
    /// The reason why another number of files is refused.
    pub(super) fn new(given: &[PathBuf], names: &[String]) -> Result<TlsFiles, String> {
        let given = match given {
            [] => None,
            [certificate, key] => Some((certificate.clone(), key.clone())),
            [certificate] => {
                return Err(format!(
                    "--tls needs the certificate's key, too: --tls {} KEY (if one file has both, \
                     name it twice); without files, --tls uses a certificate of the server's own",
                    certificate.display()
                ));
            }
            _ => return Err("--tls takes two files, a certificate and its key".to_owned()),
        };
        let names = names.to_vec();
        Ok(TlsFiles { given, names })
    }

    /// Returns the path of the certificate, which may not exist yet.
    pub(super) fn shown(&self) -> String {
        match &self.given {
            Some((certificate, key)) => format!("{} {}", certificate.display(), key.display()),
            None => server_folder(&[CERTIFICATE, KEY])
                .join(CERTIFICATE)
                .display()
                .to_string(),
        }
    }

    /// Returns whether the first start will create the certificate.
    pub(super) fn are_to_be_made(&self) -> bool {
        let folder = server_folder(&[CERTIFICATE, KEY]);
        let is_there = |name| folder.join(name).exists();
        self.given.is_none() && !is_there(CERTIFICATE) && !is_there(KEY)
    }

    /// Reloads the files of a running server. Connections accepted afterwards use the new
    /// certificate.
    ///
    /// # Errors
    /// The reason why the old certificate remains in use.
    #[cfg(feature = "tls")]
    pub(super) fn load_into(&self, tls: &TlsServer) -> Result<String, String> {
        let (config, report) = self.read()?;
        tls.replace(config);
        Ok(report)
    }

    /// Stub for a build without TLS, in which no [`TlsServer`] exists.
    #[cfg(not(feature = "tls"))]
    pub(super) fn load_into(&self, tls: &TlsServer) -> Result<String, String> {
        match *tls {}
    }

    /// Loads or creates the certificate. Returns the TLS configuration of all ports, and lines for
    /// the operator.
    ///
    /// # Errors
    /// The reason why no certificate can be used.
    #[cfg(feature = "tls")]
    pub(super) fn load(&self) -> Result<(TlsServer, String), String> {
        let (config, report) = self.read()?;
        Ok((TlsServer::new(config), report))
    }

    #[cfg(feature = "tls")]
    fn read(&self) -> Result<(rustls::ServerConfig, String), String> {
        let explained = |error| format!("--tls: {error}");
        let folder = server_folder(&[CERTIFICATE, KEY]);
        let (identity, what) = match &self.given {
            Some((certificate, key)) => {
                let identity = Identity::read(certificate, key).map_err(explained)?;
                // Clients compare the fingerprint of a generated certificate and ignore its dates.
                let valid = identity.check_time(certificate, jiff::Timestamp::now());
                valid.map_err(explained)?;
                (
                    identity,
                    format!("certificate in {}", certificate.display()),
                )
            }
            None => {
                let mut names = vec!["localhost".to_owned()];
                names.extend(machine_name());
                names.extend(self.names.iter().cloned());
                let interfaces = interfaces();
                let addresses: Vec<_> = interfaces
                    .values()
                    .flat_map(|interface| interface.addresses.iter().copied())
                    .collect();
                let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
                make_usual_folder_of(&certificate)
                    .map_err(|error| explained(IdentityError::File(folder.clone(), error)))?;
                let made = Identity::read_or_make(&certificate, &key, &names, &addresses);
                let (identity, is_new) = made.map_err(explained)?;
                let new = if is_new { "new " } else { "" };
                (
                    identity,
                    format!("{new}certificate in {}", certificate.display()),
                )
            }
        };
        let fingerprint = identity.fingerprint();
        let own = self.given.is_none().then_some(folder.as_path());
        let warning = warning(identity.days_left(jiff::Timestamp::now()), own);
        let config = identity.server().map_err(explained)?;
        let report = format!(
            "tls      all of these ports require TLS, with the {what}; its SHA-256 fingerprint:\n  \
             {fingerprint}\n         Clients must use --tls; check that they show the same \
             fingerprint.\n{warning}"
        );
        Ok((config, report))
    }

    /// Stub for a build without TLS. Its error explains how to build with TLS.
    #[cfg(not(feature = "tls"))]
    pub(super) fn load(&self) -> Result<(TlsServer, String), String> {
        let _ = &self.names;
        Err(
            "--tls: this program was built without TLS support; `make run-server ARGS=--tls` and \
             `cargo build --release` build it with TLS support"
                .into(),
        )
    }
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_expires_soon_gets_a_warning_with_the_fix() {
        let made = Some(Path::new("/state"));
        assert_eq!(warning(Some(SOON), made), "");
        assert_eq!(warning(None, None), "");
        assert!(warning(Some(3), made).contains("in 3 days: delete /state/portal-chat-cert.pem"));
        assert!(warning(Some(-1), None).contains("EXPIRED: replace it"));
    }
}
