//! TLS: certificates and keys from files, and why a handshake fails.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::{Problem, Tls};

/// Largest file; a bundle of all public CAs has a quarter of it.
const MAX_FILE: u64 = 1 << 20;
/// How long one handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// How long a server has to refuse our certificate once the handshake is over.
const SECOND_THOUGHTS: Duration = Duration::from_millis(300);

/// Chooses aws-lc-rs for the whole process; to be called first.
pub fn install() {
    // whoever was first chose the same: no other is compiled in
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Whether `server`, `host:port`, has a host that a certificate can be for.
pub fn check_name(server: &str) -> Result<(), String> {
    let bad = || format!("{server:?} has a host that no certificate can be for; give its DNS name or IP");
    name_of(server).map(drop).ok_or_else(bad)
}

/// What a TLS client needs, as its files held it.
pub struct Client {
    ca: String,
    identity: Option<(String, String)>,
    config: Arc<ClientConfig>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("ca", &self.ca).finish_non_exhaustive()
    }
}

impl Client {
    /// Reads the files; a problem's path is the key that names the file.
    pub fn read(files: &Tls) -> Result<Self, Problem> {
        let ca = text("ca_file", &files.ca_file)?;
        let builder = ClientConfig::builder().with_webpki_verifier(verifier(&files.ca_file, &ca)?);
        let Some((cert_file, key_file)) = &files.identity else {
            return Ok(Self { ca, identity: None, config: Arc::new(builder.with_no_client_auth()) });
        };
        let (cert, key) = (text("cert_file", cert_file)?, text("key_file", key_file)?);
        let chain = all::<CertificateDer<'static>>(("cert_file", cert_file), &cert)?;
        if chain.is_empty() {
            return Err(problem("cert_file", cert_file, "it has no certificate; give ours as PEM"));
        }
        let private = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| {
            let way_out = "give the certificate's key as PEM, not encrypted";
            problem("key_file", key_file, &format!("it has no private key that can be read ({e}); {way_out}"))
        })?;
        let config = builder.with_client_auth_cert(chain, private).map_err(|e| {
            let shown = cert_file.display();
            problem("key_file", key_file, &format!("it does not fit the certificate in {shown}: {e}"))
        })?;
        Ok(Self { ca, identity: Some((cert, key)), config: Arc::new(config) })
    }

    /// The CA's certificates, PEM.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// Our certificate and its key, PEM.
    pub fn identity(&self) -> Option<(&str, &str)> {
        self.identity.as_ref().map(|(cert, key)| (cert.as_str(), key.as_str()))
    }

    /// Shakes hands with `server`, `host:port`; fails with what is wrong between the two, and the way out.
    ///
    /// A server that can't be reached, or is slow, is not refused.
    pub async fn greet(&self, server: &str) -> Result<(), String> {
        let Some(name) = name_of(server) else {
            return check_name(server);
        };
        let mut talk = match ClientConnection::new(self.config.clone(), name) {
            Ok(connection) => Talk { connection, heard: Vec::new() },
            Err(error) => return Err(self.reason(&error)),
        };
        let handshake = async {
            match TcpStream::connect(server).await {
                Ok(mut stream) => talk.shake_hands(&mut stream).await,
                Err(_) => Ok(()),
            }
        };
        match tokio::time::timeout(HANDSHAKE, handshake).await {
            Ok(Err(Refusal::Tls(error))) => Err(self.reason(&error)),
            Ok(Err(Refusal::HungUp)) => Err(self.hung_up()),
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    fn hung_up(&self) -> String {
        let ours =
            if self.identity.is_some() { "trusts our certificate" } else { "wants no certificate of us" };
        format!("hung up during the handshake; check that this is its secureClientPort, and that it {ours}")
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the others say enough themselves")]
    fn reason(&self, error: &rustls::Error) -> String {
        use CertificateError as Bad;
        match error {
            // a CA made anew under its old name shows as a bad signature
            rustls::Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
                "has a certificate that no CA in ca_file signed; add its CA to ca_file".into()
            }
            rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
                "has a certificate for another name; connect by a name that it holds".into()
            }
            rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
                "has a certificate that is over; renew it".into()
            }
            rustls::Error::AlertReceived(alert) if self.identity.is_some() => {
                format!(
                    "refuses our certificate ({alert:?}); give one that it trusts in cert_file and key_file"
                )
            }
            rustls::Error::AlertReceived(alert) => {
                format!("refuses us ({alert:?}); it may want a certificate: give cert_file and key_file")
            }
            rustls::Error::InvalidMessage(_) => "does not speak TLS; give its secureClientPort".into(),
            other => format!("can't be spoken to: {other}"),
        }
    }
}

