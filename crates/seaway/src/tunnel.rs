//! Tunnels: a way by ssh to a machine from which an upstream can be reached, kept up.
//!
//! Nothing here knows what is at the other end but that it proves its name in a TLS handshake.

mod failure;
mod identity;
pub mod lockout;
mod master;
mod ssh_args;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

pub use failure::SshFailure;
pub use identity::{HostKey, Identity};
pub use ssh_args::Forward;

use crate::config::{self, TunnelConfig as Setting};
use crate::dial::{Detour, Dial, DialError};
use crate::fault::FaultKind;
use lockout::{Lockout, LockoutRecord, LockoutVerdict};
use master::{Life, Master, SshError};

/// How long another process of ours may work on the same tunnel.
const OTHERS: Duration = Duration::from_secs(90);
/// How long a machine may take on which the tunnel should be open.
const DIRECTLY: Duration = Duration::from_secs(5);
/// How long nothing is tried after a failure. Where it was a login's it is doubled each time, up to a minute.
const PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long a failure is remembered that took no trying, so that all who waited share it.
const MOMENT: Duration = Duration::from_millis(500);
/// Who waits for a way that is mended hears of it after so long, and when to ask again.
const DOUBT: Duration = Duration::from_secs(20);
const DOUBT_RETRY: Duration = Duration::from_secs(10);

/// Where the trouble is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelLayer {
    /// No login, or none allowed.
    Ssh,
    /// Logged in, but the forward does not work.
    Tunnel,
    /// All is well up to the machine beyond, which is not there or not who it should be.
    Upstream,
}

impl TunnelLayer {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Tunnel => "tunnel",
            Self::Upstream => "upstream",
        }
    }
}

/// Why there is no way.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct TunnelError {
    pub layer: TunnelLayer,
    pub kind: FaultKind,
    /// Names what failed, what was said, and what to do.
    pub message: String,
    pub retry_after: Option<Duration>,
    /// A login was tried; another one should wait.
    pub tried: bool,
}

/// Who may log in when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// Not now: what costs no login is mended.
    Never,
    /// With a key, without a question.
    Batch,
    /// ssh may ask in this terminal.
    Asking,
}

/// What `/health`, `status` and `doctor` tell of a tunnel.
#[derive(Debug, Clone, Serialize)]
pub struct TunnelStatus {
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// The first machine that is logged in to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub door: String,
    pub up: bool,
    /// The ssh process that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<u32>,
    /// Not by ssh of ours, but by a port that is open there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub direct: bool,
    /// Seconds since the epoch.
    #[serde(rename = "verifiedAt", skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// `rests` or `locked`, if ssh may not be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lockout: Option<&'static str>,
    /// When it may be used again, in seconds since the epoch.
    #[serde(rename = "lockedUntil", skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<i64>,
}

/// One way to one upstream.
pub struct Tunnel {
    pub setting: Arc<config::TunnelConfig>,
    master: Master,
    lockout: Lockout,
    forwards: Vec<Forward>,
    /// What an earlier process left of the forwards is as good as made by us.
    reuses: bool,
    /// What the forward leads to, once ssh holds it.
    detour: Detour,
    dial: Arc<Dial>,
    up: AtomicBool,
    /// Since when a way that was there is in doubt, and looked at or mended.
    doubt: watch::Sender<Option<Instant>>,
    /// How often something had to be mended.
    mended: AtomicU64,
    /// The other end was taken for dead and was not: its silence says nothing.
    taciturn: AtomicBool,
    /// Held by whoever works on it: all that wait share what comes of it.
    work: tokio::sync::Mutex<Option<Failed>>,
    /// Why the port that should be open elsewhere was not.
    direct_failure: Mutex<Option<String>>,
    seen: Mutex<Seen>,
    tasks: TaskTracker,
}

/// The last failure.
struct Failed {
    at: Instant,
    pause: Duration,
    error: TunnelError,
}

