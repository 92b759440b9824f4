//! Claude Code as the plan has it: processes that are told what to answer, line by line, and die when they are to.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seaway::process::{Child, Launch, Promised, Runner, Signal, StartedChild};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::plan::{Script, ScriptedAnswer, Trouble};
use crate::upstream::{Attempt, Launched, Upstreams, data, text};

/// What a pipe holds.
const PIPE: usize = 16 << 10;
/// The upstream that the program is.
pub const PROGRAM: char = 'c';
/// The model that it answers with.
pub const MODEL: &str = "claude-sim-program";

/// The machine on which it runs.
pub struct Machine(pub Arc<Upstreams>);

impl Runner for Machine {
    fn start(&self, launch: Launch) -> io::Result<StartedChild> {
        let (stdin, told) = tokio::io::duplex(PIPE);
        let (says, stdout) = tokio::io::duplex(PIPE);
        let (_, stderr) = tokio::io::duplex(1);
        let (gone, status) = watch::channel(None);
        let started = launched(&launch);
        let heard = format!("{}\n{}", started.command_line, started.environment);
        let id = self.0.start_program(started);
        let program = Process {
            upstreams: self.0.clone(),
            heard,
            told: BufReader::new(told).lines(),
            says,
            deaf: Arc::default(),
        };
        let life = Arc::new(Life {
            id,
            upstreams: self.0.clone(),
            gone,
            deaf: program.deaf.clone(),
            running: Mutex::default(),
        });
        let running = tokio::spawn({
            let life = life.clone();
            async move { life.end(program.run().await) }
        });
        *life.lock() = Some(running.abort_handle());
        Ok(StartedChild {
            stdin: Box::new(stdin),
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
            child: Box::new(SimulatedChild { life, status }),
        })
    }

    fn run(&self, launch: Launch) -> Promised<'static, io::Result<(ExitStatus, String)>> {
        let said = if launch.arguments == ["--version"] {
            "2.1.332 (Claude Code)\n"
        } else {
            "{\"loggedIn\":true,\"authMethod\":\"api_key\"}\n"
        };
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok((ExitStatus::default(), said.to_owned()))
        })
    }
}

fn launched(launch: &Launch) -> Launched {
    let variables = launch.environment.iter();
    let environment =
        variables.map(|(name, value)| format!("{name}={}\n", value.expose_secret())).collect();
    Launched { command_line: launch.arguments.join(" "), environment }
}

/// What is known of a process outside of it.
struct Life {
    id: u32,
    upstreams: Arc<Upstreams>,
    gone: watch::Sender<Option<ExitStatus>>,
    /// It takes no notice of signals that allow that.
    deaf: Arc<Mutex<bool>>,
    running: Mutex<Option<AbortHandle>>,
}

impl Life {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<AbortHandle>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, status: ExitStatus) {
        let first = self.gone.send_if_modified(|gone| {
            let first = gone.is_none();
            gone.get_or_insert(status);
            first
        });
        if first {
            self.upstreams.end_program(self.id);
        }
    }

    fn signal(&self, signal: Signal) {
        let deaf = *self.deaf.lock().unwrap_or_else(PoisonError::into_inner);
        if deaf && signal != Signal::KILL {
            return;
        }
        if let Some(running) = self.lock().take() {
            running.abort();
        }
        self.end(ExitStatus::from_raw(signal.as_raw()));
    }
}

/// A process, for who started it.
struct SimulatedChild {
    life: Arc<Life>,
    status: watch::Receiver<Option<ExitStatus>>,
}

impl std::fmt::Debug for SimulatedChild {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SimulatedChild").field(&self.life.id).finish()
    }
}

impl Child for SimulatedChild {
    fn id(&self) -> Option<u32> {
        self.status.borrow().is_none().then_some(self.life.id)
    }

    fn is_alive(&mut self) -> bool {
        self.status.borrow().is_none()
    }

    fn wait(&mut self) -> Promised<'_, io::Result<ExitStatus>> {
        Box::pin(async {
            let gone = self.status.wait_for(Option::is_some).await;
            gone.map_err(io::Error::other)?.ok_or_else(|| io::Error::other("it is not gone"))
        })
    }

    fn signal(&self, signal: Signal) {
        self.life.signal(signal);
    }

    fn end_all(&self) -> Box<dyn FnOnce() + Send> {
        let life = self.life.clone();
        Box::new(move || life.signal(Signal::KILL))
    }
}

impl Drop for SimulatedChild {
    fn drop(&mut self) {
        self.life.signal(Signal::KILL);
    }
}

