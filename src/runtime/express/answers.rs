//! What the server says in the lane.

use super::line::{Asked, Question};
use super::state::State;
use super::table::Stage;
use super::{Express, Over, Told};
use crate::backend::express::{self, Answer, News};
use crate::backend::{Attempt, Taken};
use crate::clock;
use crate::core::time::Moment;
use crate::runtime::commands::Call;
use std::time::Duration;

/// How long a lock counts as crowded that was found taken or awaited.
const CROWDED: Duration = Duration::from_secs(1);
/// How long the lane leaves a lock alone that the server said something else about.
const UNCLEAR: Duration = Duration::from_millis(20);

impl Express {
    /// Reads what came on a connection, and tells of at most `most` answers; what is left comes with the next call, for which
    /// `bytes` may be empty. `tell` is called while the lane is locked: it must not call the lane. Gives whether something is to be written
    /// now ([`Express::departing`]).
    ///
    /// # Errors
    /// [`Over`]: the connection is to be closed.
    pub fn read(&self, number: u32, bytes: &[u8], most: usize, tell: &mut dyn FnMut(Call, Told)) -> Result<bool, Over> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.lines.get_mut(&number).ok_or(Over)?.wire.feed(bytes);
        let mut told = 0;
        let mut answers = 0;
        while told < most {
            let line = state.lines.get_mut(&number).ok_or(Over)?;
            let Some(question) = line.questions.front() else { break };
            let kind = match question.asked {
                Asked::Greeting => express::Question::Greeting,
                Asked::Ask(_) => express::Question::Ask,
                Asked::Release(_) => express::Question::Release,
                Asked::HandOver(_) => express::Question::HandOver,
            };
            let Some(answer) = line.wire.answer(kind).map_err(|_| Over)? else {
                break;
            };
            let Some(question) = line.questions.pop_front() else {
                break;
            };
            answers += 1;
            let is_over = answer == Answer::Elsewhere;
            match question.asked {
                Asked::Greeting => {
                    let Answer::Welcome { client } = answer else {
                        return Err(Over);
                    };
                    line.greetings -= 1;
                    line.name.client = client.or(line.name.client);
                }
                Asked::Ask(call) => told += usize::from(self.asked(state, call, question, answer, tell)),
                Asked::Release(call) | Asked::HandOver(call) => {
                    told += usize::from(self.released(state, call, answer, tell));
                }
            }
            if is_over {
                return Err(Over);
            }
        }
        while told < most {
            let line = state.lines.get_mut(&number).ok_or(Over)?;
            // What nobody asked for would be taken for the answer to the next question.
            let unasked = line.questions.is_empty();
            let Some(news) = line.wire.news(unasked).map_err(|_| Over)? else {
                break;
            };
            told += usize::from(self.heard(state, news, tell));
        }
        let line = state.lines.get_mut(&number).ok_or(Over)?;
        line.is_crowded = answers > 1;
        Ok(!line.out.is_empty())
    }

    /// Whether JavaScript was told.
    fn asked(
        &self,
        state: &mut State,
        call: Call,
        question: Question,
        answer: Answer,
        tell: &mut dyn FnMut(Call, Told),
    ) -> bool {
        if let Some(answered) = question.answered {
            // Adopted meanwhile. The runtime may have forgotten it since.
            let _ = answered.send(true);
            return false;
        }
        let Some(entry) = state.table.get(call).filter(|entry| entry.stage == Stage::Asking) else {
            return false;
        };
        let now = clock::now();
        let key = entry.key.clone();
        match answer {
            Answer::Held { token } => {
                // What came too late for its lease is asked again.
                let leased_at = question.sent;
                if state.hold(call, Stage::Asking, Taken { token, leased_at }, now, tell) {
                    return true;
                }
            }
            Answer::Busy if entry.load.ask.attempt == Attempt::Try => {
                state.table.over(call);
                tell(call, Told::Busy);
                return true;
            }
            Answer::Busy => {
                let was_crowded = entry.is_crowded;
                state.table.crowded(&key, now + CROWDED);
                if !was_crowded && state.asks_to_wait(call, now) {
                    return false;
                }
            }
            Answer::Queued => {
                state.table.crowded(&key, now + CROWDED);
                if let Some(entry) = state.table.advance(call, Stage::Asking, Stage::Waiting) {
                    state.waiting.insert(entry.load.ask.owner.clone(), call);
                    return false;
                }
            }
            _ => state.table.shut(&key, now + UNCLEAR),
        }
        state.adopt(call, false, &self.commands);
        false
    }

    /// Whether JavaScript was told.
    fn released(&self, state: &mut State, call: Call, answer: Answer, tell: &mut dyn FnMut(Call, Told)) -> bool {
        let Some(entry) = state.table.get(call).filter(|entry| entry.stage == Stage::Releasing) else {
            return false;
        };
        match answer {
            Answer::Freed => {
                state.table.over(call);
                tell(call, Told::Done);
                return true;
            }
            Answer::Awaited => {
                let (key, now) = (entry.key.clone(), clock::now());
                state.table.crowded(&key, now + CROWDED);
                if state.hands_over(call, now) {
                    return false;
                }
            }
            // Not held any more, or unclear: the runtime finds out what that means.
            _ => {}
        }
        state.adopt(call, false, &self.commands);
        false
    }

    /// Whether JavaScript was told.
    fn heard(&self, state: &mut State, news: News, tell: &mut dyn FnMut(Call, Told)) -> bool {
        let (owner, grant) = match news {
            News::Granted { owner, token } => (owner, Some(token)),
            News::Changed { owner } => (owner, None),
        };
        // Others are with the runtime, which hears for itself.
        let Some(call) = state.waiting.get(&owner).copied() else {
            return false;
        };
        // It came after the answer that said to wait, so after the question.
        let asked = state.table.get(call).map(|entry| entry.load.sent);
        if let (Some(token), Some(leased_at)) = (grant, asked)
            && state.hold(call, Stage::Waiting, Taken { token, leased_at }, clock::now(), tell)
        {
            return true;
        }
        state.adopt(call, false, &self.commands);
        false
    }
}

