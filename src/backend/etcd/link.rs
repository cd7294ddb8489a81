//! One connection to whichever address answers, and exchanges over it that end in time.
//!
//! An exchange that fails for want of a good connection is repeated at the next address, and at the same one once, because
//! a connection that was cut meanwhile is noticed only by using it. **Every exchange may therefore reach the server more
//! than once**, also long after it was given up here; whoever composes one takes care that this does no harm.

use super::channel::{Given, authority, lazy};
use super::fault::{self, Fault};
use crate::backend::{Event, Task};
use crate::error::Kind;
use crate::url::Server;
use etcd_client::{Client, ConnectOptions};
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep, timeout};

/// An administrator who changes users and roles makes tokens old several times in a row: so many new ones per exchange,
const NEW_TOKENS: u32 = 5;
/// with this pause before each.
const TOKEN_PAUSE: Duration = Duration::from_millis(20);

/// What an exchange does with a connection.
type Exchange<'a> = dyn Fn(Arc<Connection>) -> Task<'a, Result<(), etcd_client::Error>> + 'a;

/// A connection to one address, with the token that its user has there.
pub struct Connection {
    pub client: Client,
    /// What the client uses, for what it cannot say.
    pub channel: tonic::transport::Channel,
}

pub struct Link {
    server: Server,
    /// How long one exchange may take, all addresses included.
    limit: Duration,
    /// Where to tell that the connection is lost, and that it is back.
    events: Option<mpsc::UnboundedSender<Event>>,
    current: RefCell<Option<Arc<Connection>>>,
    /// One at a time makes a connection: each costs the server the check of a password.
    connecting: Mutex<()>,
    /// Index of the address in use.
    at: Cell<usize>,
    /// Counts connections, so that of several exchanges that fail together only one goes on to the next address.
    epoch: Cell<u64>,
    down: Cell<bool>,
}

impl Link {
    pub fn new(server: &Server, limit: Duration, events: Option<mpsc::UnboundedSender<Event>>) -> Self {
        Self {
            server: server.clone(),
            limit,
            events,
            current: RefCell::new(None),
            connecting: Mutex::new(()),
            at: Cell::new(0),
            epoch: Cell::new(0),
            down: Cell::new(false),
        }
    }

