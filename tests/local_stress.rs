//! Threads that contend for a few locks in every way there is, some of them dying on the way; afterwards their histories
//! are checked against each other.

mod words;

use ipc_mutex::core::attempt::Attempt;
use ipc_mutex::core::ids::{OwnerId, Ticket, Token};
use ipc_mutex::core::mode::Mode;
use ipc_mutex::core::table::{Cancelled, Outcome};
use ipc_mutex::local::words::{AtomicU32, Chunk};
use ipc_mutex::local::{self, Deliver, Granted, LocalTable, Opened, Who};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

const THREADS: u64 = 4;
const GRANTS: u64 = 200_000;
const IDS: [&str; 3] = ["a", "b", "c"];
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the grants of all owners arrive.
#[derive(Default)]
struct Post {
    arrived: Mutex<HashMap<OwnerId, Vec<Granted>>>,
    news: Condvar,
}

struct Poster(Arc<Post>);

impl Deliver for Poster {
    fn granted(&self, owner: OwnerId, grants: &[Granted]) {
        self.0
            .arrived
            .lock()
            .unwrap()
            .entry(owner)
            .or_default()
            .extend_from_slice(grants);
        self.0.news.notify_all();
    }
}

/// One hold, in the order of a clock that all threads share.
#[derive(Debug, Clone, Copy)]
struct Held {
    id: usize,
    mode: Mode,
    token: Option<Token>,
    from: u64,
    to: u64,
}

struct Shared {
    table: LocalTable,
    post: Arc<Post>,
    clock: AtomicU64,
    grants: AtomicU64,
}

impl Shared {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }
}

/// What a request became, or is about to become.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Fast,
    Held(Ticket, Token),
    Queued(Ticket),
}

/// A thread with its environment, which is a new one after each death.
struct Thread<'a> {
    shared: &'a Shared,
    owner: OwnerId,
    opened: Vec<(Opened, Chunk)>,
    /// Grants that are there but not yet waited for.
    arrived: HashMap<Ticket, Token>,
    history: Vec<Held>,
    random: u64,
}

impl<'a> Thread<'a> {
    fn new(shared: &'a Shared, seed: u64) -> Self {
        let mut thread = Self {
            shared,
            owner: OwnerId(0),
            opened: Vec::new(),
            arrived: HashMap::new(),
            history: Vec::new(),
            random: seed,
        };
        thread.be_born();
        thread
    }

    fn be_born(&mut self) {
        let table = &self.shared.table;
        self.owner = table.new_owner();
        self.arrived.clear();
        let open = |id: &&str| {
            let opened = table.open(id, self.owner, Who::default()).unwrap();
            (opened, table.chunk(opened.slot.chunk).unwrap())
        };
        self.opened = IDS.iter().map(open).collect();
    }

    fn die(&mut self) {
        self.shared.table.owner_gone(self.owner);
        self.shared.post.arrived.lock().unwrap().remove(&self.owner);
        self.be_born();
    }

    /// xorshift64: the same course for the same seed, as far as the scheduler permits.
    fn one_in(&mut self, odds: u64) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.is_multiple_of(odds)
    }

    fn word(&self, id: usize) -> &AtomicU32 {
        let (opened, words) = &self.opened[id];
        &words[opened.slot.offset as usize]
    }

    fn ask(&self, id: usize, mode: Mode, attempt: Attempt) -> Option<Asked> {
        let handle = self.opened[id].0.handle;
        if mode == Mode::Exclusive && words::take(self.word(id), handle) {
            return Some(Asked::Fast);
        }
        match self.shared.table.request(handle, mode, attempt, 7, None).unwrap() {
            Outcome::Granted(ticket, token) => Some(Asked::Held(ticket, token)),
            Outcome::Queued(ticket) => Some(Asked::Queued(ticket)),
            Outcome::Busy => None,
        }
    }

    fn wait(&mut self, ticket: Ticket) -> Token {
        let post = &self.shared.post;
        let deadline = Instant::now() + PATIENCE;
        let mut arrived = post.arrived.lock().unwrap();
        loop {
            for grant in arrived.entry(self.owner).or_default().drain(..) {
                assert_eq!((grant.owner, grant.cookie), (self.owner, 7));
                self.arrived.insert(grant.ticket, grant.token);
            }
            if let Some(token) = self.arrived.remove(&ticket) {
                return token;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the grant of {ticket:?} was lost");
            arrived = post.news.wait_timeout(arrived, left).unwrap().0;
        }
    }

    /// Whether this thread survived the hold.
    fn work_and_release(&mut self, id: usize, mode: Mode, mut asked: Asked) -> bool {
        let table = &self.shared.table;
        let handle = self.opened[id].0.handle;
        let from = self.shared.tick();
        if let Asked::Fast = asked
            && self.one_in(20)
        {
            let (ticket, token) = table.ticket_of(handle).unwrap();
            asked = Asked::Held(ticket, token);
        }
        if self.one_in(50) {
            // Others get their turn to find the lock taken.
            std::thread::yield_now();
        }
        let to = self.shared.tick();
        let token = match asked {
            Asked::Held(_, token) => Some(token),
            _ => None,
        };
        self.history.push(Held {
            id,
            mode,
            token,
            from,
            to,
        });
        self.shared.grants.fetch_add(1, Ordering::Relaxed);
        if self.one_in(300) {
            self.die();
            return false;
        }
        let mut mine = Vec::new();
        match asked {
            Asked::Fast => {
                if !words::free(self.word(id), handle) {
                    table.release_fast(handle, &mut mine).unwrap();
                }
            }
            Asked::Held(ticket, _) => table.release(ticket, self.owner, &mut mine).unwrap(),
            Asked::Queued(_) => panic!("nothing was held"),
        }
        self.arrived
            .extend(mine.iter().map(|grant| (grant.ticket, grant.token)));
        true
    }

    /// Asks up to three times in a row for one lock, as the code of one turn may do, then takes what comes, in order.
    fn round(&mut self) {
        let id = if self.one_in(2) {
            0
        } else {
            1 + usize::from(self.one_in(3))
        };
        let mode = if self.one_in(3) { Mode::Shared } else { Mode::Exclusive };
        let attempt = if self.one_in(5) { Attempt::Try } else { Attempt::Wait };
        let burst = if attempt == Attempt::Wait && self.one_in(3) {
            3
        } else {
            1
        };
        let burst: Vec<_> = (0..burst).filter_map(|_| self.ask(id, mode, attempt)).collect();
        if self.one_in(500) {
            self.die();
            return;
        }
        for asked in burst {
            let held = match asked {
                Asked::Queued(ticket) if self.one_in(10) => {
                    let mut mine = Vec::new();
                    let cancelled = self.shared.table.cancel(ticket, self.owner, &mut mine);
                    self.arrived
                        .extend(mine.iter().map(|grant| (grant.ticket, grant.token)));
                    match cancelled {
                        Cancelled::Withdrawn(()) => continue,
                        Cancelled::AlreadyGranted => Asked::Held(ticket, self.wait(ticket)),
                        Cancelled::Unknown => panic!("{ticket:?} was queued"),
                    }
                }
                Asked::Queued(ticket) => Asked::Held(ticket, self.wait(ticket)),
                held => held,
            };
            if !self.work_and_release(id, mode, held) {
                return;
            }
        }
    }

    fn run(mut self) -> Vec<Held> {
        while self.shared.grants.load(Ordering::Relaxed) < GRANTS {
            self.round();
        }
        self.shared.table.owner_gone(self.owner);
        self.history
    }
}

