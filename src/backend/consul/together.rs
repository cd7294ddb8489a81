//! Transactions that free locks, several in one. Whoever gives up hundreds of locks at once would otherwise wait for as many answers one after
//! another, and the server for as many writes to its disk.
//!
//! Each part checks keys of its own and nothing that another part writes, so it does not matter for it who else is in. If the whole is refused, the
//! parts that were at fault are told so, and the others, of which nothing was done, go again.

use super::fault::Fault;
use super::http::{Lane, Link};
use super::txn::{self, Objection, Op, Outcome};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use tokio::sync::oneshot;

/// How many transactions are under way at a time.
const AT_ONCE: usize = 4;

type Answer = Result<Outcome, Fault>;

struct Part {
    ops: Vec<Op>,
    answer: oneshot::Sender<Answer>,
}

#[derive(Default)]
pub struct Together {
    waiting: RefCell<VecDeque<Part>>,
    under_way: Cell<usize>,
}

impl Together {
    /// Sends these operations, alone or with those of others. What comes back is about these only, but for the keys that were read.
    pub async fn send(self: &Rc<Self>, link: &Rc<Link>, ops: Vec<Op>) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.waiting.borrow_mut().push_back(Part { ops, answer });
        if self.under_way.get() < AT_ONCE {
            self.under_way.set(self.under_way.get() + 1);
            let (me, link) = (self.clone(), link.clone());
            tokio::task::spawn_local(async move {
                while let Some(parts) = me.next() {
                    me.exchange(&link, parts).await;
                }
                me.under_way.set(me.under_way.get() - 1);
            });
        }
        answered
            .await
            .unwrap_or_else(|_| Err(link.peer.away("the connection was closed".into())))
    }

    fn next(&self) -> Option<Vec<Part>> {
        let mut waiting = self.waiting.borrow_mut();
        let mut parts = Vec::new();
        let mut room = txn::MOST;
        while let Some(left) = waiting.front().and_then(|part| room.checked_sub(part.ops.len())) {
            room = left;
            parts.extend(waiting.pop_front());
        }
        (!parts.is_empty()).then_some(parts)
    }

    async fn exchange(&self, link: &Link, parts: Vec<Part>) {
        let ops: Vec<Op> = parts.iter().flat_map(|part| part.ops.iter().cloned()).collect();
        let answer = link.txn(Lane::Call, &ops).await;
        if parts.len() > 1 && matches!(&answer, Err(fault) if !fault.unanswered) {
            // It may be about one of the keys only, such as a right that is missing.
            for part in parts {
                let _ = part.answer.send(link.txn(Lane::Call, &part.ops).await);
            }
            return;
        }
        let Ok(Outcome::Refused(why)) = &answer else {
            for part in parts {
                // Whoever asked may not wait any more.
                let _ = part.answer.send(answer.clone());
            }
            return;
        };
        let sizes: Vec<usize> = parts.iter().map(|part| part.ops.len()).collect();
        for (part, verdict) in parts.into_iter().zip(verdicts(&sizes, why)) {
            match verdict {
                Some(objections) => drop(part.answer.send(Ok(Outcome::Refused(objections)))),
                None => self.waiting.borrow_mut().push_back(part),
            }
        }
    }
}

/// What each part of a refused transaction is told; `None` if it was not at fault. One part is, at least.
fn verdicts(sizes: &[usize], why: &[Objection]) -> Vec<Option<Vec<Objection>>> {
    let mut next = 0;
    let mut told: Vec<Vec<Objection>> = Vec::new();
    for size in sizes {
        let own = next..next + size;
        next = own.end;
        let objections = why.iter().filter(|objection| own.contains(&objection.op_index));
        told.push(
            objections
                .map(|objection| Objection {
                    op_index: objection.op_index - own.start,
                    what: objection.what.clone(),
                })
                .collect(),
        );
    }
    let is_known = told.iter().any(|objections| !objections.is_empty());
    told.into_iter()
        .map(|objections| (!objections.is_empty() || !is_known).then_some(objections))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objection(op_index: usize) -> Objection {
        Objection {
            op_index,
            what: format!("no {op_index}"),
        }
    }

    #[test]
    fn who_is_at_fault_is_told_and_the_others_go_again() {
        let told = verdicts(&[3, 2, 3], &[objection(4), objection(3)]);
        let own = told[1].as_deref().unwrap();
        assert_eq!(own.iter().map(|why| why.op_index).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(own[0].what, "no 4");
        assert!(told[0].is_none() && told[2].is_none());
    }

    #[test]
    fn a_refusal_that_names_nobody_is_told_to_all() {
        assert!(verdicts(&[3, 3], &[]).iter().all(Option::is_some));
        assert!(verdicts(&[3, 3], &[objection(6)]).iter().all(Option::is_some));
    }
}
