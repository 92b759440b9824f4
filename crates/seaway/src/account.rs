//! Keys that were given out, with their teams: whose key it is, what they may use, and what they have used.
//!
//! All of it is in memory, and a change is there at once. The store has it too, and is written before anybody is told.

mod change;
mod login;
mod reservation;
mod row;

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use foldhash::HashMap;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, watch};

use crate::cap::{Caps, Meter, Period, Pressure, Tick, pressing};
use crate::sync::Mutex;

pub use change::{
    ChangeError, KeyPatch, RowEdit, TeamPatch, create, replace, revoke, set, set_team,
};
pub use login::{ACCESS, LASTS, LoginRow, SIGN_INS, Tokens};
pub use reservation::{Reservation, Shortfall, Worst};
pub use row::{HashKind, KeyHash, KeyRow, KeySettings, TeamRow, UsedRow, Whose};

/// The most that an upstream is believed to add to a prompt or an answer, in tokens.
const ADDED: u64 = 20_000;

/// How every key begins that we make.
const BEGINS: &[u8] = b"sk-seaway-";

/// Models of an upstream of which it is known what it adds.
const MODELS: usize = 1_000;

/// No key that we make is shorter.
const SHORTEST: usize = 40;

/// What turns a key into its hash: whoever has the store alone learns nothing of keys that could be guessed.
#[derive(Clone)]
pub struct Pepper(pub [u8; 32]);

impl std::fmt::Debug for Pepper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pepper")
    }
}

impl Pepper {
    /// The hash of a key.
    pub fn hash(&self, key: &str) -> KeyHash {
        KeyHash {
            kind: HashKind::Keyed,
            bytes: *blake3::keyed_hash(&self.0, key.as_bytes()).as_bytes(),
        }
    }
}

/// What one key or team has used, and who waits for what others hold.
#[derive(Debug, Default)]
pub struct Tally {
    meter: Mutex<Meter>,
    freed: Notify,
}

/// One that caps are over.
#[derive(Debug)]
pub struct Scope {
    pub name: Arc<str>,
    pub caps: Arc<Caps>,
    tally: Arc<Tally>,
}

/// A key that was given out.
#[derive(Debug)]
pub struct Account {
    pub scope: Arc<Scope>,
    pub row: KeyRow,
}

/// A key as it stands, with its team.
#[derive(Debug, Clone)]
pub struct Standing {
    pub key: Arc<Account>,
    pub team: Option<Arc<Scope>>,
}

/// Whose key somebody showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// It lets in.
    Good(Arc<str>),
    /// It is a token of a program that signed in with this caller's key, if that is still the one of `proof`.
    SignedIn { name: Arc<str>, proof: [u8; 32] },
    /// It did once; this is why it no longer does.
    Past(String),
}

#[derive(Debug)]
struct KeyBook {
    by_hash: HashMap<[u8; 32], Arc<str>>,
    /// Of keys that came from elsewhere: plain SHA-256.
    by_sha256: HashMap<[u8; 32], Arc<str>>,
    keys: HashMap<Arc<str>, Arc<Account>>,
    teams: HashMap<Arc<str>, Arc<Scope>>,
    /// Of whoever spends without being a key or a team that is there.
    others: HashMap<(Whose, Arc<str>), Arc<Tally>>,
    /// Programs that signed in.
    logins: HashMap<i64, LoginRow>,
    /// What was used before is known, and nobody else writes it.
    ready: Result<(), Arc<str>>,
}

/// The days by which budgets go.
#[derive(Debug)]
struct Days {
    zone: TimeZone,
    /// The one that was asked for last: most are asked for again.
    known: Option<KnownDay>,
}

#[derive(Debug, Clone, Copy)]
struct KnownDay {
    day: Date,
    from: Timestamp,
    until: Timestamp,
}

impl Days {
    fn begins(&self, day: Date) -> Option<Timestamp> {
        Some(day.to_zoned(self.zone.clone()).ok()?.timestamp())
    }
}

/// All keys that were given out.
#[derive(Debug)]
pub struct Accounts {
    pepper: OnceLock<Pepper>,
    /// There are keys, so that nobody is known before the store has told of them.
    expected: bool,
    loaded: watch::Sender<bool>,
    book: RwLock<KeyBook>,
    /// By upstreams and models.
    excess: RwLock<HashMap<String, HashMap<String, [u64; 2]>>>,
    days: RwLock<Days>,
    began: Instant,
}

