//! Renewals of more than one message can show.

use super::*;

/// Takes these locks and renews them all: each hold is proven anew.
async fn take_and_renew(server: &Server, label: Option<Arc<str>>, count: usize) {
    let a = process(server, "a").await;
    let mut asks = Vec::new();
    for n in 0..count {
        let mode = if n % 3 == 0 { Mode::Shared } else { Mode::Exclusive };
        let mut ask = a.ask(&format!("x{n}"), mode, Attempt::Wait);
        Rc::get_mut(&mut ask).unwrap().label = label.clone();
        a.take(&ask).await;
        asks.push(ask);
    }
    let before: Vec<_> = asks.iter().map(|ask| ask.lease.proven_at()).collect();
    assert_eq!(a.backend.renew(asks.clone()).await.unwrap(), []);
    for (ask, before) in asks.iter().zip(before) {
        assert!(ask.lease.proven_at() > before, "lock {}", ask.id);
    }
    closed_in_time([a]).await;
}

#[test]
fn a_server_that_takes_few_operations_at_a_time_renews_many_holds() {
    run(async {
        let etcd = start_with(&["--max-txn-ops", "16"]);
        take_and_renew(&etcd.server(TTL), None, 70).await;
    });
}

#[test]
fn holds_whose_labels_are_longer_than_one_answer_may_be_are_renewed() {
    run(async {
        let etcd = start();
        take_and_renew(&etcd.server(TTL), Some("x".repeat(120_000).into()), 60).await;
    });
}
