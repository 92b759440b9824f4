//! The files that a gateway of a configuration works with by itself.
//!
//! What settings only name to be read (credentials, certificates, the settings themselves) is not among
//! them: that is read from outside, wherever it lies.

use std::path::{Path, PathBuf};

use super::{Config, Environment, Listen, UpstreamPlace};
use crate::confine::FileReach;

/// What libraries read: names of machines and users, times, authorities, what the kernel says.
const SYSTEM: &[&str] = &[
    "/bin",
    "/dev",
    "/etc",
    "/gnu/store",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lib/ca-certificates",
    // What the accounts of a cluster are looked up in.
    "/var/lib/sss",
    "/var/run",
];
/// Files for a moment, SQLite's among them.
const TEMPORARY: &[&str] = &["/tmp", "/var/tmp", "/dev/null"];

impl Config {
    /// The files that the gateway opens by itself. Folders of its own are made, so that they can be named.
    pub fn reach(&self, environment: &Environment) -> FileReach {
        let mut reach = FileReach::default();
        reach.read.extend(SYSTEM.iter().map(PathBuf::from));
        let authorities = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
        reach
            .read
            .extend(authorities.iter().filter_map(|name| environment.get(name)).map(PathBuf::from));
        reach.write.extend(TEMPORARY.iter().map(PathBuf::from));
        reach.write.push(environment.temporary_folder());
        let listen = self.listen.iter().filter_map(|listen| match listen {
            Listen::Unix(path) => folder_of(path),
            Listen::Tcp(_) | Listen::Tls(_) => None,
        });
        reach.write.extend(listen);
        let mut own = vec![self.state_dir.clone()];
        own.extend(
            [self.store.path.as_deref(), Some(&self.lockouts)]
                .into_iter()
                .flatten()
                .filter_map(folder_of),
        );
        for upstream in &self.upstreams {
            match &upstream.place {
                UpstreamPlace::Api(api) => {
                    own.extend(api.via.iter().map(|tunnel| tunnel.folder.clone()));
                }
                UpstreamPlace::Program(program) => {
                    own.push(program.folder.clone());
                    reach.write.push(program.temporary.clone());
                    // Workspaces are made when they are first used, and written by the program alone.
                    reach
                        .make
                        .extend(program.agent.workspace.iter().filter_map(|root| folder_of(root)));
                    reach.read.extend(program.agent.workspace.iter().cloned());
                }
                UpstreamPlace::Sandbox => {}
            }
        }
        for folder in &own {
            // Where it cannot be made, whoever needs it says so.
            let _made = crate::trusted::folder(folder, self.modes).and_then(|()| make(folder));
        }
        reach.write.extend(own);
        reach
    }
}

fn make(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn folder_of(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?;
    Some(if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() })
}
