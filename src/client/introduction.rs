//! Verification of a server's TLS certificate: trust on first use, or a given fingerprint.
//!
//! Nothing is sent to a server whose certificate is not trusted. If no authority vouches for an
//! unknown certificate, the user is asked once, and the answer is stored.

#[cfg(not(feature = "tls"))]
use super::options::Options;

/// The trust settings for the server to connect to.
pub(super) struct Introduction {
    #[cfg(feature = "tls")]
    known: Option<with_tls::Known>,
}

/// The verdict on a failed connection.
#[cfg_attr(not(feature = "tls"), allow(dead_code))]
pub(super) enum FailureVerdict {
    /// The connection did not fail because of the certificate.
    NotMine,
    /// The certificate is now trusted: try again.
    TryAgain,
    /// The certificate is not trusted. Contains the reason and the fix, for the user.
    Refused(String),
}

#[cfg(not(feature = "tls"))]
impl Introduction {
    /// Refuses a server that needs TLS, because this program was built without it.
    ///
    /// # Errors
    /// The reason and the fix.
    pub(super) fn begin(options: &mut Options) -> Result<Introduction, String> {
        const FIX: &str = "this program was built without TLS; `make run-client ARGS=--tls` builds \
                           it with TLS, and so does `cargo build --release`";
        if let Some(wanted) = &options.tls {
            let option = match wanted.fingerprint {
                Some(_) => "--tls-fingerprint",
                None => "--tls",
            };
            return Err(format!("{option}: {FIX}"));
        }
        let (server, port) = (&options.server, options.port.to_string());
        let is_known = |line: &str| {
            let mut words = line.split_whitespace();
            let names = words
                .next()
                .is_some_and(|host| host.eq_ignore_ascii_case(server));
            names && words.next() == Some(&port)
        };
        let file = crate::config::known_servers_file();
        let known = file.and_then(|file| std::fs::read_to_string(file).ok());
        if known.is_some_and(|known| known.lines().any(is_known)) {
            return Err(format!("the server {server} {port} speaks TLS, but {FIX}"));
        }
        Ok(Introduction {})
    }

    pub(super) fn judge(&mut self, _: &mut Options) -> FailureVerdict {
        FailureVerdict::NotMine
    }
}

#[cfg(feature = "tls")]
mod with_tls {
    use std::fs::File;
    use std::io::{BufRead as _, BufReader, Write as _};

    use super::{FailureVerdict, Introduction};
    use crate::config::known_servers_file;
    use crate::options::{Given, Options, PortalProtocol, TlsWanted};
    use portal_cli::output;
    use portal_net::Host;
    use portal_tls::{Fingerprint, KnownServers, Trust, Untrusted};
    use portal_wire::printable;

    pub(super) struct Known {
        servers: Option<KnownServers>,
        trust: Trust,
        /// The place where the user specified the fingerprint.
        pinned_at: Option<String>,
    }

    impl Introduction {
        /// Looks up what is known about the server. A server that is known to use TLS is never
        /// contacted without it, even if `--tls` was left out.
        ///
        /// # Errors
        ///
        /// The reason and the fix, for the user.
        pub(crate) fn begin(options: &mut Options) -> Result<Introduction, String> {
            let servers = known_servers_file().map(KnownServers::at);
            let find = || match &servers {
                Some(servers) => servers
                    .find(&options.server, options.port)
                    .map_err(|error| error.to_string()),
                None => Ok(None),
            };
            let Some(wanted) = options.tls.clone() else {
                let Some(pin) = find()? else {
                    return Ok(Introduction { known: None });
                };
                if options.compat.is_some() || options.callback.is_some() {
                    return Err(format!(
                        "the server {} {} was saved as a TLS server, but --compat and --callback \
                         don't work with TLS; omit them, or delete the server's line from {}",
                        options.server,
                        options.port,
                        servers
                            .as_ref()
                            .map_or(String::new(), |it| it.path().display().to_string()),
                    ));
                }
                options.portal = PortalProtocol::Tcp;
                options.tls = Some(TlsWanted { fingerprint: None });
                let (trust, pinned_at) = (use_trust(options, Some(pin))?, None);
                let known = Known {
                    servers,
                    trust,
                    pinned_at,
                };
                return Ok(Introduction { known: Some(known) });
            };
            let pin = match &wanted.fingerprint {
                Some(Given { value, place }) => Some(value.parse().map_err(|_| {
                    format!(
                        "{place}: {value} is not a SHA-256 fingerprint; write the 64 hexadecimal \
                         digits that the server shows"
                    )
                })?),
                None => find()?,
            };
            let given = wanted.fingerprint.as_ref();
            let pinned_at = given.map(|given| given.place.clone());
            let trust = use_trust(options, pin)?;
            let known = Some(Known {
                servers,
                trust,
                pinned_at,
            });
            Ok(Introduction { known })
        }

