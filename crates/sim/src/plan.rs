//! What happens in a run, as data.

use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// A whole run. Times are milliseconds of virtual time since its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Decides what no plan says, such as the jitter of retries.
    pub seed: u64,
    /// `store.sync = "full"`.
    pub synced: bool,
    /// Places at each upstream.
    pub concurrency: u32,
    pub clients: Vec<ClientPlan>,
    pub events: Vec<(u64, Event)>,
    /// Connections to upstreams that are refused, by their number.
    pub refused_dials: Vec<u32>,
}

/// One connection of a client's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientPlan {
    pub at: u64,
    /// Which of the local keys it has.
    pub caller: u8,
    /// It asks the program, and each of its questions goes on with the conversation so far.
    #[serde(default)]
    pub program: bool,
    /// What it asks on it, one after another.
    pub asks: Vec<Ask>,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// No other one has it: the model that it asks for is named after it.
    pub number: u32,
    pub surface: Surface,
    pub stream: bool,
    pub key: ShownKey,
    pub sending: Sending,
    pub reading: Reading,
    /// What upstreams answer: to the first attempt, to the second, …; afterwards the last one again.
    pub answers: Vec<Script>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Surface {
    Messages,
    Chat,
    /// With an answer that is to be kept.
    Responses,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShownKey {
    Good,
    Wrong,
    None,
}

/// How a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sending {
    Whole,
    /// In pieces of so many bytes, so long after each other.
    Slowly {
        bytes: u32,
        every: u64,
    },
    /// The client leaves after so many bytes.
    Leaves(u32),
    /// The client sends nothing after so many bytes, and stays.
    Stalls(u32),
}

/// How an answer is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reading {
    Eager,
    Slowly {
        bytes: u32,
        every: u64,
    },
    /// The client leaves after so many bytes.
    Leaves(u32),
    /// The client leaves after so long.
    LeavesAt(u64),
    /// The client reads nothing after so many bytes, and stays.
    Stalls(u32),
}

/// What an upstream answers to one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// How long it thinks.
    pub delay: u64,
    pub answer: ScriptedAnswer,
    /// Written in pieces of so many bytes, so long after each other.
    pub piece: u32,
    pub every: u64,
    /// What happens after so many bytes of the answer, its head included.
    pub trouble: Option<(u32, Trouble)>,
    /// The length stands in the head, where there is no stream.
    pub length: bool,
    /// The connection is kept for the next request.
    pub keeps: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScriptedAnswer {
    /// A message of so many pieces of text.
    Message {
        pieces: u32,
    },
    Error {
        status: u16,
        retry_after: Option<u32>,
    },
    /// No HTTP at all.
    Garbage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// The connection ends in order.
    Close,
    /// It breaks.
    Reset,
    /// Nothing more comes.
    Stall,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    DiskFull,
    DiskRoom,
    Reload,
    /// The clock goes on by so many milliseconds at once.
    Jump(u64),
    /// SIGTERM: a drain with two seconds of grace.
    Drain,
    /// The process is killed between two writes of the store: so much of what is being written is there, in thousandths.
    Kill(u16),
}

/// One of several, each with its weight.
fn pick<T: Copy>(rng: &mut Rng, choices: &[(u32, T)]) -> T {
    let all: u32 = choices.iter().map(|(weight, _)| weight).sum();
    let mut at = rng.u32(0..all);
    for (weight, choice) in choices {
        match at.checked_sub(*weight) {
            Some(rest) => at = rest,
            None => return *choice,
        }
    }
    choices[0].1
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed);
        let span = rng.u64(50..3000);
        let mut number = 0;
        let clients = (0..rng.usize(1..14))
            .map(|_| {
                let program = rng.u8(0..4) == 0;
                // A conversation has turns.
                let asks: [(u32, u8); 3] =
                    if program { [(2, 1), (2, 2), (2, 6)] } else { [(6, 1), (2, 2), (1, 5)] };
                ClientPlan {
                    at: rng.u64(0..span),
                    caller: rng.u8(0..2),
                    program,
                    asks: (0..pick(rng, &asks))
                        .map(|_| {
                            number += 1;
                            ask(rng, number)
                        })
                        .collect(),
                }
            })
            .collect();
        let mut events: Vec<_> = (0..pick(rng, &[(6, 0), (3, 1), (2, 3)]))
            .map(|_| (rng.u64(0..span * 2), event(rng)))
            .collect();
        events.sort_unstable_by_key(|(at, _)| *at);
        let refused = pick(rng, &[(8, 0), (2, 1), (1, 6)]);
        Self {
            seed,
            synced: rng.u8(0..3) == 0,
            concurrency: pick(rng, &[(3, 1), (2, 2), (4, 8)]),
            clients,
            events,
            refused_dials: (0..refused).map(|_| rng.u32(0..12)).collect(),
        }
    }

    pub fn asks(&self) -> impl Iterator<Item = (&ClientPlan, &Ask)> {
        self.clients.iter().flat_map(|client| client.asks.iter().map(move |ask| (client, ask)))
    }
}

