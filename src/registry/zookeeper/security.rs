//! How ZooKeeper knows us and we know it: credentials, ACLs, TLS.

use std::future::Future;
use std::io::ErrorKind;
use std::sync::Mutex;
use std::time::Duration;

use tokio::net::TcpStream;
use zookeeper_client::{
    Acl, Acls, Client, Connector, CreateMode, CreateOptions, Error, Permission, TlsOptions,
};

use super::super::{Trouble, lock};
use super::ZooKeeper;
use super::session::Refusal;
use crate::config::{self, Problem, Problems};
use crate::tls;

/// Whoever has one of the creator's passwords may do all; without READ others would hear of no change.
static PROTECTED: [Acl; 2] =
    [Acl::new_const(Permission::ALL, "auth", ""), Acl::new_const(Permission::READ, "world", "anyone")];

/// How long a server that was not reached is asked whether it is there at all.
const KNOCK: Duration = Duration::from_millis(500);

pub(super) struct Security {
    config: config::Security,
    /// The passwords this session was opened with, or given since.
    presented: Mutex<Vec<String>>,
    /// The path of the last write that an ACL forbade.
    refused: Mutex<Option<String>>,
}

impl Security {
    pub(super) fn new(config: &config::Security) -> Self {
        Self { config: config.clone(), presented: Mutex::default(), refused: Mutex::default() }
    }

    pub(super) fn lasting(&self) -> CreateOptions<'static> {
        CreateMode::Persistent.with_acls(self.acls())
    }

    pub(super) fn ephemeral(&self) -> CreateOptions<'static> {
        CreateMode::Ephemeral.with_acls(self.acls())
    }

    // parents get the same: their ACL decides who creates and deletes below them
    fn acls(&self) -> Acls<'static> {
        match self.config.acl {
            config::Acl::Open => Acls::anyone_all(),
            config::Acl::Protected => Acls::new(&PROTECTED),
        }
    }

    /// The passwords in force now; none where nobody is named.
    fn passwords(&self) -> Result<Vec<String>, Problem> {
        let Some(auth) = &self.config.auth else {
            return Ok(Vec::new());
        };
        config::passwords(&auth.password_file).map_err(|reason| Problem {
            path: "registry.zookeeper.auth.password_file".into(),
            message: format!("{}: {reason}", auth.password_file.display()),
        })
    }

    fn credentials(&self, password: &str) -> Vec<u8> {
        let user = self.config.auth.as_ref().map_or("", |auth| auth.user.as_str());
        format!("{user}:{password}").into_bytes()
    }

    /// What to say where ZooKeeper lets only those in whom it knows.
    fn refused_at_the_door(&self) -> String {
        let way_out = match &self.config.auth {
            Some(_) => "it may want another scheme than digest",
            None => "give a user that it knows",
        };
        format!("registry.zookeeper.auth: ZooKeeper lets us not in; {way_out}")
    }

    /// What to say of a server that doesn't answer.
    pub(super) fn silent(&self, servers: &str, reason: &str) -> String {
        let tls = if self.config.tls.is_some() { "" } else { ", and whether it wants `tls` there" };
        format!(
            "registry.zookeeper.connect: {servers} can't be reached ({reason}); check that it runs and the address{tls}"
        )
    }

    /// What to say of a write that an ACL forbids.
    fn forbidden(&self, path: &str) -> String {
        match &self.config.auth {
            Some(auth) => format!(
                "registry.zookeeper.auth: the ACL of {path} or of its parent does not let user {} write; mend the password in {} (it is read again at once), or the ACL with `setAcl`",
                auth.user,
                auth.password_file.display()
            ),
            None => format!(
                "registry.zookeeper: the ACL of {path} or of its parent lets only others write; give registry.zookeeper.auth, or mend the ACL with `setAcl`"
            ),
        }
    }
}

/// What a server does that the library says nothing of but that it was not reached.
async fn knock(server: &str) -> String {
    let at = servers(server).next().unwrap_or_default();
    match tokio::time::timeout(KNOCK, TcpStream::connect(at)).await {
        Ok(Ok(_)) => "it takes connections and ends them".to_owned(),
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => "it refuses connections".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("it takes no connection within {}ms", KNOCK.as_millis()),
    }
}