        /// Decides how to continue after a failed connection. If the certificate is unknown, asks
        /// the user.
        pub(crate) fn judge(&mut self, options: &mut Options) -> FailureVerdict {
            let Some(known) = &mut self.known else {
                return FailureVerdict::NotMine;
            };
            let there = format!("{} {}", options.server, options.port);
            let file = known
                .servers
                .as_ref()
                .map(|servers| servers.path().display().to_string());
            let file = file.unwrap_or_else(|| "the file of known servers".to_owned());
            match known.trust.take_untrusted() {
                None => FailureVerdict::NotMine,
                Some(Untrusted::Unknown(shown)) => match ask(&there, &shown) {
                    Answer::NoTerminal => FailureVerdict::Refused(format!(
                        "the server {there} is unknown. Its certificate has the SHA-256 fingerprint\n  {shown}\n\
                         There is no terminal on which to ask you whether it is right. If the server's own terminal \
                         shows the same fingerprint, trust it with --tls-fingerprint {shown}"
                    )),
                    Answer::No => FailureVerdict::Refused(format!("nothing was sent to {there}")),
                    Answer::Yes => {
                        if let Some(servers) = &known.servers
                            && let Err(error) = servers.keep(&options.server, options.port, &shown)
                        {
                            output::report(&format!(
                                "chatclient: {error}; the client will ask you again next time
"
                            ));
                        }
                        match use_trust(options, Some(shown)) {
                            Ok(trust) => {
                                known.trust = trust;
                                FailureVerdict::TryAgain
                            }
                            Err(reason) => FailureVerdict::Refused(reason),
                        }
                    }
                },
                Some(Untrusted::Changed {
                    known: wanted,
                    shown,
                }) if known.pinned_at.is_some() => {
                    let place = known.pinned_at.as_deref().unwrap_or_default();
                    FailureVerdict::Refused(format!(
                        "the server {there} did not present the expected certificate. Nothing was sent to the server.\n  \
                         expected:  {wanted}\n  received:  {shown}\n\
                         The expected fingerprint comes from {place}. Ask the server's operator, through another \
                         channel, which fingerprint is right. If it is the received one, correct the value in {place}; \
                         otherwise, someone may be intercepting the connection"
                    ))
                }
                Some(Untrusted::Changed { known, shown }) => FailureVerdict::Refused(format!(
                    "THE SERVER'S CERTIFICATE HAS CHANGED. Nothing was sent to the server.\n  known:  {known}\n  shown:  {shown}\n\
                     Either {there} has a new certificate, or someone is intercepting the connection. Ask the server's \
                     operator through another channel. If the new certificate is right, delete the line \"{there} …\" \
                     from {file}, or use --tls-fingerprint {shown}"
                )),
                Some(wrong) => FailureVerdict::Refused(format!(
                    "the server {there} is not trusted, and nothing was sent to it: {wrong}"
                )),
            }
        }
    }

    /// Makes later connections check the certificate against `pin`, or against the authorities that
    /// the system trusts.
    fn use_trust(options: &mut Options, pin: Option<Fingerprint>) -> Result<Trust, String> {
        let host = options.server.parse::<Host>();
        let trust = Trust::new(pin, host.is_err()).map_err(|error| format!("--tls: {error}"))?;
        // A zone is local to this machine, so certificates contain none.
        let name = host.map_or_else(|_| options.server.clone(), |host| host.ip().to_string());
        options.dial.tls = Some((trust.client.clone(), name));
        Ok(trust)
    }

    enum Answer {
        Yes,
        No,
        NoTerminal,
    }

    /// Asks on the terminal, even if input and output are redirected.
    fn ask(there: &str, shown: &Fingerprint) -> Answer {
        let terminal = File::options().read(true).write(true).open("/dev/tty");
        let Ok(mut terminal) = terminal else {
            return Answer::NoTerminal;
        };
        let there = printable(there);
        let question = format!(
            "The server {there} is unknown, and no authority vouches for it.\n\
             Its certificate has the SHA-256 fingerprint\n  {shown}\n\
             Does the server's own terminal show the same fingerprint? (yes/no) "
        );
        let (mut answer, mut asked) = (String::new(), question.as_str());
        let Ok(reading) = terminal.try_clone() else {
            return Answer::NoTerminal;
        };
        let mut lines = BufReader::new(reading);
        loop {
            if terminal.write_all(asked.as_bytes()).is_err() {
                return Answer::NoTerminal;
            }
            answer.clear();
            match lines.read_line(&mut answer) {
                Ok(1..) => {}
                _ => return Answer::No,
            }
            match answer.trim().to_ascii_lowercase().as_str() {
                "y" | "yes" => return Answer::Yes,
                "n" | "no" => return Answer::No,
                _ => asked = "Answer yes or no: ",
            }
        }
    }
}
