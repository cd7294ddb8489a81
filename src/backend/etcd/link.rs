//! One connection to whichever address answers, and exchanges over it that end in time.
//!
//! An exchange that fails for want of a connection is repeated at the next address, and at the same one once, because
//! a connection that was cut meanwhile is noticed only by using it. **Every exchange may therefore reach the server more
//! than once**, also long after it was given up here; whoever composes one takes care that this does no harm.

use super::channel::{Given, authority, lazy};
use super::fault::{self, Fault};
use crate::backend::{Event, Task};
use crate::url::Server;
use etcd_client::{Client, ConnectOptions};
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout};

/// What an exchange does with a client.
type Exchange<'a> = dyn Fn(Arc<Client>) -> Task<'a, Result<(), etcd_client::Error>> + 'a;

pub struct Link {
    server: Server,
    /// How long one exchange may take, all addresses included.
    limit: Duration,
    /// Where to tell that a lost connection is back.
    events: Option<mpsc::UnboundedSender<Event>>,
    current: RefCell<Option<Arc<Client>>>,
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

    /// Does one exchange. Bounded by the limit; a failure to connect is `Kind::Connect`.
    pub async fn call<T>(
        &self,
        exchange: impl AsyncFn(Arc<Client>) -> Result<T, etcd_client::Error>,
    ) -> Result<T, Fault> {
        let answer = RefCell::new(None);
        let once = |client| -> Task<'_, Result<(), etcd_client::Error>> {
            let (exchange, answer) = (&exchange, &answer);
            Box::pin(async move {
                *answer.borrow_mut() = Some(exchange(client).await?);
                Ok(())
            })
        };
        self.repeat(&once).await?;
        // It is there when an exchange succeeded.
        answer
            .take()
            .ok_or_else(|| Fault::Failed(fault::silent(&self.peer(), self.limit)))
    }

    /// The part of `call` that is the same for all exchanges, and compiled once.
    async fn repeat(&self, exchange: &Exchange<'_>) -> Result<(), Fault> {
        let deadline = Instant::now() + self.limit;
        let addresses = self.server.addresses.len();
        let mut last = None;
        for attempt in 0..=addresses {
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
                Err(_) => Fault::Failed(fault::silent(&peer, share)),
            };
            if !fault.is_transient() {
                return Err(fault);
            }
            self.drop_connection(epoch);
            last = Some(fault);
        }
        Err(last.unwrap_or_else(|| Fault::Failed(fault::silent(&self.peer(), self.limit))))
    }

    async fn once(&self, exchange: &Exchange<'_>) -> Result<(), Fault> {
        let client = self.client().await?;
        exchange(client)
            .await
            .map_err(|error| fault::sort(&error, &self.peer()))
    }

    /// The client of the address in use, within the limit.
    pub async fn client_in_time(&self) -> Result<Arc<Client>, Fault> {
        let epoch = self.epoch.get();
        match timeout(self.limit, self.client()).await {
            Ok(result) => result,
            Err(_) => {
                let error = fault::silent(&self.peer(), self.limit);
                self.drop_connection(epoch);
                Err(Fault::Failed(error))
            }
        }
    }

    /// The client of the address in use. Without a user this needs no exchange.
    async fn client(&self) -> Result<Arc<Client>, Fault> {
        if let Some(client) = &*self.current.borrow() {
            return Ok(client.clone());
        }
        let _turn = self.connecting.lock().await;
        if let Some(client) = &*self.current.borrow() {
            return Ok(client.clone());
        }
        let epoch = self.epoch.get();
        let address = &self.server.addresses[self.at.get()];
        let channel = lazy(address, &self.server.options).map_err(Fault::Failed)?;
        let credentials = &self.server.credentials;
        let mut options = ConnectOptions::new().with_require_leader(true);
        if let Some(user) = &credentials.user {
            let password = credentials.password.as_ref().map_or("", |password| password.reveal());
            options = options.with_user(user, password).with_auto_token_refresh(true);
        }
        // etcd-client announces the address to the balancer that we do not use; it must find somebody listening.
        let (updates, _listening) = mpsc::channel(1);
        let client = Client::connect_with_balanced_channel(
            [format!("http://{}", authority(address))],
            Some(options),
            Given { channel, updates },
        )
        .await
        .map_err(|error| fault::sort(&error, &self.peer()))?;
        // It has a dozen parts, and each exchange would have a copy of all.
        let client = Arc::new(client);
        if self.epoch.get() == epoch {
            *self.current.borrow_mut() = Some(client.clone());
        }
        Ok(client)
    }

    /// Forgets the connection `epoch` and turns to the next address.
    pub fn drop_connection(&self, epoch: u64) {
        if self.epoch.get() == epoch {
            self.epoch.set(epoch + 1);
            self.at.set((self.at.get() + 1) % self.server.addresses.len());
            *self.current.borrow_mut() = None;
        }
        if !self.down.replace(true)
            && let Some(events) = &self.events
        {
            // As below.
            let _ = events.send(Event::Disconnected);
        }
    }

    fn arrived(&self) {
        if self.down.replace(false)
            && let Some(events) = &self.events
        {
            // Nobody listens any more once the runtime is gone.
            let _ = events.send(Event::Reconnected);
        }
    }
}
