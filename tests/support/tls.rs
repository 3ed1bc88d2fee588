//! A server's certificate and a client that trusts it, and a tunnel through which a plain socket
//! uses TLS.

#![allow(dead_code, unreachable_pub)]

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use portal_chat::net::{Stream, TlsClient, TlsServer};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use socket2::SockRef;

/// A certificate and its key.
pub type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

/// A certificate for `localhost` and its key.
pub fn identity() -> Identity {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    (made.cert.der().clone(), PrivateKeyDer::Pkcs8(key))
}

/// Writes a certificate and its key to files in `folder`. Returns a client that trusts it.
pub fn in_files(folder: &Path) -> TlsClient {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    // The server refuses a key that other users can read.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(folder.join("key.pem"), private).unwrap();
    }
    trusting(made.cert.der().clone())
}

/// A server with a certificate, and a client that trusts it.
pub fn both() -> (TlsServer, TlsClient) {
    let (certificate, key) = identity();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    (TlsServer::new(server), trusting(certificate))
}

fn trusting(certificate: CertificateDer<'static>) -> TlsClient {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsClient::new(client)
}

thread_local! {
    static THIS_THREAD: RefCell<Option<TlsClient>> = const { RefCell::new(None) };
}

static ALL_THREADS: OnceLock<TlsClient> = OnceLock::new();

/// Makes the clients of all threads use TLS from now on.
pub fn use_tls_in_all_threads(client: TlsClient) {
    let _ = ALL_THREADS.set(client);
}

/// Makes the clients of this thread use TLS from now on, or stop using it.
pub fn use_tls(client: Option<TlsClient>) {
    THIS_THREAD.with(|secured| *secured.borrow_mut() = client);
}

/// The TLS configuration of this thread's clients.
pub fn this_threads_client() -> Option<TlsClient> {
    THIS_THREAD.with(|secured| secured.borrow().clone())
}

/// Returns the near end of a tunnel to `far` if the clients of this thread use TLS, otherwise `far`
/// itself.
pub fn through_tunnel(far: TcpStream) -> TcpStream {
    let own = THIS_THREAD.with(|secured| secured.borrow().clone());
    let Some(client) = own.or_else(|| ALL_THREADS.get().cloned()) else {
        return far;
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (here, _) = listener.accept().unwrap();
    here.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    let stream = Stream::from(far)
        .secured_as_client(&client, "localhost")
        .unwrap();
    thread::spawn(move || {
        // The server closes an unexpected connection without a handshake.
        if stream.shake_hands(None).is_err() {
            return;
        }
        thread::scope(|threads| {
            threads.spawn(|| forward_from_client(&here, &stream));
            forward_from_server(&stream, &here);
        });
    });
    near
}

/// Forwards data from the client.
fn forward_from_client(mut here: &TcpStream, mut stream: &Stream) {
    let mut bytes = [0; 16 * 1024];
    loop {
        match here.read(&mut bytes) {
            Ok(0) => {
                let _ = stream.shutdown(Shutdown::Write);
                return;
            }
            Ok(count) => {
                if stream.write_all(&bytes[..count]).is_err() {
                    let _ = here.shutdown(Shutdown::Both);
                    return;
                }
            }
            Err(_) => {
                // The client has reset its connection.
                stream.reset_on_close();
                let _ = stream.shutdown(Shutdown::Read);
                return;
            }
        }
    }
}

/// Forwards data from the server. A connection that is closed without close_notify is reset.
fn forward_from_server(mut stream: &Stream, mut here: &TcpStream) {
    let mut bytes = [0; 16 * 1024];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => {
                if here.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => {
                let _ = SockRef::from(here).set_linger(Some(Duration::ZERO));
                break;
            }
        }
    }
    let _ = here.shutdown(Shutdown::Write);
}
