//! The table against `core::table`, cut off at every step, and used by processes that are killed.

mod damage;
mod killed;

use super::files;
use super::layout::*;
use super::memory::Memory;
use super::table::{Ask, Grant, Hash, Slot, Table, Who};
use crate::core::attempt::Attempt;
use crate::core::ids::{OwnerId, Ticket};
use crate::core::mode::Mode;
use crate::core::table::{self as model, Cancelled, Outcome};
use std::cell::Cell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::AtomicU32;

thread_local! {
    /// How many more words this thread may write, and whether its process dies then.
    static FUSE: Cell<Option<(u32, bool)>> = const { Cell::new(None) };
}

struct Cut;

/// Called before each write.
pub(super) fn step() {
    match FUSE.get() {
        None => {}
        Some((0, true)) => std::process::abort(),
        Some((0, false)) => {
            FUSE.set(None);
            resume_unwind(Box::new(Cut));
        }
        Some((left, dies)) => FUSE.set(Some((left - 1, dies))),
    }
}

/// Does something of which only the first `steps` writes happen; `None` if it was cut off.
fn cut<T>(steps: u32, act: impl FnOnce() -> T) -> Option<T> {
    FUSE.set(Some((steps, false)));
    let result = catch_unwind(AssertUnwindSafe(act));
    FUSE.set(None);
    result.ok()
}

const SEED: u64 = 1000;
const SLOTS_USED: u32 = 4;
const IDS: u32 = 3;

fn table() -> Table {
    let words: Vec<AtomicU32> = (0..WORDS).map(|_| AtomicU32::new(0)).collect();
    let table = Table::new(Memory::new(words.leak()), Box::new(|_, _| true));
    table.format(SEED);
    for number in 1..=SLOTS_USED {
        let slot = table
            .join(number, 7, "host", &|_| true, |_| true, &mut Vec::new())
            .unwrap();
        assert_eq!(slot.number, number);
    }
    table
}

fn hash(id: u32) -> Hash {
    // All in one bucket.
    let mut hash = [5; HASH_WORDS];
    hash[7] = id;
    hash
}

/// Longer than one record of text.
fn name(id: u32) -> String {
    format!("{}-{id}", "long".repeat(30))
}

/// All words but those of the log, as far as these tests use them.
fn dump(table: &Table) -> Vec<u32> {
    let used = (0..UNDO)
        .filter(|at| *at != UNDO_COUNT)
        .chain(SLOTS..SLOTS + 8 * SLOT_WORDS)
        .chain(BUCKETS..BUCKETS + BUCKET_COUNT)
        .chain(PLACES..PLACES + 16 * PLACE_WORDS)
        .chain(REQUESTS..REQUESTS + 64 * REQUEST_WORDS)
        .chain(TEXTS..TEXTS + 64 * TEXT_WORDS);
    used.map(|at| table.memory.load(at).unwrap()).collect()
}

/// Small numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Request(u32, u32, Mode, Attempt),
    Release(Ticket, u32),
    Cancel(Ticket, u32),
    Gone(u32),
}

#[derive(Debug, PartialEq)]
enum Said {
    Asked(Outcome),
    Released(bool),
    Cancelled(Cancelled<()>),
    Gone,
}

fn act(table: &Table, step: Step, granted: &mut Vec<Grant>) -> Said {
    match step {
        Step::Request(id, slot, mode, attempt) => {
            let ask = Ask {
                id: &name(id),
                hash: &hash(id),
                slot,
                mode,
                attempt,
                who: &Who {
                    number: 9,
                    label: Some("label".into()),
                    ..Who::default()
                },
            };
            Said::Asked(table.request(&ask, &|_| true, granted).unwrap())
        }
        Step::Release(ticket, slot) => Said::Released(table.release(ticket, slot, granted).unwrap()),
        Step::Cancel(ticket, slot) => Said::Cancelled(table.cancel(ticket, slot, granted).unwrap()),
        Step::Gone(slot) => {
            table.gone(slot, granted).unwrap();
            let back = table
                .join(slot, 7, "host", &|other: Slot| other.number != slot, |_| true, granted)
                .unwrap();
            assert_eq!(back.number, slot);
            Said::Gone
        }
    }
}

fn choose(random: &mut Random, known: &[(Ticket, u32)]) -> Step {
    let slot = random.below(SLOTS_USED as usize) as u32 + 1;
    let (ticket, owner) = match known.len() {
        0 => (Ticket::from_u64(1).unwrap(), 1),
        count => known[random.below(count)],
    };
    let owner = if random.below(10) == 0 { slot } else { owner };
    match random.below(20) {
        0 => Step::Gone(slot),
        1..=8 => {
            let mode = if random.below(2) == 0 {
                Mode::Shared
            } else {
                Mode::Exclusive
            };
            let attempt = if random.below(4) == 0 {
                Attempt::Try
            } else {
                Attempt::Wait
            };
            Step::Request(random.below(IDS as usize) as u32, slot, mode, attempt)
        }
        9..=15 => Step::Release(ticket, owner),
        _ => Step::Cancel(ticket, owner),
    }
}

