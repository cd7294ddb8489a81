//! The lock table of a process, one thread, step by step: the word, the grants' ways, and input that makes no sense.

mod words;

use ipc_mutex::core::attempt::Attempt::{self, Try, Wait};
use ipc_mutex::core::ids::{OwnerId, Ticket, Token};
use ipc_mutex::core::mode::Mode::{self, Exclusive, Shared};
use ipc_mutex::core::table::{Cancelled, NotHeld, Outcome};
use ipc_mutex::local::words::{AtomicU32, CHUNK, Chunk, INFLATED};
use ipc_mutex::local::{self, Deliver, Granted, Handle, LocalTable, Opened, Stolen, Unknown, Who};
use proptest::prelude::*;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, Weak};

type Delivered = Vec<(OwnerId, Vec<Granted>)>;

/// What a steal has ended: owner, handle and ticket.
fn ended(stolen: &[Stolen]) -> Vec<(OwnerId, Handle, Option<Ticket>)> {
    stolen.iter().map(|one| (one.owner, one.handle, one.ticket)).collect()
}

/// Keeps what is delivered, and looks into the table while it is at it, which a held mutex would not survive.
#[derive(Default, Clone)]
struct Post {
    delivered: Arc<Mutex<Delivered>>,
    stolen: Arc<Mutex<Vec<Stolen>>>,
    table: Arc<OnceLock<Weak<LocalTable>>>,
}

impl Deliver for Post {
    fn granted(&self, owner: OwnerId, grants: &[Granted]) {
        if let Some(table) = self.table.get().and_then(Weak::upgrade) {
            assert!(
                grants
                    .iter()
                    .all(|grant| table.token(grant.ticket) == Some(grant.token))
            );
        }
        self.delivered.lock().unwrap().push((owner, grants.to_vec()));
    }

    fn stolen(&self, stolen: Stolen) {
        if let Some(table) = self.table.get().and_then(Weak::upgrade) {
            assert!(!table.holds(stolen.handle));
        }
        self.stolen.lock().unwrap().push(stolen);
    }
}

struct Bench {
    table: Arc<LocalTable>,
    post: Post,
}

impl Bench {
    fn new() -> Self {
        let post = Post::default();
        let table = Arc::new(LocalTable::new(0, Box::new(post.clone())));
        post.table.set(Arc::downgrade(&table)).unwrap();
        Self { table, post }
    }

    fn open(&self, id: &str, owner: OwnerId) -> Mutexed<'_> {
        let who = Who {
            label: Some(Arc::from("label")),
            thread: 3,
            pid: 77,
        };
        let opened = self.table.open(id, owner, who).unwrap();
        Mutexed {
            table: &self.table,
            owner,
            opened,
            words: self.table.chunk(opened.slot.chunk).unwrap(),
        }
    }

    /// The cookies that were delivered since the last call, by owner.
    fn delivered(&self) -> Vec<(OwnerId, Vec<u32>)> {
        let delivered = std::mem::take(&mut *self.post.delivered.lock().unwrap());
        delivered
            .into_iter()
            .map(|(owner, grants)| (owner, cookies(&grants)))
            .collect()
    }
}

/// An open mutex object.
struct Mutexed<'a> {
    table: &'a LocalTable,
    owner: OwnerId,
    opened: Opened,
    words: Chunk,
}

