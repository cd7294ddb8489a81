//! All the watches of a process on one stream.
//!
//! A watch begins with the moment at which the server sets it up and says at which revision that was: a caller whose last read
//! is older reads again, and then has missed nothing. (A watch could also ask for everything since a revision. But etcd
//! serves watches that begin in the past, be it by one revision of another key, only every 100 ms.) A watch that breaks,
//! because the connection was cut or the token expired, says so, and the caller reads again.

use super::fault::{self, Fault};
use super::link::{Connection, Link};
use etcd_client::{EventType, WatchOptions, WatchResponse};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// What happened to a watched key.
#[derive(Debug)]
pub struct Change {
    pub key: Vec<u8>,
    /// `None` if the key was deleted.
    pub value: Option<Vec<u8>>,
    pub revision: i64,
    pub created: i64,
    pub lease: i64,
}

/// One watch; dropping it ends it on the server too.
pub struct Watcher {
    /// Everything later than this revision is told.
    pub since: i64,
    id: i64,
    notices: UnboundedReceiver<Notice>,
    commands: UnboundedSender<Command>,
}

impl Watcher {
    /// The next change, in order; `None` when the watch broke.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            if let Notice::Change(change) = self.notices.recv().await? {
                return Some(change);
            }
        }
    }
}

impl Watcher {
    pub fn is_broken(&self) -> bool {
        self.notices.is_closed()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // A stream that is gone has no watches.
        let _ = self.commands.send(Command::Cancel(self.id));
    }
}

#[derive(Debug)]
enum Notice {
    Began(i64),
    Change(Change),
}

enum Command {
    Watch(Request),
    Cancel(i64),
}

struct Request {
    id: i64,
    key: String,
    whole_prefix: bool,
    notices: UnboundedSender<Notice>,
}

impl Request {
    fn options(&self) -> WatchOptions {
        let options = WatchOptions::new().with_watch_id(self.id);
        if self.whole_prefix {
            options.with_prefix()
        } else {
            options
        }
    }
}

struct Stream {
    /// The connection that it runs over.
    epoch: u64,
    commands: UnboundedSender<Command>,
    /// Dropped with the rest, which ends the stream and breaks its watches.
    _stop: oneshot::Sender<()>,
}

/// Opens the stream when there is something to watch, and again after it broke.
#[derive(Default)]
pub struct Hub {
    stream: RefCell<Option<Stream>>,
    last_id: Cell<i64>,
}

impl Hub {
    /// Watches `key` (or all keys that begin so) from now on. Bounded by the link's limit.
    pub async fn watch(&self, link: &Link, key: &str, whole_prefix: bool) -> Result<Watcher, Fault> {
        let epoch = link.epoch();
        let mut broke = false;
        loop {
            match timeout(link.limit(), self.begin(link, key, whole_prefix)).await {
                Ok(Ok(Some(watcher))) => return Ok(watcher),
                // A stream may have ended unnoticed since the last watch, but not a second time so soon.
                Ok(Ok(None)) if !broke => broke = true,
                Ok(Ok(None)) => return Err(fault::unreachable(&link.peer(), "the stream of watches ended")),
                Ok(Err(fault)) => return Err(fault),
                Err(_) => {
                    let error = fault::silent(&link.peer(), link.limit());
                    link.drop_connection(epoch);
                    self.follow(link.epoch());
                    return Err(error);
                }
            }
        }
    }

    /// `None` if the stream broke before the watch began.
    async fn begin(&self, link: &Link, key: &str, whole_prefix: bool) -> Result<Option<Watcher>, Fault> {
        let open = self
            .stream
            .borrow()
            .as_ref()
            .filter(|stream| stream.epoch == link.epoch() && !stream.commands.is_closed())
            .map(|stream| stream.commands.clone());
        let commands = match open {
            Some(commands) => commands,
            None => {
                let to = link.connection_in_time().await?;
                self.open(to, link.epoch())
            }
        };
        let id = self.last_id.get() + 1;
        self.last_id.set(id);
        let (sender, notices) = unbounded_channel();
        // If the stream breaks just now, the sender is dropped with it and the watch is seen as broken.
        let _ = commands.send(Command::Watch(Request {
            id,
            key: key.to_owned(),
            whole_prefix,
            notices: sender,
        }));
        let mut watcher = Watcher {
            since: 0,
            id,
            notices,
            commands,
        };
        match watcher.notices.recv().await {
            Some(Notice::Began(revision)) => {
                watcher.since = revision;
                Ok(Some(watcher))
            }
            Some(Notice::Change(_)) | None => Ok(None),
        }
    }

