//! The client's verification of a server's certificate.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::Fingerprint;
use portal_net::TlsClient;

/// A client's rule for accepting a server's certificate.
#[derive(Clone, Debug)]
pub struct Trust {
    pub client: TlsClient,
    seen: Arc<Mutex<Option<Untrusted>>>,
}

/// A rejected certificate. The client has sent no document to the server that presented it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Untrusted {
    /// It was not issued by an authority that this machine trusts, and the server is unknown.
    Unknown(Fingerprint),
    /// It differs from the known certificate.
    Changed {
        known: Fingerprint,
        shown: Fingerprint,
    },
    /// It was issued by a trusted authority, but is not valid for this server. Contains the reason.
    Wrong(String),
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Untrusted::Unknown(shown) => write!(
                f,
                "its certificate was not issued by a trusted authority; its SHA-256 fingerprint is {shown}"
            ),
            Untrusted::Changed { known, shown } => write!(
                f,
                "its certificate has changed: the known fingerprint is {known}, the new one is {shown}"
            ),
            Untrusted::Wrong(reason) => write!(f, "its certificate is not valid: {reason}"),
        }
    }
}

impl Trust {
    /// Accepts only the certificate with the fingerprint `pin`. Without a pin, accepts certificates
    /// from authorities that the system trusts, provided that the server is given by name
    /// (`is_named`), not by address.
    ///
    /// # Errors
    /// rustls rejects the configuration.
    pub fn new(pin: Option<Fingerprint>, is_named: bool) -> Result<Trust, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authorities = if pin.is_none() && is_named {
            system_authorities(&provider)
        } else {
            None
        };
        let seen = Arc::new(Mutex::new(None));
        let verifier = Verifier {
            provider: Arc::clone(&provider),
            pin,
            authorities,
            seen: Arc::clone(&seen),
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Trust {
            client: TlsClient::new(config),
            seen,
        })
    }

    /// Takes the most recent certificate rejected since the previous call, if any.
    pub fn take_untrusted(&self) -> Option<Untrusted> {
        self.seen.lock().take()
    }
}

/// Returns a verifier for the authorities that the system trusts, or `None` if there are none.
fn system_authorities(provider: &Arc<CryptoProvider>) -> Option<Arc<WebPkiServerVerifier>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::clone(provider);
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .ok()
}

#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    pin: Option<Fingerprint>,
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// A leaf lock.
    seen: Arc<Mutex<Option<Untrusted>>>,
}

impl Verifier {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Untrusted> {
        let shown = Fingerprint::of(end_entity.as_ref());
        match self.pin {
            Some(known) if known == shown => return Ok(()),
            Some(known) => return Err(Untrusted::Changed { known, shown }),
            None => {}
        }
        let Some(authorities) = &self.authorities else {
            return Err(Untrusted::Unknown(shown));
        };
        match authorities.verify_server_cert(end_entity, intermediates, name, &[], now) {
            Ok(_) => Ok(()),
            // The server's certificate is most likely self-signed.
            Err(Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => Err(Untrusted::Unknown(shown)),
            Err(error) => Err(Untrusted::Wrong(error.to_string())),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.judge(end_entity, intermediates, server_name, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(untrusted) => {
                *self.seen.lock() = Some(untrusted);
                Err(Error::InvalidCertificate(
                    CertificateError::ApplicationVerificationFailure,
                ))
            }
        }
    }

    // Certificates are public. This signature proves that the server has the private key.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    /// Creates a verifier with one authority or a pin.
    fn verifier(authority: Option<&CertificateDer<'static>>, pin: Option<Fingerprint>) -> Verifier {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        if let Some(authority) = authority {
            roots.add(authority.clone()).unwrap();
        }
        let authorities = authority.map(|_| {
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .unwrap()
        });
        Verifier {
            provider,
            pin,
            authorities,
            seen: Arc::default(),
        }
    }

    #[test]
    fn an_issued_certificate_is_valid_only_for_its_host_and_time() {
        let authority_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = authority.self_signed(&authority_key).unwrap();
        let issuer = Issuer::from_params(&authority, &authority_key);
        let signed = |host: &str, last_year: i32| {
            let key = KeyPair::generate().unwrap();
            let mut asked = CertificateParams::new(vec![host.to_owned()]).unwrap();
            asked.not_after = date_time_ymd(last_year, 1, 1);
            asked.signed_by(&key, &issuer).unwrap().der().clone()
        };
        let verifier = verifier(Some(root.der()), None);
        let judge = |certificate: &CertificateDer<'_>, host: &str| {
            let name = ServerName::try_from(host.to_owned()).unwrap();
            verifier.judge(certificate, &[], &name, UnixTime::now())
        };
        let good = signed("chat.example", 2090);
        assert_eq!(judge(&good, "chat.example"), Ok(()));
        for (certificate, host) in [
            (&good, "other.example"),
            (&signed("chat.example", 2001), "chat.example"),
        ] {
            // The user is not asked, because a trusted authority has issued the certificate.
            assert!(matches!(judge(certificate, host), Err(Untrusted::Wrong(_))));
        }
        // A self-signed certificate has no trusted issuer.
        let own = rcgen::generate_simple_self_signed(vec!["chat.example".to_owned()]).unwrap();
        let shown = Fingerprint::of(own.cert.der());
        assert_eq!(
            judge(own.cert.der(), "chat.example"),
            Err(Untrusted::Unknown(shown))
        );
    }

    #[test]
    fn only_the_pinned_certificate_is_accepted() {
        let made = || rcgen::generate_simple_self_signed(vec!["anything".to_owned()]).unwrap();
        let (ours, theirs) = (made(), made());
        let known = Fingerprint::of(ours.cert.der());
        let verifier = verifier(None, Some(known));
        let judge = |certificate: &CertificateDer<'_>| {
            let name = ServerName::try_from("127.0.0.1").unwrap();
            verifier.judge(certificate, &[], &name, UnixTime::now())
        };
        assert_eq!(judge(ours.cert.der()), Ok(()));
        let shown = Fingerprint::of(theirs.cert.der());
        assert_eq!(
            judge(theirs.cert.der()),
            Err(Untrusted::Changed { known, shown })
        );
    }
}