impl Mutexed<'_> {
    fn word(&self) -> &AtomicU32 {
        &self.words[self.opened.slot.offset as usize]
    }

    fn value(&self) -> u32 {
        self.word().load(Ordering::SeqCst)
    }

    fn take(&self) -> bool {
        words::take(self.word(), self.opened.handle)
    }

    fn ask(&self, mode: Mode, attempt: Attempt, cookie: u32) -> Outcome {
        self.table
            .request(self.opened.handle, mode, attempt, cookie, Some(1_000))
            .unwrap()
    }

    fn queue(&self, mode: Mode, cookie: u32) -> Ticket {
        match self.ask(mode, Wait, cookie) {
            Outcome::Queued(ticket) => ticket,
            other => panic!("cookie {cookie} got {other:?}"),
        }
    }

    fn hold(&self, mode: Mode) -> (Ticket, Token) {
        match self.ask(mode, Wait, 0) {
            Outcome::Granted(ticket, token) => (ticket, token),
            other => panic!("got {other:?}"),
        }
    }

    /// The caller's own cookies that the release lets in.
    fn release(&self, ticket: Ticket) -> Vec<u32> {
        let mut mine = Vec::new();
        self.table.release(ticket, self.owner, &mut mine).unwrap();
        cookies(&mine)
    }

    fn release_fast(&self) -> Result<Vec<u32>, NotHeld> {
        let mut mine = Vec::new();
        self.table.release_fast(self.opened.handle, &mut mine)?;
        Ok(cookies(&mine))
    }
}

fn cookies(grants: &[Granted]) -> Vec<u32> {
    grants.iter().map(|grant| grant.cookie).collect()
}

#[test]
fn those_in_the_line_of_a_holder_are_shown_before_all_others_and_end_with_its_thread() {
    let bench = Bench::new();
    let (a, b) = (bench.table.new_owner(), bench.table.new_owner());
    let (one, other) = (bench.open("id", a), bench.open("id", b));
    assert!(one.take());
    let line = &one.words[one.opened.slot.offset as usize + CHUNK];
    line.store(2, Ordering::SeqCst);
    let pending = || {
        let seen = bench.table.snapshot("id").pending;
        seen.into_iter().map(|info| info.owner).collect::<Vec<_>>()
    };
    assert_eq!(pending(), [a, a]);
    other.queue(Exclusive, 7);
    assert_eq!(pending(), [a, a, b]);
    bench.table.owner_gone(a);
    assert_eq!(line.load(Ordering::SeqCst), 0);
    assert_eq!(pending(), []);
    assert_eq!(bench.delivered(), [(b, vec![7])]);
}

#[test]
fn the_line_of_a_thread_that_ends_on_the_fast_path_is_forgotten() {
    let bench = Bench::new();
    let (a, b) = (bench.table.new_owner(), bench.table.new_owner());
    let (one, other) = (bench.open("id", a), bench.open("id", b));
    assert!(one.take());
    one.words[one.opened.slot.offset as usize + CHUNK].store(1, Ordering::SeqCst);
    bench.table.owner_gone(a);
    assert!(other.take());
    assert!(bench.table.snapshot("id").pending.is_empty());
}

#[test]
fn a_lock_that_nobody_else_wants_is_taken_and_freed_on_the_word_alone() {
    let bench = Bench::new();
    let mutex = bench.open("id", bench.table.new_owner());
    assert!(mutex.take());
    assert!(!mutex.take());
    assert_eq!(bench.table.requests(), 0);
    assert!(words::free(mutex.word(), mutex.opened.handle));
    assert_eq!(mutex.value(), 0);
}

#[test]
fn objects_and_owners_of_one_id_share_its_word_and_other_ids_do_not() {
    let bench = Bench::new();
    let (one, two) = (bench.table.new_owner(), bench.table.new_owner());
    let (a, b, c) = (bench.open("id", one), bench.open("id", two), bench.open("other", one));
    assert_eq!(a.opened.slot, b.opened.slot);
    assert_ne!(a.opened.slot, c.opened.slot);
    assert_ne!(a.opened.handle, b.opened.handle);
    assert!(a.take());
    assert!(!b.take());
    assert!(c.take());
}

#[test]
fn a_second_request_moves_the_hold_into_the_table_until_the_last_one_is_gone() {
    let bench = Bench::new();
    let mutex = bench.open("id", bench.table.new_owner());
    assert!(mutex.take());
    let second = mutex.queue(Exclusive, 2);
    assert_eq!(mutex.value(), INFLATED);
    assert!(!words::free(mutex.word(), mutex.opened.handle));
    assert_eq!(mutex.release_fast(), Ok(vec![2]));
    assert_eq!(mutex.release_fast(), Err(NotHeld));
    assert_eq!(mutex.value(), INFLATED);
    assert!(mutex.release(second).is_empty());
    assert_eq!(mutex.value(), 0);
    assert!(bench.delivered().is_empty());
}

