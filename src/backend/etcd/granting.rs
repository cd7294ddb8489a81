//! Leases that this process asks for: whoever does keeps one for something, or it ends. Exchanges about them are not cut off
//! when the ask that they serve is withdrawn: a lease that nobody knows any more would stay for all its time.

use super::fault::Fault;
use super::lease::{grant_as, random_number, revoke};
use super::store::Etcd;
use crate::clock;
use crate::core::time::Moment;
use std::rc::{Rc, Weak};
use std::time::Duration;
use tokio::sync::oneshot;

/// A lease that ends with this value unless it is kept.
pub struct NewLease {
    etcd: Weak<Etcd>,
    pub number: i64,
    /// Before the server was asked for it.
    pub sent: Moment,
}

impl NewLease {
    /// It is needed from now on, and somebody else ends it.
    pub fn keep(mut self) -> i64 {
        self.etcd = Weak::new();
        self.number
    }
}

impl Drop for NewLease {
    fn drop(&mut self) {
        if let Some(etcd) = self.etcd.upgrade() {
            etcd.revoke_soon(self.number);
        }
    }
}

impl Etcd {
    pub async fn new_lease(&self, ttl: Duration) -> Result<NewLease, Fault> {
        let lease = NewLease {
            etcd: self.me.clone(),
            number: random_number()?,
            sent: clock::now(),
        };
        let (tell, told) = oneshot::channel();
        self.errand(async move |etcd| {
            // Of a grant that failed nobody knows whether it arrived: that lease ends too. So does one that nobody waits for any more.
            let result = grant_as(&etcd.link, lease.number, ttl).await.map(|()| lease);
            let _ = tell.send(result);
        });
        told.await.map_err(|_| self.closed())?
    }

    /// Ends a lease that no key needs any more, without making anybody wait.
    pub fn revoke_soon(&self, lease: i64) {
        self.errand(async move |etcd| {
            // If it fails, the lease ends by itself.
            let _ = revoke(&etcd.link, lease).await;
        });
    }

    /// Work that goes on when whoever began it is gone.
    pub fn errand(&self, work: impl AsyncFnOnce(Rc<Etcd>) + 'static) {
        if let Some(etcd) = self.me.upgrade() {
            self.errands.run(work(etcd));
        }
    }
}
