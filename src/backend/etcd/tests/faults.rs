//! What is said when a server is not there, not an etcd, or does not want us. Needs no etcd.

use super::*;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

fn at(port: u16) -> Server {
    Server {
        scheme: Scheme::Etcd,
        addresses: vec![Address {
            host: "127.0.0.1".into(),
            port,
        }],
        credentials: Credentials::default(),
        database: None,
        options: options(TTL),
    }
}

/// A server that answers whatever comes with `reply` and hangs up.
fn impostor(reply: &'static [u8]) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer);
            let _ = stream.write_all(reply);
        }
    });
    port
}

async fn failure(server: &Server) -> Error {
    let (sender, _events) = mpsc::unbounded_channel();
    let context = Context {
        identity: Arc::new(Identity {
            host: "h".into(),
            pid: 7,
            instance: "0".repeat(32),
        }),
        events: sender,
    };
    let begun = Instant::now();
    let error = match connect(server, context).await {
        Ok(_) => panic!("connected"),
        Err(error) => error,
    };
    assert!(begun.elapsed() < LIMIT / 2, "{error:?} after {:?}", begun.elapsed());
    assert!(
        error.message.contains(&server.addresses[0].port.to_string()),
        "{error:?}"
    );
    eprintln!("{error:?}");
    error
}

#[test]
fn nobody_there_is_a_failure_to_connect() {
    run(async {
        assert_eq!(failure(&at(free_port())).await.kind, Kind::Connect);
    });
}

#[test]
fn a_silent_server_is_given_up_in_time() {
    run(async {
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut server = at(silent.local_addr().unwrap().port());
        server.options.connect_timeout = Duration::from_secs(1);
        assert_eq!(failure(&server).await.kind, Kind::Connect);
    });
}

#[test]
fn a_redis_is_not_an_etcd() {
    run(async {
        let port = impostor(b"-ERR unknown command 'PRI'\r\n");
        assert_eq!(failure(&at(port)).await.kind, Kind::Server);
    });
}

#[test]
fn a_web_server_is_not_an_etcd() {
    run(async {
        let port = impostor(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        assert_eq!(failure(&at(port)).await.kind, Kind::Server);
    });
}

#[test]
fn plain_text_where_tls_is_wanted_is_a_failure_of_tls() {
    run(async {
        let mut server = at(impostor(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        server.options.tls = Tls::Insecure;
        assert_eq!(failure(&server).await.kind, Kind::Tls);
    });
}

#[test]
fn a_host_without_an_address_is_a_failure_to_connect() {
    run(async {
        let mut server = at(2379);
        server.addresses[0].host = "nowhere.invalid".into();
        server.options.connect_timeout = Duration::from_secs(1);
        assert_eq!(failure(&server).await.kind, Kind::Connect);
    });
}

#[test]
fn a_node_that_stops_or_hands_over_its_leadership_is_a_passing_failure() {
    for text in ["raft: stopped", "raft proposal dropped", "context canceled"] {
        let status = tonic::Status::unknown(text);
        let fault = fault::sort(&etcd_client::Error::GRpcStatus(status), "127.0.0.1:1");
        assert!(fault.is_transient(), "{text}: {fault:?}");
    }
}
