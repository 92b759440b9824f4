//! `seaway tunnel`, `relay` and `unlock`: a tunnel for machines that cannot make one.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::TaskTracker;

use super::UsageError;
use super::args::{Cli, RelayOptions, TunnelCommand, TunnelOptions};
use super::say;
use super::serve::{banner, open_tunnels, same, start_log};
use crate::app::App;
use crate::config::{self, ApiConfig, Config, Listen, Loaded, Sources, UpstreamPlace, run_folder};
use crate::dial::{Detour, Dial, Network};
use crate::http::server::{self, BindError};
use crate::instance;
use crate::store::AuditEvent;
use crate::tunnel::{Forward, Login, Tunnel, close_all, lockout};

/// The upstream whose tunnel is meant: the one that requests go to by default, or the first that has one.
struct Meant {
    name: String,
    setting: Arc<config::TunnelConfig>,
    dial: Arc<Dial>,
    /// ` --env test`, if that is meant.
    env: String,
}

impl Meant {
    fn of(upstream: &config::UpstreamConfig, api: &ApiConfig) -> Option<Self> {
        Some(Self {
            name: upstream.name.to_string(),
            setting: api.via.clone()?,
            dial: Arc::new(Dial::new(api, &Network::Real)),
            env: String::new(),
        })
    }

    /// What to run on the machine that uses the tunnel. What a file says here has to be said there too.
    fn line(&self, host: &str) -> String {
        let Self { name, env, setting, .. } = self;
        format!(
            "seaway serve --upstream {name}{env} --tunnel-host {host} --tunnel-port {}",
            setting.tunnel_port
        )
    }

    fn find(config: &Config) -> Option<Self> {
        let mut all = config.upstreams.iter().filter(|upstream| {
            config.default_upstream.as_ref().is_none_or(|name| *name == upstream.name)
        });
        all.find_map(|upstream| match &upstream.place {
            UpstreamPlace::Api(api) => Self::of(upstream, api),
            UpstreamPlace::Program(_) | UpstreamPlace::Sandbox => None,
        })
    }
}

/// Reads the configuration, and finds the tunnel in it: nobody is logged in anywhere for want of a word.
fn load(cli: &Cli) -> anyhow::Result<(Loaded, Sources, Meant)> {
    let sources = cli.sources()?;
    let loaded = Config::load(&sources)?;
    let none = || {
        match &loaded.config.default_upstream {
        Some(name) => format!("upstream `{name}` has no tunnel: give it one with `via`; `--upstream argo` has one unless `--direct` is said"),
        None => "no upstream here is reached by a tunnel: say `--upstream argo` for Argonne's gateway, or give an upstream one with `via`".into(),
    }
    };
    let mut meant = Meant::find(&loaded.config).ok_or_else(|| UsageError(none()))?;
    if meant.setting.open_at.is_some() {
        return Err(UsageError(
            "`--tunnel-host` is for the machine that uses the tunnel: there it is `seaway serve`"
                .into(),
        )
        .into());
    }
    if let Some(env) = loaded.layers.text("argo.env").filter(|env| env != "prod") {
        meant.env = format!(" --env {env}");
    }
    start_log(&loaded.config.log);
    Ok((loaded, sources, meant))
}

pub(super) fn run(cli: &Cli, options: &TunnelOptions) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(TunnelCommand::Close) = options.command {
        return runtime.block_on(close(cli));
    }
    let (_, _, meant) = load(cli)?;
    runtime.block_on(open(&meant, options))?;
    Ok(ExitCode::SUCCESS)
}