#[derive(Debug, Default)]
struct Seen {
    master: Option<u32>,
    direct: bool,
    verified: Option<Instant>,
    verified_at: Option<i64>,
    why: Option<String>,
}

impl Tunnel {
    /// The way to what `dial` dials, by a socket that only we can open.
    pub fn new(
        setting: Arc<config::TunnelConfig>,
        dial: Arc<Dial>,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        let to =
            setting.open_at.map_or_else(|| dial.authority(), |port| format!("localhost:{port}"));
        let from = format!("./{}.sock", &blake3::hash(to.as_bytes()).to_hex()[..8]);
        let socket = setting.folder.join(&from[2..]);
        Self::with(
            setting,
            vec![Forward::Local { from, to }],
            Detour::Socket(socket),
            dial,
            tasks,
            true,
        )
    }

    /// A way by these forwards; `detour` is where the upstream is reached then.
    pub fn by(
        setting: Arc<config::TunnelConfig>,
        forwards: Vec<Forward>,
        detour: Detour,
        dial: Arc<Dial>,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        Self::with(setting, forwards, detour, dial, tasks, false)
    }

    fn with(
        setting: Arc<config::TunnelConfig>,
        forwards: Vec<Forward>,
        detour: Detour,
        dial: Arc<Dial>,
        tasks: TaskTracker,
        reuses: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            reuses,
            direct_failure: Mutex::default(),
            master: Master::new(setting.clone()),
            lockout: Lockout::new(&setting.lockout, setting.door()),
            forwards,
            detour,
            dial,
            up: AtomicBool::new(false),
            doubt: watch::Sender::new(None),
            mended: AtomicU64::new(0),
            taciturn: AtomicBool::new(false),
            work: tokio::sync::Mutex::default(),
            seen: Mutex::default(),
            tasks,
            setting,
        })
    }

    /// Where the forward's socket is.
    pub fn socket(&self) -> Option<PathBuf> {
        match &self.detour {
            Detour::Socket(path) => Some(path.clone()),
            Detour::Tcp(..) => None,
        }
    }

    /// Sees to it that there is a way. Costs nothing while there is. True if something had to be done for it. Cancel safe:
    /// what was begun goes on for the others that wait.
    ///
    /// # Errors
    ///
    /// [`TunnelError`]: all that wait at the same time get the same.
    pub async fn up(self: &Arc<Self>, login: Login) -> Result<bool, TunnelError> {
        if self.up.load(Ordering::Acquire) {
            return Ok(false);
        }
        let this = self.clone();
        // A client that leaves must not break off a login for which others wait.
        let work = self.tasks.spawn(async move { this.work(login).await });
        work.await.unwrap_or_else(|error| {
            Err(TunnelError::tunnel(format!("the work on the tunnel broke off: {error}")))
        })
    }

    /// How often something had to be mended so far.
    pub fn mended(&self) -> u64 {
        self.mended.load(Ordering::Acquire)
    }

    /// Looks whether the way is still there after something went wrong on it, and mends it, unless that was done since
    /// `mended`. True if there was something to mend. Cancel safe, as [`Self::up`] is.
    ///
    /// # Errors
    ///
    /// [`TunnelError`] if it cannot be mended.
    pub async fn mend(self: &Arc<Self>, mended: u64) -> Result<bool, TunnelError> {
        if self.mended() != mended {
            return Ok(true);
        }
        self.is_in_doubt();
        self.up(Login::Batch).await.map(|_| self.mended() != mended)
    }

    fn is_in_doubt(&self) {
        self.up.store(false, Ordering::Release);
        self.doubt.send_if_modified(|since| {
            let new = since.is_none();
            since.get_or_insert_with(Instant::now);
            new
        });
    }

    /// Resolves once a way that was there has been mended for so long that who waits should hear of it. That goes on
    /// meanwhile. Cancel safe.
    pub async fn takes_long(&self) -> TunnelError {
        let mut doubt = self.doubt.subscribe();
        loop {
            let since = *doubt.borrow_and_update();
            let changed = match since {
                Some(since) => {
                    let wait = tokio::time::sleep_until((since + DOUBT).into());
                    tokio::select! {
                        // It may have been there again by the time that somebody doubted.
                        () = wait => {
                            if !self.up.load(Ordering::Acquire) {
                                break;
                            }
                            self.doubt.send_replace(None);
                            continue;
                        }
                        changed = doubt.changed() => changed,
                    }
                }
                None => doubt.changed().await,
            };
            if changed.is_err() {
                std::future::pending::<()>().await;
            }
        }
        let message = format!(
            "tunnel `{}`: the way by {} answers no more; it is being mended, which may take a minute. Ask again",
            self.setting.name, self.setting.host
        );
        TunnelError {
            kind: FaultKind::NotReady,
            retry_after: Some(DOUBT_RETRY),
            ..TunnelError::tunnel(message)
        }
    }

    /// An answer came by the tunnel, so that the next look can wait.
    pub fn worked(&self) {
        self.lock().verified = Some(Instant::now());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One at a time: the lock is held through a login, since that is what the others wait for.
    async fn work(self: Arc<Self>, login: Login) -> Result<bool, TunnelError> {
        let mut last = self.work.lock().await;
        if self.up.load(Ordering::Acquire) {
            return Ok(false);
        }
        if let Some(failed) = last
            .as_ref()
            .filter(|failed| failed.at.elapsed() < failed.pause && login != Login::Asking)
        {
            self.doubt.send_replace(None);
            return Err(failed.error.clone());
        }
        let opened = self.open(login).await;
        self.doubt.send_replace(None);
        match opened {
            Ok(changed) => {
                if changed {
                    self.mended.fetch_add(1, Ordering::AcqRel);
                }
                *last = None;
                self.lock().why = None;
                self.up.store(true, Ordering::Release);
                Ok(changed)
            }
            Err(mut error) => {
                // An attempt without leave to log in brings no news.
                if error.tried || login != Login::Never {
                    self.lock().why = Some(error.message.clone());
                }
                let pause = match (error.tried, error.layer, last.as_ref()) {
                    (false, _, _) => MOMENT,
                    // Only logins can be held against us.
                    (true, TunnelLayer::Ssh, Some(failed))
                        if failed.error.layer == TunnelLayer::Ssh && failed.error.tried =>
                    {
                        (failed.pause * 2).min(LONGEST_PAUSE)
                    }
                    (true, _, _) => PAUSE,
                };
                if error.tried {
                    error.retry_after = error.retry_after.or(Some(pause));
                    tracing::warn!(tunnel = self.setting.name, layer = error.layer.name(), %error, "the tunnel is not up");
                }
                // What was not allowed to log in says nothing to those who may.
                if login != Login::Never {
                    *last = Some(Failed { at: Instant::now(), pause, error: error.clone() });
                }
                Err(error)
            }
        }
    }

    /// Finds the way, mends it, or makes it. True if something had to be done.
    async fn open(&self, login: Login) -> Result<bool, TunnelError> {
        if self.open_directly().await {
            return Ok(false);
        }
        let path = self.setting.folder.join("lock");
        let _held = blocking(move || lockout::hold(&path, OTHERS)).await.map_err(|error| {
            TunnelError::tunnel(format!("{}: {error}", self.setting.folder.display()))
        })?;
        self.master.prepare().map_err(|error| {
            TunnelError::tunnel(format!(
                "{} cannot be written: {error}",
                self.setting.folder.display()
            ))
        })?;
        let mut silent_before = false;
        match self.look_for_master().await {
            Life::Lives(pid) => {
                self.lock().master = Some(pid);
                match self.use_master().await? {
                    MasterOutcome::Way(changed) => return Ok(changed),
                    // What costs a login to mend is left for those who may log in; streams may still live on it.
                    MasterOutcome::DeadEnd(why) if login == Login::Never => {
                        return Err(TunnelError { tried: false, ..self.nobody_there(&why) });
                    }
                    MasterOutcome::Nothing if login == Login::Never => return Err(self.not_now()),
                    MasterOutcome::DeadEnd(_) => silent_before = true,
                    MasterOutcome::Nothing => {}
                }
                self.master.exit().await;
            }
            Life::Silent if login == Login::Never => return Err(self.not_now()),
            Life::Silent | Life::Gone => self.master.bury().await,
        }
        self.lock().master = None;
        self.log_in(login).await?;
        self.forward().await.map_err(|error| self.not_forwarded(&error))?;
        let verified = self.verify().await;
        // The same silence after a fresh login: it is the endpoint that is away, and its machine says nothing to knocks.
        self.taciturn.store(silent_before && verified.is_err(), Ordering::Release);
        verified.map_err(|why| self.nobody_there(&why))?;
        self.prove().await;
        Ok(true)
    }

    /// A busy machine may be late with its answer: who says nothing is asked twice.
    async fn look_for_master(&self) -> Life {
        match self.master.life().await {
            Life::Silent => self.master.life().await,
            known => known,
        }
    }

    /// Goes by the master that lives, with the forward as it is or made anew.
    async fn use_master(&self) -> Result<MasterOutcome, TunnelError> {
        if self.is_forwarded() && self.verify().await.is_ok() {
            self.prove().await;
            return Ok(MasterOutcome::Way(false));
        }
        match self.forward().await {
            Ok(()) => {}
            Err(error) if matches!(error.cause, SshFailure::Port | SshFailure::Local) => {
                return Err(self.not_forwarded(&error));
            }
            Err(error) => {
                tracing::info!(
                    tunnel = self.setting.name,
                    said = error.said,
                    "ssh does not listen any more"
                );
                return Ok(MasterOutcome::Nothing);
            }
        }
        let Err(why) = self.verify().await else {
            self.prove().await;
            return Ok(MasterOutcome::Way(true));
        };
        if self.taciturn.load(Ordering::Acquire) || self.master.knock().await {
            return Err(self.nobody_there(&why));
        }
        tracing::info!(
            tunnel = self.setting.name,
            why = crate::causes::chain(&why),
            "the way is dead although ssh lives"
        );
        Ok(MasterOutcome::DeadEnd(why))
    }

    fn not_now(&self) -> TunnelError {
        TunnelError {
            tried: false,
            ..self.ssh(FaultKind::NotReady, "not logged in; the next request logs in".into())
        }
    }

    /// A port that somebody holds open for us needs no ssh, if it leads where it should.
    async fn open_directly(&self) -> bool {
        let Some(port) = self.setting.open_at else { return false };
        self.dial.go_by(Detour::Tcp(self.setting.host.clone(), port));
        let failure = match tokio::time::timeout(DIRECTLY, self.dial.connect()).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(crate::causes::chain(&error)),
            Err(_) => Some(format!("no answer within {} seconds", DIRECTLY.as_secs())),
        };
        let there = failure.is_none();
        *self.direct_failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        let mut seen = self.lock();
        seen.direct = there;
        if there {
            seen.verified = Some(Instant::now());
            seen.verified_at = Some(jiff::Timestamp::now().as_second());
        }
        there
    }

    /// True if the forwards were made before, by us or by one before us.
    fn is_forwarded(&self) -> bool {
        self.mended() > 0 || (self.reuses && self.socket().is_some_and(|socket| socket.exists()))
    }

    async fn log_in(&self, login: Login) -> Result<(), TunnelError> {
        if login == Login::Never {
            return Err(self.not_now());
        }
        let record = self
            .lockout
            .read()
            .map_err(|error| self.ssh(FaultKind::NotReady, error.to_string()))?;
        if let Some(error) = self.refused(&record) {
            return Err(error);
        }
        if login == Login::Batch {
            let missing =
                match identity::find(&self.setting, |words| self.master.launch(words)).await {
                    Ok(Some(_)) => None,
                    Ok(None) => Some(identity::remedy(&self.setting)),
                    Err(why) => Some(why),
                };
            if let Some(why) = missing {
                return Err(TunnelError { tried: false, ..self.ssh(FaultKind::NotReady, why) });
            }
        }
        tracing::info!(tunnel = self.setting.name, host = self.setting.host, "logging in");
        if let Err(error) = self.master.login(login == Login::Asking).await {
            let (lockout, cause, said) = (self.lockout.clone(), error.cause, error.said.clone());
            let noted =
                blocking(move || lockout.failed(cause, &said, jiff::Timestamp::now().as_second()))
                    .await;
            noted.map_err(|error| {
                self.ssh(
                    FaultKind::NotReady,
                    format!("cannot keep count of failed logins, so none is tried: {error}"),
                )
            })?;
            return Err(self.not_let_in(&error, login));
        }
        self.lock().master = self.master.pid().await;
        Ok(())
    }

    /// What the lock-out says, if it says no.
    fn refused(&self, record: &LockoutRecord) -> Option<TunnelError> {
        let now = jiff::Timestamp::now().as_second();
        let (wait, what) = match record.verdict(now) {
            LockoutVerdict::Free => return None,
            LockoutVerdict::Rests(until) => {
                let wait = Duration::from_secs((until - now).cast_unsigned());
                (wait, format!("rests for {} minutes more", wait.as_secs().div_ceil(60)))
            }
            LockoutVerdict::Locked => (lockout::REST, "is locked".to_owned()),
        };
        let message = format!(
            "ssh to {} {what}, so that this machine is not blocked for everybody: logins failed too often, the last with `{}`. Correct that (`{}` by hand shows it), then run `seaway unlock`",
            self.setting.door(),
            record.last,
            ssh_args::by_hand(&self.setting)
        );
        Some(TunnelError {
            retry_after: Some(wait),
            tried: false,
            ..self.ssh(FaultKind::NotReady, message)
        })
    }

    async fn forward(&self) -> Result<(), SshError> {
        // The same port by another address is not meant any more.
        let ports: Vec<u16> = self.forwards.iter().filter_map(Forward::port).collect();
        for old in self.master.forwards().iter().filter(|old| {
            old.port().is_some_and(|port| ports.contains(&port)) && !self.forwards.contains(old)
        }) {
            self.master.cancel(old).await;
        }
        for forward in &self.forwards {
            self.master.cancel(forward).await;
            self.master.forward(forward).await?;
        }
        Ok(())
    }

    /// Checks that the far end is there, and is the right one.
    async fn verify(&self) -> Result<(), DialError> {
        self.dial.go_by(self.detour.clone());
        self.dial.connect().await.map(drop)
    }

    async fn prove(&self) {
        let lockout = self.lockout.clone();
        if let Err(error) = blocking(move || lockout.proved()).await {
            tracing::warn!(%error, "what is held against logins could not be cleared");
        }
        let mut seen = self.lock();
        seen.verified = Some(Instant::now());
        seen.verified_at = Some(jiff::Timestamp::now().as_second());
    }

    fn ssh(&self, kind: FaultKind, message: String) -> TunnelError {
        TunnelError {
            layer: TunnelLayer::Ssh,
            kind,
            message: format!("tunnel `{}`: {message}", self.setting.name),
            retry_after: None,
            tried: true,
        }
    }

    fn not_let_in(&self, error: &SshError, login: Login) -> TunnelError {
        let kind = if error.cause == SshFailure::Network {
            FaultKind::Unreachable
        } else {
            FaultKind::NotReady
        };
        let remedy = match (error.cause, login) {
            (SshFailure::Authentication, Login::Asking) => {
                "try again with the right answers".to_owned()
            }
            (cause, _) => cause.remedy(&ssh_args::by_hand(&self.setting)),
        };
        self.ssh(
            kind,
            format!(
                "ssh to {} failed ({}): {}; {remedy}{}",
                self.setting.host,
                error.cause,
                error.said,
                self.not_directly()
            ),
        )
    }

    /// What to say of a port that should be open elsewhere.
    fn not_directly(&self) -> String {
        let failure = self.direct_failure.lock().unwrap_or_else(PoisonError::into_inner);
        let port = self.setting.open_at.unwrap_or_default();
        failure.as_ref().map_or_else(String::new, |why| {
            format!(". Before that port {port} of {} was tried: {why}", self.setting.host)
        })
    }

    fn not_forwarded(&self, error: &SshError) -> TunnelError {
        let remedy = error.cause.remedy(&ssh_args::by_hand(&self.setting));
        TunnelError::tunnel(format!(
            "tunnel `{}`: logged in to {}, but it forwards nothing: {}; {remedy}",
            self.setting.name, self.setting.host, error.said
        ))
    }

    fn nobody_there(&self, why: &DialError) -> TunnelError {
        let Setting { name, host, open_at, .. } = &*self.setting;
        let beyond = crate::causes::chain(why);
        // A refusal by the machine that was logged in to; what comes later is the endpoint's own.
        let refusal = self.master.refusal().filter(|_| !matches!(why, DialError::TimedOut { .. }));
        let prohibited =
            refusal.as_ref().is_some_and(|refusal| refusal.contains("administratively prohibited"));
        let (layer, message) = match (open_at, refusal) {
            (_, Some(refusal)) if prohibited => (
                TunnelLayer::Tunnel,
                format!(
                    "logged in to {host}, but its ssh server forwards nothing: {refusal}. Ask whoever runs it (AllowTcpForwarding)"
                ),
            ),
            (Some(port), _) => (
                TunnelLayer::Tunnel,
                format!(
                    "logged in to {host}, but nothing usable listens on its port {port}: does `seaway tunnel` run there? ({beyond})"
                ),
            ),
            (None, Some(refusal)) => (
                TunnelLayer::Upstream,
                format!("logged in to {host}, but from there: {refusal} ({beyond})"),
            ),
            (None, None) => {
                (TunnelLayer::Upstream, format!("logged in to {host}, but beyond it {beyond}"))
            }
        };
        TunnelError {
            layer,
            kind: FaultKind::Unreachable,
            message: format!("tunnel `{name}`: {message}"),
            retry_after: None,
            tried: true,
        }
    }

    /// Looks at it now and then, for as long as somebody holds it. `eager`: logs in by itself too.
    pub fn watch(self: &Arc<Self>, eager: bool) {
        let (weak, every) = (Arc::downgrade(self), self.setting.probe);
        if !every.is_zero() {
            self.tasks.spawn(watch(weak, every, eager));
        }
    }

    async fn look(self: Arc<Self>, eager: bool) {
        let lately = self.lock().verified.is_some_and(|at| at.elapsed() < self.setting.probe);
        if self.up.load(Ordering::Acquire) {
            if lately && !eager {
                return;
            }
            match self.dial.connect().await {
                Ok(_) => return self.worked(),
                Err(why) => tracing::info!(
                    tunnel = self.setting.name,
                    why = crate::causes::chain(&why),
                    "a look at the tunnel failed; it is mended"
                ),
            }
            self.is_in_doubt();
        }
        let login = if eager { Login::Batch } else { Login::Never };
        let _told = self.up(login).await;
    }

    /// Takes our forwards away and leaves the login, which the next start will want.
    pub async fn leave(&self) {
        for forward in &self.forwards {
            self.master.cancel(forward).await;
        }
    }

    /// The ssh process that holds the login, if one does.
    pub async fn master(&self) -> Option<u32> {
        self.master.pid().await
    }

    /// Something to log in with.
    ///
    /// # Errors
    ///
    /// Why that cannot be told.
    pub async fn identity(&self) -> Result<Option<Identity>, String> {
        self.master.prepare().map_err(|error| {
            format!("{} cannot be written: {error}", self.setting.folder.display())
        })?;
        identity::find(&self.setting, |words| self.master.launch(words)).await
    }

    /// The machines on the way, and whether ssh knows their keys.
    pub async fn host_keys(&self) -> Vec<HostKey> {
        identity::host_keys(&self.setting, |words| self.master.launch(words)).await
    }

    /// What to do without an identity.
    pub fn no_identity(&self) -> String {
        identity::remedy(&self.setting)
    }

    /// Whether it is up, and if not, why.
    pub fn told(&self) -> TunnelStatus {
        let verdict =
            self.lockout.read().map(|record| record.verdict(jiff::Timestamp::now().as_second()));
        let (lockout, locked_until) = match verdict {
            Ok(LockoutVerdict::Free) => (None, None),
            Ok(LockoutVerdict::Rests(until)) => (Some("rests"), Some(until)),
            Ok(LockoutVerdict::Locked) => (Some("locked"), None),
            Err(_) => (Some("unreadable"), None),
        };
        let up = self.up.load(Ordering::Acquire);
        let seen = self.lock();
        TunnelStatus {
            name: self.setting.name.clone(),
            host: self.setting.host.clone(),
            door: self.setting.door().to_owned(),
            up,
            master: seen.master.filter(|_| !seen.direct),
            direct: up && seen.direct,
            verified_at: seen.verified_at,
            why: seen.why.clone(),
            lockout,
            locked_until,
        }
    }
}