impl State {
    /// The server granted; JavaScript is told, unless that came too late to be believed.
    fn hold(&mut self, call: Call, from: Stage, taken: Taken, now: Moment, tell: &mut dyn FnMut(Call, Told)) -> bool {
        if !self
            .table
            .get(call)
            .is_some_and(|entry| entry.load.ask.lease.begin(taken.leased_at, now))
        {
            return false;
        }
        let Some(entry) = self.table.advance(call, from, Stage::Held) else {
            return false;
        };
        let load = &mut entry.load;
        self.waiting.remove(&load.ask.owner);
        load.ask.stage.set(crate::backend::Stage::Held);
        load.sent = taken.leased_at;
        let token = taken.token.filter(|_| load.ask.fenced);
        tell(call, Told::Granted(token, load.ask.lease.clone()));
        true
    }

    /// The lock is taken, so the same is asked again, now with a place in the queue; false if nobody could tell of the grant here.
    fn asks_to_wait(&mut self, call: Call, now: Moment) -> bool {
        let Some(entry) = self.table.get_mut(call) else {
            return false;
        };
        let Some(line) = self.lines.get_mut(&entry.load.line).filter(|line| line.wire.listens()) else {
            return false;
        };
        entry.load.sent = now;
        line.wire.ask(&entry.load.ask, true, &mut line.out);
        line.expects(Asked::Ask(call), now);
        true
    }

    /// Somebody waits, so the release is made again by what hands the lock on.
    fn hands_over(&mut self, call: Call, now: Moment) -> bool {
        let Some(entry) = self.table.get(call) else {
            return false;
        };
        let Some(line) = self.lines.get_mut(&entry.load.line) else {
            return false;
        };
        line.wire.hand_over(&entry.load.ask, &mut line.out);
        line.expects(Asked::HandOver(call), now);
        true
    }
}