/// A process from within.
struct Process {
    upstreams: Arc<Upstreams>,
    /// All that it knows: how it was started, and what it was told.
    heard: String,
    told: Lines<BufReader<DuplexStream>>,
    says: DuplexStream,
    deaf: Arc<Mutex<bool>>,
}

impl Process {
    /// Does what it is told until nobody tells it anything.
    async fn run(mut self) -> ExitStatus {
        while let Ok(Some(line)) = self.told.next_line().await {
            self.heard.push_str(&line);
            let told: Value = serde_json::from_str(&line).unwrap_or_default();
            let ended = match told["type"].as_str() {
                Some("control_request") => self.say(&agreed(&told)).await.err().map(|_| code(1)),
                Some("user") if told["shouldQuery"] == false => {
                    self.say(&result(false, "")).await.err().map(|_| code(1))
                }
                Some("user") => self.answer(&line).await,
                _ => None,
            };
            if let Some(status) = ended {
                return status;
            }
        }
        ExitStatus::default()
    }

    async fn say(&mut self, line: &Value) -> io::Result<()> {
        self.says.write_all(format!("{line}\n").as_bytes()).await
    }

    /// Answers one turn; a status if the process is over with it.
    async fn answer(&mut self, line: &str) -> Option<ExitStatus> {
        let upstreams = self.upstreams.clone();
        let number = asked(line);
        // A question that no client asked has no answer.
        let script = upstreams.script(number)?;
        let (head, answer, tokens) = written(number, script);
        let request = self.heard.clone();
        let attempt = Attempt::of(number, PROGRAM, script, head.len(), tokens, request);
        let _works = Works::begin(&upstreams);
        let all = [head, answer].concat();
        let played = upstreams.play(attempt, all.as_bytes(), &mut self.says).await;
        let Some((_, whole)) = played else { return Some(code(1)) };
        match script.trouble {
            Some((_, Trouble::Close)) => Some(code(1)),
            Some((_, Trouble::Reset)) => Some(ExitStatus::from_raw(11)),
            Some((_, Trouble::Stall)) if !whole => {
                *self.deaf.lock().unwrap_or_else(PoisonError::into_inner) = true;
                std::future::pending().await
            }
            Some((_, Trouble::Stall)) | None => None,
        }
    }
}

/// A process that works on a turn, for as long as this is there.
struct Works<'u>(&'u Upstreams);

impl<'u> Works<'u> {
    fn begin(upstreams: &'u Upstreams) -> Self {
        upstreams.works(1);
        Self(upstreams)
    }
}

impl Drop for Works<'_> {
    fn drop(&mut self) {
        self.0.works(-1);
    }
}

fn code(code: i32) -> ExitStatus {
    ExitStatus::from_raw(code << 8)
}

/// The number of the turn that a line asks for: the last one that stands in it.
fn asked(line: &str) -> u32 {
    let after = line.rsplit("prompt-").next().unwrap_or_default();
    after.split('-').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

fn agreed(told: &Value) -> Value {
    let id = &told["request_id"];
    json!({"type": "control_response", "response": {"subtype": "success", "request_id": id, "response": {}}})
}

fn result(is_error: bool, said: &str) -> Value {
    json!({"type": "result", "subtype": "success", "is_error": is_error, "num_turns": 1, "result": said, "session_id": "s"})
}

/// What comes before an answer, the answer, and the tokens that it tells of.
fn written(number: u32, script: Script) -> (String, String, (u64, u64)) {
    let init = json!({"type": "system", "subtype": "init", "session_id": "s", "tools": [], "model": MODEL, "permissionMode": "default"});
    let init = format!("{init}\n");
    match script.answer {
        ScriptedAnswer::Garbage => (init, "Segmentation fault\n".into(), (0, 0)),
        ScriptedAnswer::Error { status, .. } => {
            let said = format!("API Error: {status} m{number}_e ");
            let failed = json!({
                "type": "assistant", "error": "unknown", "is_api_error_message": true, "api_error_status": status,
                "message": {"id": "s", "type": "message", "role": "assistant", "model": "<synthetic>", "content": [{"type": "text", "text": said}]},
            });
            let mut over = result(true, &said);
            over["api_error_status"] = status.into();
            (init, format!("{failed}\n{over}\n"), (0, 0))
        }
        ScriptedAnswer::Message { pieces } => {
            let tokens = (1000 + u64::from(number), 10 + u64::from(pieces));
            let events = data(number, pieces, tokens).into_iter().map(|(_, event)| {
                format!("{{\"type\":\"stream_event\",\"event\":{event},\"session_id\":\"s\",\"parent_tool_use_id\":null}}\n")
            });
            let answer = events.collect::<String>();
            let over = result(false, &text(number, pieces));
            (init, format!("{answer}{over}\n"), tokens)
        }
    }
}