/// What the store knows at the start.
#[derive(Debug, Default)]
pub struct Ledgers {
    pub keys: Vec<KeyRow>,
    pub teams: Vec<TeamRow>,
    pub used: Vec<UsedRow>,
    pub logins: Vec<LoginRow>,
    /// Why caps cannot be kept here, if they cannot.
    pub trouble: Option<String>,
}

impl Standing {
    /// The team, if the key is in one.
    pub fn team_name(&self) -> Option<Arc<str>> {
        self.team.as_ref().map(|team| team.name.clone())
    }

    /// What caps are over it: the key first, then its team.
    fn scopes(&self) -> Vec<Arc<Scope>> {
        std::iter::once(self.key.scope.clone()).chain(self.team.clone()).collect()
    }

    /// True where a budget is over it.
    pub fn has_budget(&self) -> bool {
        let scopes = [Some(&self.key.scope), self.team.as_ref()];
        scopes.into_iter().flatten().any(|scope| !scope.caps.budgets.is_empty())
    }
}

impl Accounts {
    /// Nobody yet. Until [`Self::load`] nobody with a budget is served: what was used before is not known. There is a pepper where keys
    /// were ever given out.
    pub fn new(pepper: Option<Pepper>, zone: TimeZone) -> Arc<Self> {
        let known = KeyBook {
            by_hash: HashMap::default(),
            by_sha256: HashMap::default(),
            keys: HashMap::default(),
            teams: HashMap::default(),
            others: HashMap::default(),
            logins: HashMap::default(),
            ready: Err("the gateway's store is not open yet".into()),
        };
        Arc::new(Self {
            expected: pepper.is_some(),
            pepper: pepper.map_or_else(OnceLock::new, OnceLock::from),
            loaded: watch::Sender::new(false),
            book: RwLock::new(known),
            excess: RwLock::default(),
            days: RwLock::new(Days { zone, known: None }),
            began: Instant::now(),
        })
    }

    /// Takes in what the store knows, before anything of this process under a budget is written there.
    pub fn load(&self, known: Ledgers) {
        let mut book = self.book.write().unwrap_or_else(PoisonError::into_inner);
        for tally in book.tallies() {
            tally.meter.lock().unwrap_or_else(PoisonError::into_inner).forget();
        }
        book.keys.reserve(known.keys.len());
        book.by_hash.reserve(known.keys.len());
        let keyed = |key: &KeyRow| key.hash.is_some_and(|hash| hash.kind == HashKind::Keyed);
        if self.pepper.get().is_none() && known.keys.iter().any(keyed) {
            tracing::error!(
                "the file `pepper` is gone from the state folder, and without it no key that was given out lets in: put it back, or `seaway key rotate` each"
            );
        }
        for team in known.teams {
            book.put_team(team);
        }
        for key in known.keys {
            book.put(key);
        }
        for UsedRow { whose, name, day, spent } in known.used {
            let tally = book.tally(whose, &name.into());
            tally.meter.lock().unwrap_or_else(PoisonError::into_inner).add(day, spent);
        }
        book.logins.extend(known.logins.into_iter().map(|login| (login.id, login)));
        book.ready = known.trouble.map_or(Ok(()), |trouble| Err(trouble.into()));
        drop(book);
        self.loaded.send_replace(true);
    }

    /// True where somebody may be known by a key, or have a budget, of which the store has not told yet.
    pub fn is_awaited(&self) -> bool {
        self.expected && !*self.loaded.borrow()
    }

    /// Waits until the store has told of keys. Cancel safe.
    pub async fn loaded(&self) {
        // The sender lives as long as this.
        let mut loaded = self.loaded.subscribe();
        let _told = loaded.wait_for(|loaded| *loaded).await;
    }

    /// The pepper, where keys were ever given out.
    pub fn pepper(&self) -> Option<&Pepper> {
        self.pepper.get()
    }

    /// True where keys are known by hashes, and what made them is gone.
    pub fn lacks_pepper(&self) -> bool {
        let keyed =
            |key: &Arc<Account>| key.row.hash.is_some_and(|hash| hash.kind == HashKind::Keyed);
        self.pepper.get().is_none() && self.read().keys.values().any(keyed)
    }

