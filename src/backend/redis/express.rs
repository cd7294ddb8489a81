//! The express lane's language: the same scripts, calls and answers as on this backend's own connections.

use super::answer::{self, Message, Place, Standing};
use super::calls::Calls;
use super::connect;
use super::fault::{self, Cure};
use super::frame;
use super::script::Call;
use crate::backend::express::{Answer, Garbled, News, Question, Wire};
use crate::backend::{Ask, Attempt, Identity, Owner};
use crate::options::Tls;
use crate::url::Server;
use redis::{Cmd, PushKind, Value};
use std::collections::VecDeque;
use std::sync::Arc;

/// One connection's language; `None` where the bytes are not for JavaScript to move.
pub fn express(server: &Server, identity: &Arc<Identity>) -> Option<Box<dyn Wire>> {
    let plain = server.options.tls == Tls::Off;
    plain.then(|| Box::new(Express::new(server, identity)) as Box<dyn Wire>)
}

struct Express {
    server: Server,
    calls: Calls,
    /// Which of its own scripts the server is known to have; before that, they are sent whole.
    has_acquire: bool,
    has_release: bool,
    /// Answers to the greeting that are still to come; the last is to the subscription.
    greetings: usize,
    /// Whether grants for this connection's waiters come here.
    listens: bool,
    /// Where grants for this connection's waiters are published.
    channel: String,
    news: VecDeque<News>,
    /// What came and has not been read; everything before `read` has.
    came: Vec<u8>,
    read: usize,
}

impl Express {
    fn new(server: &Server, identity: &Arc<Identity>) -> Self {
        Self {
            server: server.clone(),
            calls: Calls::new(server, identity.clone()),
            has_acquire: false,
            has_release: false,
            greetings: 0,
            listens: false,
            channel: String::new(),
            news: VecDeque::new(),
            came: Vec::new(),
            read: 0,
        }
    }

    /// What comes next, if it has come whole.
    fn next(&mut self) -> Result<Option<Value>, Garbled> {
        let Some(length) = frame::length(&self.came[self.read..])? else {
            return Ok(None);
        };
        let value = redis::parse_redis_value(&self.came[self.read..self.read + length]);
        self.read += length;
        value.map(Some).map_err(|_| Garbled)
    }

    /// Something that nobody asked for: keeps what waiters want to know.
    fn pushed(&mut self, kind: &PushKind, data: &[Value]) {
        if *kind != PushKind::Message {
            return;
        }
        let text = data.get(1).and_then(answer::text);
        let Some((owner, message)) = text.and_then(answer::message) else {
            return;
        };
        let owner = Owner(owner.into());
        self.news.push_back(match message {
            Message::Granted { token, .. } => News::Granted { owner, token },
            Message::Moved(_) => News::Changed { owner },
            // The backend hears of it, on a channel of its own.
            Message::Stolen => return,
        });
    }

    fn greeted(&mut self, value: &Value) -> Option<Answer> {
        self.greetings = self.greetings.saturating_sub(1);
        if self.greetings > 0 {
            return connect::welcomed(value).map(|client| Answer::Welcome { client });
        }
        // Who may not subscribe has a lane all the same, but for waiting.
        self.listens = matches!(value, Value::Push { .. });
        Some(Answer::Welcome { client: None })
    }

    fn asked(&mut self, value: &Value) -> Option<Answer> {
        if let Value::Int(taken) = value {
            self.has_acquire = true;
            return Some(if *taken == 1 {
                Answer::Held { token: None }
            } else {
                Answer::Busy
            });
        }
        let (_, standing) = answer::acquired(value)?;
        match standing {
            Standing::Held { token } => Some(Answer::Held { token }),
            Standing::Busy => Some(Answer::Busy),
            // Where a 1.1.2 process holds the lock nobody will say when it is free.
            Standing::Queued(Place { foreign: false, .. }) => Some(Answer::Queued),
            Standing::Queued(_) | Standing::Gone => None,
        }
    }

    fn released(&mut self, value: &Value) -> Option<Answer> {
        let freed = answer::released(value)?;
        self.has_release = true;
        Some(if freed { Answer::Freed } else { Answer::Awaited })
    }

    /// By the whole script, which says nothing of the lane's own.
    fn handed_over(value: &Value) -> Option<Answer> {
        answer::released(value)?.then_some(Answer::Freed)
    }
}

impl Wire for Express {
    fn greet(&mut self, name: &str, out: &mut Vec<u8>) -> usize {
        self.channel = format!("IPC-Mutex-rpm:{name}");
        let mut commands = connect::greeting(&self.server, name);
        let mut subscribe = redis::cmd("SUBSCRIBE");
        subscribe.arg(&self.channel);
        commands.push(subscribe);
        for command in &commands {
            command.write_packed_command(out);
        }
        self.greetings = commands.len();
        self.greetings
    }

    fn listens(&self) -> bool {
        self.listens
    }

    fn ask(&mut self, ask: &Ask, may_queue: bool, out: &mut Vec<u8>) {
        let command = if may_queue {
            self.calls.join(ask, &self.channel).by_digest()
        } else if ask.fenced || ask.attempt == Attempt::Try {
            self.calls.acquire(ask, None).by_digest()
        } else {
            sent(&self.calls.acquire_simply(ask), self.has_acquire)
        };
        command.write_packed_command(out);
    }

    fn release(&mut self, ask: &Ask, out: &mut Vec<u8>) {
        if ask.fenced {
            return self.hand_over(ask, out);
        }
        sent(&self.calls.release_simply(ask), self.has_release).write_packed_command(out);
    }

    fn hand_over(&mut self, ask: &Ask, out: &mut Vec<u8>) {
        self.calls.release(ask).by_digest().write_packed_command(out);
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.came.drain(..self.read);
        self.read = 0;
        self.came.extend_from_slice(bytes);
    }

    fn answer(&mut self, question: Question) -> Result<Option<Answer>, Garbled> {
        let value = loop {
            match self.next()? {
                None => return Ok(None),
                Some(Value::Push { kind, data }) if question != Question::Greeting || kind != PushKind::Subscribe => {
                    self.pushed(&kind, &data);
                }
                Some(value) => break value,
            }
        };
        let understood = match question {
            Question::Greeting => self.greeted(&value),
            Question::Ask => self.asked(&value),
            Question::Release => self.released(&value),
            Question::HandOver => Self::handed_over(&value),
        };
        Ok(Some(understood.unwrap_or_else(|| {
            let Value::ServerError(error) = value else {
                return Answer::Unclear;
            };
            // The server may have forgotten the scripts.
            (self.has_acquire, self.has_release) = (false, false);
            match fault::cure(&error.into()) {
                Some(Cure::Connection) => Answer::Elsewhere,
                _ => Answer::Unclear,
            }
        })))
    }

    fn news(&mut self, unasked: bool) -> Result<Option<News>, Garbled> {
        while unasked && self.read < self.came.len() {
            if self.came[self.read] != b'>' {
                return Err(Garbled);
            }
            match self.next()? {
                Some(Value::Push { kind, data }) => self.pushed(&kind, &data),
                Some(_) => return Err(Garbled),
                None => break,
            }
        }
        Ok(self.news.pop_front())
    }
}

fn sent(call: &Call<'_>, is_known: bool) -> Cmd {
    if is_known { call.by_digest() } else { call.by_text() }
}

#[cfg(test)]
mod tests;