fn event(rng: &mut Rng) -> Event {
    match pick(rng, &[(3, 0), (2, 1), (2, 2), (2, 3), (1, 4), (4, 5)]) {
        0 => Event::DiskFull,
        1 => Event::DiskRoom,
        2 => Event::Reload,
        3 => Event::Jump(rng.u64(1..200_000)),
        4 => Event::Drain,
        _ => Event::Kill(rng.u16(0..=1000)),
    }
}

fn ask(rng: &mut Rng, number: u32) -> Ask {
    let surface = pick(rng, &[(4, Surface::Messages), (2, Surface::Chat), (3, Surface::Responses)]);
    let sending = match pick(rng, &[(20, 0), (2, 1), (1, 2), (1, 3)]) {
        0 => Sending::Whole,
        1 => Sending::Slowly { bytes: rng.u32(1..200), every: rng.u64(1..1500) },
        2 => Sending::Leaves(rng.u32(0..600)),
        _ => Sending::Stalls(rng.u32(0..600)),
    };
    let reading = match pick(rng, &[(14, 0), (2, 1), (2, 2), (2, 3), (1, 4)]) {
        0 => Reading::Eager,
        1 => Reading::Slowly { bytes: rng.u32(1..400), every: rng.u64(1..600) },
        2 => Reading::Leaves(rng.u32(0..3000)),
        3 => Reading::LeavesAt(rng.u64(0..4000)),
        _ => Reading::Stalls(rng.u32(0..3000)),
    };
    Ask {
        number,
        surface,
        stream: rng.bool(),
        key: pick(rng, &[(20, ShownKey::Good), (1, ShownKey::Wrong), (1, ShownKey::None)]),
        sending,
        reading,
        answers: (0..rng.usize(1..4)).map(|_| script(rng)).collect(),
    }
}

fn script(rng: &mut Rng) -> Script {
    let answer = match pick(rng, &[(16, 0), (4, 1), (1, 2)]) {
        0 => ScriptedAnswer::Message { pieces: pick(rng, &[(6, 3), (3, 20), (1, 2000)]) },
        1 => ScriptedAnswer::Error {
            status: pick(rng, &[(2, 429), (2, 529), (1, 500), (1, 503), (1, 400), (1, 401)]),
            retry_after: rng.bool().then(|| rng.u32(0..40)),
        },
        _ => ScriptedAnswer::Garbage,
    };
    let long = matches!(answer, ScriptedAnswer::Message { pieces } if pieces > 100);
    let trouble = match pick(rng, &[(12, 0), (3, 1), (3, 2), (1, 3)]) {
        0 => None,
        1 => Some((rng.u32(0..2500), Trouble::Close)),
        2 => Some((rng.u32(0..2500), Trouble::Reset)),
        _ => Some((rng.u32(0..2500), Trouble::Stall)),
    };
    Script {
        delay: pick(rng, &[(6, 0), (4, 30), (2, 800), (1, 9000)]),
        answer,
        // What is long is not slow too: nobody waits for hours.
        piece: if long { 3000 } else { pick(rng, &[(4, 100_000), (3, 700), (2, 61), (1, 7)]) },
        every: pick(rng, &[(5, 0), (4, 1), (1, 90)]),
        trouble,
        length: rng.bool(),
        keeps: rng.u8(0..4) > 0,
    }
}