    /// The first key is about to be given out.
    pub fn set_pepper(&self, pepper: Pepper) {
        let _first = self.pepper.set(pepper);
    }

    /// The days by which budgets go.
    pub fn set_zone(&self, zone: TimeZone) {
        *self.days.write().unwrap_or_else(PoisonError::into_inner) = Days { zone, known: None };
    }

    fn days(&self) -> std::sync::RwLockReadGuard<'_, Days> {
        self.days.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The day of a time, as budgets go.
    pub fn day(&self, at: Timestamp) -> Date {
        let known = self.days().known;
        if let Some(known) = known.filter(|known| known.from <= at && at < known.until) {
            return known.day;
        }
        let mut days = self.days.write().unwrap_or_else(PoisonError::into_inner);
        let day = at.to_zoned(days.zone.clone()).date();
        let next = day.tomorrow().ok().and_then(|next| days.begins(next));
        if let (Some(from), Some(until)) = (days.begins(day), next) {
            days.known = Some(KnownDay { day, from, until });
        }
        day
    }

    /// When a day begins.
    pub fn begins(&self, day: Date) -> Option<Timestamp> {
        let days = self.days();
        let next = days.known.filter(|known| known.day.tomorrow().ok() == Some(day));
        next.map(|known| known.until).or_else(|| days.begins(day))
    }