/// What came of the master that lives.
enum MasterOutcome {
    /// A way; true if something had to be done for it.
    Way(bool),
    /// The far end is silent.
    DeadEnd(DialError),
    Nothing,
}

/// Files may be waited for, which the thread that serves must not.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

impl TunnelStatus {
    /// The status without the names of people and machines.
    pub fn discreet(self) -> Self {
        Self { host: String::new(), door: String::new(), master: None, why: None, ..self }
    }
}

impl TunnelError {
    /// What is known of a tunnel that is not up.
    pub fn not_up(told: TunnelStatus) -> Self {
        let message = told.why.unwrap_or_else(|| format!("tunnel `{}` is not up yet", told.name));
        Self {
            layer: TunnelLayer::Tunnel,
            kind: FaultKind::NotReady,
            message,
            retry_after: None,
            tried: false,
        }
    }

    fn tunnel(message: String) -> Self {
        Self {
            layer: TunnelLayer::Tunnel,
            kind: FaultKind::Unreachable,
            message,
            retry_after: None,
            tried: true,
        }
    }
}

/// A master that lives on this machine.
#[derive(Debug, Clone)]
pub struct Living {
    pub folder: PathBuf,
    pub pid: u32,
    /// The forwards that other machines can use.
    pub forwards: Vec<Forward>,
}