#[test]
fn the_same_calls_have_the_same_answers_as_at_the_table_of_one_process() {
    let (table, mut other) = (table(), model::Table::new(SEED));
    let mut random = Random(0x1234_5678);
    let mut known: Vec<(Ticket, u32)> = Vec::new();
    let mut theirs: HashMap<Ticket, Ticket> = HashMap::new();
    for _ in 0..20_000 {
        let step = choose(&mut random, &known);
        let (mut granted, mut expected) = (Vec::new(), Vec::new());
        let said = act(&table, step, &mut granted);
        let twin = |ticket: Ticket| theirs.get(&ticket).copied().unwrap_or(ticket);
        match step {
            Step::Request(id, slot, mode, attempt) => {
                let outcome = other.request(&id.to_string(), OwnerId(slot), mode, attempt, ());
                let Said::Asked(said) = said else { panic!() };
                let pair = match (said, outcome) {
                    (Outcome::Busy, Outcome::Busy) => None,
                    (Outcome::Queued(mine), Outcome::Queued(its)) => Some((mine, its)),
                    (Outcome::Granted(mine, token), Outcome::Granted(its, expected)) if token == expected => {
                        Some((mine, its))
                    }
                    different => panic!("{step:?}: {different:?}"),
                };
                if let Some((mine, its)) = pair {
                    assert_eq!(theirs.insert(mine, its), None, "a ticket was given twice");
                    known.push((mine, slot));
                    if known.len() > 40 {
                        let gone = random.below(20);
                        known.remove(gone);
                    }
                }
            }
            Step::Release(ticket, slot) => {
                let released = other.release(twin(ticket), OwnerId(slot), &mut expected).is_ok();
                assert_eq!(said, Said::Released(released), "{step:?}");
            }
            Step::Cancel(ticket, slot) => {
                let cancelled = other.cancel(twin(ticket), OwnerId(slot), &mut expected);
                assert_eq!(said, Said::Cancelled(cancelled), "{step:?}");
            }
            Step::Gone(slot) => {
                // The order in which it gives things back is its own.
                other.owner_gone(OwnerId(slot), &mut expected);
                let key = |grant: &model::Grant| (grant.ticket, grant.owner);
                expected.sort_by_key(key);
                let mut mine: Vec<_> = granted
                    .iter()
                    .map(|grant| (theirs[&grant.ticket], OwnerId(grant.slot)))
                    .collect();
                mine.sort();
                assert_eq!(mine, expected.iter().map(key).collect::<Vec<_>>());
                // Tokens of several locks may have been given in another order; from here on they are the same again.
                granted.clear();
                expected.clear();
            }
        }
        let mine: Vec<_> = granted
            .iter()
            .map(|grant| (theirs[&grant.ticket], OwnerId(grant.slot), grant.token))
            .collect();
        let its: Vec<_> = expected
            .iter()
            .map(|grant| (grant.ticket, grant.owner, grant.token))
            .collect();
        assert_eq!(mine, its, "{step:?}");
        for id in 0..IDS {
            let (held, pending) = table.snapshot(&hash(id)).unwrap();
            let seen = other.snapshot(&id.to_string());
            let brief = |seen: &super::table::Seen| (seen.mode, seen.pid);
            assert_eq!(
                held.iter().map(brief).collect::<Vec<_>>(),
                seen.held
                    .iter()
                    .map(|seen| (seen.mode, seen.owner.0))
                    .collect::<Vec<_>>()
            );
            assert_eq!(
                pending.iter().map(brief).collect::<Vec<_>>(),
                seen.pending
                    .iter()
                    .map(|seen| (seen.mode, seen.owner.0))
                    .collect::<Vec<_>>()
            );
        }
    }
    assert!(
        table.memory.load(REQUEST_HIGH).unwrap() < 2_000,
        "records are used again"
    );
}

#[test]
fn a_call_that_is_cut_off_anywhere_and_undone_has_changed_nothing() {
    let table = table();
    let mut random = Random(0x9876_5432);
    let mut known: Vec<(Ticket, u32)> = Vec::new();
    let mut cuts = 0;
    for _ in 0..150 {
        let step = choose(&mut random, &known);
        if matches!(step, Step::Gone(_)) {
            continue;
        }
        if table.memory.load(REQUEST_HIGH).unwrap() > 60 {
            break;
        }
        let before = dump(&table);
        for steps in 0.. {
            let said = cut(steps, || act(&table, step, &mut Vec::new()));
            if let Some(said) = said {
                if let (
                    Said::Asked(Outcome::Granted(ticket, _) | Outcome::Queued(ticket)),
                    Step::Request(_, slot, ..),
                ) = (said, step)
                {
                    known.push((ticket, slot));
                }
                break;
            }
            // The one who undoes it may die as well, anywhere.
            for undone in (0..).step_by(3) {
                if cut(undone, || table.memory.roll_back().unwrap()).is_some() {
                    break;
                }
            }
            assert!(dump(&table) == before, "{step:?} cut off after {steps} writes");
            cuts += 1;
        }
    }
    assert!(cuts > 1_000, "{cuts}");
}