    /// The stream over connection `epoch`. An older one ends here, and its watches break.
    fn open(&self, to: Arc<Connection>, epoch: u64) -> UnboundedSender<Command> {
        let mut current = self.stream.borrow_mut();
        if let Some(stream) = &*current
            && stream.epoch == epoch
            && !stream.commands.is_closed()
        {
            // Somebody else was quicker.
            return stream.commands.clone();
        }
        let (commands, receiver) = unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(async move {
            tokio::select! {
                () = serve(to, receiver) => {}
                _ = stopped => {}
            }
        });
        *current = Some(Stream {
            epoch,
            commands: commands.clone(),
            _stop: stop,
        });
        commands
    }

    /// Breaks the watches that run over another connection than `epoch`, which was given up.
    pub fn follow(&self, epoch: u64) {
        let mut stream = self.stream.borrow_mut();
        if stream.as_ref().is_some_and(|stream| stream.epoch != epoch) {
            stream.take();
        }
    }

    pub fn close(&self) {
        self.stream.borrow_mut().take();
    }
}

/// Runs one stream until it breaks or nobody can ask for a watch any more.
async fn serve(to: Arc<Connection>, mut commands: UnboundedReceiver<Command>) {
    let mut watchers: HashMap<i64, UnboundedSender<Notice>> = HashMap::new();
    let first = loop {
        match commands.recv().await {
            None => return,
            Some(Command::Cancel(_)) => {}
            Some(Command::Watch(request)) => break request,
        }
    };
    let options = first.options();
    watchers.insert(first.id, first.notices);
    let Ok(stream) = to.client.watch_client().watch(first.key, Some(options)).await else {
        return;
    };
    let (mut requests, mut responses) = stream.split();
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                None => return,
                Some(Command::Cancel(id)) => {
                    if watchers.remove(&id).is_some() && requests.cancel(id).await.is_err() {
                        return;
                    }
                }
                Some(Command::Watch(request)) => {
                    let options = request.options();
                    watchers.insert(request.id, request.notices);
                    if requests.watch(request.key, Some(options)).await.is_err() {
                        return;
                    }
                }
            },
            response = responses.message() => match response {
                Ok(Some(response)) => {
                    if !deliver(&mut watchers, &response) {
                        return;
                    }
                }
                Ok(None) | Err(_) => return,
            },
        }
    }
}

/// Whether the stream is still good.
fn deliver(watchers: &mut HashMap<i64, UnboundedSender<Notice>>, response: &WatchResponse) -> bool {
    let id = response.watch_id();
    if response.canceled() {
        watchers.remove(&id);
        // A token that expired is refused with words; only a new stream carries a new token.
        return response.compact_revision() != 0 || response.cancel_reason().is_empty();
    }
    let Some(watcher) = watchers.get(&id) else {
        return true;
    };
    if response.created() {
        let revision = response.header().map_or(0, etcd_client::ResponseHeader::revision);
        // As below.
        let _ = watcher.send(Notice::Began(revision));
    }
    for event in response.events() {
        let Some(pair) = event.kv() else { continue };
        let Some(kind) = fault::sensible(|| event.event_type()) else {
            return false;
        };
        let value = match kind {
            EventType::Put => Some(pair.value().to_vec()),
            EventType::Delete => None,
        };
        // The watcher may have been dropped a moment ago; its cancel is on its way.
        let _ = watcher.send(Notice::Change(Change {
            key: pair.key().to_vec(),
            value,
            revision: pair.mod_revision(),
            created: pair.create_revision(),
            lease: pair.lease(),
        }));
    }
    true
}
