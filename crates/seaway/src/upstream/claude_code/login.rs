//! Signing the program in and out, from afar: it shows an address, takes the code that is got there,
//! and keeps what it gets for it. We never see or hold a token.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use seaway_wire::claude_code::login::{LoginStatus, address};
use tokio::time::Instant;

use super::spawn::Spawner;
use super::{Program, Unusable};
use crate::process::{self, Piped};

/// How long the program has to show its address.
const ADDRESS: Duration = Duration::from_secs(30);
/// How long it has to try a code.
const TRYING: Duration = Duration::from_secs(60);
/// How long somebody has to get a code.
const OPEN: Duration = Duration::from_secs(600);
/// The most sign-ins under way at once.
const MOST: usize = 4;

/// Sign-ins that wait for their code.
#[derive(Debug, Default)]
pub(super) struct Logins(Mutex<HashMap<String, (Piped, Instant)>>);

/// Why somebody was not signed in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    #[error(transparent)]
    Unusable(#[from] Unusable),
    #[error("Claude Code cannot be started")]
    Start(#[source] std::io::Error),
    #[error("Claude Code showed no address to sign in at: {0}")]
    NoAddress(String),
    #[error("{0} sign-ins wait for their code already; finish one, or wait ten minutes")]
    TooMany(usize),
    #[error("there is no such sign-in, or it waited too long; begin again")]
    Unknown,
    #[error("the code must be one line of text")]
    Code,
    #[error("Claude Code did not sign in: {0}; begin again with another POST /auth/login")]
    Refused(String),
}

impl Logins {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Piped, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Program {
    /// Begins to sign in; returns a name for it, and the address to go to.
    ///
    /// # Errors
    ///
    /// [`LoginError`] if the program does not show one.
    pub async fn begin_login(&self) -> Result<(String, String), LoginError> {
        let shared = self.shared();
        self.sweep_logins();
        let waiting = shared.plan.logins.lock().len();
        if waiting >= MOST {
            return Err(LoginError::TooMany(waiting));
        }
        let launch = shared.installed().command(shared.setting(), &["auth", "login"]).await?;
        let folder =
            process::Folder::make(&shared.setting().temporary).map_err(LoginError::Start)?;
        let Spawner { programs, tasks, .. } = &*shared.children.spawner;
        let mut child = programs.spawn(launch, folder, false, tasks).map_err(LoginError::Start)?;
        let shown = tokio::time::timeout(ADDRESS, shown(&mut child))
            .await
            .unwrap_or_else(|_| Err("it took too long".into()));
        match shown {
            Ok(address) => {
                let id = format!("login_{}", uuid::Uuid::now_v7().simple());
                let refused = {
                    let mut logins = shared.plan.logins.lock();
                    // Others may have begun meanwhile.
                    if logins.len() >= MOST {
                        Some(child)
                    } else {
                        logins.insert(id.clone(), (child, Instant::now())).map(|(old, _)| old)
                    }
                };
                match refused {
                    None => Ok((id, address)),
                    Some(child) => {
                        shared.children.let_go(child, ());
                        Err(LoginError::TooMany(MOST))
                    }
                }
            }
            Err(why) => {
                shared.children.let_go(child, ());
                Err(LoginError::NoAddress(why))
            }
        }
    }

    /// Hands the code on to the program.
    ///
    /// # Errors
    ///
    /// [`LoginError`] if there is no such sign-in, or the program does not take the code.
    pub async fn finish_login(&self, id: &str, code: &str) -> Result<LoginStatus, LoginError> {
        let shared = self.shared();
        let code = code.trim();
        if code.is_empty() || code.len() > 4096 || code.chars().any(char::is_control) {
            return Err(LoginError::Code);
        }
        self.sweep_logins();
        let (mut child, _) = shared.plan.logins.lock().remove(id).ok_or(LoginError::Unknown)?;
        let said = async {
            child.say(&format!("{code}\n")).await.map_err(|error| error.to_string())?;
            let mut last = String::new();
            while let Ok(Some(line)) = child.line().await {
                last = String::from_utf8_lossy(&line).into_owned();
            }
            Ok::<String, String>(last)
        };
        let said = tokio::time::timeout(TRYING, said)
            .await
            .unwrap_or_else(|_| Err("it took too long".into()));
        let (words, status) = child.last_will().await;
        shared.installed().forget_login();
        match said {
            Ok(_) if status.is_some_and(|status| status.success()) => {
                Ok(shared.installed().login(shared.setting()).await?)
            }
            // Its last line says why; more than that is not for the wire.
            Ok(last) => Err(LoginError::Refused(
                words.lines().last().unwrap_or(&last).chars().take(200).collect(),
            )),
            Err(why) => Err(LoginError::Refused(why)),
        }
    }

    /// Signs the program out.
    ///
    /// # Errors
    ///
    /// [`LoginError`] if the program says no.
    pub async fn logout(&self) -> Result<(), LoginError> {
        let shared = self.shared();
        let launch = shared.installed().command(shared.setting(), &["auth", "logout"]).await?;
        let ran = shared.children.spawner.programs.run(launch, TRYING).await;
        shared.installed().forget_login();
        match ran {
            Ok((status, _)) if status.success() => Ok(()),
            Ok((_, said)) => Err(LoginError::Refused(said.trim().to_owned())),
            Err(error) => Err(LoginError::Refused(error.to_string())),
        }
    }

    /// Ends sign-ins for which nobody came back.
    pub(super) fn sweep_logins(&self) {
        let shared = self.shared();
        let late: Vec<Piped> = shared
            .plan
            .logins
            .lock()
            .extract_if(|_, (_, since)| since.elapsed() > OPEN)
            .map(|(_, (child, _))| child)
            .collect();
        for child in late {
            shared.children.let_go(child, ());
        }
    }

    /// Ends every sign-in.
    pub(super) fn close_logins(&self) {
        let shared = self.shared();
        let all: Vec<Piped> =
            shared.plan.logins.lock().drain().map(|(_, (child, _))| child).collect();
        for child in all {
            shared.children.let_go(child, ());
        }
    }
}

/// Waits for the address that the program shows.
async fn shown(child: &mut Piped) -> Result<String, String> {
    loop {
        match child.line().await {
            Ok(Some(line)) => {
                let line = String::from_utf8_lossy(&line).into_owned() + "\n";
                if let Some(address) = address(&line) {
                    return Ok(address.to_owned());
                }
            }
            Ok(None) => return Err(child.last_words()),
            Err(error) => return Err(error.to_string()),
        }
    }
}
