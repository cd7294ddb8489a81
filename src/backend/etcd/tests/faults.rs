//! What is said when a server is not there, not an etcd, or does not want us. Needs no etcd.

use super::fault::Fault;
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
fn stranger(reply: &'static [u8]) -> u16 {
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
        let port = stranger(b"-ERR unknown command 'PRI'\r\n");
        assert_eq!(failure(&at(port)).await.kind, Kind::Server);
    });
}

#[test]
fn a_web_server_is_not_an_etcd() {
    run(async {
        let port = stranger(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        assert_eq!(failure(&at(port)).await.kind, Kind::Server);
    });
}

#[test]
fn plain_text_where_tls_is_wanted_is_a_failure_of_tls() {
    run(async {
        let mut server = at(stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
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
fn an_address_that_swallows_everything_does_not_keep_from_the_next_one() {
    run(async {
        // A full backlog: further requests to connect get no answer.
        let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        full.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
            .unwrap();
        full.listen(0).unwrap();
        let swallows = full.local_addr().unwrap().as_socket().unwrap();
        let _crowd: Vec<_> = (0..8)
            .map(|_| {
                let one = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
                one.set_nonblocking(true).unwrap();
                let _ = one.connect(&swallows.into());
                one
            })
            .collect();
        let good = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap();
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let good_too = listener.local_addr().unwrap();
        // The first swallows, the second refuses, the third answers.
        let reached = timeout(LIMIT, channel::race(vec![swallows, good, good_too])).await;
        assert_eq!(reached.unwrap().unwrap().peer_addr().unwrap(), good_too);
        assert!(channel::race(vec![]).await.is_err());
    });
}

fn fault_of(status: tonic::Status) -> Fault {
    fault::sort(&etcd_client::Error::GRpcStatus(status), "127.0.0.1:1")
}

#[test]
fn a_page_of_a_balancer_is_not_the_servers_word() {
    for (code, status) in [
        (tonic::Code::Unavailable, 503),
        (tonic::Code::Unavailable, 502),
        (tonic::Code::PermissionDenied, 403),
        (tonic::Code::Unauthenticated, 401),
        (tonic::Code::Internal, 400),
    ] {
        let text = format!("grpc-status header missing, mapped from HTTP status code {status}");
        let fault = fault_of(tonic::Status::new(code, text));
        let refusal = match fault {
            Fault::Unusable(_) => Refusal::from(fault),
            other => panic!("{status}: {other:?}"),
        };
        assert!(matches!(refusal, Refusal::Away(_)), "{refusal:?}");
    }
}

#[test]
fn a_token_that_is_too_old_is_no_reason_to_give_up() {
    for status in [
        tonic::Status::invalid_argument("etcdserver: revision of auth store is old"),
        tonic::Status::unknown("auth: revision in header is old; etcdserver: revision of auth store is old"),
        tonic::Status::unauthenticated("etcdserver: invalid auth token"),
    ] {
        let fault = fault_of(status);
        assert!(matches!(fault, Fault::OldToken(_)), "{fault:?}");
        assert!(matches!(Refusal::from(fault), Refusal::Away(_)));
    }
}

#[test]
fn the_servers_own_refusals_are_final() {
    for status in [
        tonic::Status::permission_denied("etcdserver: permission denied"),
        tonic::Status::resource_exhausted("etcdserver: mvcc: database space exceeded"),
        tonic::Status::invalid_argument("etcdserver: authentication failed, invalid user ID or password"),
    ] {
        let refusal = Refusal::from(fault_of(status));
        assert!(matches!(refusal, Refusal::Failed(_)), "{refusal:?}");
    }
}

#[test]
fn a_node_that_stops_or_hands_over_its_leadership_is_a_passing_failure() {
    for text in ["raft: stopped", "raft proposal dropped", "context canceled"] {
        let fault = fault_of(tonic::Status::unknown(text));
        assert!(matches!(fault, Fault::Unusable(_)), "{text}: {fault:?}");
    }
}