#[test]
fn a_try_on_a_fast_hold_is_busy_and_leaves_the_word_alone() {
    let bench = Bench::new();
    let mutex = bench.open("id", bench.table.new_owner());
    assert!(mutex.take());
    assert_eq!(mutex.ask(Exclusive, Try, 0), Outcome::Busy);
    assert_eq!(mutex.ask(Shared, Try, 0), Outcome::Busy);
    assert!(words::free(mutex.word(), mutex.opened.handle));
    let (hold, _) = mutex.hold(Shared);
    assert_eq!(mutex.ask(Exclusive, Try, 0), Outcome::Busy);
    mutex.release(hold);
    assert_eq!(mutex.value(), 0);
}

#[test]
fn grants_to_the_caller_are_returned_and_those_to_others_delivered_in_order() {
    let bench = Bench::new();
    let (one, two, three) = (
        bench.table.new_owner(),
        bench.table.new_owner(),
        bench.table.new_owner(),
    );
    let (a, b, c) = (bench.open("id", one), bench.open("id", two), bench.open("id", three));
    assert!(a.take());
    for (mutex, cookie) in [(&b, 1), (&a, 2), (&c, 3), (&b, 4), (&a, 5)] {
        mutex.queue(Shared, cookie);
    }
    assert_eq!(a.release_fast(), Ok(vec![2, 5]));
    assert_eq!(bench.delivered(), [(two, vec![1, 4]), (three, vec![3])]);
}

#[test]
fn an_owner_that_goes_away_frees_words_holds_and_waits_and_is_refused_from_then_on() {
    let bench = Bench::new();
    let (gone, other) = (bench.table.new_owner(), bench.table.new_owner());
    let (fast, held, waiting) = (
        bench.open("fast", gone),
        bench.open("held", gone),
        bench.open("waiting", gone),
    );
    assert!(fast.take());
    held.hold(Shared);
    let mutex = bench.open("held", other);
    mutex.queue(Exclusive, 1);
    let waited_for = bench.open("waiting", other);
    assert!(waited_for.take());
    waiting.queue(Exclusive, 9);
    waited_for.queue(Exclusive, 2);
    bench.table.owner_gone(gone);
    assert_eq!(bench.delivered(), [(other, vec![1])]);
    assert_eq!(fast.value(), 0);
    assert_eq!(waited_for.release_fast(), Ok(vec![2]));
    assert_eq!(bench.table.handles(), 2);
    assert_eq!(bench.table.locks(), 2);
    assert_eq!(bench.table.open("fast", gone, Who::default()), Err(Unknown));
    assert_eq!(
        bench.table.request(fast.opened.handle, Exclusive, Wait, 0, None),
        Err(Unknown)
    );
    bench.table.owner_gone(gone);
}

#[test]
fn an_id_that_nobody_uses_costs_nothing() {
    let bench = Bench::new();
    let owner = bench.table.new_owner();
    for round in 0..100 {
        let mutex = bench.open(&format!("id{round}"), owner);
        assert_eq!(mutex.opened.slot.offset, 0);
        let (ticket, _) = mutex.hold(Shared);
        mutex.release(ticket);
        bench.table.close(mutex.opened.handle, &mut Vec::new()).unwrap();
    }
    assert_eq!(
        (bench.table.locks(), bench.table.requests(), bench.table.handles()),
        (0, 0, 0)
    );
}