    /// Host and port of the address in use.
    pub fn peer(&self) -> String {
        authority(&self.server.addresses[self.at.get()])
    }

    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Changes with every new connection.
    pub fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// Does one exchange. Bounded by the limit.
    pub async fn call<T>(
        &self,
        exchange: impl AsyncFn(Arc<Connection>) -> Result<T, etcd_client::Error>,
    ) -> Result<T, Fault> {
        let answer = RefCell::new(None);
        let once = |connection| -> Task<'_, Result<(), etcd_client::Error>> {
            let (exchange, answer) = (&exchange, &answer);
            Box::pin(async move {
                *answer.borrow_mut() = Some(exchange(connection).await?);
                Ok(())
            })
        };
        self.repeat(&once).await?;
        // It is there when an exchange succeeded.
        answer.take().ok_or_else(|| fault::silent(&self.peer(), self.limit))
    }

    /// The part of `call` that is the same for all exchanges, and compiled once.
    async fn repeat(&self, exchange: &Exchange<'_>) -> Result<(), Fault> {
        let deadline = Instant::now() + self.limit;
        let addresses = self.server.addresses.len();
        let (mut attempt, mut tokens) = (0, 0);
        let mut worst = None;
        while attempt <= addresses {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let others = addresses.saturating_sub(attempt + 1);
            let share = left / u32::try_from(others + 1).unwrap_or(1);
            let epoch = self.epoch.get();
            let peer = self.peer();
            let fault = match timeout(share, self.once(exchange)).await {
                Ok(Ok(())) => {
                    self.arrived();
                    return Ok(());
                }
                Ok(Err(fault)) => fault,
                Err(_) => fault::silent(&peer, share),
            };
            match &fault {
                Fault::OldToken(_) | Fault::Refused(_) if tokens < self.new_tokens(&fault) => {
                    tokens += 1;
                    sleep(TOKEN_PAUSE).await;
                    self.forget(epoch, 0);
                }
                Fault::Unusable(error) => {
                    attempt += 1;
                    self.drop_connection(epoch);
                    // Whether to wait on is for the address to say that may come back, not for the one with a bad certificate.
                    if worst.is_some() && error.kind == Kind::Tls {
                        continue;
                    }
                }
                _ => return Err(fault),
            }
            worst = Some(fault);
        }
        Err(worst.unwrap_or_else(|| fault::silent(&self.peer(), self.limit)))
    }

    /// How many new tokens are worth a try: the program may have another password by now.
    fn new_tokens(&self, fault: &Fault) -> u32 {
        match fault {
            Fault::OldToken(_) => NEW_TOKENS,
            Fault::Refused(error) if error.kind == Kind::Auth && self.server.credentials.provider.is_some() => 1,
            _ => 0,
        }
    }

    async fn once(&self, exchange: &Exchange<'_>) -> Result<(), Fault> {
        let connection = self.connection().await?;
        exchange(connection)
            .await
            .map_err(|error| fault::sort(&error, &self.peer()))
    }

    /// The connection in use, within the limit.
    pub async fn connection_in_time(&self) -> Result<Arc<Connection>, Fault> {
        let epoch = self.epoch.get();
        match timeout(self.limit, self.connection()).await {
            Ok(result) => result,
            Err(_) => {
                let fault = fault::silent(&self.peer(), self.limit);
                self.drop_connection(epoch);
                Err(fault)
            }
        }
    }

    /// The connection in use. Without a user this needs no exchange.
    async fn connection(&self) -> Result<Arc<Connection>, Fault> {
        if let Some(connection) = &*self.current.borrow() {
            return Ok(connection.clone());
        }
        let _turn = self.connecting.lock().await;
        if let Some(connection) = &*self.current.borrow() {
            return Ok(connection.clone());
        }
        let epoch = self.epoch.get();
        let address = &self.server.addresses[self.at.get()];
        let channel = lazy(address, &self.server.options, epoch).map_err(Fault::Unusable)?;
        let credentials = self.server.credentials.current().await.map_err(Fault::Unusable)?;
        let mut options = ConnectOptions::new().with_require_leader(true);
        if let Some(user) = &credentials.user {
            let password = credentials.password.as_ref().map_or("", |password| password.reveal());
            options = options.with_user(user, password).with_auto_token_refresh(true);
        }
        // etcd-client announces the address to the balancer that we do not use; it must find somebody listening.
        let (updates, _listening) = mpsc::channel(1);
        let given = Given {
            channel: channel.clone(),
            updates,
        };
        let addresses = [format!("http://{}", authority(address))];
        let client = Client::connect_with_balanced_channel(addresses, Some(options), given)
            .await
            .map_err(|error| fault::sort(&error, &self.peer()))?;
        // It has a dozen parts, and each exchange would have a copy of all.
        let connection = Arc::new(Connection { client, channel });
        if self.epoch.get() == epoch {
            *self.current.borrow_mut() = Some(connection.clone());
        }
        Ok(connection)
    }

    /// Forgets the connection `epoch` and turns to the next address.
    pub fn drop_connection(&self, epoch: u64) {
        self.forget(epoch, 1);
        if !self.down.replace(true) {
            self.tell(Event::Disconnected);
        }
    }

    /// Forgets the connection `epoch`, with its token; the next one goes so many addresses further.
    fn forget(&self, epoch: u64, further: usize) {
        if self.epoch.get() == epoch {
            self.epoch.set(epoch + 1);
            self.at.set((self.at.get() + further) % self.server.addresses.len());
            *self.current.borrow_mut() = None;
        }
    }

    fn arrived(&self) {
        if self.down.replace(false) {
            self.tell(Event::Reconnected);
        }
    }

    fn tell(&self, event: Event) {
        if let Some(events) = &self.events {
            // Nobody listens any more once the runtime is gone.
            let _ = events.send(event);
        }
    }
}