/// Panics if two holds of one lock overlap of which one is exclusive, or if a token is not larger than all before it.
fn check(history: &[Held]) {
    let (mut exclusive_until, mut anybody_until) = (None, None);
    let mut largest = None;
    for held in history {
        let until = match held.mode {
            Mode::Exclusive => anybody_until,
            Mode::Shared => exclusive_until,
        };
        assert!(until < Some(held.from), "{held:?} overlaps");
        if held.mode == Mode::Exclusive {
            exclusive_until = Some(held.to);
            assert!(
                held.token.is_none() || held.token > largest,
                "{held:?} has a late token"
            );
        }
        anybody_until = anybody_until.max(Some(held.to));
        largest = largest.max(held.token);
    }
}

#[test]
fn threads_that_contend_cancel_and_die_never_hold_together_and_lose_no_grant() {
    let post = Arc::new(Post::default());
    let shared = Shared {
        table: LocalTable::new(0, Box::new(Poster(post.clone()))),
        post,
        clock: AtomicU64::new(0),
        grants: AtomicU64::new(0),
    };
    let observer = shared.table.new_owner();
    let opened = IDS.map(|id| shared.table.open(id, observer, Who::default()).unwrap());
    let mut history: Vec<Held> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=THREADS)
            .map(|number| {
                let thread = Thread::new(&shared, 0x9E37_79B9 * number);
                scope.spawn(move || thread.run())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(history.len() as u64 >= GRANTS);
    history.sort_by_key(|held| held.from);
    for (id, opened) in opened.iter().enumerate() {
        let own: Vec<_> = history.iter().filter(|held| held.id == id).copied().collect();
        assert!(
            own.iter().any(|held| held.token.is_none()),
            "the fast path was never used"
        );
        assert!(own.iter().any(|held| held.token.is_some()), "the table was never used");
        check(&own);
        let chunk = shared.table.chunk(opened.slot.chunk).unwrap();
        assert_eq!(chunk[opened.slot.offset as usize].load(Ordering::SeqCst), 0);
    }
    assert_eq!(
        (shared.table.requests(), shared.table.handles(), shared.table.locks()),
        (0, IDS.len(), IDS.len())
    );
}

#[test]
fn the_check_of_histories_finds_overlaps_and_late_tokens() {
    let held = |mode, token: Option<u64>, from, to| Held {
        id: 0,
        mode,
        token: token.map(Token),
        from,
        to,
    };
    check(&[
        held(Mode::Shared, Some(1), 0, 5),
        held(Mode::Shared, Some(2), 1, 9),
        held(Mode::Exclusive, Some(3), 10, 11),
    ]);
    let bad = [
        [held(Mode::Exclusive, None, 0, 5), held(Mode::Exclusive, None, 4, 9)],
        [held(Mode::Shared, None, 0, 5), held(Mode::Exclusive, None, 4, 9)],
        [held(Mode::Exclusive, None, 0, 5), held(Mode::Shared, None, 4, 9)],
        [
            held(Mode::Exclusive, Some(2), 0, 5),
            held(Mode::Exclusive, Some(1), 6, 9),
        ],
    ];
    for history in bad {
        assert!(
            std::panic::catch_unwind(|| check(&history)).is_err(),
            "{history:?} passed"
        );
    }
}