/// The masters that live on this machine. `ssh` is how to speak to them.
pub async fn masters(run_folder: &Path, ssh: &config::TunnelConfig) -> Vec<Living> {
    let mut found = Vec::new();
    for master in folders(run_folder, ssh) {
        if let Some(pid) = master.pid().await {
            found.push(Living {
                folder: master.folder().clone(),
                pid,
                forwards: master.forwards(),
            });
        }
    }
    found
}

/// Ends every login on this machine that is ours. Returns how many there were.
pub async fn close_all(run_folder: &Path, ssh: &config::TunnelConfig) -> usize {
    let mut closed = 0;
    for master in folders(run_folder, ssh) {
        closed += usize::from(master.life().await != Life::Gone);
        master.exit().await;
    }
    closed
}

fn folders(run_folder: &Path, ssh: &config::TunnelConfig) -> Vec<Master> {
    let entries =
        std::fs::read_dir(run_folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let ours = entries.filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ssh-"))
            && path.is_dir()
    });
    // A word to a master needs its socket alone; who is at the other end does not matter.
    ours.map(|folder| Master::new(Arc::new(config::TunnelConfig { folder, ..ssh.clone() })))
        .collect()
}

async fn watch(tunnel: Weak<Tunnel>, every: Duration, eager: bool) {
    loop {
        tokio::time::sleep(every).await;
        let Some(tunnel) = tunnel.upgrade() else { return };
        tunnel.look(eager).await;
    }
}