#[test]
fn a_cancelled_wait_is_never_granted_and_one_that_was_granted_says_so() {
    let bench = Bench::new();
    let mutex = bench.open("id", bench.table.new_owner());
    assert!(mutex.take());
    let (second, third) = (mutex.queue(Exclusive, 2), mutex.queue(Exclusive, 3));
    let cancel = |ticket| bench.table.cancel(ticket, mutex.owner, &mut Vec::new());
    assert_eq!(cancel(second), Cancelled::Withdrawn(()));
    assert_eq!(cancel(second), Cancelled::Unknown);
    assert_eq!(mutex.release_fast(), Ok(vec![3]));
    assert_eq!(cancel(third), Cancelled::AlreadyGranted);
    assert!(mutex.release(third).is_empty());
    assert_eq!(mutex.value(), 0);
}

#[test]
fn a_fast_hold_gets_one_ticket_and_one_token_when_asked() {
    let bench = Bench::new();
    let mutex = bench.open("id", bench.table.new_owner());
    let handle = mutex.opened.handle;
    assert_eq!(bench.table.ticket_of(handle), None);
    assert!(mutex.take());
    let (ticket, token) = bench.table.ticket_of(handle).unwrap();
    assert_eq!(bench.table.ticket_of(handle), Some((ticket, token)));
    assert_eq!(bench.table.token(ticket), Some(token));
    assert!(mutex.release(ticket).is_empty());
    assert_eq!(bench.table.ticket_of(handle), None);
    assert!(mutex.take());
    assert!(bench.table.ticket_of(handle).unwrap().1 > token);
    assert_eq!(mutex.release_fast(), Ok(vec![]));
    assert_eq!(mutex.value(), 0);
}

#[test]
fn a_steal_ends_fast_holds_and_others_and_tells_their_owners() {
    let bench = Bench::new();
    let (a, b) = (bench.table.new_owner(), bench.table.new_owner());
    let (one, other) = (bench.open("id", a), bench.open("id", b));
    let steal = |by: &Mutexed<'_>| {
        let mut mine = Vec::new();
        match bench.table.steal(by.opened.handle, 9, None, &mut mine).unwrap() {
            Outcome::Granted(ticket, _) => (ticket, ended(&mine)),
            outcome => panic!("got {outcome:?}"),
        }
    };
    let told = || ended(&std::mem::take(&mut *bench.post.stolen.lock().unwrap()));
    assert!(one.take());
    let (thief, mine) = steal(&other);
    assert_eq!((mine, told()), (vec![], vec![(a, one.opened.handle, None)]));
    assert!(bench.table.is_held(thief) && !bench.table.holds(one.opened.handle));
    assert_eq!(one.release_fast(), Err(NotHeld));
    let waiting = one.queue(Exclusive, 7);
    let (second, mine) = steal(&one);
    assert_eq!((mine, told()), (vec![], vec![(b, other.opened.handle, Some(thief))]));
    let (third, mine) = steal(&one);
    assert_eq!((mine, told()), (vec![(a, one.opened.handle, Some(second))], vec![]));
    assert_eq!(one.release(third), [7]);
    assert!(one.release(waiting).is_empty());
    assert_eq!(one.value(), 0);
    assert!(one.take() && bench.table.holds(one.opened.handle));
    assert_eq!(bench.table.steal(Handle(77), 1, None, &mut Vec::new()), Err(Unknown));
}

#[test]
fn closing_a_handle_frees_the_word_and_hands_a_moved_hold_on() {
    let bench = Bench::new();
    let owner = bench.table.new_owner();
    let (a, b) = (bench.open("id", owner), bench.open("id", owner));
    assert!(a.take());
    bench.table.close(a.opened.handle, &mut Vec::new()).unwrap();
    assert_eq!(bench.table.close(a.opened.handle, &mut Vec::new()), Err(Unknown));
    assert!(b.take());
    let c = bench.open("id", owner);
    let wait = c.queue(Exclusive, 5);
    let mut mine = Vec::new();
    bench.table.close(b.opened.handle, &mut mine).unwrap();
    assert_eq!(cookies(&mine), [5]);
    bench.table.close(c.opened.handle, &mut Vec::new()).unwrap();
    // The ticket outlives its handle, and keeps the word from being given to another lock.
    let other = bench.open("other", owner);
    assert_ne!(other.opened.slot, c.opened.slot);
    assert!(c.release(wait).is_empty());
    assert_eq!((c.value(), bench.table.locks()), (0, 1));
}

