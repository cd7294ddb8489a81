//! Garbage in the memory: calls fail, and none panics or runs for ever.

use super::super::layout::*;
use super::super::memory::Fault;
use super::super::table::{Ask, Who};
use super::{Random, SEED, Said, Step, act, hash, table};
use crate::core::attempt::Attempt;
use crate::core::mode::Mode;
use crate::core::table::Outcome;

#[test]
fn a_queue_that_leads_back_to_its_head_is_damage_and_no_endless_grant() {
    let table = table();
    let mut known = Vec::new();
    for (slot, mode) in [(1, Mode::Exclusive), (2, Mode::Shared), (3, Mode::Shared)] {
        match act(&table, Step::Request(0, slot, mode, Attempt::Wait), &mut Vec::new()) {
            Said::Asked(Outcome::Granted(ticket, _) | Outcome::Queued(ticket)) => known.push(ticket),
            other => panic!("{other:?}"),
        }
    }
    let head = REQUESTS + REQUEST_WORDS;
    // Its neighbours are it itself.
    table.memory.put(head + REQUEST_IN_PLACE, 2);
    table.memory.put(head + REQUEST_IN_PLACE + 1, 2);
    let mut granted = Vec::new();
    assert_eq!(table.release(known[0], 1, &mut granted), Err(Fault::Damaged));
    assert!(granted.is_empty());
}

#[test]
fn whatever_is_in_the_memory_no_call_panics_or_runs_for_ever() {
    let mut random = Random(0x2468);
    let table = table();
    for _ in 0..1000 {
        let mut known = Vec::new();
        for _ in 0..10 {
            let places = [
                random.below(UNDO),
                SLOTS + random.below(200),
                BUCKETS + 5,
                PLACES + random.below(100),
                REQUESTS + random.below(500),
                TEXTS + random.below(50),
            ];
            let value = if random.below(2) == 0 {
                random.below(20) as u32
            } else {
                random.0 as u32
            };
            table.memory.put(places[random.below(6)], value);
            let ask = Ask {
                id: "damaged",
                hash: &hash(0),
                slot: 1,
                mode: Mode::Shared,
                attempt: Attempt::Wait,
                who: &Who::default(),
            };
            if let Ok(Outcome::Granted(ticket, _) | Outcome::Queued(ticket)) =
                table.request(&ask, &|_| true, &mut Vec::new())
            {
                known.push(ticket);
            }
            let _ = table.memory.roll_back();
            let _ = table.snapshot(&hash(0));
            let _ = table.snapshots();
            let _ = table.gone(2, &mut Vec::new());
        }
        for ticket in known {
            let _ = table.release(ticket, 1, &mut Vec::new());
        }
        for at in (0..UNDO)
            .chain(SLOTS..SLOTS + 200)
            .chain(PLACES..PLACES + 200)
            .chain(REQUESTS..REQUESTS + 1000)
            .chain(TEXTS..TEXTS + 1000)
        {
            table.memory.put(at, 0);
        }
        table.memory.put(BUCKETS + 5, 0);
        table.format(SEED);
    }
}