impl ZooKeeper {
    /// Connects to `server` (`host:port/chroot`) with what the files hold now; fails with what to do.
    pub(super) async fn connect(
        &self,
        mut connector: Connector,
        server: &str,
        patience: Duration,
    ) -> Result<Client, Refusal> {
        let told = |problem: Problem| Refusal::Unreached(problem.to_string());
        let passwords = self.security.passwords().map_err(told)?;
        for password in &passwords {
            connector = connector.with_auth("digest", &self.security.credentials(password));
        }
        *lock(&self.security.presented) = passwords;
        if lock(&self.security.refused).take().is_some() {
            self.status.problem("acl", None);
        }
        let tls = match &self.security.config.tls {
            Some(files) => Some(client_of(files, server).map_err(told)?),
            None => None,
        };
        let connected = async {
            match &tls {
                Some(tls) => connector.with_tls(options(tls)?).secure_connect(server).await,
                None => connector.connect(server).await,
            }
        };
        let reason = match tokio::time::timeout(patience, connected).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(Error::SessionExpired)) => return Err(Refusal::Expired),
            Ok(Err(Error::AuthFailed)) => {
                return Err(Refusal::Credentials(self.security.refused_at_the_door()));
            }
            Ok(Err(Error::NoHosts | Error::ConnectionLoss | Error::Timeout)) => knock(server).await,
            Ok(Err(error)) => error.to_string(),
            Err(_) => {
                let reason =
                    format!("no answer within {}ms: it hangs, or nothing gets there", patience.as_millis());
                return Err(Refusal::Silent(self.unreached(&reason)));
            }
        };
        // the library keeps to itself why a server was not to its liking
        let handshake = match &tls {
            Some(tls) => first_refusal(tls, server).await,
            None => None,
        };
        Err(Refusal::Unreached(handshake.unwrap_or_else(|| self.unreached(&reason))))
    }

    /// The answer to a write; where an ACL forbids it, says so until it is done.
    pub(super) async fn written<T>(
        &self,
        client: &Client,
        path: &str,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Trouble> {
        let mut forbidden = false;
        let noted = async {
            let outcome = request.await;
            forbidden = matches!(outcome, Err(Error::NoAuth | Error::InvalidAcl));
            outcome
        };
        let outcome = self.answered(noted).await;
        if forbidden {
            let problem = self.security.forbidden(path);
            *lock(&self.security.refused) = Some(path.to_owned());
            if self.status.problem("acl", Some(problem.clone())) {
                tracing::warn!(%problem, "registry write refused");
            }
            self.renew(client).await;
            return Err(Trouble::Refused(problem));
        }
        if outcome.is_ok() && lock(&self.security.refused).take_if(|refused| refused == path).is_some() {
            self.status.problem("acl", None);
        }
        outcome
    }

    /// Adds passwords that were changed since to the session; the next try of what was refused has them.
    async fn renew(&self, client: &Client) {
        // a file that can't be read is told of by the next session
        for password in self.security.passwords().unwrap_or_default() {
            if lock(&self.security.presented).contains(&password) {
                continue;
            }
            if self.answered(client.auth("digest", &self.security.credentials(&password))).await.is_ok() {
                lock(&self.security.presented).push(password);
            }
        }
    }
}

/// Looks into every file that a session needs.
pub(in crate::registry) fn verify(connect: &str, config: &config::Security) -> Result<(), Problems> {
    let passwords = Security::new(config).passwords().map(drop);
    let tls = config.tls.as_ref().map_or(Ok(()), |files| client_of(files, connect).map(drop));
    let problems: Vec<_> = passwords.err().into_iter().chain(tls.err()).collect();
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

fn client_of(files: &config::Tls, connect: &str) -> Result<tls::Client, Problem> {
    for server in servers(connect) {
        // the library would panic
        tls::check_name(server)
            .map_err(|message| Problem { path: "registry.zookeeper.connect".into(), message })?;
    }
    let client = tls::Client::read(files);
    client.map_err(|problem| Problem { path: format!("registry.zookeeper.tls.{}", problem.path), ..problem })
}

fn options(tls: &tls::Client) -> Result<TlsOptions, Error> {
    let options = TlsOptions::new().with_pem_ca(tls.ca())?;
    match tls.identity() {
        Some((cert, key)) => options.with_pem_identity(cert, key),
        None => Ok(options),
    }
}

/// What the first server that refuses a handshake, or is refused, is about.
async fn first_refusal(tls: &tls::Client, connect: &str) -> Option<String> {
    for server in servers(connect) {
        if let Err(reason) = tls.greet(server).await {
            return Some(format!("registry.zookeeper.tls: {server} {reason}"));
        }
    }
    None
}

/// The servers of a connect string, without its chroot.
pub(super) fn servers(connect: &str) -> impl Iterator<Item = &str> {
    connect.split('/').next().unwrap_or_default().split(',')
}
