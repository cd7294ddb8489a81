//! Who holds and who waits.

use super::keys::Keys;
use super::note::{self, SHARED};
use super::{Etcd, pair, pairs};
use crate::backend::{Info, Snapshot};
use crate::error::Result;
use etcd_client::{KeyValue, Txn, TxnOp};

impl Etcd {
    /// One read of all keys of the lock. A holder or waiter that is 1.1.2 shows as an exclusive holder of whom nothing is
    /// known, or not at all.
    pub(super) async fn look(&self, id: &str) -> Result<Snapshot> {
        let keys = Keys::new(id);
        let txn = Txn::new().and_then([TxnOp::get(&*keys.main, None), keys.all_readers(), keys.all_waiters()]);
        let response = self.read(txn).await?;
        let answers = response.op_responses();
        let held = match pair(&answers, 0) {
            None => Vec::new(),
            Some(main) if main.value() == SHARED => pairs(&answers, 1).iter().map(reader).collect(),
            Some(main) => vec![note::info(main.value(), Some(main.mod_revision().unsigned_abs()))],
        };
        let pending = pairs(&answers, 2)
            .iter()
            .map(|waiter| note::info(waiter.value(), None))
            .collect();
        Ok(Snapshot { held, pending })
    }
}

fn reader(pair: &KeyValue) -> Info {
    note::info(pair.value(), Some(pair.create_revision().unsigned_abs()))
}