    fn now(&self) -> Tick {
        Tick(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// True where there is no key but those of the configuration.
    pub fn is_empty(&self) -> bool {
        self.read().keys.is_empty()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, KeyBook> {
        self.book.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whose key this is. The same work for any number of keys; what is compared is a hash that nobody can foresee.
    pub fn shown(&self, key: &[u8]) -> Option<Shown> {
        let signed_in = self.signed_in(key, Timestamp::now());
        if signed_in.is_some() {
            return signed_in;
        }
        let known = self.read();
        let name = self.named(&known, key)?;
        let account = known.keys.get(&name)?;
        let now = Timestamp::now();
        // What took its place is known by another hash.
        let by_old =
            account.row.old.as_ref().is_some_and(|old| old.1 <= now && self.is(&old.0, key));
        Some(match account.row.past(now) {
            Some(why) => Shown::Past(why),
            None if by_old => {
                Shown::Past(format!("the key `{name}` was replaced; use the new one"))
            }
            None => Shown::Good(name),
        })
    }

    fn named(&self, book: &KeyBook, key: &[u8]) -> Option<Arc<str>> {
        let known = self.pepper.get().and_then(|Pepper(pepper)| {
            book.by_hash.get(blake3::keyed_hash(pepper, key).as_bytes())
        });
        if known.is_some() || book.by_sha256.is_empty() {
            return known.cloned();
        }
        let sha256: [u8; 32] = Sha256::digest(key).into();
        book.by_sha256.get(&sha256).cloned()
    }

    fn is(&self, hash: &KeyHash, key: &[u8]) -> bool {
        match (hash.kind, self.pepper.get()) {
            (HashKind::Keyed, Some(Pepper(pepper))) => {
                blake3::keyed_hash(pepper, key) == blake3::Hash::from_bytes(hash.bytes)
            }
            (HashKind::Keyed, None) => false,
            (HashKind::Sha256, _) => {
                let sha256: [u8; 32] = Sha256::digest(key).into();
                blake3::Hash::from_bytes(sha256) == blake3::Hash::from_bytes(hash.bytes)
            }
        }
    }

    /// True if this is the key of somebody, whether it still lets in or not.
    pub fn holds(&self, key: &[u8]) -> bool {
        let known = self.read();
        // Those that we make are longer than most of what headers hold.
        let likely = key.len() >= SHORTEST || !known.by_sha256.is_empty();
        // One of ours is so also while nobody knows whose.
        if likely && self.is_awaited() && key.starts_with(BEGINS) {
            return true;
        }
        if likely && self.login_of(key).is_some() {
            return true;
        }
        likely && !known.keys.is_empty() && self.named(&known, key).is_some()
    }

    /// A key as it stands; none for callers that the configuration knows and nobody has set anything for.
    pub fn of(&self, name: &str) -> Option<Standing> {
        let known = self.read();
        let key = known.keys.get(name)?.clone();
        let team = key.row.settings.team.as_deref().and_then(|team| known.teams.get(team)).cloned();
        Some(Standing { key, team })
    }

    /// All keys, by their names.
    pub fn keys(&self) -> Vec<Arc<Account>> {
        let mut keys: Vec<_> = self.read().keys.values().cloned().collect();
        keys.sort_unstable_by(|a, b| a.row.name.cmp(&b.row.name));
        keys
    }

    /// All teams, by their names.
    pub fn teams(&self) -> Vec<Arc<Scope>> {
        let mut teams: Vec<_> = self.read().teams.values().cloned().collect();
        teams.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        teams
    }

    pub fn team(&self, name: &str) -> Option<Arc<Scope>> {
        self.read().teams.get(name).cloned()
    }

    /// Puts a key in place, as it now is. Who waits for room looks again.
    pub fn put(&self, row: KeyRow) {
        self.book.write().unwrap_or_else(PoisonError::into_inner).put(row).freed.notify_waiters();
    }

    /// Puts a team in place, as it now is.
    pub fn put_team(&self, row: TeamRow) {
        let mut book = self.book.write().unwrap_or_else(PoisonError::into_inner);
        book.put_team(row).freed.notify_waiters();
    }

    /// A team is gone.
    pub fn drop_team(&self, name: &str) {
        self.book.write().unwrap_or_else(PoisonError::into_inner).drop_team(name);
    }

    /// Adds what a request of somebody cost for whom nothing was held.
    pub fn spend(&self, caller: &Arc<str>, team: Option<&Arc<str>>, day: Date, cost: u64) {
        let add = |whose, name: &Arc<str>| {
            let known = self.read().known_tally(whose, name);
            let tally = known.unwrap_or_else(|| {
                self.book.write().unwrap_or_else(PoisonError::into_inner).tally(whose, name)
            });
            tally.meter.lock().unwrap_or_else(PoisonError::into_inner).add(day, cost);
        };
        if cost > 0 {
            add(Whose::Key, caller);
            if let Some(team) = team {
                add(Whose::Team, team);
            }
        }
    }

    /// Adds what a team has spent elsewhere.
    pub fn spend_of_team(&self, name: &str, day: Date, cost: u64) {
        let mut book = self.book.write().unwrap_or_else(PoisonError::into_inner);
        let tally = book.tally(Whose::Team, &name.into());
        tally.meter.lock().unwrap_or_else(PoisonError::into_inner).add(day, cost);
    }

    /// By how many tokens an upstream's count of a model's prompts and answers was above their bounds, at the most: what it adds of its own. None
    /// before it has told any.
    pub fn excess(&self, upstream: &str, model: &str) -> Option<[u64; 2]> {
        let known = self.excess.read().unwrap_or_else(PoisonError::into_inner);
        known.get(upstream)?.get(model).copied()
    }

    /// Takes in what an upstream told of a request.
    pub fn learn(&self, upstream: &str, model: &str, bound: [u64; 2], told: [u64; 2]) {
        let over = [
            told[0].saturating_sub(bound[0]).min(ADDED),
            told[1].saturating_sub(bound[1]).min(ADDED),
        ];
        let known = self.excess(upstream, model);
        let most = known.map_or(over, |known| [known[0].max(over[0]), known[1].max(over[1])]);
        if known != Some(most) {
            let mut excess = self.excess.write().unwrap_or_else(PoisonError::into_inner);
            let models = excess.entry(upstream.to_owned()).or_default();
            if models.len() < MODELS || known.is_some() {
                models.insert(model.to_owned(), most);
            }
        }
    }

    /// Why nobody with a budget can be served, if so.
    pub fn ready(&self) -> Result<(), Arc<str>> {
        self.read().ready.clone()
    }

    /// What somebody has spent in the period of this moment, in micro-dollars.
    pub fn spent_in(&self, caller: &Arc<str>, period: Period, now: Timestamp) -> u64 {
        let day = self.day(now);
        let tally = self.read().known_tally(Whose::Key, caller);
        tally.map_or(0, |tally| {
            tally.meter.lock().unwrap_or_else(PoisonError::into_inner).used(period, day).0
        })
    }

    /// What somebody has spent under a cap, and the caps that they are.
    pub fn spent(&self, scope: &Scope, now: Timestamp) -> Vec<Pressure> {
        let (day, meter) =
            (self.day(now), scope.tally.meter.lock().unwrap_or_else(PoisonError::into_inner));
        let of = |budget: &crate::cap::Budget| Pressure {
            whose: 0,
            budget: *budget,
            spent: meter.used(budget.period, day).0,
        };
        scope.caps.budgets.iter().map(of).collect()
    }

    /// The budget over somebody that matters most, and when it begins anew.
    pub fn pressing(&self, standing: &Standing) -> Option<(Pressure, Option<Timestamp>)> {
        let day = self.day(Timestamp::now());
        let own = standing.key.scope.tally.meter.lock().unwrap_or_else(PoisonError::into_inner);
        let team = standing.team.as_ref().map(|team| {
            (&team.caps, team.tally.meter.lock().unwrap_or_else(PoisonError::into_inner))
        });
        let mut over = vec![(&*standing.key.scope.caps, &*own)];
        over.extend(team.as_ref().map(|(caps, meter)| (&***caps, &**meter)));
        let most = pressing(&over, day)?;
        Some((most, most.budget.period.next(day).and_then(|day| self.begins(day))))
    }
}

impl KeyBook {
    fn tallies(&self) -> impl Iterator<Item = &Arc<Tally>> {
        let keys = self.keys.values().map(|key| &key.scope.tally);
        keys.chain(self.teams.values().map(|team| &team.tally)).chain(self.others.values())
    }

    fn known_tally(&self, whose: Whose, name: &Arc<str>) -> Option<Arc<Tally>> {
        let own = match whose {
            Whose::Key => self.keys.get(name).map(|key| &key.scope.tally),
            Whose::Team => self.teams.get(name).map(|team| &team.tally),
        };
        own.or_else(|| self.others.get(&(whose, name.clone()))).cloned()
    }

    fn tally(&mut self, whose: Whose, name: &Arc<str>) -> Arc<Tally> {
        let known = self.known_tally(whose, name);
        known.unwrap_or_else(|| self.others.entry((whose, name.clone())).or_default().clone())
    }

    /// The tally of one that is put in place: what it has used is the same as before.
    fn own_tally(&mut self, whose: Whose, name: &Arc<str>) -> Arc<Tally> {
        let known = self.known_tally(whose, name);
        self.others.remove(&(whose, name.clone()));
        known.unwrap_or_default()
    }

    fn put(&mut self, row: KeyRow) -> Arc<Tally> {
        let name = row.name.clone();
        if let Some(before) = self.keys.get(&name).cloned() {
            for hash in before.row.hashes() {
                let names = self.of_kind(hash.kind);
                if names.get(&hash.bytes) == Some(&name) {
                    names.remove(&hash.bytes);
                }
            }
        }
        for hash in row.hashes() {
            self.of_kind(hash.kind).insert(hash.bytes, name.clone());
        }
        let tally = self.own_tally(Whose::Key, &name);
        let (caps, own) = (row.settings.caps.clone(), tally.clone());
        let scope = Arc::new(Scope { name: name.clone(), caps, tally: own });
        self.keys.insert(name, Arc::new(Account { scope, row }));
        tally
    }

    fn of_kind(&mut self, kind: HashKind) -> &mut HashMap<[u8; 32], Arc<str>> {
        match kind {
            HashKind::Keyed => &mut self.by_hash,
            HashKind::Sha256 => &mut self.by_sha256,
        }
    }

    fn put_team(&mut self, row: TeamRow) -> Arc<Tally> {
        let name: Arc<str> = row.name.into();
        let tally = self.own_tally(Whose::Team, &name);
        let scope = Scope { name: name.clone(), caps: row.caps, tally: tally.clone() };
        self.teams.insert(name, Arc::new(scope));
        tally
    }

    /// What it has spent is known as before.
    fn drop_team(&mut self, name: &str) {
        if let Some((name, team)) = self.teams.remove_entry(name) {
            self.others.insert((Whose::Team, name), team.tally.clone());
        }
    }
}

#[cfg(test)]
mod tests;
