//! A connection of the lane: what was asked on it and not answered yet.
//!
//! JavaScript owns the socket, so it alone decides whether there is a connection: it gets the number with the greeting, gives it with each
//! call that may go by the lane, and says when it is over. A number that is not known here, or no number, means that there is none.

use crate::backend::express::{Name, Wire};
use crate::core::time::Moment;
use crate::runtime::commands::{Call, EnvId};
use std::collections::VecDeque;
use std::mem;
use std::time::Duration;
use tokio::sync::watch;

/// So many questions leave without waiting for others: the server works on them while this thread makes the next.
const FULL: usize = 4;

/// What an answer will be to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Greeting,
    Ask(Call),
    Release(Call),
    HandOver(Call),
}

pub struct Question {
    pub asked: Asked,
    pub sent: Moment,
    /// Tells the runtime, which has adopted the ask, that nothing of it is on its way any more. Dropped untold when the
    /// connection ends first.
    pub answered: Option<watch::Sender<bool>>,
}

pub struct Line {
    pub env: EnvId,
    pub lane: u32,
    pub name: Name,
    pub wire: Box<dyn Wire>,
    /// Answers to the greeting that are still to come.
    pub greetings: usize,
    pub questions: VecDeque<Question>,
    /// Bytes for the next write.
    pub out: Vec<u8>,
    /// How many questions are in them.
    pub gathered: usize,
    /// Several answers came in one piece: others will be asking as well, and one write serves them all.
    pub is_crowded: bool,
}

/// What is to be done with what was asked.
#[derive(Debug, PartialEq, Eq)]
pub enum Departure {
    /// Write this at once.
    Now(Vec<u8>),
    /// Let it go with the others, at the end of the turn.
    Together,
}

impl Line {
    /// Greeted, and not without an answer for longer than `patience`.
    pub fn is_open(&self, now: Moment, patience: Duration) -> bool {
        self.greetings == 0
            && self
                .questions
                .front()
                .is_none_or(|oldest| now.since(oldest.sent) < patience)
    }

    /// A question whose bytes are in `out` leaves with what else does.
    pub fn expects(&mut self, asked: Asked, sent: Moment) {
        self.questions.push_back(Question {
            asked,
            sent,
            answered: None,
        });
    }

    pub fn asks(&mut self, asked: Asked, sent: Moment) -> Departure {
        let is_quiet = self.questions.is_empty() && !self.is_crowded;
        self.expects(asked, sent);
        self.gathered += 1;
        if is_quiet || self.gathered >= FULL {
            Departure::Now(self.departs())
        } else {
            Departure::Together
        }
    }

    /// What is to be written now.
    pub fn departs(&mut self) -> Vec<u8> {
        self.gathered = 0;
        mem::take(&mut self.out)
    }

    /// A receiver that hears when the ask has been answered; `None` if it has been.
    pub fn watch(&mut self, call: Call) -> Option<watch::Receiver<bool>> {
        let question = self
            .questions
            .iter_mut()
            .find(|question| question.asked == Asked::Ask(call))?;
        let (sender, receiver) = watch::channel(false);
        question.answered = Some(sender);
        Some(receiver)
    }
}