async fn open(meant: &Meant, options: &TunnelOptions) -> anyhow::Result<()> {
    let port = meant.setting.tunnel_port;
    let address = listening(&options.bind, port)?;
    let reached = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let forward = Forward::Local { from: address.to_string(), to: meant.dial.authority() };
    let tunnel = Tunnel::by(
        meant.setting.clone(),
        vec![forward],
        Detour::Tcp(reached.to_string(), port),
        meant.dial.clone(),
        TaskTracker::new(),
    );
    let lock = run_folder_of(&meant.setting).join(format!("tunnel-{port}.lock"));
    let _held = lockout::hold(&lock, Duration::ZERO).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => anyhow::anyhow!("another `seaway tunnel` of yours holds port {port} open already; end it first, or choose another `--tunnel-port`"),
        _ => error.into(),
    })?;
    // Our own forward of an earlier time may hold the port; anybody else's is not ours to take.
    if tunnel.master().await.is_some() {
        tunnel.leave().await;
    }
    if let Err(error) = server::bind(&Listen::Tcp(address)).await {
        return Err(taken(error));
    }
    warn_of_exposure(address.ip(), &format!("{address}"), meant);
    eprintln!("opening the tunnel by ssh to {}", meant.setting.host);
    // A command that is told to leave must not leave a login behind that nobody counts.
    tokio::select! {
        up = tunnel.up(if options.interactive { Login::Asking } else { Login::Batch }) => up?,
        _ = until_told() => anyhow::bail!("told to leave before the tunnel was up"),
    };
    say!("the tunnel is up on {address}; on a machine that can reach this one, also only by ssh:");
    println!("{}", meant.line(&here()));
    if options.detach {
        return Ok(());
    }
    tunnel.watch(true);
    until_told().await?;
    tunnel.leave().await;
    say!("the port is closed; the login stays for the next time. `seaway tunnel close` ends it");
    Ok(())
}

fn run_folder_of(setting: &config::TunnelConfig) -> PathBuf {
    setting.folder.parent().map(Path::to_owned).unwrap_or_default()
}

/// The same as for a gateway's port, by the name of the flag that is meant here.
fn taken(error: BindError) -> anyhow::Error {
    match error {
        BindError::InUse { address, free } => {
            let next = free.map_or_else(String::new, |port| {
                format!("; port {port} is free (`--tunnel-port {port}`)")
            });
            anyhow::anyhow!("{address} is in use by another program{next}")
        }
        error => error.into(),
    }
}

fn warn_of_exposure(ip: IpAddr, place: &str, meant: &Meant) {
    if !ip.is_loopback() {
        eprintln!(
            "warning: whoever can reach {place} can speak to {} by it; they need a key of their own there",
            meant.dial.authority()
        );
    }
}

fn here() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn listening(bind: &str, port: u16) -> anyhow::Result<SocketAddr> {
    let bind = if bind == "*" { "0.0.0.0" } else { bind };
    let bare = bind.trim_matches(['[', ']']);
    let ip = if bare == "localhost" { Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)) } else { bare.parse() };
    let ip = ip.map_err(|_| {
        UsageError(format!(
            "--bind {bind}: expected an address of this machine, such as 127.0.0.1, or `*` for all"
        ))
    })?;
    Ok(SocketAddr::from((ip, port)))
}