/// A handshake under way.
struct Talk {
    connection: ClientConnection,
    heard: Vec<u8>,
}

enum Refusal {
    Tls(rustls::Error),
    HungUp,
}

impl Talk {
    async fn shake_hands(&mut self, stream: &mut TcpStream) -> Result<(), Refusal> {
        while self.connection.is_handshaking() {
            self.step(stream).await?;
        }
        self.say(stream).await?;
        // with TLS 1.3 our certificate is looked at after we are done
        match tokio::time::timeout(SECOND_THOUGHTS, self.step(stream)).await {
            Ok(Err(refusal @ Refusal::Tls(_))) => Err(refusal),
            // a server without its quorum hangs up here
            Ok(Ok(()) | Err(Refusal::HungUp)) | Err(_) => Ok(()),
        }
    }

    /// Says what is to be said, and listens once.
    async fn step(&mut self, stream: &mut TcpStream) -> Result<(), Refusal> {
        self.say(stream).await?;
        self.heard.clear();
        match stream.read_buf(&mut self.heard).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Err(Refusal::HungUp),
        }
        let mut rest = self.heard.as_slice();
        while !rest.is_empty() {
            self.connection.read_tls(&mut rest).map_err(|_| Refusal::HungUp)?;
            self.connection.process_new_packets().map_err(Refusal::Tls)?;
        }
        Ok(())
    }

    async fn say(&mut self, stream: &mut TcpStream) -> Result<(), Refusal> {
        let mut bytes = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut bytes).map_err(|_| Refusal::HungUp)?;
        }
        stream.write_all(&bytes).await.map_err(|_| Refusal::HungUp)
    }
}

fn name_of(server: &str) -> Option<ServerName<'static>> {
    let (host, _) = server.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).ok()
}

fn verifier(file: &Path, ca: &str) -> Result<Arc<WebPkiServerVerifier>, Problem> {
    let key = ("ca_file", file);
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(all::<CertificateDer<'static>>(key, ca)?);
    if added == 0 {
        return Err(problem("ca_file", file, "it has no certificate; give the CA's as PEM"));
    }
    let revoked = all::<CertificateRevocationListDer<'static>>(key, ca)?;
    let verifier = WebPkiServerVerifier::builder(Arc::new(roots)).with_crls(revoked).build();
    verifier.map_err(|e| problem("ca_file", file, &format!("it can't be used: {e}")))
}

fn all<T: PemObject>((key, file): (&str, &Path), pem: &str) -> Result<Vec<T>, Problem> {
    let all: Result<Vec<T>, pem::Error> = T::pem_slice_iter(pem.as_bytes()).collect();
    all.map_err(|e| problem(key, file, &format!("it is not PEM: {e}")))
}

fn text(key: &str, file: &Path) -> Result<String, Problem> {
    let read = std::fs::File::open(file).and_then(|open| {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::io::Read::take(open, MAX_FILE + 1), &mut text)?;
        Ok(text)
    });
    match read {
        Ok(text) if text.len() as u64 > MAX_FILE => {
            Err(problem(key, file, "it is larger than 1MiB; give PEM"))
        }
        Ok(text) => Ok(text),
        Err(e) => Err(problem(key, file, &format!("it can't be read: {e}"))),
    }
}

fn problem(key: &str, file: &Path, reason: &str) -> Problem {
    Problem { path: key.into(), message: format!("{}: {reason}", file.display()) }
}
