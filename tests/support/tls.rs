//! A CA of our own, and what it signed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Made anew each time: two of them don't trust each other.
pub struct Pki {
    dir: TempDir,
}

impl Pki {
    pub fn new() -> Pki {
        let pki = Pki { dir: tempfile::tempdir().unwrap() };
        pki.sign("ca", &["-addext", "keyUsage=keyCertSign,digitalSignature"]);
        for name in ["server", "client"] {
            let ca = (pki.file("ca.pem"), pki.file("ca.key"));
            let (cert, key) = (ca.0.to_str().unwrap(), ca.1.to_str().unwrap());
            pki.sign(
                name,
                &[
                    "-CA",
                    cert,
                    "-CAkey",
                    key,
                    "-addext",
                    "basicConstraints=critical,CA:FALSE",
                    "-addext",
                    "subjectAltName=IP:127.0.0.1",
                ],
            );
        }
        pki
    }

    /// `ca`, `server` or `client`, with `.pem` or `.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sign(&self, name: &str, more: &[&str]) {
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
        let status = Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-days", "2", "-subj"])
            // no two CAs have one name
            .arg(format!("/CN={name} of {}", self.dir.path().file_name().unwrap().display()))
            .args(curve)
            .arg("-keyout")
            .arg(self.file(&format!("{name}.key")))
            .arg("-out")
            .arg(self.file(&format!("{name}.pem")))
            .args(more)
            .stderr(Stdio::null())
            .status()
            .expect("openssl is not installed: run tests/setup");
        assert!(status.success(), "openssl made no certificate for {name}");
    }

    /// Lines of ZooKeeper's configuration.
    pub fn of_server(&self, port: u16) -> String {
        let both = self.file("server.both.pem");
        let read = |name: &str| std::fs::read_to_string(self.file(name)).unwrap();
        std::fs::write(&both, read("server.key") + &read("server.pem")).unwrap();
        format!(
            "secureClientPort={port}\nsecureClientPortAddress=127.0.0.1\n\
             serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n\
             ssl.keyStore.location={}\nssl.keyStore.type=PEM\n\
             ssl.trustStore.location={}\nssl.trustStore.type=PEM\n",
            both.display(),
            self.file("ca.pem").display(),
        )
    }

    /// The key `tls` of `registry.zookeeper`: this CA, and the client's certificate where it is wanted.
    pub fn of_client(&self, certificate: bool) -> String {
        let shown = |path: &Path| path.display().to_string();
        let mut files = format!("ca_file: {}", shown(&self.file("ca.pem")));
        if certificate {
            let (cert, key) = (shown(&self.file("client.pem")), shown(&self.file("client.key")));
            files += &format!(", cert_file: {cert}, key_file: {key}");
        }
        format!("tls: {{ {files} }}")
    }
}
