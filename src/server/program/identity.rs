//! The server's certificate: which files it is in, what is said about it, and what becomes of it
//! when they change.

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

/// Which files `--tls` means.
#[derive(Clone, Debug)]
pub(super) struct TlsFiles {
    /// Given by the person; else they are made if they are not there.
    given: Option<(PathBuf, PathBuf)>,
    /// Names for the certificate, beside the machine's own.
    names: Vec<String>,
}

const CERTIFICATE: &str = "portal-chat-cert.pem";
const KEY: &str = "portal-chat-key.pem";

/// So many days before a certificate runs out, its owner is told at each start.
#[cfg(feature = "tls")]
const SOON: i64 = 30;

/// What is to be said of a certificate that has so many days left, which a server made for itself
/// in `folder`, or was given.
#[cfg(feature = "tls")]
fn warning(days_left: Option<i64>, folder: Option<&Path>) -> String {
    let cure = match folder {
        None => "put a new one into its file".to_owned(),
        Some(folder) => format!(
            "take {} and {KEY} away, and the next start makes new ones; all clients will ask",
            folder.join(CERTIFICATE).display()
        ),
    };
    match days_left {
        Some(days) if days < 0 => format!("         IT HAS RUN OUT: {cure}.\n"),
        Some(days) if days < SOON => format!("         It runs out in {days} days: {cure}.\n"),
        _ => String::new(),
    }
}

impl TlsFiles {
    /// Those files, or the usual ones.
    pub(super) fn new(given: Vec<PathBuf>, names: &[String]) -> TlsFiles {
        TlsFiles {
            given: <[PathBuf; 2]>::try_from(given)
                .ok()
                .map(|[certificate, key]| (certificate, key)),
            names: names.to_vec(),
        }
    }

    /// Where the certificate is, or will be.
    pub(super) fn shown(&self) -> String {
        match &self.given {
            Some((certificate, key)) => format!("{} {}", certificate.display(), key.display()),
            None => server_folder(&[CERTIFICATE, KEY])
                .join(CERTIFICATE)
                .display()
                .to_string(),
        }
    }

    /// Whether there is none yet, and the first start will make one.
    pub(super) fn are_to_be_made(&self) -> bool {
        let folder = server_folder(&[CERTIFICATE, KEY]);
        let is_there = |name| folder.join(name).exists();
        self.given.is_none() && !is_there(CERTIFICATE) && !is_there(KEY)
    }

    /// Reads the files again, for a server that speaks TLS already: from the next connection on,
    /// that is what it shows.
    ///
    /// # Errors
    /// Why it goes on showing what it showed.
    #[cfg(feature = "tls")]
    pub(super) fn load_into(&self, tls: &TlsServer) -> Result<String, String> {
        let (config, report) = self.read()?;
        tls.replace(config);
        Ok(report)
    }

    /// As above, in a build that knows no TLS.
    #[cfg(not(feature = "tls"))]
    pub(super) fn load_into(&self, tls: &TlsServer) -> Result<String, String> {
        match *tls {}
    }

    /// What every port is to speak TLS with, and what the person at the server has to know of it.
    ///
    /// # Errors
    /// Why there is no certificate, in words.
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
                (identity, format!("in {}", certificate.display()))
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
                let made = if is_new { "made now, " } else { "" };
                (identity, format!("{made}in {}", certificate.display()))
            }
        };
        let fingerprint = identity.fingerprint();
        let own = self.given.is_none().then_some(folder.as_path());
        let warning = warning(identity.days_left(jiff::Timestamp::now()), own);
        let config = identity.server().map_err(explained)?;
        let report = format!(
            "tls      all of these ports speak TLS and nothing else; the certificate is {what}, its SHA-256:\n         \
             {fingerprint}\n         Clients use --tls, and are shown the same.\n{warning}"
        );
        Ok((config, report))
    }

    /// As above, in a build that knows no TLS.
    #[cfg(not(feature = "tls"))]
    pub(super) fn load(&self) -> Result<(TlsServer, String), String> {
        let _ = &self.names;
        Err("--tls: this program was built without TLS; `make run-server ARGS=--tls` builds it with TLS, and so does `cargo build --release`".into())
    }
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_certificate_that_runs_out_is_told_what_to_do() {
        let made = Some(Path::new("/state"));
        assert_eq!(warning(Some(SOON), made), "");
        assert_eq!(warning(None, None), "");
        assert!(warning(Some(3), made).contains("in 3 days: take /state/portal-chat-cert.pem"));
        assert!(warning(Some(-1), None).contains("RUN OUT: put a new one"));
    }
}
