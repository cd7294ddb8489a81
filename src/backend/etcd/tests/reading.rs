//! Transactions that only read.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How many transactions the server saw end, by the code of their end.
async fn ended(port: u16) -> Vec<(String, u64)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text.lines()
        .filter(|line| line.starts_with("grpc_server_handled_total{") && line.contains("grpc_method=\"Txn\""))
        .map(|line| {
            let code = line.split("grpc_code=\"").nth(1).unwrap().split('"').next().unwrap();
            let count = line.rsplit(' ').next().unwrap().parse().unwrap();
            (code.to_owned(), count)
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

#[test]
fn a_read_that_nobody_waits_for_any_more_is_not_cancelled_at_the_server() {
    const READS: u64 = 300;
    run(async {
        let etcd = start();
        let a = process(&etcd.server(TTL), "a").await;
        let before: u64 = ended(etcd.port).await.iter().map(|(_, count)| count).sum();
        for n in 0..READS {
            let patience = Duration::from_micros(100 + 10 * (n % 100));
            let _ = timeout(patience, a.backend.query("foo".into())).await;
        }
        a.backend.query("foo".into()).await.unwrap();
        let deadline = Instant::now() + LIMIT;
        loop {
            let ends = ended(etcd.port).await;
            assert_eq!(ends.len(), 1, "{ends:?}");
            assert_eq!(ends[0].0, "OK");
            if ends[0].1 > before + READS / 2 {
                break;
            }
            assert!(Instant::now() < deadline, "only {ends:?}");
            sleep(Duration::from_millis(20)).await;
        }
    });
}