async fn until_told() -> std::io::Result<()> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Ends every login that is open on this machine.
async fn close(cli: &Cli) -> anyhow::Result<ExitCode> {
    let config = cli.load()?.config;
    let closed =
        close_all(&run_folder(&std::path::absolute(&config.state_dir)?), &config.ssh).await;
    println!("{closed} {} closed", if closed == 1 { "tunnel was" } else { "tunnels were" });
    for running in instance::find(&config.state_dir) {
        eprintln!(
            "hint: the gateway on {} (process {}) logs in again with its next request",
            running.addresses.join(", "),
            running.pid
        );
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn relay(cli: &Cli, options: &RelayOptions) -> anyhow::Result<ExitCode> {
    if options.to.starts_with('-')
        || options.to.chars().any(|c| c.is_whitespace() || c.is_control())
    {
        return Err(UsageError(format!("`{}` is no name of a machine", options.to)).into());
    }
    let (loaded, sources, meant) = load(cli)?;
    let bind = listening(&options.bind, meant.setting.tunnel_port)?;
    warn_of_exposure(bind.ip(), &format!("{}:{}", options.to, bind.port()), &meant);
    if let Some(running) = same(&loaded.config) {
        anyhow::bail!(
            "a gateway of yours serves on {} already (process {}); end it first, or choose another `--port`",
            running.addresses.join(", "),
            running.pid
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        // It holds our port, before any ssh.
        let app = App::start(loaded, sources).await?;
        let legs = hand_on(&meant, options).await?;
        println!("{}", meant.line(options.to.rsplit('@').next().unwrap_or(&options.to)));
        banner(&app);
        open_tunnels(&app);
        app.run().await;
        // Gateways here still use the first one's.
        legs.legs[0].leave().await;
        anyhow::Ok(())
    });
    runtime.shutdown_background();
    served.map(|()| ExitCode::SUCCESS)
}

/// The ways of a relay: from the other machine to here, and from here on.
struct Legs {
    legs: [Arc<Tunnel>; 2],
    /// No other relay does the same.
    _held: std::fs::File,
}

/// Opens both legs: from here to the institution, and from the other machine to here. Each is looked at and mended.
async fn hand_on(meant: &Meant, options: &RelayOptions) -> anyhow::Result<Legs> {
    let tasks = TaskTracker::new();
    let port = meant.setting.tunnel_port;
    let first = Tunnel::new(meant.setting.clone(), meant.dial.clone(), tasks.clone());
    progress(&format!("opening the tunnel by ssh to {}", meant.setting.host));
    first.up(Login::Batch).await?;
    let there = Arc::new(meant.setting.beside(&options.to));
    let lock = there.folder.join(format!("relay-{port}.lock"));
    let held = lockout::hold(&lock, Duration::ZERO).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => {
            anyhow::anyhow!("another `seaway relay` of yours holds port {port} of {} open already; end it first, or choose another `--tunnel-port`", options.to)
        }
        _ => error.into(),
    })?;
    let socket = first.socket().ok_or_else(|| anyhow::anyhow!("the tunnel has no socket"))?;
    let forwards = vec![
        Forward::Remote {
            from: format!("{}:{port}", if options.bind == "0.0.0.0" { "*" } else { &options.bind }),
            to: beside(&socket),
        },
        // By the other machine and back: what is looked at is all that its clients will use.
        Forward::Local {
            from: "./back.sock".into(),
            to: format!(
                "{}:{port}",
                if options.bind.contains("::1") { "[::1]" } else { "localhost" }
            ),
        },
    ];
    let dial = Arc::new(meant.dial.another());
    let second = Tunnel::by(
        there.clone(),
        forwards,
        Detour::Socket(there.folder.join("back.sock")),
        dial,
        tasks,
    );
    progress(&format!("handing it on by ssh to {}", options.to));
    if let Err(error) = second.up(Login::Batch).await {
        second.leave().await;
        return Err(error.into());
    }
    first.watch(true);
    second.watch(true);
    Ok(Legs { legs: [second, first], _held: held })
}

/// A socket in a neighbour's folder: its whole path may be too long for ssh.
fn beside(socket: &Path) -> String {
    let name = |path: Option<&Path>| {
        path.and_then(Path::file_name)
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    format!("../{}/{}", name(socket.parent()), name(Some(socket)))
}

fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("… {what}");
    }
}

pub(super) fn unlock(cli: &Cli) -> anyhow::Result<ExitCode> {
    let config = cli.load()?.config;
    let cleared = lockout::clear(&config.lockouts)?;
    if cleared.is_empty() {
        println!("nothing was locked");
    }
    for (place, record) in cleared {
        let detail = format!("ssh to {place}, which last failed with `{}`", record.last);
        super::audit::note(&config, AuditEvent::Unlocked, &detail);
        println!("{place}: ssh may log in again; it last failed with `{}`", record.last);
    }
    Ok(ExitCode::SUCCESS)
}
