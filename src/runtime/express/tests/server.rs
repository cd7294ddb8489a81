//! A server that is simple enough to be right, other processes at it, and the bytes that go to it and come from it.

use super::world::{World, id_of};
use std::collections::{HashMap, HashSet, VecDeque};

/// What the owners of other processes begin with.
pub const STRANGER: &str = "stranger";

/// One lock at the server.
#[derive(Default)]
pub struct Lock {
    pub holder: Option<String>,
    /// Each with the channel on which it listens, if that is one of the lane.
    pub queue: VecDeque<(String, Option<String>)>,
}

impl Lock {
    pub fn has_stranger(&self) -> bool {
        let waiting = self.queue.iter().map(|(owner, _)| owner);
        self.holder
            .iter()
            .chain(waiting)
            .any(|owner| owner.starts_with(STRANGER))
    }
}

/// Whom the server knows. An owner that was given up must never ask again.
#[derive(Default)]
pub struct Redis {
    pub locks: HashMap<String, Lock>,
    pub finished: HashSet<String>,
}

impl Redis {
    /// Whether the owner holds the lock now.
    pub fn acquire(&mut self, id: &str, owner: &str, may_queue: bool, channel: Option<&str>) -> bool {
        assert!(!self.finished.contains(owner), "{owner} was given up and asks");
        let lock = self.locks.entry(id.into()).or_default();
        if lock.holder.is_none() && lock.queue.is_empty() {
            lock.holder = Some(owner.into());
        }
        let holds = lock.holder.as_deref() == Some(owner);
        if !holds && may_queue {
            let channel = channel.map(str::to_owned);
            match lock.queue.iter_mut().find(|(other, _)| other == owner) {
                // The runtime's question sets the place; the lane's only joins.
                Some(place) => place.1 = place.1.take().and(channel),
                None => lock.queue.push_back((owner.into(), channel)),
            }
        }
        holds
    }

    pub fn acquire_free(&mut self, id: &str, owner: &str) -> bool {
        self.locks.entry(id.into()).or_default().holder.is_none() && self.acquire(id, owner, false, None)
    }

    pub fn is_awaited(&self, id: &str) -> bool {
        self.locks.get(id).is_some_and(|lock| !lock.queue.is_empty())
    }

    /// Whether the owner held the lock, and who has it now if that is to be told.
    pub fn release(&mut self, id: &str, owner: &str) -> (bool, Option<(String, String)>) {
        let lock = self.locks.entry(id.into()).or_default();
        lock.queue.retain(|(other, _)| other != owner);
        if lock.holder.as_deref() != Some(owner) {
            return (false, None);
        }
        let next = lock.queue.pop_front();
        lock.holder = next.as_ref().map(|(next, _)| next.clone());
        (true, next.and_then(|(next, channel)| Some((next, channel?))))
    }
}

impl World {
    /// The server does what is next on a connection.
    pub fn serve(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        let Some(words) = connection.requests.pop_front() else {
            return;
        };
        let reply = match words[0].as_str() {
            "HELLO" => format!("%1\r\n$2\r\nid\r\n:{}\r\n", connection.client),
            "SUBSCRIBE" => format!(">3\r\n$9\r\nsubscribe\r\n{}:1\r\n", bulk(&words[1])),
            "EVAL" | "EVALSHA" => {
                let id = words[3].strip_suffix("/lock.IPC-Mutex-rpm").unwrap().to_owned();
                let keys: usize = words[2].parse().unwrap();
                let arguments = &words[3 + keys..];
                let owner = |value: &str| value.split(' ').nth(1).unwrap().to_owned();
                match (keys, arguments) {
                    // The lane's own release: not while somebody waits.
                    (3, [_]) if self.redis.is_awaited(&id) => ":0\r\n".to_owned(),
                    (3, [value]) => format!(":{}\r\n", i32::from(self.free(&id, &owner(value)))),
                    // Its own acquire: not for who has something already.
                    (2, [value, _ttl]) => format!(":{}\r\n", i32::from(self.redis.acquire_free(&id, &owner(value)))),
                    (_, [owner]) => format!(":{}\r\n", i32::from(self.free(&id, owner))),
                    (_, [owner, _, attempt, _, _, channel, _]) => {
                        let may_queue = attempt == "join";
                        let answer = if self.redis.acquire(&id, owner, may_queue, Some(channel)) {
                            "*2\r\n$4\r\nheld\r\n$1\r\n-\r\n"
                        } else if may_queue {
                            "*4\r\n$6\r\nqueued\r\n:1\r\n:0\r\n:9999\r\n"
                        } else {
                            "*1\r\n$4\r\nbusy\r\n"
                        };
                        format!("*2\r\n$1\r\n7\r\n{answer}")
                    }
                    other => panic!("{other:?}"),
                }
            }
            other => panic!("{other}"),
        };
        self.connections[at].replies.extend_from_slice(reply.as_bytes());
    }

    /// A release at the server, which tells the next if that one listens in the lane.
    pub fn free(&mut self, id: &str, owner: &str) -> bool {
        let (held, next) = self.redis.release(id, owner);
        if let Some((next, channel)) = next {
            self.publish(&channel, &format!("{next} - 7"));
        }
        held
    }

    fn publish(&mut self, channel: &str, text: &str) {
        for connection in self.connections.iter_mut().filter(|all| !all.is_cut) {
            if channel.ends_with(&format!(":{}", connection.line)) {
                let message = format!(">3\r\n{}{}{}", bulk("message"), bulk(channel), bulk(text));
                connection.replies.extend_from_slice(message.as_bytes());
            }
        }
    }

    /// Another process takes the lock or waits for it, or lets go of it.
    pub fn stranger(&mut self, id: u8, comes: bool) {
        let name = id_of(id);
        if comes {
            self.next += 1;
            let owner = format!("{STRANGER}-{}", self.next);
            self.redis.acquire(&name, &owner, true, None);
        } else if let Some(holder) = self.redis.locks.get(&name).and_then(|lock| lock.holder.clone())
            && holder.starts_with(STRANGER)
        {
            self.free(&name, &holder);
        }
    }

    /// Time for processes of 1.1.2: the first is told to come back later.
    pub fn put_off(&mut self, id: u8) {
        let lock = self.redis.locks.get(&id_of(id));
        if let Some((owner, Some(channel))) = lock.and_then(|lock| lock.queue.front()).cloned() {
            self.publish(&channel, &format!("{owner} after 60"));
        }
    }

    /// An error instead, as from a server that does not know the scripts.
    pub fn refuse(&mut self, at: usize) {
        if self.connections[at]
            .requests
            .front()
            .is_some_and(|words| words[0] != "HELLO")
        {
            self.connections[at].requests.pop_front();
            self.connections[at]
                .replies
                .extend_from_slice(b"-NOSCRIPT No matching script.\r\n");
        }
    }
}

/// The words of a command.
pub fn words(command: &[u8]) -> Vec<String> {
    match redis::parse_redis_value(command).unwrap() {
        redis::Value::Array(values) => values
            .iter()
            .map(|word| redis::from_redis_value_ref(word).unwrap())
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// Behind the first command in `bytes`, which is whole.
pub fn end_of(bytes: &[u8]) -> usize {
    let line = |from: usize| from + bytes[from..].windows(2).position(|pair| pair == b"\r\n").unwrap();
    let number = |from: usize| -> usize { std::str::from_utf8(&bytes[from..line(from)]).unwrap().parse().unwrap() };
    let mut at = line(0) + 2;
    for _ in 0..number(1) {
        at = line(at) + 2 + number(at + 1) + 2;
    }
    at
}
