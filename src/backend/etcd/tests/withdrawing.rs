//! Asks that are withdrawn while their first message is on its way.

use super::*;
use etcd_client::GetOptions;

#[test]
fn asks_withdrawn_at_any_moment_leave_nothing_while_the_process_goes_on() {
    const ASKS: u64 = 400;
    run(async {
        let etcd = start();
        let a = process(&etcd.server(TTL), "a").await;
        let holder = a.ask("held", Mode::Exclusive, Attempt::Wait);
        a.take(&holder).await;
        let mut withdrawn = 0;
        for n in 0..ASKS {
            let id = if n % 2 == 0 { "held" } else { "free" };
            let mode = if n % 3 == 0 { Mode::Shared } else { Mode::Exclusive };
            let attempt = if n % 5 == 0 { Attempt::Try } else { Attempt::Wait };
            let ask = a.ask(id, mode, attempt);
            // From before the first message is sent to after its answer, whatever this machine needs for that.
            let patience = Duration::from_micros(20 * (n % 200));
            withdrawn += u32::from(timeout(patience, a.backend.acquire(ask.clone())).await.is_err());
            a.backend.release(ask).await.unwrap();
        }
        assert!(withdrawn > 0);
        let mut raw = Client::connect([format!("127.0.0.1:{}", etcd.port)], None)
            .await
            .unwrap();
        let all = raw
            .get("IPC-Mutex-RPM-", Some(GetOptions::new().with_prefix()))
            .await
            .unwrap();
        let names: Vec<_> = all.kvs().iter().map(|pair| pair.key_str().unwrap()).collect();
        assert_eq!(names, ["IPC-Mutex-RPM-held-lock"]);
        closed_in_time([a]).await;
    });
}