#[test]
fn a_process_that_is_cut_off_while_it_ends_another_one_leaves_the_rest_to_the_next() {
    let table = table();
    let mut random = Random(0x1357);
    for steps in 0..400 {
        let mut known = Vec::new();
        for _ in 0..12 {
            let mode = if random.below(2) == 0 {
                Mode::Shared
            } else {
                Mode::Exclusive
            };
            let slot = random.below(2) as u32 + 1;
            if let Said::Asked(Outcome::Granted(ticket, _) | Outcome::Queued(ticket)) = act(
                &table,
                Step::Request(random.below(2) as u32, slot, mode, Attempt::Wait),
                &mut Vec::new(),
            ) {
                known.push((ticket, slot));
            }
        }
        cut(steps, || table.gone(1, &mut Vec::new()).unwrap());
        table.memory.roll_back().unwrap();
        act(&table, Step::Gone(1), &mut Vec::new());
        for id in 0..2 {
            table.sweep(&hash(id), &|_| true, &mut Vec::new()).unwrap();
            let (held, pending) = table.snapshot(&hash(id)).unwrap();
            assert!(held.iter().chain(&pending).all(|seen| seen.pid == 2));
            assert!(pending.is_empty() || !held.is_empty(), "somebody waits for nobody");
            assert!(held.len() < 2 || held.iter().all(|seen| seen.mode == Mode::Shared));
        }
        for (ticket, slot) in known.into_iter().filter(|(_, slot)| *slot == 2) {
            if table.cancel(ticket, slot, &mut Vec::new()).unwrap() == Cancelled::AlreadyGranted {
                table.release(ticket, slot, &mut Vec::new()).unwrap();
            }
        }
        assert_eq!(
            table.memory.members(super::lists::List {
                ends: SLOTS + SLOT_WORDS + SLOT_REQUESTS,
                links: REQUEST_IN_SLOT
            }),
            Ok(Vec::new())
        );
    }
}

#[test]
fn all_locks_are_shown_with_their_ids_and_leave_no_text_behind() {
    let table = table();
    let ids = ["a".into(), "b".repeat(60), "c".repeat(61), "d".repeat(4096)];
    for _ in 0..3 {
        let mut tickets = Vec::new();
        for (number, id) in ids.iter().enumerate() {
            let ask = Ask {
                id,
                hash: &hash(number as u32),
                slot: 1,
                mode: Mode::Exclusive,
                attempt: Attempt::Wait,
                who: &Who::default(),
            };
            for slot in [1, 2] {
                match table.request(&Ask { slot, ..ask }, &|_| true, &mut Vec::new()).unwrap() {
                    Outcome::Granted(ticket, _) | Outcome::Queued(ticket) => tickets.push((slot, ticket)),
                    Outcome::Busy => unreachable!(),
                }
            }
        }
        let mut seen = table.snapshots().unwrap();
        seen.sort_by(|one, other| one.0.cmp(&other.0));
        let shown: Vec<_> = seen
            .iter()
            .map(|(id, (held, pending))| (id, held.len(), pending.len()))
            .collect();
        assert_eq!(shown, ids.iter().map(|id| (id, 1, 1)).collect::<Vec<_>>());
        for (slot, ticket) in tickets {
            assert!(table.release(ticket, slot, &mut Vec::new()).unwrap());
        }
        assert!(table.snapshots().unwrap().is_empty());
    }
    // 1 + 1 + 2 + 69 pieces, used again each time.
    assert_eq!(table.memory.load(TEXT_HIGH), Ok(73));
}

#[test]
fn a_long_run_of_readers_is_granted_to_the_last_one() {
    let table = table();
    let mut granted = Vec::new();
    let Said::Asked(Outcome::Granted(first, _)) = act(
        &table,
        Step::Request(0, 1, Mode::Exclusive, Attempt::Wait),
        &mut granted,
    ) else {
        panic!()
    };
    for _ in 0..1000 {
        act(&table, Step::Request(0, 2, Mode::Shared, Attempt::Wait), &mut granted);
    }
    assert!(table.release(first, 1, &mut granted).unwrap());
    assert_eq!(granted.len(), 1000);
}