#[test]
fn a_snapshot_shows_fast_holds_and_the_queue_with_their_labels() {
    let bench = Bench::new();
    let mutex = bench.open("id", bench.table.new_owner());
    assert!(bench.table.snapshot("id").held.is_empty());
    assert!(mutex.take());
    let fast = bench.table.snapshot("id").held;
    assert_eq!((fast.len(), fast[0].mode, fast[0].token), (1, Exclusive, None));
    mutex.queue(Shared, 2);
    let snapshot = bench.table.snapshot("id");
    assert_eq!(snapshot.held[0].tag.who, fast[0].tag.who);
    assert_eq!(snapshot.held[0].tag.who.label.as_deref(), Some("label"));
    let waiter = &snapshot.pending[0];
    assert_eq!(
        (waiter.mode, waiter.token, waiter.tag.since),
        (Shared, None, Some(1_000))
    );
    assert_eq!((waiter.tag.who.thread, waiter.tag.who.pid), (3, 77));
    assert!(bench.table.snapshot("unknown").held.is_empty());
}

#[test]
fn words_stay_where_they_are_when_there_are_more() {
    let bench = Bench::new();
    let owner = bench.table.new_owner();
    let first = bench.open("first", owner);
    let address = first.words.as_ptr();
    assert!(first.take());
    let many: Vec<_> = (0..CHUNK)
        .map(|number| bench.open(&format!("id{number}"), owner))
        .collect();
    assert_eq!(many.last().unwrap().opened.slot.chunk, 1);
    assert_eq!(bench.table.chunk(0).unwrap().as_ptr(), address);
    assert!(bench.table.chunk(2).is_none());
    assert!(words::free(first.word(), first.opened.handle));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn numbers_that_make_no_sense_are_answered_with_errors(number in any::<u64>(), small in any::<u32>(), id in ".*") {
        let bench = Bench::new();
        let mutex = bench.open("id", bench.table.new_owner());
        let (hold, token) = mutex.hold(Exclusive);
        let wait = mutex.queue(Exclusive, 1);
        let mut mine = Vec::new();
        if let Some(ticket) = Ticket::from_u64(number).filter(|ticket| ![hold, wait].contains(ticket)) {
            prop_assert_eq!(bench.table.release(ticket, mutex.owner, &mut mine), Err(NotHeld));
            prop_assert_eq!(bench.table.cancel(ticket, mutex.owner, &mut mine), Cancelled::Unknown);
            prop_assert_eq!(bench.table.token(ticket), None);
        }
        if Handle(small) != mutex.opened.handle {
            let handle = Handle(small);
            prop_assert_eq!(bench.table.request(handle, Exclusive, Wait, 0, None), Err(Unknown));
            prop_assert_eq!(bench.table.release_fast(handle, &mut mine), Err(NotHeld));
            prop_assert_eq!(bench.table.close(handle, &mut mine), Err(Unknown));
            prop_assert_eq!(bench.table.ticket_of(handle), None);
        }
        let stranger = OwnerId(small);
        if stranger != mutex.owner {
            prop_assert_eq!(bench.table.release(hold, stranger, &mut mine), Err(NotHeld));
            prop_assert_eq!(bench.table.cancel(wait, stranger, &mut mine), Cancelled::Unknown);
            prop_assert_eq!(bench.table.open(&id, stranger, Who::default()), Err(Unknown));
            bench.table.owner_gone(stranger);
        }
        prop_assert!(bench.table.chunk(small.max(1)).is_none());
        bench.table.snapshot(&id);
        prop_assert!(mine.is_empty());
        prop_assert_eq!(bench.table.token(hold), Some(token));
        prop_assert_eq!(mutex.release(hold), vec![1]);
    }
}
